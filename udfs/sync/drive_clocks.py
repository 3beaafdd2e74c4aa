"""The clocks of all recorders of one drive: one root, and the rest tied to it as far as it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import ClockError
from contracts.ids import content_hash
from contracts.tables import TABLES
from udfs.sync.channels import ChannelSamples, best_channel, split_channels
from udfs.sync.clocks import Signal
from udfs.sync.mapping import NO_PIECE, place
from udfs.sync.observations import CAMERA, GNSS_TIME
from udfs.sync.phases import PhaseStep, phase_steps, place_jumps
from udfs.sync.rules import SyncRules
from udfs.sync.segments import Segment, disjoint, fit_segments
from udfs.sync.shared import Jump, find_jumps, tie_by_signals

CLOCKS = TABLES["silver.clocks"].schema
RECORDINGS = ("drive_id", "recording_id", "recorder", "start_ns", "end_ns", "ingest_date")
UTC = "utc"
_ALGORITHM = 3
_SAME_CLOCK_NS = 10_000_000_000

Signals = Mapping[str, Signal]


@attrs.frozen
class _Tie:
    """What a recorder's clock hangs on: segments against the root of a reference, or nothing."""

    method: str
    reference: str
    segments: tuple[Segment, ...] = ()
    evidence: str = ""
    samples: int = 0
    correlation: float | None = None

    @property
    def error_ns(self) -> float:
        """The largest standard error of the segments, at their anchors."""
        return max((each.offset_error_ns for each in self.segments), default=0.0)


def clock_version(recording_ids: Sequence[str], *, rules: SyncRules) -> str:
    """Identity of what the clocks of a drive are made of: recordings, rules and algorithm."""
    return content_hash([sorted(recording_ids), rules.version, _ALGORITHM])[:16]


