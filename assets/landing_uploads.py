"""Objects of the landing area grouped into uploads: what one run takes at least."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import attrs

from assets.partitions import day_of
from contracts.ids import content_hash

if TYPE_CHECKING:
    from spark_jobs.discover import UploadObject

ObjectIdentity = tuple[str, int, int]


@attrs.frozen
class Upload:
    """Complete objects that belong together: a drive by its manifest, or a single object.

    Attributes:
        name: Drive, or the URI of the object.
        objects: (uri, size_bytes, modified_ns), sorted.
    """

    name: str
    objects: tuple[ObjectIdentity, ...]

    @property
    def key(self) -> str:
        """Identity of this state of the upload: other names, sizes or times make another one.

        A hash, for the names that a fleet gives to its objects may say who drove.
        """
        return content_hash([self.name, self.objects])[:32]

    @property
    def uris(self) -> list[str]:
        """Its objects."""
        return [uri for uri, _, _ in self.objects]

    def is_taken(self, known: Collection[ObjectIdentity]) -> bool:
        """Whether every object of it is among those that an ingest has given an outcome."""
        return all(identity in known for identity in self.objects)

    def day(self, *, last: dt.date) -> dt.date:
        """Ingest day: that of its last object."""
        return day_of(max(modified for _, _, modified in self.objects), last=last)


def uploads_of(objects: Iterable[UploadObject]) -> list[Upload]:
    """Group complete objects by drive, or one by one; pending ones are left out."""
    groups: dict[str, list[ObjectIdentity]] = {}
    for item in objects:
        if not item.pending:
            identity = (item.uri, item.size_bytes, item.modified_ns)
            groups.setdefault(item.drive_id or item.uri, []).append(identity)
    return [Upload(name, tuple(sorted(members))) for name, members in sorted(groups.items())]
