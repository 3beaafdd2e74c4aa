"""Samples of a dataset: which drive goes where, and what identifies a sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from contracts.ids import canonical_json, content_hash

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")


@attrs.frozen
class SplitShares:
    """How drives are shared out.

    Attributes:
        validation: Share of the drives to choose by.
        test: Share of the drives to judge by.
        seed: Another seed gives another assignment.
    """

    validation: float = attrs.field(default=0.2, validator=attrs.validators.ge(0.0))
    test: float = attrs.field(default=0.2, validator=attrs.validators.ge(0.0))
    seed: int = 0

    @property
    def rule(self) -> str:
        """In words."""
        return (
            f"by drive: hash of drive and seed {self.seed}; "
            f"validation {self.validation:g}, test {self.test:g}; none empty from three drives on"
        )


def split_drives(drive_ids: Iterable[str], *, shares: SplitShares) -> dict[str, str]:
    """Assign every drive to one split.

    The hash of a drive decides, so a drive stays where it is when others come. If a split would
    be empty, though there are three drives, the drive nearest to its bounds moves there.

    Args:
        drive_ids: The drives.
        shares: How large the splits are to be.

    Returns:
        Split by drive.
    """
    place = {drive: _place(drive, shares.seed) for drive in sorted(set(drive_ids))}
    bounds = {
        TEST: (0.0, shares.test),
        VALIDATION: (shares.test, shares.test + shares.validation),
        TRAIN: (shares.test + shares.validation, 1.0),
    }
    split = {
        drive: next(name for name, (_, end) in bounds.items() if at < end or name == TRAIN)
        for drive, at in place.items()
    }
    for name, (start, end) in bounds.items():
        if len(place) < len(SPLITS) or start == end or name in split.values():
            continue
        sizes = {each: list(split.values()).count(each) for each in SPLITS}
        spare = [drive for drive in place if sizes[split[drive]] > 1]
        nearest = min(spare, key=lambda drive: (abs(place[drive] - (start + end) / 2), drive))
        split[nearest] = name
    return split


def visible_boxes(
    boxes: Sequence[Mapping[str, Any]], *, max_hidden_share: float
) -> list[Mapping[str, Any]]:
    """Leave out boxes that a nearer one covers: the lidar on the roof sees over cars.

    Args:
        boxes: With x0_px, y0_px, x1_px, y1_px and distance_m.
        max_hidden_share: Greatest share of a box that a single nearer one may cover.

    Returns:
        The others, in their order.
    """

    def hidden_share(box: Mapping[str, Any], by: Mapping[str, Any]) -> float:
        width = min(box["x1_px"], by["x1_px"]) - max(box["x0_px"], by["x0_px"])
        height = min(box["y1_px"], by["y1_px"]) - max(box["y0_px"], by["y0_px"])
        area = (box["x1_px"] - box["x0_px"]) * (box["y1_px"] - box["y0_px"])
        return float(max(width, 0.0) * max(height, 0.0) / area) if area > 0 else 1.0

    return [
        box
        for box in boxes
        if all(
            by["distance_m"] >= box["distance_m"] or hidden_share(box, by) <= max_hidden_share
            for by in boxes
        )
    ]


def sample_id(image: bytes, boxes: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of an image and its labels, in any order of the labels."""
    labels = sorted(canonical_json(dict(box)) for box in boxes)
    digest = hashlib.sha256(len(image).to_bytes(8, "little") + image)
    for label in labels:
        digest.update(len(label).to_bytes(8, "little") + label)
    return digest.hexdigest()


def dataset_hash(members: Iterable[tuple[str, str, str, int]]) -> str:
    """Content hash of a dataset over its sorted (split, drive_id, sample_id, t_ns)."""
    return content_hash([list(member) for member in sorted(members)])


def _place(drive_id: str, seed: int) -> float:
    """Where in [0, 1) the hash of a drive lies."""
    return int(content_hash([seed, drive_id])[:13], 16) / 16**13
