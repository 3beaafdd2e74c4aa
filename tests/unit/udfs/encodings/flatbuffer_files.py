"""Binary schemas and messages of FlatBuffers, written with the reference library's builder."""

from __future__ import annotations

from typing import Any

import attrs
import flatbuffers

BASE = {
    "utype": 1, "bool": 2, "byte": 3, "ubyte": 4, "short": 5, "ushort": 6, "int": 7, "uint": 8,
    "long": 9, "ulong": 10, "float": 11, "double": 12, "string": 13, "vector": 14, "obj": 15,
    "union": 16, "array": 17,
}  # fmt: skip


@attrs.frozen
class F:
    """A field of a schema: `kind` is a base type; of a vector or array `element` is the inner."""

    name: str
    kind: str
    offset: int
    element: str = ""
    index: int = -1
    count: int = 0
    default: float = 0
    optional: bool = False
    deprecated: bool = False


@attrs.frozen
class Obj:
    """A table or struct of a schema."""

    name: str
    fields: tuple[F, ...]
    size: int = 0  # of a struct


def bfbs(objects: list[Obj], enums: list[tuple[str, list[tuple[str, int]]]] = ()) -> bytes:
    """A binary schema; an enumeration of (name, object index) is a union."""
    b = flatbuffers.Builder(1024)
    made = [_object(b, one) for one in objects]
    unions = [_union(b, *one) for one in enums]
    every = _offsets(b, made)
    every_enum = _offsets(b, unions)
    b.StartObject(8)
    b.PrependUOffsetTRelativeSlot(0, every, 0)
    b.PrependUOffsetTRelativeSlot(1, every_enum, 0)
    b.Finish(b.EndObject(), file_identifier=b"BFBS")
    return bytes(b.Output())


def _offsets(b: flatbuffers.Builder, made: list[int]) -> int:
    b.StartVector(4, len(made), 4)
    for one in reversed(made):
        b.PrependUOffsetTRelative(one)
    return b.EndVector()


def _type(b: flatbuffers.Builder, base: str, element: str, index: int, count: int) -> int:
    b.StartObject(6)
    b.PrependInt8Slot(0, BASE[base], 0)
    b.PrependInt8Slot(1, BASE.get(element, 0), 0)
    b.PrependInt32Slot(2, index, -1)
    b.PrependUint16Slot(3, count, 0)
    return b.EndObject()


def _object(b: flatbuffers.Builder, one: Obj) -> int:
    fields = []
    for number, field in sorted(enumerate(one.fields), key=lambda pair: pair[1].name):
        name = b.CreateString(field.name)
        kind = _type(b, field.kind, field.element, field.index, field.count)
        b.StartObject(14)
        b.PrependUOffsetTRelativeSlot(0, name, 0)
        b.PrependUOffsetTRelativeSlot(1, kind, 0)
        b.PrependUint16Slot(2, number, 0)
        b.PrependUint16Slot(3, field.offset, 0)
        if field.kind in ("float", "double"):
            b.PrependFloat64Slot(5, field.default, 0.0)
        else:
            b.PrependInt64Slot(4, int(field.default), 0)
        b.PrependBoolSlot(6, field.deprecated, 0)
        b.PrependBoolSlot(11, field.optional, 0)
        fields.append(b.EndObject())
    name, members = b.CreateString(one.name), _offsets(b, fields)
    b.StartObject(8)
    b.PrependUOffsetTRelativeSlot(0, name, 0)
    b.PrependUOffsetTRelativeSlot(1, members, 0)
    b.PrependBoolSlot(2, one.size > 0, 0)
    b.PrependInt32Slot(4, one.size, 0)
    return b.EndObject()


def _union(b: flatbuffers.Builder, name: str, members: list[tuple[str, int]]) -> int:
    values = []
    for number, (label, index) in enumerate([("NONE", -1), *members]):
        text = b.CreateString(label)
        kind = _type(b, "obj" if number else "bool", "", index, 0)
        b.StartObject(6)
        b.PrependUOffsetTRelativeSlot(0, text, 0)
        b.PrependInt64Slot(1, number, 0)
        b.PrependUOffsetTRelativeSlot(3, kind, 0)
        values.append(b.EndObject())
    text, every = b.CreateString(name), _offsets(b, values)
    b.StartObject(7)
    b.PrependUOffsetTRelativeSlot(0, text, 0)
    b.PrependUOffsetTRelativeSlot(1, every, 0)
    b.PrependBoolSlot(2, True, 0)
    return b.EndObject()


