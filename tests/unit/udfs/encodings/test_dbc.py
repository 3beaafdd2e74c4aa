"""CAN decode against cantools, frame by frame and value by value."""

from __future__ import annotations

import os
from pathlib import Path

import cantools
import numpy as np
import pytest

from udfs.encodings.can import CanFrames, decode_frames
from udfs.encodings.dbc import EXTENDED, parse_dbc

SAMPLES = Path(os.environ.get("DRIVELAKE_SAMPLES", Path(__file__).parents[5] / "shared/data"))
DBC_FILES = sorted([*SAMPLES.glob("can/dbc/*/*.dbc"), *SAMPLES.glob("mdf/css_dbc/*.dbc")])
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
    )


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
@pytest.mark.parametrize("path", DBC_FILES, ids=lambda path: path.stem)
def test_every_signal_of_random_frames_equals_cantools(path):
    """For every DBC of the samples, all signals of random frames are what cantools decodes."""
    definition = parse_dbc(path.read_bytes())
    database = cantools.database.load_file(path, strict=False)
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
