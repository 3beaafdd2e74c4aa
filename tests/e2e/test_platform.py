from __future__ import annotations

import ast
import datetime as dt
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

import attrs
import psutil
import pyarrow as pa
import pytest

from assets.checks import SUITE_CHECK
from contracts.tables import LAYERS, TABLES
from quality.evaluate import rules_for

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SCRIPT = str(Path(sys.executable).parent / "drivelake")
CHROMIUM = shutil.which("chromium")
RUNS = "{runsOrError(limit: 20) {... on Runs {results {runId status tags {key value}}}}}"


@pytest.fixture(scope="module")
def platform(tmp_path_factory, new_deployment, object_storage):
    """`drivelake up` in a home of its own, with one small simulated drive to be uploaded.

    It may read an S3-compatible server; lake and landing are on the disk.
    """
    from simulation.fleet import FleetSpec, simulate_fleet

    base = tmp_path_factory.mktemp("platform")
    settings = new_deployment(base / "home")
    environment = {
        **os.environ,
        **object_storage,
        "DRIVELAKE_HOME": str(settings.home),
        "DRIVELAKE_SPARK_PORT": str(settings.spark_port),
        "DRIVELAKE_JDBC_PORT": str(settings.jdbc_port),
        "DRIVELAKE_DAGSTER_PORT": str(settings.dagster_port),
        "DRIVELAKE_MLFLOW_PORT": str(settings.mlflow_port),
    }
    environment.pop("SPARK_REMOTE", None)
    drives = base / "drives"
    simulate_fleet(FleetSpec(drives=1, seconds=8.0, seed=3), out=drives, truth=base / "truth")
    (settings.home / "landing").mkdir(parents=True)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False
        )

    done = call("up", "--json")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)
    tops = [psutil.Process(service["pid"]) for service in services]
    yield {"settings": settings, "call": call, "services": services, "drives": drives}
    family = [one for top in tops for one in (top, *top.children(recursive=True))]
    assert call("down").returncode == 0
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, f"`drivelake down` left {alive}"


def graphql(settings, query: str) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.dagster_port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)["data"]


