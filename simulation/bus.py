"""The bus logger's recording: CAN frames and measured signals as an MDF 4.10 file.

Source: ASAM MDF 4.1, associated standard "Bus logging": a channel group of bus events whose
structure channel CAN_DataFrame holds BusChannel, ID, IDE, DLC, DataLength and DataBytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from contracts.recording import Int64Array
from simulation.can_bus import DBC_NAME, KM_H, dbc_text, send_frames
from simulation.motion import GRID_NS, Trajectory
from simulation.plan import DrivePlan
from simulation.road import FloatArray
from simulation.sensors import every

if TYPE_CHECKING:
    from asammdf import MDF
    from asammdf.blocks.v4_blocks import FileHistory

RECORDER = "bus"
BUS_CHANNEL = 1

_FRAME_DTYPE = np.dtype(
    [
        ("CAN_DataFrame.BusChannel", "<u1"),
        ("CAN_DataFrame.ID", "<u4"),
        ("CAN_DataFrame.IDE", "<u1"),
        ("CAN_DataFrame.DLC", "<u1"),
        ("CAN_DataFrame.DataLength", "<u1"),
        ("CAN_DataFrame.DataBytes", "(8,)u1"),
        ("CAN_DataFrame.Dir", "<u1"),
    ]
)
_GEARS = ("P", "R", "N", "1", "2", "3", "4", "5", "6")
_GEAR_UP_KM_H = (0.0, 12.0, 24.0, 38.0, 55.0, 75.0)
_RPM_PER_KM_H = (110.0, 72.0, 50.0, 38.0, 30.0, 25.0)
_IDLE_RPM = 820.0
_COMPRESSION = 2  # transposed and deflated

# ASAM MDF 4.1: flags of HDBLOCK and CGBLOCK, types of SIBLOCK.
_TIME_OFFSET_VALID = 0x02
_BUS_EVENT, _PLAIN_BUS_EVENT = 0x02, 0x04
_SOURCE_BUS, _BUS_TYPE_CAN = 2, 2


def write_bus(plan: DrivePlan, *, path: Path) -> None:
    """Write the recording of the bus logger, with the DBC as an attachment.

    Every block that asammdf would stamp with the time of writing carries the time of the drive, so
    that the same drive gives the same bytes.

    Args:
        plan: The drive.
        path: The file to write.
    """
    from asammdf import MDF  # noqa: PLC0415 (takes seconds to import)

    clock = plan.clocks[RECORDER]
    start_ns = int(clock.exact_stamp(np.array([plan.t_start_ns]))[0]) - clock.jitter_ns
    with MDF(version="4.10") as mdf:
        header = mdf.header  # the setter of its start time rounds to 256 ns
        header.abs_time = start_ns
        header.tz_offset = header.daylight_save_time = 0
        header.time_flags = _TIME_OFFSET_VALID
        header.comment = _header_comment(plan)
        _append_frames(mdf, plan, start_ns=start_ns)
        _append_signals(mdf, plan, start_ns=start_ns)
        mdf.file_history[:] = [_history(start_ns)]  # not that of the attachment, stamped now
        mdf.save(path, overwrite=True, compression=_COMPRESSION, add_history_block=False)


def _header_comment(plan: DrivePlan) -> str:
    """The file's own description."""
    return (
        "<HDcomment><TX>Bus recording of a simulated drive</TX><common_properties>"
        f'<e name="drive_id">{plan.drive_id}</e><e name="vehicle_key">{plan.vehicle_key}</e>'
        f'<e name="recorder">{RECORDER}</e><e name="software_version">logger-2.1.0</e>'
        "</common_properties></HDcomment>"
    )


def _history(t_ns: int) -> FileHistory:
    """A file history that names the writer and the time of the drive."""
    from asammdf.blocks.v4_blocks import FileHistory  # noqa: PLC0415

    history = FileHistory()
    history.abs_time = t_ns
    history.tz_offset = history.daylight_save_time = 0
    history.time_flags = _TIME_OFFSET_VALID
    history.comment = (
        "<FHcomment><TX>created</TX><tool_id>drivelake simulation</tool_id>"
        "<tool_vendor>drivelake</tool_vendor><tool_version>1</tool_version></FHcomment>"
    )
    return history


