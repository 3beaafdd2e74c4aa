"""What an encoding gives: columns of the messages that decode, reasons of those that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import attrs
import numpy as np
import pyarrow as pa

from contracts.recording import Int64Array, MessageBatch, UInt8Array


class BadPayload(NamedTuple):
    """A message of a batch that would not decode."""

    message: int
    error_class: str
    error: str


@attrs.frozen(eq=False)
class Decoded:
    """The outcome of a batch of N messages: M of them decoded, N - M are bad.

    Attributes:
        rows: (M rows) the message's own columns, in the order of `index`.
        index: (M,) int64, ascending: which message of the batch each row is.
        bad: Every other message, with its error.
    """

    rows: pa.RecordBatch
    index: Int64Array
    bad: tuple[BadPayload, ...] = ()


class Program(Protocol):
    """Compiled columns of a definition."""

    def read(
        self, arena: UInt8Array, *, starts: Int64Array, lengths: Int64Array
    ) -> tuple[list[pa.Array], Int64Array]:
        """Columns of the messages that it has nothing to tell of, and which those are."""
        ...


def decoded_by(
    program: Program,
    batch: MessageBatch,
    *,
    schema: pa.Schema,
    one_by_one: Callable[[Int64Array], Decoded],
) -> Decoded:
    """Decode a batch with a program, and the messages that it leaves one by one."""
    columns, index = program.read(batch.arena, starts=batch.starts, lengths=batch.lengths)
    rows = Decoded(pa.RecordBatch.from_arrays(columns, schema=schema), index)
    if len(index) == len(batch.starts):
        return rows
    return merged(rows, one_by_one(np.delete(np.arange(len(batch.starts)), index)))


def payload(batch: MessageBatch, message: int) -> bytes:
    """The payload of a message, copied."""
    start = int(batch.starts[message])
    return batch.arena[start : start + int(batch.lengths[message])].tobytes()


def merged(some: Decoded, others: Decoded) -> Decoded:
    """The outcomes of different messages of a batch as one, in the order of the messages."""
    rows = pa.concat_batches([some.rows, others.rows])
    index = np.concatenate([some.index, others.index])
    if len(some.index) and len(others.index):
        order = np.argsort(index)
        rows, index = rows.take(pa.array(order)), index[order]
    return Decoded(rows, index, (*some.bad, *others.bad))


class PayloadDecoder(Protocol):
    """Decodes the payloads of one message definition; holds no state between batches."""

    @property
    def schema(self) -> pa.Schema:
        """Columns that `decode` gives, known before any message is seen."""
        ...

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode every message of the batch; a bad one never stops the others."""
        ...
