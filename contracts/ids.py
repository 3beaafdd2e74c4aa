"""Identities: content hashes and the names derived from them. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
_ROS_KIND = re.compile(r"/(msg|srv|action)/")


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def schema_hash(name: str, encoding: str, data: bytes) -> str:
    """Identity of a message definition: over its name, its encoding and its text."""
    digest = hashlib.sha256()
    for part in (name.encode(), encoding.encode(), data):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def table_slug(schema_name: str) -> str:
    """Table name of a message schema, the same for every container and ROS generation.

    >>> table_slug("std_msgs/msg/String"), table_slug("std_msgs/String")
    ('std_msgs_string', 'std_msgs_string')
    >>> table_slug("foxglove.Vec3")
    'foxglove_vec3'
    """
    plain = _ROS_KIND.sub("/", schema_name)
    return _NOT_A_WORD.sub("_", plain.lower()).strip("_") or "unnamed"


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def content_hash(value: Any) -> str:
    """SHA-256 over the canonical JSON of a value."""
    return sha256_hex(canonical_json(value))
