"""The walk over mixed records: each begins with the id of its group, which tells where the next is.

A writer repeats itself: after a while the ids of the last records foretell the next ones. What is
foretold is compared with the bytes all at once, and only what they confirm is taken; from where
they differ the walk goes on record by record.

Source: ASAM MDF 4.1, clause 4.14 (unsorted data groups).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

import attrs
import numpy as np

from contracts.errors import ResourceLimitError
from contracts.recording import Int64Array, UInt8Array

VARIABLE = -1
"""Size of the records of a VLSD group: 4 bytes of length stand before each."""
_TAIL = 24
_LONGEST_PERIOD = 4096
_FIRST_LOOK, _LAST_LOOK = 256, 1 << 16
_FIRST_CHECK = 64
_MOST_GROUPS = 1 << 16
_UNKNOWN, _LENGTH_FOLLOWS = 0, -1


@attrs.define(eq=False)
class RecordWalk:
    """The whole records at the front of some bytes.

    Attributes:
        data: (B,) uint8, begins with a record.
        id_bytes: Bytes of a record's id: 1, 2, 4 or 8.
        sizes: Bytes of a record without its id, by id; `VARIABLE` for VLSD groups.
        codes: Groups of the records, as positions in `sizes`, two bytes each.
        lengths: Lengths of the variable ones.
        end: Bytes of the whole records.
        strange: The id that belongs to no group, where the walk came to one; else None.
    """

    data: UInt8Array
    id_bytes: int
    sizes: Mapping[int, int]
    codes: array[int] = attrs.field(factory=lambda: array("H"), init=False)
    lengths: array[int] = attrs.field(factory=lambda: array("q"), init=False)
    end: int = attrs.field(default=0, init=False)
    strange: int | None = attrs.field(default=None, init=False)

    @property
    def steps(self) -> Int64Array:
        """Bytes from a record to the next by code, without those of a variable value."""
        fixed = [4 if size == VARIABLE else size for size in self.sizes.values()]
        return np.array(fixed, np.int64) + self.id_bytes

    @property
    def is_variable(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether the values of a code are variable."""
        return np.array([size == VARIABLE for size in self.sizes.values()])

    def run(self) -> None:
        """Walk to the last whole record, or to a strange one.

        Raises:
            ResourceLimitError: More groups than two bytes count.
        """
        if len(self.sizes) > _MOST_GROUPS:
            raise ResourceLimitError(f"{len(self.sizes)} groups in one data group")
        raw = self.data.tobytes()
        look = _FIRST_LOOK
        while self._walk(raw, look):
            look = _FIRST_LOOK if self._foretell() else min(2 * look, _LAST_LOOK)

    def found(self, base: int) -> Iterator[tuple[int, Int64Array]]:
        """Yield each id with the positions behind it, counted from `base`.

        For VLSD ids: position of the value and its length by turns.
        """
        codes = np.frombuffer(self.codes, np.uint16)
        lengths = np.zeros(len(codes), np.int64)
        lengths[self.is_variable[codes]] = self.lengths
        ends = np.cumsum(self.steps[codes] + lengths) + base
        for code, (record_id, size) in enumerate(self.sizes.items()):
            rows = np.flatnonzero(codes == code)
            if size == VARIABLE:
                length = lengths[rows]
                yield record_id, np.column_stack([ends[rows] - length, length]).reshape(-1)
            else:
                yield record_id, ends[rows] - size

    def _walk(self, raw: bytes, count: int) -> bool:
        """Walk at most `count` records one by one; whether there may be more."""
        known = self._steps_by_id()
        width, at, size = self.id_bytes, self.end, len(raw)
        append = self.codes.append
        going = True
        for _ in range(count):
            if at + width > size:
                going = False
                break
            record_id = raw[at] if width == 1 else int.from_bytes(raw[at : at + width], "little")
            code, step = known.get(record_id, (0, _UNKNOWN))
            follows = at + step
            if step == _UNKNOWN:
                self.strange = record_id
                going = False
                break
            if step == _LENGTH_FOLLOWS:
                length = int.from_bytes(raw[at + width : at + width + 4], "little")
                follows = at + width + 4 + length
                if follows <= size:
                    self.lengths.append(length)
            if follows > size:
                going = False
                break
            append(code)
            at = follows
        self.end = at
        return going

    def _steps_by_id(self) -> dict[int, tuple[int, int]]:
        return {
            record_id: (code, _LENGTH_FOLLOWS if size == VARIABLE else self.id_bytes + size)
            for code, (record_id, size) in enumerate(self.sizes.items())
        }

    def _foretell(self) -> bool:
        """Take the records that repeat the last ones; whether there were any."""
        period = self._period()
        if not period:
            return False
        codes = self.codes[-period:]
        of_period = np.array(codes)
        variable = self.is_variable[of_period]
        lengths = self.lengths[len(self.lengths) - int(variable.sum()) :]
        taken = self.steps[of_period]
        taken[variable] += np.array(lengths)
        heads = np.cumsum(taken) - taken
        told = [heads + i for i in range(self.id_bytes)]
        told += [heads[variable] + self.id_bytes + i for i in range(4)]
        stride = int(taken.sum())
        times = self._repeated(stride, np.concatenate(told))
        self.codes += codes * times
        self.lengths += lengths * times
        self.end += stride * times
        return times > 0

    def _period(self) -> int:
        """After how many records the last ones came before; 0 if they did not."""
        recent = self.codes[-_LONGEST_PERIOD - _TAIL :].tobytes()
        size = 2 * _TAIL
        before = recent.rfind(recent[-size:], 0, len(recent) - 1)
        while before > 0 and before % 2 == 1:  # between two codes
            before = recent.rfind(recent[-size:], 0, before + size - 1)
        return (len(recent) - size - before) // 2 if before >= 0 and len(recent) > size else 0

    def _repeated(self, stride: int, columns: Int64Array) -> int:
        """How often the last `stride` bytes come again, by those of their bytes that tell."""
        wanted = self.data[self.end - stride : self.end][columns]
        count = (len(self.data) - self.end) // stride
        rows = self.data[self.end : self.end + count * stride].reshape(count, stride)
        done, look = 0, _FIRST_CHECK
        while done < count:
            differs = (rows[done : done + look, columns] != wanted).any(axis=1)
            if differs.any():
                return done + int(differs.argmax())
            done += len(differs)
            look *= 4
        return done
