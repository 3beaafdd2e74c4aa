"""Decode of MDF 4 files side by side with asammdf: all channels, and a bus log with its DBC.

    python benchmarks/decode_mdf4.py [--write] [--repeats 7]

From file to values: drivelake gives Arrow rows of `silver.signals` with the ledger, asammdf one
array for each channel (`select`), or a table (`to_dataframe`). The bus log is made of random frames
on three buses; both sides decode all signals of its definition.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harness import Case, arguments, publish, table  # noqa: E402
from recordings import EPOCH_DATE  # noqa: E402

SAMPLES = 200_000
CHANNELS = 60
FRAMES = 1_000_000
MESSAGES = 40
GOAL_CHANNELS, GOAL_BUS = 3, 8


def main() -> None:
    """Measure every file."""
    options = arguments(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = [*channel_cases(Path(folder)), *bus_cases(Path(folder))]
        publish("decode_mdf4", table(cases, repeats=options.repeats), write=options.write)


def channel_cases(folder: Path) -> Iterator[Case]:
    """All channels of sorted, compressed and unsorted files."""
    files = [
        measured(folder / "sorted.mf4", compression=0),
        measured(folder / "deflate.mf4", compression=2),
        unsorted(folder / "unsorted.mf4"),
    ]
    for path in files:
        size = path.stat().st_size
        for name, reference in (("select", select), ("to_dataframe", to_dataframe)):
            if name == "to_dataframe" and path.stem == "unsorted":
                continue
            yield Case(
                f"{path.stem}, asammdf {name}",
                size,
                lambda path=path: decode(path),
                lambda path=path, reference=reference: reference(path),
                goal=GOAL_CHANNELS,
            )


def bus_cases(folder: Path) -> Iterator[Case]:
    """A CAN log from file to signals."""
    dbc = folder / "bus.dbc"
    dbc.write_text(definition(), encoding="utf-8")
    path = bus_log(folder / "bus.mf4")
    for what, reference, goal in (
        ("extract_bus_logging", extract, GOAL_BUS),
        ("extract_bus_logging and select", extract_values, None),
    ):
        yield Case(
            f"CAN with DBC, asammdf {what}",
            path.stat().st_size,
            lambda: decode(path, dbc=dbc.read_bytes()),
            lambda reference=reference: reference(path, dbc),
            goal=goal,
        )


def decode(path: Path, *, dbc: bytes = b"") -> int:
    """Index and decode a recording to rows; the number of samples."""
    from udfs.decode.context import DecodeContext
    from udfs.decode.recording import index_recording, iter_table_groups
    from udfs.decode.source import open_source

    definitions = {"can:*": dbc} if dbc else {}
    context = DecodeContext("0" * 64, EPOCH_DATE, definitions=definitions)
    with open_source(str(path)) as source:
        found = index_recording(source)
        groups = iter_table_groups(source, found, context=context)
        return sum(
            rows.num_rows for group in groups for name, rows in group.tables if name == "signals"
        )


def select(path: Path) -> int:
    """All channels as arrays with asammdf."""
    from asammdf import MDF

    with MDF(path) as mdf:
        return _selected(mdf)


def to_dataframe(path: Path) -> int:
    """All channels as one table with asammdf."""
    from asammdf import MDF

    with MDF(path) as mdf:
        return int(mdf.to_dataframe().size)


def extract(path: Path, dbc: Path) -> int:
    """All signals of a bus log with asammdf, as raw values with their conversions."""
    from asammdf import MDF

    with MDF(path) as mdf:
        out = mdf.extract_bus_logging({"CAN": [(str(dbc), 0)]})
        return sum(
            group.channel_group.cycles_nr * (len(group.channels) - 1) for group in out.groups
        )


def extract_values(path: Path, dbc: Path) -> int:
    """The same and then their physical values, which drivelake gives too."""
    from asammdf import MDF

    with MDF(path) as mdf:
        out = mdf.extract_bus_logging({"CAN": [(str(dbc), 0)]})
        return _selected(out)


def _selected(mdf: Any) -> int:
    wanted = [
        (None, number, index)
        for number, group in enumerate(mdf.groups)
        for index in range(len(group.channels))
        if index != mdf.masters_db.get(number)
    ]
    return sum(len(signal.samples) for signal in mdf.select(wanted))


def measured(path: Path, *, compression: int) -> Path:
    """Integers and floats with linear conversions, as a measuring tool writes them."""
    from asammdf import MDF, Signal

    random = np.random.default_rng(3)
    times = np.arange(SAMPLES) * 0.001
    walk = np.cumsum(random.normal(size=SAMPLES))
    found = []
    for number in range(CHANNELS):
        kind = ("f8", "f4", "i2", "u1", "u4", "i4")[number % 6]
        values = (walk * 10 + number * 7).astype("f8" if kind[0] == "f" else "i8").astype(kind)
        rule = {"a": 0.01, "b": -40.0} if number % 2 else None
        found.append(Signal(values, times, name=f"signal_{number}", unit="V", conversion=rule))
    with MDF(version="4.10") as mdf:
        mdf.append(found, common_timebase=True)
        mdf.save(path, overwrite=True, compression=compression)
    return path


def unsorted(path: Path) -> Path:
    """Records of four groups mixed in one data group, as a logger writes them."""
    from tests.unit.udfs.decode.mdf_files import DATA_LINK, MdfBuilder

    builder = MdfBuilder()
    groups, dtype = [], []
    for number in range(4):
        channels = [builder.time()]
        channels += [
            builder.channel(f"s{number}_{i}", data_type=2, byte=8 + 4 * i, bits=32)
            for i in range(4 + number)
        ]
        size = 8 + 4 * (4 + number)
        groups.append(
            builder.group(
                channels, cycles=SAMPLES, size=size, record_id=number + 1, name=f"g{number}"
            )
        )
        dtype += [
            (f"id{number}", "u1"),
            (f"t{number}", "<f8"),
            (f"v{number}", "<i4", (4 + number,)),
        ]
    rows = np.zeros(SAMPLES, dtype)
    for number in range(4):
        rows[f"id{number}"] = number + 1
        rows[f"t{number}"] = np.arange(SAMPLES) * 0.001
        rows[f"v{number}"] = np.arange(SAMPLES)[:, None] + np.arange(4 + number)
    data_group = builder.data_group(groups, 0, id_bytes=1)
    builder.link(data_group, DATA_LINK, builder.data(rows.tobytes()))
    path.write_bytes(builder.bytes())
    return path


def definition() -> str:
    """A DBC of messages with eight signals each."""
    lines = ['VERSION ""', "NS_ :", "BS_:", "BU_: ECU"]
    for number in range(MESSAGES):
        lines.append(f"BO_ {256 + number} Message{number}: 8 ECU")
        lines += [f' SG_ M{number}_S{i} : {8 * i}|8@1+ (0.5,-{i}) [0|0] "V" ECU' for i in range(4)]
        lines += [
            f' SG_ M{number}_S{i} : {32 + 7 + 8 * (i - 4)}|8@0- (0.25,0) [0|0] "A" ECU'
            for i in range(4, 8)
        ]
        lines.append("")
    return "\n".join(lines) + "\n"


def bus_log(path: Path) -> Path:
    """Random frames of all messages in one group with payloads in the records."""
    from tests.unit.udfs.decode.mdf_files import MdfBuilder

    builder = MdfBuilder()
    fields = {
        "BusChannel": (8, 0, 8),
        "ID": (9, 0, 29),
        "IDE": (12, 7, 1),
        "DLC": (13, 0, 4),
        "Dir": (13, 4, 1),
        "DataLength": (14, 0, 8),
    }
    parts = [
        builder.channel(f"CAN_DataFrame.{name}", byte=byte, bit=bit, bits=bits)
        for name, (byte, bit, bits) in fields.items()
    ]
    parts.append(builder.channel("CAN_DataFrame.DataBytes", data_type=10, byte=15, bits=64))
    root = builder.channel(
        "CAN_DataFrame", data_type=10, byte=8, bits=15 * 8, composition=builder.chain(parts)
    )
    group = builder.group(
        [builder.time(), root],
        cycles=FRAMES,
        size=23,
        flags=6,
        name="CAN1",
        source=builder.source("CAN1", 2),
    )
    random = np.random.default_rng(5)
    rows = np.zeros(
        FRAMES,
        [("t", "<f8"), ("bus", "u1"), ("id", "<u4"), ("dlc", "u1"), ("size", "u1"), ("data", "V8")],
    )
    rows["t"] = np.arange(FRAMES) * 0.0002
    rows["bus"] = 1
    rows["id"] = 256 + random.integers(0, MESSAGES, FRAMES)
    rows["dlc"] = rows["size"] = 8
    rows["data"] = np.frombuffer(random.bytes(8 * FRAMES), "V8")
    assert rows.dtype.itemsize == struct.calcsize("<dBIBB8s")
    builder.data_group([group], builder.data(rows.tobytes()))
    path.write_bytes(builder.bytes())
    return path


if __name__ == "__main__":
    main()
