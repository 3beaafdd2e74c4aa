from __future__ import annotations

import contextlib
import json
import struct

import attrs
import numpy as np
import pyarrow as pa
import pytest

from contracts.errors import DecodeError, PlatformError
from tests.unit.udfs.decode.mdf_files import (
    DATA_LINK,
    HD_ADDRESS,
    START_NS,
    MdfBuilder,
    numbered_records,
    plain_file,
)
from tests.unit.udfs.decode.recordings import CONTEXT, account_of
from udfs.decode.recording import index_recording, table_of_channel
from udfs.decode.source import BytesSource, open_source

SAMPLES = {
    "css_can_finalised_split/00000001-60FE3F04.MF4": 65296,
    "css_can_finalised_split/00000002-60FE415D.MF4": 73785,
    "css_can_finalised_split/00000003-60FE43B2.MF4": 73765,
    "css_can_finalised_split/00000004-60FEB585.MF4": 73774,
    "css_can_finalised_split/00000005-60FEB5A8.MF4": 5477,
    "css_can_unfinalised/00000001.MF4": 5588,
    "css_can_unfinalised/00000002.MF4": 9600,
    "gomdf/Discrete_deflate.mf4": 124,
    "gomdf/sample2.mf4": 20,
    "gomdf/sample3.mf4": 3,
    "mdf4-rs/29-bit-obd2.MF4": 30,
    "mdf4j/primitives.mf4": 3,
    "mf4_rust/string_and_array.mf4": 100,
    "peak/all_datatypes_test.mf4": 8,
    "peak/simple.mf4": 563,
}
NUMBER_TYPES = (
    "u1",
    "u2",
    "u4",
    "u8",
    "i1",
    "i2",
    "i4",
    "i8",
    "f2",
    "f4",
    "f8",
    ">u2",
    ">i4",
    ">f8",
)
MEASURED = [name for name in SAMPLES if "css" not in name and "obd2" not in name]
FRAME_FILES = [
    "css_can_finalised_split/00000005-60FEB5A8.MF4",
    "css_can_unfinalised/00000001.MF4",
    "css_can_unfinalised/00000002.MF4",
    "mdf4-rs/29-bit-obd2.MF4",
]


def sample(samples, name: str) -> bytes:
    return (samples / "mdf" / name).read_bytes()


def signals(account, name: str) -> list[dict]:
    """Rows of a signal in order of its records."""
    rows = account.tables["signals"].to_pylist()
    return sorted((row for row in rows if row["signal"] == name), key=lambda row: row["sequence"])


def numbers(account, name: str = "number") -> list[float]:
    return [row["value"] for row in signals(account, name)]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_real_file_gives_the_records_of_the_manifest(samples, name):
    """Every record of a real file is a message, written or bad; all its bytes have a fate."""
    account = account_of(sample(samples, name))
    declared = sum(entry.messages_declared for entry in account.ledger)
    written = sum(entry.messages_written for entry in account.ledger)
    assert declared == SAMPLES[name]
    assert written + len(account.bad) == SAMPLES[name]
    assert account.lost == 0


def same_number(own: float | None, other: object, kind: np.dtype) -> bool:
    if own is None:
        return False
    if kind == np.float32:
        return bool(np.isclose(own, float(other), rtol=2e-7, equal_nan=True))
    return bool(np.isclose(own, float(other), rtol=1e-15, atol=0, equal_nan=True))


def assert_equals_asammdf(data: bytes, tmp_path, *, at_least: int) -> None:
    """All signals, times, texts and invalid samples are those that asammdf reads."""
    from asammdf import MDF

    account = account_of(data)
    rows: dict[tuple[int, str], list[dict]] = {}
    for row in account.tables["signals"].to_pylist():
        rows.setdefault((row["channel_id"], row["signal"]), []).append(row)
    path = tmp_path / "some.mf4"
    path.write_bytes(data)
    compared = 0
    with MDF(path) as mdf:
        for number, group in enumerate(mdf.groups):
            for index, channel in enumerate(group.channels):
                if index == mdf.masters_db.get(number):
                    continue
                signal = mdf.get(group=number, index=index, ignore_invalidation_bits=True)
                for name, values in columns_of(channel.name, signal.samples).items():
                    found = rows.get((number, name))
                    if found is None:
                        assert values.dtype.kind == "c", name
                        continue
                    assert len(found) == len(values), name
                    times = int(mdf.header.abs_time) + np.rint(signal.timestamps * 1e9).astype(
                        np.int64
                    )
                    assert [row["log_time_ns"] for row in found] == times.tolist()
                    invalid = signal.invalidation_bits
                    for i, (row, value) in enumerate(zip(found, values, strict=True)):
                        if invalid is not None and invalid[i]:
                            assert (row["value"], row["text"], row["raw_value"]) == (None,) * 3
                        else:
                            assert_same_sample(row, value, values.dtype, name)
                        compared += 1
    assert compared >= at_least


