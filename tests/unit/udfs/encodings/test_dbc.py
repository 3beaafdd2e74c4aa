"""CAN decode against cantools, frame by frame and value by value."""

from __future__ import annotations

import os
from pathlib import Path

import cantools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import DecodeError
from udfs.encodings.can import CanFrames, decode_frames
from udfs.encodings.dbc import EXTENDED, parameter_group, parse_dbc, parse_definition

SAMPLES = Path(os.environ.get("DRIVELAKE_SAMPLES", Path(__file__).parents[5] / "shared/data"))
DBC_FILES = sorted([*SAMPLES.glob("can/dbc/*/*.dbc"), *SAMPLES.glob("mdf/css_dbc/*.dbc")])
ARXML_FILES = sorted(SAMPLES.glob("can/arxml/*/*.arxml"))
KCD_SOURCES = {
    "multiplex",
    "motohawk",
    "issue_184_extended_mux_cascaded",
    "floating_point",
    "signed",
}
FRAMES_A_MESSAGE = 40

HEAD = 'VERSION ""\nNS_ :\nBS_:\nBU_: ECU\n'


def frames_of(rows):
    """Frames from (can_id, is_extended, payload, bus) tuples."""
    rows = list(rows)
    payloads = [row[2] for row in rows]
    lengths = np.array([len(p) for p in payloads], np.int64)
    count = len(rows)
    none = np.zeros(count, bool)
    return CanFrames(
        log_time_ns=np.arange(count, dtype=np.int64),
        sequence=np.arange(count, dtype=np.int64),
        bus=np.array([row[3] for row in rows], np.int64),
        can_id=np.array([row[0] for row in rows], np.int64),
        is_extended=np.array([row[1] for row in rows], bool),
        is_fd=lengths > 8,
        is_remote=none,
        is_error=none,
        dlc=lengths,
        arena=np.frombuffer(b"".join(payloads), np.uint8),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        is_transmitted=np.full(count, -1),
    ).packed()


def by_frame(decoded):
    """{frame: {signal: (value, raw, text)}}."""
    found = {}
    for part in decoded.signals:
        samples = part.samples
        for i, row in enumerate(part.rows.tolist()):
            text = samples.texts[samples.text[i]] if samples.text[i] >= 0 else None
            value = samples.value[i] if samples.is_value[i] else None
            assert part.signal.name not in found.setdefault(row, {})
            found[row][part.signal.name] = (value, samples.raw[i], text)
    return found


