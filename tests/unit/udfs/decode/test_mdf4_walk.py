"""The walk over mixed records against the plainest one."""

from __future__ import annotations

import numpy as np
import pytest

from udfs.decode.mdf4_walk import VARIABLE, RecordWalk, gather_rows

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


def walked(data: bytes, id_bytes: int) -> tuple[int, int | None, dict[int, list[int]]]:
    """Bytes of the whole records, the id that the walk stopped at, and what it found."""
    walk = RecordWalk(id_bytes, SIZES)
    end = walk.run(np.frombuffer(data, np.uint8))
    return end, walk.strange, found_by(walk)


def found_by(walk: RecordWalk) -> dict[int, list[int]]:
    return {record_id: places.tolist() for record_id, places in walk.found().items()}


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
        assert walked(data, id_bytes) == (len(data), None, wanted)


def test_a_cut_record_is_not_taken_and_a_strange_id_stops():
    """The walk ends in front of a record that is not whole, or that belongs to no group."""
    random = np.random.default_rng(3)
    order = [(1, 0), (4, 0), (3, 5)] * 1000
    data, wanted = made(order, random, id_bytes=1)
    for cut in range(1, 44):
        _, strange, found = walked(data[:-cut], 1)
        whole = {record_id: list(places) for record_id, places in wanted.items()}
        for record_id in (3, 4, 1)[: 1 + (cut > 10) + (cut > 23)]:
            del whole[record_id][-2 if record_id == 3 else -1 :]
        assert found == whole
        assert strange is None
    assert walked(data + b"\x63" + bytes(100), 1) == (len(data), 0x63, wanted)


def test_a_lie_in_the_middle_of_a_schedule_is_not_foretold_away():
    """One changed id among thousands of regular records is met where it is."""
    random = np.random.default_rng(4)
    data, _ = made([(1, 0), (4, 0)] * 5000, random, id_bytes=1)
    broken = bytearray(data)
    broken[34 * 3333] = 0x63
    end, strange, found = walked(bytes(broken), 1)
    assert (strange, end) == (0x63, 34 * 3333)
    assert len(found[1]) == len(found[4]) == 3333


def test_pieces_give_what_the_whole_gives():
    """A stream in pieces, each from the end of the last whole record, has the same records."""
    random = np.random.default_rng(5)
    for order in orders(random):
        data, wanted = made(order, random, id_bytes=2)
        walk, at = RecordWalk(2, SIZES), 0
        while at < len(data):
            piece = data[at : at + int(random.integers(400, 5000))]
            at += walk.run(np.frombuffer(piece, np.uint8), base=at)
        assert found_by(walk) == wanted


def test_an_id_wider_than_a_word_belongs_to_no_group_but_with_zeros():
    """Ids of ten bytes are told by all of them; so are those of a data group without groups."""
    random = np.random.default_rng(6)
    data, wanted = made([(1, 0), (3, 5)] * 20, random, id_bytes=10)
    assert walked(data, 10) == (len(data), None, wanted)
    strange = (1 << 72) + 1
    assert walked(data + strange.to_bytes(10, "little"), 10) == (len(data), strange, wanted)
    none = RecordWalk(1, {})
    assert (none.run(np.zeros(3, np.uint8)), none.strange, none.found()) == (0, 0, {})


def test_rows_are_gathered_from_where_they_are_or_not_at_all():
    """Rows at any positions are their bytes; one that is not whole is an error."""
    data = np.arange(50, dtype=np.uint8)
    places = np.array([107, 100, 146], np.int64)
    rows = gather_rows(data, places, base=100, width=4)
    assert rows.tolist() == [[7, 8, 9, 10], [0, 1, 2, 3], [46, 47, 48, 49]]
    for wrong in (99, 147):
        with pytest.raises(IndexError):
            gather_rows(data, np.array([wrong], np.int64), base=100, width=4)
