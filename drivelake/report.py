"""What a demo made, read back from the tables, the truth and the bundle; nothing is remembered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import pyarrow.compute as pc
from rich.table import Table

from contracts.errors import PlatformError
from contracts.settings import Settings
from contracts.tables import TABLES
from drivelake.catalogue import count_by, list_tables, read_table
from drivelake.output import out, print_table
from governance.sealing import verify_bundle
from governance.signing import public_key_file
from simulation.scoring import (
    LabelScore,
    ScenarioScore,
    read_truth,
    score_clocks,
    score_frames,
    score_labels,
    score_scenarios,
)
from spark_jobs.storage import local_copy


@attrs.frozen
class DemoReport:
    """The result of a demo, one line a fact.

    Attributes:
        seconds_by_step: Wall clock of each step.
        uploads: Objects by state.
        rows: Rows by table.
        facts: (what, value) in the order of the line.
        binaries: (target, file, size in bytes) of the bundle.
        bundle: Verdict of the verification, in words.
        bundle_uri: Where the bundle is.
    """

    seconds_by_step: Mapping[str, float]
    uploads: Mapping[str, int]
    rows: Mapping[str, int]
    facts: tuple[tuple[str, str], ...]
    binaries: tuple[tuple[str, str, int], ...]
    bundle: str
    bundle_uri: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return attrs.asdict(self)

    def show(self) -> None:
        """Print the tables a person reads."""
        made = Table("what", "result", title="From recordings to a signed binary")
        made.add_row("uploads", ", ".join(f"{n} {state}" for state, n in self.uploads.items()))
        for what, value in self.facts:
            made.add_row(what, value)
        for target, name, size in self.binaries:
            made.add_row(f"binary for {target}", f"{name}, {size / 1024:,.0f} KiB")
        made.add_row("bundle", self.bundle)
        made.add_row("", self.bundle_uri)
        print_table(_row_table(self.rows))
        print_table(made)
        for step, seconds in self.seconds_by_step.items():
            out.print(f"{seconds:7.1f} s  {step}", highlight=False)


def collect_report(settings: Settings, *, seconds_by_step: Mapping[str, float]) -> DemoReport:
    """Read back what is there and hold it against the truth of the simulated drives."""
    release = _newest_release(settings)
    place = local_copy(release["uri"], storage_options=settings.storage_options)
    with place as folder:
        if folder is None:
            raise PlatformError("The bundle of a release is gone", uri=release["uri"])
        return DemoReport(
            seconds_by_step=seconds_by_step,
            uploads=count_by(settings, "bronze.uploads", "state"),
            rows={state.name: state.rows for state in list_tables(settings)},
            facts=(*_truth_facts(settings), *_model_facts(settings, release, folder)),
            binaries=_binaries(folder),
            bundle=_verdict(settings, folder),
            bundle_uri=release["uri"],
        )


def _truth_facts(settings: Settings) -> list[tuple[str, str]]:
    truth = read_truth(Path(unquote(urlsplit(settings.truth_uri).path)))
    found_clocks = read_table(settings, "silver.clocks")
    clocks = score_clocks(truth, found_clocks)
    tied, wanted = len(clocks.error_ms), len(clocks.error_ms) + len(clocks.missing)
    labels = score_labels(truth, read_table(settings, "gold.labels"))
    found = score_scenarios(truth, read_table(settings, "gold.scenarios"))
    frames = read_table(settings, "silver.frames")
    sync = score_frames(truth, frames, clocks=found_clocks)
    errors = pc.divide(frames["sync_error_ns"].cast("float64"), 1e6)
    [median] = pc.quantile(errors, q=0.5).to_pylist()
    return [
        (
            "clock offsets against the truth",
            f"{clocks.rms_ms:.2f} ms rms, {clocks.max_ms:.2f} ms largest ({tied} of {wanted} tied)",
        ),
        (
            "sync error against the truth",
            f"{sync.rms_ms:.2f} ms rms, {sync.max_ms:.2f} ms largest ({sync.frames:,} frames)",
        ),
        (
            "distance of the values from the image, as stated",
            f"{median:.1f} ms median, {pc.max(errors).as_py():.1f} ms largest",
        ),
        ("labels against the truth", _hits(labels, f"{labels.labels:,} labels")),
        ("scenarios against the truth", _hits(found, f"{found.found} found")),
    ]


def _hits(score: LabelScore | ScenarioScore, counted: str) -> str:
    return f"precision {score.precision:.2f}, recall {score.recall:.2f} ({counted})"


def _model_facts(
    settings: Settings, release: Mapping[str, Any], folder: Path
) -> list[tuple[str, str]]:
    rows = read_table(settings, "gold.evaluations")
    overall = [
        f"{row['target']} {row['value']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]"
        for row in rows.to_pylist()
        if row["model_version"] == release["model_version"]
        and row["model"] == release["model"]
        and row["metric"] == "ap50"
        and row["slice"] == "all"
    ]
    verdict = _document(folder, "verdict.json")
    passed = sum(check["passed"] for check in verdict["checks"])
    word = "passed" if verdict["passed"] else "refused"
    return [
        ("dataset", release["dataset_id"]),
        ("model", f"{release['model']} version {release['model_version']}"),
        ("AP50 on the test drives", ", ".join(overall)),
        ("gate", f"{word}: {passed} of {len(verdict['checks'])} criteria"),
        *_parity_facts(folder),
    ]


def _parity_facts(folder: Path) -> list[tuple[str, str]]:
    """Each target against torch on the same images, one line a target."""
    by_target: dict[str, list[str]] = {}
    for row in _document(folder, "parity.json"):
        by_target.setdefault(row["target"], []).append(f"{row['measure']} {row['value']:.4g}")
    return [(f"{target} against torch", ", ".join(found)) for target, found in by_target.items()]


def _binaries(folder: Path) -> tuple[tuple[str, str, int], ...]:
    return tuple(
        (binary["target"], binary["file"], binary["size_bytes"])
        for binary in _document(folder, "targets.json")["binaries"]
    )


def _verdict(settings: Settings, folder: Path) -> str:
    key = public_key_file(settings.home / "keys")
    return verify_bundle(folder, trusted_key=key).summary


def _document(folder: Path, name: str) -> Any:
    return json.loads((folder / "about" / name).read_bytes())


def _newest_release(settings: Settings) -> dict[str, Any]:
    rows = read_table(settings, "gold.releases").sort_by([("created_ns", "descending")])
    return dict(rows.slice(0, 1).to_pylist()[0])


def _row_table(rows: Mapping[str, int]) -> Table:
    table = Table("table", "rows", title="Tables")
    messages = 0
    for name, count in rows.items():
        if name.startswith("silver.") and name not in TABLES:
            messages += count
            continue
        table.add_row(name, f"{count:,}")
    table.add_row("silver.* of other message types", f"{messages:,}")
    return table
