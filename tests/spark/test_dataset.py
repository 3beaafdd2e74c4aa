"""Datasets of simulated drives: pinned, split by drive, reproducible."""

from __future__ import annotations

import json
from collections import Counter

import attrs
import pyarrow.compute as pc
import pytest

from contracts.errors import ContractViolation
from spark_jobs.gold_dataset_samples import DatasetSpec, build_dataset
from spark_jobs.tables import read_arrow, table_version
from udfs.perception.samples import sample_id

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def spec(fleet, labels_report):
    """A request for all frames of the fleet."""
    assert labels_report.committed
    return DatasetSpec("sync-test", drive_ids=fleet.drive_ids)


@pytest.fixture(scope="module")
def dataset(spark, fleet, spec):
    """The dataset, built once."""
    return build_dataset(spark, fleet.settings, spec)


@pytest.fixture(scope="module")
def samples(fleet, dataset):
    """Its samples."""
    where = [("dataset_id", "=", dataset.dataset_id)]
    return read_arrow(fleet.settings, "gold.dataset_samples", filters=where)


def test_every_drive_is_in_one_split_and_no_split_is_empty(fleet, dataset, samples):
    """Three drives fill three splits; no drive is in two."""
    pairs = set(zip(samples["drive_id"].to_pylist(), samples["split"].to_pylist(), strict=True))
    assert sorted(drive for drive, _ in pairs) == list(fleet.drive_ids)
    assert {split for _, split in pairs} == {"train", "validation", "test"}
    assert Counter(samples["split"].to_pylist()) == Counter(dataset.samples)


def test_samples_hold_the_recorded_image_and_its_labels(samples):
    """A sample's identity is the hash of its bytes and boxes; the image is as recorded."""
    for row in samples.slice(0, 20).to_pylist():
        assert row["image_jpeg"].startswith(b"\xff\xd8")
        assert (row["image_width_px"], row["image_height_px"]) == (320, 192)
        assert row["sample_id"] == sample_id(row["image_jpeg"], row["boxes"])
        assert row["boxes"]
        assert all(
            box["confidence"] >= 0.5 and box["y1_px"] - box["y0_px"] >= 8 for box in row["boxes"]
        )
    assert pc.count_distinct(samples["sample_id"]).as_py() == len(samples)


def test_the_listing_names_what_it_was_made_of(fleet, dataset, spec):
    """The row in gold.datasets pins the table versions and names the recordings and the request."""
    where = [("dataset_id", "=", dataset.dataset_id)]
    (row,) = read_arrow(fleet.settings, "gold.datasets", filters=where).to_pylist()
    assert json.loads(row["table_versions"]) == dict(dataset.table_versions)
    assert json.loads(row["specification"])["name"] == spec.name
    assert len(row["recording_ids"]) == 3
    assert dataset.dataset_id == f"sync-test-{row['content_hash'][:12]}"


def test_the_same_request_commits_nothing(spark, fleet, spec, dataset):
    """Built again: the same identity, no second commit."""
    before = table_version(fleet.settings, "gold.dataset_samples")
    again = build_dataset(spark, fleet.settings, spec)
    assert (again.dataset_id, again.committed) == (dataset.dataset_id, False)
    assert table_version(fleet.settings, "gold.dataset_samples") == before


def test_the_same_content_has_the_same_identity(spark, fleet, spec, dataset):
    """Another request that selects the same samples is the same dataset, byte by byte."""
    wider = attrs.evolve(spec, camera_topic="/camera/front/image/compressed")
    again = build_dataset(spark, fleet.settings, wider)
    assert (again.dataset_id, again.committed) == (dataset.dataset_id, False)


def test_a_pinned_version_gives_the_old_dataset(spark, fleet, spec, dataset, run_job):
    """After the labels changed, the pinned versions still give the same samples."""
    from udfs.perception.rules import LabelRules

    one = fleet.drive_ids[:1]
    try:
        run_job("gold_labels", drive_ids=one, rules=attrs.evolve(LabelRules(), min_points=40))
        pinned = attrs.evolve(spec, versions=dataset.table_versions, min_box_px=7.999)
        assert build_dataset(spark, fleet.settings, pinned).dataset_id == dataset.dataset_id
        latest = build_dataset(spark, fleet.settings, attrs.evolve(spec, name="sync-test-latest"))
        assert latest.content_hash != dataset.content_hash
    finally:
        run_job("gold_labels", drive_ids=one)


def test_a_request_that_nothing_fits_is_refused(spark, fleet, spec):
    """No empty dataset comes into being."""
    with pytest.raises(ContractViolation, match="EMPTY_DATASET"):
        build_dataset(spark, fleet.settings, attrs.evolve(spec, min_confidence=1.01))
