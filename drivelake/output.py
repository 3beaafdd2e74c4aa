"""What commands print: tables and sentences for people, JSON for a script to read."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

out = Console()
err = Console(stderr=True)


def print_json(value: Any) -> None:
    """Print a value as JSON: numbers of NumPy too, what JSON has no form for, as text."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def print_table(table: Table) -> None:
    """Print a table with nothing cut off: a name of which a part is missing is of no use.

    On a terminal what is too long goes on in the next line of its cell; elsewhere, as in a pipe,
    there is no width to keep, and every row is one line.
    """
    if out.is_terminal:
        for column in table.columns:
            column.overflow = "fold"
        out.print(table)
        return
    natural = Measurement.get(out, out.options.update(width=10_000), table).maximum
    wide = Console(file=out.file, width=max(natural, out.width), color_system=None)
    wide.print(table, crop=False)


def print_line(console: Console, text: str, *, style: str = "") -> None:
    """Print one line, whatever the width, so that it can be searched."""
    console.print(Text(printable(text), style=style), soft_wrap=True)


def printable(text: str) -> str:
    """Text out of a file, without what a terminal would act on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
