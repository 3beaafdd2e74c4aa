"""ROS messages, CDR and ROS 1 serialisation, decoded from their own definitions.

Source: DDS-RTPS 2.5 §10 and DDS-XTypes 1.3 §7.6.3.1.2 (encapsulation), http://wiki.ros.org/msg
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import attrs
import numpy as np
import pyarrow as pa

from contracts.errors import UnsupportedFormatError
from contracts.recording import Int64Array, MessageBatch, Schema
from udfs.encodings.columns import windows
from udfs.encodings.idl import parse_idl
from udfs.encodings.layout import Program, column_type, compile_program
from udfs.encodings.payload import BadPayload, Decoded
from udfs.encodings.ros_definition import Many, Number, Struct, parse_definition
from udfs.encodings.walk import OTHER_HEADER, walk

IDL_ENCODINGS = ("ros2idl", "omgidl")
HEADER_BYTES = 4
MAX_PADDING = 3
_CDR_ORDERS = {0x0000: ">", 0x0001: "<"}
_CDR2_ORDERS = {0x0006: ">", 0x0007: "<"}
_DELIMITED_ORDERS = {0x0008: ">", 0x0009: "<"}
_SECOND_ORDERS = _CDR2_ORDERS | _DELIMITED_ORDERS
_ORDERS = _CDR_ORDERS | _SECOND_ORDERS
_COMMON_HEADER = 0x0001


@attrs.frozen(eq=False)
class RosDecoder:
    """Decodes one message type.

    Attributes:
        definition: The type.
        program: How it is read.
        schema: The columns; of a pointer field `f`, `f_offset` from the start of the payload and
            `f_length`.
        ros1: ROS 1 serialisation instead of CDR.
        pointers: Fields that are left in the recording.
        wider: How it is read if wide characters take four bytes, as Fast CDR 1 has them, and not
            two; None where there are none.
    """

    definition: Struct
    program: Program
    schema: pa.Schema
    ros1: bool
    wider: Program | None = None
    pointers: frozenset[str] = frozenset()

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode every message; a bad one has the class of its first fault.

        SHORT_PAYLOAD, BAD_LENGTH, BAD_UTF8, BAD_UTF16, TRAILING_BYTES or UNSUPPORTED_CDR.
        """
        if self.ros1:
            return self._in_order([self._walk(self.program, batch, None)])
        guess = _header_of_first(batch)
        part = self._cdr(batch, None, guess)
        others = [one.message for one in part.bad if one.error_class == OTHER_HEADER]
        parts = [attrs.evolve(part, bad=[b for b in part.bad if b.error_class != OTHER_HEADER])]
        for header, rows in _by_header(batch, np.array(others, np.int64)):
            if header in _ORDERS and not (header in _SECOND_ORDERS and self.wider):
                parts.append(self._cdr(batch, rows, header))
            else:
                what = f"CDR representation {header:#06x}"
                bad = [BadPayload(row, "UNSUPPORTED_CDR", what) for row in rows.tolist()]
                parts.append(_Part(None, rows[:0], bad))
        return self._in_order(parts)

    def _cdr(self, batch: MessageBatch, rows: Int64Array | None, header: int) -> _Part:
        """Read what has this representation; wide characters have the width that fits to the end.

        The lengths in bytes of XCDR2 are checked by where a message ends.
        """
        if header in _SECOND_ORDERS:
            is_delimited = header in _DELIMITED_ORDERS
            program = _second_program(self.definition, self.pointers, is_delimited=is_delimited)
            return self._walk(program, batch, rows, header=header, padding=MAX_PADDING)
        if self.wider is None:
            return self._walk(self.program, batch, rows, header=header)
        parts = []
        for padding in (0, MAX_PADDING):
            for program in (self.program, self.wider):
                part = self._walk(program, batch, rows, header=header, padding=padding)
                parts.append(attrs.evolve(part, bad=[]))
                rows = np.array([one.message for one in part.bad], np.int64)
        return _joined([*parts, attrs.evolve(part, rows=None, index=part.index[:0])])

    def _walk(
        self,
        program: Program,
        batch: MessageBatch,
        rows: Int64Array | None,
        *,
        header: int | None = None,
        padding: int | None = None,
    ) -> _Part:
        found = walk(
            program,
            batch.arena,
            batch.starts,
            batch.lengths,
            rows=rows,
            order="<" if header is None else _ORDERS[header],
            header=header,
            text_end=0 if self.ros1 else 1,
            padding=padding,
        )
        own = None if found.rows is None else self._batch(found.rows)
        return _Part(own, found.index, [BadPayload(*one) for one in found.bad])

    def _batch(self, columns: pa.StructArray) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(columns.flatten(), schema=self.schema)

    def _in_order(self, parts: list[_Part]) -> Decoded:
        """One outcome, its rows in the order of the batch."""
        part = _joined(parts)
        rows = part.rows
        if rows is None:
            rows = pa.RecordBatch.from_pylist([], schema=self.schema)
        index = part.index
        if len(index) > 1 and bool((index[1:] < index[:-1]).any()):
            order = np.argsort(index, kind="stable")
            rows, index = rows.take(pa.array(order)), index[order]
        return Decoded(rows, index, tuple(sorted(part.bad)))


