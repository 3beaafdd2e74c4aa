from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import UnsupportedFormatError
from tests.unit.udfs.oracles import assert_same, batch_of, mcap_messages, schema_of
from udfs.encodings.protobuf import protobuf_decoder

F = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "f_double": F.TYPE_DOUBLE,
    "f_float": F.TYPE_FLOAT,
    "f_int32": F.TYPE_INT32,
    "f_uint32": F.TYPE_FIXED32,
    "f_int64": F.TYPE_SINT64,
    "f_uint64": F.TYPE_UINT64,
    "f_bool": F.TYPE_BOOL,
    "f_string": F.TYPE_STRING,
    "f_bytes": F.TYPE_BYTES,
}


def file_set() -> descriptor_pb2.FileDescriptorSet:
    """A type with every scalar, alone and repeated, a stamp, a map, and itself inside itself."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="test", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    message = file.message_type.add(name="All")
    numbers = iter(range(1, 99))
    for name, kind in SCALARS.items():
        message.field.add(name=name, number=next(numbers), type=kind, label=F.LABEL_OPTIONAL)
        message.field.add(name=f"r{name}", number=next(numbers), type=kind, label=F.LABEL_REPEATED)
    stamp = {"type": F.TYPE_MESSAGE, "type_name": ".google.protobuf.Timestamp"}
    message.field.add(name="at", number=next(numbers), label=F.LABEL_OPTIONAL, **stamp)
    message.field.add(name="times", number=next(numbers), label=F.LABEL_REPEATED, **stamp)
    again = {"type": F.TYPE_MESSAGE, "type_name": ".test.All"}
    message.field.add(name="again", number=next(numbers), label=F.LABEL_OPTIONAL, **again)
    inner = message.nested_type.add(name="Inner")
    inner.field.add(name="v", number=1, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL)
    kind = {"type": F.TYPE_MESSAGE, "type_name": ".test.All.Inner"}
    message.field.add(name="inner", number=next(numbers), label=F.LABEL_OPTIONAL, **kind)
    message.field.add(name="inners", number=next(numbers), label=F.LABEL_REPEATED, **kind)
    entry = message.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL)
    counts = {"type": F.TYPE_MESSAGE, "type_name": ".test.All.CountsEntry"}
    message.field.add(name="counts", number=next(numbers), label=F.LABEL_REPEATED, **counts)
    files = descriptor_pb2.FileDescriptorSet(file=[file])
    timestamp_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    return files


FILES = file_set()
POOL = DescriptorPool()
for _one in reversed(FILES.file):
    POOL.Add(_one)
All = message_factory.GetMessageClass(POOL.FindMessageTypeByName("test.All"))
DECODER = protobuf_decoder(schema_of("test.All", FILES.SerializeToString(), "protobuf"))

VALUES = {
    "f_double": st.floats(),
    "f_float": st.floats(width=32),
    "f_int32": st.integers(-(2**31), 2**31 - 1),
    "f_uint32": st.integers(0, 2**32 - 1),
    "f_int64": st.integers(-(2**63), 2**63 - 1),
    "f_uint64": st.integers(0, 2**64 - 1),
    "f_bool": st.booleans(),
    "f_string": st.text(st.characters(exclude_categories=["Cs"])),
    "f_bytes": st.binary(max_size=5),
}


@st.composite
def messages(draw) -> Any:
    message = All()
    for name, values in VALUES.items():
        setattr(message, name, draw(values))
        getattr(message, f"r{name}").extend(draw(st.lists(values, max_size=3)))
    if draw(st.booleans()):
        message.at.FromNanoseconds(draw(st.integers(-(10**18), 10**18)))
    for _ in range(draw(st.integers(0, 2))):
        message.times.add(seconds=5, nanos=7)
        message.inners.add(v=draw(st.integers(0, 9)))
    if draw(st.booleans()):
        message.inner.v = 3
    message.counts.update(draw(st.dictionaries(st.text("ab", max_size=2), st.integers(0, 9))))
    return message


def expected(message: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in VALUES:
        row[name] = getattr(message, name)
        row[f"r{name}"] = list(getattr(message, f"r{name}"))
    row["at_ns"] = message.at.ToNanoseconds() if message.HasField("at") else None
    row["times_ns"] = [one.ToNanoseconds() for one in message.times]
    row["again"] = None
    row["inner"] = {"v": message.inner.v} if message.HasField("inner") else None
    row["inners"] = [{"v": one.v} for one in message.inners]
    row["counts"] = [{"key": k, "value": message.counts[k]} for k in sorted(message.counts)]
    return row


@given(st.lists(messages(), max_size=4))
@settings(deadline=None, max_examples=60)
def test_any_message_becomes_the_row_of_its_values(ones):
    """Every scalar type, repeated fields, maps, nested messages, presence and stamps."""
    decoded = DECODER.decode(batch_of([one.SerializeToString() for one in ones]))
    assert decoded.bad == ()
    decoded.rows.validate(full=True)
    for row, one in zip(decoded.rows.to_pylist(), ones, strict=True):
        assert_same(row, expected(one))


def test_bad_messages_cost_themselves_only():
    """Fault 18: bytes that are no message, and a stamp beyond int64, are bad; the rest is kept."""
    good = All(f_int32=4).SerializeToString()
    late = All()
    late.at.seconds = 1 << 40
    decoded = DECODER.decode(batch_of([good, b"\xff\xff\xff", late.SerializeToString(), good]))
    assert decoded.index.tolist() == [0, 3]
    found = [(one.message, one.error_class) for one in decoded.bad]
    assert found == [(1, "BAD_PROTOBUF"), (2, "TIME_OUT_OF_RANGE")]


def test_a_message_that_contains_itself_is_kept_as_text_below():
    """A recursive type has no finite columns: the inner message stays readable."""
    row = DECODER.decode(
        batch_of([All(again=All(f_int32=9)).SerializeToString()])
    ).rows.to_pylist()[0]
    assert "9" in row["again"]


def test_well_known_types_need_not_be_in_the_descriptors():
    """A writer may leave google.protobuf out of the set; protobuf's own files serve."""
    files = descriptor_pb2.FileDescriptorSet(file=[FILES.file[0]])
    decoder = protobuf_decoder(schema_of("test.All", files.SerializeToString(), "protobuf"))
    assert decoder.schema == DECODER.schema


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("test.Missing", FILES.SerializeToString()),
        ("test.All", b"\xff\xff\xff no descriptors"),
        ("test.All", b""),
    ],
)
def test_unusable_descriptors_are_told_apart(name, data):
    """Fault 16: without a usable definition there is no decoder, and a reason."""
    with pytest.raises(UnsupportedFormatError) as caught:
        protobuf_decoder(schema_of(name, data, "protobuf"))
    assert caught.value.code == "UNPARSABLE_DEFINITION"


