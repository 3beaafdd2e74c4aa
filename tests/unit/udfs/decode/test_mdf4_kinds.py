"""What MDF 4 can hold, each made block by block and compared with asammdf value by value.

| of the standard | shown by |
| --- | --- |
| sorted groups, DT, DL; DZ deflate and transposed | test_mdf4 (records, compressed blocks) |
| HL, LD, DV, DI, remote master | here (HL); test_mdf4 (columns with invalidation blocks) |
| unsorted, VLSD group, SD plain, listed, compressed | test_mdf4 (mixed records); here |
| number types, both byte orders, 16-bit floats | test_mdf4 (every kind of signal), version 3 too |
| odd bits, 8 to 64 bits anywhere | here (bits), test_dbc (any layout) |
| strings: Latin-1, UTF-8, UTF-16 of both orders; MLSD | here; test_mdf4 |
| conversions 0 to 11, nested ones, and one that is none | here |
| arrays of one and more dimensions, by rows and columns | here; a real file in test_mdf4 |
| arrays stored elsewhere | here: said, the others are read |
| complex numbers, structures, virtual channels, invalid samples | here; test_mdf4 |
| several masters | here: the time, others are signals |
| unfinalised, cut, cyclic, miscounted | test_mdf4_faults |
| attachments, events | here; test_mdf4_faults |
| CAN, CAN FD, LIN, definitions | test_mdf4_frames, test_dbc |
| MDF 3 | test_mdf3 |
"""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from tests.unit.udfs.decode.mdf_files import HD_ADDRESS, START_NS, MdfBuilder, numbers, signals
from tests.unit.udfs.decode.recordings import account_of

COUNT = 40
RAW = [i % 20 for i in range(COUNT)]


def rule(builder: MdfBuilder, kind: int, values=(), refs=()) -> int:
    """A CC block."""
    data = struct.pack("<BBHHHdd", kind, 0, 0, len(refs), len(values), 0, 0)
    data += struct.pack(f"<{len(values)}d", *values)
    return builder.block("CC", [0, 0, 0, 0, *refs], data)


def numbered_file(conversion, *, code: str = "B") -> bytes:
    """The numbers of RAW under a conversion that `conversion(builder)` makes."""
    builder = MdfBuilder()
    size = struct.calcsize(code)
    data_type = {"B": 0, "h": 2, "d": 4}[code]
    channel = builder.channel(
        "number", data_type=data_type, byte=8, bits=8 * size, conversion=conversion(builder)
    )
    group = builder.group([builder.time(), channel], cycles=COUNT, size=8 + size)
    rows = [struct.pack("<d" + code, i / 10, raw) for i, raw in enumerate(RAW)]
    builder.data_group([group], builder.data(b"".join(rows)))
    return builder.bytes()


def by_asammdf(data: bytes, tmp_path, name: str = "number") -> np.ndarray:
    from asammdf import MDF

    path = tmp_path / "some.mf4"
    path.write_bytes(data)
    with MDF(path) as mdf:
        return mdf.get(name).samples


NUMERIC = {
    "identity": lambda b: rule(b, 0),
    "linear": lambda b: rule(b, 1, [-3.0, 0.25]),
    "rational": lambda b: rule(b, 2, [1.0, 2, 3, 0.5, 1, 4]),
    "algebraic": lambda b: rule(b, 3, [], [b.text("sin(X) + X^2 / 3 - 1e-3")]),
    "interpolated": lambda b: rule(b, 4, [2.0, 10, 6, -4, 15, 100]),
    "nearest": lambda b: rule(b, 5, [2.0, 10, 6, -4, 15, 100]),
    "ranges": lambda b: rule(b, 6, [0.0, 3, 10, 4, 9, 20, -1]),
}


@pytest.mark.parametrize("code", ["B", "h", "d"])
@pytest.mark.parametrize("name", NUMERIC)
def test_conversions_to_numbers_equal_asammdf(tmp_path, name, code):
    """Conversions 0 to 6 of integers and floats; the raw value stands beside where it differs.

    Formulas and ranges of integers are compared with those of the same floats, and with the limits
    as the standard has them: asammdf computes formulas in the type of the raw value (X^2 of an
    8-bit number overflows, its sine has 16 bits), and for integers it takes what lies in no range
    for a member of the last one.
    """
    data = numbered_file(NUMERIC[name], code=code)
    account = account_of(data)
    if name == "algebraic":
        wanted = by_asammdf(numbered_file(NUMERIC[name], code="d"), tmp_path)
    elif name == "ranges" and code != "d":
        wanted = np.array([10 if raw <= 3 else 20 if raw <= 9 else -1 for raw in RAW])
    else:
        wanted = by_asammdf(data, tmp_path)
    np.testing.assert_allclose(numbers(account), wanted, rtol=1e-14)
    if name != "identity":
        assert [row["raw_value"] for row in signals(account, "number")] == RAW


