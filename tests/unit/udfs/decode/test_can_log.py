"""CAN logs in ASC, BLF, TRC and candump: the rows are python-can's, and nothing is lost silently.

Oracle: python-can 4.6, where it is right; where it is not the test says so.
"""

from __future__ import annotations

import random
import re
import zlib

import can
import pytest

from contracts.errors import PlatformError, ResourceLimitError
from tests.unit.udfs.decode.can_logs import CONTEXT, SUFFIXES, decoded, messages, written
from udfs.decode import can_log, can_log_blf, can_log_blf_objects, can_log_part
from udfs.decode.recording import index_recording, iter_table_groups
from udfs.decode.sniff import sniff
from udfs.decode.source import BytesSource
from udfs.encodings.can import DATA_LENGTHS

FORMS = tuple(SUFFIXES)
DBC = b"""VERSION ""
BU_: A
BO_ 291 Speed: 8 A
 SG_ speed_m_s : 0|16@1+ (0.5,0) [0|100] "m/s" A
"""


def _of_row(row):
    return (
        row["can_id"],
        row["is_extended"],
        row["is_fd"],
        row["is_remote"],
        row["is_error"],
        bytes(row["data"]),
        row["direction"],
    )


def _of_message(frame):
    direction = "Rx" if frame.is_rx else "Tx"
    return (
        frame.arbitration_id,
        frame.is_extended_id,
        frame.is_fd,
        frame.is_remote_frame,
        frame.is_error_frame,
        bytes(frame.data),
        direction,
    )


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_those_of_python_can(tmp_path, form):
    """Every field of every frame equals what was written, in every format."""
    frames = messages(3000, form=form)
    outcome = decoded(written(tmp_path, form, frames))
    rows = outcome.rows()
    assert outcome.index.format == form
    assert len(rows) == len(frames)
    for row, frame in zip(rows, frames, strict=True):
        if frame.is_error_frame:
            assert row["is_error"]
            continue
        assert _of_row(row) == _of_message(frame)
        if not (form == "candump" and frame.is_remote_frame):  # whose writer leaves it out
            assert DATA_LENGTHS[row["dlc"]] == frame.dlc or row["is_remote"]
        bus = frame.channel if form == "candump" else frame.channel + 1
        assert row["bus"] == bus
    assert outcome.balance == (outcome.balance[2], 0, outcome.balance[2])
    assert outcome.tiles
    assert not outcome.bad


@pytest.mark.parametrize("form", FORMS)
def test_times_are_exact(tmp_path, form):
    """Times are those of the text, to its last digit, counted from the date of the log."""
    frames = messages(200, form=form)
    rows = decoded(written(tmp_path, form, frames)).rows()
    first = rows[0]["log_time_ns"]
    precision_ns = {"asc": 1_000, "blf": 1, "trc": 1_000, "candump": 1_000}[form]
    for row, frame in zip(rows, frames, strict=True):
        expected = round((frame.timestamp - frames[0].timestamp) * 1e9)
        assert abs(row["log_time_ns"] - first - expected) <= precision_ns
        assert row["log_time_ns"] % precision_ns in (0, first % precision_ns)
    assert abs(first - int(frames[0].timestamp * 1e9)) < 86_400 * 10**9  # ASC is in local time


@pytest.mark.parametrize("form", FORMS)
def test_units_decode_on_their_own(tmp_path, form, monkeypatch):
    """A log cut into many units gives the same rows, each unit read without the others."""
    data = written(tmp_path, form, messages(3000, form=form))
    whole = decoded(data)
    for module in (can_log, can_log_blf_objects, can_log_part):
        monkeypatch.setattr(module, "UNIT_BYTES", 4096)
    monkeypatch.setattr(can.BLFWriter, "max_container_size", 1000)
    data = written(tmp_path, form, messages(3000, form=form))
    source = BytesSource(data)
    index = index_recording(source)
    assert len(index.units) > 10
    outcome = decoded(data)
    assert outcome.rows() == whole.rows()
    assert outcome.rows("raw_messages") == whole.rows("raw_messages")
    shuffled = list(index.units)
    random.Random(1).shuffle(shuffled)  # noqa: S311
    found = [
        row
        for group in iter_table_groups(source, index, context=CONTEXT, units=shuffled)
        for table, batch in group.tables
        if table == "can_frames"
        for row in batch.to_pylist()
    ]
    key = lambda row: (row["log_time_ns"], row["topic"], row["sequence"])  # noqa: E731
    assert sorted(found, key=key) == whole.rows()


