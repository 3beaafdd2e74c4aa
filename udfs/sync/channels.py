"""Observations sorted into channels: one stream of one recorder from one source, in time order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.recording import Int64Array
from udfs.sync.rules import Quantity, SyncRules


@attrs.frozen(eq=False)
class ChannelSamples:
    """The samples of one channel.

    Attributes:
        recorder: Recorder, or the recording where no recorder is named; the clock of `t_ns`.
        stream: camera, lidar, gnss, pose, gnss_time or a quantity.
        table: Silver table they came from.
        source: Topic, or source and name of the signal.
        t_ns: (N,) int64 recorder's clock, ascending: when it was sensed.
        rows: (N,) int64 rows of the observations.
    """

    recorder: str
    stream: str
    table: str
    source: str
    t_ns: Int64Array
    rows: Int64Array


def split_channels(
    observations: pa.Table, *, recorders: Mapping[str, str], rules: SyncRules
) -> list[ChannelSamples]:
    """Sort observations into channels.

    Args:
        observations: As `OBSERVATIONS`.
        recorders: Recorder by recording_id; recordings that are not named are left out.
        rules: `max_latency_ns`.

    Returns:
        Channels ordered by recorder, stream, table and source. Recordings of one recorder are
        segments of one channel.
    """
    known = pa.array(sorted(recorders), pa.string())
    inside = pc.is_in(observations["recording_id"], known)
    row_of = np.flatnonzero(inside.to_numpy())
    if len(row_of) == 0:
        return []
    kept = observations.filter(inside)
    names = [recorders[recording] for recording in known.to_pylist()]
    position = pc.index_in(kept["recording_id"], known)
    recorder = pc.take(pa.array(names, pa.string()), position)
    columns = [recorder, *(kept[name] for name in ("stream", "table", "source"))]
    codes, keys = _group(columns)
    log_ns = kept["log_time_ns"].to_numpy().astype(np.int64)
    stamp = kept["sensor_time_ns"]
    stamp_ns = pc.fill_null(stamp, 0).to_numpy().astype(np.int64)
    has_stamp = stamp.is_valid().to_numpy()
    channels = []
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        t_ns = _sensed_ns(log_ns[rows], stamp_ns[rows], has_stamp[rows], rules=rules)
        by_time = np.argsort(t_ns, kind="stable")
        recorder_name, stream, table, source = keys[codes[rows[0]]]
        channels.append(
            ChannelSamples(
                recorder=recorder_name,
                stream=stream,
                table=table,
                source=source,
                t_ns=t_ns[by_time],
                rows=row_of[rows[by_time]],
            )
        )
    return sorted(channels, key=lambda each: (each.recorder, each.stream, each.table, each.source))


def best_channel(
    channels: Iterable[ChannelSamples], *, quantity: Quantity | None = None, recorder: str = ""
) -> ChannelSamples | None:
    """The channel to trust: by the quantity's preferred tables, then by recorder and by samples.

    Args:
        channels: Candidates of one stream.
        quantity: Its `prefer` ranks the tables; tables that it does not name come last.
        recorder: Recorder to prefer among equals, since no second clock comes in.
    """

    def rank(each: ChannelSamples) -> tuple[int, bool, int]:
        tables: Sequence[str] = quantity.prefer if quantity else ()
        place = tables.index(each.table) if each.table in tables else len(tables)
        return place, each.recorder != recorder, -len(each.t_ns)

    return min(channels, key=rank, default=None)


def _sensed_ns(
    log_ns: Int64Array, stamp_ns: Int64Array, has_stamp: npt.NDArray[np.bool_], *, rules: SyncRules
) -> Int64Array:
    """(N,) int64 when a channel's samples were sensed, on the recorder's clock.

    The sensor's stamp counts if the sensor is on the recorder's clock, which shows in most stamps
    lying within `max_latency_ns` of the log times. A single stamp that does not takes the log time
    less the usual latency. Otherwise it is the log time.
    """
    near = has_stamp & (np.abs(log_ns - stamp_ns) <= rules.max_latency_ns)
    if 2 * np.count_nonzero(near) <= len(near):
        return log_ns
    latency = int(np.median((log_ns - stamp_ns)[near]))
    return np.where(near, stamp_ns, log_ns - latency)


def _group(columns: list[pa.ChunkedArray]) -> tuple[Int64Array, list[tuple[str, ...]]]:
    """(N,) group of each row over string columns, and each group's values."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    dictionaries = []
    for column in columns:
        encoded = pc.fill_null(pa.chunked_array(column), "").combine_chunks().dictionary_encode()
        dictionaries.append(encoded.dictionary.to_pylist())
        codes = codes * len(dictionaries[-1]) + encoded.indices.to_numpy()
    unique, inverse = np.unique(codes, return_inverse=True)
    keys = []
    for code in unique.tolist():
        key, rest = [], code
        for dictionary in reversed(dictionaries):
            rest, at = divmod(rest, len(dictionary))
            key.append(dictionary[at])
        keys.append(tuple(reversed(key)))
    return inverse.astype(np.int64), keys
