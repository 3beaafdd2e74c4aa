"""The clocks of all recorders of one drive: one root, and the rest tied to it as far as it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from contracts.ids import content_hash
from contracts.tables import TABLES
from udfs.sync.channels import ChannelSamples, estimate_sensor_clocks, split_channels
from udfs.sync.evidence import DriveEvidence
from udfs.sync.frame_keys import bus_frames_by_recorder
from udfs.sync.observations import CAMERA
from udfs.sync.recorder_clocks import RECORDINGS, UTC, recorders_of
from udfs.sync.rules import SyncRules
from udfs.sync.segments import disjoint
from udfs.sync.sensor_clocks import sensor_rows
from udfs.sync.ties import Piece, Tie, fused

CLOCKS = TABLES["silver.clocks"].schema
_ALGORITHM = 4


def clock_version(recording_ids: Sequence[str], *, rules: SyncRules) -> str:
    """Identity of what the clocks of a drive are made of: recordings, rules and algorithm."""
    return content_hash([sorted(recording_ids), rules.version, _ALGORITHM])[:16]


def estimate_drive_clocks(
    observations: pa.Table,
    *,
    recordings: pa.Table,
    rules: SyncRules,
    can_frames: pa.Table | None = None,
) -> pa.Table:
    """Estimate the clock of every recorder of one drive.

    A recorder with time references of a GNSS receiver is tied to UTC by itself. The others are
    tied to those that are tied already, by the signals and the frames of a bus that both hold, the
    surest first. Where nothing ties the drive to UTC, the clock of the camera's recorder is the
    drive's `reference`, offset 0. What is left is `assumed`: offset 0, uncertainty unknown.

    All evidence for a clock counts, by its errors; what contradicts it is an alert of its row.

    Sensors that stamp by a clock of their own are placed on their recorder's by the times at which
    their messages arrived, first of all; the rows of the recorder hold their clocks.

    A clock that jumped has a row a segment. Readings between two segments belong to none: the jump
    is somewhere among them, or the clock showed them twice.

    Args:
        observations: As `OBSERVATIONS`, of this drive.
        recordings: Rows of `bronze.recordings` of this drive, with at least `RECORDINGS`.
        rules: Shared quantities and limits.
        can_frames: Rows of `silver.can_frames` with `FRAME_COLUMNS`, of what several recorders
            logged.

    Returns:
        Rows of `silver.clocks`, one a recording and segment, ordered by recording_id and time; each
        recording has at least one.
    """
    rows = sorted(recordings.select(RECORDINGS).to_pylist(), key=lambda row: row["recording_id"])
    recorders = recorders_of(rows)
    sensors = estimate_sensor_clocks(observations, recorders=recorders, rules=rules)
    channels = split_channels(observations, recorders=recorders, rules=rules, sensors=sensors)
    frames = {} if can_frames is None else bus_frames_by_recorder(can_frames, recorders=recorders)
    evidence = DriveEvidence(channels, observations, frames=frames, rules=rules)
    ties = _tied(evidence)
    if not ties and rows:
        root = _root_of(channels, sorted(set(recorders.values())))
        ties[root] = Tie("reference")
    _tie_the_rest(ties, evidence)
    version = clock_version(list(recorders), rules=rules)
    clocks = [
        {
            "drive_id": row["drive_id"],
            "recording_id": row["recording_id"],
            "recorder": row["recorder"],
            **part,
            "sensors": sensor_rows(sensors, recorders[row["recording_id"]]),
            "clock_version": version,
            "ingest_date": row["ingest_date"],
        }
        for row in rows
        for part in _rows_of(
            row, ties.get(recorders[row["recording_id"]]), recorder=recorders[row["recording_id"]]
        )
    ]
    return pa.Table.from_pylist(clocks, CLOCKS)


def _tied(evidence: DriveEvidence) -> dict[str, Tie]:
    """Ties of the recorders that tell UTC; what they share with the surest of them counts, too."""
    ties = {name: fused(found) for name, found in evidence.of_receivers(reference=UTC).items()}
    names = sorted(ties, key=lambda name: (ties[name].rank, name))
    for other in names[1:]:
        ties[other] = fused([ties[other], *evidence.between(names[0], other, known=ties[names[0]])])
    return ties


def _tie_the_rest(ties: dict[str, Tie], evidence: DriveEvidence) -> None:
    """Add ties of the recorders that share something with a tied one, the surest first."""
    found: dict[tuple[str, str], list[Tie]] = {}
    while True:
        candidates = []
        for other in sorted(evidence.recorders - set(ties)):
            for reference in sorted(evidence.recorders & set(ties)):
                if (reference, other) not in found:
                    found[reference, other] = evidence.between(
                        reference, other, known=ties[reference]
                    )
            mine = [tie for (_, name), known in found.items() if name == other for tie in known]
            if mine:
                candidates.append((min(tie.rank[1] for tie in mine), other, mine))
        if not candidates:
            return
        _, other, mine = min(candidates, key=lambda each: each[:2])
        ties[other] = fused(mine)


def _rows_of(
    recording: Mapping[str, Any], tie: Tie | None, *, recorder: str
) -> list[dict[str, Any]]:
    """Columns of a recording's rows that are the clock's: the pieces that it has a part in."""
    first_ns, last_ns = recording["start_ns"], recording["end_ns"]
    plain = {
        "valid_from_ns": first_ns,
        "valid_to_ns": last_ns,
        "anchor_ns": first_ns,
        "offset_ns": 0,
        "drift_ppb": 0.0,
        "uncertainty_ns": None,
        "drift_uncertainty_ppb": None,
        "evidence": "",
        "samples": 0,
        "correlation": None,
        "alert": None,
        "residuals": [],
    }
    assumed = {**plain, "method": "assumed", "reference": "none"}
    if tie is None:
        return [assumed]
    if not tie.pieces:
        return [{**plain, "method": tie.method, "reference": recorder}]
    pieces = {piece.segment.anchor_ns: piece for piece in tie.pieces}
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
                **_evidence_of(pieces[each.anchor_ns]),
                "residuals": [
                    {"clock_ns": clock_ns, "residual_ns": away_ns}
                    for clock_ns, away_ns in each.residuals()
                    if start <= clock_ns <= end
                ],
            }
        )
    return rows or [assumed]


def _evidence_of(piece: Piece) -> dict[str, Any]:
    return {
        "method": piece.method,
        "reference": piece.reference,
        "evidence": piece.evidence,
        "samples": piece.segment.samples,
        "correlation": piece.correlation,
        "alert": "; ".join(piece.alerts) or None,
    }


def _root_of(channels: Sequence[ChannelSamples], recorders: Sequence[str]) -> str:
    """Recorder whose clock stands for the drive: the camera's, else that with most samples."""
    weight = dict.fromkeys(recorders, (0, 0))
    for channel in channels:
        images, samples = weight[channel.recorder]
        images += len(channel.rows) if channel.stream == CAMERA else 0
        weight[channel.recorder] = (images, samples + len(channel.rows))
    return max(recorders, key=lambda name: weight[name])
