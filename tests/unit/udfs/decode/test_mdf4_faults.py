from __future__ import annotations

import struct
from collections import Counter

import numpy as np
import pytest

from contracts.errors import DecodeError
from tests.unit.udfs.decode.mdf_files import (
    DBC,
    FRAMES,
    START_NS,
    MdfBuilder,
    bus_file,
    make_every_kind,
    mixed_file,
    numbered_records,
    numbers,
    plain_file,
    signals,
    zipped_file,
)
from tests.unit.udfs.decode.recordings import account_of, outcome_of
from udfs.decode.recording import index_recording
from udfs.decode.source import BytesSource


def sample(samples, name: str) -> bytes:
    return (samples / "mdf" / name).read_bytes()


def test_times_that_no_64_bits_hold_are_bad_messages(samples):
    """Fault 19: the 140 records of a real file whose times run to the year 2340 are set aside."""
    account = account_of(sample(samples, "peak/simple.mf4"))
    assert len(account.bad) == 140
    assert {one.error_class for one in account.bad} == {"TIME_OUT_OF_RANGE"}


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


def test_names_of_attachments_are_escaped_and_never_paths():
    """Fault 23: a name with dots, slashes and control characters is shown escaped only."""
    builder = MdfBuilder()
    builder.attachment(b"hello", "../../etc/passwd\n\x1b", packed=True)
    channels = [builder.time(), builder.channel("number", data_type=2, byte=8, bits=32)]
    builder.data_group([builder.group(channels, cycles=0, size=12)], 0)
    (attachment,) = index_recording(BytesSource(builder.bytes())).attachments
    assert attachment.name == "../../etc/passwd\\n\\x1b"


def test_bit_flips_never_go_uncounted(tmp_path):
    """Any flipped bit ends in rows that balance with the ledger or in a reason, never in a hang.

    A file is refused for few of them: most cost nothing, or what they hit.
    """
    random = np.random.default_rng(11)
    outcomes = Counter()
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
            outcomes[outcome_of(bytes(flipped))] += 1
    assert outcomes["reported"] > 100
    assert outcomes["refused"] < 30


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