def with_selectors(message, payload, random):
    """The payload with every multiplexer set to a value that selects something."""
    word = bytearray(payload)
    for selector in (signal for signal in message.signals if signal.is_multiplexer):
        ids = [
            i
            for s in message.signals
            if s.multiplexer_signal == selector.name
            for i in s.multiplexer_ids
        ]
        wanted = int(random.choice(ids))
        at = selector.start
        if selector.byte_order == "big_endian":
            first = at // 8 * 8 + 7 - at % 8
            places = [
                (p // 8, 7 - p % 8) for p in range(first + selector.length - 1, first - 1, -1)
            ]
        else:
            places = [(p // 8, p % 8) for p in range(at, at + selector.length)]
        for bit, (byte, shift) in enumerate(places):
            word[byte] = word[byte] & ~(1 << shift) | ((wanted >> bit) & 1) << shift
    return bytes(word)


def expected_of(message, payload):
    """What cantools makes of a frame; None where it refuses the multiplexer's value."""
    try:
        scaled = message.decode(payload, decode_choices=False, allow_truncated=True)
        named = message.decode(payload, decode_choices=True, allow_truncated=True)
        raw = message.decode(payload, decode_choices=False, scaling=False, allow_truncated=True)
    except cantools.database.errors.DecodeError:
        return None
    return {
        name: (
            None
            if isinstance(named[name], str | cantools.database.namedsignalvalue.NamedSignalValue)
            else float(scaled[name]),
            float(raw[name]),
            None if isinstance(named[name], int | float) else str(named[name]),
        )
        for name in raw
    }


def same(one, other):
    return one == other or (
        one is not None
        and other is not None
        and (np.isclose(one, other, rtol=1e-15, atol=0, equal_nan=True))
    )


@pytest.mark.skipif(not DBC_FILES, reason="never: the samples are not on this machine")
@pytest.mark.parametrize("path", DBC_FILES + ARXML_FILES, ids=lambda path: path.stem)
def test_every_signal_of_random_frames_equals_cantools(path):
    """For every DBC and ARXML of the samples, random frames give what cantools decodes."""
    definition = parse_definition(path.read_bytes())
    assert_equals_cantools(definition, cantools.database.load_file(path, strict=False))


@pytest.mark.skipif(not DBC_FILES, reason="never: the samples are not on this machine")
@pytest.mark.parametrize(
    "path", [path for path in DBC_FILES if path.stem in KCD_SOURCES], ids=lambda path: path.stem
)
def test_a_definition_as_kcd_gives_the_same_signals(path):
    """KCD, multiplexed signals and floats included, decodes to what cantools makes of it."""
    text = cantools.database.load_file(path, strict=False).as_kcd_string()
    database = cantools.database.load_string(text, "kcd", strict=False)
    assert_equals_cantools(parse_definition(text.encode()), database)


def assert_equals_cantools(definition, database):
    """All signals of random frames of all messages are what cantools decodes."""
    random = np.random.default_rng(7)
    rows, messages = [], []
    for message in database.messages:
        key = message.frame_id + EXTENDED * message.is_extended_frame
        if key not in definition.messages or definition.messages[key].name != message.name:
            continue
        for _ in range(FRAMES_A_MESSAGE):
            payload = with_selectors(message, random.bytes(message.length), random)
            rows.append((message.frame_id, message.is_extended_frame, payload, 1))
            messages.append(message)
        if message.length > 1:
            rows.append((message.frame_id, message.is_extended_frame, random.bytes(1), 1))
            messages.append(message)
    if not rows:
        assert not definition.messages
        return
    decoded = decode_frames(frames_of(rows), {1: [definition]})
    assert not decoded.unknown
    found = by_frame(decoded)
    compared = 0
    for row, message in enumerate(messages):
        expected = expected_of(message, rows[row][2])
        got = found.get(row, {})
        if expected is None:
            continue
        assert got.keys() == expected.keys(), (message.name, rows[row][2].hex())
        for name, (value, raw, text) in expected.items():
            assert same(got[name][0], value), (message.name, name, rows[row][2].hex())
            assert same(got[name][1], raw), (message.name, name, rows[row][2].hex())
            assert got[name][2] == text, (message.name, name)
            compared += 1
    assert compared or all(not message.signals for message in database.messages)


MULTIPLEXED = (
    HEAD
    + """BO_ 100 Cascade: 8 ECU
 SG_ Outer M : 7|4@0+ (1,0) [0|0] "" ECU
 SG_ Always : 0|3@1- (0.5,1) [0|0] "V" ECU
 SG_ Inner m0M : 11|4@0+ (1,0) [0|0] "" ECU
 SG_ Deep m2 : 16|12@1- (0.25,0) [0|0] "A" ECU
 SG_ Word m3 : 23|16@0+ (1,0) [0|0] "" ECU
 SG_ Wide m1 : 8|52@1+ (2,-7) [0|0] "" ECU
 SG_ Plain m5 : 31|9@0- (1,0) [0|0] "" ECU
BO_ 101 Simple: 6 ECU
 SG_ Kind M : 0|8@1+ (1,0) [0|0] "" ECU
 SG_ First m7 : 8|16@1+ (0.1,0) [0|0] "" ECU
 SG_ State m7 : 24|2@1+ (1,0) [0|0] "" ECU
 SG_ Second m255 : 8|32@1- (1,3) [0|0] "" ECU

VAL_ 101 State 0 "off" 1 "on" ;
SG_MUL_VAL_ 100 Inner Outer 0-0, 4-6;
SG_MUL_VAL_ 100 Deep Inner 2-4;
SG_MUL_VAL_ 100 Word Inner 3-3, 9-15;
SG_MUL_VAL_ 100 Wide Outer 1-2;
SG_MUL_VAL_ 100 Plain Outer 5-8, 15-15;
"""
)


def test_cascaded_multiplexers_and_ranges_of_values_equal_cantools():
    """Signals below two multiplexers, with ranges of values, are there when cantools has them."""
    database = cantools.database.load_string(MULTIPLEXED, "dbc", strict=False)
    assert_equals_cantools(parse_dbc(MULTIPLEXED.encode()), database)


def test_a_multiplexer_that_selects_nothing_leaves_the_signals_that_are_always_there():
    """Of frames whose selectors have values that no signal names, only the rest is told."""
    payloads = [
        bytes([outer << 4, inner << 4 | inner, 0, 0, 0, 0, 0, 0])
        for outer, inner in [(3, 0), (9, 2), (0, 1), (0, 8), (1, 0)]
    ]
    rows = [(100, False, payload, 1) for payload in payloads]
    found = by_frame(decode_frames(frames_of(rows), {1: [parse_dbc(MULTIPLEXED.encode())]}))
    more = [set(found[row]) - {"Outer", "Always"} for row in range(len(rows))]
    assert more == [set(), set(), {"Inner"}, {"Inner"}, {"Wide"}]


@st.composite
def layouts(draw):
    """One signal anywhere in a message of up to 64 bytes: (DBC line, bytes of the message)."""
    size = draw(st.sampled_from([1, 3, 8, 12, 64]))
    length = draw(st.integers(1, min(64, size * 8)))
    first = draw(st.integers(0, size * 8 - length))
    big = draw(st.booleans())
    start = first // 8 * 8 + 7 - first % 8 if big else first
    sign = draw(st.sampled_from("+-"))
    factor = draw(st.sampled_from(["1", "0.5", "-0.001", "3"]))
    offset = draw(st.sampled_from(["0", "-40", "0.25"]))
    layout = (
        f'SG_ Some : {start}|{length}@{0 if big else 1}{sign} ({factor},{offset}) [0|0] "x" ECU'
    )
    return f"{HEAD}BO_ 100 Any: {size} ECU\n {layout}\n", size


@given(layouts(), st.data())
@settings(max_examples=150, deadline=None)
def test_any_layout_of_a_signal_equals_cantools(layout, data):
    """A signal of any place, size, byte order and sign has the value that cantools decodes."""
    text, size = layout
    payloads = [data.draw(st.binary(min_size=size, max_size=size)) for _ in range(3)]
    decoded = decode_frames(
        frames_of((100, False, payload, 0) for payload in payloads), {0: [parse_dbc(text.encode())]}
    )
    (message,) = cantools.database.load_string(text, "dbc").messages
    wanted = [message.decode(payload)["Some"] for payload in payloads]
    (found,) = decoded.signals
    assert found.samples.value.tolist() == pytest.approx(wanted, rel=1e-12)
    assert found.signal.unit == "x"


def test_overlapping_signals_are_said_and_still_decoded():
    """Fault 34: signals that share bits are a finding, not a refusal."""
    text = (
        f'{HEAD}BO_ 1 Both: 2 ECU\n SG_ A : 0|8@1+ (1,0) [0|0] "" ECU\n'
        ' SG_ B : 4|8@1+ (1,0) [0|0] "" ECU\n'
    )
    definition = parse_dbc(text.encode())
    assert [finding.code for finding in definition.findings] == ["UNSOUND_LAYOUT"]
    decoded = decode_frames(frames_of([(1, False, b"\x21\x43", 0)]), {0: [definition]})
    assert {s.signal.name: s.samples.value[0] for s in decoded.signals} == {"A": 0x21, "B": 0x32}


def test_a_duplicate_id_is_said_and_the_first_kept():
    """Fault 34: two messages with one id are a finding; the first one decodes."""
    text = (
        f'{HEAD}BO_ 1 First: 1 ECU\n SG_ A : 0|8@1+ (1,0) [0|0] "" ECU\n\n'
        'BO_ 1 Second: 1 ECU\n SG_ B : 0|8@1+ (1,0) [0|0] "" ECU\n'
    )
    definition = parse_dbc(text.encode())
    assert [finding.code for finding in definition.findings] == ["DUPLICATE_ID"]
    assert definition.message_for(1, is_extended=False).name == "First"


def test_a_signal_without_its_multiplexer_is_said_and_left_out():
    """Fault 34: nobody can say when it is there; the other signals of the message decode."""
    text = (
        f'{HEAD}BO_ 1 Part: 2 ECU\n SG_ Lost m2 : 0|8@1+ (1,0) [0|0] "" ECU\n'
        ' SG_ Kept : 8|8@1+ (1,0) [0|0] "" ECU\n'
    )
    definition = parse_dbc(text.encode())
    decoded = decode_frames(frames_of([(1, False, b"\2\7", 0)]), {0: [definition]})
    assert [finding.code for finding in definition.findings] == ["MISSING_MULTIPLEXER"]
    assert by_frame(decoded) == {0: {"Kept": (7.0, 7, None)}}


@pytest.mark.parametrize("length", [0, 1, 2, 3, 8])
def test_a_wrong_length_code_costs_the_signals_behind_it(length):
    """Fault 34: a frame shorter than its message has the signals that are there, and is counted."""
    text = (
        f'{HEAD}BO_ 1 Two: 3 ECU\n SG_ A : 0|8@1+ (1,0) [0|0] "" ECU\n'
        ' SG_ B : 8|16@1+ (1,0) [0|0] "" ECU\n'
    )
    frame = (1, False, b"\5\6\1\1\1\1\1\1"[:length], 0)
    decoded = decode_frames(frames_of([frame]), {0: [parse_dbc(text.encode())]})
    found = {name: value for name, (value, _, _) in by_frame(decoded).get(0, {}).items()}
    expected = {"A": 5.0} if length else {}
    assert found == expected | ({"B": 262.0} if length >= 3 else {})
    assert decoded.short == ({"Two": 1} if length < 3 else {})


def test_text_that_is_no_dbc_is_refused():
    """A definition that does not parse is an error with a reason."""
    with pytest.raises(DecodeError, match="BAD_DEFINITION"):
        parse_dbc(b"BO_ what: is this")


def test_frames_of_unknown_ids_are_counted_by_id():
    """What no definition knows is counted, on a bus without definitions everything."""
    definition = parse_dbc(f'{HEAD}BO_ 1 A: 1 ECU\n SG_ A : 0|8@1+ (1,0) [0|0] "" ECU\n'.encode())
    rows = [(1, False, b"\1", 0), (1, True, b"\1", 0), (7, False, b"\1", 0), (1, False, b"\1", 3)]
    decoded = decode_frames(frames_of(rows), {0: [definition]})
    assert decoded.unknown == {1: 2, 7: 1}
    assert [part.rows.tolist() for part in decoded.signals] == [[0]]


def test_j1939_frames_decode_from_any_source_address():
    """A J1939 message is known by its parameter group, whoever sends it with what priority."""
    path = next((p for p in DBC_FILES if "J1939" in p.name), None)
    if path is None:
        pytest.skip("never: the samples are not on this machine")
    definition = parse_dbc(path.read_bytes())
    (speed,) = (m for m in definition.messages.values() if m.name.startswith("EEC1"))
    payload = bytes.fromhex("f0ffff803e00ffff")
    other = (speed.can_id & ~0x1C0000FF) | 3 << 26 | 0x21
    assert other != speed.can_id
    rows = [(speed.can_id, True, payload, 0), (other, True, payload, 0), (other, False, payload, 0)]
    decoded = decode_frames(frames_of(rows), {0: [definition]})
    assert sorted(row for part in decoded.signals for row in part.rows.tolist()) == [0, 1]
    assert [part.samples.value.tolist() for part in decoded.signals] == [[2000.0], [2000.0]]
    assert sum(decoded.unknown.values()) == 1


@pytest.mark.parametrize(
    ("can_id", "group"),
    [(0x18DAF110, 0x00DA0000), (0x0CF00421, 0x00F00400), (0x18FEF100, 0xFEF100)],
)
def test_the_parameter_group_leaves_addresses_out(can_id, group):
    """SAE J1939-21: below 240 the second byte is a destination, from 240 on part of the group."""
    assert parameter_group(can_id) == group


def test_a_definition_is_told_by_its_content():
    """ARXML and KCD are read as such whatever their name; an XML of another kind is refused."""
    for text in (
        b"<AUTOSAR>",
        b"<AUTOSAR></AUTOSAR>",
        b"<NetworkDefinition><Bus/></NetworkDefinition>",
        b"<a/>",
    ):
        with pytest.raises(DecodeError, match="BAD_DEFINITION"):
            parse_definition(text)


@pytest.mark.skipif(not DBC_FILES, reason="never: the samples are not on this machine")
def test_a_message_that_holds_messages_is_said_and_left_raw():
    """Containers of other messages have no signals of their own: their frames are unknown."""
    path = SAMPLES / "can/arxml/cantools/system-4.2.arxml"
    definition = parse_definition(path.read_bytes())
    assert [finding.code for finding in definition.findings] == ["CONTAINER_MESSAGE"]
    decoded = decode_frames(frames_of([(102, False, bytes(64), 1)]), {1: [definition]})
    assert decoded.unknown == {102: 1}
