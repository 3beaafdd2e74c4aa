"""How far results are from the truth of simulated drives: for tests, evaluation and reports.

No job imports this: what is scored never sees the truth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FloatArray = npt.NDArray[np.float64]

_SAME_FRAME_NS = 20_000_000


@attrs.frozen(eq=False)
class DriveTruth:
    """The truth of one drive.

    Attributes:
        drive_id: Its name.
        clocks: By recorder: offset_ns at t_start_ns, drift_ppm, jitter_ns, t_start_ns, and jumps
            (t_ns, size_ns) if there are any.
        ego: As ego.parquet.
        objects: As objects.parquet.
        scenarios: As scenarios.json.
        conditions: Weather and light.
    """

    drive_id: str
    clocks: Mapping[str, Mapping[str, Any]]
    ego: pa.Table
    objects: pa.Table
    scenarios: Sequence[Mapping[str, Any]]
    conditions: Mapping[str, str]


@attrs.frozen
class ClockScore:
    """Errors of estimated clock offsets, at the middle of each drive.

    Attributes:
        error_ms: By (drive, recorder): estimate minus truth.
        rms_ms: Root mean square.
        max_ms: Largest magnitude.
        covered: Share of the errors within two of the stated standard errors.
        missing: Recorders of the truth without an estimate that is tied to UTC.
    """

    error_ms: Mapping[tuple[str, str], float]
    rms_ms: float
    max_ms: float
    covered: float
    missing: tuple[tuple[str, str], ...]


@attrs.frozen
class FrameScore:
    """How far the sensors of a frame really are from where its times say they are.

    An error is that of another recorder's clock at the instant of the frame, minus that of the
    image's own time: what remains when both are taken for the same instant.

    Attributes:
        rms_ms: Root mean square over all frames and recorders.
        max_ms: Largest magnitude.
        rms_by_recorder_ms: By recorder.
        image_rms_ms: Of the image's time against the true exposure.
        frames: Frames whose exposure is in the truth.
    """

    rms_ms: float
    max_ms: float
    rms_by_recorder_ms: Mapping[str, float]
    image_rms_ms: float
    frames: int


@attrs.frozen
class LabelScore:
    """How labels agree with the truth.

    Attributes:
        recall: Share of the true objects that count which have a label near.
        precision: Share of the labels that count which have a true object near.
        true_objects: True objects that count.
        labels: Labels that count.
        class_accuracy: Share of the matched objects whose class is right.
        median_distance_m: Between the centres of a match.
        mean_iou_2d: Of the rectangles of the matches.
        recall_by_class: By true class.
    """

    recall: float
    precision: float
    true_objects: int
    labels: int
    class_accuracy: float
    median_distance_m: float
    mean_iou_2d: float
    recall_by_class: Mapping[str, float]


@attrs.frozen
class ScenarioScore:
    """How found scenarios agree with the truth, over all kinds and by kind.

    Attributes:
        recall: Share of the true scenarios that were found.
        precision: Share of the found scenarios that are true.
        recall_by_kind: By kind of the truth.
        precision_by_kind: By kind found.
        true_scenarios: How many there are.
        found: How many were found.
    """

    recall: float
    precision: float
    recall_by_kind: Mapping[str, float]
    precision_by_kind: Mapping[str, float]
    true_scenarios: int
    found: int


def read_truth(root: Path, *, drive_ids: Sequence[str] | None = None) -> dict[str, DriveTruth]:
    """Read the truth of simulated drives.

    Args:
        root: Folder with one folder a drive.
        drive_ids: Drives wanted; all by default. A drive without truth is left out.
    """
    folders = sorted(path.parent for path in root.glob("*/clocks.json"))
    return {
        folder.name: DriveTruth(
            drive_id=folder.name,
            clocks=json.loads((folder / "clocks.json").read_text()),
            ego=pq.read_table(folder / "ego.parquet"),
            objects=pq.read_table(folder / "objects.parquet"),
            scenarios=json.loads((folder / "scenarios.json").read_text()),
            conditions=json.loads((folder / "conditions.json").read_text()),
        )
        for folder in folders
        if drive_ids is None or folder.name in drive_ids
    }


def score_clocks(truth: Mapping[str, DriveTruth], clocks: pa.Table) -> ClockScore:
    """Compare rows of `silver.clocks` with the true offsets at mid-drive."""
    errors: dict[tuple[str, str], float] = {}
    covered = []
    for (drive_id, recorder), rows in _tied_rows(clocks).items():
        drive = truth.get(drive_id)
        sure = [row for row in rows if row["uncertainty_ns"] is not None]
        if drive is None or recorder not in drive.clocks or not sure:
            continue
        middle = _middle_of(drive)
        stated, uncertainty = _stated_offset(sure, middle)
        error = float((stated - _offset_at(drive, recorder, middle))[0])
        errors[drive_id, recorder] = error / 1e6
        covered.append(abs(error) <= 2 * float(uncertainty[0]))
    wanted = {(name, recorder) for name, drive in truth.items() for recorder in drive.clocks}
    size = np.abs(list(errors.values()))
    return ClockScore(
        error_ms=errors,
        rms_ms=_rms(size),
        max_ms=float(size.max()) if errors else float("nan"),
        covered=float(np.mean(covered)) if covered else float("nan"),
        missing=tuple(sorted(wanted - errors.keys())),
    )


def score_frames(
    truth: Mapping[str, DriveTruth], frames: pa.Table, *, clocks: pa.Table
) -> FrameScore:
    """Hold the times of `silver.frames` against the true exposures and clocks.

    Args:
        truth: By drive.
        frames: Rows of `silver.frames`, those on UTC.
        clocks: Rows of `silver.clocks`.
    """
    tied = _tied_rows(clocks)
    image: list[FloatArray] = []
    between: dict[str, list[FloatArray]] = {}
    for drive_id, drive in truth.items():
        mine = frames.filter(pc.equal(frames["drive_id"], drive_id))
        stated_ns = mine.filter(pc.equal(mine["clock"], "utc"))["t_ns"].to_numpy()
        true_ns = _nearest(np.unique(drive.objects["t_ns"].to_numpy()), stated_ns)
        seen = np.abs(stated_ns - true_ns) <= _SAME_FRAME_NS
        stated_ns, true_ns = stated_ns[seen], true_ns[seen]
        image.append((stated_ns - true_ns) / 1e6)
        for recorder in drive.clocks:
            if (drive_id, recorder) in tied:
                stated_offset, _ = _stated_offset(tied[drive_id, recorder], true_ns)
                own = (_offset_at(drive, recorder, true_ns) - stated_offset) / 1e6
                between.setdefault(recorder, []).append(own - image[-1])
    found = {name: np.concatenate(parts) for name, parts in sorted(between.items())}
    every = np.concatenate([np.empty(0), *found.values()])
    return FrameScore(
        rms_ms=_rms(every),
        max_ms=float(np.abs(every).max()) if every.size else float("nan"),
        rms_by_recorder_ms={name: _rms(errors) for name, errors in found.items()},
        image_rms_ms=_rms(np.concatenate([np.empty(0), *image])),
        frames=sum(map(len, image)),
    )


def score_labels(
    truth: Mapping[str, DriveTruth],
    labels: pa.Table,
    *,
    max_distance_m: float = 50.0,
    min_lidar_points: int = 5,
    min_visible_fraction: float = 0.0,
    match_m: float = 1.5,
) -> LabelScore:
    """Compare rows of `gold.labels` with the true objects of the same frames.

    A true object counts if it is in the image and not hidden, has enough lidar points and is near
    enough. A label counts if it has a rectangle in the image and is near enough; it is right if any
    true object is near it. Only frames with labels are looked at.

    Args:
        truth: By drive.
        labels: Rows of `gold.labels`.
        max_distance_m: Farthest object and label that count.
        min_lidar_points: Fewest lidar points of an object that counts.
        min_visible_fraction: Objects that are hidden to this share or more don't count.
        match_m: Distance of the centres on the ground below which label and object match.
    """
    tally = _Tally()
    for drive_id, drive in truth.items():
        mine = labels.filter(pc.equal(labels["drive_id"], drive_id))
        for objects, found in _frames_in_common(drive.objects, mine):
            _compare(
                objects,
                found,
                tally=tally,
                counts=(
                    (objects["visible_fraction"] > min_visible_fraction)
                    & np.isfinite(objects["box2d_x0_px"])
                    & (objects["lidar_points"] >= min_lidar_points)
                    & (objects["distance_m"] <= max_distance_m)
                ),
                label_counts=np.isfinite(found["box_x0_px"])
                & (found["distance_m"] <= max_distance_m),
                match_m=match_m,
            )
    return tally.score()


def score_scenarios(
    truth: Mapping[str, DriveTruth], scenarios: pa.Table, *, min_overlap: float = 0.5
) -> ScenarioScore:
    """Compare rows of `gold.scenarios` with the true ones.

    Args:
        truth: By drive.
        scenarios: Rows of `gold.scenarios`.
        min_overlap: Common time over the time of either, above which two of a kind are the same.
    """
    rows = [row for row in scenarios.to_pylist() if row["drive_id"] in truth]
    true = [(name, each) for name, drive in truth.items() for each in drive.scenarios]
    hits: dict[str, list[bool]] = {}
    right: dict[str, list[bool]] = {}
    pairs = [
        (i, j)
        for i, (drive_id, each) in enumerate(true)
        for j, row in enumerate(rows)
        if (drive_id, each["kind"]) == (row["drive_id"], row["scenario"])
        and _overlap(each, row) >= min_overlap
    ]
    for i, (_, each) in enumerate(true):
        hits.setdefault(each["kind"], []).append(any(pair[0] == i for pair in pairs))
    for j, row in enumerate(rows):
        right.setdefault(row["scenario"], []).append(any(pair[1] == j for pair in pairs))
    return ScenarioScore(
        recall=_share([hit for each in hits.values() for hit in each]),
        precision=_share([hit for each in right.values() for hit in each]),
        recall_by_kind={kind: _share(each) for kind, each in sorted(hits.items())},
        precision_by_kind={kind: _share(each) for kind, each in sorted(right.items())},
        true_scenarios=len(true),
        found=len(rows),
    )


@attrs.define
class _Tally:
    hits: list[tuple[str, bool]] = attrs.field(factory=list)
    right: list[bool] = attrs.field(factory=list)
    same_class: list[bool] = attrs.field(factory=list)
    distance_m: list[float] = attrs.field(factory=list)
    iou: list[float] = attrs.field(factory=list)

    def score(self) -> LabelScore:
        classes = sorted({name for name, _ in self.hits})
        return LabelScore(
            recall=_share([hit for _, hit in self.hits]),
            precision=_share(self.right),
            true_objects=len(self.hits),
            labels=len(self.right),
            class_accuracy=_share(self.same_class),
            median_distance_m=float(np.median(self.distance_m)) if self.distance_m else np.nan,
            mean_iou_2d=float(np.mean(self.iou)) if self.iou else float("nan"),
            recall_by_class={
                name: _share([hit for each, hit in self.hits if each == name]) for name in classes
            },
        )


Columns = Mapping[str, npt.NDArray[Any]]


def _compare(
    objects: Columns,
    found: Columns,
    *,
    tally: _Tally,
    counts: npt.NDArray[np.bool_],
    label_counts: npt.NDArray[np.bool_],
    match_m: float,
) -> None:
    """Match the objects and labels of one frame, the nearest first, and count."""
    distance = np.hypot(
        objects["base_x_m"][:, None] - found["position_x_m"][None],
        objects["base_y_m"][:, None] - found["position_y_m"][None],
    )
    label_of: dict[int, int] = {}
    taken: set[int] = set()
    for i, j in zip(
        *np.unravel_index(np.argsort(distance, axis=None), distance.shape), strict=True
    ):
        if distance[i, j] >= match_m:
            break
        if i not in label_of and j not in taken:
            label_of[int(i)] = int(j)
            taken.add(int(j))
    for i in np.flatnonzero(counts).tolist():
        tally.hits.append((str(objects["class_name"][i]), i in label_of))
        if i in label_of:
            j = label_of[i]
            tally.same_class.append(objects["class_name"][i] == found["class_name"][j])
            tally.distance_m.append(float(distance[i, j]))
            if np.isfinite(found["box_x0_px"][j]):
                tally.iou.append(_iou(_box(objects, "box2d", i), _box(found, "box", j)))
    tally.right += [j in taken for j in np.flatnonzero(label_counts).tolist()]


def _frames_in_common(objects: pa.Table, labels: pa.Table) -> Iterator[tuple[Columns, Columns]]:
    """Objects and labels of the frames that have both; the stamps differ by the clock's error."""
    true_ns = objects["t_ns"].to_numpy()
    label_ns = labels["t_ns"].to_numpy()
    exposures = np.unique(true_ns)
    stamps = np.unique(label_ns)
    for t_ns, nearest in zip(stamps, _nearest(exposures, stamps), strict=True):
        if abs(int(nearest) - int(t_ns)) <= _SAME_FRAME_NS:
            yield (
                _columns(objects.filter(pa.array(true_ns == nearest))),
                _columns(labels.filter(pa.array(label_ns == t_ns))),
            )


