"""Frames: every sensor at the instant of a camera image, each value with its own time and error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.ids import content_hash
from contracts.tables import TABLES
from udfs.sync.align import Aligned, Stream, align, without_clock
from udfs.sync.channels import (
    ChannelKey,
    ChannelSamples,
    Facts,
    best_channel,
    split_channels,
    whole_channels,
)
from udfs.sync.mapping import NO_PIECE
from udfs.sync.observations import CAMERA, GNSS, LIDAR, OBSERVATIONS, POSE, observations_of
from udfs.sync.recorder_clocks import UTC, RecorderClock, clocks_of, recorders_of
from udfs.sync.rules import AlignRule, SyncRules
from udfs.sync.segments import BoolArray, FloatArray
from udfs.sync.sensor_clocks import sensors_of
from udfs.sync.spans import Span
from udfs.sync.states import CODES, JUMP, OK, state_column

FRAMES = TABLES["silver.frames"].schema
REFERENCE = "reference"
_ALGORITHM = 4
_QUANTITIES = ("speed_m_s", "yaw_rate_rad_s", "acceleration_m_s2", "steering_angle_rad")
_POINTER = ("unit_offset", "data_offset", "data_length")
_SLOTS = ("value_0", "value_1", "value_2")
_OF_IMAGES = ("recording_id", "source", "frame_id", "log_time_ns", *_POINTER)
_OF_SWEEPS: Mapping[str, str] = {
    "lidar_recording_id": "recording_id",
    "lidar_frame_id": "frame_id",
    **{f"lidar_{name}": name for name in _POINTER},
    "lidar_point_step_bytes": "point_step_bytes",
    "lidar_fields": "fields",
}
CLOCK_COLUMNS = (
    "recording_id",
    "valid_from_ns",
    "valid_to_ns",
    "anchor_ns",
    "offset_ns",
    "drift_ppb",
    "method",
    "reference",
    "uncertainty_ns",
    "drift_uncertainty_ppb",
)
_SUFFIXES = ("_m_s2", "_m_s", "_rad_s", "_rad")
_VALUES: Mapping[str, tuple[str, ...]] = {
    GNSS: ("latitude_deg", "longitude_deg", "altitude_m"),
    POSE: ("position_x_m", "position_y_m", "yaw_rad"),
    **{name: (name,) for name in _QUANTITIES},
}


@attrs.frozen
class Choice:
    """The channel that speaks for a stream.

    Attributes:
        channel: Which.
        is_stamped: Whether its stamps count.
        latency_used_ns: What is taken off the log times that stand in for stamps; None if none do.
    """

    channel: ChannelKey
    is_stamped: bool
    latency_used_ns: int | None


def sync_version(clocks: Iterable[Mapping[str, Any]], *, rules: SyncRules) -> str:
    """Identity of what the frames of a drive are made of: clocks, rules and algorithm.

    Args:
        clocks: Rows of `silver.clocks` of one drive, in any order.
        rules: The rules.
    """
    named = ([row[name] for name in CLOCK_COLUMNS] + [row.get("sensors") or []] for row in clocks)
    rows = sorted(named, key=lambda row: row[: len(CLOCK_COLUMNS)])
    return content_hash([rows, rules_version(rules)])[:16]


def rules_version(rules: SyncRules) -> str:
    """Identity of how frames are made: the rules, and the algorithm that goes by them."""
    return content_hash([rules.version, _ALGORITHM])[:16]


def build_frames(
    streams: Mapping[str, pa.Table], clocks: pa.Table, *, rules: SyncRules
) -> pa.Table:
    """Synchronise silver tables without Spark.

    Args:
        streams: Rows by silver table name (`images`, `point_clouds`, `signals`, …).
        clocks: Rows of `silver.clocks` of the drives wanted.
        rules: Which column is which stream, and limits.

    Returns:
        Rows of `silver.frames`, ordered by drive, camera and time.
    """
    observations = observations_of(streams, rules=rules)
    parts = [
        frames_of_drive(
            observations, clocks.filter(pc.equal(clocks["drive_id"], drive)), rules=rules
        )
        for drive in sorted(pc.unique(clocks["drive_id"]).to_pylist())
    ]
    return pa.concat_tables(parts) if parts else FRAMES.empty_table()


def frames_of_drive(
    observations: pa.Table,
    clocks: pa.Table,
    *,
    rules: SyncRules,
    facts: Facts | None = None,
    span: Span | None = None,
) -> pa.Table:
    """Synchronise the observations of one drive, or of a slice of it, on its camera images.

    A slice gives the very frames that the whole drive would: nothing farther than `rules.reach_ns`
    from a frame matters to it, but for which channel speaks for a stream and how its stamps are to
    be taken, which the facts say.

    Args:
        observations: As `OBSERVATIONS`; recordings of other drives are passed over. Of a slice,
            all that `readings_within` names.
        clocks: Rows of `silver.clocks` of one drive.
        rules: Limits.
        facts: Of the channels of the whole drive; None where it is all here.
        span: Instants of the frames wanted, half-open; None for all.

    Returns:
        Rows of `silver.frames`, one an image, ordered by camera and time. `clock` is `utc`, or
        `reference` where nothing ties the drive to UTC. An image whose stamp lies where the
        camera's clock jumped keeps its row: its time is that of the nearest segment, the
        uncertainty is as large as the jump, and every stream is `jump`.
    """
    rows = clocks.to_pylist()
    recorders = recorders_of(rows)
    known = clocks_of(rows, rules=rules)
    observations = observations.combine_chunks()
    sensors = sensors_of(rows, recorders=recorders)
    if facts is None:
        channels = whole_channels(observations, recorders=recorders, rules=rules, sensors=sensors)
    else:
        channels = split_channels(
            observations, recorders=recorders, rules=rules, facts=facts, sensors=sensors
        )
    version = sync_version(rows, rules=rules)
    dates = {row["recording_id"]: row["ingest_date"] for row in rows}
    values = {name: observations[name].to_numpy() for name in _SLOTS}
    parts = []
    for camera in channels:
        if camera.stream != CAMERA or not len(camera.rows):
            continue
        columns = _frames_of_camera(
            camera, channels, observations, values=values, clocks=known, rules=rules
        )
        recordings = columns["camera_recording_id"].to_pylist()
        count = len(recordings)
        columns |= {
            "drive_id": pa.repeat(rows[0]["drive_id"], count),
            "sync_version": pa.repeat(version, count),
            "ingest_date": pa.array([dates[each] for each in recordings], pa.date32()),
        }
        part = pa.table([columns[name] for name in FRAMES.names], schema=FRAMES)
        parts.append(part if span is None else _within(part, span))
    return pa.concat_tables(parts) if parts else FRAMES.empty_table()


def chosen_channels(
    facts: Facts, *, clocks: Mapping[str, RecorderClock], rules: SyncRules
) -> dict[ChannelKey, Mapping[str, Choice]]:
    """By camera and stream the channel that speaks for it; a stream without one is not named.

    Args:
        facts: Of all channels of a drive.
        clocks: Clock by recorder.
        rules: Which is to be preferred.
    """
    nothing = OBSERVATIONS.empty_table()
    channels = split_channels(nothing, recorders={}, rules=rules, facts=facts)
    found: dict[ChannelKey, Mapping[str, Choice]] = {}
    for camera in channels:
        if camera.stream == CAMERA:
            chosen = {CAMERA: camera} | {
                stream: one
                for stream in (LIDAR, *_VALUES)
                if (one := _choose(stream, channels, camera=camera, clocks=clocks, rules=rules))
            }
            found[camera.key] = {
                stream: Choice(one.key, one.facts.is_stamped, one.facts.latency_used_ns)
                for stream, one in chosen.items()
                if one.facts
            }
    return found


def _frames_of_camera(
    camera: ChannelSamples,
    channels: Sequence[ChannelSamples],
    observations: pa.Table,
    *,
    values: Mapping[str, FloatArray],
    clocks: Mapping[str, RecorderClock],
    rules: SyncRules,
) -> dict[str, pa.Array]:
    """Columns of the frames of one camera, but for those that are the drive's."""
    clock = clocks[camera.recorder]
    placed = clock.place(camera.t_ns)
    order = np.argsort(placed.t_ns, kind="stable")
    t_ns = placed.t_ns[order]
    images = observations.select(_OF_IMAGES).take(pa.array(camera.rows[order]))
    count = len(t_ns)
    is_placed = placed.piece[order] != NO_PIECE
    error_ns = np.where(is_placed, placed.error_ns[order], clock.largest_jump_ns)
    error_ns = np.hypot(error_ns, camera.sensor_error_ns)
    columns: dict[str, pa.Array] = {
        "clock": pa.repeat(UTC if clock.root == UTC else REFERENCE, count),
        "t_ns": pa.array(t_ns),
        "camera_recording_id": images["recording_id"].cast(pa.string()),
        "camera_topic": images["source"].cast(pa.string()),
        "camera_frame_id": images["frame_id"].cast(pa.string()),
        "camera_log_time_ns": images["log_time_ns"],
        **{f"camera_{name}": images[name] for name in _POINTER},
    }
    streams = []
    for stream in (LIDAR, *_VALUES):
        chosen = _choose(stream, channels, camera=camera, clocks=clocks, rules=rules)
        of_chosen = clocks[chosen.recorder] if chosen else None
        if chosen is None:
            aligned = align(
                t_ns, _empty(stream), rule=_rule(stream, rules), reach_ns=rules.reach_ns
            )
        elif of_chosen is None or of_chosen.root != clock.root:
            aligned = without_clock(count, names=_VALUES.get(stream, ()))
        else:
            chosen, samples = _samples(chosen, values, stream=stream, clock=of_chosen)
            aligned = _unplaced(
                align(t_ns, samples, rule=_rule(stream, rules), reach_ns=rules.reach_ns), ~is_placed
            )
            of_stream = np.hypot(of_chosen.error_at(t_ns), chosen.sensor_error_ns)
            error_ns = np.maximum(error_ns, of_stream)
        streams.append(aligned)
        columns |= _value_columns(stream, aligned)
        if stream == LIDAR:
            columns |= _lidar_columns(chosen, aligned, observations)
    is_ok = np.array([each.codes == CODES[OK] for each in streams])
    errors = np.array([np.abs(each.sync_error_ns) for each in streams])
    return columns | {
        "sync_error_ns": pa.array(np.max(np.where(is_ok, errors, 0), axis=0)),
        "clock_uncertainty_ns": pa.array(np.rint(error_ns).astype(np.int64)),
        "is_complete": pa.array(is_ok.all(axis=0)),
    }