@pytest.mark.parametrize("form", FORMS)
def test_signals_by_definition(tmp_path, form):
    """A bus definition gives signals as for MDF; frames that it does not know are counted."""
    frames = [
        can.Message(timestamp=1e9 + i, channel=0, arbitration_id=291 + i % 2, is_extended_id=False,
                    data=(i * 2).to_bytes(2, "little") + bytes(6))
        for i in range(100)
    ]  # fmt: skip
    outcome = decoded(written(tmp_path, form, frames), bus_all=DBC)
    signals = outcome.rows("signals")
    assert [row["value"] for row in signals] == [float(i) for i in range(0, 100, 2)]
    assert {(row["signal"], row["source"], row["unit"]) for row in signals} == {
        ("speed_m_s", "Speed", "m/s")
    }
    assert outcome.ledger[0].reason_code == "NO_DEFINITION"
    assert "50 frames of 1 unknown ids (0x124: 50)" in outcome.ledger[0].detail


@pytest.mark.parametrize("form", ["asc", "trc", "candump"])
def test_garbage_lines_are_bad_messages(tmp_path, form):
    """Lines that are nothing, or frames with a field out of its range, are counted and kept."""
    data = written(tmp_path, form, messages(500, form=form))
    before = decoded(data)
    lines = data.split(b"\n")
    garbage = [b"\x00\xff\x80 rubbish", b"x" * 5000]
    for at, line in zip((100, 300), garbage, strict=True):
        lines.insert(at, line)
    outcome = decoded(b"\n".join(lines))
    assert outcome.rows() == before.rows()
    assert {message.first_bytes for message in outcome.bad} == {
        garbage[0],
        garbage[1][:1024],
    }
    joined = b"\n".join(lines)
    assert all(joined[m.offset :].startswith(m.first_bytes) for m in outcome.bad)
    written_count, bad, declared = outcome.balance
    assert (bad, written_count + bad) == (2, declared)


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("asc", b"1.0 1 FFFFFFFFF Rx d 1 00"),
        ("asc", b"1.0 1 800 Rx d 1 00"),
        ("asc", b"1.0 1 123 Rx d 4 00 11"),
        ("asc", b"1.0 1 123 Rx d 2 00 1G"),
        ("asc", b"1.0 1 123 Rx d"),
        ("asc", b"99999999999999.0 1 123 Rx d 0"),
        ("candump", b"(1.0) can0 123#112"),
        ("candump", b"(1.0) can0 123#1G"),
        ("candump", b"(1.0) can0 123#112233445566778899"),
        ("candump", b"(1.0) can0 FFF#11"),
        ("candump", b"(1.0) can0"),
        ("candump", b"(99999999999.0) can0 123#11"),
        ("trc", b"     9)      1841 0FFF  8 00 00 00 00 00 00 00 00"),
        ("trc", b"     9)      1841 0001  8 00 00 00"),
        ("trc", b"     9)      1841 0001  99 00 00 00"),
    ],
)
def test_frames_that_are_none(form, line):
    """A line that claims to be a frame and can't be one is bad, never a row with other values."""
    heads = {"asc": b"base hex timestamps absolute\n", "trc": b"; trace\n", "candump": b""}
    good = {
        "asc": b"0.5 1 123 Rx d 1 77",
        "trc": b"     1)      1841 0001  1 77",
        "candump": b"(0.5) can0 123#77",
    }
    outcome = decoded(b"\n".join([heads[form] + good[form], line, good[form], b""]))
    assert [bytes(row["data"]) for row in outcome.rows()] == [b"\x77", b"\x77"]
    assert [message.first_bytes for message in outcome.bad] == [line]