def _append_frames(mdf: MDF, plan: DrivePlan, *, start_ns: int) -> None:
    """Append the group of CAN frames."""
    from asammdf import Signal, Source  # noqa: PLC0415

    frames = send_frames(plan)
    stamps = plan.clocks[RECORDER].stamp(frames.t_ns, rng=plan.stream(RECORDER, "stamps", "can"))
    order = np.argsort(stamps, kind="stable")
    samples = np.zeros(len(order), _FRAME_DTYPE)
    samples["CAN_DataFrame.BusChannel"] = BUS_CHANNEL
    samples["CAN_DataFrame.ID"] = frames.can_id[order]
    samples["CAN_DataFrame.DLC"] = frames.length[order]
    samples["CAN_DataFrame.DataLength"] = frames.length[order]
    samples["CAN_DataFrame.DataBytes"] = frames.data[order]
    source = Source(
        name="CAN1",
        path="CAN1",
        comment="",
        source_type=_SOURCE_BUS,
        bus_type=_BUS_TYPE_CAN,
    )
    text = dbc_text().encode()
    mdf.append(
        Signal(
            samples=samples,
            timestamps=(stamps[order] - start_ns) / 1e9,
            name="CAN_DataFrame",
            source=source,
            attachment=(text, DBC_NAME, hashlib.md5(text, usedforsecurity=False).digest()),
        ),
        acq_name="CAN1",
        acq_source=source,
        comment="CAN frames of the vehicle bus",
        common_timebase=True,
    )
    group = mdf.groups[-1].channel_group
    group.flags |= _BUS_EVENT | _PLAIN_BUS_EVENT
    group.path_separator = ord(".")


def _append_signals(mdf: MDF, plan: DrivePlan, *, start_ns: int) -> None:
    """Append the groups of signals that the logger measures itself, one a rate."""
    from asammdf import Signal  # noqa: PLC0415

    for name, period_ns, make in (
        ("Engine", GRID_NS, _engine),
        ("Electrics", 10 * GRID_NS, _electrics),
        ("Climate", 100 * GRID_NS, _climate),
    ):
        t_ns = every(period_ns, t_start_ns=plan.t_start_ns, t_end_ns=plan.t_end_ns)
        seconds = _seconds(plan, t_ns, group=name, start_ns=start_ns)
        rng = plan.stream(RECORDER, name)
        columns = make(plan.ego.at(t_ns), rng)
        signals = [
            Signal(samples=samples, timestamps=seconds, name=signal, unit=unit, conversion=rule)
            for signal, (samples, unit, rule) in columns.items()
        ]
        mdf.append(signals, acq_name=name, comment=f"{name} signals", common_timebase=True)


def _seconds(plan: DrivePlan, t_ns: Int64Array, *, group: str, start_ns: int) -> FloatArray:
    """Stamps of a group as MDF keeps them: seconds after the start of the file, ascending."""
    rng = plan.stream(RECORDER, "stamps", group)
    return (plan.clocks[RECORDER].stamp(t_ns, rng=rng) - start_ns) / 1e9


Columns = Mapping[str, tuple[np.ndarray, str, dict[str, object] | None]]


def _engine(ego: Trajectory, rng: np.random.Generator) -> Columns:
    """Engine speed, and the gear as a number with a text table."""
    speed = KM_H * ego.speed_m_s
    gear = np.clip(np.searchsorted(_GEAR_UP_KM_H, speed, side="right") - 1, 0, 5)
    rpm = np.maximum(speed * np.array(_RPM_PER_KM_H)[gear], _IDLE_RPM)
    rpm = (rpm + rng.normal(0, 6.0, len(rpm))).astype(np.float32)
    texts: dict[str, object] = {"default": b""}
    for number, text in enumerate(_GEARS):
        texts |= {f"val_{number}": number, f"text_{number}": text.encode()}
    return {
        "EngineSpeed": (rpm, "1/min", None),
        "GearText": ((gear + 3).astype(np.uint8), "", texts),
    }


def _electrics(ego: Trajectory, rng: np.random.Generator) -> Columns:
    """Battery voltage as a raw number of 0.02 V."""
    volts = 13.9 + rng.normal(0, 0.05, len(ego.t_ns)) - 0.15 * (ego.speed_m_s < 0.1)
    raw = np.rint(volts / 0.02).astype(np.uint16)
    return {"BatteryVoltage": (raw, "V", {"a": 0.02, "b": 0.0})}


def _climate(ego: Trajectory, rng: np.random.Generator) -> Columns:
    """Ambient temperature."""
    celsius = 8.0 + np.cumsum(rng.normal(0, 0.02, len(ego.t_ns)))
    return {"AmbientTemperature": (celsius.astype(np.float64), "degC", None)}
