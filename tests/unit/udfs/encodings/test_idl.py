"""IDL definitions give the tree that ROS definitions give; XCDR2 is read as XTypes has it."""

from __future__ import annotations

import contextlib
import random
import struct

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_idl, get_typestore

from contracts.errors import UnsupportedFormatError
from contracts.recording import Schema
from tests.unit.udfs.oracles import assert_same, batch_of, plain
from udfs.encodings.idl import parse_idl
from udfs.encodings.registry import decoder_for
from udfs.encodings.ros_definition import Many, Number, Struct, Text, parse_definition

BASES = {
    "bool": "boolean",
    "byte": "octet",
    "char": "uint8",
    "float32": "float",
    "float64": "double",
}
RICH = """
// a comment
#include "other.idl"
/* more
   of it */
module pkg {
  const long SIZE = (1 << 1) + 0x1;
  @verbatim(language="comment", text="x; } { @y" "z")
  @bit_bound(8) enum Small { LOW, @value(7) MID, HIGH };
  enum Mode { OFF, ON };
  bitmask Flags { A, B };
  typedef double Row[2];
  typedef sequence<unsigned long long, HIGH> Longs;
  module inner {
    @final struct Point { @key @id(3) float x, y; @default(4) @unit("m") float z; };
  };
  struct Base { unsigned short number; };
  @appendable
  struct Root : Base {
    inner::Point point;
    ::pkg::inner::Point points[SIZE];
    sequence<inner::Point> many;
    Mode mode;
    Small small;
    Flags flags;
    Row rows[2];
    Longs longs;
    string<SIZE * 4> name;
    sequence<string<8>, 3> names;
    sequence<sequence<long long>> nested;
    boolean yes;
    octet bytes[4];
    sequence<octet> blob;
    long _module;
  };
};
"""


def _schema(text: str, name: str, encoding: str) -> Schema:
    return Schema(1, name, encoding, text.encode(), f"{name}{hash(text)}")


def _idl_type(desc) -> tuple[str, str]:
    """IDL words and brackets of a field as rosbags describes it."""
    kind, rest = int(desc[0]), desc[1]
    if kind == 1:
        return BASES.get(rest[0], rest[0]), ""
    if kind == 2:
        return rest.replace("/", "::"), ""
    inner, limit = rest
    words, _ = _idl_type(inner)
    if kind == 3:
        return words, f"[{limit}]"
    return f"sequence<{words}, {limit}>" if limit else f"sequence<{words}>", ""


def _idl_file(name: str, types) -> str:
    package, _, message = name.split("/")
    lines = []
    for field, desc in types[name][1]:
        words, brackets = _idl_type(desc)
        lines.append(f"      {words} {field}{brackets};")
    body = "\n".join(lines) or "      uint8 structure_needs_at_least_one_member;"
    struct = f"struct {message} {{\n{body}\n}};"
    return f"module {package} {{\nmodule msg {{\n{struct}\n}};\n}};\n"


def _needed(name: str, types, found: list[str]) -> list[str]:
    found.append(name)
    for _, desc in types[name][1]:
        inner = desc
        while int(inner[0]) > 2:
            inner = inner[1][0]
        if int(inner[0]) == 2 and inner[1] not in found:
            _needed(inner[1], types, found)
    return found


