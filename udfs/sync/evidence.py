"""What the recordings of one drive tell about the clocks of its recorders, each sort by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import ClockError
from contracts.recording import Int64Array
from udfs.sync.bus_frames import match_frames
from udfs.sync.channels import ChannelSamples, best_channel
from udfs.sync.frame_keys import BusFrames
from udfs.sync.gnss_time import utc_of_receiver
from udfs.sync.mapping import NO_PIECE, place
from udfs.sync.observations import GNSS_TIME
from udfs.sync.phases import PhaseStep, phase_steps, place_jumps
from udfs.sync.placing import place_by_stamps
from udfs.sync.rules import SyncRules
from udfs.sync.segments import Segment, disjoint, fit_segments
from udfs.sync.shared import find_jumps, tie_by_signals
from udfs.sync.signals import Signal
from udfs.sync.ties import Piece, Tie

_SAME_CLOCK_NS = 10_000_000_000
_INTERFACES_NS = 100_000.0
"""How far apart two interfaces may stamp the same frame, always alike: no scatter tells that."""

Signals = Mapping[str, Signal]


class DriveEvidence:
    """Evidence of one drive, found as it is asked for.

    Attributes:
        recorders: Those that share something with others.
    """

    def __init__(
        self,
        channels: Sequence[ChannelSamples],
        observations: pa.Table,
        *,
        frames: Mapping[str, BusFrames],
        rules: SyncRules,
    ) -> None:
        """Hold what was recorded.

        Args:
            channels: Of all recorders.
            observations: That the channels are rows of.
            frames: Of a bus, by recorder.
            rules: Shared quantities and limits.
        """
        self._channels = channels
        self._observations = observations
        self._frames = frames
        self._rules = rules
        self._signals = _signals_by_recorder(channels, observations, rules=rules)
        self._phase_steps: dict[str, list[list[PhaseStep]]] = {}
        self.recorders = frozenset(self._signals) | frozenset(frames)

    def of_receivers(self, *, reference: str) -> dict[str, list[Tie]]:
        """Ties to UTC by recorder, one a channel of time references of a GNSS receiver.

        Args:
            reference: What the rows call UTC.
        """
        ties: dict[str, list[Tie]] = {}
        for channel in self._channels:
            if channel.stream != GNSS_TIME:
                continue
            rows = self._observations.take(channel.rows)
            stamps, sent, log = (
                rows[name].to_numpy().astype(np.int64)
                for name in ("sensor_time_ns", "reference_time_ns", "log_time_ns")
            )
            utc, usable = utc_of_receiver(sent, stamps, log)
            usable &= np.abs(log - stamps) < _SAME_CLOCK_NS
            try:
                segments = fit_segments(
                    utc[usable],
                    (stamps - utc)[usable],
                    max_drift_ppm=self._rules.max_drift_ppm,
                )
            except ClockError:
                continue
            pieces = [
                Piece(segment, "gnss_time", reference, channel.source)
                for segment in self._with_placed_jumps(segments, channel.recorder)
            ]
            ties.setdefault(channel.recorder, []).append(Tie("gnss_time", tuple(pieces)))
        return ties

    def between(self, reference: str, other: str, *, known: Tie) -> list[Tie]:
        """Ties of a recorder by what it shares with one that is tied.

        Args:
            reference: The tied recorder.
            other: The recorder.
            known: What the reference is tied by.
        """
        pieces = disjoint(known.segments)
        found = [
            self._by_frames(reference, other, pieces),
            self._by_signals(reference, other, pieces),
        ]
        return [tie for tie in found if tie is not None]

    def _by_frames(self, reference: str, other: str, known: Sequence[Segment]) -> Tie | None:
        """Tie by the frames of a bus that two recorders wrote; None if they hold no evidence."""
        if reference not in self._frames or other not in self._frames:
            return None
        theirs = self._frames[reference]
        if known:
            placed = place(theirs.t_ns, known, slack_ns=self._rules.max_latency_ns)
            theirs = theirs.at(placed.t_ns).where(placed.piece != NO_PIECE)
        try:
            found = match_frames(
                theirs, self._frames[other], max_offset_ns=self._rules.max_offset_ns
            )
            segments = found.segments(max_drift_ppm=self._rules.max_drift_ppm)
        except ClockError:
            return None
        pieces = [
            Piece(
                segment=_with_error(_with_error_of(segment, known), _INTERFACES_NS),
                method="bus_frames",
                reference=reference,
                evidence=f"{found.matched} of {found.changed} changed frames",
            )
            for segment in self._with_placed_jumps(segments, other)
        ]
        return Tie("bus_frames", tuple(pieces))

    def _by_signals(self, reference: str, other: str, known: Sequence[Segment]) -> Tie | None:
        """Tie by the quantities that two recorders share; None if they hold no evidence."""
        of_reference, of_other = self._signals.get(reference, {}), self._signals.get(other, {})
        names = sorted(set(of_reference) & set(of_other))
        pairs = [
            (_on_root(of_reference[name], known, rules=self._rules), of_other[name])
            for name in names
        ]
        try:
            found = tie_by_signals(
                [pair for pair in pairs if len(pair[0].t_ns) > 1],
                jumps=find_jumps(self._steps(other)),
                rules=self._rules,
            )
        except ClockError:
            return None
        pieces = [
            Piece(
                segment=_with_error_of(segment, known),
                method="shared_signal",
                reference=reference,
                evidence=", ".join(names),
                correlation=found.correlation,
                alerts=alerts,
            )
            for segment, alerts in zip(
                place_by_stamps(found.segments, self._stamps(other)), found.alerts, strict=True
            )
        ]
        return Tie("shared_signal", tuple(pieces))

    def _with_placed_jumps(
        self, segments: tuple[Segment, ...], recorder: str
    ) -> tuple[Segment, ...]:
        """Segments with the jumps between them placed by the stamps of a recorder's streams."""
        if len(segments) < 2:
            return segments
        steps = [step for each in self._steps(recorder) for step in each]
        return place_by_stamps(place_jumps(segments, steps), self._stamps(recorder))

    def _steps(self, recorder: str) -> list[list[PhaseStep]]:
        """Steps out of their grid of each stream."""
        if recorder not in self._phase_steps:
            self._phase_steps[recorder] = [phase_steps(t_ns) for t_ns in self._stamps(recorder)]
        return self._phase_steps[recorder]

    def _stamps(self, recorder: str) -> list[Int64Array]:
        """(N,) int64 stamps of each stream, ascending; what shares its stamps counts once."""
        mine = (each.t_ns for each in self._channels if each.recorder == recorder)
        return list({t_ns.tobytes(): t_ns for t_ns in mine}.values())


