"""How the columns of a definition differ from those of a table, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import attrs
import pyarrow as pa

Change = Literal["same", "additive", "narrower", "break"]
"""What a table would need to hold the rows: nothing, more columns, nothing for it has more
columns, or to be another table."""


@attrs.frozen
class Difference:
    """A column, or a field inside of one, that a table and a definition do not share.

    Attributes:
        path: Column, and the fields down to it.
        stored: As the table has it; None if it does not.
        given: As the definition has it; None if it does not.
        is_taken: Whether the table has it in other letters, which Delta holds for the same name.
    """

    path: tuple[str, ...]
    stored: pa.Field | None
    given: pa.Field | None
    is_taken: bool = False

    @property
    def change(self) -> Change:
        """What this difference alone asks for."""
        if self.stored is None and self.given is not None and not self.is_taken:
            return "additive" if self.given.nullable else "break"
        if self.given is None and self.stored is not None and self.stored.nullable:
            return "narrower"
        return "break"

    def __str__(self) -> str:
        """Its path and both types."""
        given, stored = (
            "absent" if field is None else str(field.type) for field in (self.given, self.stored)
        )
        return f"{'.'.join(self.path)} ({given}, in the table {stored})"


def differences(stored: pa.Schema, given: pa.Schema) -> list[Difference]:
    """All differences by name, in structs and lists too; the order of columns is none.

    Args:
        stored: Of the table, as Delta keeps it.
        given: Of the definition, as Delta would keep it.
    """
    return list(_compared((), list(stored), list(given)))


def change_of(found: Iterable[Difference]) -> Change:
    """What differences ask for together.

    A definition that both lacks columns and brings others may have renamed them: a break.
    """
    changes = {difference.change for difference in found}
    if not changes:
        return "same"
    return changes.pop() if len(changes) == 1 else "break"


def _compared(
    path: tuple[str, ...], stored: Sequence[pa.Field], given: Sequence[pa.Field]
) -> Iterator[Difference]:
    old = {field.name: field for field in stored}
    new = {field.name: field for field in given}
    letters = {name.casefold() for name in old}
    for name, field in old.items():
        if name not in new:
            yield Difference((*path, name), field, None)
        else:
            yield from _changed((*path, name), field, new[name])
    for name, field in new.items():
        if name not in old:
            yield Difference((*path, name), None, field, name.casefold() in letters)
            letters.add(name.casefold())


def _changed(path: tuple[str, ...], stored: pa.Field, given: pa.Field) -> Iterator[Difference]:
    """Differences of a field that both have."""
    old, new = stored.type, given.type
    if stored.nullable == given.nullable:
        if old == new:
            return
        if pa.types.is_struct(old) and pa.types.is_struct(new):
            yield from _compared(path, list(old), list(new))
            return
        if pa.types.is_list(old) and pa.types.is_list(new):
            yield from _changed((*path, "element"), old.value_field, new.value_field)
            return
    yield Difference(path, stored, given)
