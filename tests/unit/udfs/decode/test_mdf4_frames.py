from __future__ import annotations

import json
import struct

import attrs
import numpy as np
import pytest

from tests.unit.udfs.decode.mdf_files import (
    DBC,
    FRAMES,
    bus_file,
    frame_rows,
    signals,
)
from tests.unit.udfs.decode.recordings import CONTEXT, account_of
from udfs.decode.recording import table_of_channel

FRAME_FILES = {
    "css_can_finalised_split/00000005-60FEB5A8.MF4": 5477,
    "css_can_unfinalised/00000001.MF4": 5588,
    "css_can_unfinalised/00000002.MF4": 9600,
    "mdf4-rs/29-bit-obd2.MF4": 30,
}


def sample(samples, name: str) -> bytes:
    return (samples / "mdf" / name).read_bytes()


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
    assert len(own) == FRAME_FILES[name]
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


def test_lin_frames_give_signals_and_stay_as_they_are(tmp_path):
    """With a definition for the LIN bus its frames give the signals that asammdf extracts."""
    from asammdf import MDF

    text = DBC.replace("BO_ 256", "BO_ 16").replace("VAL_ 256", "VAL_ 16")
    frames = [(16, 0, 0, struct.pack("<HB5x", 1234 + i, 9)) for i in range(50)]
    data = bus_file(prefix="LIN_Frame", frames=[*frames, (33, 0, 0, bytes(8))], bus_kind=3)
    context = attrs.evolve(CONTEXT, definitions={"lin:*": text.encode(), "can:*": DBC.encode()})
    account = account_of(data, context=context)
    assert len(account.tables["raw_messages"]) == 51
    assert [row["value"] for row in signals(account, "Speed")] == pytest.approx(
        [(1234 + i) / 100 for i in range(50)]
    )
    (entry,) = (entry for entry in account.ledger if entry.reason_code == "NO_DEFINITION")
    assert "0x21: 1" in entry.detail
    path, dbc = tmp_path / "lin.mf4", tmp_path / "lin.dbc"
    path.write_bytes(data)
    dbc.write_text(text)
    with MDF(path) as mdf:
        other = mdf.extract_bus_logging({"LIN": [(str(dbc), 0)]}).get("Speed")
    own = [row["value"] for row in signals(account, "Speed")]
    np.testing.assert_allclose(other.samples, own, rtol=1e-12)
