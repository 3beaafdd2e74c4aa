"""The front door of drivelake.

In a notebook: `drivelake.read(uri)`, `drivelake.table(name)`, `drivelake.sql(statement)`,
`drivelake.sync(streams, reference=…, rules=…)` with `drivelake.Rule` and `drivelake.Rate`,
`drivelake.compensate(drivelake.points(row), poses, at_ns=…)` and
`drivelake.frames(streams, clocks)`.
In a shell: the `drivelake` command.
"""

from typing import Any

from drivelake.notebook import compensate, frames, points, read, sql, sync, table

__all__ = ["Rate", "Rule", "compensate", "frames", "points", "read", "sql", "sync", "table"]


def __getattr__(name: str) -> Any:
    """The types that `sync` takes, imported when they are asked for: the command needs no NumPy."""
    if name == "Rule":
        from udfs.sync.stream_rules import Rule

        return Rule
    if name == "Rate":
        from udfs.sync.reference import Rate

        return Rate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
