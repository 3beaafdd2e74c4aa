from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

import drivelake


@pytest.mark.parametrize("name", ["drivelake.notebook", "udfs.sync.rules"])
def test_examples_of_the_documentation_run(name):
    """What a docstring shows is what comes out."""
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted
    assert not done.failed


def test_the_front_door_has_what_it_names():
    """Each name of `drivelake.__all__` is there, and no other is made up."""
    assert all(getattr(drivelake, name) for name in drivelake.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Rules'"):
        _ = drivelake.Rules


def test_synchronisation_needs_no_engine():
    """`drivelake.sync` is a library of its own: no Spark, no Dagster, no Polars."""
    code = (
        "import sys, pyarrow as pa, drivelake; a = pa.table({'t_ns': [1, 2], 'v': [1., 2.]});"
        "b = drivelake.sync({'a': a, 'b': a}, reference='a', rules={'b': 'linear'});"
        "assert b['b_v'].to_pylist() == [1., 2.];"
        "assert not {'pyspark', 'dagster', 'deltalake', 'polars'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
