from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.udfs.decode.mdf_files import (
    DBC,
    FRAMES,
    HD_ADDRESS,
    START_NS,
    MdfBuilder,
    bus_file,
    make_every_kind,
    mixed_file,
    numbers,
    plain_file,
    signals,
    zipped_file,
)
from tests.unit.udfs.decode.recordings import account_of
from udfs.decode.recording import index_recording
from udfs.decode.source import open_source

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

MEASURED = [name for name in SAMPLES if "css" not in name and "obd2" not in name]


def sample(samples, name: str) -> bytes:
    return (samples / "mdf" / name).read_bytes()


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


@pytest.mark.parametrize("name", SAMPLES)
def test_a_real_file_gives_the_records_of_the_manifest(samples, name):
    """Every record of a real file is a message, written or bad; all its bytes have a fate."""
    account = account_of(sample(samples, name))
    declared = sum(entry.messages_declared for entry in account.ledger)
    written = sum(entry.messages_written for entry in account.ledger)
    assert declared == SAMPLES[name]
    assert written + len(account.bad) == SAMPLES[name]
    assert account.lost == 0


@pytest.mark.parametrize("name", [name for name in MEASURED if name != "peak/simple.mf4"])
def test_signals_of_a_real_file_equal_asammdf(samples, tmp_path, name):
    """Values, texts and times of measured signals are those that asammdf reads."""
    assert_equals_asammdf(sample(samples, name), tmp_path, at_least=3)


@pytest.mark.parametrize(
    ("version", "compression"), [("3.30", 0), ("4.10", 0), ("4.10", 1), ("4.20", 2)]
)
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


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_records_may_straddle_data_blocks(blocks):
    """A record that is cut between two blocks of a list is whole again."""
    account = account_of(plain_file(blocks=blocks))
    assert numbers(account) == list(range(1000, 1200))
    assert account.codes == set()
    assert (account.index.start_ns, account.index.end_ns) == (START_NS, START_NS + 1_990_000_000)


def test_compressed_blocks_decode_transposed_or_not():
    """DZ blocks with and without transposition give the records."""
    assert numbers(account_of(zipped_file())) == list(range(1000, 4000))


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
