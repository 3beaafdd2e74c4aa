from __future__ import annotations

import os

import numpy as np
import psutil
import pytest

from tests.unit.udfs.oracles import batch_of, schema_of
from udfs.encodings.ros import ros_decoder
from udfs.native import library as native


def test_kernels_that_are_not_compiled_say_what_to_run(monkeypatch, tmp_path):
    """A checkout without set-up fails in one sentence, not with an attribute that is missing."""
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "kernels.so")
    native.library.cache_clear()
    with pytest.raises(ImportError, match="run `make setup`"):
        native.library()
    monkeypatch.undo()
    assert native.library().release


def test_memory_of_a_kernel_lives_as_long_as_its_columns_and_no_longer():
    """Columns stay what they were after the walk, and a thousand walks need the memory of a few."""
    decoder = ros_decoder(schema_of("pkg/msg/T", "float64[] values\nstring name\n"))
    values = np.arange(100_000.0)
    head = b"\0\1\0\0" + len(values).to_bytes(4, "little") + bytes(4)
    batch = batch_of([head + values.tobytes() + b"\3\0\0\0ab\0"])
    kept = decoder.decode(batch).rows
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    for _ in range(1000):
        decoder.decode(batch)
    assert process.memory_info().rss - before < 100e6
    assert kept.column("values")[0].as_py() == values.tolist()
    assert kept.column("name").to_pylist() == ["ab"]