def _on_root(signal: Signal, pieces: Sequence[Segment], *, rules: SyncRules) -> Signal:
    """A signal of a tied recorder on the clock it is tied to, but for what has no time there."""
    if not pieces:
        return signal
    placed = place(signal.t_ns, pieces, slack_ns=rules.max_latency_ns)
    known = np.flatnonzero(placed.piece != NO_PIECE)
    order = known[np.argsort(placed.t_ns[known], kind="stable")]
    return Signal(placed.t_ns[order], signal.value[order], signal.name)


def _with_error_of(segment: Segment, pieces: Sequence[Segment]) -> Segment:
    """A segment against a tied clock, with that clock's own error."""
    if not pieces:
        return segment
    root_ns = segment.reference_at(segment.anchor_ns)
    readings = np.array([root_ns + each.offset_ns for each in pieces], np.int64)
    away = [_distance(each, int(at)) for each, at in zip(pieces, readings, strict=True)]
    nearest = int(np.argmin(away))
    error = float(pieces[nearest].error_at(readings[nearest : nearest + 1])[0])
    return attrs.evolve(
        segment,
        offset_error_ns=float(np.hypot(segment.offset_error_ns, error)),
        drift_error_ppb=float(np.hypot(segment.drift_error_ppb, pieces[nearest].drift_error_ppb)),
    )


def _with_error(segment: Segment, error_ns: float) -> Segment:
    """A segment that may be off by this much more."""
    return attrs.evolve(segment, offset_error_ns=float(np.hypot(segment.offset_error_ns, error_ns)))


def _distance(segment: Segment, reading_ns: int) -> int:
    return max(segment.start_ns - reading_ns, reading_ns - segment.end_ns, 0)


def _signals_by_recorder(
    channels: Sequence[ChannelSamples], observations: pa.Table, *, rules: SyncRules
) -> dict[str, Signals]:
    """The best signal of every quantity a recorder holds, on its clock."""
    value = observations["value_0"]
    found: dict[str, dict[str, Signal]] = {}
    for quantity in rules.quantities:
        of_quantity = [each for each in channels if each.stream == quantity.name]
        for recorder in sorted({each.recorder for each in of_quantity}):
            mine = [each for each in of_quantity if each.recorder == recorder]
            best = best_channel(mine, quantity=quantity)
            if best is not None and len(best.t_ns) > 1:
                samples = pc.take(value, pa.array(best.rows)).to_numpy().astype(np.float64)
                signal = Signal(best.t_ns, samples, quantity.name)
                found.setdefault(recorder, {})[quantity.name] = signal
    return dict(found)
