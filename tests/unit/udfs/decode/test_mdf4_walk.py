"""The walk over mixed records against the plainest one."""

from __future__ import annotations

import numpy as np
import pytest

from udfs.decode.mdf4_walk import VARIABLE, RecordWalk

SIZES = {1: 20, 2: 0, 3: VARIABLE, 200: 7, 4: 12}


def made(order, random, *, id_bytes: int) -> tuple[bytes, dict[int, list[int]]]:
    """Records in an order of ids, and what is to be found of them."""
    out = b""
    found: dict[int, list[int]] = {record_id: [] for record_id in SIZES}
    for record_id, length in order:
        out += record_id.to_bytes(id_bytes, "little")
        size = SIZES[record_id]
        if size == VARIABLE:
            out += length.to_bytes(4, "little")
            found[record_id] += [len(out), length]
            size = length
        else:
            found[record_id].append(len(out))
        out += random.bytes(size)
    return out, found


def walked(data: bytes, id_bytes: int) -> tuple[RecordWalk, dict[int, list[int]]]:
    walk = RecordWalk(np.frombuffer(data, np.uint8), id_bytes, SIZES)
    walk.run()
    return walk, {record_id: places.tolist() for record_id, places in walk.found(0)}


def orders(random):
    """Orders of records: by chance, by a schedule, by one with jitter, and one kind alone."""
    ids = list(SIZES)
    period = [(int(random.choice(ids)), int(random.integers(0, 9))) for _ in range(30)]
    yield [(int(random.choice(ids)), int(random.integers(0, 300))) for _ in range(3000)]
    yield period * 120
    jittered = period * 120
    for _ in range(20):
        place = int(random.integers(0, len(jittered)))
        jittered[place] = (int(random.choice(ids)), int(random.integers(0, 9)))
    yield jittered
    yield [(1, 0)] * 3000
    yield [(1, 0), (3, 8)] * 2000
    yield [(3, i % 7) for i in range(3000)]


@pytest.mark.parametrize("id_bytes", [1, 2, 4, 8])
def test_records_in_any_order_are_all_found(id_bytes):
    """Whatever the order foretells, the records found are those that are there."""
    random = np.random.default_rng(id_bytes)
    for order in orders(random):
        data, wanted = made(order, random, id_bytes=id_bytes)
        walk, found = walked(data, id_bytes)
        assert found == wanted
        assert (walk.end, walk.strange) == (len(data), None)


def test_a_cut_record_is_not_taken_and_a_strange_id_stops():
    """The walk ends in front of a record that is not whole, or that belongs to no group."""
    random = np.random.default_rng(3)
    order = [(1, 0), (4, 0), (3, 5)] * 1000
    data, wanted = made(order, random, id_bytes=1)
    for cut in range(1, 44):
        walk, found = walked(data[:-cut], 1)
        whole = {record_id: list(places) for record_id, places in wanted.items()}
        for record_id in (3, 4, 1)[: 1 + (cut > 10) + (cut > 23)]:
            del whole[record_id][-2 if record_id == 3 else -1 :]
        assert found == whole
        assert walk.strange is None
    walk, found = walked(data + b"\x63" + bytes(100), 1)
    assert (found, walk.strange, walk.end) == (wanted, 0x63, len(data))


def test_a_lie_in_the_middle_of_a_schedule_is_not_foretold_away():
    """One changed id among thousands of regular records is met where it is."""
    random = np.random.default_rng(4)
    data, _ = made([(1, 0), (4, 0)] * 5000, random, id_bytes=1)
    broken = bytearray(data)
    broken[34 * 3333] = 0x63
    walk, found = walked(bytes(broken), 1)
    assert (walk.strange, walk.end) == (0x63, 34 * 3333)
    assert len(found[1]) == len(found[4]) == 3333
