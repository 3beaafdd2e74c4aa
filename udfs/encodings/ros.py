"""ROS messages, CDR and ROS 1 serialisation, decoded from their own definitions.

Source: DDS-RTPS 2.5 §10 and DDS-XTypes 1.3 §7.6.3.1.2 (encapsulation), http://wiki.ros.org/msg
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.errors import UnsupportedFormatError
from contracts.recording import Int64Array, MessageBatch, Schema
from udfs.encodings.columns import windows
from udfs.encodings.idl import parse_idl
from udfs.encodings.layout import Program, column_type, compile_program
from udfs.encodings.payload import BadPayload, Decoded
from udfs.encodings.ros_definition import Many, Number, Struct, parse_definition
from udfs.encodings.walk import BadRowsError, Scope, Walker

IDL_ENCODINGS = ("ros2idl", "omgidl")
HEADER_BYTES = 4
MAX_PADDING = 3
_CDR_ORDERS = {0x0000: ">", 0x0001: "<"}
_CDR2_ORDERS = {0x0006: ">", 0x0007: "<"}
_DELIMITED_ORDERS = {0x0008: ">", 0x0009: "<"}
_MAX_RESTARTS = 8


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
        every = np.arange(len(batch.starts))
        if self.ros1:
            return self._in_order([self._walk(self.program, batch, every, order="<")])
        bad: list[BadPayload] = []
        parts: list[_Part] = []
        headers, whole = _encapsulations(batch)
        short = np.delete(every, whole)
        bad += [BadPayload(int(i), "SHORT_PAYLOAD", "no CDR header") for i in short]
        for header, rows in _by_header(headers, whole):
            if header in _CDR_ORDERS:
                parts.append(self._cdr(batch, rows, _CDR_ORDERS[header]))
            elif header in _CDR2_ORDERS | _DELIMITED_ORDERS and self.wider is None:
                parts.append(self._cdr2(batch, rows, header))
            else:
                what = f"CDR representation {header:#06x}"
                bad += [BadPayload(int(i), "UNSUPPORTED_CDR", what) for i in rows]
        return self._in_order([*parts, _Part(None, every[:0], bad)])

    def _cdr(self, batch: MessageBatch, rows: Int64Array, order: str) -> _Part:
        """Walk in one byte order; wide characters have the width with which a message ends."""
        if self.wider is None:
            return self._walk(self.program, batch, rows, order=order)
        parts = []
        for padding in (0, MAX_PADDING):
            for program in (self.program, self.wider):
                part = self._walk(program, batch, rows, order=order, padding=padding)
                parts.append(attrs.evolve(part, bad=[]))
                rows = np.array([one.message for one in part.bad], np.int64)
        return _joined([*parts, attrs.evolve(part, rows=None, index=rows[:0])])

    def _cdr2(self, batch: MessageBatch, rows: Int64Array, header: int) -> _Part:
        """Walk over XCDR2; its lengths in bytes are checked by where a message ends."""
        is_delimited = header in _DELIMITED_ORDERS
        program = _second_program(self.definition, self.pointers, is_delimited=is_delimited)
        order = (_CDR2_ORDERS | _DELIMITED_ORDERS)[header]
        return self._walk(program, batch, rows, order=order, padding=MAX_PADDING)

    def _walk(
        self,
        program: Program,
        batch: MessageBatch,
        rows: Int64Array,
        *,
        order: str,
        padding: int | None = None,
    ) -> _Part:
        """Walk over the rows; those found bad are left out and the walk starts again.

        Where restarts go on, the rows are split, so that a hostile file costs at most two walks
        for each bad message.
        """
        walker = Walker(batch.arena, order, 0 if self.ros1 else 1)
        header = 0 if self.ros1 else HEADER_BYTES
        bad: list[BadPayload] = []
        for _ in range(_MAX_RESTARTS):
            scope = Scope(batch.starts[rows] + header, batch.lengths[rows] - header)
            try:
                columns = walker.read(program, scope)
                if padding is not None:
                    walker.need_end(scope, padding)
            except BadRowsError as error:
                bad += [
                    BadPayload(int(i), error.error_class, error.error) for i in rows[error.rows]
                ]
                rows = np.delete(rows, error.rows)
                continue
            return _Part(self._batch(columns, batch.starts[rows]), rows, bad)
        halves = [
            self._walk(program, batch, half, order=order, padding=padding)
            for half in np.array_split(rows, 2)
        ]
        return _joined([*halves, _Part(None, rows[:0], bad)])

    def _batch(self, columns: pa.StructArray, starts: Int64Array) -> pa.RecordBatch:
        """The root's columns; what a pointer gives becomes relative to its payload."""
        found = dict(zip(self.schema.names, columns.flatten(), strict=True))
        for name in self.pointer_names:
            found[name] = pa.array(found[name].to_numpy() - starts)
        return pa.RecordBatch.from_arrays(list(found.values()), schema=self.schema)

    @property
    def pointer_names(self) -> list[str]:
        """Columns that hold offsets from the start of the payload."""
        return [f.name for f in self.schema if (f.metadata or {}).get(b"pointer") == b"offset"]

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


def _encapsulations(batch: MessageBatch) -> tuple[npt.NDArray[np.generic], Int64Array]:
    """Representation identifiers, and which messages have one: the others are too short."""
    whole = batch.lengths >= HEADER_BYTES
    if whole.all():
        rows, starts = np.arange(len(whole)), batch.starts
    else:
        rows = np.flatnonzero(whole)
        starts = batch.starts[rows]
    found = windows(batch.arena, ">u2") if len(rows) else np.zeros(0, ">u2")
    return found[starts], rows


def _by_header(
    headers: npt.NDArray[np.generic], rows: Int64Array
) -> Iterator[tuple[int, Int64Array]]:
    """Each representation that occurs, with its rows; nearly always it is one."""
    if len(rows) and bool((headers == headers[0]).all()):
        yield int(headers[0]), rows
        return
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