def test_real_protobuf_messages_equal_the_library(samples):
    """Rerun's and Foxglove's recordings: values as mcap-protobuf-support has them."""
    from mcap_protobuf.decoder import DecoderFactory

    compared = 0
    for path in sorted(samples.glob("mcap/rerun/*.mcap")):
        for one, channel, found in mcap_messages(path).values():
            if channel.message_encoding != "protobuf":
                continue
            read = DecoderFactory().decoder_for("protobuf", one)
            decoder = protobuf_decoder(schema_of(one.name, one.data, one.encoding))
            rows = decoder.decode(batch_of([m.data for m in found])).rows.to_pylist()
            for row, message in zip(rows, found, strict=True):
                assert_same(row, plain(read(message.data)))
                compared += 1
    assert compared == 6


def plain(message: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is None:
            row[field.name] = value
        elif field.message_type.full_name == "google.protobuf.Timestamp":
            row[f"{field.name}_ns"] = value.seconds * 10**9 + value.nanos
        else:
            row[field.name] = plain(value) if message.HasField(field.name) else None
    return row


def test_a_map_without_values_has_no_decoder():
    """Fault 16: a damaged definition whose map entry lacks a field leaves the messages raw."""
    files = file_set()
    (entry,) = (one for one in files.file[0].message_type[0].nested_type if one.options.map_entry)
    entry.field[1].name = "valve"
    with pytest.raises(UnsupportedFormatError, match="map"):
        protobuf_decoder(schema_of("test.All", files.SerializeToString(), "protobuf"))


@pytest.mark.parametrize("damage", ["label", "third_field"])
def test_a_map_that_is_none_is_refused_and_not_compiled(damage):
    """A definition whose map is not repeated, or has other fields than a key and a value."""
    files = file_set()
    message = files.file[0].message_type[0]
    (entry,) = (one for one in message.nested_type if one.options.map_entry)
    (field,) = (one for one in message.field if one.type_name.endswith(entry.name))
    if damage == "label":
        field.label = field.LABEL_OPTIONAL
    else:
        entry.field.add(name="other", number=3, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    with pytest.raises(UnsupportedFormatError):
        protobuf_decoder(schema_of("test.All", files.SerializeToString(), "protobuf"))
