from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import attrs
import numpy as np
import pytest
import zstandard
from mcap.records import ChunkIndex
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, IndexType, Writer

from contracts.errors import DecodeError, PlatformError, ResourceLimitError, UnsupportedFormatError
from contracts.recording import RecordingIndex
from tests.unit.udfs.decode.mcap_files import (
    DEFINED,
    MAGIC,
    channel_record,
    chunk_record,
    file_of,
    message_record,
    numbered,
    record,
    redefined,
    schema_record,
    text,
)
from tests.unit.udfs.decode.recordings import (
    CONTEXT,
    NUMBERS,
    account_of,
    cdr_number,
    mcap_bytes,
)
from tests.unit.udfs.oracles import mcap_messages
from udfs.decode import mcap
from udfs.decode.recording import index_recording, iter_table_groups
from udfs.decode.source import BytesSource, open_source


def offsets_of(data: bytes, op: int) -> list[int]:
    """File offsets of the records of a kind, by a walk of the test's own."""
    at, found = len(MAGIC), []
    while at + 9 <= len(data) - len(MAGIC):
        kind, length = struct.unpack_from("<BQ", data, at)
        if kind == op:
            found.append(at)
        at += 9 + length
    return found


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# Conformance


def _bytes(numbers: list[str]) -> bytes:
    return bytes(int(one) for one in numbers)


@pytest.mark.parametrize(
    ("family", "files"), [("NoData", 3), ("OneAttachment", 7), ("OneMessage", 77)]
)
def test_conformance_files_give_what_their_json_says(samples, family, files):
    """Every file of the MCAP project's conformance suite: schemas, channels, messages, the rest."""
    paths = sorted((samples / "mcap" / "conformance" / family).glob("*.mcap"))
    for path in paths:
        records: dict[str, list[dict]] = {}
        for one in json.loads(path.with_suffix(".json").read_text())["records"]:
            records.setdefault(one["type"], []).append(dict(one["fields"]))
        source = open_source(str(path))
        index = index_recording(source)
        assert index.findings == (), path
        _check_definitions(index, records)
        _check_contents(source, index, records)
    assert len(paths) == files


def _check_definitions(index: RecordingIndex, records: dict[str, list[dict]]) -> None:
    header = records["Header"][0]
    assert (index.profile, index.library) == (header["profile"], header["library"])
    schemas = {
        (int(s["id"]), s["name"], s["encoding"], _bytes(s["data"]))
        for s in records.get("Schema", [])
    }
    assert {(s.id, s.name, s.encoding, s.data) for s in index.schemas} == schemas
    channels = {
        (
            int(c["id"]),
            c["topic"],
            c["message_encoding"],
            int(c["schema_id"]),
            *c["metadata"].items(),
        )
        for c in records.get("Channel", [])
    }
    found = {
        (c.id, c.topic, c.message_encoding, c.schema_id, *c.metadata.items())
        for c in index.channels
    }
    assert found == channels
    statistics = records.get("Statistics")
    assert index.messages_declared == (int(statistics[0]["message_count"]) if statistics else None)


def _check_contents(source, index: RecordingIndex, records: dict[str, list[dict]]) -> None:
    messages = [
        (
            batch.channel_id,
            int(batch.sequence[i]),
            int(batch.log_time_ns[i]),
            int(batch.publish_time_ns[i]),
            batch.arena[batch.starts[i] : batch.starts[i] + batch.lengths[i]].tobytes(),
        )
        for group in mcap.iter_message_groups(source, index)
        for batch in group.batches
        for i in range(len(batch.starts))
    ]
    assert messages == [
        (
            int(m["channel_id"]),
            int(m["sequence"]),
            int(m["log_time"]),
            int(m["publish_time"]),
            _bytes(m["data"]),
        )
        for m in records.get("Message", [])
    ]
    attachments = [
        (a.name, a.media_type, a.log_time_ns, bytes(source.read_at(a.offset, a.length)))
        for a in index.attachments
    ]
    assert attachments == [
        (a["name"], a["media_type"], int(a["log_time"]), _bytes(a["data"]))
        for a in records.get("Attachment", [])
    ]
    assert index.metadata == {m["name"]: m["metadata"] for m in records.get("Metadata", [])}


# The samples and the reference reader


