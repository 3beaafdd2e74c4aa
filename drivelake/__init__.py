"""The front door of drivelake.

In a notebook: `drivelake.read(uri)`, `drivelake.table(name)`, `drivelake.sql(statement)` and
`drivelake.sync(streams, clocks)`.
In a shell: the `drivelake` command.
"""

from drivelake.notebook import read, sql, sync, table

__all__ = ["read", "sql", "sync", "table"]
