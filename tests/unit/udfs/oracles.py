"""Second implementations to compare with, and messages laid into an arena."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from contracts.ids import schema_hash
from contracts.recording import MessageBatch, Schema

_UNREAL = {"__msgtype__", "structure_needs_at_least_one_member"}
_INSTANTS = ({"sec", "nanosec"}, {"secs", "nsecs"})


def schema_of(name: str, text: str | bytes, encoding: str = "ros2msg") -> Schema:
    """A definition as a reader gives it."""
    data = text.encode() if isinstance(text, str) else text
    return Schema(1, name, encoding, data, schema_hash(name, encoding, data))


def batch_of(payloads: Sequence[bytes], *, lead: bytes = b"\xa5\x5a\x01") -> MessageBatch:
    """Messages in an arena, each behind some bytes that are not its own."""
    arena = np.frombuffer(b"".join(lead + payload for payload in payloads) + lead, np.uint8)
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    starts = np.cumsum(lengths + len(lead)) - lengths
    ordinal = np.arange(len(payloads), dtype=np.int64)
    return MessageBatch(
        channel_id=1,
        arena=arena,
        starts=starts,
        lengths=lengths,
        log_time_ns=ordinal,
        publish_time_ns=ordinal,
        sequence=ordinal,
        unit_offset=np.full(len(payloads), 64, np.int64),
        payload_offset=starts,
    )


def plain(value: Any) -> Any:
    """A message of mcap-ros1, mcap-ros2 or rosbags as the row that it must become."""
    names = field_names(value)
    if names is not None:
        if set(names) in _INSTANTS:
            seconds, nanoseconds = (int(getattr(value, name)) for name in sorted(names)[::-1])
            return seconds * 1_000_000_000 + nanoseconds
        row: dict[str, Any] = {}
        for name in names:
            if type(value).__name__.endswith("Header") and name == "seq":
                continue
            child = getattr(value, name)
            row[name.lower() + ("_ns" if _is_instant(child) else "")] = plain(child)
        return row or {"_empty": None}
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.dtype == np.uint8 else value.tolist()
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def field_names(value: Any) -> list[str] | None:
    """Fields of a message object of any of the libraries; None for what is no message."""
    if hasattr(value, "__dataclass_fields__"):
        own = vars(type(value))  # where constants have their values
        return [name for name in value.__dataclass_fields__ if name not in {*own, *_UNREAL}]
    if hasattr(value, "_full_text") or type(value).__name__ in ("Time", "Duration"):
        return [name for name in value.__slots__ if not name.startswith("_")]
    return None


def _is_instant(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and _is_instant(value[0])
    names = field_names(value)
    return names is not None and set(names) in _INSTANTS


def assert_same(found: Any, wanted: Any, path: str = "") -> None:
    """Equal to the bit: NaN equals NaN, 0.0 differs from -0.0, numbers by value whatever type."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), path
        assert list(found) == list(wanted), (path, list(found), list(wanted))
        for name, one in wanted.items():
            assert_same(found[name], one, f"{path}.{name}")
    elif isinstance(wanted, list):
        if isinstance(found, bytes):
            found = list(found)
        assert len(found) == len(wanted), path
        for i, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
            assert_same(mine, theirs, f"{path}[{i}]")
    elif isinstance(wanted, float):
        assert isinstance(found, float), path
        same = np.float64(found).tobytes() == np.float64(wanted).tobytes()
        assert same or (found != found and wanted != wanted), (path, found, wanted)  # noqa: PLR0124
    elif isinstance(found, Decimal):
        assert int(found) == wanted, path
    else:
        assert found == wanted, (path, found, wanted)


def mcap_messages(path: Path) -> dict[int, tuple[Any, Any, list[Any]]]:
    """Schema, channel and messages by channel id, in file order, as the mcap library reads them."""
    from mcap.reader import make_reader

    found: dict[int, tuple[Any, Any, list[Any]]] = {}
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages(log_time_order=False):
            found.setdefault(channel.id, (schema, channel, []))[2].append(message)
    return found
