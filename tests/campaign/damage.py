"""What happens to files: bits flip, ends are cut, blocks are lost, doubled, moved or zeroed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping

_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
            1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip


def damaged(data: bytes, *, other: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A damaged copy of a file, and what was done to it.

    Args:
        data: A good file.
        other: Another file of the same format, to splice parts from.
        chance: Decides on everything.
    """
    out, done = bytearray(data), []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        name = chance.choice(KINDS)
        out = _KINDS[name](out, other, chance)
        done.append(name)
    return bytes(out), "+".join(done)


def _place(out: bytearray, chance: random.Random) -> int:
    """Anywhere; the head and the end of a file, where its structure is, more often."""
    size = max(len(out), 1)
    where = chance.random()
    if where < 0.15:
        return chance.randrange(min(size, 512))
    if where < 0.3:
        return size - 1 - chance.randrange(min(size, 512))
    return chance.randrange(size)


def _range(out: bytearray, chance: random.Random) -> tuple[int, int]:
    """A byte range: of any length, or of blocks as disks and file systems lose them."""
    if chance.random() < 0.4:
        block = 1 << chance.randrange(4, 12)
        start = _place(out, chance) // block * block
        return start, min(start + block * chance.randrange(1, 4), len(out))
    start = _place(out, chance)
    longest = chance.choice((4, 64, 1024, max(len(out), 1)))
    return start, min(start + chance.randrange(1, longest + 1), len(out))


def _flip(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    if out:
        out[_place(out, chance)] ^= 1 << chance.randrange(8)
    return out


def _flips(out: bytearray, other: bytes, chance: random.Random) -> bytearray:
    for _ in range(chance.randrange(2, 20)):
        out = _flip(out, other, chance)
    return out


def _byte(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    if out:
        out[_place(out, chance)] = chance.randrange(256)
    return out


def _number(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    """Put a number where counts and lengths may stand, of the size that they have."""
    width = chance.choice((1, 2, 4, 8))
    at = _place(out, chance)
    at = at // width * width if chance.random() < 0.5 else at
    value = chance.choice((*_NUMBERS, len(out), at)) & ((1 << (8 * width)) - 1)
    order = chance.choice(("little", "little", "big"))
    out[at : at + width] = value.to_bytes(width, order)
    return out


def _step(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    """Move a 32-bit number a little: off by one, by a word, by a sign."""
    at = _place(out, chance)
    if at + 4 <= len(out):
        (value,) = struct.unpack_from("<I", out, at)
        value = (value + chance.choice((-8, -4, -1, 1, 4, 8))) & 0xFFFFFFFF
        struct.pack_into("<I", out, at, value)
    return out


def _cut(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    del out[_place(out, chance) :]
    return out


def _behead(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    """Lose bytes behind the first few, by which the format is told."""
    del out[16 : 16 + chance.randrange(1, 256)]
    return out


def _delete(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    start, end = _range(out, chance)
    del out[start:end]
    return out


def _insert(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    at = _place(out, chance)
    out[at:at] = chance.randbytes(chance.choice((1, 2, 4, 8, 100)))
    return out


def _zero(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    start, end = _range(out, chance)
    out[start:end] = bytes(end - start)
    return out


def _fill(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    start, end = _range(out, chance)
    out[start:end] = chance.choice((b"\xff", b"\x00", b"0", b" ")) * (end - start)
    return out


def _noise(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    start, end = _range(out, chance)
    out[start:end] = chance.randbytes(end - start)
    return out


def _double(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    start, end = _range(out, chance)
    out[end:end] = out[start:end]
    return out


def _swap(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    (a, b), (c, d) = sorted((_range(out, chance), _range(out, chance)))
    if b <= c:
        out[a:d] = out[c:d] + out[b:c] + out[a:b]
    return out


def _copy(out: bytearray, _: bytes, chance: random.Random) -> bytearray:
    """Overwrite a range with another one of the same file."""
    start, end = _range(out, chance)
    at = _place(out, chance)
    part = out[start:end]
    out[at : at + len(part)] = part
    return out


def _splice(out: bytearray, other: bytes, chance: random.Random) -> bytearray:
    """Go on with another file: from the same place, or from any."""
    at = _place(out, chance)
    start = at if chance.random() < 0.5 else chance.randrange(max(len(other), 1))
    out[at:] = other[start:]
    return out


def _graft(out: bytearray, other: bytes, chance: random.Random) -> bytearray:
    """Put a range of another file in place of one of this."""
    start, end = _range(out, chance)
    at = start if chance.random() < 0.5 else chance.randrange(max(len(other), 1))
    out[start:end] = other[at : at + end - start]
    return out


def _append(out: bytearray, other: bytes, chance: random.Random) -> bytearray:
    out += other if chance.random() < 0.5 else bytes(chance.randrange(1, 5000))
    return out


_KINDS: Mapping[str, Callable[[bytearray, bytes, random.Random], bytearray]] = {
    "flip": _flip,
    "flips": _flips,
    "byte": _byte,
    "number": _number,
    "step": _step,
    "cut": _cut,
    "behead": _behead,
    "delete": _delete,
    "insert": _insert,
    "zero": _zero,
    "fill": _fill,
    "noise": _noise,
    "double": _double,
    "swap": _swap,
    "copy": _copy,
    "splice": _splice,
    "graft": _graft,
    "append": _append,
}
KINDS = (*_KINDS, "flip", "flip", "number", "number", "byte")
"""Single flips and wrong numbers come more often: they are what checksums and counts are for."""
MIXING = frozenset({"splice", "graft", "append"})
"""What may bring whole parts of another file, checksums and all."""
