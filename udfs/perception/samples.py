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
