"""Rows of signals made message by message against those made signal by signal."""

from __future__ import annotations

import io
import re
from datetime import date

import attrs
import cantools
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from canmatrix.formats import dump, load

from contracts.recording import Channel
from udfs.decode.context import DecodeContext
from udfs.decode.signal_rows import RowMaker, SignalPart
from udfs.encodings.can import CanFrames, decode_frames
from udfs.encodings.dbc import parse_dbc, parse_definition
from udfs.encodings.samples import Samples, always, no_text

DEFINITION = b"""VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 1 Mixed: 8 ECU
 SG_ Plain : 0|8@1+ (1,0) [0|0] "" ECU
 SG_ Ruled : 8|8@1- (0.5,1) [-20|20] "V" ECU
 SG_ State : 16|2@1+ (1,0) [0|0] "" ECU
 SG_ Named : 24|4@1+ (2,0) [4|20] "A" ECU
 SG_ Bare : 32|8@1+ (1,0) [0|0] "A" ECU
 SG_ Other : 47|8@0- (1,0) [0|0] "A" ECU
 SG_ Last : 48|16@1+ (0.1,0) [0|0] "V" ECU
BO_ 2 Even: 4 ECU
 SG_ Even0 : 0|16@1+ (0.5,0) [0|20000] "V" ECU
 SG_ Even1 : 16|16@1+ (0.5,0) [100|30000] "V" ECU
BO_ 3 Empty: 8 ECU
BO_ 4 Chosen: 8 ECU
 SG_ Which M : 0|1@1+ (1,0) [0|0] "" ECU
 SG_ Zero m0 : 8|8@1+ (3,0) [0|300] "" ECU
 SG_ One m1 : 8|8@1- (1,0) [0|0] "" ECU

VAL_ 1 State 0 "off" 1 "on" ;
VAL_ 1 Named 3 "three" ;
"""
RANGES = {
    "Ruled": (-20, 20),
    "Named": (4, 20),
    "Zero": (0, 300),
    "Even0": (0, 20000),
    "Even1": (100, 30000),
}
CHANNEL = Channel(0, "CAN1", "mdf4", 1)


def random_frames(rows: int) -> CanFrames:
    random = np.random.default_rng(rows)
    none = np.zeros(rows, bool)
    return CanFrames(
        log_time_ns=np.arange(rows) * 1000,
        sequence=np.arange(rows),
        bus=np.ones(rows),
        can_id=random.integers(1, 5, rows),
        is_extended=none,
        is_fd=none,
        is_remote=none,
        is_error=none,
        dlc=np.full(rows, 8),
        arena=np.frombuffer(random.bytes(8 * rows), np.uint8),
        starts=np.arange(rows) * 8,
        lengths=np.where(random.random(rows) < 0.01, 2, 8),
        is_transmitted=np.zeros(rows),
    )


def sorted_rows(batches) -> pa.Table:
    for batch in batches:
        batch.validate(full=True)
    table = pa.Table.from_batches(batches)
    keys = [("signal", "ascending"), ("sequence", "ascending")]
    return table.sort_by(keys).combine_chunks()


