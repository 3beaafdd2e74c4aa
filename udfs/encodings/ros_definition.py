"""ROS 1 and ROS 2 message definitions, parsed to a tree of types.

A definition is the text of the root message followed by the text of every message that it needs,
each behind a line of `=` and a line `MSG: package/Name`.

Source: http://wiki.ros.org/msg, https://docs.ros.org/en/rolling/Concepts/Basic/About-Interfaces.html,
https://mcap.dev/spec/registry#ros2msg
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from contracts.errors import UnsupportedFormatError

MAX_DEPTH = 32
MAX_FIXED_COUNT = 1 << 20
MAX_LEAVES = 4096

_NUMBERS = {
    "bool": "?",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "float32": "f4",
    "float64": "f8",
    "char": "u1",
    "byte": "u1",  # ROS 1 meant int8; one octet in both gives both the same columns
}
_SECTION = re.compile(r"^=+[ \t]*\n", re.MULTILINE)
_TYPE = re.compile(
    r"(?P<name>[A-Za-z][\w/]*)(<=(?P<bound>\d+))?(?P<array>\[(?P<most><=)?(?P<size>\d*)\])?"
)
_NAME = re.compile(r"[A-Za-z_]\w*")


@attrs.frozen
class Number:
    """A number of fixed size; `code` is its numpy type without byte order.

    `is_primitive` is what XTypes makes of it: an enumeration is a type of its own.
    """

    code: str
    is_primitive: bool = True


@attrs.frozen
class Text:
    """A string: UTF-8, or `wide` characters."""

    wide: bool = False


@attrs.frozen
class Stamp:
    """Seconds and nanoseconds; the codes are those of the two numbers."""

    seconds: str
    nanoseconds: str


@attrs.frozen
class Struct:
    """A message: its name without `/msg/`, and its fields in order.

    `is_appendable` tells whether XCDR2 puts its length before it.
    """

    name: str
    fields: tuple[tuple[str, Type], ...]
    is_appendable: bool = False


@attrs.frozen
class Many:
    """A sequence of `element`, or an array of `size` of them."""

    element: Type
    size: int | None = None


Type = Number | Text | Stamp | Struct | Many

ROS2_STAMPS = {
    "builtin_interfaces/Time": Stamp("i4", "u4"),
    "builtin_interfaces/Duration": Stamp("i4", "u4"),
}
_ROS1_STAMPS = {"time": Stamp("u4", "u4"), "duration": Stamp("i4", "i4")}


def parse_definition(text: str, *, name: str, ros1: bool = False) -> Struct:
    """Parse a concatenated definition into the tree of its root message.

    Args:
        text: The definition as it stands in the recording.
        name: Name of the root message, `package/Name` or `package/msg/Name`.
        ros1: Whether `time` and `duration` are types of their own.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION: a part is missing, refers to itself, or is
            no message definition.
    """
    return _Parser(_sections(text, name), ros1=ros1).struct(plain_name(name), depth=0)


def plain_name(name: str) -> str:
    """Name of a type without the folder it is in: `package/Name`."""
    return name.replace("/msg/", "/").replace("/srv/", "/").replace("/action/", "/")


def _sections(text: str, name: str) -> dict[str, str]:
    """Text of each message by its plain name; the first part is the root's."""
    root, *rest = _SECTION.split(text.replace("\r\n", "\n") + "\n")
    if root.lstrip().startswith("MSG:"):
        root = root.lstrip().split("\n", 1)[1]
    sections = {}
    for part in rest:
        head, _, body = part.lstrip().partition("\n")
        if not head.startswith("MSG:"):
            raise _unparsable(f"a part of {name} begins with {head[:40]!r}, not with MSG:")
        sections[plain_name(head[4:].strip())] = body
    sections[plain_name(name)] = root
    return sections


class _Parser:
    """Turns the parts of a definition into one tree."""

    def __init__(self, sections: dict[str, str], *, ros1: bool) -> None:
        self._sections = sections
        self._stamps = ROS2_STAMPS | (_ROS1_STAMPS if ros1 else {})
        self._done: dict[str, Struct] = {}
        self._open: set[str] = set()
        self._leaves = 0

    def struct(self, name: str, *, depth: int) -> Struct:
        if name in self._done:
            return self._done[name]
        if name in self._open or depth > MAX_DEPTH:
            raise _unparsable(f"{name} contains itself or is nested deeper than {MAX_DEPTH}")
        self._open.add(name)
        fields = tuple(self._fields(name, depth))
        names = [field for field, _ in fields]
        if len(set(names)) != len(names):
            raise _unparsable(f"{name} has two fields of one name")
        self._done[name] = Struct(name, fields)
        return self._done[name]

    def _fields(self, name: str, depth: int) -> Iterator[tuple[str, Type]]:
        package = name.rpartition("/")[0]
        for line in self._sections[name].split("\n"):
            code = line.partition("#")[0].strip()
            if not code:
                continue
            declared, _, rest = code.partition(" ") if " " in code else code.partition("\t")
            kind = _TYPE.fullmatch(declared)
            field = _NAME.match(rest.strip())
            if kind is None or field is None:
                raise _unparsable(f"line {code[:60]!r} of {name}")
            if not rest.strip()[field.end() :].lstrip().startswith("="):
                yield field[0], self._type(kind, package, depth)

    def _type(self, found: re.Match[str], package: str, depth: int) -> Type:
        self._leaves += 1
        if self._leaves > MAX_LEAVES:
            raise _unparsable(f"more than {MAX_LEAVES} fields")
        element = self._element(found["name"], package, depth)
        if found["array"] is None:
            return element
        size = None if found["most"] or not found["size"] else int(found["size"])
        if size is not None and size > MAX_FIXED_COUNT:
            raise _unparsable(f"array of {size} elements")
        return Many(element, size)

    def _element(self, name: str, package: str, depth: int) -> Type:
        if name in _NUMBERS:
            return Number(_NUMBERS[name])
        if name in ("string", "wstring"):
            return Text(wide=name == "wstring")
        full = self._full_name(plain_name(name), package)
        return self._stamps.get(full) or self.struct(full, depth=depth + 1)

    def _full_name(self, name: str, package: str) -> str:
        candidates = [name] if "/" in name else [f"{package}/{name}", name, f"std_msgs/{name}"]
        for candidate in candidates:
            if candidate in self._sections or candidate in self._stamps:
                return candidate
        raise _unparsable(f"{name} is not defined")


def _unparsable(what: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION")
