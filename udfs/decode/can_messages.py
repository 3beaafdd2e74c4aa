"""CAN frames that were recorded as messages of ROS: the same rows as of a bus logger.

Source: can_msgs/Frame as socketcan_bridge and ros2_socketcan fill it in;
ros2_socketcan_msgs/FdFrame
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from contracts.recording import Int64Array
from udfs.decode.can_log_part import MAX_CLASSIC_BYTES, code_of_length
from udfs.encodings.can import MAX_DATA_BYTES
from udfs.encodings.can_columns import PackedFrames, Payloads, pack_frames

_UNKNOWN = -1


def frames_of(
    rows: Mapping[str, pa.Array], *, sequence: Int64Array, log_time_ns: Int64Array
) -> PackedFrames:
    """The frames of N messages.

    A message names no bus and no direction. As in a log, an error frame has no id, and a remote
    frame no payload, whatever the message has room for.

    Args:
        rows: Columns `can_id`, `is_extended`, `is_remote`, `is_error`, `is_fd`, `dlc`, which is
            the number of bytes of an FD frame, and `data`; each of N, none null.
        sequence: (N,) int64.
        log_time_ns: (N,) int64.
    """
    flags = {
        name: rows[f"is_{name}"].to_numpy(zero_copy_only=False)
        for name in ("extended", "remote", "error", "fd")
    }
    code = rows["dlc"].to_numpy().astype(np.int64)
    data = rows["data"]
    _, offsets, octets = data.buffers()
    ends = np.frombuffer(offsets, np.int32, len(data) + 1, 4 * data.offset).astype(np.int64)
    arena = np.frombuffer(octets or b"", np.uint8)
    stated = np.minimum(code, np.where(flags["fd"], MAX_DATA_BYTES, MAX_CLASSIC_BYTES))
    lengths = np.where(flags["remote"], 0, np.minimum(np.diff(ends), stated))
    return pack_frames(
        {
            "id": np.where(flags["error"], _UNKNOWN, rows["can_id"].to_numpy()),
            "extended": flags["extended"] & ~flags["error"],
            "fd": flags["fd"],
            "remote": flags["remote"],
            "error": flags["error"],
            "dlc": np.where(flags["fd"], code_of_length(code), code),
            "sent": _UNKNOWN,
            "bus": _UNKNOWN,
        },
        Payloads(arena, ends[:-1], lengths),
        log_time_ns=log_time_ns,
        sequence=sequence,
    )
