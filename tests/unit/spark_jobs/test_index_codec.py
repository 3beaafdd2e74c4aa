"""The index of a recording survives its way to the tasks."""

from __future__ import annotations

import attrs
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contracts.recording import (
    Attachment,
    Channel,
    Finding,
    LedgerEntry,
    RecordingIndex,
    Schema,
    Unit,
)
from spark_jobs.index_codec import pack_index, unpack_index

NUMBER = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=8)
INDEXES = st.builds(
    RecordingIndex,
    format=st.sampled_from(["mcap", "ros1bag"]),
    profile=TEXT,
    library=TEXT,
    start_ns=st.none() | NUMBER,
    end_ns=st.none() | NUMBER,
    schemas=st.lists(
        st.builds(
            Schema, id=NUMBER, name=TEXT, encoding=TEXT, data=st.binary(max_size=20), hash=TEXT
        ),
        max_size=2,
    ).map(tuple),
    channels=st.lists(
        st.builds(
            Channel,
            id=NUMBER,
            topic=TEXT,
            message_encoding=TEXT,
            schema_id=NUMBER,
            metadata=st.dictionaries(TEXT, TEXT, max_size=2),
            message_count=st.none() | NUMBER,
        ),
        max_size=2,
    ).map(tuple),
    units=st.lists(
        st.builds(
            Unit,
            index=NUMBER,
            offset=NUMBER,
            length=NUMBER,
            channel_counts=st.dictionaries(st.integers(0, 2**31), NUMBER, max_size=3),
        ),
        max_size=2,
    ).map(tuple),
    conflicts=st.dictionaries(st.integers(0, 2**31), NUMBER, max_size=3),
    attachments=st.lists(
        st.builds(Attachment, name=TEXT, media_type=TEXT, offset=NUMBER, length=NUMBER), max_size=1
    ).map(tuple),
    metadata=st.dictionaries(TEXT, st.dictionaries(TEXT, TEXT, max_size=2), max_size=2),
    messages_declared=st.none() | NUMBER,
    findings=st.lists(
        st.builds(
            Finding,
            code=TEXT,
            detail=TEXT,
            offset=st.none() | NUMBER,
            loses=st.booleans(),
            lost_messages=st.none() | NUMBER,
        ),
        max_size=2,
    ).map(tuple),
    structure=st.lists(
        st.builds(
            LedgerEntry, offset=NUMBER, length=NUMBER, fate=st.just("skipped"), reason_code=TEXT
        ),
        max_size=2,
    ).map(tuple),
)


@given(INDEXES)
def test_every_index_comes_back_equal(index):
    """Unpacking what was packed gives the same values of the same types."""
    assert unpack_index(pack_index(index)) == index


def test_numpy_integers_are_taken():
    """Readers count with NumPy; the index that arrives holds plain integers."""
    unit = Unit(index=np.int64(1), offset=np.int64(2), length=3, channel_counts={4: np.int64(5)})
    index = RecordingIndex("mcap", "", "", None, None, (), (), (unit,))
    back = unpack_index(pack_index(index)).units[0]
    assert attrs.astuple(back)[:3] == (1, 2, 3)
    assert type(back.index) is int
    assert back.channel_counts == {4: 5}
