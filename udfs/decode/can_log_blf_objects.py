"""The objects of a BLF log: found in its containers, whatever is damaged between them.

Source: Vector BLF as read by python-can 4.6 (`can/io/blf.py`), vblf and Technica's vector_blf
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from contracts.recording import Int64Array, Source, UInt8Array
from udfs.decode.can_log_part import UNIT_BYTES
from udfs.decode.limits import check_unit_size
from udfs.encodings.columns import windows

CONTAINER = struct.Struct("<4sHHLLH6xL4x")
_BASE_BYTES = 16
_CONTAINER_TYPE = 10
_STORED, _ZLIB = 0, 2
_MOST_PADDING = 4
_SEARCH_BYTES = 1 << 20
_MAGIC = b"LOBJ"
_RESYNC = -1
_PADDING = 128


@attrs.frozen
class Container:
    """A container, or an object that stands in the file by itself, as `method` None.

    Attributes:
        offset: In the file.
        stored: Bytes in the file, header and all; less than its header says at the file's end.
        size: Bytes that it holds when decompressed.
        is_cut: Whether the file ends in it.
    """

    offset: int
    stored: int
    size: int
    method: int | None
    is_cut: bool = False


@attrs.frozen(eq=False)
class Objects:
    """Objects of a unit in one arena; `end` is where the next unit's first one begins."""

    arena: UInt8Array
    starts: Int64Array
    sizes: Int64Array
    skip: int
    damage: str


def iter_containers(source: Source, offset: int, end: int | None = None) -> Iterator[Container]:
    """Walk over the objects of the file; where one is damaged, to the next that can be found."""
    end = source.size if end is None else end
    while offset + CONTAINER.size <= end:
        head = CONTAINER.unpack(source.read_at(offset, CONTAINER.size))
        signature, header_size, _, size, kind, method, declared = head
        if signature != _MAGIC or size < _BASE_BYTES or header_size < _BASE_BYTES:
            found = _next_container(source, offset + 1, end)
            yield Container(offset, found - offset, 0, method=-1)
            offset = found
            continue
        stored = min(size, source.size - offset)
        is_cut = stored < size
        if kind == _CONTAINER_TYPE:
            size_held = declared if method == _ZLIB else max(size - CONTAINER.size, 0)
            yield Container(offset, stored, size_held, method, is_cut)
        else:
            yield Container(offset, stored, size, None, is_cut)
        offset += size + size % 4
    if offset < end:
        yield Container(offset, end - offset, 0, method=-1, is_cut=True)


def _next_container(source: Source, offset: int, end: int) -> int:
    """Offset of the next thing that looks like a container, or the end."""
    while offset < end:
        length = min(_SEARCH_BYTES, end - offset)
        at = bytes(source.read_at(offset, length)).find(_MAGIC)
        if at >= 0:
            return offset + at
        offset += max(length - len(_MAGIC) + 1, 1)
    return end


def grouped(containers: Sequence[Container]) -> Iterator[list[Container]]:
    """Yield consecutive containers that hold some megabytes together."""
    group: list[Container] = []
    held = 0
    for container in containers:
        if group and held + container.size > UNIT_BYTES:
            yield group
            group, held = [], 0
        group.append(container)
        held += container.size
    if group:
        yield group


def _content(source: Source, container: Container) -> tuple[bytes, str]:
    """What a container holds, as far as it can be had, and what is wrong with it.

    Raises:
        ResourceLimitError: BOMB.
    """
    if container.method == -1:
        return b"", f"no object at {container.offset}"
    data = source.read_at(container.offset, container.stored)
    cut = f"the file ends in the container at {container.offset}" if container.is_cut else ""
    if container.method is None:
        padding = b"\0" * (container.size % 4)
        return bytes(data) + padding, cut
    body = data[CONTAINER.size :]
    if container.method == _STORED:
        return bytes(body), cut
    if container.method != _ZLIB:
        return b"", f"compression method {container.method} at {container.offset}"
    check_unit_size(container.stored, declared=container.size, offset=container.offset)
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(body, container.size + 1)
    except zlib.error as error:
        return b"", f"container at {container.offset}: {error}"
    if cut:
        return content[: container.size], cut
    if len(content) != container.size or not decoder.eof:
        return b"", f"container at {container.offset} is not of the size it declares"
    return content, ""


