"""The landing sensor: what it asks for, when, and that nothing slips past it."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import time
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from assets.landing_uploads import Upload
from assets.partitions import FIRST_DAY, day_of, ingest_days, last_day
from assets.resources import resources_for
from assets.sensors import landing_sensor
from contracts.tables import TABLES, table_uri

OLD_NS = 1_600_000_000_000_000_000  # settled long ago: 2020-09-13


@pytest.fixture
def variables(tmp_path):
    return {
        "DRIVELAKE_HOME": str(tmp_path),
        "DRIVELAKE_LAKE": (tmp_path / "lake").as_uri(),
        "DRIVELAKE_LANDING": (tmp_path / "landing").as_uri(),
    }


@pytest.fixture
def landing(variables):
    folder = Path(urlsplit(variables["DRIVELAKE_LANDING"]).path)
    folder.mkdir()
    return folder


@pytest.fixture
def instance():
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def evaluate(variables, instance):
    """`evaluate(cursor)`: one tick of the sensor."""
    return partial(_evaluate, variables, instance)


def _evaluate(variables, instance, cursor=None):
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources=resources_for(variables)
    )
    with context:
        return landing_sensor(context)


def _run(instance, request, *, fails=False):
    """A run as the daemon would start it for a request; nothing is ingested."""

    @dg.job(name="ingest_job")
    def job():
        @dg.op
        def ingest():
            if fails:
                raise OSError("disk gone")

        ingest()

    job.execute_in_process(instance=instance, tags=request.tags, raise_on_error=False)


@pytest.fixture
def later(monkeypatch):
    """`later(minutes)`: moves the sensor's clock forward."""
    shift = {"seconds": 0.0}
    clock = time.time
    monkeypatch.setattr("assets.sensors.time.time", lambda: clock() + shift["seconds"])

    def move(minutes):
        shift["seconds"] += 60.0 * minutes

    return move


def _put(path, data=b"bytes", *, modified_ns=OLD_NS):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(modified_ns, modified_ns))
    return path


def _put_drive(folder, *, names=("adas.mcap", "bus.mf4"), missing=()):
    objects = [
        {
            "path": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "size_bytes": len(name),
            "recorder": name.split(".")[0],
        }
        for name in names
    ]
    manifest = {"drivelake_manifest": 1, "drive_id": folder.name, "objects": objects}
    for name in names:
        if name not in missing:
            _put(folder / name, name.encode())
    _put(folder / "drive.json", json.dumps(manifest).encode(), modified_ns=OLD_NS + 1)


def _take(variables, upload_uris):
    """What an ingest leaves: a row with a final state for each object, as it is listed."""
    contract = TABLES["bronze.uploads"]
    rows = []
    for uri in upload_uris:
        stat = Path(urlsplit(uri).path).stat()
        rows.append(
            {
                "uri": uri,
                "sha256": "0",
                "size_bytes": stat.st_size,
                "modified_ns": stat.st_mtime_ns,
                "state": "ACCEPTED",
                "ingest_date": dt.date(2020, 9, 13),
            }
        )
    table = pa.Table.from_pylist(rows, schema=contract.schema)
    place = table_uri(variables["DRIVELAKE_LAKE"], contract.name)
    write_deltalake(place, table, mode="append", partition_by=list(contract.partition_by))


def _uris(request):
    return request.run_config["ops"]["ingest"]["config"]["uris"]


def test_empty_landing_asks_for_nothing(evaluate):
    """A landing area that is not there yet, or empty, starts no run and says so."""
    result = evaluate()
    assert result.run_requests == []
    assert "taken" in result.skip_reason.skip_message


def test_a_drive_is_one_run_of_its_day(evaluate, variables, landing):
    """The objects of an upload manifest start one run, on the day of the last of them."""
    _put_drive(landing / "drive-1")
    result = evaluate()
    (request,) = result.run_requests
    names = sorted(uri.rsplit("/", 1)[1] for uri in _uris(request))
    assert names == ["adas.mcap", "bus.mf4", "drive.json"]
    assert request.partition_key == "2020-09-13"
    assert "drive-1" not in request.run_key + "".join(request.tags.values())
    (observation,) = result.asset_events
    assert observation.metadata["landing/new_uploads"].value == 1


