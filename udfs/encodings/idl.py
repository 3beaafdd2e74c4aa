"""OMG IDL, and ROS 2 definitions in IDL, parsed to the tree that ROS definitions give.

A ros2idl definition is a list of files, each behind a line of `=` and a line
`IDL: package/msg/Name`; an omgidl definition is one text that holds all that the root needs.

Source: OMG IDL 4.2 §7.4 (formal/18-01-05); DDS-XTypes 1.3 §7.3.1 (annotations);
https://mcap.dev/spec/registry#ros2idl, #omgidl
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs

from contracts.errors import UnsupportedFormatError
from udfs.encodings.ros_definition import (
    MAX_DEPTH,
    MAX_FIXED_COUNT,
    MAX_LEAVES,
    ROS2_STAMPS,
    Many,
    Number,
    Struct,
    Text,
    Type,
    plain_name,
)

_NUMBERS = {
    "boolean": "?",
    "octet": "u1",
    "char": "u1",
    "wchar": "u2",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "short": "i2",
    "unsigned short": "u2",
    "long": "i4",
    "unsigned long": "u4",
    "long long": "i8",
    "unsigned long long": "u8",
    "float": "f4",
    "double": "f8",
}
_UNSERVED = ("union", "map", "bitset", "any", "fixed", "long double", "interface", "valuetype",
             "native", "component", "exception")  # fmt: skip
_TOKEN = re.compile(
    r"(?P<space>\s+|//[^\n]*|/\*.*?\*/|\#[^\n]*(?:\\\n[^\n]*)*)"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<number>0[xX][0-9A-Fa-f]+|\d+\.?\d*(?:[eE][+-]?\d+)?[fFdD]?|\.\d+)"
    r"|(?P<text>L?\"(?:[^\"\\]|\\.)*\"|L?'(?:[^'\\]|\\.)*')"
    r"|(?P<sign>::|<<|>>|[-@{}()\[\]<>;,:=+*/%|&^~.])",
    re.DOTALL,
)
_FILE = re.compile(r"^=+[ \t]*\nIDL:[^\n]*\n", re.MULTILINE)
_PLACEHOLDER = "structure_needs_at_least_one_member"
_MAX_EXPRESSION = 256
_BYTE_BITS, _SHORT_BITS, _WORD_BITS = 8, 16, 32
_OPERATORS: Mapping[str, tuple[int, Callable[[int, int], int]]] = {
    "|": (1, lambda a, b: a | b),
    "^": (2, lambda a, b: a ^ b),
    "&": (3, lambda a, b: a & b),
    "<<": (4, lambda a, b: a << min(b, 64)),
    ">>": (4, lambda a, b: a >> b),
    "+": (5, lambda a, b: a + b),
    "-": (5, lambda a, b: a - b),
    "*": (6, lambda a, b: a * b),
    "/": (6, lambda a, b: a // b),
    "%": (6, lambda a, b: a % b),
}

Scope = tuple[str, ...]
Tokens = tuple[str, ...]


def parse_idl(text: str, *, name: str) -> Struct:
    """Parse a definition into the tree of its root struct.

    Args:
        text: The definition as it stands in the recording.
        name: Of the root, `package/msg/Name` or `package::msg::Name`.

    Raises:
        UnsupportedFormatError: UNPARSABLE_DEFINITION: no IDL, a part is missing or refers to
            itself, or it holds what no column can be made of (union, @optional, @mutable, …).
    """
    tokens = _tokens(_FILE.sub("", text.replace("\r\n", "\n") + "\n"))
    found = _Declarations(tokens).read()
    return _Builder(found).root(tuple(re.split(r"::|/", name.strip(":/"))))


@attrs.frozen
class _Member:
    """A declared name with its type in words, and what stands in brackets behind it."""

    name: str
    kind: Tokens
    sizes: tuple[Tokens, ...]
    is_optional: bool = False


@attrs.frozen
class _Declared:
    """A struct, typedef, enum, bitmask or constant, in the scope where it stands."""

    what: str
    scope: Scope
    members: tuple[_Member, ...] = ()
    base: Tokens = ()
    value: Tokens = ()
    bits: int = _WORD_BITS
    extensibility: str = ""


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unparsable(f"IDL: {text[at : at + 30]!r}")
        if match.lastgroup != "space":
            found.append(match[0])
        at = match.end()
    return found


class _Declarations:
    """Reads all declarations of a text, by their full names."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._found: dict[Scope, _Declared] = {}

    def read(self) -> dict[Scope, _Declared]:
        while self._at < len(self._tokens):
            self._declaration(())
        return self._found

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self, wanted: str = "") -> str:
        token = self._peek()
        if not token or (wanted and token != wanted):
            raise _unparsable(f"IDL: {token or 'the end'!r} where {wanted or 'more'!r} should be")
        self._at += 1
        return token

    def _until(self, *ends: str) -> Tokens:
        """Tokens up to one of some, which brackets of any kind hide."""
        start, depth = self._at, 0
        while depth or self._peek() not in ends:
            token = self._next()
            depth += (token in ("(", "[", "{", "<")) - (token in (")", "]", "}", ">"))
        return tuple(self._tokens[start : self._at])

    def _annotations(self) -> dict[str, Tokens]:
        found: dict[str, Tokens] = {}
        while self._peek() == "@":
            self._next()
            name = self._next()
            while self._peek() == "::":
                self._next()
                name = self._next()
            arguments: Tokens = ()
            if self._peek() == "(":
                self._next()
                arguments = self._until(")")
                self._next()
            found[name.lower()] = arguments
        return found

    def _declaration(self, scope: Scope) -> None:
        if len(scope) > MAX_DEPTH:
            raise _unparsable(f"modules nested deeper than {MAX_DEPTH}")
        notes = self._annotations()
        word = self._next()
        if word == ";":
            return
        if word == "module":
            inner = (*scope, self._next())
            self._next("{")
            while self._peek() != "}":
                self._declaration(inner)
            self._next()
        elif word in ("struct", "enum", "bitmask", "const", "typedef"):
            getattr(self, f"_{word}")(scope, notes)
        elif word == "union":
            self._found[(*scope, self._next())] = _Declared("union", scope)
            self._until(";")
        else:
            self._until(";")  # nothing that a struct could not do without
        if self._peek() == ";":
            self._next()

    def _struct(self, scope: Scope, notes: dict[str, Tokens]) -> None:
        name = self._next()
        if self._peek() == ";":  # declared here, defined elsewhere
            return
        base: Tokens = ()
        if self._peek() == ":":
            self._next()
            base = self._until("{")
        self._next("{")
        members: list[_Member] = []
        while self._peek() != "}":
            own = self._annotations()
            kind = self._type_words()
            for declared, sizes in self._declarators():
                members.append(_Member(declared, kind, sizes, "optional" in own))
            self._next(";")
        self._next()
        self._found[(*scope, name)] = _Declared(
            "struct", (*scope, name), tuple(members), base, extensibility=_extensibility(notes)
        )

    def _typedef(self, scope: Scope, _notes: dict[str, Tokens]) -> None:
        kind = self._type_words()
        for name, sizes in self._declarators():
            self._found[(*scope, name)] = _Declared("typedef", scope, (_Member(name, kind, sizes),))

    def _enum(self, scope: Scope, notes: dict[str, Tokens]) -> None:
        name, value = self._next(), 0
        self._next("{")
        while self._peek() != "}":
            own = self._annotations()
            value = _whole(own["value"][-1]) if own.get("value") else value
            label = self._next()
            self._found[(*scope, label)] = _Declared("const", scope, value=(str(value),))
            value += 1
            if self._peek() == ",":
                self._next()
        self._next()
        self._found[(*scope, name)] = _Declared("enum", scope, bits=_bits(notes))

    def _bitmask(self, scope: Scope, notes: dict[str, Tokens]) -> None:
        name = self._next()
        self._until(";")
        self._found[(*scope, name)] = _Declared("bitmask", scope, bits=_bits(notes))

    def _const(self, scope: Scope, _notes: dict[str, Tokens]) -> None:
        name = (self._until("=") or ("",))[-1]
        self._next()
        self._found[(*scope, name)] = _Declared("const", scope, value=self._until(";"))

    def _type_words(self) -> Tokens:
        """The words of a type: a name in one word, a template with what it holds."""
        start = self._at
        if self._peek() in ("unsigned", "long", "short"):
            while self._peek() in ("unsigned", "long", "short", "double"):
                self._next()
            return (" ".join(self._tokens[start : self._at]),)
        words = [self._next()]
        if words[0] == "::":
            words = [self._next()]
        while self._peek() == "::":
            self._next()
            words.append(self._next())
        head = "::".join(words)
        if self._peek() != "<":
            return (head,)
        depth = 0
        start = self._at
        while True:
            token = self._next()
            depth += {"<": 1, ">": -1, ">>": -2}.get(token, 0)
            if depth > MAX_DEPTH:
                raise _unparsable(f"sequences nested deeper than {MAX_DEPTH}")
            if depth <= 0:
                return (head, *self._tokens[start : self._at])

    def _declarators(self) -> list[tuple[str, tuple[Tokens, ...]]]:
        found = []
        while True:
            name, sizes = self._next().lstrip("_"), []
            while self._peek() == "[":
                self._next()
                sizes.append(self._until("]"))
                self._next()
            found.append((name, tuple(sizes)))
            if self._peek() != ",":
                return found
            self._next()