def recorders_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Recorder by recording_id; a recording without a recorder is one of its own."""
    return {row["recording_id"]: row["recorder"] or row["recording_id"] for row in rows}


def estimate_drive_clocks(
    observations: pa.Table, *, recordings: pa.Table, rules: SyncRules
) -> pa.Table:
    """Estimate the clock of every recorder of one drive.

    A recorder with time references of a GNSS receiver is tied to UTC by itself. The others are
    tied to one that is tied already, by the signals that both hold, the surest first. Where nothing
    ties the drive to UTC, the clock of the camera's recorder is the drive's `reference`, offset 0.
    What is left is `assumed`: offset 0, uncertainty unknown.

    A clock that jumped has a row a segment. Readings between two segments belong to none: the jump
    is somewhere among them, or the clock showed them twice.

    Args:
        observations: As `OBSERVATIONS`, of this drive.
        recordings: Rows of `bronze.recordings` of this drive, with at least `RECORDINGS`.
        rules: Shared quantities and limits.

    Returns:
        Rows of `silver.clocks`, one a recording and segment, ordered by recording_id and time; each
        recording has at least one.
    """
    rows = sorted(recordings.select(RECORDINGS).to_pylist(), key=lambda row: row["recording_id"])
    recorders = recorders_of(rows)
    channels = split_channels(observations, recorders=recorders, rules=rules)
    ties = _ties_to_utc(channels, observations, rules=rules)
    if not ties and rows:
        root = _root_of(channels, sorted(set(recorders.values())))
        ties[root] = _Tie("reference", root)
    _tie_by_signals(ties, channels, observations, rules=rules)
    version = clock_version(list(recorders), rules=rules)
    clocks = [
        {
            "drive_id": row["drive_id"],
            "recording_id": row["recording_id"],
            "recorder": row["recorder"],
            **part,
            "clock_version": version,
            "ingest_date": row["ingest_date"],
        }
        for row in rows
        for part in _rows_of(row, ties.get(recorders[row["recording_id"]]))
    ]
    return pa.Table.from_pylist(clocks, CLOCKS)


def _rows_of(recording: Mapping[str, Any], tie: _Tie | None) -> list[dict[str, Any]]:
    """Columns of a recording's rows that are the clock's: the segments that it has a part in."""
    first_ns, last_ns = recording["start_ns"], recording["end_ns"]
    plain = {
        "valid_from_ns": first_ns,
        "valid_to_ns": last_ns,
        "anchor_ns": first_ns,
        "offset_ns": 0,
        "drift_ppb": 0.0,
        "uncertainty_ns": None,
        "drift_uncertainty_ppb": None,
    }
    assumed = {**plain, **_evidence_of(_Tie("assumed", "none"), samples=0)}
    if tie is None:
        return [assumed]
    if not tie.segments:
        return [{**plain, **_evidence_of(tie, samples=tie.samples)}]
    rows = []
    ordered = sorted(disjoint(tie.segments), key=lambda each: each.start_ns)
    if not ordered:
        return [assumed]
    # Outside of the evidence the outer segments go on, unless they were cut; between them nothing
    # does.
    lowest, highest = ordered[0].anchor_ns, ordered[-1].anchor_ns
    is_open = lowest == tie.segments[0].anchor_ns, highest == tie.segments[-1].anchor_ns
    for each in ordered:
        goes_back = is_open[0] and each.anchor_ns == lowest
        goes_on = is_open[1] and each.anchor_ns == highest
        start = first_ns if goes_back else max(first_ns, each.start_ns)
        end = last_ns if goes_on else min(last_ns, each.end_ns)
        if start > end:
            continue
        rows.append(
            {
                "valid_from_ns": start,
                "valid_to_ns": end,
                "anchor_ns": each.anchor_ns,
                "offset_ns": each.offset_ns,
                "drift_ppb": each.drift_ppb,
                "uncertainty_ns": round(each.offset_error_ns),
                "drift_uncertainty_ppb": each.drift_error_ppb,
                **_evidence_of(tie, samples=each.samples),
            }
        )
    return rows or [assumed]


def _evidence_of(tie: _Tie, *, samples: int) -> dict[str, Any]:
    return {
        "method": tie.method,
        "reference": tie.reference,
        "evidence": tie.evidence,
        "samples": samples,
        "correlation": tie.correlation,
    }


def _ties_to_utc(
    channels: Sequence[ChannelSamples], observations: pa.Table, *, rules: SyncRules
) -> dict[str, _Tie]:
    """Ties of the recorders that hold time references."""
    ties: dict[str, _Tie] = {}
    for channel in channels:
        if channel.stream != GNSS_TIME:
            continue
        rows = observations.take(channel.rows)
        stamps, utc, log = (
            rows[name].to_numpy().astype(np.int64)
            for name in ("sensor_time_ns", "reference_time_ns", "log_time_ns")
        )
        usable = (utc > 0) & (stamps > 0) & (np.abs(log - stamps) < _SAME_CLOCK_NS)
        try:
            segments = fit_segments(
                utc[usable], (stamps - utc)[usable], max_drift_ppm=rules.max_drift_ppm
            )
        except ClockError:
            continue
        if len(segments) > 1:
            steps = [step for each in _steps(channels, channel.recorder) for step in each]
            segments = place_jumps(segments, steps)
        tie = _Tie(
            "gnss_time",
            UTC,
            segments,
            evidence=channel.source,
            samples=sum(each.samples for each in segments),
        )
        known = ties.get(channel.recorder)
        if known is None or tie.error_ns < known.error_ns:
            ties[channel.recorder] = tie
    return ties


def _steps(channels: Sequence[ChannelSamples], recorder: str) -> list[list[PhaseStep]]:
    """Steps out of their grid of each stream of a recorder; what shares its stamps counts once."""
    stamps = {each.t_ns.tobytes(): each.t_ns for each in channels if each.recorder == recorder}
    return [phase_steps(t_ns) for t_ns in stamps.values()]


def _tie_by_signals(
    ties: dict[str, _Tie],
    channels: Sequence[ChannelSamples],
    observations: pa.Table,
    *,
    rules: SyncRules,
) -> None:
    """Add ties of the recorders that share signals with a tied one, the surest first."""
    signals = _signals_by_recorder(channels, observations, rules=rules)
    jumps = {
        recorder: find_jumps(_steps(channels, recorder)) for recorder in set(signals) - set(ties)
    }
    tried: dict[tuple[str, str], _Tie | None] = {}
    while True:
        candidates = []
        for other in sorted(set(signals) - set(ties)):
            for reference in sorted(set(signals) & set(ties)):
                if (reference, other) not in tried:
                    tried[reference, other] = _shared_tie(
                        reference,
                        signals[reference],
                        signals[other],
                        known=ties[reference],
                        jumps=jumps[other],
                        rules=rules,
                    )
                tie = tried[reference, other]
                if tie is not None:
                    candidates.append((tie.error_ns, other, tie))
        if not candidates:
            return
        _, other, tie = min(candidates, key=lambda each: each[:2])
        ties[other] = tie


def _shared_tie(
    reference: str,
    of_reference: Signals,
    of_other: Signals,
    *,
    known: _Tie,
    jumps: Sequence[Jump],
    rules: SyncRules,
) -> _Tie | None:
    """Tie by the quantities that two recorders share; None if they hold no evidence."""
    names = sorted(set(of_reference) & set(of_other))
    pieces = disjoint(known.segments)
    pairs = [(_on_root(of_reference[name], pieces, rules=rules), of_other[name]) for name in names]
    try:
        found = tie_by_signals(
            [pair for pair in pairs if len(pair[0].t_ns) > 1], jumps=jumps, rules=rules
        )
    except ClockError:
        return None
    return _Tie(
        method="shared_signal",
        reference=reference,
        segments=tuple(_with_error_of(each, pieces) for each in found.segments),
        evidence=", ".join(names),
        samples=found.samples,
        correlation=found.correlation,
    )


def _on_root(signal: Signal, pieces: Sequence[Segment], *, rules: SyncRules) -> Signal:
    """A signal of a tied recorder on the clock it is tied to, but for what has no time there."""
    if not pieces:
        return signal
    placed = place(signal.t_ns, pieces, slack_ns=rules.max_latency_ns)
    known = np.flatnonzero(placed.piece != NO_PIECE)
    order = known[np.argsort(placed.t_ns[known], kind="stable")]
    return Signal(placed.t_ns[order], signal.value[order])


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


def _distance(segment: Segment, reading_ns: int) -> int:
    return max(segment.start_ns - reading_ns, reading_ns - segment.end_ns, 0)


def _root_of(channels: Sequence[ChannelSamples], recorders: Sequence[str]) -> str:
    """Recorder whose clock stands for the drive: the camera's, else that with most samples."""
    weight = dict.fromkeys(recorders, (0, 0))
    for channel in channels:
        images, samples = weight[channel.recorder]
        images += len(channel.rows) if channel.stream == CAMERA else 0
        weight[channel.recorder] = (images, samples + len(channel.rows))
    return max(recorders, key=lambda name: weight[name])


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
                signal = Signal(best.t_ns, samples)
                found.setdefault(recorder, {})[quantity.name] = signal
    return dict(found)