def test_asc_relative_times_and_decimal_base():
    """Relative times add up over units' borders; in base dec ids and data are decimal."""
    data = (
        b"date Mon Jan 1 12:00:00 am 2024\nbase dec  timestamps relative\n"
        b"0.5 1 100 Rx d 2 10 255\n0.25 1 200x Tx d 0\n0.25 Statistic: x\n1.0 2 ErrorFrame\n"
    )
    outcome = decoded(data)
    rows = outcome.rows()
    start = 1_704_067_200_000_000_000
    assert [row["log_time_ns"] - start for row in rows] == [
        500_000_000,
        750_000_000,
        2_000_000_000,
    ]
    assert [row["can_id"] for row in rows] == [100, 200, None]
    assert bytes(rows[0]["data"]) == b"\x0a\xff"
    assert outcome.rows("raw_messages")[0]["data"] == b"0.25 Statistic: x"


def test_asc_relative_times_go_on_in_the_next_unit(monkeypatch):
    """The clock of a log with relative times is handed from unit to unit."""
    head = b"date Mon Jan 1 00:00:00 2024\nbase hex timestamps relative\n"
    data = head + b"0.001 1 100 Rx d 0\n" * 2000
    whole = decoded(data).rows()
    monkeypatch.setattr(can_log, "UNIT_BYTES", 1000)
    parts = decoded(data).rows()
    assert parts == whole
    assert whole[-1]["log_time_ns"] - whole[0]["log_time_ns"] == 1999 * 10**6


def test_trc_versions():
    """Each version of the trace format has its columns in their own places."""
    data = {
        "1.1": b";$FILEVERSION=1.1\n;$STARTTIME=45292.5\n  1)  1000.5  Rx  0123  2  01 02\n"
        b"  2)  1001.5  Warng  FFFFFFFF  4  00 00 00 08  BUSLIGHT\n"
        b"  3)  1002.5  Tx  18FF0000  1  RTR\n",
        "1.3": b";$FILEVERSION=1.3\n;$STARTTIME=45292.5\n  1)  1000.5 2 Rx  0123 -  2  01 02\n"
        b"  2)  1001.5 2 Warng FFFFFFFF - 4 00 00 00 08\n"
        b"  3)  1002.5 2 Tx  18FF0000 - 1  RTR\n",
        "2.0": b";$FILEVERSION=2.0\n;$STARTTIME=45292.5\n;$COLUMNS=N,O,T,I,d,l,D\n"
        b" 1 1000.5 DT 0123 Rx 2 01 02\n 2 1001.5 ST Rx 00 00 00 08\n"
        b" 3 1002.5 RR 18FF0000 Tx 1\n 4 1003.5 ER Rx 5 04 00 02 00 00\n"
        b" 5 1004.5 FB 0400 Tx 12 01 02 03 04 05 06 07 08 09 0A 0B 0C\n",
    }
    for version, text in data.items():
        outcome = decoded(text)
        rows = outcome.rows()
        assert not outcome.bad
        assert (rows[0]["can_id"], bytes(rows[0]["data"]), rows[0]["direction"]) == (
            0x123,
            b"\1\2",
            "Rx",
        )
        assert rows[0]["log_time_ns"] == 1_704_110_400_000_000_000 + 1_000_500_000
        assert (rows[1]["can_id"], rows[1]["is_extended"]) == (0x18FF0000, True)
        assert rows[1]["is_remote"]
        assert len(outcome.rows("raw_messages")) == 1
        assert rows[0]["bus"] == (2 if version == "1.3" else None)
    assert [row["is_error"] for row in rows] == [False, False, True, False]
    assert bytes(rows[2]["data"]) == b"\4\0\2\0\0"
    assert (rows[3]["is_fd"], rows[3]["dlc"], len(rows[3]["data"])) == (True, 9, 12)


def test_candump_console_form():
    """What candump shows on a console reads like its file format."""
    data = (
        b" (1436509052.249713)  vcan0  044   [8]  2A 36 6C 2B BA 11 22 33\n"
        b" (1436509052.449847)  can2  0ABCDEF0  [12]  01 02 03 04 05 06 07 08 09 0A 0B 0C\n"
        b" (1436509052.5)  can2  123   [0]  remote request\n"
    )
    rows = decoded(data).rows()
    assert [row["topic"] for row in rows] == ["vcan0", "can2", "can2"]
    assert rows[0]["log_time_ns"] == 1_436_509_052_249_713_000
    assert bytes(rows[0]["data"]) == bytes.fromhex("2A366C2BBA112233")
    assert (rows[1]["is_fd"], rows[1]["is_extended"], len(rows[1]["data"])) == (True, True, 12)
    assert rows[2]["is_remote"]