def _choose(
    stream: str,
    channels: Sequence[ChannelSamples],
    *,
    camera: ChannelSamples,
    clocks: Mapping[str, RecorderClock],
    rules: SyncRules,
) -> ChannelSamples | None:
    """The channel that speaks for a stream; one on a clock tied to the camera's comes first."""
    found = [each for each in channels if each.stream == stream]
    root = clocks[camera.recorder].root
    found = [each for each in found if clocks[each.recorder].root == root] or found
    if stream == LIDAR and found:
        # The densest sweeps: a radar and a rear lidar are point clouds, too.
        return max(found, key=_mean_bytes)
    quantity = rules.quantity(stream) if stream in _QUANTITIES else None
    return best_channel(found, quantity=quantity, recorder=camera.recorder)


def _mean_bytes(channel: ChannelSamples) -> float:
    return channel.facts.size_bytes / channel.facts.samples if channel.facts else 0.0


def _within(frames: pa.Table, span: Span) -> pa.Table:
    start_ns, end_ns = span
    inside = pc.and_(pc.greater_equal(frames["t_ns"], start_ns), pc.less(frames["t_ns"], end_ns))
    return frames.filter(inside)


def _rule(stream: str, rules: SyncRules) -> AlignRule:
    return rules.align.get(stream, rules.quantity_align)