def wait_for(what: str, condition, *, seconds: float):
    """Poll until the condition gives something; a failure says what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(1.0)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


@pytest.fixture(scope="module")
def run_of_upload(platform):
    """Drop a drive into landing and wait for the run that the sensor starts, to its end."""
    settings = platform["settings"]
    [drive] = platform["drives"].iterdir()
    target = settings.home / "landing" / drive.name
    shutil.copytree(drive, target, ignore=shutil.ignore_patterns("drive.json"))
    shutil.copyfile(drive / "drive.json", target / "drive.json")

    def ended():
        runs = graphql(settings, RUNS)["runsOrError"]["results"]
        return next((run for run in runs if run["status"] in {"SUCCESS", "FAILURE"}), None)

    return wait_for("the sensor's run", ended, seconds=900)


def test_every_service_answers_and_a_second_up_changes_nothing(platform):
    """`up` twice gives the same processes; all pages answer on 127.0.0.1 only."""
    again = json.loads(platform["call"]("up", "--json").stdout)
    assert [service["pid"] for service in again] == [
        service["pid"] for service in platform["services"]
    ]
    for service in again:
        listening = [
            connection.laddr.ip
            for process in [psutil.Process(service["pid"])]
            for member in [process, *process.children(recursive=True)]
            for connection in member.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}, service["name"]


def test_an_upload_is_in_sql_with_no_hand_on_it(platform, run_of_upload):
    """A drive dropped into landing starts a run by the sensor, and its rows answer in SQL."""
    assert run_of_upload["status"] == "SUCCESS"
    tags = {tag["key"]: tag["value"] for tag in run_of_upload["tags"]}
    assert tags.get("dagster/sensor_name"), tags
    query = "SELECT state, count(*) AS n FROM bronze.uploads GROUP BY state"
    done = platform["call"]("sql", query, "--format", "json")
    assert done.returncode == 0, done.stderr
    states = {row["state"]: row["n"] for row in json.loads(done.stdout)}
    assert states.get("ACCEPTED", 0) >= 3, states
    frames = platform["call"]("sql", "SELECT count(*) AS n FROM silver.frames", "-f", "json")
    assert json.loads(frames.stdout)[0]["n"] > 40
    wrong = platform["call"]("sql", "SELECT name_of_a_person FROM silver.frames")
    assert (wrong.returncode, len(wrong.stderr.strip().splitlines())) == (2, 1), wrong.stderr


def test_jdbc_answers_the_same(platform, run_of_upload):
    """A JDBC client reads the curated tables from the same server."""
    import pyspark

    settings = platform["settings"]
    done = subprocess.run(
        [
            str(Path(pyspark.__file__).parent / "bin" / "beeline"),
            "-u", f"jdbc:hive2://127.0.0.1:{settings.jdbc_port}/default",
            "--silent=true", "--outputformat=csv2",
            "-e", "SELECT count(*) AS n FROM silver.imu",
        ],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    over_connect = platform["call"]("sql", "SELECT count(*) AS n FROM silver.imu", "-f", "json")
    count = json.loads(over_connect.stdout)[0]["n"]
    assert count > 0
    assert str(count) in done.stdout.split(), done.stderr


@pytest.fixture
def page(platform):
    """A page of a real browser."""
    if CHROMIUM is None:
        pytest.skip("notyet: no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser.new_page(
            base_url=f"http://127.0.0.1:{platform['settings'].dagster_port}",
            viewport={"width": 1600, "height": 900},
            device_scale_factor=2,  # labels of a graph are small
        )
        browser.close()


@pytest.mark.browser
def test_pages_show_graph_asset_and_run(page, run_of_upload, tmp_path):
    """The graph, an asset's plot and checks, and the run with its steps render in a browser.

    `DRIVELAKE_SCREENSHOTS=docs/images` renews the pictures of the documents.
    """
    folder = Path(os.environ.get("DRIVELAKE_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def shows(path, *texts):
        page.goto(path, wait_until="domcontentloaded")
        for text in texts:
            page.get_by_text(text, exact=True).first.wait_for(timeout=60_000)

    def keep(name, *parts):
        """The page, or the part of it that holds some elements."""
        page.wait_for_timeout(2_000)  # graphs move into place
        page.screenshot(path=folder / f"{name}.png", clip=around(parts) if parts else None)

    def around(parts):
        boxes = [part.bounding_box() for part in parts]
        left, top = (min(box[edge] for box in boxes) - 40 for edge in "xy")
        right, bottom = (
            max(box[edge] + box[size] for box in boxes) + 40
            for edge, size in (("x", "width"), ("y", "height"))
        )
        return {"x": left, "y": top, "width": right - left, "height": bottom - top}

    groups = quote(
        ",".join(f"global@global:{layer}" for layer in ("raw", *LAYERS, "model", "edge"))
    )
    shows("/asset-groups", "Hide navigation")
    page.get_by_text("Hide navigation").click()
    shows(f"/asset-groups?expanded={groups}", "landing", "catalogue", "messages", "sync", "release")
    corners = ("landing", "edge", "releases", "scenarios")
    keep("asset-graph", *(page.get_by_text(text, exact=True).last for text in corners))

    shows("/assets/silver/frames?view=overview", "frames/sync_errors")
    page.get_by_text("Columns", exact=True).first.click()  # folds them
    keep("asset-page")
    page.get_by_text("[Show Markdown]").first.click()
    picture = page.get_by_role("img").and_(page.locator("[src^='data:image/png;base64,']"))
    picture.wait_for(timeout=60_000)
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    keep("asset-plot", picture)

    checks = [rule.check_name for rule, _ in rules_for(TABLES["silver.frames"])]
    assert len(checks) >= 5
    shows("/assets/silver/frames?view=checks", SUITE_CHECK, *checks, "Passed")
    assert page.get_by_text("Succeeded").count() == len(checks) + 1
    keep("asset-checks")

    page.set_viewport_size({"width": 1600, "height": 1300})
    shows(
        f"/runs/{run_of_upload['runId']}",
        "Success",
        "landing_sensor",
        "RUN_SUCCESS",
        "ingest",
        "clocks",
    )
    keep("run-page")


def imu_recording(start, *, seconds):
    """An MCAP with an IMU message a second on /imu from some time on."""
    from mcap.writer import Writer
    from rosbags.typesys import Stores, get_typestore

    out, kind = io.BytesIO(), "sensor_msgs/msg/Imu"
    store = get_typestore(Stores.ROS2_HUMBLE)
    text, _ = store.generate_msgdef(kind, ros_version=2)
    writer = Writer(out)
    writer.start("ros2", "test writer")
    schema = writer.register_schema(kind, "ros2msg", text.encode())
    channel = writer.register_channel("/imu", "cdr", schema)
    payload = b"\0\1\0\0" + bytes(4 + 4 + 4 + 4) + bytes(37 * 8)  # empty frame_id, all zero
    for i in range(seconds):
        time_ns = (int(start.timestamp()) + i) * 1_000_000_000
        writer.add_message(channel, time_ns, payload, time_ns)
    writer.finish()
    return out.getvalue()


def run_block(text, names):
    """Run a block of a document; the values of its bare expressions."""
    values = []
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Expr):
            code = compile(ast.Expression(statement.value), "a document", "eval")
            values.append(eval(code, names))  # noqa: S307  our own documents
        else:
            code = compile(ast.Module([statement], []), "a document", "exec")
            exec(code, names)  # noqa: S102
    return values


def test_the_python_of_the_documents_runs(
    platform, run_of_upload, new_bucket, object_storage, monkeypatch
):
    """Every Python block of README and docs runs as it stands, and finds what it asks for."""
    from spark_jobs.session import connected

    settings = platform["settings"]
    start = dt.datetime(2026, 11, 20, 9, 59, 50, tzinfo=dt.UTC)
    data = imu_recording(start, seconds=30)
    new_bucket("fleet").put_object(Bucket="fleet", Key="drive-7/imu.mcap", Body=data)
    variables = {
        **object_storage,
        "DRIVELAKE_HOME": str(settings.home),
        "SPARK_REMOTE": settings.spark_remote,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    blocks = [block for path in DOCUMENTS for block in PYTHON.findall(path.read_text())]
    assert len(blocks) >= 3
    with connected(attrs.evolve(settings, storage_options=object_storage)) as spark:
        names = {"spark": spark}
        shown = [value for block in blocks for value in run_block(block, names)]
        found = names["imu"].count()
    assert all(isinstance(value, pa.Table) and value.num_rows for value in shown)
    assert len(shown) >= 2
    assert names["table"].num_rows == 20  # of thirty, those from ten o'clock on
    assert found == 20