@attrs.frozen(eq=False)
class _Part:
    """Outcome of some messages of a batch."""

    rows: pa.RecordBatch | None
    index: Int64Array
    bad: list[BadPayload]


def _joined(parts: list[_Part]) -> _Part:
    batches = [part.rows for part in parts if part.rows is not None]
    bad = [one for part in parts for one in part.bad]
    index = np.concatenate([part.index for part in parts])
    if len(batches) < 2:
        return _Part(batches[0] if batches else None, index, bad)
    return _Part(pa.concat_batches(batches), index, bad)


def _header_of_first(batch: MessageBatch) -> int:
    """The representation of the first message, or the most common one if it can't be read."""
    if not len(batch.starts) or batch.lengths[0] < HEADER_BYTES:
        return _COMMON_HEADER
    start = int(batch.starts[0])
    header = int.from_bytes(batch.arena[start : start + 2].tobytes(), "big")
    return header if header in _CDR_ORDERS else _COMMON_HEADER


def _by_header(batch: MessageBatch, rows: Int64Array) -> Iterator[tuple[int, Int64Array]]:
    """Each representation that occurs in the rows, all of which have one, with its rows."""
    if len(rows):
        headers = windows(batch.arena, ">u2")[batch.starts[rows]]
        for header in np.unique(headers).tolist():
            yield header, rows[headers == header]


@functools.lru_cache(maxsize=256)
def ros_decoder(schema: Schema, *, pointer_fields: frozenset[str] = frozenset()) -> RosDecoder:
    """Decoder of a ROS message definition, kept: a fleet has few of them in many recordings.

    Args:
        schema: Of encoding ros1msg (ROS 1 serialisation), or ros2msg, ros2idl or omgidl (CDR).
        pointer_fields: Byte sequences of the root that are left in the recording; names that
            are no byte sequences are ignored.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION.
    """
    ros1 = schema.encoding == "ros1msg"
    try:
        text = schema.data.decode()
    except UnicodeDecodeError as error:
        what = f"definition of {schema.name} is not UTF-8"
        raise UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION") from error
    if schema.encoding in IDL_ENCODINGS:
        root = parse_idl(text, name=schema.name)
    else:
        root = parse_definition(text, name=schema.name, ros1=ros1)
    bytes_fields = {name for name, kind in root.fields if kind == Many(Number("u1"))}
    pointers = pointer_fields & bytes_fields
    program = compile_program(root, ros1=ros1, pointer_fields=pointers)
    wider = None
    if b"wstring" in schema.data:
        wider = compile_program(root, ros1=ros1, pointer_fields=pointers, wide=4)
        wider = wider if wider != program else None
    return RosDecoder(root, program, _schema(root, pointers), ros1, wider, pointers)


@functools.lru_cache(maxsize=64)
def _second_program(root: Struct, pointers: frozenset[str], *, is_delimited: bool) -> Program:
    return compile_program(root, pointer_fields=pointers, version=2, is_delimited=is_delimited)


def _schema(root: Struct, pointers: frozenset[str]) -> pa.Schema:
    fields: list[pa.Field] = []
    for field in column_type(root):
        if field.name in pointers:
            fields.append(
                pa.field(f"{field.name}_offset", pa.int64(), metadata={"pointer": "offset"})
            )
            fields.append(pa.field(f"{field.name}_length", pa.int64()))
        else:
            fields.append(field)
    return pa.schema(fields)
