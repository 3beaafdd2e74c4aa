"""Why a service ended, in one line of its log."""

from __future__ import annotations

import re
from pathlib import Path

_MOST_BYTES = 1 << 20
_MOST_CHARACTERS = 300
_ERROR_LINE = re.compile(
    r'(?:Caused by: |Exception in thread "[^"]*" )?'
    r"((?:[A-Za-z_][\w$]*\.)*\w*(?:Error|Exception)\b.*)"
)


def last_error(log: Path, *, since: int = 0) -> str:
    """The last error of Java or Python that a log tells, else its last line; without a full stop.

    Args:
        log: Of one start after the other.
        since: Size in bytes before the start in question: what stands there is of earlier ones.
    """
    with log.open("rb") as file:
        file.seek(max(since, file.seek(0, 2) - _MOST_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [found[1] for line in lines if (found := _ERROR_LINE.fullmatch(line))]
    return (told or lines or ["its log is empty"])[-1][:_MOST_CHARACTERS].rstrip(".")