def test_every_ros_type_is_the_same_in_idl():
    """All types of a ROS distribution, written as ros2idl: the tree is that of ros2msg."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    seen = 0
    for name in sorted(store.fielddefs):
        files = [
            "=" * 80 + f"\nIDL: {one}\n" + _idl_file(one, store.fielddefs)
            for one in _needed(name, store.fielddefs, [])
        ]
        text, _ = store.generate_msgdef(name, ros_version=2)
        ours = parse_idl("".join(files), name=name)
        assert _comparable(ours) == _comparable(parse_definition(text, name=name)), name
        seen += 1
    assert seen >= 150


def _comparable(kind):
    """A tree without what only XCDR2 needs."""
    if isinstance(kind, Struct):
        return (kind.name, tuple((name, _comparable(child)) for name, child in kind.fields))
    if isinstance(kind, Many):
        return ("many", kind.size, _comparable(kind.element))
    return kind


def test_everything_that_idl_has():
    """Modules, typedefs, enums, constants, bounds, arrays, inheritance, annotations, comments."""
    root = parse_idl(RICH, name="pkg::Root")
    fields = dict(root.fields)
    point = Struct(
        "pkg/inner/Point", tuple((axis, Number("f4")) for axis in "xyz"), is_appendable=False
    )
    assert root.name == "pkg/Root"
    assert root.is_appendable
    assert fields == {
        "number": Number("u2"),
        "point": point,
        "points": Many(point, 3),
        "many": Many(point),
        "mode": Number("i4", is_primitive=False),
        "small": Number("i1", is_primitive=False),
        "flags": Number("u4", is_primitive=False),
        "rows": Many(Many(Number("f8"), 2), 2),
        "longs": Many(Number("u8")),
        "name": Text(),
        "names": Many(Text()),
        "nested": Many(Many(Number("i8"))),
        "yes": Number("?"),
        "bytes": Many(Number("u1"), 4),
        "blob": Many(Number("u1")),
        "module": Number("i4"),
    }


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("struct Root { @optional long a; };", "@optional"),
        ("@mutable struct Root { long a; };", "@mutable"),
        ("@extensibility(MUTABLE) struct Root { long a; };", "@mutable"),
        ("union U switch(long) { case 1: long a; }; struct Root { U u; };", "union"),
        ("struct Root { map<long, string> a; };", "map"),
        ("struct Root { sequence<Root> a; };", "contains itself"),
        ("typedef sequence<T> T; struct Root { T a; };", "contains itself"),
        ("struct Root { Missing a; };", "not defined"),
        ("struct Root { long a; long a; };", "two fields"),
        ("struct Root { long a[0]; };", "array of 0"),
        ("struct Root { long a[99999999]; };", "array of"),
        ("const long A = B; const long B = A; struct Root { long a[A]; };", "constants"),
        ("const long A = 1 / 0; struct Root { long a[A]; };", "constant"),
        ("struct Root { long a", "end"),
        ("struct Root { long \x01; };", "IDL"),
        ("struct Other { long a; };", "no struct"),
        ("module m { " * 100, "nested deeper"),
        ("struct Root { " + "sequence<" * 100, "nested deeper"),
        ("struct Root { long a[" + "(" * 5000 + "1" + ")" * 5000 + "]; };", "constants"),
    ],
)
def test_what_has_no_columns_says_why(body, word):
    """No decoder for what can't be laid out or is no IDL; the reason is in words."""
    with pytest.raises(UnsupportedFormatError, match=word.replace("(", r"\(")) as caught:
        parse_idl(body, name="Root")
    assert caught.value.code == "UNPARSABLE_DEFINITION"


def test_mutated_definitions_never_fail_otherwise():
    """2,000 mutations of a definition: a tree or UNPARSABLE_DEFINITION, nothing else."""
    chance = random.Random(5)  # noqa: S311
    for _ in range(2000):
        text = list(RICH)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(text))
            if chance.random() < 0.5:
                del text[at : at + chance.randrange(1, 12)]
            else:
                text.insert(at, chance.choice("{}<>();:,@[]=\"'/#a1 "))
        with contextlib.suppress(UnsupportedFormatError):
            parse_idl("".join(text), name="pkg::Root")


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("encoding", ["ros2idl", "omgidl"])
def test_messages_decode_as_rosbags_reads_them(order, encoding):
    """XCDR1 of an IDL type, both byte orders: equal to what rosbags has written."""
    text = """
module pkg { module msg {
  struct Part { double a; octet b; string c; };
  struct Root { octet first; double second; sequence<Part> parts; long numbers[3]; string last; };
}; };
"""
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_idl(text))
    part, root = store.types["pkg/msg/Part"], store.types["pkg/msg/Root"]
    messages = [
        root(
            i,
            i / 3,
            [part(k * 0.5, k, "x" * k) for k in range(i % 4)],
            np.array([i, -i, 7], np.int32),
            f"text {i}",
        )
        for i in range(50)
    ]
    payloads = [
        bytes(store.serialize_cdr(m, "pkg/msg/Root", little_endian=order == "little"))
        for m in messages
    ]
    name = "pkg/msg/Root" if encoding == "ros2idl" else "pkg::msg::Root"
    decoder = decoder_for("cdr", _schema(text, name, encoding))
    decoded = decoder.decode(batch_of(payloads))
    assert not decoded.bad
    assert_same(decoded.rows.to_pylist(), [plain(m) for m in messages])