def columns_of(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if values.dtype.names:
        if values.dtype.names[0] != name:
            return {}
        values = values[values.dtype.names[0]]
    if values.ndim == 1 or name == "bytes8":
        return {name: values}
    return {
        name + "".join(f"[{i}]" for i in place): values[(slice(None), *place)]
        for place in np.ndindex(values.shape[1:])
    }


def assert_same_sample(row: dict, value: object, kind: np.dtype, name: str) -> None:
    if isinstance(value, bytes | np.bytes_):
        assert row["text"] == value.decode("utf-8"), name
    elif isinstance(value, str):
        assert row["text"] == value, name
    elif isinstance(value, np.ndarray):
        assert row["text"] == value.astype(np.uint8).tobytes().hex(), name
    elif kind.kind == "V":
        assert row["text"] == bytes(value).hex(), name
    else:
        assert same_number(row["value"], value, kind), (name, row, value)


@pytest.mark.parametrize("name", [name for name in MEASURED if name != "peak/simple.mf4"])
def test_signals_of_a_real_file_equal_asammdf(samples, tmp_path, name):
    """Values, texts and times of measured signals are those that asammdf reads."""
    assert_equals_asammdf(sample(samples, name), tmp_path, at_least=3)


def test_times_that_no_64_bits_hold_are_bad_messages(samples):
    """Fault 19: the 140 records of a real file whose times run to the year 2340 are set aside."""
    account = account_of(sample(samples, "peak/simple.mf4"))
    assert len(account.bad) == 140
    assert {one.error_class for one in account.bad} == {"TIME_OUT_OF_RANGE"}


def make_every_kind(folder, version: str, compression: int) -> bytes:
    """All number types and conversions, as asammdf writes them."""
    from asammdf import MDF, Signal

    random = np.random.default_rng(1)
    count = 300
    times = np.arange(count) * 0.01
    found = []
    for code in NUMBER_TYPES:
        kind = np.dtype(code)
        if kind.kind == "f":
            values = random.normal(0, 1e3, count).astype(kind)
        else:
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
            plain = kind.newbyteorder("=")
            values = random.integers(low, high, count, dtype=plain, endpoint=True).astype(kind)
        found.append(Signal(values, times, name=f"s_{kind.name}_{kind.byteorder}", unit="V"))
    raw = random.integers(0, 8, count).astype("u1")
    texts = {"val_0": 0, "text_0": b"zero", "val_1": 3, "text_1": b"three", "default_addr": b"none"}
    ranges = {"lower_0": 0, "upper_0": 3, "text_0": b"low", "lower_1": 4, "upper_1": 6}
    table = {"raw_0": 0.0, "phys_0": 1.0, "raw_1": 5.0, "phys_1": 100.0}
    for name, rule in {
        "linear": {"a": 0.5, "b": -3.0},
        "rational": dict(
            zip(("P1", "P2", "P3", "P4", "P5", "P6"), (1.0, 2, 3, 0, 1, 4), strict=True)
        ),
        "formula": {"formula": "X*X+sqrt(X)-1"},
        "interpolated": {**table, "interpolation": True},
        "nearest": {**table, "interpolation": False},
        "value_to_text": texts,
        "range_to_text": {**ranges, "text_1": b"middle", "default_addr": b"high"},
    }.items():
        found.append(Signal(raw, times, name=name, conversion=rule))
    words = np.array([b"alpha", b"be", b"gamma gamma", b""], "S12")
    found.append(Signal(words[random.integers(0, 4, count)], times, name="words", encoding="utf-8"))
    found.append(Signal(random.integers(0, 255, (count, 8)).astype("u1"), times, name="bytes8"))
    invalid = random.integers(0, 2, count).astype(bool)
    found.append(Signal(random.normal(0, 1, count), times, name="gaps", invalidation_bits=invalid))
    path = folder / f"{version}_{compression}.mf4"
    with MDF(version=version) as mdf:
        mdf.append(found, acq_name="first", common_timebase=True)
        mdf.append(
            [Signal(random.normal(0, 1, 50), times[:50] * 2, name="other")], acq_name="second"
        )
        mdf.save(path, overwrite=True, compression=compression)
    return path.read_bytes()


@pytest.mark.parametrize(("version", "compression"), [("4.10", 0), ("4.10", 1), ("4.20", 2)])
def test_every_kind_of_signal_equals_asammdf(tmp_path, version, compression):
    """All number types, conversions, strings and invalid samples, plain and compressed."""
    data = make_every_kind(tmp_path, version, compression)
    assert_equals_asammdf(data, tmp_path, at_least=24 * 300 + 50)


def test_integers_beyond_doubles_keep_their_digits(tmp_path):
    """An integer that a double can't hold has its digits as text: nothing is rounded away."""
    account = account_of(make_every_kind(tmp_path, "4.10", 0))
    rows = signals(account, "s_uint64_=")
    assert all(row["text"] for row in rows if row["value"] > 2**53)
    assert all(float(int(row["text"])) == row["value"] for row in rows if row["text"])


def test_a_range_table_gives_its_default_behind_the_last_range():
    """Range to value: a raw value in no range has the default, or no value where there is none."""
    for values, wanted in (
        ([0.0, 3, 10, 5, 6, 20, -1], [10, 10, -1, 20, -1]),
        ([0.0, 3, 10, 5, 6, 20], [10, 10, None, 20, None]),
    ):
        builder = MdfBuilder()
        rule = builder.block(
            "CC",
            [0, 0, 0, 0],
            struct.pack("<BBHHHdd", 6, 0, 0, 0, len(values), 0, 0)
            + struct.pack(f"<{len(values)}d", *values),
        )
        channels = [builder.time(), builder.channel("number", byte=8, conversion=rule)]
        rows = [struct.pack("<dB", i / 10, raw) for i, raw in enumerate((0, 3, 4, 5, 9))]
        group = builder.group(channels, cycles=5, size=9)
        builder.data_group([group], builder.data(b"".join(rows)))
        account = account_of(builder.bytes())
        assert numbers(account) == wanted
        assert [row["raw_value"] for row in signals(account, "number")] == [0, 3, 4, 5, 9]


def frame_rows(account) -> list[dict]:
    rows = account.tables["can_frames"].to_pylist()
    return sorted(rows, key=lambda row: (row["channel_id"], row["sequence"]))


@pytest.mark.parametrize("name", FRAME_FILES)
def test_frames_of_a_real_bus_log_equal_asammdf(samples, name):
    """Ids, flags, lengths, payloads, buses and times of all frames are those of asammdf."""
    from asammdf import MDF

    own = frame_rows(account_of(sample(samples, name)))
    other = []
    with MDF(samples / "mdf" / name) as mdf:
        for number, group in enumerate(mdf.groups):
            names = {channel.name for channel in group.channels}
            if "CAN_DataFrame.ID" not in names or not group.channel_group.cycles_nr:
                continue
            frame = "CAN_DataFrame."
            fields = {
                field: mdf.get(frame + field, group=number).samples
                for field in ("ID", "IDE", "BusChannel", "DataLength", "DataBytes", "DLC", "Dir")
            }
            start = int(mdf.header.abs_time)
            times = mdf.get(f"{frame}ID", group=number).timestamps
            for i, time in enumerate(times.tolist()):
                length = int(fields["DataLength"][i])
                other.append(
                    {
                        "log_time_ns": start + round(time * 1e9),
                        "can_id": int(fields["ID"][i]) & 0x1FFFFFFF,
                        "is_extended": bool(fields["IDE"][i]),
                        "bus": int(fields["BusChannel"][i]),
                        "dlc": int(fields["DLC"][i]),
                        "data": bytes(fields["DataBytes"][i][:length]),
                        "direction": "Tx" if fields["Dir"][i] else "Rx",
                    }
                )
    assert len(own) == SAMPLES[name]
    keys = list(other[0])
    order = lambda row: (row["log_time_ns"], row["can_id"], row["data"])  # noqa: E731
    mine = sorted(({key: row[key] for key in keys} for row in own), key=order)
    assert mine == sorted(other, key=order)


def test_bus_signals_of_a_real_log_equal_asammdf(samples, tmp_path):
    """With a DBC, every signal of the log has the samples that asammdf extracts."""
    from asammdf import MDF

    name = "css_can_finalised_split/00000005-60FEB5A8.MF4"
    dbc = samples / "mdf/css_dbc/canmod-gps.dbc"
    context = attrs.evolve(CONTEXT, definitions={"can:*": dbc.read_bytes()})
    account = account_of(sample(samples, name), context=context)
    own: dict[str, list[tuple[int, float]]] = {}
    for row in account.tables["signals"].to_pylist():
        value = row["raw_value"] if row["value"] is None else row["value"]
        own.setdefault(row["signal"], []).append((row["log_time_ns"], value))
    compared = 0
    with MDF(samples / "mdf" / name) as mdf:
        extracted = mdf.extract_bus_logging({"CAN": [(str(dbc), 0)]})
        start = int(mdf.header.abs_time)
        for number, group in enumerate(extracted.groups):
            for index, channel in enumerate(group.channels):
                if index == extracted.masters_db.get(number):
                    continue
                (signal,) = extracted.select(
                    [(None, number, index)], ignore_value2text_conversions=True
                )
                rows = own[channel.name.rsplit(".", 1)[-1]]
                assert len(rows) == len(signal.samples)
                times = start + np.rint(signal.timestamps * 1e9).astype(np.int64)
                assert [time for time, _ in rows] == times.tolist()
                np.testing.assert_allclose([v for _, v in rows], signal.samples, rtol=1e-12)
                compared += len(rows)
    assert compared == sum(len(rows) for rows in own.values()) > 30000
    assert {row["definition_hash"] for row in account.tables["signals"].to_pylist()} != {None}


def test_frames_that_no_definition_knows_are_kept_and_named(samples):
    """Frames of unknown ids stay in can_frames; the ledger names their ids and counts."""
    dbc = (samples / "mdf/css_dbc/canmod-gps.dbc").read_bytes()
    context = attrs.evolve(CONTEXT, definitions={"can:*": dbc})
    account = account_of(
        sample(samples, "css_can_finalised_split/00000005-60FEB5A8.MF4"), context=context
    )
    assert account.tables["can_frames"].num_rows == 5477
    (entry,) = (entry for entry in account.ledger if entry.reason_code == "NO_DEFINITION")
    assert "0x7e8: 541" in entry.detail
    assert "0x17f00010: 90" in entry.detail


# What no writer at hand makes: mixed records, variable lengths, columns, remote times


def mixed_file(
    count: int = 300, *, cycles: bool = True, tail: bytes = b"", shortest: int = 0, flags: int = 0
) -> bytes:
    """Two groups and a VLSD group whose records stand mixed in one data group."""
    builder = MdfBuilder(unfinalised_flags=flags)
    words = [f"word {i}".encode() * (i % 3 + shortest) for i in range(count)]
    total = sum(len(word) + 4 for word in words)
    values = builder.group([], cycles=count * cycles, size=total, record_id=3, flags=1)
    fast = builder.group(
        [
            builder.time(),
            builder.channel("number", data_type=2, byte=8, bits=32),
            builder.channel("words", kind=1, data_type=7, byte=12, bits=64, data_link=values),
        ],
        cycles=count * cycles,
        size=20,
        record_id=1,
        name="fast",
    )
    slow = builder.group(
        [builder.time(), builder.channel("slow", data_type=0, byte=8, bits=16)],
        cycles=count // 10 * cycles,
        size=10,
        record_id=2,
        name="slow",
    )
    content, offset = [], 0
    for i, word in enumerate(words):
        content.append(b"\x01" + numbered_records(1, start=i)[0] + struct.pack("<Q", offset))
        content.append(b"\x03" + struct.pack("<I", len(word)) + word)
        offset += 4 + len(word)
        if i % 10 == 0:
            content.append(b"\x02" + struct.pack("<dH", i / 100, i))
    data_group = builder.data_group([values, fast, slow], 0, id_bytes=1)
    builder.link(data_group, DATA_LINK, builder.data(b"".join(content) + tail))
    return builder.bytes()


def test_mixed_records_equal_sorted_ones():
    """Fault 31: unsorted groups with variable-length values give the rows of sorted ones."""
    account = account_of(mixed_file())
    plain = account_of(plain_file(count=300))
    wanted = [(row["log_time_ns"], row["value"]) for row in signals(plain, "number")]
    assert [(row["log_time_ns"], row["value"]) for row in signals(account, "number")] == wanted
    assert [row["text"] for row in signals(account, "words")] == [
        f"word {i}" * (i % 3) for i in range(300)
    ]
    assert numbers(account, "slow") == list(range(0, 300, 10))
    assert account.codes == set()
    assert len(account.index.channels) == 2


def test_mixed_records_equal_asammdf(tmp_path):
    """A second reader agrees on unsorted groups."""
    assert_equals_asammdf_by_name(mixed_file(shortest=1), tmp_path)


def assert_equals_asammdf_by_name(data: bytes, tmp_path) -> None:
    """As `assert_equals_asammdf`, for files where asammdf numbers groups otherwise."""
    from asammdf import MDF

    account = account_of(data)
    path = tmp_path / "mixed.mf4"
    path.write_bytes(data)
    with MDF(path) as mdf:
        for name in ("number", "slow"):
            np.testing.assert_array_equal(mdf.get(name).samples, numbers(account, name))
        words = [value.decode() for value in mdf.get("words").samples.tolist()]
        assert words == [row["text"] for row in signals(account, "words")]


def test_an_unfinalised_file_is_finalised_by_us():
    """Fault 26: counts and the length of the last block that the writer never set are found."""
    data = bytearray(mixed_file(cycles=False, flags=0x25))
    at = data.index(b"##DT")
    struct.pack_into("<Q", data, at + 8, 24)
    account = account_of(bytes(data))
    assert numbers(account) == list(range(1000, 1300))
    assert account.codes == {"FINALISED_BY_US"}
    assert not any(finding.loses for finding in account.index.findings)
    assert account.index.messages_declared is None


@pytest.mark.parametrize("blocks", [2, 4])
def test_an_unfinalised_list_of_blocks_is_read_to_its_end(blocks):
    """Fault 27: two blocks in the list and maybe more behind it: all records are found, no hang."""
    builder = MdfBuilder(unfinalised_flags=0x15)
    channels = [builder.time(), builder.channel("number", data_type=2, byte=8, bits=32)]
    group = builder.group(channels, cycles=0, size=12)
    listed = builder.data_list([0, 0])
    builder.data_group([group], listed)
    records = numbered_records(100 * blocks)
    for number in range(blocks):
        block = builder.data(b"".join(records[number * 100 : number * 100 + 100]))
        if number < 2:
            builder.link(listed, 1 + number, block)
    account = account_of(builder.bytes())
    assert numbers(account) == list(range(1000, 1000 + 100 * blocks))
    assert account.codes == {"FINALISED_BY_US"}


def test_unlisted_blocks_that_may_be_anyones_are_refused():
    """Fault 27: unlisted data blocks with several groups of data: whose they are is not known."""
    builder = MdfBuilder(unfinalised_flags=0x15)
    lists = []
    for name in ("one", "two"):
        group = builder.group([builder.time()], cycles=0, size=8, name=name)
        lists.append(builder.data_list([0]))
        builder.data_group([group], lists[-1])
    for number in range(4):
        block = builder.data(struct.pack("<10d", *range(10)))
        if number < 2:
            builder.link(lists[number], 1, block)
    with pytest.raises(DecodeError) as error:
        index_recording(BytesSource(builder.bytes()))
    assert error.value.code == "MDF_UNFINALISED_CHAIN"


def test_zeros_behind_the_last_record_are_no_records():
    """Space that a logger reserved and never wrote to gives no rows and no finding."""
    account = account_of(mixed_file(tail=bytes(100)))
    assert numbers(account) == list(range(1000, 1300))
    assert account.codes == set()


def test_an_unknown_record_id_is_damage():
    """What stands behind a record of no group is not read, and that it is lost is said."""
    account = account_of(mixed_file(tail=b"\x63" + bytes(50)))
    assert numbers(account) == list(range(1000, 1300))
    assert "RECORDS_DAMAGED" in account.codes


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_records_may_straddle_data_blocks(blocks):
    """A record that is cut between two blocks of a list is whole again."""
    account = account_of(plain_file(blocks=blocks))
    assert numbers(account) == list(range(1000, 1200))
    assert account.codes == set()
    assert (account.index.start_ns, account.index.end_ns) == (START_NS, START_NS + 1_990_000_000)


def zipped_file(*, count: int = 3000, blocks: int = 6) -> bytes:
    builder = MdfBuilder()
    channels = [builder.time(), builder.channel("number", data_type=2, byte=8, bits=32)]
    group = builder.group(channels, cycles=count, size=12)
    content = b"".join(numbered_records(count))
    step = len(content) // blocks
    parts = [content[i : i + step] for i in range(0, len(content), step)]
    packed = [builder.zipped(part, columns=12 * (i % 2)) for i, part in enumerate(parts)]
    builder.data_group([group], builder.data_list(packed))
    return builder.bytes()


def test_compressed_blocks_decode_transposed_or_not():
    """DZ blocks with and without transposition give the records."""
    assert numbers(account_of(zipped_file())) == list(range(1000, 4000))


@pytest.mark.parametrize("block", [0, 1, 2, 5])
def test_a_damaged_block_costs_its_records_and_is_never_zeros(block):
    """Fault 6: records of a block that won't inflate are counted lost; the others stay right."""
    data = bytearray(zipped_file())
    places = [i for i in range(len(data)) if data[i : i + 4] == b"##DZ"]
    at = places[block] + 24 + 24 + 30
    data[at : at + 8] = bytes(byte ^ 0x55 for byte in data[at : at + 8])
    account = account_of(bytes(data))
    found = signals(account, "number")
    assert 2500 <= len(found) < 3000
    assert all(row["value"] == 1000 + row["sequence"] for row in found)
    assert all(row["log_time_ns"] == START_NS + row["sequence"] * 10_000_000 for row in found)
    assert account.lost == 3000 - len(found)


@pytest.mark.parametrize("kind", ["DG", "CG", "CN", "DL", "CN composition"])
def test_a_cycle_is_found_at_its_address(kind):
    """Fault 25: five kinds of link cycles end at once with MDF_CYCLE and the address."""
    builder = MdfBuilder()
    channels = [builder.time(), builder.channel("number", data_type=2, byte=8, bits=32)]
    group = builder.group(channels, cycles=10, size=12)
    listed = builder.data_list([builder.data(b"".join(numbered_records(10)))])
    data_group = builder.data_group([group], listed)
    address = {"DG": data_group, "CG": group, "CN": channels[1], "DL": listed}.get(
        kind, channels[1]
    )
    builder.link(address, 1 if kind == "CN composition" else 0, address)
    with pytest.raises(DecodeError) as error:
        index_recording(BytesSource(builder.bytes()))
    assert (error.value.code, error.value.offset) == ("MDF_CYCLE", address)


def test_a_conversion_that_refers_to_itself_is_a_cycle():
    """Fault 25: nested conversions are followed with a limit too."""
    builder = MdfBuilder()
    rule = builder.block("CC", [0] * 5, struct.pack("<BBHHHddd", 7, 0, 0, 1, 1, 0, 0, 0))
    builder.link(rule, 4, rule)
    channels = [builder.time(), builder.channel("number", byte=8, conversion=rule)]
    builder.data_group([builder.group(channels, cycles=0, size=9)], 0)
    with pytest.raises(DecodeError, match="MDF_CYCLE"):
        index_recording(BytesSource(builder.bytes()))


def test_a_missing_data_block_is_a_counted_loss():
    """Fault 30: a null data link with declared records is DATA_MISSING, not an empty result."""
    account = account_of(plain_file(cycles=200, blocks=0))
    assert account.codes == {"DATA_MISSING"}
    assert account.lost == 200
    assert account.index.findings[0].lost_messages == 200


def test_a_count_larger_than_the_data_is_said():
    """Fault 29: the records that are there are kept, what the count claims beyond is reported."""
    account = account_of(plain_file(cycles=1 << 40))
    assert numbers(account) == list(range(1000, 1200))
    assert account.codes == {"COUNT_MISMATCH"}
    assert account.lost == (1 << 40) - 200


def test_a_count_smaller_than_the_data_is_believed_and_said():
    """Space behind the declared records is not read as records, and the file's flag says so."""
    account = account_of(plain_file(cycles=150))
    assert numbers(account) == list(range(1000, 1150))
    assert account.codes == {"COUNT_MISMATCH"}
    assert not any(finding.loses for finding in account.index.findings)


def test_a_file_cut_in_its_data_keeps_the_records_before():
    """Fault 28: with the metadata in front, the records before the cut are kept and counted."""
    data = plain_file()
    account = account_of(data[: data.index(b"##DT") + 24 + 12 * 80 + 5])
    assert numbers(account) == list(range(1000, 1080))
    assert "MDF_TRUNCATED" in account.codes
    assert account.lost == 120


def test_a_file_cut_before_its_metadata_is_refused(tmp_path):
    """Fault 28: with the metadata behind the cut, the reason says what is present."""
    data = make_every_kind(tmp_path, "4.10", 0)
    with pytest.raises(DecodeError) as error:
        index_recording(BytesSource(data[: len(data) // 2]))
    assert error.value.code == "MDF_TRUNCATED"
    assert f"{len(data) // 2} bytes are present" in error.value.what


def test_a_data_group_that_does_not_read_leaves_the_others():
    """A block that is no block costs its data group, not the file."""
    builder = MdfBuilder()
    for name in ("one", "two"):
        channels = [builder.time(), builder.channel(name, data_type=2, byte=8, bits=32)]
        group = builder.group(channels, cycles=10, size=12)
        builder.data_group([group], builder.data(b"".join(numbered_records(10))))
        if name == "one":
            builder.out[channels[1] : channels[1] + 4] = b"####"
    account = account_of(builder.bytes())
    assert numbers(account, "two") == list(range(1000, 1010))
    assert "MDF_BAD_BLOCK" in account.codes
    assert any(f.loses and f.lost_messages is None for f in account.index.findings)


def test_values_with_a_length_of_their_own_decode():
    """MLSD: a fixed field of which another channel says how much holds."""
    builder = MdfBuilder()
    size = builder.channel("size", byte=8)
    words = builder.channel("words", kind=5, data_type=7, byte=9, bits=64, data_link=size)
    group = builder.group([builder.time(), size, words], cycles=3, size=17)
    rows = [struct.pack("<dB8s", i, n, b"abcdefgh") for i, n in enumerate((0, 3, 8))]
    builder.data_group([group], builder.data(b"".join(rows)))
    assert [r["text"] for r in signals(account_of(builder.bytes()), "words")] == [
        "",
        "abc",
        "abcdefgh",
    ]


def test_columns_with_invalidation_blocks_and_a_remote_master_decode():
    """MDF 4.2: DV and DI blocks of an LD list, and times that another group holds."""
    builder = MdfBuilder()
    times = builder.group([builder.time()], cycles=20, size=8, name="times")
    builder.data_group([times], builder.data(struct.pack("<20d", *[i / 10 for i in range(20)])))
    channel = builder.channel("number", data_type=2, bits=32, flags=2, invalid_bit=1)
    group = builder.group([channel], cycles=20, size=4, invalid=1, flags=8, master=times)
    values = builder.data(struct.pack("<20i", *range(20)), "DV")
    bits = builder.data(bytes(2 * (i % 5 == 0) for i in range(20)), "DI")
    head = struct.pack("<IIQ", 1 | 1 << 31, 1, 20)
    listed = builder.block("LD", [0, values, bits], head)
    builder.data_group([group], listed)
    rows = signals(account_of(builder.bytes()), "number")
    assert [row["value"] for row in rows] == [None if i % 5 == 0 else i for i in range(20)]
    assert [row["log_time_ns"] - START_NS for row in rows] == [i * 100_000_000 for i in range(20)]


def test_names_of_attachments_are_escaped_and_never_paths():
    """Fault 23: a name with dots, slashes and control characters is shown escaped only."""
    builder = MdfBuilder()
    builder.attachment(b"hello", "../../etc/passwd\n\x1b", packed=True)
    channels = [builder.time(), builder.channel("number", data_type=2, byte=8, bits=32)]
    builder.data_group([builder.group(channels, cycles=0, size=12)], 0)
    (attachment,) = index_recording(BytesSource(builder.bytes())).attachments
    assert attachment.name == "../../etc/passwd\\n\\x1b"


DBC = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 256 Motion: 8 ECU
 SG_ Speed : 0|16@1+ (0.01,0) [0|655.35] "km/h" ECU
 SG_ Gear : 16|4@1+ (1,0) [0|15] "" ECU
BO_ 512 Wide: 64 ECU
 SG_ Last : 504|8@1+ (1,0) [0|255] "" ECU
VAL_ 256 Gear 1 "first" 2 "second" ;
"""


def bus_file(*, prefix: str = "CAN_DataFrame", attached: bytes = b"", frames=None, bus: int = 2):
    """A bus logging group with fields at fixed places and variable-length payloads."""
    builder = MdfBuilder()
    fields = {
        "BusChannel": (8, 0, 8),
        "ID": (9, 0, 32),
        "IDE": (13, 0, 1),
        "EDL": (13, 1, 1),
        "Dir": (13, 2, 1),
        "DLC": (14, 0, 4),
        "DataLength": (15, 0, 8),
    }
    parts = [
        builder.channel(f"{prefix}.{name}", byte=byte, bit=bit, bits=bits)
        for name, (byte, bit, bits) in fields.items()
    ]
    store, content = b"", []
    for i, (can_id, extended, fd, data) in enumerate(frames):
        flags = extended | fd << 1 | (i % 2) << 2
        dlc = len(data) if len(data) <= 8 else 15
        content.append(
            struct.pack("<dBIBBBQ", i / 100, bus, can_id, flags, dlc, len(data), len(store))
        )
        store += struct.pack("<I", len(data)) + data
    parts.append(
        builder.channel(
            f"{prefix}.DataBytes",
            kind=1,
            data_type=10,
            byte=16,
            bits=64,
            data_link=builder.data(store, "SD"),
        )
    )
    root = builder.channel(prefix, data_type=10, byte=8, bits=128, composition=builder.chain(parts))
    group = builder.group(
        [builder.time(), root],
        cycles=len(content),
        size=24,
        flags=2,
        name="CAN2",
        source=builder.source("CAN2", 2),
    )
    builder.data_group([group], builder.data(b"".join(content)))
    if attached:
        builder.attachment(attached, "vehicle.dbc", packed=True)
    return builder.bytes()


FRAMES = [
    (256, 0, 0, struct.pack("<HB5x", 1234, 1)),
    (256, 0, 0, struct.pack("<HB5x", 5000, 9)),
    (512, 0, 1, bytes(63) + b"\x2a"),
    (256, 1, 0, bytes(8)),
    (256, 0, 0, b"\x10"),
]


def test_frames_decode_with_the_definition_in_the_file():
    """A DBC among the attachments, known by its content, decodes the frames; CAN FD included."""
    account = account_of(bus_file(attached=DBC.encode(), frames=FRAMES))
    rows = frame_rows(account)
    assert [row["data"] for row in rows] == [data for *_, data in FRAMES]
    assert [(row["is_fd"], row["is_extended"]) for row in rows] == [
        (False, False),
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert [row["direction"] for row in rows] == ["Rx", "Tx", "Rx", "Tx", "Rx"]
    assert {row["bus"] for row in rows} == {2}
    speed = signals(account, "Speed")
    assert [row["value"] for row in speed] == pytest.approx([12.34, 50.0])
    assert {(row["source"], row["unit"]) for row in speed} == {("Motion", "km/h")}
    assert [(row["value"], row["text"], row["raw_value"]) for row in signals(account, "Gear")] == [
        (None, "first", 1),
        (9, None, 9),
    ]
    assert [row["value"] for row in signals(account, "Last")] == [0x2A]
    (entry,) = (entry for entry in account.ledger if entry.reason_code == "NO_DEFINITION")
    assert "0x100: 1" in entry.detail
    assert "Motion: 1" in entry.detail


@pytest.mark.parametrize(
    ("definitions", "is_decoded"),
    [({"can:2": DBC}, True), ({"can:*": DBC}, True), ({"can:1": DBC}, False), ({}, False)],
)
def test_definitions_are_bound_to_a_bus(definitions, is_decoded):
    """A definition from outside holds for its bus, or for all; for another bus it does nothing."""
    context = attrs.evolve(CONTEXT, definitions={k: v.encode() for k, v in definitions.items()})
    account = account_of(bus_file(frames=FRAMES), context=context)
    assert len(frame_rows(account)) == 5
    assert ("signals" in account.tables) == is_decoded


def test_the_definition_of_the_bus_goes_before_that_of_the_file():
    """First the definition given for the bus, then the file's own, then the one for any bus."""
    other = DBC.replace("(0.01,0)", "(0.02,0)").encode()
    for key, wanted in (("can:2", 24.68), ("can:*", 12.34)):
        context = attrs.evolve(CONTEXT, definitions={key: other})
        data = bus_file(attached=DBC.encode(), frames=FRAMES)
        assert signals(account_of(data, context=context), "Speed")[0]["value"] == pytest.approx(
            wanted
        )


@pytest.mark.parametrize("kind", ["CAN_RemoteFrame", "CAN_ErrorFrame"])
def test_remote_and_error_frames_carry_no_signals(kind):
    """Remote and error frames are rows of can_frames with their flag, and are never decoded."""
    account = account_of(bus_file(prefix=kind, attached=DBC.encode(), frames=FRAMES))
    rows = frame_rows(account)
    assert {(row["is_remote"], row["is_error"]) for row in rows} == {
        (kind == "CAN_RemoteFrame", kind == "CAN_ErrorFrame")
    }
    assert "signals" not in account.tables


def test_frames_of_other_buses_are_kept_raw():
    """Fault 16: LIN frames have no decoder: their records are kept whole with their layout."""
    data = bus_file(prefix="LIN_Frame", frames=FRAMES)
    account = account_of(data)
    rows = account.tables["raw_messages"].to_pylist()
    assert len(rows) == 5
    assert rows[2]["data"].endswith(struct.pack("<I", 64) + bytes(63) + b"\x2a")
    (channel,) = account.index.channels
    assert table_of_channel(account.index, channel)[::2] == ("raw_messages", "NO_DECODER")
    layout = json.loads(account.index.schemas[0].data)
    assert layout[1]["parts"][1]["name"] == "LIN_Frame.ID"


def test_a_frame_without_its_payload_is_bad():
    """A payload that the file does not hold makes a bad message, not an empty frame."""
    data = bytearray(bus_file(frames=FRAMES))
    at = data.index(b"##DT")
    struct.pack_into("<Q", data, at + 24 + 24 + 16, 1 << 40)
    account = account_of(bytes(data))
    assert len(frame_rows(account)) == 4
    (bad,) = account.bad
    assert (bad.error_class, bad.offset) == ("VALUE_MISSING", 1)


def test_bit_flips_never_go_uncounted(tmp_path):
    """Any flipped bit ends in rows that balance with the ledger or in a reason, never in a hang."""
    random = np.random.default_rng(11)
    files = [
        mixed_file(40),
        zipped_file(count=300),
        bus_file(attached=DBC.encode(), frames=FRAMES * 5),
        make_every_kind(tmp_path, "4.10", 2),
    ]
    for data in files:
        for _ in range(60):
            flipped = bytearray(data)
            bit = int(random.integers(0, 8 * len(data)))
            flipped[bit // 8] ^= 1 << bit % 8
            with contextlib.suppress(PlatformError):
                account_of(bytes(flipped))


@pytest.mark.parametrize("make", ["plain", "listed", "zipped", "frames"])
def test_a_large_group_splits_into_units(monkeypatch, make):
    """Units of a large data group decode alone as they do together, each byte in one of them."""
    monkeypatch.setattr("udfs.decode.mdf4_data.GROUP_BYTES", 1000)
    monkeypatch.setattr("udfs.decode.mdf4_records.GROUP_BYTES", 1000)
    data = {
        "plain": lambda: plain_file(count=700),
        "listed": lambda: plain_file(count=700, blocks=9),
        "zipped": lambda: zipped_file(count=700),
        "frames": lambda: bus_file(attached=DBC.encode(), frames=FRAMES * 40),
    }[make]()
    account = account_of(data)
    units = account.index.units
    assert len(units) > 4
    assert sum(unit.message_count for unit in units) == account.index.messages_declared
    alone = [account_of(data, units=[unit]) for unit in units]
    assert [len(one.ledger) for one in alone]
    for table, rows in account.tables.items():
        parts = [one.tables[table] for one in alone if table in one.tables]
        order = [
            ("sequence", "ascending"),
            *([("signal", "ascending")] if table == "signals" else []),
        ]
        joined = pa.concat_tables(parts).combine_chunks()
        assert joined.sort_by(order).equals(rows.combine_chunks().sort_by(order))
    starts = [unit.start_ns for unit in units]
    assert starts == sorted(starts)


def test_a_split_group_that_declares_too_much_loses_it_once(monkeypatch):
    """What a large group declares beyond its data is counted by its last unit alone."""
    monkeypatch.setattr("udfs.decode.mdf4_data.GROUP_BYTES", 1000)
    monkeypatch.setattr("udfs.decode.mdf4_records.GROUP_BYTES", 1000)
    account = account_of(plain_file(count=700, cycles=800))
    assert numbers(account) == list(range(1000, 1700))
    assert account.lost == 100
    fewer = account_of(plain_file(count=700, cycles=150))
    assert numbers(fewer) == list(range(1000, 1150))
    assert fewer.lost == 0


def test_two_groups_with_the_same_data_are_refused():
    """Data that two groups claim as theirs would give every record twice."""
    builder = MdfBuilder()
    data = builder.data(b"".join(numbered_records(10)))
    for name in ("one", "two"):
        channels = [builder.time(), builder.channel(name, data_type=2, byte=8, bits=32)]
        builder.data_group([builder.group(channels, cycles=10, size=12)], data)
    with pytest.raises(DecodeError, match="MDF_CYCLE"):
        index_recording(BytesSource(builder.bytes()))


def test_the_header_is_metadata(samples):
    """Start, zone and common properties of the header are in the index."""
    index = index_recording(open_source(str(samples / "mdf/css_can_unfinalised/00000002.MF4")))
    assert index.metadata["header"]["time_zone_min"] == "-240"
    assert index.profile == "mdf4.11"
    assert index.library == "CE"
    assert index.integrity == "NONE"


def test_local_time_of_a_known_zone_becomes_utc():
    """A start in local time is moved by its zone; without a zone that it is local is said."""
    data = bytearray(plain_file())
    at = HD_ADDRESS + 24 + 6 * 8 + 8
    struct.pack_into("<hhB", data, at, 60, 60, 3)
    assert account_of(bytes(data)).index.start_ns == START_NS - 7_200_000_000_000
    struct.pack_into("<hhB", data, at, 0, 0, 1)
    account = account_of(bytes(data))
    assert account.index.start_ns == START_NS
    assert account.codes == {"LOCAL_TIME"}
