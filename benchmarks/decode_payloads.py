"""Decode of protobuf and JSON payloads side by side with upb and json.loads.

    python benchmarks/decode_payloads.py [--write] [--repeats 7]

From bytes to values: drivelake gives Arrow columns, json.loads a dictionary for every message, upb
a message of which every field is read, since it makes values only when it is asked for them. For
comparison also upb's parse alone, which gives no values yet.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import Case, arguments, publish, table  # noqa: E402
from recordings import JSON_SCHEMA, json_texts, protobuf_file, protobuf_payloads  # noqa: E402

COUNT = 50_000


def main() -> None:
    """Measure every encoding."""
    options = arguments(__doc__ or "").parse_args()
    cases = [*protobuf_cases(), *json_cases()]
    publish("decode_payloads", table(cases, repeats=options.repeats), write=options.write)


def protobuf_cases() -> Iterator[Case]:
    """A flat and a nested type."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    file = protobuf_file()
    pool.Add(file)
    data = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    for name, count in (("bench.State", COUNT), ("bench.Objects", COUNT // 5)):
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        payloads = protobuf_payloads(kind, count)
        ours = decoder_of("protobuf", name, data, payloads, encoding="protobuf")
        size = sum(map(len, payloads))
        read = reader_of(kind.DESCRIPTOR)
        yield Case(f"{name}, upb", size, ours, upb(kind, payloads, read), goal=10)
        yield Case(f"{name}, upb parse alone", size, ours, upb(kind, payloads, None))


def json_cases() -> Iterator[Case]:
    """With a JSON Schema, and as plain text."""
    texts = json_texts(COUNT)
    size = sum(map(len, texts))

    def loads() -> int:
        return len([json.loads(text) for text in texts])

    schema = json.dumps(JSON_SCHEMA).encode()
    ours = decoder_of("json", "State", schema, texts, encoding="jsonschema")
    yield Case("JSON with schema, json.loads", size, ours, loads, goal=5)
    ours = decoder_of("json", "", b"", texts, encoding="")
    yield Case("JSON without schema, json.loads", size, ours, loads)


def decoder_of(
    message_encoding: str, name: str, definition: bytes, payloads: list[bytes], *, encoding: str
) -> Callable[[], int]:
    """What decodes the payloads with drivelake and counts the rows."""
    from contracts.recording import MessageBatch, Schema
    from udfs.encodings.registry import decoder_for
    from udfs.memory.arena import PADDING_BYTES

    schema = Schema(1, name, encoding, definition, "0" * 64)
    decoder = decoder_for(message_encoding, schema)
    assert decoder is not None
    lengths = np.array([len(one) for one in payloads], np.int64)
    starts = np.cumsum(lengths) - lengths
    order = np.arange(len(payloads), dtype=np.int64)
    arena = np.frombuffer(b"".join(payloads) + bytes(PADDING_BYTES), np.uint8)
    batch = MessageBatch(1, arena, starts, lengths, order, order, order, order, starts)
    return lambda: decoder.decode(batch).rows.num_rows


def upb(
    kind: Any, payloads: list[bytes], read: Callable[[Any], object] | None
) -> Callable[[], int]:
    """What parses the payloads with upb and, if told so, reads every field."""
    parse = kind.FromString

    def run() -> int:
        if read is None:
            return sum(1 for data in payloads if parse(data) is not None)
        return sum(1 for data in payloads if read(parse(data)) is not None)

    return run


def reader_of(kind: Any) -> Callable[[Any], object]:
    """What reads every field of a parsed message to plain values."""
    parts: list[tuple[str, Callable[[Any], object] | None]] = []
    for field in kind.fields:
        inner = reader_of(field.message_type) if field.message_type else None
        if field.is_repeated:
            parts.append((field.name, _list_of(inner)))
        else:
            parts.append((field.name, inner))

    def read(message: Any) -> object:
        return [
            getattr(message, name) if inner is None else inner(getattr(message, name))
            for name, inner in parts
        ]

    return read


def _list_of(inner: Callable[[Any], object] | None) -> Callable[[Any], object]:
    return list if inner is None else lambda values: [inner(one) for one in values]


if __name__ == "__main__":
    main()