def test_an_unfinished_drive_waits(evaluate, variables, landing):
    """A drive of which an object is missing starts nothing, and starts once it is there."""
    _put_drive(landing / "drive-1", missing=("bus.mf4",))
    first = evaluate()
    assert first.run_requests == []
    assert "1 of 2 objects of the manifest missing" in first.skip_reason.skip_message
    _put(landing / "drive-1" / "bus.mf4", b"bus.mf4")
    second = evaluate(cursor=first.cursor)
    assert len(second.run_requests) == 1


def test_a_file_is_taken_once_it_has_settled(evaluate, variables, landing):
    """A file just written to waits though the listing does not change any more; later it runs."""
    path = _put(landing / "a.mcap", modified_ns=time.time_ns())
    first = evaluate()
    assert first.run_requests == []
    settled = time.time_ns() - 60_000_000_000
    os.utime(path, ns=(settled, settled))
    assert len(evaluate(cursor=first.cursor).run_requests) == 1


def test_an_unchanged_listing_is_not_read_again(evaluate, variables, landing):
    """With nothing left to do, the same listing is skipped by its hash."""
    uri = _put(landing / "a.mcap").as_uri()
    _take(variables, [uri])
    first = evaluate()
    assert first.run_requests == []
    second = evaluate(cursor=first.cursor)
    assert isinstance(second, dg.SkipReason)
    assert "changed" in second.skip_message


def test_an_older_object_that_comes_later_is_taken(evaluate, variables, landing):
    """An object that arrives with an older date than all that was seen is not passed over."""
    new = _put(landing / "new.mcap", modified_ns=OLD_NS + 10**15)
    first = evaluate()
    _take(variables, [new.as_uri()])
    old = _put(landing / "old.mcap", modified_ns=OLD_NS)
    second = evaluate(cursor=first.cursor)
    assert [_uris(request) for request in second.run_requests] == [[old.as_uri()]]


def test_a_run_key_names_the_state_of_an_upload(evaluate, variables, landing):
    """The same objects give the same run key, so a run is not started twice; new bytes another."""
    path = _put(landing / "a.mcap")
    first, again = evaluate(), evaluate()
    keys = [result.run_requests[0].run_key for result in (first, again)]
    assert keys[0] == keys[1]
    _put(path, b"other bytes")
    assert evaluate().run_requests[0].run_key != keys[0]


def test_names_of_objects_stay_out_of_keys_and_reasons(evaluate, landing):
    """A file name that says who drove is in no run key, tag, skip reason or cursor."""
    _put(landing / "jane_doe.mcap")
    taken = evaluate()
    (request,) = taken.run_requests
    _put(landing / "jane_doe.mcap.part")
    os.utime(landing / "jane_doe.mcap", ns=(time.time_ns(), time.time_ns()))
    waiting = evaluate()
    assert waiting.run_requests == []
    said = f"{request.run_key}{request.tags}{waiting.skip_reason}{waiting.cursor}{taken.cursor}"
    assert "jane" not in said
    assert "written to a moment ago: 1" in waiting.skip_reason.skip_message


def test_a_failed_upload_is_tried_again_after_a_while(
    evaluate, variables, landing, instance, later
):
    """After a failed run the upload waits 1, then 5 minutes, and gets a run key of its own."""
    uri = _put(landing / "a.mcap").as_uri()
    keys = []
    cursor = None
    for minutes in (1, 5):
        tick = evaluate(cursor)
        (request,) = tick.run_requests
        keys.append(request.run_key)
        _run(instance, request, fails=True)
        early = evaluate(tick.cursor)
        assert early.run_requests == []
        assert early.skip_reason.skip_message.endswith("; waiting after a failure: 1.")
        later(minutes)
        cursor = early.cursor
    last = evaluate(cursor)
    (request,) = last.run_requests
    assert len({*keys, request.run_key}) == 3
    assert request.tags["drivelake/attempt"] == "2"
    (observation,) = last.asset_events
    assert observation.metadata["landing/tried_again"].value == 1
    _take(variables, [uri])
    _run(instance, request)
    done = evaluate(last.cursor)
    assert "taken" in done.skip_reason.skip_message
    assert isinstance(evaluate(done.cursor), dg.SkipReason)


def test_an_upload_whose_run_failed_after_ingest_is_tried_again(
    evaluate, variables, landing, instance, later
):
    """An upload with an outcome in bronze, of which the run failed later, is not left there."""
    uri = _put(landing / "a.mcap").as_uri()
    (request,) = evaluate().run_requests
    _take(variables, [uri])
    _run(instance, request, fails=True)
    later(1)
    (again,) = evaluate().run_requests
    assert _uris(again) == [uri]


