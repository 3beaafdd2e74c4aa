"""What decode must be told of a recording that its bytes don't say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import attrs


@attrs.frozen
class DecodeContext:
    """Values that go into every row, and definitions from outside the file.

    Attributes:
        recording_id: SHA-256 of the recording.
        ingest_date: UTC day of the ingest; the partition column.
        definitions: Bus definitions by binding: `can:<bus>`, `can:<topic>` or `can:*` → bytes of a
            DBC, ARXML or KCD.
        table_names: Silver table by schema hash, where it differs from the schema's own slug.
        quarantined: Channels of which too many messages would not decode: the others are kept as
            bytes, too, since nobody can say that they mean what the definition says.
    """

    recording_id: str
    ingest_date: dt.date
    definitions: Mapping[str, bytes] = attrs.field(factory=dict)
    table_names: Mapping[str, str] = attrs.field(factory=dict)
    quarantined: frozenset[int] = frozenset()