def test_blf_truncated(tmp_path):
    """A BLF that ends early gives every whole object before the cut, and says that it is cut."""
    can_frames = messages(20_000, form="blf")
    data = written(tmp_path, "blf", can_frames)
    whole = decoded(data).rows()
    outcome = decoded(data[: len(data) * 2 // 3])
    rows = outcome.rows()
    assert 0 < len(rows) < len(whole)
    assert rows == whole[: len(rows)]
    finding = next(one for one in outcome.index.findings if one.code == "TRUNCATED")
    assert finding.lost_messages == len(whole) - len(rows)
    assert any(entry.messages_lost is None for entry in outcome.ledger)
    assert outcome.tiles


@pytest.mark.parametrize("form", ["asc", "candump", "trc"])
def test_a_line_that_is_cut_is_no_other_frame(tmp_path, form):
    """Wherever a text ends: no frame that the whole log has not, and what is left of one is bad.

    Half of a line looks like a shorter frame, or like one whose last byte is another.
    """
    data = written(tmp_path, form, messages(12, form=form))
    if form == "asc":  # what stands behind the last frame
        data = data[: data.rindex(b"\nEnd TriggerBlock") + 1]
    whole = decoded(data).rows()
    for line in data.splitlines(keepends=True)[:-6:-1]:
        data = data.removesuffix(line)
        for length in range(1, len(line)):
            outcome = decoded(data + line[:length])
            rows = outcome.rows()
            assert rows == whole[: len(rows)], line[:length]
            is_whole, is_bad = len(rows) == len(whole), outcome.balance[1] == 1
            assert is_whole or len(rows) == len(whole) - 1
            assert is_whole + is_bad == bool(line[:length].strip()), line[:length]
        whole = whole[:-1]


def test_blf_damaged_container(tmp_path, monkeypatch):
    """A container whose checksum fails is dropped as a unit; objects on its borders are lost."""
    monkeypatch.setattr(can.BLFWriter, "max_container_size", 4000)
    data = bytearray(written(tmp_path, "blf", messages(2000, form="blf")))
    whole = {(r["topic"], r["log_time_ns"]): r for r in decoded(bytes(data)).rows()}
    starts = [found.start() for found in re.finditer(b"LOBJ", bytes(data))]
    data[starts[5] + 200] ^= 1
    outcome = decoded(bytes(data))
    rows = outcome.rows()
    assert len(whole) - 120 < len(rows) < len(whole)
    strip = lambda row: {k: v for k, v in row.items() if k != "sequence"}  # noqa: E731
    for row in rows:
        assert strip(row) == strip(whole[row["topic"], row["log_time_ns"]])
    assert any(e.reason_code == "CHUNK_DAMAGED" for e in outcome.ledger)
    missing = next(f for f in outcome.index.findings if f.code == "COUNT_MISMATCH")
    assert missing.lost_messages == len(whole) - len(rows)


def test_blf_never_changes_silently(tmp_path):
    """Of 300 flipped bits each gives the same rows, or is told: flag, bad message or damage."""
    data = written(tmp_path, "blf", messages(400, form="blf"))
    whole = decoded(data)
    chance = random.Random(3)  # noqa: S311
    for _ in range(300):
        at, bit = chance.randrange(144, len(data)), chance.randrange(8)
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        try:
            outcome = decoded(bytes(damaged))
        except PlatformError:
            continue
        told = any(entry.messages_lost is None for entry in outcome.ledger) or outcome.bad
        assert told or outcome.rows() == whole.rows(), (at, bit)


@pytest.mark.parametrize("year", [1601, 2300, 65535])
def test_blf_date_beyond_64_bits(tmp_path, year):
    """A start from which no time fits 64 bits is none; the rows stay, and it is said."""
    data = bytearray(written(tmp_path, "blf", messages(50, form="blf")))
    fields = list(can_log_blf._FILE_HEADER.unpack(data[: can_log_blf._FILE_HEADER.size]))
    fields[14] = year
    data[: can_log_blf._FILE_HEADER.size] = can_log_blf._FILE_HEADER.pack(*fields)
    outcome = decoded(bytes(data))
    assert len(outcome.rows()) == 50
    assert "NO_TIME" in {finding.code for finding in outcome.index.findings}


def test_asc_times_beyond_64_bits():
    """Fault 19: no date and no time wraps: such a date is none, lines with such times are bad."""
    line = b"%s 1 100 Rx d 1 00\n"
    far = decoded(b"date Mon Jan 1 00:00:00 9999\n" + line % b"1.0")
    assert [row["log_time_ns"] for row in far.rows()] == [10**9]
    late = decoded(b"date Mon Jan 1 00:00:00 2100\n" + line % b"1.0" + line % b"9000000000.0")
    assert (len(late.rows()), len(late.bad)) == (1, 1)
    head = b"date Mon Jan 1 00:00:00 2024\nbase hex timestamps relative\n"
    sums = decoded(head + line % b"1.0" + line % b"4000000000.0" * 3)
    assert (len(sums.rows()), len(sums.bad)) == (2, 2)
    assert all(row["log_time_ns"] > 0 for row in sums.rows())


def test_no_log_claims_a_checksum(tmp_path):
    """Fault 9: no format of logs covers the start that its times count from: integrity NONE."""
    for form in FORMS:
        data = written(tmp_path, form, messages(5, form=form))
        assert index_recording(BytesSource(data)).integrity == "NONE"


def test_blf_bomb():
    """A container that declares far more than it holds is refused before it is inflated."""
    body = zlib.compress(bytes(64 << 20), 9)
    container = can_log_blf_objects.CONTAINER.pack(b"LOBJ", 16, 1, 32 + len(body), 10, 2, 64 << 20)
    header = can_log_blf._FILE_HEADER.pack(b"LOGG", 144, *[0] * 8, 0, 0, 0, 0, *[0] * 16)
    with pytest.raises(ResourceLimitError):
        decoded(header.ljust(144, b"\0") + container + body)


@pytest.mark.parametrize("form", FORMS)
def test_cuts_and_flips_never_crash(tmp_path, form):
    """200 cuts and splices: rows that are there, or a stated error; the balance always holds."""
    data = written(tmp_path, form, messages(60, form=form))
    chance = random.Random(11)  # noqa: S311
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(damaged))
            if chance.random() < 0.3:
                del damaged[at : at + chance.randrange(1, 60)]
            else:
                damaged[at] = chance.randrange(256)
        try:
            outcome = decoded(bytes(damaged))
        except PlatformError:
            continue
        written_count, bad, declared = outcome.balance
        assert written_count + bad == declared
        assert outcome.tiles


def test_real_files(samples):
    """Real logs: every frame of theirs; python-can drops the first line behind a short header."""
    counts = {
        "can/asc/css/multiple_CAN.asc": 164,
        "can/asc/css/multiple_LIN.asc": 12,
        "can/asc/css/single_can_bus_1_CAN.asc": 1,
        "can/asc/css/single_lin_bus_1_LIN.asc": 1,
        "can/lgpl_python-can/logfile.asc": 20,
        "can/lgpl_python-can/test_CanMessage.asc": 2,
        "can/lgpl_python-can/issue_1905.blf": 22,
    }
    for name, count in counts.items():
        path = samples / name
        outcome = decoded(path.read_bytes())
        rows = outcome.rows()
        assert (len(rows), outcome.bad) == (count, ()), name
        found = sorted(can.LogReader(path), key=lambda message: message.timestamp)
        assert len(rows) - len(found) in (0, 1), name
        for row, message in zip(rows[len(rows) - len(found) :], found, strict=True):
            if not message.is_error_frame and "LIN" not in name and row["dlc"] <= 8:
                expected = _of_message(message)
                assert _of_row(row)[:2] == expected[:2], name
                assert _of_row(row)[3:] == expected[3:], name
            last = rows[-1]["log_time_ns"] - row["log_time_ns"]
            assert abs(last - (found[-1].timestamp - message.timestamp) * 1e9) < 1000, name


def test_a_log_of_too_many_buses_is_refused():
    """A hostile log that names a bus in each line ends at once, whatever its length."""
    data = b"".join(b"(1.0) can%d 123#11\n" % i for i in range(20_000))
    with pytest.raises(ResourceLimitError) as caught:
        decoded(data)
    assert caught.value.code == "RESOURCE_LIMIT"


def test_sniffed_by_content(tmp_path):
    """Logs are told by what is in them."""
    for form in FORMS:
        data = written(tmp_path, form, messages(5, form=form))
        assert sniff(BytesSource(data)).format == form