def objects_of(source: Source, containers: Sequence[Container], skip: int) -> Objects:
    """Objects that begin in some containers; the last is read to its end in those behind."""
    segments: list[list[bytes]] = [[]]
    damages: list[str] = []
    for container in containers:
        content, damage = _content(source, container)
        if content:
            segments[-1].append(content)
        if damage:
            damages.append(damage)
            segments.append([])
    arenas: list[bytes] = []
    starts: list[Int64Array] = []
    sizes: list[Int64Array] = []
    held, rest = 0, _RESYNC
    for number, parts in enumerate(segments):
        data = b"".join(parts)
        is_last = number == len(segments) - 1
        begin = skip if number == 0 else _RESYNC
        if begin >= len(data) > 0 and is_last and number == 0:
            rest = begin - len(data)
            continue
        own = len(data)
        if is_last:  # the header of the last object may go on behind these containers
            data += _behind(source, containers[-1], _BASE_BYTES)
        found = _chain(data, begin, own)
        if is_last and found.wanted > len(data):
            data = data[:own] + _behind(source, containers[-1], found.wanted - own)
            found = _chain(data, begin, own)
        if found.wanted > len(data):
            damages.append("an object goes on behind the last container")
        if found.strays:
            damages.append(f"{found.strays} objects do not follow one another")
        arenas.append(data)
        starts.append(found.starts + held)
        sizes.append(found.sizes)
        held += len(data)
        rest = max(found.wanted - own, 0) if is_last else rest
    if damages and len(segments) > 1 and not segments[-1]:
        rest = _RESYNC
    arena = np.frombuffer(b"".join([*arenas, bytes(_PADDING)]), np.uint8)
    none = np.zeros(0, np.int64)
    return Objects(
        arena,
        np.concatenate([none, *starts]),
        np.concatenate([none, *sizes]),
        rest,
        "; ".join(damages[:3]),
    )


def _behind(source: Source, last: Container, wanted: int) -> bytes:
    """The first bytes that the containers behind one hold, fewer if they are damaged."""
    offset = last.offset + last.stored + (last.stored % 4 if not last.is_cut else 0)
    parts: list[bytes] = []
    for container in iter_containers(source, offset):
        content, damage = _content(source, container)
        parts.append(content[:wanted])
        wanted -= len(parts[-1])
        if damage or wanted <= 0:
            break
    return b"".join(parts)


@attrs.frozen(eq=False)
class _Chain:
    """Objects one behind the other; `wanted` is where the last ends, beyond the data if cut."""

    starts: Int64Array
    sizes: Int64Array
    wanted: int
    strays: int


def _chain(data: bytes, begin: int, limit: int) -> _Chain:
    """Follow the objects from `begin`: those that begin in the first `limit` bytes.

    All that looks like the start of an object is found at once; nearly always each is followed by
    the next of them, and only where one is not is there a step to take.
    """
    none = np.zeros(0, np.int64)
    arena = np.frombuffer(data + bytes(_BASE_BYTES), np.uint8)
    looks = np.flatnonzero(arena[:limit] == _MAGIC[0])
    for k in range(1, len(_MAGIC)):
        looks = looks[arena[looks + k] == _MAGIC[k]]
    looks = looks[looks >= max(begin, 0)]
    if not len(looks):
        return _Chain(none, none, 0, int(limit > max(begin, 0) + _MOST_PADDING and begin >= 0))
    sizes = windows(arena, "<u4")[looks + 8].astype(np.int64)
    usable = sizes >= _BASE_BYTES
    ends = looks + np.where(usable, sizes, _BASE_BYTES)
    after = np.searchsorted(looks, ends)
    here = np.append(looks, limit)
    follows = usable & (after == np.arange(len(looks)) + 1)
    follows &= (here[after] - ends <= _MOST_PADDING) & (after < len(looks))
    breaks = np.flatnonzero(~follows)
    runs: list[tuple[int, int]] = []
    at, strays = 0, int(begin >= 0 and looks[0] - begin > _MOST_PADDING)
    wanted = 0
    while at < len(looks):
        stop = int(breaks[np.searchsorted(breaks, at)])
        is_whole = bool(usable[stop]) and int(ends[stop]) <= len(data)
        runs.append((at, stop + is_whole))
        if usable[stop] and int(ends[stop]) > limit:
            wanted = int(ends[stop])
            break
        following = int(after[stop])
        gap = int(here[following] - ends[stop])
        strays += int(not usable[stop] or gap > _MOST_PADDING)
        at = following if usable[stop] else stop + 1
    chosen = np.concatenate([none, *(np.arange(first, last) for first, last in runs)])
    return _Chain(looks[chosen], sizes[chosen], wanted, strays)