class _Builder:
    """Makes the tree of a root out of the declarations."""

    def __init__(self, found: Mapping[Scope, _Declared]) -> None:
        self._found = found
        self._open: list[Scope] = []
        self._done: dict[Scope, Struct] = {}
        self._leaves = 0

    def root(self, name: Scope) -> Struct:
        found = self._named("::".join(name), ())
        if found is None or self._found[found].what != "struct":
            raise _unparsable(f"no struct {'::'.join(name)}")
        return self._struct(found)

    def _named(self, name: str, scope: Scope) -> Scope | None:
        """Full name of what a name means in a scope: looked for from within outwards."""
        parts = tuple(name.split("::"))
        for outer in range(len(scope), -1, -1):
            if (*scope[:outer], *parts) in self._found:
                return (*scope[:outer], *parts)
        return None

    def _struct(self, name: Scope) -> Struct:
        if name in self._done:
            return self._done[name]
        words = plain_name("/".join(name))
        if name in self._open or len(self._open) > MAX_DEPTH:
            raise _unparsable(f"{words} contains itself or is nested deeper than {MAX_DEPTH}")
        self._open.append(name)
        declared = self._found[name]
        if declared.extensibility == "mutable":
            raise _unparsable(f"{words} is @mutable")
        fields: list[tuple[str, Type]] = []
        if declared.base:
            base = self._named("".join(declared.base).removeprefix("::"), name[:-1])
            if base is None or self._found[base].what != "struct":
                raise _unparsable(f"base of {words} is not defined")
            fields += self._struct(base).fields
        for member in declared.members:
            if member.is_optional:
                raise _unparsable(f"{member.name} of {words} is @optional")
            fields.append((member.name, self._member(member, name)))
        names = [field for field, _ in fields]
        if len(set(names)) != len(names):
            raise _unparsable(f"{words} has two fields of one name")
        if names == [_PLACEHOLDER]:
            fields = []
        self._open.pop()
        is_final = declared.extensibility == "final"
        self._done[name] = Struct(words, tuple(fields), is_appendable=not is_final)
        return self._done[name]

    def _member(self, member: _Member, scope: Scope) -> Type:
        self._leaves += 1
        if self._leaves > MAX_LEAVES:
            raise _unparsable(f"more than {MAX_LEAVES} fields")
        kind = self._type(member.kind, scope)
        for size in reversed(member.sizes):
            count = self._value(size, scope)
            if not 0 < count <= MAX_FIXED_COUNT:
                raise _unparsable(f"array of {count} elements")
            kind = Many(kind, count)
        return kind

    def _type(self, words: Tokens, scope: Scope) -> Type:
        head, *inner = words
        if head in _NUMBERS:
            return Number(_NUMBERS[head])
        if head in ("string", "wstring"):
            return Text(wide=head == "wstring")
        if head == "sequence":
            return Many(self._type(_element(tuple(inner)), scope))
        if head in _UNSERVED:
            raise _unparsable(f"no columns for {head}")
        found = self._named(head, scope)
        if found is None:
            stamp = ROS2_STAMPS.get(plain_name(head.replace("::", "/")))
            if stamp is None:
                raise _unparsable(f"{head} is not defined")
            return stamp
        return self._declared(found)

    def _declared(self, name: Scope) -> Type:
        stamp = ROS2_STAMPS.get(plain_name("/".join(name)))
        declared = self._found[name]
        if declared.what == "struct":
            return stamp or self._struct(name)
        if declared.what in ("enum", "bitmask"):
            sign = "i" if declared.what == "enum" else "u"
            return Number(f"{sign}{_width(declared.bits)}", is_primitive=False)
        if declared.what == "typedef":
            if name in self._open or len(self._open) > MAX_DEPTH:
                raise _unparsable(f"{'::'.join(name)} contains itself")
            self._open.append(name)
            kind = self._member(declared.members[0], declared.scope)
            self._open.pop()
            return kind
        raise _unparsable(f"no columns for {declared.what} {'::'.join(name)}")

    def _value(self, tokens: Tokens, scope: Scope, depth: int = 0) -> int:
        """Value of a constant expression of whole numbers."""
        if depth > MAX_DEPTH or len(tokens) > _MAX_EXPRESSION:
            raise _unparsable("constants that refer to each other, or a very long one")
        rest = list(tokens)

        def unit() -> int:
            word = rest.pop(0) if rest else ""
            if word in ("-", "+", "~"):
                value = unit()
                return {"-": -value, "+": value, "~": ~value}[word]
            if word == "(":
                value = binary(0)
                if not rest or rest.pop(0) != ")":
                    raise _unparsable("a bracket that does not close")
                return value
            if word[:1].isdigit():
                return _whole(word)
            name = word
            while rest[:1] == ["::"] and len(rest) > 1:
                name += rest.pop(0) + rest.pop(0)
            found = self._named(name.removeprefix("::"), scope)
            if found is None or self._found[found].what != "const":
                raise _unparsable(f"constant {word!r}")
            declared = self._found[found]
            return self._value(declared.value, declared.scope, depth + 1)

        def binary(least: int) -> int:
            left = unit()
            while rest and rest[0] in _OPERATORS and _OPERATORS[rest[0]][0] > least:
                strength, apply = _OPERATORS[rest.pop(0)]
                right = binary(strength)
                left = _bounded(apply, left, right)
            return left

        value = binary(0)
        if rest:
            raise _unparsable(f"expression {' '.join(tokens)[:60]!r}")
        return value