XCDR2 = """
module pkg {
  @final struct Inner { octet flag; double value; };
  @final struct Plain {
    octet a; double b; long long c; sequence<double> d; sequence<Inner> e; sequence<string> f;
    string g; Inner h[2];
  };
  enum Mode { OFF, ON };
  @appendable struct Open { octet a; double b; Inner c; sequence<Mode> modes; };
};
"""


@pytest.mark.parametrize(("order", "header"), [(">", 0x0006), ("<", 0x0007)])
def test_plain_cdr2(order, header):
    """Nothing is aligned to more than 4 bytes; collections of no primitives have a DHEADER.

    XTypes 1.3 §7.4.3.2.2 (alignment), §7.4.3.5.3 (sequences and arrays).
    """
    pack = lambda form, *values: struct.pack(order + form, *values)  # noqa: E731
    inner = lambda flag, value: pack("Bxxxd", flag, value)  # noqa: E731
    body = pack("Bxxxdq", 1, 2.5, -3)  # a, 3 bytes of padding, b at 4, c at 12
    body += pack("Idd", 2, 4.0, 5.0)  # d: no DHEADER, elements at multiples of 4
    body += pack("II", 4 + 24, 2) + inner(6, 7.5) + inner(8, 9.5)
    texts = pack("I3s", 3, b"ab\0")
    texts += b"\0" + pack("I2s", 2, b"c\0")
    body += pack("II", 4 + len(texts), 2) + texts
    body += b"\0\0" + pack("I4s", 4, b"end\0")
    body += pack("I", 24) + inner(10, 11.5) + inner(12, 13.5)
    payload = struct.pack(">HH", header, 0) + body
    decoder = decoder_for("cdr", _schema(XCDR2, "pkg::Plain", "omgidl"))
    decoded = decoder.decode(batch_of([payload, payload[:-1], payload + bytes(8)]))
    assert decoded.rows.to_pylist() == [
        {
            "a": 1,
            "b": 2.5,
            "c": -3,
            "d": [4.0, 5.0],
            "e": [{"flag": 6, "value": 7.5}, {"flag": 8, "value": 9.5}],
            "f": ["ab", "c"],
            "g": "end",
            "h": [{"flag": 10, "value": 11.5}, {"flag": 12, "value": 13.5}],
        }
    ]
    assert [(one.message, one.error_class) for one in decoded.bad] == [
        (1, "SHORT_PAYLOAD"),
        (2, "TRAILING_BYTES"),
    ]


@pytest.mark.parametrize(("order", "header"), [(">", 0x0008), ("<", 0x0009)])
def test_delimited_cdr2(order, header):
    """An appendable struct has a DHEADER, a final one none; enumerations are no primitives.

    XTypes 1.3 §7.4.3.5.3 (delimited structures, sequences).
    """
    pack = lambda form, *values: struct.pack(order + form, *values)  # noqa: E731
    members = pack("Bxxxd", 1, 2.5) + pack("Bxxxd", 3, 4.5) + pack("IIii", 12, 2, 0, 1)
    payload = struct.pack(">HH", header, 0) + pack("I", len(members)) + members
    decoder = decoder_for("cdr", _schema(XCDR2, "pkg::Open", "omgidl"))
    decoded = decoder.decode(batch_of([payload] * 3))
    row = {"a": 1, "b": 2.5, "c": {"flag": 3, "value": 4.5}, "modes": [0, 1]}
    assert decoded.rows.to_pylist() == [row] * 3
    assert not decoded.bad


def test_other_representations_are_told():
    """Parameter lists (0x0002, 0x000a) are no plain CDR: UNSUPPORTED_CDR, never a guess."""
    decoder = decoder_for("cdr", _schema(XCDR2, "pkg::Inner", "omgidl"))
    decoded = decoder.decode(batch_of([bytes([0, kind, 0, 0]) + bytes(16) for kind in (2, 3, 10)]))
    assert [one.error_class for one in decoded.bad] == ["UNSUPPORTED_CDR"] * 3
