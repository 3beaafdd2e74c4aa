"""What an encoding gives: columns of the messages that decode, reasons of those that do not."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import attrs
import pyarrow as pa

from contracts.recording import Int64Array, MessageBatch


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


class PayloadDecoder(Protocol):
    """Decodes the payloads of one message definition; holds no state between batches."""

    @property
    def schema(self) -> pa.Schema:
        """Columns that `decode` gives, known before any message is seen."""
        ...

    def decode(self, batch: MessageBatch) -> Decoded:
        """Decode every message of the batch; a bad one never stops the others."""
        ...
