"""LZ4 frames: the kernel gives what the library gives, or leaves the word to it."""

from __future__ import annotations

import random

import lz4.frame
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import DecodeError
from udfs.decode.compression import _lz4_kernel, _parts, decompress_into

PIECES = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(st.binary(min_size=1, max_size=20), st.integers(1, 5000)).map(
            lambda pair: pair[0] * pair[1]
        ),
    ),
    max_size=12,
).map(b"".join)
OPTIONS = st.fixed_dictionaries(
    {
        "block_linked": st.booleans(),
        "block_checksum": st.booleans(),
        "content_checksum": st.booleans(),
        "store_size": st.booleans(),
        "block_size": st.sampled_from(
            [lz4.frame.BLOCKSIZE_MAX64KB, lz4.frame.BLOCKSIZE_MAX256KB, lz4.frame.BLOCKSIZE_MAX1MB]
        ),
        "compression_level": st.sampled_from([0, 3, 12]),
    }
)


def taken(frame: bytes, size: int) -> bytes | None:
    """What the kernel makes of a frame, with nothing written around its place."""
    around = np.full(size + 64, 0xA5, np.uint8)
    out = around[32 : 32 + size]
    is_sound = _lz4_kernel()(*_parts(memoryview(frame)), *_parts(out))
    assert (around[:32] == 0xA5).all()
    assert (around[32 + size :] == 0xA5).all()
    return out.tobytes() if is_sound else None


@given(data=PIECES, options=OPTIONS)
def test_sound_frames_of_every_kind_are_taken(data, options):
    """Linked blocks or not, checksums or not, any level: the bytes that were compressed."""
    frame = lz4.frame.compress(data, **options)
    assert taken(frame, len(data)) == data
    assert taken(frame + b"behind", len(data)) == data
    assert taken(frame, len(data) + 1) is None
    assert not data or taken(frame, len(data) - 1) is None


@given(data=PIECES, options=OPTIONS, seed=st.integers(0, 2**32))
def test_damaged_frames_are_what_the_library_says(data, options, seed):
    """Cut or flipped anywhere: not taken, or taken with the bytes that the library gives."""
    draw = random.Random(seed)  # noqa: S311  no secret
    frame = bytearray(lz4.frame.compress(data, **options))
    if draw.random() < 0.3:
        del frame[draw.randrange(len(frame)) :]
    else:
        frame[draw.randrange(len(frame))] ^= 1 << draw.randrange(8)
    found = taken(bytes(frame), len(data))
    if found is not None:
        assert found == lz4.frame.decompress(bytes(frame))


def test_a_frame_that_is_not_sound_has_its_reason():
    """What the kernel leaves is refused by the library, with the code that it always had."""
    data = random.Random(1).randbytes(1000) * 100  # noqa: S311  no secret
    frame = bytearray(lz4.frame.compress(data, content_checksum=True))
    out = np.empty(len(data), np.uint8)
    decompress_into(out, data=memoryview(frame), compression="lz4")
    assert out.tobytes() == data
    frame[500] ^= 1
    with pytest.raises(DecodeError) as caught:
        decompress_into(out, data=memoryview(frame), compression="lz4")
    assert caught.value.code == "CHUNK_DAMAGED"
    whole = lz4.frame.compress(data)
    with pytest.raises(DecodeError) as caught:
        decompress_into(out, data=memoryview(whole[:-700]), compression="lz4")
    assert caught.value.code == "SIZE_MISMATCH"
