from __future__ import annotations

from udfs.memory import arena


def test_a_block_is_given_out_again_when_no_array_looks_at_it(monkeypatch):
    """A view of a view keeps its block; without one the next reader gets the same memory."""
    monkeypatch.setattr(arena, "_spare", [])
    first = arena.new_arena(1000)
    place = first.ctypes.data
    assert len(first) >= 1000 + arena.PADDING_BYTES
    held = first[10:].view("<u2")[5:]
    held[:] = 7
    del first
    other = arena.new_arena(1000)
    other[:] = 0
    assert other.ctypes.data != place
    assert (held == 7).all()
    del held
    assert arena.new_arena(900).ctypes.data == place


def test_little_is_kept(monkeypatch):
    """At most two blocks, none of them large; one that is too small is let go."""
    monkeypatch.setattr(arena, "_spare", [])
    many = [arena.new_arena(10) for _ in range(5)]
    many.append(arena.new_arena(65 << 20))
    del many
    assert len(arena._spare) == 2
    assert max(map(len, arena._spare)) <= 64 << 20
    assert len(arena.new_arena(5000)) >= 5000


def test_columns_are_given_out_again_and_bounded(monkeypatch):
    """A column's memory serves the next one of about its size; no more than 64 MB waits."""
    monkeypatch.setattr(arena, "_spare_columns", [])
    first = arena.new_array(2, 1 << 18)
    place = first.ctypes.data
    held = first[1, 5:]
    held[:] = 3.0
    del first
    other = arena.new_array(1 << 19)
    other[:] = 0
    assert other.ctypes.data != place
    assert (held == 3.0).all()
    del held
    assert arena.new_array(1 << 19).ctypes.data == place
    many = [arena.new_bytes(20 << 20) for _ in range(5)]
    del many
    assert 0 < sum(map(len, arena._spare_columns)) <= 64 << 20
    assert arena.new_array(3, 0).shape == (3, 0)
