"""MDF 3, read by the reader of MDF 4, against asammdf.

Number types, tables, formulas and texts as asammdf writes them are in test_mdf4.py.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest

from contracts.errors import DecodeError
from tests.unit.udfs.decode.mdf_files import numbers, signals
from tests.unit.udfs.decode.recordings import account_of
from udfs.decode.recording import index_recording
from udfs.decode.source import BytesSource

START_S = 1_700_000_000
DATA_GROUP, GROUP = 272, 304


def mdf3_file(
    *,
    count: int = 50,
    cycles: int | None = None,
    rule: bytes = b"",
    ids: int = 0,
    order: str = "<",
    zone_hours: int = 0,
) -> bytes:
    """One group of a time in float64 and an int16 from 1 on, with a conversion."""
    head = b"MDF     3.30    builder " + struct.pack(order + "HHHH", order == ">", 0, 330, 0).ljust(
        40, b"\0"
    )
    fields = struct.pack(order + "IIIH", DATA_GROUP, 0, 0, 1) + b"14:11:202322:13:20"
    fields = fields.ljust(160, b"\0") + struct.pack(
        order + "QhH32s", (START_S + 3600 * zone_hours) * 10**9, zone_hours, 0, b"clock"
    )
    time_at, value_at = GROUP + 32, GROUP + 32 + 228
    rule_at = value_at + 228
    data_at = rule_at + len(rule) + 4
    group = struct.pack(
        order + "IIIHHHI", 0, time_at, 0, 7, 2, 10, count if cycles is None else cycles
    )
    out = head + block("HD", fields, order)
    out = out.ljust(DATA_GROUP, b"\0")
    out += block("DG", struct.pack(order + "4IHHI", 0, GROUP, 0, data_at, 1, ids, 0), order)
    out = out.ljust(GROUP, b"\0") + block("CG", group, order)
    out = out.ljust(time_at, b"\0") + channel(
        "t", value_at, kind=1, place=(0, 64), code=3, order=order
    )
    out += channel("number", 0, rule=rule_at if rule else 0, place=(64, 16), code=1, order=order)
    out += block("CC", rule, order) if rule else b""
    out = out.ljust(data_at, b"\0")
    mark = b"\x07"
    records = [struct.pack(order + "dh", i / 10, i + 1) for i in range(count)]
    return out + b"".join(mark * (ids > 0) + one + mark * (ids == 2) for one in records)


def block(kind: str, data: bytes, order: str) -> bytes:
    return kind.encode() + struct.pack(order + "H", len(data) + 4) + data


def channel(
    name: str, following: int, *, rule: int = 0, kind: int = 0, place: tuple, code: int, order: str
) -> bytes:
    start, bits = place
    data = struct.pack(order + "5IH", following, rule, 0, 0, 0, kind)
    data += name.encode().ljust(32, b"\0") + bytes(128)
    data += struct.pack(order + "HHHHdddIIH", start, bits, code, 0, 0, 0, 0, 0, 0, 0)
    return block("CN", data, order)


def rule_of(kind: int, values: list[float], order: str = "<") -> bytes:
    head = struct.pack(order + "Hdd20sHH", 0, 0, 0, b"V", kind, len(values))
    return head + struct.pack(f"{order}{len(values)}d", *values)


def by_asammdf(data: bytes, tmp_path) -> np.ndarray:
    from asammdf import MDF

    path = tmp_path / "some.mdf"
    path.write_bytes(data)
    with MDF(path) as mdf:
        return mdf.get("number").samples


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (0, [3.0, 0.5]),
        (6, [1.0, 2.0, 3.0, 4.0, 5.0, 600.0]),
        (7, [2.0, 0.5, -1.0, 0.0, 0.0, 1.5, 0.25]),
        (7, [0.0, 0.0, 300.0, 2.0, 0.5, 1.0, 0.25]),
        (8, [200.0, 0.5, -1.0, 0.0, 0.0, 1.5, 0.25]),
        (8, [0.0, 0.0, 300.0, 200.0, 0.5, 1.0, 0.25]),
        (9, [1.0, 2.0, 3.0, 0.0, 1.0, 4.0]),
    ],
)
def test_conversions_of_numbers_equal_asammdf(tmp_path, kind, values):
    """Linear, polynomial, both forms of exponential and logarithmic, and rational."""
    data = mdf3_file(rule=rule_of(kind, values))
    np.testing.assert_allclose(
        numbers(account_of(data)), by_asammdf(data, tmp_path), rtol=1e-12, equal_nan=True
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("ids", [0, 1, 2])
def test_records_of_either_byte_order_with_and_without_ids(order, ids):
    """Record ids may stand before the records, or before and behind them."""
    account = account_of(mdf3_file(order=order, ids=ids))
    assert numbers(account) == list(range(1, 51))
    assert account.codes == set()
    assert account.index.messages_declared == 50
    assert (account.index.format, account.index.profile) == ("mdf3", "mdf3.30")


def test_the_start_is_local_time_of_the_stated_zone():
    """Unlike asammdf, which takes it for UTC: the standard has local time beside its offset."""
    for hours in (0, 2, -5):
        account = account_of(mdf3_file(zone_hours=hours))
        assert account.index.start_ns == START_S * 10**9
    assert signals(account, "number")[3]["log_time_ns"] == START_S * 10**9 + 300_000_000


def test_a_cut_file_keeps_the_records_before():
    """What the group declares beyond the cut is a counted loss."""
    data = mdf3_file()
    account = account_of(data[: -10 * 20 - 5])
    assert numbers(account) == list(range(1, 30))
    assert account.lost == 21
    assert "MDF_TRUNCATED" in account.codes


def test_a_count_beyond_the_data_is_said():
    """Fault 29: the records that are there are kept."""
    account = account_of(mdf3_file(cycles=1 << 31))
    assert numbers(account) == list(range(1, 51))
    assert account.lost == (1 << 31) - 50


@pytest.mark.parametrize("address", [DATA_GROUP, GROUP, GROUP + 32])
def test_a_cycle_is_found_at_its_address(address):
    """Fault 25: data groups, groups and channels that follow themselves."""
    data = bytearray(mdf3_file())
    struct.pack_into("<I", data, address + 4, address)
    with pytest.raises(DecodeError) as error:
        index_recording(BytesSource(bytes(data)))
    assert (error.value.code, error.value.offset) == ("MDF_CYCLE", address)


def test_metadata_behind_the_cut_is_refused():
    """Fault 28: no group can be read: the reason says what is present."""
    data = mdf3_file()[: GROUP + 8]
    with pytest.raises(DecodeError, match="MDF_TRUNCATED") as error:
        index_recording(BytesSource(data))
    assert f"{len(data)} bytes are present" in error.value.what