def _empty(stream: str) -> Stream:
    none = np.empty(0, dtype=np.float64)
    return Stream(np.empty(0, dtype=np.int64), dict.fromkeys(_VALUES.get(stream, ()), none))


def _samples(
    channel: ChannelSamples,
    values: Mapping[str, FloatArray],
    *,
    stream: str,
    clock: RecorderClock,
) -> tuple[ChannelSamples, Stream]:
    """A channel on the clock of the frames, without what was stamped where its clock jumped."""
    placed = clock.place(channel.t_ns)
    known = np.flatnonzero(placed.piece != NO_PIECE)
    order = known[np.argsort(placed.t_ns[known], kind="stable")]
    kept = attrs.evolve(channel, t_ns=channel.t_ns[order], rows=channel.rows[order])
    mine = {
        name: values[slot][kept.rows]
        for slot, name in zip(_SLOTS, _VALUES.get(stream, ()), strict=False)
    }
    return kept, Stream(placed.t_ns[order], mine, placed.piece[order])


def _unplaced(aligned: Aligned, unknown: BoolArray) -> Aligned:
    """What is known of a stream, but for instants that lie in a jump and are not known."""
    if not unknown.any():
        return aligned
    return Aligned(
        index=np.where(unknown, -1, aligned.index),
        t_ns=np.where(unknown, 0, aligned.t_ns),
        sync_error_ns=np.where(unknown, 0, aligned.sync_error_ns),
        codes=np.where(unknown, CODES[JUMP], aligned.codes).astype(np.uint8),
        values={name: np.where(unknown, np.nan, value) for name, value in aligned.values.items()},
    )


def _value_columns(stream: str, aligned: Aligned) -> dict[str, pa.Array]:
    """Values, time, error and state of one stream; null where there is none."""
    stem = stream
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    none = aligned.index < 0
    return {
        **{
            name: pa.array(values, mask=np.isnan(values)) for name, values in aligned.values.items()
        },
        f"{stem}_t_ns": pa.array(aligned.t_ns, mask=none),
        f"{stem}_sync_error_ns": pa.array(aligned.sync_error_ns, mask=none),
        f"{stem}_state": state_column(aligned.codes).cast(pa.string()),
    }


def _lidar_columns(
    channel: ChannelSamples | None, aligned: Aligned, observations: pa.Table
) -> dict[str, pa.Array]:
    """Pointers to the sweeps; null where the state is not ok, so that none is used twice."""
    rows = np.zeros(len(aligned.index), dtype=np.int64)
    if channel is not None and len(channel.rows):
        rows = channel.rows[np.maximum(aligned.index, 0)]
    sweeps = pa.array(rows, mask=aligned.codes != CODES[OK])
    taken = observations.select(list(_OF_SWEEPS.values())).take(sweeps)
    return {
        column: taken[name].cast(FRAMES.field(column).type) for column, name in _OF_SWEEPS.items()
    }
