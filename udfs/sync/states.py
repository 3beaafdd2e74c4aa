"""Words for how well a stream is known at an instant, and the codes that kernels have for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

OK, GAP, STALE, MISSING, NO_CLOCK, JUMP = "ok", "gap", "stale", "missing", "no_clock", "jump"
STATES: Sequence[str] = (OK, GAP, STALE, MISSING, NO_CLOCK, JUMP)
"""By code: that of samples.h for the first four.

ok: there is a value. gap: the instant lies in a hole between samples that is too wide, or behind a
declared gap. stale: the sample is too far away, too old, or belongs to another instant. missing:
there is nothing that could be taken. no_clock: the stream's clock can't be related to the
instants'. jump: a clock jumped: what there is lies on the other side, or the instant itself has no
time.
"""
CODES = {state: code for code, state in enumerate(STATES)}
_WORDS = np.array(STATES)
_DICTIONARY = pa.array(STATES)
STATE_TYPE = pa.dictionary(pa.int8(), pa.string())


def words_of(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.str_]:
    """(M,) words of (M,) codes."""
    return _WORDS[codes]


def state_column(codes: npt.NDArray[np.uint8]) -> pa.DictionaryArray:
    """(M,) words, a byte each."""
    numbers = pa.array(codes.view(np.int8))
    return pa.DictionaryArray.from_arrays(numbers, _DICTIONARY, safe=False)
