"""Which decoder serves which message encoding."""

from __future__ import annotations

from contracts.recording import Schema
from udfs.encodings.flatbuffers import flatbuffer_decoder
from udfs.encodings.json_text import json_decoder
from udfs.encodings.payload import PayloadDecoder
from udfs.encodings.protobuf import protobuf_decoder
from udfs.encodings.ros import ros_decoder

_ROS_PAIRS = {
    ("cdr", "ros2msg"),
    ("cdr", "ros2idl"),
    ("cdr", "omgidl"),
    ("ros1", "ros1msg"),
}


def decoder_for(
    message_encoding: str, schema: Schema | None, *, pointer_fields: frozenset[str] = frozenset()
) -> PayloadDecoder | None:
    """Decoder of a channel's payloads, from its own definition; None if no encoding serves it.

    Args:
        message_encoding: As the channel states it: cdr, ros1, protobuf, json, flatbuffer.
        schema: The channel's definition; None for a channel without one, which JSON can do with.
        pointer_fields: Byte fields of the root that give offset and length instead of bytes.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION, the encoding is served, the definition
            is not usable.
    """
    if message_encoding == "json":
        return json_decoder(schema)
    if schema is None:
        return None
    if (message_encoding, schema.encoding) in _ROS_PAIRS:
        return ros_decoder(schema, pointer_fields=pointer_fields)
    if message_encoding == schema.encoding == "protobuf":
        return protobuf_decoder(schema)
    if message_encoding == schema.encoding == "flatbuffer":
        return flatbuffer_decoder(schema)
    return None
