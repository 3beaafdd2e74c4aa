"""Message types compiled to what the walker steps through: runs of fixed size, and what varies.

In CDR a number stands at a multiple of its size, counted from the start of the message, so the
layout of a run depends on where it starts modulo 8. ROS 1 aligns nothing.

Source: OMG CDR (formal/02-06-51), DDS-XTypes 1.3 §7.4.1, http://wiki.ros.org/msg
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import pyarrow as pa

from contracts.errors import UnsupportedFormatError
from udfs.encodings.columns import EMPTY_FIELD, arrow_type, list_type
from udfs.encodings.ros_definition import MAX_LEAVES, Many, Number, Stamp, Struct, Text, Type

MAX_FIXED_BYTES = 64 << 20


@attrs.frozen
class Leaf:
    """Consecutive numbers of one type: a scalar, scalars side by side, or an array.

    Attributes:
        code: numpy code of a number; of the seconds where it is a stamp.
        nanoseconds: numpy code of a stamp's nanoseconds, else "".
        count: How many numbers, None for a single one.
        columns: Columns that they make: 0 if none is wanted, 1 for a scalar or an array, `count`
            for scalars side by side.
        align: Bytes it is aligned to.
    """

    code: str
    nanoseconds: str = ""
    count: int | None = None
    columns: int = 1
    align: int = 1

    @property
    def item_size(self) -> int:
        """Bytes of one number, or of one stamp."""
        return 8 if self.nanoseconds else np.dtype(self.code).itemsize

    @property
    def size(self) -> int:
        """Bytes of all its numbers."""
        return self.item_size * (1 if self.count is None else self.count)


@attrs.frozen
class Run:
    """Consecutive leaves.

    Attributes:
        leaves: In order.
        offsets: By start modulo 8: each leaf's offset from the start of the run.
        sizes: By start modulo 8: bytes from the start to the end of the run.
    """

    leaves: tuple[Leaf, ...]
    offsets: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]


@attrs.frozen
class TextItem:
    """A string of characters of `width` bytes."""

    align: int
    width: int = 1


@attrs.frozen
class NumbersItem:
    """A sequence of numbers or stamps; as a pointer it gives offset and length, not values."""

    leaf: Leaf
    align: int
    pointer: bool = False


@attrs.frozen
class ManyItem:
    """A sequence, or an array of `size`, of what `program` reads."""

    program: Program
    size: int | None
    align: int


Item = Run | TextItem | NumbersItem | ManyItem
Node = int | tuple[tuple[str, "Node"], ...]


@attrs.frozen(cache_hash=True)
class Program:
    """How to read a message.

    Attributes:
        items: What stands in the bytes, in order.
        root: How the columns, numbered in order of the items, nest; a tuple is a struct.
        columns: Number of columns.
        min_size: Fewest bytes that it takes.
    """

    items: tuple[Item, ...]
    root: Node
    columns: int
    min_size: int


def compile_program(
    kind: Type,
    *,
    ros1: bool = False,
    pointer_fields: frozenset[str] = frozenset(),
    wide: int = 2,
    version: int = 1,
    is_delimited: bool = False,
) -> Program:
    """Compile a type.

    Args:
        kind: From `parse_definition`.
        ros1: ROS 1 serialisation instead of CDR.
        pointer_fields: Fields of the root, sequences of bytes, that are left in the recording.
        wide: Bytes of a character of a wide string.
        version: Of CDR. In XCDR2 nothing is aligned to more than 4 bytes, and collections of what
            is no primitive have their length in bytes before them (XTypes 1.3 §7.4.3.2, .5).
        is_delimited: Whether appendable messages have theirs too, as DELIMITED_CDR2 has it.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION: larger than any message can be.
    """
    compiler = _Compiler(ros1=ros1, pointer_fields=pointer_fields, wide=wide)
    compiler.most_align = 4 if version > 1 else 8
    compiler.has_lengths = version > 1
    compiler.is_delimited = is_delimited
    return compiler.program(kind)


def column_type(kind: Type) -> pa.DataType:
    """Arrow type of a message type."""
    if isinstance(kind, Struct):
        fields = [(name, column_type(child)) for name, child in column_fields(kind)]
        return pa.struct(fields or [(EMPTY_FIELD, pa.bool_())])
    if isinstance(kind, Many):
        is_bytes = kind.element == Number("u1")
        return pa.binary() if is_bytes else list_type(column_type(kind.element))
    if isinstance(kind, Number):
        return arrow_type(kind.code)
    return pa.int64() if isinstance(kind, Stamp) else pa.string()


def column_fields(kind: Struct) -> Iterator[tuple[str, Type]]:
    """Columns of a message: lower case (Spark tells no case apart), stamps end in `_ns`.

    `seq` of a ROS 1 header is no column: ROS 2 has none, and the same drive gives the same rows.
    """
    taken: set[str] = set()
    for field, child in kind.fields:
        if _is_dropped(kind, field):
            continue
        inner = child.element if isinstance(child, Many) else child
        name = field.lower() + ("_ns" if isinstance(inner, Stamp) else "")
        while name in taken:
            name += "_"
        taken.add(name)
        yield name, child


def _is_dropped(kind: Struct, field: str) -> bool:
    return kind.name == "std_msgs/Header" and field == "seq"


class _Compiler:
    most_align = 8
    has_lengths = False
    is_delimited = False

    def __init__(self, *, ros1: bool, pointer_fields: frozenset[str], wide: int) -> None:
        self._ros1 = ros1
        self._wide = wide
        self._pointers = pointer_fields
        self._length_align = 1 if ros1 else 4
        self._leaves = 0

    def program(self, kind: Type, *, is_root: bool = True) -> Program:
        flat: list[Item | Leaf] = []
        columns = _Counter()
        root = self._flatten(kind, flat, columns, is_root=is_root)
        items = tuple(_with_runs(flat))
        return Program(items, root, columns.count, sum(_min_size(item) for item in items))

    def _flatten(
        self, kind: Type, flat: list[Item | Leaf], columns: _Counter, *, is_root: bool = False
    ) -> Node:
        if not isinstance(kind, Struct):
            if self.has_lengths and _is_many_of_others(kind):
                flat.append(_BYTE_LENGTH)
            flat.append(self._item(kind))
            return columns.next()
        names = iter(column_fields(kind))
        nodes: list[tuple[str, Node]] = []
        if self.is_delimited and kind.is_appendable:
            flat.append(_BYTE_LENGTH)
        if not kind.fields and not self._ros1:
            flat.append(Leaf("u1", columns=0))
        for field, child in kind.fields:
            if _is_dropped(kind, field):
                assert isinstance(child, Number)
                flat.append(attrs.evolve(self._leaf(child), columns=0))
                continue
            name, _ = next(names)
            if is_root and field in self._pointers:
                flat.append(attrs.evolve(self._pointer(child), pointer=True))
                nodes += [(f"{name}_offset", columns.next()), (f"{name}_length", columns.next())]
            else:
                nodes.append((name, self._flatten(child, flat, columns)))
        return tuple(nodes)

    def _pointer(self, kind: Type) -> NumbersItem:
        item = self._item(kind)
        assert isinstance(item, NumbersItem)
        return item

    def _item(self, kind: Type) -> Item | Leaf:
        self._leaves += 1
        if self._leaves > MAX_LEAVES:
            what = f"more than {MAX_LEAVES} fields"
            raise UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION")
        if isinstance(kind, Number | Stamp):
            return self._leaf(kind)
        if isinstance(kind, Text):
            return TextItem(self._length_align, self._wide if kind.wide else 1)
        assert isinstance(kind, Many)
        if isinstance(kind.element, Number | Stamp):
            leaf = self._leaf(kind.element)
            if kind.size is None:
                return NumbersItem(leaf, self._length_align)
            return attrs.evolve(leaf, count=kind.size)
        inner = self.program(kind.element, is_root=False)
        if inner.min_size == 0:
            # A few bytes could claim any number of them.
            what = "a sequence of messages without fields"
            raise UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION")
        return ManyItem(inner, kind.size, self._length_align)

    def _leaf(self, kind: Number | Stamp) -> Leaf:
        code, rest = (
            (kind.seconds, kind.nanoseconds) if isinstance(kind, Stamp) else (kind.code, "")
        )
        return Leaf(code, rest, align=1 if self._ros1 else self._align(code))

    def _align(self, code: str) -> int:
        return min(np.dtype(code).itemsize, self.most_align)


_BYTE_LENGTH = Leaf("u4", columns=0, align=4)


def _is_many_of_others(kind: Type) -> bool:
    """Whether it is a sequence or an array of what is no primitive."""
    if not isinstance(kind, Many):
        return False
    element = kind.element
    while kind.size is not None and isinstance(element, Many) and element.size is not None:
        element = element.element  # dimensions of one array
    return not (isinstance(element, Number) and element.is_primitive)


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def next(self) -> int:
        self.count += 1
        return self.count - 1


def _with_runs(flat: list[Item | Leaf]) -> Iterator[Item]:
    """Put consecutive leaves together."""
    leaves: list[Leaf] = []
    for item in flat:
        if isinstance(item, Leaf):
            leaves.append(item)
            continue
        if leaves:
            yield _run(_merged(leaves))
            leaves = []
        yield item
    if leaves:
        yield _run(_merged(leaves))


def _merged(leaves: list[Leaf]) -> tuple[Leaf, ...]:
    """Put scalars of one type that stand side by side together, to be copied as one."""
    merged: list[Leaf] = []
    for leaf in leaves:
        last = merged[-1] if merged else None
        if last and _is_alike(last, leaf):
            merged[-1] = attrs.evolve(last, count=last.columns + 1, columns=last.columns + 1)
        else:
            merged.append(leaf)
    return tuple(merged)


def _is_alike(last: Leaf, leaf: Leaf) -> bool:
    """Whether a leaf is one more scalar of the kind that `last` holds."""
    is_scalar = last.columns > 1 or (last.columns == 1 and last.count is None)
    return is_scalar and attrs.evolve(last, count=None, columns=1) == leaf


def _run(leaves: tuple[Leaf, ...]) -> Run:
    layouts = [_layout(leaves, start) for start in range(8)]
    offsets = tuple(layout[:-1] for layout in layouts)
    sizes = tuple(layout[-1] for layout in layouts)
    if max(sizes) > MAX_FIXED_BYTES:
        what = f"{max(sizes)} bytes of fixed size"
        raise UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION")
    return Run(leaves, offsets, sizes)


def _layout(leaves: tuple[Leaf, ...], start: int) -> tuple[int, ...]:
    """Offset of each leaf from `start`, then the end."""
    position, offsets = start, []
    for leaf in leaves:
        position = -(-position // leaf.align) * leaf.align
        offsets.append(position - start)
        position += leaf.size
    return (*offsets, position - start)


def _min_size(item: Item) -> int:
    if isinstance(item, Run):
        return min(item.sizes)
    if isinstance(item, ManyItem) and item.size is not None:
        return item.size * item.program.min_size
    return 4