def test_sample_files_give_every_message_of_the_reference_reader(samples):
    """Real files: the same payloads, times and sequences, channel by channel, in file order."""
    compared = 0
    for path in sorted(samples.glob("mcap/r*/*.mcap")):
        source = open_source(str(path))
        index = index_recording(source)
        found: dict[int, list[tuple[int, int, int, bytes]]] = {}
        for group in mcap.iter_message_groups(source, index):
            for batch in group.batches:
                found.setdefault(batch.channel_id, []).extend(
                    (
                        int(batch.sequence[i]),
                        int(batch.log_time_ns[i]),
                        int(batch.publish_time_ns[i]),
                        batch.arena[batch.starts[i] :][: batch.lengths[i]].tobytes(),
                    )
                    for i in range(len(batch.starts))
                )
        wanted = {
            number: [(m.sequence, m.log_time, m.publish_time, m.data) for m in messages]
            for number, (_, _, messages) in mcap_messages(path).items()
        }
        assert found == wanted
        compared += sum(map(len, wanted.values()))
    assert compared == 1509


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_all_shapes_of_a_file_give_the_same_rows(compression, indexed, chunked):
    """Chunks or none, index or none, any compression: every message once, nothing to report."""
    data = mcap_bytes(
        compression=compression,
        use_chunking=chunked,
        index_types=IndexType.ALL if indexed else IndexType.NONE,
        repeat_channels=indexed,
        repeat_schemas=indexed,
        use_statistics=indexed,
        enable_data_crcs=True,
    )
    account = account_of(data)
    assert account.numbers == list(range(1000))
    assert account.codes == set()
    assert account.index.integrity == "CRC"
    assert {row["topic"] for row in account.rows if row["number"] % 2} == {"/odd"}
    assert (account.index.start_ns, account.index.end_ns) == (1_000_000_000, 1_999_000_000)


def test_each_unit_decodes_on_its_own():
    """A Spark split: any subset of units, with the index alone, gives exactly its messages."""
    data = mcap_bytes()
    source = BytesSource(data)
    index = index_recording(source)
    assert len(index.units) > 5
    numbers = []
    for unit in reversed(index.units):
        (group,) = iter_table_groups(source, index, context=CONTEXT, units=[unit])
        rows = [row for _, batch in group.tables for row in batch.to_pylist()]
        assert [entry.offset for entry in group.ledger] == [unit.offset]
        assert len(rows) == unit.message_count == sum(unit.channel_counts.values())
        numbers += [row["number"] for row in rows]
    assert sorted(numbers) == list(range(1000))


def test_a_selection_is_skipped_and_said_so():
    """Channels that are not asked for are neither written nor lost; the ledger still balances."""
    data = mcap_bytes()
    channels = {c.topic: c.id for c in index_recording(BytesSource(data)).channels}
    account = account_of(data, selection=[channels["/odd"]])
    assert account.numbers == list(range(1, 1000, 2))
    assert account.lost == 0
    nothing = account_of(data, selection=[])
    assert nothing.rows == []
    assert {e.fate for e in nothing.ledger} == {"skipped"}


def test_messages_are_read_in_file_order_whatever_the_index_says():
    """An index in another order, or sorted by time, never moves a message."""
    body = DEFINED + numbered(50)
    entries = [(1000 + i, len(DEFINED) + i * len(numbered(1))) for i in range(50)]
    shuffled = [entries[i] for i in np.random.default_rng(1).permutation(50)]
    index = b"".join(struct.pack("<QQ", *entry) for entry in shuffled)
    data = file_of(chunk_record(body), record(7, struct.pack("<H", 1) + text(index)))
    account = account_of(data)
    assert [row["number"] for row in account.rows] == list(range(50))
    assert account.codes == set()


# Faults 1-15 and 19


def test_1_zero_bytes():
    """Fault 1: EMPTY."""
    with pytest.raises(DecodeError) as caught:
        index_recording(BytesSource(b""))
    assert caught.value.code == "EMPTY"


def test_2_wrong_magic_shows_its_first_bytes():
    """Fault 2: BAD_MAGIC with the first sixteen bytes in hex, whatever the name says."""
    with pytest.raises(DecodeError) as caught:
        index_recording(BytesSource(b"\x00\x01garbage that is no recording", uri="drive.mcap"))
    assert caught.value.code == "BAD_MAGIC"
    assert "00 01 67 61 72 62 61 67 65 20 74 68 61 74 20 69" in str(caught.value)


