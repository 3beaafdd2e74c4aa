"""The index of a recording as bytes, to travel from the task that reads it to those that decode."""

from __future__ import annotations

import base64
import json
from typing import Any

import attrs
import zstandard

from contracts.recording import (
    Attachment,
    Channel,
    Finding,
    LedgerEntry,
    RecordingIndex,
    Schema,
    Unit,
)

_MAX_BYTES = 1 << 30


def pack_index(index: RecordingIndex) -> bytes:
    """Compressed JSON of an index."""
    value = attrs.asdict(index, value_serializer=_plain)
    return zstandard.compress(json.dumps(value, separators=(",", ":"), default=int).encode(), 3)


def unpack_index(data: bytes) -> RecordingIndex:
    """The index that `pack_index` was given."""
    value = json.loads(zstandard.decompress(data, max_output_size=_MAX_BYTES))
    return RecordingIndex(
        **{
            **value,
            "schemas": tuple(
                Schema(**{**item, "data": base64.b64decode(item["data"])})
                for item in value["schemas"]
            ),
            "channels": tuple(Channel(**item) for item in value["channels"]),
            "units": tuple(_unit(item) for item in value["units"]),
            "attachments": tuple(Attachment(**item) for item in value["attachments"]),
            "findings": tuple(Finding(**item) for item in value["findings"]),
            "structure": tuple(LedgerEntry(**item) for item in value["structure"]),
            "conflicts": _by_channel(value["conflicts"]),
        }
    )


def _plain(_owner: Any, _field: Any, value: Any) -> Any:
    """Bytes as base64; the rest is JSON already (`default=int` takes NumPy's integers)."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _unit(item: dict[str, Any]) -> Unit:
    return Unit(**{**item, "channel_counts": _by_channel(item["channel_counts"])})


def _by_channel(item: dict[str, int]) -> dict[int, int]:
    """JSON has text keys only."""
    return {int(channel): value for channel, value in item.items()}
