"""Splits and identities of datasets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.perception.samples import (
    SplitShares,
    dataset_hash,
    sample_id,
    split_drives,
    visible_boxes,
)

SHARES = SplitShares()
DRIVES = st.sets(st.text("abcdef0123456789-", min_size=1, max_size=12), max_size=30)


@given(DRIVES)
def test_every_drive_has_one_split_and_from_three_on_none_is_empty(drives):
    """For any drives: each is assigned, and three or more fill all splits."""
    split = split_drives(drives, shares=SHARES)
    assert set(split) == drives
    assert set(split.values()) <= {"train", "validation", "test"}
    if len(drives) >= 3:
        assert len(set(split.values())) == 3


@given(DRIVES)
def test_the_order_of_drives_does_not_matter(drives):
    """The same drives in another order, or twice, are split the same."""
    ordered = sorted(drives)
    assert split_drives(ordered, shares=SHARES) == split_drives(ordered[::-1] * 2, shares=SHARES)


def test_drives_stay_where_they_are_when_others_come():
    """Of 200 drives none changes its split when 200 more arrive."""
    first = [f"drive-{i}" for i in range(200)]
    before = split_drives(first, shares=SHARES)
    after = split_drives([*first, *(f"late-{i}" for i in range(200))], shares=SHARES)
    assert {drive: after[drive] for drive in first} == before


def test_shares_are_kept_over_many_drives():
    """Over 2,000 drives the shares are those asked for, within three per cent."""
    split = split_drives((f"drive-{i}" for i in range(2_000)), shares=SplitShares(0.1, 0.3))
    count = Counter(split.values())
    assert count["validation"] / 2_000 == pytest.approx(0.1, abs=0.03)
    assert count["test"] / 2_000 == pytest.approx(0.3, abs=0.03)


def test_a_split_that_is_not_wanted_stays_empty():
    """A share of zero gives no drive to it, however many there are."""
    split = split_drives((f"drive-{i}" for i in range(50)), shares=SplitShares(0.0, 0.2))
    assert "validation" not in split.values()


def test_another_seed_is_another_assignment():
    """The seed decides, reproducibly."""
    drives = [f"drive-{i}" for i in range(40)]
    other = split_drives(drives, shares=SplitShares(seed=1))
    assert other != split_drives(drives, shares=SHARES)
    assert other == split_drives(drives, shares=SplitShares(seed=1))


def test_the_hash_of_a_dataset_is_over_its_members():
    """Order does not matter, every part of a member does."""
    members = [("train", "d1", "s1", 1), ("test", "d2", "s2", 2)]
    value = dataset_hash(members)
    assert dataset_hash(members[::-1]) == value
    assert dataset_hash([("test", "d1", "s1", 1), members[1]]) != value
    assert dataset_hash(members[:1]) != value


def test_the_identity_of_a_sample_depends_on_every_byte():
    """Another image or another box is another sample; the order of the boxes is not."""
    boxes = [{"class_name": "car", "x0_px": 1.0}, {"class_name": "truck", "x0_px": 2.0}]
    identity = sample_id(b"image", boxes)
    assert len(identity) == 64
    assert sample_id(b"image", boxes[::-1]) == identity
    assert sample_id(b"imagf", boxes) != identity
    assert sample_id(b"image", boxes[:1]) != identity


def test_what_a_nearer_box_covers_is_left_out():
    """A car behind a car is no label for the camera; one that looks out from behind it is."""
    names = ("x0_px", "y0_px", "x1_px", "y1_px", "distance_m")
    near, covered, half, beside = (
        dict(zip(names, values, strict=True))
        for values in (
            (0.0, 0.0, 100.0, 60.0, 10.0),
            (20.0, 10.0, 60.0, 30.0, 30.0),
            (80.0, 10.0, 120.0, 30.0, 30.0),
            (200.0, 0.0, 220.0, 10.0, 40.0),
        )
    )
    boxes = [covered, near, half, beside]
    assert visible_boxes(boxes, max_hidden_share=0.8) == [near, half, beside]
    assert visible_boxes(boxes, max_hidden_share=0.4) == [near, beside]
    assert visible_boxes(boxes, max_hidden_share=1.0) == boxes
    assert visible_boxes([], max_hidden_share=0.8) == []
