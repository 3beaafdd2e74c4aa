"""Text of a log as words: found and read for all lines at once, never line by line.

Words stand between blanks; a line without a word is no line here.
"""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from contracts.recording import Int64Array, UInt8Array
from udfs.encodings.columns import windows

Mask = npt.NDArray[np.bool_]

_PADDING = 32
TIME_LIMIT_NS = 1 << 62
"""Of a start, and of what is counted from it: their sum fits 64 bits."""
_NEWLINE, _CASE_BIT = 10, 0x20
_WORD_BYTES = 8
_LOWER = np.uint64(0x2020202020202020)
_NO_DIGIT = 255
_BLANK = np.zeros(256, np.bool_)
_BLANK[[0, 9, 10, 11, 12, 13, 32]] = True
DIGITS = np.full(256, _NO_DIGIT, np.uint8)
"""Value of a digit by its character, 255 for what is none."""
for _value, _pair in enumerate(zip("0123456789abcdef", "0123456789ABCDEF", strict=True)):
    DIGITS[[ord(one) for one in _pair]] = _value


@attrs.frozen(eq=False)
class Lines:
    """L lines of a text with T words.

    Attributes:
        data: (B,) uint8, the text, blanks behind it.
        starts: (L,) int64, first byte of each line.
        ends: (L,) int64, its line end.
        first: (L,) int64, its first word.
        counts: (L,) int64, how many words it has.
        word_starts: (T,) int64.
        word_ends: (T,) int64.
    """

    data: UInt8Array
    starts: Int64Array
    ends: Int64Array
    first: Int64Array
    counts: Int64Array
    word_starts: Int64Array
    word_ends: Int64Array

    def where(self, rows: Int64Array | Mask) -> Lines:
        """Some of the lines, of the same text."""
        return attrs.evolve(
            self,
            starts=self.starts[rows],
            ends=self.ends[rows],
            first=self.first[rows],
            counts=self.counts[rows],
        )

    @property
    def starts_of_words(self) -> Int64Array:
        """(L,) start of the first word of each line."""
        return self.word_starts[self.first]

    def span(self, at: int | Int64Array) -> tuple[Int64Array, Int64Array]:
        """Start and length of the word `at` of each line; length 0 where it has none."""
        if not len(self.word_starts):
            return np.zeros(len(self.first), np.int64), np.zeros(len(self.first), np.int64)
        there = np.asarray(at) < self.counts
        words = np.where(there, self.first + at, 0)
        starts = self.word_starts[words]
        return starts, np.where(there, self.word_ends[words] - starts, 0)

    def text(self, row: int) -> bytes:
        """A line without its end."""
        return self.data[self.starts[row] : self.ends[row]].tobytes()

    def is_word(self, at: int | Int64Array, *words: bytes) -> Mask:
        """Whether the word `at` is one of some, upper and lower case alike."""
        starts, lengths = self.span(at)
        heads = windows(self.data, "<u8")[starts].astype(np.uint64) | _LOWER
        found = np.zeros(len(starts), np.bool_)
        for word in words:
            head, rest = word.lower()[:_WORD_BYTES], word.lower()[_WORD_BYTES:]
            mask = np.uint64((1 << 8 * len(head)) - 1)
            same = lengths == len(word)
            same &= heads & mask == np.uint64(int.from_bytes(head, "little")) | _LOWER & mask
            for k, character in enumerate(rest, start=_WORD_BYTES):
                same &= (self.data[starts + k] | _CASE_BIT) == character | _CASE_BIT
            found |= same
        return found

    def number(
        self, at: int | Int64Array, *, base: int = 10, most: int = 10, but_last: Mask | None = None
    ) -> tuple[Int64Array, Mask]:
        """Whole numbers, and whether the word is one of at most `most` digits.

        Args:
            at: Which word of each line.
            base: 10 or 16.
            most: Most digits.
            but_last: (L,) where the last character of the word does not belong to the number.
        """
        starts, lengths = self.span(at)
        if but_last is not None:
            lengths = lengths - but_last
        return digits_at(self.data, starts, lengths, base=base, most=most)

    def decimal(self, at: int | Int64Array, *, digits: int) -> tuple[Int64Array, Mask]:
        """Times times 10 to the power of `digits`, exact; what is behind that is cut off."""
        starts, lengths = self.span(at)
        most = int(lengths.max(initial=0))
        point = lengths.copy()
        for k in range(min(most, 24) - 1, -1, -1):
            point = np.where((k < lengths) & (self.data[starts + k] == ord(".")), k, point)
        whole, is_whole = digits_at(self.data, starts, point, base=10, most=18 - digits + 1)
        behind = np.maximum(lengths - point - 1, 0)
        part, is_part = digits_at(
            self.data, starts + point + 1, np.minimum(behind, digits), base=10, most=digits
        )
        scale = 10 ** np.arange(digits + 1, dtype=np.int64)
        good = is_whole & (is_part | (behind == 0)) & (lengths <= _PADDING)
        good &= whole < TIME_LIMIT_NS // int(scale[-1])
        part = np.where(behind > 0, part, 0) * scale[digits - np.minimum(behind, digits)]
        return np.where(good, whole, 0) * scale[-1] + np.where(good, part, 0), good

    def byte_words(self, *, base: int = 16) -> tuple[UInt8Array, Int64Array]:
        """(T,) value of every word as a byte, and (T + 1,) how many before it are none."""
        starts, lengths = self.word_starts, self.word_ends - self.word_starts
        if base == 16:
            first, second = DIGITS[self.data[starts]], DIGITS[self.data[starts + 1]]
            is_pair = lengths == 2
            values = np.where(is_pair, first << 4 | second & 15, first)
            good = (first <= 15) & np.where(is_pair, second <= 15, lengths == 1)
        else:
            numbers, good = digits_at(self.data, starts, lengths, base=base, most=3)
            good &= numbers < 256
            values = numbers.astype(np.uint8)
        none_before = np.zeros(len(starts) + 1, np.int64)
        np.cumsum(~good, out=none_before[1:])
        return values, none_before


def lines_of(data: UInt8Array) -> Lines:
    """Find lines and words in a text; the last line needs no end."""
    size = len(data)
    padded = np.full(size + _PADDING, _NEWLINE, np.uint8)
    padded[:size] = data
    blank = _BLANK[padded]
    edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
    if not blank[0]:
        edges = np.concatenate([np.zeros(1, np.int64), edges])
    word_starts, word_ends = edges[0::2], edges[1::2]
    ends = np.flatnonzero(padded[: size + 1] == _NEWLINE)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    first = np.searchsorted(word_starts, starts)
    counts = np.diff(np.append(first, len(word_starts)))
    kept = np.flatnonzero(counts)
    return Lines(
        padded, starts[kept], ends[kept], first[kept], counts[kept], word_starts, word_ends
    )


def digits_at(
    data: UInt8Array, starts: Int64Array, lengths: Int64Array, *, base: int, most: int
) -> tuple[Int64Array, Mask]:
    """Numbers of `lengths` digits at `starts`, and where there is one of at most `most` digits."""
    good = (lengths > 0) & (lengths <= most)
    values = np.zeros(len(starts), np.int64)
    last = len(data) - 1
    for k in range(min(int(lengths.max(initial=0)), most)):
        inside = k < lengths
        digit = DIGITS[data[np.minimum(starts + k, last)]]
        good &= ~inside | (digit < base)
        values = np.where(inside, values * base + digit, values)
    return values, good
