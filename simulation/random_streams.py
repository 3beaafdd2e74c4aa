"""Named random streams: each part of a drive draws from its own, so that no part shifts another."""

from __future__ import annotations

import hashlib

import numpy as np


def random_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Give the generator that belongs to a seed and a name, the same on every call.

    Args:
        seed: Seed of the fleet.
        *names: What the numbers are for, such as the drive and the sensor.

    Returns:
        A counter-based generator (Philox) whose key is a hash of seed and names.
    """
    text = "/".join(str(part) for part in (seed, *names))
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))