@pytest.mark.parametrize("rows", [1000, 6000, 300_000])
def test_messages_give_the_rows_that_their_signals_give(rows):
    """Values, texts, units and times are the same, of few frames and of more than a batch takes.

    Fault 35: what lies outside of its stated range is a value as any other, and is said to.
    """
    context = DecodeContext("0" * 64, date(2026, 1, 1))
    decoded = decode_frames(random_frames(rows).packed(), {1: [parse_dbc(DEFINITION)]})
    parts = [
        SignalPart(
            name=signal.name,
            source=block.message.name,
            unit=signal.unit,
            definition_hash=block.definition_hash,
            sequence=block.sequence,
            log_time_ns=block.log_time_ns,
            samples=block.samples(at),
            range=signal.range,
        )
        for block in decoded.blocks
        for at, signal in enumerate(block.signals)
    ]
    found = sorted_rows(RowMaker(context).block_batches(decoded.blocks, channel=CHANNEL))
    assert found.equals(sorted_rows([RowMaker(context).signals(parts, channel=CHANNEL)]))
    assert found.equals(sorted_rows(RowMaker(context).signal_batches(parts, channel=CHANNEL)))
    assert found.num_rows == sum(len(part.log_time_ns) for part in parts)
    assert set(found["signal"].to_pylist()) == {part.name for part in parts}
    in_range = found.filter(pc.is_valid(found["in_range"]))
    assert set(in_range["signal"].to_pylist()) == RANGES.keys()
    for name, (low, high) in RANGES.items():
        own = found.filter(pc.equal(found["signal"], name))
        marks = own["in_range"].to_pylist()
        values = own["value"].to_pylist()
        assert marks == [None if one is None else low <= one <= high for one in values]
        assert False in marks


LIMITED = """VERSION ""
NS_ :
BS_:
BU_: Vector__XXX
BO_ 1 Limited: 8 ECU
 SG_ Rising : 0|8@1+ (0.5,-40) [-40|62.5] "m" Vector__XXX
 SG_ Falling : 8|8@1+ (-0.5,20) [-100|19] "m" Vector__XXX
 SG_ Below : 16|8@1+ (-1,100) [60|100] "m" Vector__XXX
"""
RAW_LIMITS = {"Rising": (0, 205), "Falling": (2, 240), "Below": (0, 40)}


def as_arxml(text: str) -> str:
    """A DBC as ARXML by canmatrix, with rules where cantools looks for them, and raw limits."""
    written = io.BytesIO()
    dump({"": load(io.BytesIO(text.encode()), "dbc")[""]}, written, "arxml")
    made = re.sub("<BASE-TYPE-REF.*", "", written.getvalue().decode())
    made = made.replace("<COMPU-INTERNAL", "<CATEGORY>LINEAR</CATEGORY><COMPU-INTERNAL")
    parts = made.split("<COMPU-SCALE>")
    limits = [f"<LOWER-LIMIT>{a}</LOWER-LIMIT><UPPER-LIMIT>{b}<" for a, b in RAW_LIMITS.values()]
    made = parts[0] + "".join(
        f"<COMPU-SCALE>{limit}/UPPER-LIMIT>{part}"
        for limit, part in zip(limits, parts[1:], strict=True)
    )
    return re.sub(
        r"(?<=<SYSTEM-SIGNAL>)\s*<SHORT-NAME>(\w+)</SHORT-NAME>",
        r"<SHORT-NAME>\1</SHORT-NAME><PHYSICAL-PROPS><SW-DATA-DEF-PROPS-VARIANTS>"
        r"<SW-DATA-DEF-PROPS-CONDITIONAL><COMPU-METHOD-REF DEST='COMPU-METHOD'>"
        r"/DataType/Semantics/\1</COMPU-METHOD-REF></SW-DATA-DEF-PROPS-CONDITIONAL>"
        r"</SW-DATA-DEF-PROPS-VARIANTS></PHYSICAL-PROPS>",
        made,
    )


@pytest.mark.parametrize("form", ["dbc", "kcd", "arxml"])
def test_limits_are_of_physical_values_in_every_form(form):
    """Fault 35: with a scale and an offset, in_range ends where the form's own limits say.

    Of every raw number; where values fall as raw ones rise, the lowest raw one limits them above.
    """
    text = LIMITED
    if form == "arxml":
        text = as_arxml(text)
    elif form == "kcd":
        text = cantools.database.load_string(text, "dbc").as_kcd_string()
    raw = np.arange(256)
    found = rows_of(parse_definition(text.encode()), np.repeat(raw, 8).astype(np.uint8))
    for name, (low, high) in RAW_LIMITS.items():
        own = found.filter(pc.equal(found["signal"], name))
        assert own["raw_value"].to_pylist() == raw.tolist()
        assert own["in_range"].to_pylist() == [low <= one <= high for one in raw.tolist()], name


