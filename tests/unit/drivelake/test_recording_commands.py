from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import attrs
import pyarrow.parquet as pq
import pytest
import zstandard
from rosbags.rosbag1 import Reader as BagReader

import drivelake
from udfs.decode.recording import index_recording
from udfs.decode.source import open_source

from tests.unit.udfs.decode.recordings import mcap_bytes  # isort: skip


@attrs.frozen
class Done:
    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self):
        """What was printed, as JSON."""
        return json.loads(self.stdout)


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Run the command's entry point in a home of its own."""
    monkeypatch.setenv("DRIVELAKE_HOME", str(tmp_path / "home"))

    def run(*arguments) -> Done:
        from drivelake.cli import main

        monkeypatch.setattr(sys, "argv", ["drivelake", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        text = capfd.readouterr()
        assert "Traceback" not in text.err + text.out
        return Done(ended.value.code, text.out, text.err)

    return run


@pytest.fixture
def apart(tmp_path):
    """The command in a process of its own, as it is in use.

    A fork of a process in which Polars has worked can't use Polars, and earlier tests have used it.
    """

    def run(*arguments) -> Done:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "drivelake"), *map(str, arguments)],
            env={**os.environ, "DRIVELAKE_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "drive.mcap"
    path.write_bytes(mcap_bytes(1000))
    return path


@pytest.fixture
def damaged(recording):
    """The recording with a broken chunk, and cut behind three quarters."""
    data = bytearray(recording.read_bytes())
    with open_source(str(recording)) as source:
        data[index_recording(source).units[5].offset + 100] ^= 1
    path = recording.with_name("damaged.mcap")
    path.write_bytes(data[: len(data) * 3 // 4])
    return path


def test_inspect_says_what_is_in_a_recording(call, recording):
    """Format, size, span, chunks, and each channel with type, count, rate and span."""
    done = call("inspect", recording, "--json")
    assert done.returncode == 0
    found = done.json
    assert (found["format"], found["profile"], found["messages"]) == ("mcap", "ros2", 1000)
    assert found["size_bytes"] == recording.stat().st_size
    assert (found["start_ns"], found["end_ns"]) == (1_000_000_000, 1_999_000_000)
    [chunks] = found["chunks"]
    assert chunks["compression"] == "zstd"
    assert chunks["stored_bytes"] < chunks["size_bytes"]
    even, odd = found["channels"]
    assert (odd["topic"], odd["type"], odd["messages"]) == ("/odd", "pkg/msg/Number", 500)
    assert odd["rate_hz"] == pytest.approx(500)
    assert (odd["start_ns"], odd["end_ns"]) == (1_001_000_000, 1_999_000_000)
    assert (even["start_ns"], even["end_ns"]) == (1_000_000_000, 1_998_000_000)
    text = call("inspect", recording).stdout
    for word in ("1,000", "0.999 s", "1970-01-01T00:00:01.000Z", "/odd", "silver.pkg_number"):
        assert word in text, word


@pytest.mark.parametrize("packing", ["zst", "gz", "zip"])
def test_what_is_packed_is_a_recording_like_any_other(call, recording, tmp_path, packing):
    """Inspect, doctor, convert, recover and read take it as it is stored, and leave it so."""
    data = recording.read_bytes()
    path = tmp_path / f"drive.mcap.{packing}"
    if packing == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(recording, "drive.mcap")
    else:
        packer = {"zst": zstandard.compress, "gz": gzip.compress}[packing]
        parts = [packer(data[at : at + 4096]) for at in range(0, len(data), 4096)]
        path.write_bytes(b"".join(parts))
    stored = path.read_bytes()
    summary = call("inspect", path, "--json").json
    assert (summary["format"], summary["messages"]) == ("mcap", 1000)
    assert summary["size_bytes"] == len(stored)
    doctor = call("doctor", path, "--json")
    assert (doctor.returncode, doctor.json["outcome"]) == (0, "ACCEPTED")
    assert any(note.startswith("PACKED") for note in doctor.json["notes"])
    assert call("convert", path, "--to", "mcap", "--out", tmp_path / "out.mcap").returncode == 0
    assert sum(len(batch) for batch in drivelake.read(str(tmp_path / "out.mcap"))) == 1000
    rows = [row for batch in drivelake.read(str(path)) for row in batch.to_pylist()]
    assert rows == [row for batch in drivelake.read(str(recording)) for row in batch.to_pylist()]
    part = drivelake.read(str(path), topics="/odd", start=1_500_000_000)
    assert sum(len(batch) for batch in part) == 250
    path.write_bytes(stored[: len(stored) // 2])
    done = call("recover", path, "--out", tmp_path / "clean.mcap", "--json")
    assert done.returncode == 3
    assert 0 < done.json["recovered"] < 1000
    assert (
        sum(len(b) for b in drivelake.read(str(tmp_path / "clean.mcap")))
        == (done.json["recovered"])
    )
    assert path.read_bytes() == stored[: len(stored) // 2]


@pytest.mark.parametrize(
    ("name", "format_", "messages"),
    [
        ("bag/rosbag.js/example-bz2.bag", "ros1bag", 8647),
        ("db3/talker/talker.db3", "rosbag2_db3", 20),
        ("mcap/rosbag2_talker/talker.mcap", "mcap", 20),
        ("mdf/gomdf/sample2.mf4", "mdf4", None),
    ],
)
def test_inspect_and_doctor_take_every_format(call, samples, name, format_, messages):
    """Real recordings of each format are described in the same words, and are clean."""
    found = call("inspect", samples / name, "--json").json
    assert found["format"] == format_
    diagnosis = call("doctor", samples / name, "--json")
    assert (diagnosis.returncode, diagnosis.json["outcome"]) == (0, "ACCEPTED")
    if messages is not None:
        assert found["messages"] == diagnosis.json["recovered"] == messages
        assert sum(channel["messages"] for channel in found["channels"]) == messages


def test_doctor_says_where_and_how_much(call, damaged):
    """A damaged recording ends with exit code 3, its broken ranges by byte, and the counts."""
    done = call("doctor", damaged, "--json")
    assert done.returncode == 3
    found = done.json
    assert found["outcome"] == "PARTIAL"
    assert found["lost"] is None
    by_code = {problem["code"]: problem for problem in found["problems"]}
    assert by_code["CHUNK_CRC"]["offset"] < damaged.stat().st_size
    assert by_code["CHUNK_CRC"]["lost_messages"] > 0
    assert by_code["TRUNCATED"]["lost_messages"] is None
    text = call("doctor", damaged).stdout
    assert f"recoverable {found['recovered']}, lost unknown" in text


def test_recover_writes_a_clean_file_and_leaves_the_original(call, damaged, tmp_path):
    """What is readable comes out whole, message for message; the damaged file stays as it was."""
    before = damaged.read_bytes()
    done = call("recover", damaged, "--out", tmp_path / "clean.mcap")
    assert done.returncode == 3
    assert "lost unknown" in done.stdout
    assert "CHUNK_CRC" in done.stderr
    assert damaged.read_bytes() == before
    clean = call("doctor", tmp_path / "clean.mcap", "--json")
    assert clean.returncode == 0
    kept = [
        [row for batch in drivelake.read(str(path), allow_loss=True) for row in batch.to_pylist()]
        for path in (damaged, tmp_path / "clean.mcap")
    ]
    order = [sorted(rows, key=lambda row: row["number"]) for rows in kept]
    assert len(order[0]) == clean.json["recovered"] > 500
    assert order[0] == order[1]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
@pytest.mark.parametrize(
    "name",
    [
        "mcap/rosbag2/cdr_test_0.mcap",
        "bag/embag/array_test.bag",
        "db3/chatter/chatter.db3",
        "mdf/peak/all_datatypes_test.mf4",
    ],
)
def test_damage_of_any_kind_ends_in_the_right_code(apart, samples, tmp_path, name, damage):
    """Doctor and recover of a damaged file agree on what there is, and neither shows a trace."""
    data = bytearray((samples / name).read_bytes())
    third = len(data) // 3
    if damage == "cut":
        del data[2 * third :]
    else:
        for at in range(third, len(data), third // 4):
            data[at] ^= 0x40
    path = tmp_path / name.rsplit("/", 1)[1]
    path.write_bytes(data)
    doctor = apart("doctor", path, "--json")
    recover = apart("recover", path, "--out", tmp_path / "out.mcap", "--json")
    assert path.read_bytes() == data
    found = doctor.json
    assert doctor.returncode == (
        0 if found["outcome"] == "ACCEPTED" else 3 if found["recovered"] else 1
    )
    assert (recover.returncode == 1) == (doctor.returncode == 1)
    if recover.returncode != 1:
        assert recover.json["lost"] == found["lost"]
        # payloads stay as they are
        clean = apart("doctor", tmp_path / "out.mcap", "--json").json
        assert (clean["lost"], clean["recovered"] + clean["bad"]) == (0, clean["declared"])


def test_recover_of_a_bag_is_a_bag(call, samples, tmp_path):
    """A cut ROS 1 bag gives a bag that the reference library opens, with an index again."""
    data = (samples / "bag/robot_localization/test2.bag").read_bytes()
    (tmp_path / "cut.bag").write_bytes(data[: len(data) * 2 // 3])
    done = call("recover", tmp_path / "cut.bag", "--out", tmp_path / "clean.bag", "--json")
    assert done.returncode == 3
    with BagReader(tmp_path / "clean.bag") as bag:
        assert bag.message_count == done.json["recovered"] > 1000
        assert {connection.topic for connection in bag.connections} == {
            "/imu/data",
            "/jackal_velocity_controller/odom",
        }
        assert sum(1 for _ in bag.messages()) == bag.message_count


def test_nothing_recovered_is_a_failure(call, tmp_path):
    """A file of which nothing can be read ends with exit code 1 and leaves no file behind."""
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"\x89MCAP0\r\n" + b"\xff" * 1000)
    assert call("doctor", broken).returncode == 1
    for command in (["recover"], ["convert", "--to", "mcap"], ["convert", "--to", "parquet"]):
        done = call(command[0], broken, *command[1:], "--out", tmp_path / "out")
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mcap"]


def test_reader_that_dies_takes_nothing_with_it(call, recording, tmp_path, monkeypatch):
    """A reader that crashes or eats the memory ends as one sentence, exit code 1, no leftovers."""

    def crash(*_args, **_options):
        os.kill(os.getpid(), signal.SIGKILL)

    def gorge(*_args, **_options):
        raise MemoryError

    for die, code in ((crash, "WORKER_CRASH"), (gorge, "RESOURCE_LIMIT")):
        for name in ("diagnose", "summarise"):
            monkeypatch.setattr(f"drivelake.recording_report.{name}", die)
        monkeypatch.setattr("drivelake.recording_copy.copy_messages", die)
        done = call("doctor", recording, "--json")
        assert (done.returncode, done.json["outcome"]) == (1, "QUARANTINED")
        assert done.json["reason"].startswith(code)
        for arguments in (["inspect"], ["recover", "--out", tmp_path / "out.mcap"]):
            done = call(arguments[0], recording, *arguments[1:])
            assert done.returncode == 1
            assert done.stderr.endswith(f" [{code}]\n")
            assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [recording.name]


def test_convert_to_parquet_has_the_rows_and_the_payloads(call, samples, tmp_path, recording):
    """One file a table; a part by topic and time where that is asked for."""
    out = tmp_path / "out"
    done = call("convert", recording, "--to", "parquet", "--out", out, "--topic", "/odd",
                "--end", "1500000000", "--json")  # fmt: skip
    assert (done.returncode, done.json["files"]) == (0, [["pkg_number.parquet", 250]])
    table = pq.read_table(out / "pkg_number.parquet")
    assert table["number"].to_pylist() == list(range(1, 500, 2))


@pytest.mark.parametrize("name", ["bag/rosbag.js/example-bz2.bag", "db3/talker/talker.db3"])
def test_convert_to_mcap_keeps_every_message(apart, samples, tmp_path, name):
    """The rows of the MCAP are those of the recording it came from."""
    out = tmp_path / "out.mcap"
    assert apart("convert", samples / name, "--to", "mcap", "--out", out).returncode == 0
    place = {"sequence", "publish_time_ns", "channel_id", "unit_offset", "data_offset"}
    found = []
    for path in (samples / name, out):
        rows = [row for batch in drivelake.read(str(path)) for row in batch.to_pylist()]
        plain = [{k: v for k, v in row.items() if k not in place} for row in rows]
        found.append(sorted(map(str, plain)))
    assert found[0] == found[1]


def test_samples_and_frames_become_json_messages(apart, samples, tmp_path):
    """An MDF file becomes an MCAP that the reference library reads, value for value."""
    from mcap.reader import make_reader

    out = tmp_path / "out.mcap"
    source = samples / "mdf/gomdf/sample2.mf4"
    assert apart("convert", source, "--to", "mcap", "--out", out).returncode == 0
    rows = [row for batch in drivelake.read(str(source)) for row in batch.to_pylist()]
    with out.open("rb") as stream:
        found = [
            (channel.topic, message.log_time, json.loads(message.data)["value"])
            for _, channel, message in make_reader(stream).iter_messages()
        ]
    expected = [(f"{r['topic']}/{r['signal']}", r["log_time_ns"], r["value"]) for r in rows]
    assert sorted(found) == sorted(expected)
    frames = samples / "mdf/css_can_unfinalised/00000001.MF4"
    done = apart("convert", frames, "--to", "mcap", "--out", tmp_path / "frames.mcap", "--json")
    assert done.json["files"] == [["frames.mcap", 5588]]
    found = apart("inspect", tmp_path / "frames.mcap", "--json").json
    assert {channel["topic"] for channel in found["channels"]} == {"can/1", "can/2"}


def test_s3_is_a_place_like_any_other(call, recording, object_storage, new_bucket, monkeypatch):
    """Every command reads from S3, and writes there."""
    client = new_bucket("commands")
    client.upload_file(str(recording), "commands", "in/drive.mcap")
    for key, value in object_storage.items():
        monkeypatch.setenv(key, value)
    there = "s3://commands/in/drive.mcap"
    assert call("inspect", there, "--json").json["messages"] == 1000
    assert call("doctor", there).returncode == 0
    assert call("recover", there, "--out", "s3://commands/out/drive.mcap").returncode == 0
    assert call("convert", there, "--to", "parquet", "--out", "s3://commands/rows").returncode == 0
    keys = {one["Key"] for one in client.list_objects_v2(Bucket="commands")["Contents"]}
    assert {"out/drive.mcap", "rows/pkg_number.parquet"} < keys
    assert call("doctor", "s3://commands/out/drive.mcap", "--json").json["recovered"] == 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "/no/such.mcap"], "no recording at /no/such.mcap"),
        (["doctor", "/no/such.mcap"], "no recording at /no/such.mcap"),
        (["convert", "{file}", "--to", "xml", "--out", "x"], "--to takes mcap, parquet"),
        (["convert", "{file}", "--to", "mcap", "--out", "{file}"], "something at"),
        (["recover", "{file}", "--out", "/no/such/folder/x.mcap"], "no folder /no/such/folder"),
        (["recover", "{file}", "--out", "{file}.bag"], "no topic of ROS 1"),
        (["convert", "{file}", "--to", "mcap", "--out", "{file}.2", "--topic", "/x"], "no topic"),
        (["convert", "{file}", "--to", "mcap", "--out", "{file}.2", "--start", "x"], "is no time"),
        (["doctor", "{file}", "--dbc", "/no/such.dbc"], "no file /no/such.dbc"),
        (["doctor", "{file}", "--dbc", "1="], "--dbc takes FILE or BUS=FILE; got '1='"),
        (
            ["convert", "{file}", "--to", "mcap", "--out", "{file}.2", "--start", "x"],
            ". Write 2026",
        ),
        (
            [
                "convert",
                "{file}",
                "--to",
                "mcap",
                "--out",
                "{file}.2",
                "--start",
                "5",
                "--end",
                "2",
            ],
            "The end 2 is not after the start 5",
        ),
        (
            [
                "convert",
                "{file}",
                "--to",
                "mcap",
                "--out",
                "{file}.2",
                "--start",
                "5",
                "--end",
                "5",
            ],
            "The end 5 is not after the start 5",
        ),
        (["convert", "{file}", "--to", "mcap", "--out", ""], "The place to write to is empty"),
        (["inspect", ""], "The place of the recording is empty"),
        (["doctor", ""], "The place of the recording is empty"),
        (["inspect", "s3:///a"], "s3:///a names no bucket. Write s3://bucket/key"),
        (["inspect", "gs://fleet/a"], "storage scheme 'gs' (at gs://fleet/a). Name a path"),
        (["doctor", "gs://fleet/a"], "storage scheme 'gs' (at gs://fleet/a). Name a path"),
        (["recover", "{file}", "--out", "gs://fleet/a"], "storage scheme 'gs' (at gs://fleet/a)"),
    ],
)
def test_wrong_requests_are_one_sentence_and_code_2(call, recording, arguments, says):
    """A wrong request is one sentence, exit code 2, and nothing is written."""
    before = recording.read_bytes()
    done = call(*(argument.format(file=recording) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert recording.read_bytes() == before
    assert [path.name for path in recording.parent.iterdir()] == [recording.name]


def test_text_from_a_file_can_not_act_on_the_terminal(call, tmp_path):
    """Control characters in a topic are shown escaped."""
    import io

    from mcap.writer import Writer

    out = io.BytesIO()
    writer = Writer(out)
    writer.start("", "")
    writer.add_message(writer.register_channel("/a\x1b[2J[red]b", "raw", 0), 1, b"x", 1)
    writer.finish()
    (tmp_path / "a.mcap").write_bytes(out.getvalue())
    for command in ("inspect", "doctor"):
        text = call(command, tmp_path / "a.mcap").stdout
        assert "\x1b" not in text
        assert "\\x1b[2J[red]b" in text