def _element(inner: Tokens) -> Tokens:
    """Type of the elements of a sequence: what stands in its brackets before a bound."""
    body = [sign for one in inner[1:] for sign in ((">", ">") if one == ">>" else (one,))]
    depth, words = 1, []
    for one in body:
        depth += {"<": 1, ">": -1}.get(one, 0)
        if depth == 0 or (depth == 1 and one == ","):
            break
        words.append(one)
    if words and words[0] in ("unsigned", "long", "short"):
        return (" ".join(words),)
    end = words.index("<") if "<" in words else len(words)
    return ("::".join(one for one in words[:end] if one != "::"), *words[end:])


def _extensibility(notes: Mapping[str, Tokens]) -> str:
    if "extensibility" in notes:
        return "".join(notes["extensibility"]).lower()
    return next((name for name in ("final", "appendable", "mutable") if name in notes), "")


def _bits(notes: Mapping[str, Tokens]) -> int:
    return _whole(notes["bit_bound"][-1]) if notes.get("bit_bound") else _WORD_BITS


def _width(bits: int) -> int:
    """Bytes that an enumeration or bitmask of so many bits takes (XTypes 1.3 §7.2.2.4.1.2)."""
    if bits <= _SHORT_BITS:
        return 1 if bits <= _BYTE_BITS else 2
    return 4 if bits <= _WORD_BITS else 8


def _whole(token: str) -> int:
    try:
        octal = len(token) > 1 and token.isdigit() and token[0] == "0"
        return int(token, 8) if octal else int(token, 0)
    except ValueError as error:
        raise _unparsable(f"{token[:30]!r} is no whole number") from error


def _bounded(apply: Callable[[int, int], int], left: int, right: int) -> int:
    try:
        value = apply(left, right)
    except (ZeroDivisionError, ValueError) as error:
        raise _unparsable(f"a constant: {error}") from error
    if abs(value) >= 1 << 64:
        raise _unparsable("a constant of more than 64 bits")
    return value


def _unparsable(what: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(what, code="UNPARSABLE_DEFINITION")