@pytest.mark.parametrize(
    ("layout", "limits", "inside", "outside"),
    [
        ("16@1+ (0.1,0)", "0|0.3", 3, 4),
        ("16@1+ (0.00390625,0)", "0|250.996", 64255, 64256),
        ("16@1+ (0.4,0)", "0|100", 250, 251),
        ("16@1+ (10,0)", "0|106", 10, 11),
        ("16@1- (0.1,-0.7)", "0|5", 7, 6),
    ],
)
def test_a_limit_is_a_value_as_written(layout, limits, inside, outside):
    """Rounding puts no value that is a limit out of range: 3 times 0.1 is more than 0.3."""
    text = (
        f"{DEFINITION.split(b'BO_ 1 ')[0].decode()}BO_ 1 M: 8 ECU\n SG_ S : 0|{layout} [{limits}]"
    )
    payload = np.array([inside, 0, 0, 0, outside, 0, 0, 0], np.uint16).view(np.uint8)
    assert rows_of(parse_dbc(f'{text} "" ECU\n'.encode()), payload)["in_range"].to_pylist() == [
        True,
        False,
    ]


def test_a_limit_of_single_floats_is_theirs():
    """0.1 as a single is more than 0.1, and not above a limit of 0.1; the next single is."""
    text = LIMITED.split("BO_ 1 ", maxsplit=1)[0]
    text += 'BO_ 1 M: 8 ECU\n SG_ S : 0|32@1- (1,0) [-0.1|0.1] "" ECU\nSIG_VALTYPE_ 1 S : 1;\n'
    payload = np.zeros((3, 2), np.float32)
    tenth = np.float32(0.1)
    payload[:, 0] = tenth, -tenth, np.nextafter(tenth, np.float32(1))
    found = rows_of(parse_dbc(text.encode()), payload.reshape(-1).view(np.uint8))
    assert found["in_range"].to_pylist() == [True, True, False]


def rows_of(definition, payloads) -> pa.Table:
    """Signals of frames of eight bytes of message 1."""
    frames = attrs.evolve(random_frames(len(payloads) // 8), arena=payloads)
    count = len(payloads) // 8
    frames = attrs.evolve(frames, can_id=np.ones(count), lengths=np.full(count, 8))
    blocks = decode_frames(frames.packed(), {1: [definition]}).blocks
    maker = RowMaker(DecodeContext("0" * 64, date(2026, 1, 1)))
    return sorted_rows(maker.block_batches(blocks, channel=CHANNEL))


@pytest.mark.parametrize("repeats", [1, 100])
def test_numbers_that_are_none_are_kept_to_the_bit(repeats):
    """Fault 35: NaN, infinities, denormals and both zeros are values, and never null or 0.

    Of few samples and of many: the rows of both are made in ways of their own. An invalid sample
    is null, whatever its bits are.
    """
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, 5e-324, -2e-310, 0.0, -0.0, 1e308])
    value = np.tile(odd, repeats * 3)
    times = np.arange(len(value), dtype=np.int64)
    valid = times % 2 == 0
    maker = RowMaker(DecodeContext("0" * 64, date(2026, 1, 1)))
    for is_value in (always(len(value)), valid):
        samples = Samples(value, is_value, no_text(len(value)), (), None)
        part = SignalPart("odd", "group", "", "", times, times, samples)
        found = pa.Table.from_batches(maker.signal_batches([part], channel=CHANNEL))
        column = found.column("value").combine_chunks()
        assert column.is_valid().to_pylist() == is_value.tolist()
        kept = column.drop_null().to_numpy().view(np.uint64)
        assert kept.tolist() == value[is_value].view(np.uint64).tolist()