def test_an_upload_under_way_is_not_started_twice(evaluate, landing, instance):
    """While a run of the upload is under way, the sensor says so and looks again."""
    _put(landing / "a.mcap")
    first = evaluate()
    (request,) = first.run_requests
    instance.create_run_for_job(
        dg.GraphDefinition("ingest_job").to_job(),
        tags=request.tags,
        status=dg.DagsterRunStatus.STARTING,
    )
    second = evaluate(first.cursor)
    assert second.run_requests == []
    assert second.skip_reason.skip_message.endswith("; under way: 1.")
    assert second.cursor is None


def test_an_upload_that_is_renamed_meanwhile_fails_no_tick(variables, landing, monkeypatch):
    """A file that takes its final name behind the first look at it is told by the next listing."""
    still = _put(landing / "still.mcap")
    upload = _put(landing / "a.part")
    look = Path.is_file

    def look_and_rename(path):
        there = look(path)
        if path == upload and there:
            path.rename(landing / "a.mcap")
        return there

    monkeypatch.setattr(Path, "is_file", look_and_rename)
    folder = resources_for(variables)["landing"]
    first = {key for _, key, _ in folder.listing()}
    assert str(still) in first
    assert str(upload) not in first
    assert {key for _, key, _ in folder.listing()} == {str(still), str(landing / "a.mcap")}


def test_a_run_that_a_person_ended_is_not_repeated(evaluate, landing, instance):
    """A cancelled run is the last one of its upload, until the upload changes."""
    path = _put(landing / "a.mcap")
    (request,) = evaluate().run_requests
    run = instance.create_run_for_job(dg.GraphDefinition("ingest_job").to_job(), tags=request.tags)
    instance.report_run_canceled(run)
    assert evaluate().run_requests == []
    _put(path, b"other bytes")
    assert len(evaluate().run_requests) == 1


def test_a_storage_failure_raises(evaluate, variables, landing, monkeypatch):
    """A landing area that can't be read fails the tick; it is not taken for an empty one."""
    _put(landing / "a.mcap")
    from spark_jobs import discover

    def broken(*_args, **_more):
        raise OSError("disk gone")

    monkeypatch.setattr(discover, "discover", broken)
    with pytest.raises(OSError, match="disk gone"):
        evaluate()


@pytest.mark.parametrize(
    ("modified_ns", "day"),
    [
        (0, FIRST_DAY),
        (-5, FIRST_DAY),
        (1_767_311_999_999_999_999, dt.date(2026, 1, 1)),
        (1_767_312_000_000_000_000, dt.date(2026, 1, 2)),
        (2**63 - 1, dt.date(2026, 11, 20)),
    ],
)
def test_every_stamp_has_a_day(modified_ns, day):
    """Days change at midnight UTC, and stamps outside of the partitions go to the nearest day."""
    assert day_of(modified_ns, last=dt.date(2026, 11, 20)) == day


def test_today_has_a_partition():
    """What arrives today is taken today."""
    today = dt.datetime.now(dt.UTC).date()
    assert last_day() == today
    upload = Upload("a", (("a", 1, time.time_ns()),))
    assert ingest_days.has_partition_key(upload.day(last=last_day()).isoformat())


def test_a_drive_in_a_bucket_is_one_run(tmp_path, instance, object_storage, new_bucket):
    """On S3 a drive waits for its last object, then starts one run; then none."""
    client = new_bucket("sensor-landing")
    variables = {
        **object_storage,
        "DRIVELAKE_HOME": str(tmp_path),
        "DRIVELAKE_LAKE": "s3://sensor-landing/lake",
        "DRIVELAKE_LANDING": "s3://sensor-landing/uploads",
    }
    folder = tmp_path / "drive-7"
    _put_drive(folder)
    names = sorted(path.name for path in folder.iterdir())
    for name in names[1:]:
        client.upload_file(str(folder / name), "sensor-landing", f"uploads/drive-7/{name}")
    first = _evaluate(variables, instance)
    assert first.run_requests == []
    client.upload_file(str(folder / names[0]), "sensor-landing", f"uploads/drive-7/{names[0]}")
    second = _evaluate(variables, instance, cursor=first.cursor)
    (request,) = second.run_requests
    assert _uris(request) == [f"s3://sensor-landing/uploads/drive-7/{name}" for name in names]
    _run(instance, request)
    third = _evaluate(variables, instance, cursor=second.cursor)
    assert third.run_requests == []
    assert isinstance(_evaluate(variables, instance, cursor=third.cursor), dg.SkipReason)