@pytest.mark.parametrize("chunked", [True, False])
def test_3_truncated_file_keeps_what_stands_before_the_cut(chunked):
    """Fault 3: as many messages as the streaming reader finds; loss unknown; the gap is named."""
    whole = mcap_bytes(use_chunking=chunked)
    for cut in (len(whole) // 2, len(whole) // 3 + 7):
        data = whole[:cut]
        account = account_of(data)
        assert account.numbers == list(range(_streamed(data)))
        assert len(account.numbers) > 100
        assert account.codes == {"TRUNCATED"}
        assert account.lost is None
        gap = account.ledger[-1]
        assert (gap.fate, gap.offset + gap.length) == ("quarantined", cut)


def _streamed(data: bytes) -> int:
    count = 0
    try:
        for one in StreamReader(io.BytesIO(data), emit_chunks=False).records:
            count += type(one).__name__ == "Message"
    except Exception:  # noqa: BLE001, the reference fails at the cut in several ways
        return count
    return count


def test_4_no_footer_after_a_power_loss():
    """Fault 4: all messages before the end; loss unknown without DataEnd, else none."""
    whole = mcap_bytes()
    (data_end,) = offsets_of(whole, 15)
    account = account_of(whole[:data_end])
    assert account.numbers == list(range(1000))
    assert account.codes == {"NO_FOOTER"}
    (finding,) = account.index.findings
    assert (finding.loses, finding.lost_messages) == (True, None)
    account = account_of(whole[: data_end + 13])
    assert account.numbers == list(range(1000))
    (finding,) = account.index.findings
    assert (finding.code, finding.loses, finding.lost_messages) == ("NO_FOOTER", False, 0)


def test_5_last_byte_missing():
    """Fault 5: all rows, BAD_TRAILER, nothing lost."""
    account = account_of(mcap_bytes(enable_data_crcs=True)[:-1])
    assert account.numbers == list(range(1000))
    assert account.codes == {"BAD_TRAILER"}
    assert account.index.messages_declared == 1000
    assert not any(finding.loses for finding in account.index.findings)


@pytest.mark.parametrize(
    "compression", [CompressionType.NONE, CompressionType.ZSTD, CompressionType.LZ4]
)
def test_6_a_damaged_chunk_is_dropped_as_a_unit(compression):
    """Fault 6: one bit in a chunk's data: its messages are counted as lost, all others are kept."""
    data = mcap_bytes(compression=compression)
    units = index_recording(BytesSource(data)).units
    chunk = units[3]
    name = "" if compression is CompressionType.NONE else compression.name
    at = chunk.offset + 9 + 28 + 4 + len(name) + 8 + 200
    account = account_of(changed(data, at, bytes([data[at] ^ 0x10])))
    assert len(account.numbers) == 1000 - chunk.message_count
    assert account.lost == chunk.message_count
    assert account.codes <= {"CHUNK_CRC", "CHUNK_DAMAGED", "SIZE_MISMATCH"}
    assert len(account.codes) == 1


@pytest.mark.parametrize("statistics", [True, False])
def test_6_an_index_longer_than_its_entries_counts_for_nothing(statistics):
    """Fault 6: a damaged chunk whose index lost a bit of its count: nobody knows, or all of it."""
    data = mcap_bytes(use_statistics=statistics)
    chunk = index_recording(BytesSource(data)).units[3]
    index = next(one for one in offsets_of(data, 7) if one > chunk.offset)
    assert struct.unpack_from("<I", data, index + 11)[0] > 32
    data = changed(data, index + 11, struct.pack("<I", 32))
    assert account_of(data).numbers == list(range(1000))
    at = chunk.offset + 200
    account = account_of(changed(data, at, bytes([data[at] ^ 0x10])))
    assert len(account.numbers) == 1000 - chunk.message_count
    assert account.lost == (chunk.message_count if statistics else None)


def test_7_and_8_no_single_bit_flip_anywhere_goes_unnoticed():
    """Faults 6 to 8: any flipped bit leaves the rows unchanged or is reported; counts reconcile."""
    data = mcap_bytes(120, chunk_size=1024, enable_data_crcs=True)
    wanted = account_of(data)
    good = {row["number"]: row for row in wanted.rows}
    random = np.random.default_rng(11)
    outcomes = {"same": 0, "reported": 0, "refused": 0}
    for bit in random.choice(len(data) * 8, size=600, replace=False).tolist():
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        try:
            account = account_of(bytes(damaged))
        except PlatformError:
            outcomes["refused"] += 1
            continue
        assert all(row == good.get(row["number"]) for row in account.rows) or account.codes, bit
        if len(account.rows) == 120:
            outcomes["same"] += 1
        else:
            assert account.codes, bit
            assert account.lost is None or account.lost == 120 - len(account.rows) - len(
                account.bad
            )
            outcomes["reported"] += 1
    assert outcomes["reported"] > 100
    assert outcomes["refused"] < 60


def test_8_a_chunk_with_a_changed_opcode_is_counted():
    """Fault 8: a chunk that hides as an unknown record shows in the Statistics cross-check."""
    data = mcap_bytes()
    chunk = index_recording(BytesSource(data)).units[2]
    account = account_of(changed(data, chunk.offset, b"\x76"))
    assert len(account.numbers) == 1000 - chunk.message_count
    assert "COUNT_MISMATCH" in account.codes
    assert account.lost == chunk.message_count


def test_7_a_damaged_summary_is_not_believed():
    """Fault 7: a bit in a chunk index of the summary: SUMMARY_CRC, all rows kept."""
    data = mcap_bytes()
    at = offsets_of(data, 8)[1] + 9 + 16
    account = account_of(changed(data, at, bytes([data[at] ^ 4])))
    assert account.numbers == list(range(1000))
    assert account.codes == {"SUMMARY_CRC"}


def test_8_a_damaged_record_length_resumes_at_the_next_chunk():
    """A length that leads nowhere costs its chunk: the summary says where the next one begins."""
    data = mcap_bytes()
    chunk = index_recording(BytesSource(data)).units[4]
    for length in (1 << 40, 1 << 20, 77):
        account = account_of(changed(data, chunk.offset + 1, struct.pack("<Q", length)))
        assert len(account.numbers) == 1000 - chunk.message_count, length
        assert account.lost == chunk.message_count
        assert account.codes & {"RECORD_TOO_LARGE", "TRUNCATED", "BAD_RECORD"}


def test_9_without_checksums_integrity_is_none():
    """Fault 9: CRC 0 means that none was taken; the file is read and says so."""
    account = account_of(mcap_bytes(enable_crcs=False))
    assert account.numbers == list(range(1000))
    assert (account.index.integrity, account.codes) == ("NONE", set())


@pytest.mark.parametrize(("size", "claimed"), [(512 << 20, 512 << 20), (64 << 20, 64 << 20)])
def test_10_a_zstd_bomb_is_refused_by_its_declared_size(size, claimed):
    """Fault 10: a chunk beyond 256 MiB, or that grows more than 200 to 1: BOMB, unopened."""
    compressor = zstandard.ZstdCompressor().compressobj()
    block = bytes(1 << 20)
    bomb = b"".join(compressor.compress(block) for _ in range(size >> 20)) + compressor.flush()
    data = file_of(DEFINED, chunk_record(b"", "zstd", bomb, size=claimed, crc=0))
    with pytest.raises(ResourceLimitError) as caught:
        index_recording(BytesSource(data))
    assert caught.value.code == "BOMB"


def test_10_a_bomb_that_lies_about_its_size_is_stopped():
    """Fault 10: no byte beyond the declared size is decompressed."""
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    data = file_of(DEFINED, numbered(3), chunk_record(b"", "zstd", bomb, size=100, crc=0))
    account = account_of(data)
    assert account.numbers == [0, 1, 2]
    assert account.codes == {"SIZE_MISMATCH"}


def test_10_one_bomb_among_good_chunks_costs_itself_only():
    """A refused chunk is quarantined with its reason; the others decode."""
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    chunks = [chunk_record(DEFINED + numbered(5)), chunk_record(b"", "zstd", bomb, size=64 << 20)]
    account = account_of(file_of(*chunks, chunk_record(numbered(5, start=5))))
    assert account.numbers == list(range(10))
    assert account.codes == {"BOMB"}


def test_11_millions_of_empty_records_are_a_resource_limit():
    """Fault 11: a small chunk of endless records that are no messages stops at a count."""
    records = bytes([0x7F]) + bytes(8)
    body = DEFINED + records * 1_100_000
    stored = zstandard.ZstdCompressor().compress(body)
    filler = np.random.default_rng(0).bytes(len(body) // 150)
    # A skippable frame keeps the ratio low, as a patient attacker would.
    stored += b"\x50\x2a\x4d\x18" + struct.pack("<I", len(filler)) + filler
    data = file_of(DEFINED, numbered(2), chunk_record(body, "zstd", stored))
    account = account_of(data)
    assert account.numbers == [0, 1]
    assert account.codes == {"RESOURCE_LIMIT"}


def test_11_endless_records_in_the_file_itself_are_a_resource_limit():
    """The same outside of chunks: what stands before is kept, the rest is not visited."""
    account = account_of(file_of(DEFINED, numbered(2), (bytes([0x90]) + bytes(8)) * 1_000_100))
    assert account.numbers == [0, 1]
    assert account.codes == {"RESOURCE_LIMIT"}


def test_4_zeros_behind_the_last_record_are_no_records():
    """A file that was made longer before the power went: its empty end is named, not read."""
    account = account_of(file_of(DEFINED, chunk_record(numbered(4)), bytes(5000), closed=False))
    assert account.numbers == [0, 1, 2, 3]
    assert account.codes == {"BAD_RECORD"}


def test_12_unknown_compression_is_named():
    """Fault 12: UNSUPPORTED_COMPRESSION:name; a file with nothing else is refused."""
    data = file_of(DEFINED, chunk_record(numbered(5), "brotli"))
    with pytest.raises(UnsupportedFormatError) as caught:
        index_recording(BytesSource(data))
    assert caught.value.code == "UNSUPPORTED_COMPRESSION:brotli"
    account = account_of(file_of(DEFINED, numbered(5), chunk_record(numbered(5), "brotli")))
    assert account.numbers == [0, 1, 2, 3, 4]
    assert account.codes == {"UNSUPPORTED_COMPRESSION:brotli"}


def test_13_a_record_of_a_terabyte_is_too_large():
    """Fault 13: RECORD_TOO_LARGE; refused where nothing stands before it, else PARTIAL."""
    giant = struct.pack("<BQ", 5, 1 << 40)
    with pytest.raises(ResourceLimitError) as caught:
        index_recording(BytesSource(file_of(DEFINED, giant)))
    assert caught.value.code == "RECORD_TOO_LARGE"
    account = account_of(file_of(DEFINED, numbered(4), giant))
    assert account.numbers == [0, 1, 2, 3]
    assert account.codes == {"RECORD_TOO_LARGE"}


@pytest.mark.parametrize("chunked", [True, False])
def test_14_messages_of_an_unknown_channel_are_counted(chunked):
    """Fault 14: ORPHAN_MESSAGES n; the others are kept."""
    body = DEFINED + numbered(5) + numbered(3, channel=9) + numbered(2, start=5)
    account = account_of(file_of(chunk_record(body) if chunked else body))
    assert account.numbers == list(range(7))
    assert account.lost == 3
    assert account.codes == {"ORPHAN_MESSAGES"}


def test_15_a_changed_definition_ends_its_channel():
    """Fault 15: messages before keep the old definition; those behind are SCHEMA_CONFLICT."""
    other = schema_record(1, "pkg/msg/Number", "float32 changed\n")
    chunks = [
        chunk_record(DEFINED + channel_record(2, 0, "/other") + numbered(5)),
        chunk_record(numbered(2, start=5) + other + numbered(3, start=7)),
        chunk_record(numbered(4, start=10)),
    ]
    account = account_of(file_of(*chunks))
    assert account.numbers == list(range(7))
    assert account.lost == 7
    assert account.codes == {"SCHEMA_CONFLICT"}


@pytest.mark.parametrize("in_chunk", [True, False])
def test_15_each_unit_alone_knows_of_a_changed_definition(in_chunk):
    """Fault 15: what decode found in one unit, or the index between two, holds for all behind it.

    The first definition counts, whichever the summary has.
    """
    data, last = redefined(in_chunk=in_chunk)
    account = account_of(data)
    assert account.numbers == list(range(last))
    assert (account.lost, account.codes) == (60 - last, {"SCHEMA_CONFLICT"})
    source = BytesSource(data)
    index = index_recording(source)
    assert index.schemas[0].data == NUMBERS.encode()
    for group in iter_table_groups(source, index, context=CONTEXT) if in_chunk else ():
        index = attrs.evolve(index, conflicts={**index.conflicts, **group.conflicts})
    alone = [
        row["number"]
        for unit in reversed(index.units)
        for group in iter_table_groups(source, index, context=CONTEXT, units=[unit])
        for _, batch in group.tables
        for row in batch.to_pylist()
    ]
    assert sorted(alone) == list(range(last))


def test_19_times_beyond_int64_are_bad_messages():
    """Fault 19: TIME_OUT_OF_RANGE rows, never a time that wrapped."""
    late = message_record(1, 7, (1 << 63) + 5, cdr_number(7))
    body = DEFINED + numbered(3) + late + message_record(1, 8, (1 << 64) - 1, cdr_number(8))
    account = account_of(file_of(chunk_record(body)))
    assert account.numbers == [0, 1, 2]
    assert {one.error_class for one in account.bad} == {"TIME_OUT_OF_RANGE"}
    assert [one.first_bytes for one in account.bad] == [cdr_number(7), cdr_number(8)]
    assert account.index.end_ns == 1002


def test_16_unknown_encodings_are_kept_raw():
    """Fault 16: payload, encoding and definition hash are stored, never dropped."""
    out = io.BytesIO()
    writer = Writer(out)
    writer.start()
    schema = writer.register_schema("pkg.Thing", "flatbuffer", b"\1\2")
    channel = writer.register_channel("/thing", "flatbuffer", schema)
    for i in range(4):
        writer.add_message(channel, i, bytes([i] * i), i, i)
    writer.finish()
    account = account_of(out.getvalue())
    rows = account.tables["raw_messages"].to_pylist()
    assert [row["data"] for row in rows] == [bytes([i] * i) for i in range(4)]
    assert {row["schema_hash"] for row in rows} == {account.index.schemas[0].hash}
    assert {row["message_encoding"] for row in rows} == {"flatbuffer"}


def test_18_a_bad_payload_is_a_row_with_place_and_first_bytes():
    """Fault 18: the bad message is named with its error and its bytes, the rest is written."""
    body = (
        DEFINED
        + numbered(3)
        + message_record(1, 3, 1003, cdr_number(3)[:-2])
        + numbered(2, start=4)
    )
    account = account_of(file_of(chunk_record(body)))
    assert account.numbers == [0, 1, 2, 4, 5]
    (bad,) = account.bad
    assert (bad.error_class, bad.topic, bad.log_time_ns) == ("BAD_LENGTH", "/n", 1003)
    assert bad.first_bytes == cdr_number(3)[:-2]
    ((_, data),) = mcap.read_units(BytesSource(file_of(chunk_record(body))), [bad.unit_offset])
    assert bytes(data[bad.offset :][: len(bad.first_bytes)]) == bad.first_bytes


def test_20_messages_keep_the_order_of_the_file():
    """Fault 20: messages that are older than those before stay where they are, and are counted."""
    times = [1000, 1003, 1001, 1002, 900, 1004]
    body = DEFINED + b"".join(
        message_record(1, i, log_time, cdr_number(i)) for i, log_time in enumerate(times)
    )
    source = BytesSource(file_of(chunk_record(body)))
    (group,) = iter_table_groups(source, index_recording(source), context=CONTEXT)
    ((_, rows),) = group.tables
    assert rows.column("log_time_ns").to_pylist() == times
    order = group.order_by_channel[1]
    assert (order.first_ns, order.last_ns) == (1000, 1004)
    assert (order.backward, order.largest_step_ns) == (2, 102)


def test_22_repeated_messages_are_all_kept():
    """Fault 22: the same message, or the same time, twice is two rows: nobody declared them one."""
    once = message_record(1, 7, 1000, cdr_number(7))
    body = DEFINED + once + once + message_record(1, 8, 1000, cdr_number(8)) + once
    account = account_of(file_of(chunk_record(body)))
    assert [row["number"] for row in account.rows] == [7, 7, 8, 7]
    assert {row["log_time_ns"] for row in account.rows} == {1000}
    assert account.codes == set()


def test_23_an_attachment_name_is_escaped_and_its_checksum_verified():
    """Fault 23: a name is metadata, shown escaped; a damaged attachment is said to be."""
    out = io.BytesIO()
    writer = Writer(out, enable_data_crcs=False)
    writer.start()
    name = "../../etc/passwd\x00\n"
    writer.add_attachment(5, 6, name, "text/plain", b"hello world")
    writer.finish()
    data = out.getvalue()
    (found,) = index_recording(BytesSource(data)).attachments
    assert found.name == "../../etc/passwd\\x00\\n"
    assert data[found.offset : found.offset + found.length] == b"hello world"
    damaged = index_recording(BytesSource(changed(data, found.offset, b"J")))
    assert [finding.code for finding in damaged.findings] == ["ATTACHMENT_CRC"]
    assert damaged.attachments == ()


def test_a_data_section_that_differs_from_its_checksum_is_reported():
    """Loose messages have no checksum of their own: the data section's says that one is changed."""
    data = mcap_bytes(use_chunking=False, enable_data_crcs=True)
    at = data.index(cdr_number(500)) + 4
    account = account_of(changed(data, at, b"\xee"))
    assert len(account.rows) == 1000
    assert account.codes == {"DATA_CRC"}
    assert [finding.loses for finding in account.index.findings] == [True]


def test_private_and_future_records_between_chunks_are_passed_over():
    """Records of kinds that a reader does not know change nothing."""
    data = file_of(DEFINED, record(0x90, b"private"), chunk_record(numbered(4)), record(0x91, b""))
    account = account_of(data)
    assert account.numbers == [0, 1, 2, 3]
    assert account.codes == set()


@pytest.mark.parametrize("op", [0x16, 0x86])
@pytest.mark.parametrize("summary", [True, False])
def test_8_a_chunk_that_hides_as_another_record_is_a_loss(op, summary):
    """Fault 8: one bit makes a chunk of unknown or private kind: lost, as many as are known to be.

    Only the statistics say how many; without them, that it is unknown is said.
    """
    options = {} if summary else {"index_types": IndexType.NONE, "use_statistics": False}
    data = mcap_bytes(enable_data_crcs=not summary, **options)
    chunk = index_recording(BytesSource(data)).units[2]
    rows = len(account_of(data, units=[chunk]).rows)
    account = account_of(changed(data, chunk.offset, bytes([op])))
    assert len(account.numbers) == 1000 - rows
    assert account.lost == (rows if summary else None)
    assert "UNKNOWN_RECORD" in account.codes


def test_a_record_of_unknown_kind_that_the_checksum_covers_is_no_loss():
    """Where the data section holds to its checksum, what is unknown was written so."""
    body = MAGIC + record(1, text("") + text("by hand")) + chunk_record(DEFINED + numbered(4))
    body += record(0x40, b"of a later version")
    end = record(15, struct.pack("<I", zlib.crc32(body)))
    account = account_of(body + end + record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC)
    assert account.numbers == [0, 1, 2, 3]
    assert account.lost == 0


def test_8_a_data_end_that_was_a_message_index_does_not_end_the_file():
    """One bit makes DataEnd of a message index: its length gives it away, and nothing is lost."""
    data = mcap_bytes()
    index = offsets_of(data, 7)[1]
    account = account_of(changed(data, index, b"\x0f"))
    assert account.numbers == list(range(1000))
    assert account.codes == {"BAD_RECORD"}


@pytest.mark.parametrize("summary", [True, False])
def test_a_chunk_that_is_gone_without_a_trace_is_a_loss(summary):
    """Fault 8: records cut out whole: the statistics count them, else the checksum tells of them.

    The chunks that are left are right, but how many are gone only statistics know.
    """
    options = {} if summary else {"index_types": IndexType.NONE, "use_statistics": False}
    data = mcap_bytes(enable_data_crcs=True, **options)
    chunk = index_recording(BytesSource(data)).units[2]
    rows = len(account_of(data, units=[chunk]).rows)
    cut = data[: chunk.offset] + data[chunk.offset + chunk.length :]
    if summary:  # whose place the footer states
        at = cut.rindex(MAGIC) - 20
        (start,) = struct.unpack_from("<Q", cut, at)
        ends = struct.pack("<QQI", start - chunk.length, 0, 0)
        cut = cut[:at] + ends + MAGIC
    account = account_of(cut)
    assert len(account.rows) == 1000 - rows
    found = {finding.code: finding.lost_messages for finding in account.index.findings}
    assert found["DATA_CRC"] == (0 if summary else None)
    assert found.get("COUNT_MISMATCH") == (rows if summary else None)


@pytest.mark.parametrize("statistics", [True, False])
def test_a_summary_that_moved_counts_what_is_gone_in_front_of_it(statistics):
    """Without a checksum of the data: whole chunks are cut out, footer and summary as they were.

    The checksum of the summary holds where it stands: its statistics say how many are gone, and
    where it has none, that something is.
    """
    data = mcap_bytes(enable_data_crcs=False, use_statistics=statistics)
    chunk = index_recording(BytesSource(data)).units[2]
    rows = len(account_of(data, units=[chunk]).rows)
    cut = data[: chunk.offset] + data[chunk.offset + chunk.length :]
    account = account_of(cut)
    assert len(account.rows) == 1000 - rows
    moved = next(one for one in account.index.findings if one.code == "SUMMARY_MOVED")
    assert (moved.loses, moved.lost_messages) == ((False, 0) if statistics else (True, None))
    assert account.lost == (rows if statistics else 0)  # by the ledger: no range holds it
    assert account.codes == {"SUMMARY_MOVED"} | ({"COUNT_MISMATCH"} if statistics else set())


def test_statistics_that_agree_by_chance_are_held_against_the_content():
    """Damage hides an index, and another file's summary declares what the indexes add up to."""
    index = record(7, struct.pack("<H", 1) + text(struct.pack("<QQ", 1004, 0)))
    first = chunk_record(DEFINED + numbered(4))
    second = chunk_record(numbered(4, start=4))
    account = account_of(file_of(first, second, index, record(0x10, b"?"), statistics={1: 5}))
    assert account.numbers == list(range(8))
    assert account.codes == {"COUNT_MISMATCH", "UNKNOWN_RECORD"}


def test_records_behind_the_end_of_the_data_section_are_a_loss():
    """A DataEnd in the middle of the data: what stands behind it is not read, and that is said."""
    end = record(15, bytes(4))
    data = file_of(chunk_record(DEFINED + numbered(4)), end, chunk_record(numbered(4, start=4)))
    account = account_of(data)
    assert account.numbers == [0, 1, 2, 3]
    (finding,) = (one for one in account.index.findings if one.code == "BAD_RECORD")
    assert (finding.loses, finding.lost_messages) == (True, None)


def test_messages_outside_of_chunks_have_no_checksum_of_theirs():
    """Chunks with a CRC beside loose messages without one: not all is covered, so NONE."""
    data = file_of(chunk_record(DEFINED + numbered(4)), numbered(4, start=4))
    assert account_of(data).index.integrity == "NONE"
    assert account_of(file_of(chunk_record(DEFINED + numbered(4)))).index.integrity == "CRC"


def test_definitions_outside_of_chunks_have_no_checksum_of_theirs():
    """A definition that no checksum covers may have changed what messages mean: NONE.

    A summary with a checksum that repeats it covers it.
    """
    data = file_of(DEFINED, chunk_record(numbered(4)))
    assert (account_of(data).index.integrity, account_of(data).codes) == ("NONE", set())
    start = data.rindex(record(15, bytes(4))) + 13
    ends = record(2, struct.pack("<QQ", start, 0) + bytes(4))[:-4]
    ends += struct.pack("<I", zlib.crc32(DEFINED + ends))
    data = data[:start] + DEFINED + ends + MAGIC
    assert (account_of(data).index.integrity, account_of(data).codes) == ("CRC", set())


def test_definitions_of_a_summary_without_checksum_alone_are_told():
    """Damage takes the chunk that defines, and the checksum of the summary: its word is all.

    It is taken, as of files that never had the checksum (0: not available), and said to be
    unchecked. Where chunks have the definitions, nothing is said of a summary without one.
    """
    good = mcap_bytes()
    footer = good.rindex(MAGIC) - 4
    unchecked = changed(good, footer, bytes(4))
    assert account_of(unchecked).numbers == list(range(1000))
    assert (account_of(unchecked).index.integrity, account_of(unchecked).codes) == ("CRC", set())
    chunk = index_recording(BytesSource(good)).units[0]
    at = chunk.offset + 100
    rest = account_of(changed(good, at, bytes(64)))
    assert rest.index.integrity == "CRC"
    assert "UNCHECKED_DEFINITION" not in rest.codes
    damaged = account_of(changed(unchecked, at, bytes(64)))
    assert damaged.rows == rest.rows
    assert damaged.index.integrity == "NONE"
    assert damaged.codes == rest.codes | {"UNCHECKED_DEFINITION"}


def test_an_index_that_claims_too_few_is_told_with_the_rows():
    """Without checksums, messages beyond those that a chunk's index claims are kept, and said."""
    index = record(7, struct.pack("<H", 1) + text(struct.pack("<QQ", 1004, 0)))
    more = chunk_record(numbered(4, start=4), crc=0)
    account = account_of(file_of(chunk_record(DEFINED + numbered(4), crc=0), more, index))
    assert account.numbers == list(range(8))
    assert account.codes == {"COUNT_MISMATCH"}


def test_any_truncation_and_any_tail_of_garbage_is_survived():
    """Cut at any byte, or followed by anything: rows before the cut, never another error."""
    data = mcap_bytes(9, chunk_size=128)
    wanted = account_of(data).numbers
    for cut in range(len(data)):
        try:
            account = account_of(data[:cut])
        except PlatformError:
            continue
        assert account.numbers == wanted[: len(account.numbers)]
        assert account.codes, cut


def test_pointers_lead_back_to_the_bytes(samples):
    """Every image and cloud of the samples: the pointer's bytes are the field of the message."""
    from mcap_ros2.decoder import DecoderFactory

    from udfs.decode.recording import resolve_pointers

    path = Path(samples) / "mcap/rosbags-rs_all_msgs/test_bag_mcap.mcap"
    source = open_source(str(path))
    index = index_recording(source)
    rows = [
        row
        for group in iter_table_groups(source, index, context=CONTEXT)
        for table, batch in group.tables
        if table in ("images", "point_clouds")
        for row in batch.to_pylist()
    ]
    found = resolve_pointers(
        source,
        format="mcap",
        **{
            name: np.array([row[name] for row in rows])
            for name in ("unit_offset", "data_offset", "data_length")
        },
    ).to_pylist()
    messages = mcap_messages(path)
    for row, data in zip(rows, found, strict=True):
        schema, _, ones = messages[row["channel_id"]]
        read = DecoderFactory().decoder_for("cdr", schema)
        wanted = next(read(m.data) for m in ones if m.log_time == row["log_time_ns"])
        assert data == bytes(wanted.data)
    assert len(rows) == 6


def test_pointers_work_in_loose_files_and_never_leave_their_unit():
    """unit_offset -1 points into the file; a pointer beyond its unit is TRUNCATED."""
    from udfs.decode.recording import resolve_pointers

    data = mcap_bytes(3, use_chunking=False)
    at = data.index(cdr_number(1))
    arrays = {"unit_offset": np.array([-1, -1]), "data_offset": np.array([at, 0])}
    lengths = np.array([8, 4])
    found = resolve_pointers(BytesSource(data), format="mcap", data_length=lengths, **arrays)
    assert found.to_pylist() == [cdr_number(1)[:8], MAGIC[:4]]
    chunked = mcap_bytes(3)
    unit = index_recording(BytesSource(chunked)).units[0].offset
    with pytest.raises(DecodeError):
        resolve_pointers(
            BytesSource(chunked),
            format="mcap",
            unit_offset=np.array([unit]),
            data_offset=np.array([10]),
            data_length=np.array([1 << 20]),
        )


def test_chunk_index_is_only_a_claim():
    """The reference's ChunkIndex and our units agree on a good file."""
    data = mcap_bytes()
    records = StreamReader(io.BytesIO(data)).records
    indexes = [one for one in records if isinstance(one, ChunkIndex)]
    units = index_recording(BytesSource(data)).units
    assert [(u.offset, u.length, u.start_ns, u.end_ns, u.uncompressed_size) for u in units] == [
        (
            one.chunk_start_offset,
            one.chunk_length + one.message_index_length,
            one.message_start_time,
            one.message_end_time,
            one.uncompressed_size,
        )
        for one in indexes
    ]
