"""Batches of `silver.signals`, one signal in each, of columns that are there already."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import pyarrow as pa

from contracts.recording import Int64Array
from udfs.memory.constants import constant_columns

MOST_ROWS = 1 << 15
"""Rows of a batch: as many as its columns of one value are made for, once for all batches."""
_OF_FRAMES = ("sequence", "log_time_ns", "publish_time_ns", "source", "definition_hash")
_OF_OTHERS = (*_OF_FRAMES, "signal", "unit")
_OF_SIGNAL = ("value", "text", "raw_value", "in_range")
_STRING = pa.string()
_Columns = Mapping[str, Sequence[pa.Array]]


class SignalBatches:
    """Gathers columns in pieces, then makes all batches at once: a batch alone takes 20 µs.

    A column that several signals share is the same piece for each, so that of most columns Arrow
    only counts references.
    """

    def __init__(self, constants: Constants) -> None:
        """`constants` are of the channel."""
        self._constants = constants
        self._pieces: dict[str, list[pa.Array]] = {name: [] for name in constants.schema.names}
        self._shared: _Columns = {}
        self._begun: tuple[object, ...] = ()
        self._sizes: tuple[int, ...] = ()
        self._nulls: _Columns = {}
        self._signals = 0

    def begin(
        self, source: str, definition_hash: str, sequence: Int64Array, log_time_ns: Int64Array
    ) -> None:
        """The signals that follow are of this source and at these times."""
        begun = source, definition_hash, id(sequence), id(log_time_ns)
        if begun == self._begun:
            return
        self._share()
        self._begun = begun
        self._sizes = sizes_of(len(log_time_ns))
        same, self._nulls = self._constants.of(self._sizes)
        words = source, definition_hash or None
        of_all = [constant_columns(words, _STRING, size) for size in self._sizes]
        times = [pa.array(log_time_ns)]
        self._shared = {
            **same,
            "sequence": [pa.array(sequence)],
            "log_time_ns": times,
            "publish_time_ns": times,
            "source": [one[0] for one in of_all],
            "definition_hash": [one[1] for one in of_all],
        }

    def add(
        self,
        names: tuple[str, ...],
        units: tuple[str | None, ...],
        columns: _Columns,
    ) -> None:
        """Signals of one beginning.

        Args:
            names: Of the signals.
            units: Of each.
            columns: Any of `value`, `text`, `raw_value` and `in_range`, of all signals one behind
                the other, in any pieces.
        """
        pieces, count = self._pieces, len(names)
        self._signals += count
        pieces["signal"] += self._words(names)
        pieces["unit"] += self._words(units)
        for column, nulls in self._nulls.items():
            pieces[column] += columns[column] if column in columns else count * [*nulls]

    def nulls(self, column: str) -> Sequence[pa.Array]:
        """Pieces of a column for a signal that has none."""
        return self._nulls[column]

    def done(self) -> tuple[pa.RecordBatch, ...]:
        """All batches."""
        self._share()
        schema = self._constants.schema
        columns = [pa.chunked_array(self._pieces[field.name], field.type) for field in schema]
        return tuple(pa.Table.from_arrays(columns, schema=schema).to_batches())

    def _share(self) -> None:
        """Repeat what the signals since the last beginning share."""
        for name, pieces in self._shared.items():
            self._pieces[name] += self._signals * [*pieces]
        self._signals, self._shared = 0, {}

    def _words(self, words: tuple[str | None, ...]) -> Sequence[pa.Array]:
        found = [constant_columns(words, _STRING, size) for size in self._sizes]
        return (
            found[0]
            if len(found) == 1
            else [one for each in zip(*found, strict=True) for one in each]
        )


class Constants:
    """What all rows of a channel have in common, in pieces of some sizes."""

    def __init__(self, template: pa.RecordBatch) -> None:
        """`template` has `MOST_ROWS` rows; what differs from row to row is null in it."""
        self._template = template
        self.schema = template.schema
        self._pieces: dict[int, list[pa.Array]] = {}
        self._known: dict[tuple[int, ...], tuple[_Columns, _Columns]] = {}

    def of(self, sizes: tuple[int, ...]) -> tuple[_Columns, _Columns]:
        """The columns of the channel, and those of a signal that are null where it has none."""
        found = self._known.get(sizes)
        if found is None:
            each = zip(*map(self._of, sizes), strict=True)
            columns = dict(zip(self.schema.names, each, strict=True))
            nulls = {name: columns.pop(name) for name in _OF_SIGNAL}
            same = {name: pieces for name, pieces in columns.items() if name not in _OF_OTHERS}
            found = self._known[sizes] = same, nulls
        return found

    def _of(self, size: int) -> list[pa.Array]:
        found = self._pieces.get(size)
        if found is None:
            found = self._pieces[size] = self._template.slice(0, size).columns
        return found


@functools.lru_cache(maxsize=1024)
def sizes_of(rows: int) -> tuple[int, ...]:
    """Rows of the batches of so many."""
    return tuple(min(MOST_ROWS, rows - start) for start in range(0, rows, MOST_ROWS))
