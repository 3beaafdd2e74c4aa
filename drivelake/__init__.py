"""The front door of drivelake.

In a notebook: `drivelake.read(name)`, `drivelake.sql(statement)` and
`drivelake.sync(streams, clocks)`.
In a shell: the `drivelake` command.
"""

from drivelake.notebook import read, sql, sync

__all__ = ["read", "sql", "sync"]