def _columns(table: pa.Table) -> Columns:
    return {
        name: np.asarray(table[name].to_pylist(), dtype=object)
        if pa.types.is_string(table.schema.field(name).type)
        else table[name].to_numpy(zero_copy_only=False)
        for name in table.column_names
    }


def _middle_of(drive: DriveTruth) -> npt.NDArray[np.int64]:
    """(1,) the middle of a drive, UTC."""
    times = drive.objects["t_ns"].to_numpy()
    return np.array([(int(times.min()) + int(times.max())) // 2], np.int64)


def _offset_at(drive: DriveTruth, recorder: str, t_ns: npt.NDArray[np.int64]) -> FloatArray:
    """True offset of a recorder's clock at instants of UTC, nanoseconds."""
    clock = drive.clocks[recorder]
    elapsed_ns = t_ns - clock["t_start_ns"]
    jumped_ns = sum(
        jump["size_ns"] * (t_ns >= jump["t_ns"]).astype(np.int64) for jump in clock.get("jumps", ())
    )
    return np.asarray(clock["offset_ns"] + clock["drift_ppm"] * 1e-6 * elapsed_ns + jumped_ns)


def _tied_rows(clocks: pa.Table) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Rows of `silver.clocks` by drive and recorder, but for assumed ones."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in clocks.to_pylist():
        if row["method"] != "assumed":
            found.setdefault((row["drive_id"], row["recorder"]), []).append(row)
    return found


def _stated_offset(
    rows: Sequence[Mapping[str, Any]], t_ns: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Offset of a recorder's clock at instants of UTC and its standard error, ns.

    Each instant is looked up in the segment that holds for the reading there, or is nearest to it.
    """
    offsets, errors, away = [], [], []
    for row in rows:
        anchor_ns = row["anchor_ns"] or 0
        drift, drift_error = (row[name] or 0.0 for name in ("drift_ppb", "drift_uncertainty_ppb"))
        elapsed_s = (t_ns + row["offset_ns"] - anchor_ns) / 1e9
        offset = row["offset_ns"] + drift * elapsed_s
        readings = t_ns + np.rint(offset).astype(np.int64)
        first, last = row["valid_from_ns"], row["valid_to_ns"]
        early = first - readings if first is not None else np.zeros(len(t_ns))
        late = readings - last if last is not None else np.zeros(len(t_ns))
        offsets.append(offset)
        errors.append(np.hypot(row["uncertainty_ns"] or 0, drift_error * elapsed_s))
        away.append(np.maximum(np.maximum(early, late), 0))
    nearest = np.argmin(away, axis=0)
    where = np.arange(len(t_ns))
    return np.array(offsets)[nearest, where], np.array(errors)[nearest, where]


def _nearest(sorted_ns: npt.NDArray[np.int64], t_ns: npt.NDArray[np.int64]) -> Any:
    """The value of a sorted array nearest to each instant."""
    after = np.clip(np.searchsorted(sorted_ns, t_ns), 1, len(sorted_ns) - 1)
    left, right = sorted_ns[after - 1], sorted_ns[after]
    return np.where(t_ns - left <= right - t_ns, left, right)


def _rms(errors: npt.ArrayLike) -> float:
    """Root mean square; NaN of nothing."""
    values = np.asarray(errors)
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")


def _overlap(true: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    common = min(true["end_ns"], row["end_ns"]) - max(true["start_ns"], row["start_ns"])
    union = max(true["end_ns"], row["end_ns"]) - min(true["start_ns"], row["start_ns"])
    return max(0.0, common / union) if union else 0.0


def _box(columns: Columns, prefix: str, index: int) -> FloatArray:
    return np.array([columns[f"{prefix}_{side}_px"][index] for side in ("x0", "y0", "x1", "y1")])


def _iou(a: FloatArray, b: FloatArray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = float(np.prod(np.maximum(high - low, 0.0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if union > 0 else 0.0


def _share(hits: Sequence[bool]) -> float:
    """Share of true; NaN of nothing."""
    return float(np.mean(hits)) if hits else float("nan")
