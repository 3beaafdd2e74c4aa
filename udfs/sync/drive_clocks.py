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
from udfs.sync.clocks import OffsetEstimate, Signal, estimate_shared_offset, gnss_offset
from udfs.sync.observations import CAMERA, GNSS_TIME
from udfs.sync.rules import SyncRules

CLOCKS = TABLES["silver.clocks"].schema
RECORDINGS = ("drive_id", "recording_id", "recorder", "start_ns", "end_ns", "ingest_date")
UTC = "utc"
_ALGORITHM = 1

Signals = Mapping[str, Signal]


@attrs.frozen
class _Tie:
    """What a recorder's clock hangs on: an estimate against a reference, or nothing."""

    method: str
    reference: str
    offset_ns: int = 0
    uncertainty_ns: int | None = None
    evidence: str = ""
    samples: int = 0
    correlation: float | None = None


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

    In this version a clock has no drift: `offset_ns` is that of the whole recording, and
    `uncertainty_ns` includes what a drift of `rules.max_drift_ppm` would make of it.

    Args:
        observations: As `OBSERVATIONS`, of this drive.
        recordings: Rows of `bronze.recordings` of this drive, with at least `RECORDINGS`.
        rules: Shared quantities and limits.

    Returns:
        Rows of `silver.clocks`, one a recording, ordered by recording_id.
    """
    rows = sorted(recordings.select(RECORDINGS).to_pylist(), key=lambda row: row["recording_id"])
    recorders = recorders_of(rows)
    channels = split_channels(observations, recorders=recorders, rules=rules)
    ties = _ties_to_utc(channels, observations, rules=rules)
    if not ties and rows:
        root = _root_of(channels, sorted(set(recorders.values())))
        ties[root] = _Tie("reference", root)
    _tie_by_signals(ties, _signals_by_recorder(channels, observations, rules=rules), rules=rules)
    version = clock_version(list(recorders), rules=rules)
    clocks = [
        {
            "drive_id": row["drive_id"],
            "recording_id": row["recording_id"],
            "recorder": row["recorder"],
            "valid_from_ns": row["start_ns"],
            "valid_to_ns": row["end_ns"],
            "drift_ppb": 0.0,
            **attrs.asdict(ties.get(recorders[row["recording_id"]], _Tie("assumed", "none"))),
            "clock_version": version,
            "ingest_date": row["ingest_date"],
        }
        for row in rows
    ]
    return pa.Table.from_pylist(clocks, CLOCKS)


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
        try:
            estimate = gnss_offset(stamps, utc, log)
        except ClockError:
            continue
        tie = _tie(
            estimate, "gnss_time", UTC, evidence=channel.source, channel=channel, rules=rules
        )
        known = ties.get(channel.recorder)
        if known is None or (tie.uncertainty_ns or 0) < (known.uncertainty_ns or 0):
            ties[channel.recorder] = tie
    return ties


def _tie_by_signals(
    ties: dict[str, _Tie], signals: Mapping[str, Signals], *, rules: SyncRules
) -> None:
    """Add ties of the recorders that share signals with a tied one, the surest first."""
    tried: dict[tuple[str, str], _Tie | None] = {}
    while True:
        candidates = []
        for other in sorted(set(signals) - set(ties)):
            for reference in sorted(set(signals) & set(ties)):
                if (reference, other) not in tried:
                    tried[reference, other] = _shared_tie(
                        reference, other, signals=signals, known=ties[reference], rules=rules
                    )
                tie = tried[reference, other]
                if tie is not None:
                    candidates.append((tie.uncertainty_ns or 0, other, tie))
        if not candidates:
            return
        _, other, tie = min(candidates, key=lambda each: each[:2])
        ties[other] = tie


def _shared_tie(
    reference: str,
    other: str,
    *,
    signals: Mapping[str, Signals],
    known: _Tie,
    rules: SyncRules,
) -> _Tie | None:
    """Tie by the quantities that two recorders share; None if they hold no evidence."""
    names = sorted(set(signals[reference]) & set(signals[other]))
    try:
        estimate = estimate_shared_offset(
            [(signals[reference][name], signals[other][name]) for name in names],
            max_offset_ns=rules.max_offset_ns,
            min_overlap_ns=rules.min_overlap_ns,
            min_correlation=rules.min_correlation,
            max_ambiguity=rules.max_ambiguity,
        )
    except ClockError:
        return None
    span = signals[other][names[0]]
    drift = _drift_error_ns(span.t_ns[0], span.t_ns[-1], rules=rules)
    parts = (estimate.uncertainty_ns, drift, known.uncertainty_ns or 0)
    return _Tie(
        method="shared_signal",
        reference=reference,
        offset_ns=known.offset_ns + estimate.offset_ns,
        uncertainty_ns=round(float(np.linalg.norm(np.array(parts, dtype=np.float64)))),
        evidence=", ".join(names),
        samples=estimate.samples,
        correlation=estimate.correlation,
    )


def _tie(
    estimate: OffsetEstimate,
    method: str,
    reference: str,
    *,
    evidence: str,
    channel: ChannelSamples,
    rules: SyncRules,
) -> _Tie:
    drift = _drift_error_ns(channel.t_ns[0], channel.t_ns[-1], rules=rules)
    return _Tie(
        method=method,
        reference=reference,
        offset_ns=estimate.offset_ns,
        uncertainty_ns=round(float(np.hypot(estimate.uncertainty_ns, drift))),
        evidence=evidence,
        samples=estimate.samples,
        correlation=estimate.correlation,
    )


def _drift_error_ns(start_ns: np.int64, end_ns: np.int64, *, rules: SyncRules) -> float:
    """Standard error that a drift of up to the limit leaves in a constant offset (uniform law)."""
    half = float(end_ns - start_ns) / 2
    return half * rules.max_drift_ppm * 1e-6 / np.sqrt(3.0)


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