TEXTS = {
    "value_to_text": lambda b: rule(b, 7, [1.0, 5], [b.text("one"), b.text("five"), b.text("?")]),
    "range_to_text": lambda b: rule(
        b, 8, [0.0, 3, 4, 9], [b.text("low"), b.text("high"), b.text("?")]
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_conversions_to_texts_equal_asammdf(tmp_path, name):
    """Conversions 7 and 8 with a default text."""
    data = numbered_file(TEXTS[name])
    own = [row["text"] for row in signals(account_of(data), "number")]
    assert own == [text.decode() for text in by_asammdf(data, tmp_path).tolist()]


def test_a_text_table_may_lead_to_another_conversion():
    """Nested: a text, the raw number where the link is null, all else scaled."""
    data = numbered_file(lambda b: rule(b, 7, [1.0, 5], [b.text("one"), 0, rule(b, 1, [0.5, 2.0])]))
    rows = signals(account_of(data), "number")
    for row, raw in zip(rows, RAW, strict=True):
        wanted = {1: (None, "one"), 5: (5.0, None)}.get(raw, (2.0 * raw + 0.5, None))
        assert (row["value"], row["text"], row["raw_value"]) == (*wanted, raw)


def test_bits_become_their_texts():
    """Conversion 11: the texts of all fields of the number."""

    def flags(builder):
        low = rule(builder, 7, [1.0], [builder.text("A"), 0])
        high = rule(builder, 7, [0.0, 16], [builder.text("off"), builder.text("on"), 0])
        data = struct.pack("<BBHHHdd", 11, 0, 0, 2, 2, 0, 0) + struct.pack("<QQ", 1, 16)
        return builder.block("CC", [0, 0, 0, 0, low, high], data)

    rows = signals(account_of(numbered_file(flags)), "number")
    for row, raw in zip(rows, RAW, strict=True):
        words = ["A"] * (raw & 1) + ["on" if raw & 16 else "off"]
        assert row["text"] == "|".join(words)


@pytest.mark.parametrize("kind", [9, 10])
def test_texts_become_values_and_texts(kind):
    """Conversions 9 and 10, with what is in no table."""
    builder = MdfBuilder()
    if kind == 9:
        refs = [builder.text("ab"), builder.text("cd")]
        made = rule(builder, 9, [1.5, 2.5, -1.0], refs)
    else:
        refs = [builder.text(word) for word in ("ab", "first", "cd", "second", "other")]
        made = rule(builder, 10, [], refs)
    channel = builder.channel("words", data_type=7, byte=8, bits=16, conversion=made)
    words = [b"ab", b"cd", b"xy"]
    group = builder.group([builder.time(), channel], cycles=3, size=10)
    rows = b"".join(struct.pack("<d2s", i, word) for i, word in enumerate(words))
    builder.data_group([group], builder.data(rows))
    found = signals(account_of(builder.bytes()), "words")
    if kind == 9:
        assert [row["value"] for row in found] == [1.5, 2.5, -1.0]
        assert [row["text"] for row in found] == ["ab", "cd", "xy"]
    else:
        assert [row["text"] for row in found] == ["first", "second", "other"]


@pytest.mark.parametrize(("data_type", "codec"), [(6, "latin-1"), (7, "utf-8"), (8, "utf-16-le")])
@pytest.mark.parametrize("store", ["SD", "listed", "zipped", "transposed"])
def test_texts_of_any_length_equal_asammdf(tmp_path, data_type, codec, store):
    """VLSD values in one block, a list of them, and compressed ones behind a header of lists."""
    words = ["", "a", "bäume", "x" * 300, "0123456789"] * 8
    builder = MdfBuilder()
    content, offsets = b"", []
    for word in words:
        offsets.append(len(content))
        raw = word.encode(codec)
        content += struct.pack("<I", len(raw)) + raw
    half = len(content) // 2
    if store == "SD":
        link = builder.data(content, "SD")
    elif store == "listed":
        parts = [builder.data(part, "SD") for part in (content[:half], content[half:])]
        link = builder.data_list(parts)
    else:
        columns = 7 if store == "transposed" else 0
        parts = [
            builder.zipped(part, kind="SD", columns=columns)
            for part in (content[:half], content[half:])
        ]
        head = struct.pack("<HB5x", 0, bool(columns))
        link = builder.block("HL", [builder.data_list(parts)], head)
    channel = builder.channel("words", kind=1, data_type=data_type, byte=8, bits=64, data_link=link)
    group = builder.group([builder.time(), channel], cycles=len(words), size=16)
    rows = b"".join(struct.pack("<dQ", i, offset) for i, offset in enumerate(offsets))
    builder.data_group([group], builder.data(rows))
    account = account_of(builder.bytes())
    assert [row["text"] for row in signals(account, "words")] == words
    other = by_asammdf(builder.bytes(), tmp_path, "words")
    own = [word.encode(codec if codec != "utf-16-le" else "utf-8") for word in words]
    shown = [bytes(value).rstrip(b"\0") for value in other.tolist()]
    if codec != "utf-16-le":  # asammdf encodes UTF-16 texts anew, which their readers undo
        assert shown == own
    assert account.codes == set()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("bit", "bits"), [(0, 1), (3, 5), (7, 1), (1, 12), (5, 31), (3, 57)])
def test_numbers_at_any_bit(bit, bits, big):
    """Signed and unsigned numbers that begin and end within bytes."""
    random = np.random.default_rng(bits)
    values = [int(v) for v in random.integers(0, 1 << bits, COUNT, dtype=np.uint64)]
    size = (bit + bits + 7) // 8
    builder = MdfBuilder()
    channels = [builder.time()]
    for name, signed in (("plain", 0), ("signed", 2)):
        kind = signed + big
        channels.append(builder.channel(name, data_type=kind, byte=9, bit=bit, bits=bits))
    group = builder.group(channels, cycles=COUNT, size=10 + size)
    order = "big" if big else "little"
    rows = [
        struct.pack("<dB", i, 0xFF) + (value << bit).to_bytes(size, order) + b"\xff"
        for i, value in enumerate(values)
    ]
    builder.data_group([group], builder.data(b"".join(rows)))
    account = account_of(builder.bytes())
    assert numbers(account, "plain") == [float(v) for v in values]
    signed_values = [v - (1 << bits) * (v >> (bits - 1)) for v in values]
    assert numbers(account, "signed") == [float(v) for v in signed_values]


def array_file(*, storage: int = 0, column_major: bool = False) -> bytes:
    """An array of 2 by 3 int16 beside a number."""
    builder = MdfBuilder()
    flags = 0x40 if column_major else 0
    data = struct.pack("<BBHIiI", 0, storage, 2, flags, 2, 0) + struct.pack("<QQ", 2, 3)
    shape = builder.block("CA", [0], data)
    channels = [
        builder.time(),
        builder.channel("grid", data_type=2, byte=8, bits=16, composition=shape),
        builder.channel("number", data_type=2, byte=20, bits=16),
    ]
    group = builder.group(channels, cycles=5, size=22)
    rows = [struct.pack("<d7h", i, *range(10 * i, 10 * i + 6), i) for i in range(5)]
    builder.data_group([group], builder.data(b"".join(rows)))
    return builder.bytes()


@pytest.mark.parametrize("column_major", [False, True])
def test_arrays_give_a_signal_for_each_element(column_major):
    """Elements by rows or by columns, named by their indices."""
    account = account_of(array_file(column_major=column_major))
    for row in range(2):
        for column in range(3):
            place = row + 2 * column if column_major else 3 * row + column
            found = numbers(account, f"grid[{row}][{column}]")
            assert found == [10 * i + place for i in range(5)]
    assert numbers(account) == list(range(5))


def test_an_array_that_is_stored_elsewhere_costs_itself_alone():
    """Arrays as groups of their own are not read: that is said, and the other channels are."""
    account = account_of(array_file(storage=1))
    assert numbers(account) == list(range(5))
    assert "UNSUPPORTED_ARRAY" in account.codes
    assert {row["signal"] for row in account.rows} == {"number"}


def test_of_several_masters_the_time_is_the_time():
    """Angle and distance masters are signals; a virtual time counts the records."""
    builder = MdfBuilder()
    angle = builder.channel("angle", kind=2, sync=2, data_type=4, byte=0, bits=64)
    clock = builder.channel(
        "clock", kind=3, sync=1, bits=0, conversion=rule(builder, 1, [1.0, 0.5])
    )
    number = builder.channel("number", data_type=2, byte=8, bits=16)
    group = builder.group([angle, clock, number], cycles=5, size=10)
    rows = b"".join(struct.pack("<dh", i * 0.1, i) for i in range(5))
    builder.data_group([group], builder.data(rows))
    account = account_of(builder.bytes())
    assert numbers(account, "angle") == [i * 0.1 for i in range(5)]
    times = [row["log_time_ns"] - START_NS for row in signals(account, "number")]
    assert times == [1_000_000_000 + i * 500_000_000 for i in range(5)]


@pytest.mark.parametrize("cycles", [5, 6_364_750_806_612_180_992, 2**64 - 1])
def test_records_without_a_byte_are_counted_within_reason(cycles):
    """Virtual channels alone: what is declared counts, unless no drive could have had so many."""
    builder = MdfBuilder()
    clock = builder.channel(
        "clock", kind=3, sync=1, bits=0, conversion=rule(builder, 1, [1.0, 0.5])
    )
    ramp = builder.channel("ramp", kind=6, bits=0)
    builder.data_group([builder.group([clock, ramp], cycles=cycles, size=0)], builder.data(b""))
    account = account_of(builder.bytes())
    if cycles == 5:
        assert numbers(account, "ramp") == list(range(5))
        assert not account.codes
    else:
        assert account.rows == []
        assert account.codes & {"COUNT_MISMATCH", "DATA_MISSING"}
        assert account.lost == min(cycles, 2**63 - 1)


def test_complex_numbers_give_both_parts():
    """Real and imaginary part are signals of their own."""
    builder = MdfBuilder()
    channel = builder.channel("wave", data_type=15, byte=8, bits=128)
    group = builder.group([builder.time(), channel], cycles=3, size=24)
    rows = b"".join(struct.pack("<ddd", i, i + 0.5, -i) for i in range(3))
    builder.data_group([group], builder.data(rows))
    account = account_of(builder.bytes())
    assert numbers(account, "wave.re") == [0.5, 1.5, 2.5]
    assert numbers(account, "wave.im") == [0, -1, -2]


def test_limits_of_a_channel_say_what_lies_in_them():
    """Fault 35: the limits hold for physical values, where a flag says so and a rule gives numbers.

    A value outside of them is kept; without limits nothing is said.
    """
    builder = MdfBuilder()
    half = rule(builder, 1, [0.0, 0.5])
    names = rule(builder, 7, [1.0], [builder.text("one"), builder.text("other")])
    channels = [
        builder.channel("bound", byte=8, flags=0x10, conversion=half, limits=(1.0, 2.0)),
        builder.channel("free", byte=8, conversion=half, limits=(1.0, 2.0)),
        builder.channel("named", byte=8, flags=0x10, conversion=names, limits=(1.0, 2.0)),
    ]
    group = builder.group([builder.time(), *channels], cycles=1000, size=9)
    rows = [struct.pack("<dB", i / 10, i % 8) for i in range(1000)]
    builder.data_group([group], builder.data(b"".join(rows)))
    account = account_of(builder.bytes())
    assert numbers(account, "bound") == [i % 8 / 2 for i in range(1000)]
    assert [row["in_range"] for row in signals(account, "bound")] == [
        2 <= i % 8 <= 4 for i in range(1000)
    ]
    for name in ("free", "named"):
        assert {row["in_range"] for row in signals(account, name)} == {None}


def test_events_are_metadata():
    """Name, kind and time of each event are in the index; the list is followed once."""
    builder = MdfBuilder()
    events = []
    for name, kind, base in (("start", 6, 100), ("brake", 4, 250)):
        data = struct.pack("<BBBB B3x IHH qd", kind, 1, 0, 0, 0, 0, 0, 0, base, 0.01)
        events.append(builder.block("EV", [0, 0, 0, builder.text(name), 0], data))
    builder.link(HD_ADDRESS, 4, builder.chain(events))
    channels = [builder.time(), builder.channel("number", byte=8)]
    builder.data_group([builder.group(channels, cycles=0, size=9)], 0)
    found = account_of(builder.bytes()).index.metadata["events"]
    assert [json.loads(text) for text in found.values()] == [
        {"kind": "marker", "log_time_ns": START_NS + 1_000_000_000, "name": "start"},
        {"kind": "trigger_stop", "log_time_ns": START_NS + 2_500_000_000, "name": "brake"},
    ]


@pytest.mark.parametrize(("kind", "values"), [(1, ()), (1, (2.0,)), (2, (0.0, 1.0))])
def test_a_rule_without_its_numbers_is_told_and_values_are_null(kind, values):
    """A linear or rational rule that lacks numbers gives no value, keeps the raw ones, and says."""
    account = account_of(numbered_file(lambda builder: rule(builder, kind, values)))
    rows = signals(account, "number")
    assert [row["raw_value"] for row in rows] == RAW
    assert {row["value"] for row in rows} == {None}
    assert "MDF_BAD_CONVERSION" in {finding.code for finding in account.index.findings}
