"""Rows of bus frames: as they are, the signals that bus definitions find in them, other records."""

from __future__ import annotations

import attrs
import numpy as np
import pyarrow as pa

from contracts.recording import Channel
from udfs.decode.can_log_part import Events
from udfs.decode.context import DecodeContext
from udfs.decode.signal_rows import RowMaker
from udfs.encodings.can import CanFrames, Untold, buses_of, decode_frames
from udfs.encodings.can_columns import PackedFrames
from udfs.encodings.dbc import BusDefinition, parse_definition


@attrs.define(eq=False)
class BusRows:
    """Makes the rows of one recording, and says what the definitions did not know.

    Attributes:
        context: Values that go into every row; its definitions `can:<bus>`, `can:<topic>`, `can:*`.
        encoding: Of the records that are no frames.
    """

    context: DecodeContext
    encoding: str
    _maker: RowMaker = attrs.field(init=False)
    _parsed: dict[str, BusDefinition] | None = attrs.field(init=False, default=None)
    _untold: Untold = attrs.field(factory=Untold)

    def __attrs_post_init__(self) -> None:
        self._maker = RowMaker(self.context)

    @property
    def _named(self) -> dict[str, BusDefinition]:
        """Definitions by bus, topic or `*`, parsed when the first frames are there."""
        if self._parsed is None:
            self._parsed = {
                key.removeprefix("can:"): parse_definition(data)
                for key, data in sorted(self.context.definitions.items())
                if key.startswith("can:")
            }
        return self._parsed

    def begin(self) -> None:
        """Begin a unit: what `reason` says is of it alone."""
        self._untold = Untold()

    def of_frames(self, frames: CanFrames, *, channel: Channel) -> list[tuple[str, pa.RecordBatch]]:
        """Rows of `can_frames`, and of `signals` where a definition knows them."""
        packed = frames.packed()
        made = self._maker.can_frames(packed, channel=channel)
        return [("can_frames", rows) for rows in made] + self.of_signals(packed, channel=channel)

    def of_signals(
        self, frames: PackedFrames, *, channel: Channel
    ) -> list[tuple[str, pa.RecordBatch]]:
        """Rows of `signals` where a definition knows the frames."""
        if not self._named:
            return []
        of_bus = {bus: self._of_bus(bus, channel.topic) for bus in buses_of(frames)}
        decoded = decode_frames(frames, of_bus)
        self._untold.add(decoded)
        batches = self._maker.block_batches(decoded.blocks, channel=channel)
        return [("signals", rows) for rows in batches]

    def of_events(self, events: Events, *, first: int, channel: Channel) -> pa.RecordBatch:
        """Rows of `raw_messages`, numbered from `first`."""
        return self._maker.raw(
            arena=events.arena,
            starts=events.starts,
            lengths=events.lengths,
            sequence=first + np.arange(len(events.starts), dtype=np.int64),
            log_time_ns=events.log_time_ns,
            encoding=self.encoding,
            schema_hash="",
            channel=channel,
        )

    def reason(self) -> tuple[str, str]:
        """What the definitions could not tell of the frames of the unit: code and words."""
        return self._untold.reason()

    def _of_bus(self, bus: int, topic: str) -> tuple[BusDefinition, ...]:
        found = (self._named.get(key) for key in (str(bus), topic, "*"))
        return tuple(definition for definition in found if definition is not None)