DRIVE = bfbs(
    [
        Obj("foxglove.Time", (F("sec", "uint", 0), F("nsec", "uint", 4)), size=8),
        Obj("pkg.Point", (F("x", "float", 0), F("y", "double", 8)), size=16),
        Obj("pkg.Part", (F("name", "string", 4), F("weight", "double", 6, default=1.5))),
        Obj(
            "pkg.Root",
            (
                F("timestamp", "obj", 4, index=0),
                F("Count", "int", 6, default=-7),
                F("maybe", "short", 8, optional=True),
                F("big", "ulong", 10),
                F("text", "string", 12),
                F("numbers", "vector", 14, element="float"),
                F("data", "vector", 16, element="ubyte"),
                F("point", "obj", 18, index=1),
                F("points", "vector", 20, element="obj", index=1),
                F("part", "obj", 22, index=2),
                F("parts", "vector", 24, element="obj", index=2),
                F("words", "vector", 26, element="string"),
                F("choice_type", "utype", 28),
                F("choice", "union", 30, index=0),
                F("old", "int", 32, deprecated=True),
                F("yes", "bool", 34, default=1),
            ),
        ),
    ],
    [("Choice", [("Part", 2)])],
)


def drive_message(value: dict[str, Any]) -> bytes:
    """A `pkg.Root`; what `value` does not have is left out."""
    b = flatbuffers.Builder(64)
    made: dict[str, int] = {}
    for name in ("text",):
        if value.get(name) is not None:
            made[name] = b.CreateString(value[name])
    if value.get("words") is not None:
        made["words"] = _offsets(b, [b.CreateString(word) for word in value["words"]])
    if value.get("part") is not None:
        made["part"] = _part(b, value["part"])
    if value.get("choice") is not None:
        made["choice"] = _part(b, value["choice"]["part"])
    if value.get("parts") is not None:
        made["parts"] = _offsets(b, [_part(b, one) for one in value["parts"]])
    if value.get("numbers") is not None:
        b.StartVector(4, len(value["numbers"]), 4)
        for one in reversed(value["numbers"]):
            b.PrependFloat32(one)
        made["numbers"] = b.EndVector()
    if value.get("data") is not None:
        made["data"] = b.CreateByteVector(value["data"])
    if value.get("points") is not None:
        b.StartVector(16, len(value["points"]), 8)
        for one in reversed(value["points"]):
            _point(b, one)
        made["points"] = b.EndVector()
    b.StartObject(16)
    if value.get("timestamp_ns") is not None:
        b.Prep(4, 8)
        b.PrependUint32(value["timestamp_ns"] % 10**9)
        b.PrependUint32(value["timestamp_ns"] // 10**9)
        b.PrependStructSlot(0, b.Offset(), 0)
    b.PrependInt32Slot(1, value.get("count", -7), -7)
    if value.get("maybe") is not None:
        b.PrependInt16(value["maybe"])
        b.Slot(2)
    b.PrependUint64Slot(3, value.get("big", 0), 0)
    slots = {"text": 4, "numbers": 5, "data": 6, "points": 8, "part": 9, "parts": 10, "words": 11}
    if value.get("point") is not None:
        _point(b, value["point"])
        b.PrependStructSlot(7, b.Offset(), 0)
    for name, slot in slots.items():
        b.PrependUOffsetTRelativeSlot(slot, made.get(name, 0), 0)
    b.PrependUint8Slot(12, 1 if "choice" in made else 0, 0)
    b.PrependUOffsetTRelativeSlot(13, made.get("choice", 0), 0)
    b.PrependBoolSlot(15, value.get("yes", True), True)
    b.Finish(b.EndObject())
    return bytes(b.Output())


def _part(b: flatbuffers.Builder, value: dict[str, Any]) -> int:
    name = b.CreateString(value["name"]) if value["name"] is not None else 0
    b.StartObject(2)
    b.PrependUOffsetTRelativeSlot(0, name, 0)
    b.PrependFloat64Slot(1, value["weight"], 1.5)
    return b.EndObject()


def _point(b: flatbuffers.Builder, value: dict[str, float]) -> None:
    b.Prep(8, 16)
    b.PrependFloat64(value["y"])
    b.Pad(4)
    b.PrependFloat32(value["x"])
