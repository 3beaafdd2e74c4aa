from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from contracts.errors import UnsupportedFormatError
from tests.unit.udfs.oracles import assert_same, batch_of, mcap_messages, plain, schema_of
from udfs.encodings.ros import ros_decoder
from udfs.encodings.ros_definition import parse_definition

RANGES = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
PRIMITIVES = [*RANGES, "bool", "float32", "float64", "string"]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)


def value_of(kind: str) -> st.SearchStrategy:
    if kind in RANGES:
        return st.integers(*RANGES[kind])
    if kind == "bool":
        return st.booleans()
    if kind == "string":
        return TEXT
    return st.floats(width=32 if kind == "float32" else 64)


@st.composite
def definitions(draw) -> tuple[str, dict[str, list[tuple[str, str, int | None]]]]:
    """A definition of up to three messages, the later ones used by the earlier ones."""
    structs: dict[str, list[tuple[str, str, int | None]]] = {}
    names = ["pkg/Root", "pkg/One", "pkg/Two"][: draw(st.integers(1, 3))]
    for i, name in enumerate(names):
        kinds = st.sampled_from(PRIMITIVES + names[i + 1 :])
        sizes = st.sampled_from([None, None, 0, 1, 3])
        fields = draw(st.lists(st.tuples(kinds, sizes), min_size=1, max_size=5))
        structs[name] = [(f"f{j}", kind, size) for j, (kind, size) in enumerate(fields)]
    parts = []
    for name, fields in structs.items():
        brackets = {None: "", 0: "[]"}
        body = "".join(f"{k}{brackets.get(s, f'[{s}]')} {n}\n" for n, k, s in fields)
        parts.append(body if name == "pkg/Root" else f"MSG: {name}\n{body}")
    return ("=" * 80 + "\n").join(parts), structs


def value_for(draw, structs, store, kind: str, size: int | None):
    """A random value of a field as rosbags takes it."""
    if size is None:
        return message_of(draw, structs, store, kind) if "/" in kind else draw(value_of(kind))
    count = draw(st.integers(0, 4)) if size == 0 else size
    values = [value_for(draw, structs, store, kind, None) for _ in range(count)]
    if "/" in kind or kind == "string":
        return values
    return np.array(values, dtype=kind)


def message_of(draw, structs, store, name: str):
    fields = {f: value_for(draw, structs, store, k, s) for f, k, s in structs[name]}
    return store.types[name.replace("/", "/msg/")](**fields)


@given(st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("serialisation", ["little", "big", "ros1"])
def test_random_messages_of_random_types_decode_as_rosbags_reads_them(serialisation, data):
    """Any definition, any values, either byte order, either generation: equal to rosbags."""
    text, structs = data.draw(definitions())
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(text, "pkg/msg/Root"))
    count = data.draw(st.sampled_from([1, 2, 5, 70]))
    drawn = [message_of(data.draw, structs, store, "pkg/Root") for _ in range(min(count, 5))]
    messages = [drawn[i % len(drawn)] for i in range(count)]
    if serialisation == "ros1":
        raw = [bytes(store.serialize_ros1(one, "pkg/msg/Root")) for one in messages]
        read = [store.deserialize_ros1(one, "pkg/msg/Root") for one in raw]
    else:
        little = serialisation == "little"
        raw = [
            bytes(store.serialize_cdr(one, "pkg/msg/Root", little_endian=little))
            for one in messages
        ]
        read = [store.deserialize_cdr(one, "pkg/msg/Root") for one in raw]
    encoding = "ros1msg" if serialisation == "ros1" else "ros2msg"
    decoded = ros_decoder(schema_of("pkg/msg/Root", text, encoding)).decode(batch_of(raw))
    assert not decoded.bad
    decoded.rows.validate(full=True)
    for row, message in zip(decoded.rows.to_pylist(), read, strict=True):
        assert_same(row, plain(message))


def test_every_ros_message_of_the_samples_equals_the_reference_decoders(samples):
    """All ROS messages of the real files: value by value as mcap-ros1/ros2-support has them."""
    from mcap_ros1.decoder import DecoderFactory as Ros1
    from mcap_ros2.decoder import DecoderFactory as Ros2

    compared = refused = 0
    for path in sorted(samples.glob("mcap/r*/*.mcap")):
        for schema, channel, messages in mcap_messages(path).values():
            if schema is None or not schema.encoding.startswith("ros"):
                continue
            factory = Ros1() if schema.encoding == "ros1msg" else Ros2()
            try:
                decoder = ros_decoder(schema_of(schema.name, schema.data, schema.encoding))
            except UnsupportedFormatError:
                refused += len(messages)
                continue
            read = factory.decoder_for(channel.message_encoding, schema)
            decoded = decoder.decode(batch_of([one.data for one in messages]))
            assert not decoded.bad, (path, channel.topic)
            for row, message in zip(decoded.rows.to_pylist(), messages, strict=True):
                assert_same(row, plain(read(message.data)), channel.topic)
                compared += 1
    assert (compared, refused) == (1205, 6)


def cdr(text: str, name: str, messages: list[dict]) -> list[bytes]:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(text, name))
    return [bytes(store.serialize_cdr(store.types[name](**one), name)) for one in messages]


NESTED = """uint8 flag
string name
pkg/Part[] parts
float64[] values
================================================================================
MSG: pkg/Part
string label
float64[3] xyz
string[] tags
"""


def nested_payloads() -> list[bytes]:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(NESTED, "pkg/msg/Nested"))
    part, nested = store.types["pkg/msg/Part"], store.types["pkg/msg/Nested"]
    made = []
    for i in range(6):
        parts = [part(f"p{j}", np.arange(3.0) + j, ["ä"] * (j % 3)) for j in range(i % 4)]
        message = nested(i, "n" * i, parts, np.arange(float(i)))
        made.append(bytes(store.serialize_cdr(message, "pkg/msg/Nested")))
    return made


@pytest.mark.parametrize("copies", [1, 40])
def test_a_message_cut_anywhere_is_bad_and_the_others_are_kept(copies):
    """Fault 18: whatever byte a payload ends at, it alone is bad, with a class, never a crash."""
    decoder = ros_decoder(schema_of("pkg/msg/Nested", NESTED))
    good = nested_payloads() * copies
    wanted = decoder.decode(batch_of(good)).rows
    for cut in range(len(good[5])):
        payloads = [*good[:5], good[5][:cut], *good[6:]]
        decoded = decoder.decode(batch_of(payloads))
        assert [one.message for one in decoded.bad] == [5]
        assert decoded.bad[0].error_class in ("SHORT_PAYLOAD", "BAD_LENGTH")
        assert decoded.index.tolist() == [i for i in range(len(good)) if i != 5]
        assert decoded.rows.equals(pa.concat_batches([wanted.slice(0, 5), wanted.slice(6)]))


def test_every_byte_changed_never_reads_outside_the_message():
    """Fault 18: any damage gives a row or a bad message; the messages beside it never change."""
    decoder = ros_decoder(schema_of("pkg/msg/Nested", NESTED))
    good = nested_payloads()
    wanted = decoder.decode(batch_of(good)).rows.to_pylist()
    for at in range(len(good[3])):
        for value in (0, 1, 0x7F, 0xFF):
            damaged = bytearray(good[3])
            damaged[at] = value
            decoded = decoder.decode(batch_of([*good[:3], bytes(damaged), *good[4:]]))
            rows = dict(zip(decoded.index.tolist(), decoded.rows.to_pylist(), strict=True))
            assert sorted([*rows, *(one.message for one in decoded.bad)]) == list(range(6))
            assert all(rows[i] == wanted[i] for i in (0, 1, 2, 4, 5))


def test_many_bad_messages_cost_no_more_than_two_walks_each():
    """A batch whose messages all fail at different fields still ends, with each one named."""
    decoder = ros_decoder(schema_of("pkg/msg/Nested", NESTED))
    good = nested_payloads()[5]
    payloads = [good[: len(good) - i % len(good)] for i in range(300)]
    decoded = decoder.decode(batch_of(payloads))
    whole = [i for i in range(300) if i % len(good) == 0]
    assert decoded.index.tolist() == whole
    assert [one.message for one in decoded.bad] == [i for i in range(300) if i not in whole]


def test_text_that_is_not_utf8_is_a_bad_message():
    """Fault 18: one bad string costs its message only."""
    text = "string a\n"
    payloads = cdr(text, "pkg/msg/T", [{"a": one} for one in ("ok", "ümlaut", "x" * 50)])
    payloads[1] = payloads[1].replace("ü".encode(), b"\xff\xfe")
    decoded = ros_decoder(schema_of("pkg/msg/T", text)).decode(batch_of(payloads))
    assert decoded.index.tolist() == [0, 2]
    assert [(one.message, one.error_class) for one in decoded.bad] == [(1, "BAD_UTF8")]


@given(st.lists(st.one_of(st.binary(max_size=12), TEXT.map(str.encode)), min_size=1, max_size=20))
@settings(max_examples=400, deadline=None)
def test_a_string_is_kept_if_and_only_if_python_can_decode_it(words):
    """Fault 18: every byte sequence that is no UTF-8 is bad, and every other one is a value."""
    decoder = ros_decoder(schema_of("pkg/T", "string a\n", "ros1msg"))
    decoded = decoder.decode(batch_of([len(w).to_bytes(4, "little") + w for w in words]))
    wanted = {i: w.decode() for i, w in enumerate(words) if _decodes(w, "utf-8")}
    assert dict(zip(decoded.index.tolist(), decoded.rows[0].to_pylist(), strict=True)) == wanted
    assert {one.error_class for one in decoded.bad} <= {"BAD_UTF8"}


UNITS = st.one_of(st.integers(0, 0xFFFF), st.integers(0xD700, 0xE0FF))


@given(st.lists(st.lists(UNITS, max_size=6), min_size=1, max_size=10))
@settings(max_examples=400, deadline=None)
def test_a_wide_string_is_kept_if_and_only_if_python_can_decode_it(words):
    """Lone halves of a pair are bad, everything else of UTF-16 becomes the same text."""
    decoder = ros_decoder(schema_of("pkg/msg/T", "wstring a\n"))
    raw = [np.array(word, "<u2").tobytes() for word in words]
    payloads = [
        b"\0\1\0\0" + len(word).to_bytes(4, "little") + data
        for word, data in zip(words, raw, strict=True)
    ]
    decoded = decoder.decode(batch_of(payloads))
    wanted = {i: r.decode("utf-16-le") for i, r in enumerate(raw) if _decodes(r, "utf-16-le")}
    assert dict(zip(decoded.index.tolist(), decoded.rows[0].to_pylist(), strict=True)) == wanted


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def test_both_byte_orders_in_one_channel_keep_their_order():
    """Each message is read by its own encapsulation header; unknown ones are bad."""
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg("float64 x\nuint16 y\n", "pkg/msg/T"))
    make = store.types["pkg/msg/T"]
    payloads = [
        bytes(store.serialize_cdr(make(i * 0.5, i), "pkg/msg/T", little_endian=i % 3 > 0))
        for i in range(10)
    ]
    payloads[4] = b"\x00\x03" + payloads[4][2:]
    payloads[7] = b"\x00"
    decoded = ros_decoder(schema_of("pkg/msg/T", "float64 x\nuint16 y\n")).decode(
        batch_of(payloads)
    )
    kept = [i for i in range(10) if i not in (4, 7)]
    assert decoded.index.tolist() == kept
    assert decoded.rows.to_pylist() == [{"x": i * 0.5, "y": i} for i in kept]
    assert [one.error_class for one in decoded.bad] == ["UNSUPPORTED_CDR", "SHORT_PAYLOAD"]


def test_a_pointer_names_the_bytes_of_its_field():
    """Pointer fields give where the bytes are in the payload, and take no memory of their own."""
    text = "string frame\nuint8[] data\nuint32 crc\n"
    frames = ["", "a", "camera"]
    messages = [
        {"frame": frame, "data": np.frombuffer(b"\x07" * i + b"end", np.uint8), "crc": i}
        for i, frame in enumerate(frames)
    ]
    batch = batch_of(cdr(text, "pkg/msg/T", messages))
    decoder = ros_decoder(schema_of("pkg/msg/T", text), pointer_fields=frozenset({"data"}))
    rows = decoder.decode(batch).rows.to_pylist()
    for i, row in enumerate(rows):
        start = int(batch.starts[i]) + row["data_offset"]
        assert batch.arena[start : start + row["data_length"]].tobytes() == b"\x07" * i + b"end"
        assert row["crc"] == i


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("order", ["little", "big"])
def test_wide_strings_of_either_width_are_read(width, order):
    """wstring: implementations write two or four bytes a character; the end tells which."""
    text = "wstring[] many\nuint8 last\n"
    codec = "utf-16-le" if order == "little" else "utf-16-be"
    dtype = "<u2" if order == "little" else ">u2"
    messages = [["", "abc", "höher 🚗"], [], ["x"] * 5]
    payloads = []
    for words in messages:
        body = bytearray(len(words).to_bytes(4, order))
        for word in words:
            units = np.frombuffer(word.encode(codec), dtype)
            body += bytes(-len(body) % 4) + len(units).to_bytes(4, order)
            body += units.astype(dtype[0] + f"u{width}").tobytes()
        payloads.append((b"\0\1\0\0" if order == "little" else bytes(4)) + bytes(body) + b"\7")
    payloads.append(payloads[0][:-9])
    decoded = ros_decoder(schema_of("pkg/msg/T", text)).decode(batch_of(payloads))
    assert decoded.rows.to_pylist() == [{"many": words, "last": 7} for words in messages]
    assert [one.message for one in decoded.bad] == [3]


def test_numbers_get_types_that_delta_and_spark_have():
    """No unsigned column, no nanosecond timestamp; values at the limits survive."""
    fields = [*RANGES, "bool", "float32", "float64"]
    text = "".join(f"{kind} v_{kind}\n" for kind in fields)
    limits = {f"v_{kind}": RANGES[kind][1] if kind in RANGES else 1 for kind in fields}
    decoder = ros_decoder(schema_of("pkg/msg/T", text))
    row = decoder.decode(batch_of(cdr(text, "pkg/msg/T", [limits]))).rows.to_pylist()[0]
    assert {name: int(value) for name, value in row.items()} == limits
    names = {str(field.type) for field in decoder.schema}
    assert not any(name.startswith(("uint", "timestamp")) for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "int64 a\n---\nint64 b\n",
        "pkg/Missing part\n",
        "T again\n",
        "not a field at all!\n",
        "int32 a\nint32 a\n",
        "float64[99999999999] big\n",
        "float64[1000000] a\nfloat64[1000000] b\n"
        + "".join(f"float64[1000000] c{i}\n" for i in range(9)),
    ],
)
def test_a_definition_that_does_not_parse_says_so(text):
    """Fault 16: an unusable definition is told apart, so that its messages are kept raw."""
    with pytest.raises(UnsupportedFormatError) as caught:
        ros_decoder(schema_of("pkg/msg/T", text))
    assert caught.value.code == "UNPARSABLE_DEFINITION"


def test_a_large_type_takes_no_memory_that_its_messages_do_not_fill():
    """Eight megabytes a message are claimed, a few bytes are there: bad messages, and no memory."""
    text = "float64[1000000] values\nuint8 last\n"
    decoder = ros_decoder(schema_of("pkg/msg/T", text))
    whole = b"\0\1\0\0" + bytes(8_000_000) + b"\7"
    payloads = [b"\0\1\0\0" + bytes(i % 90) for i in range(30_000)]
    decoded = decoder.decode(batch_of([*payloads, whole]))
    assert decoded.index.tolist() == [30_000]
    assert decoded.rows.column("last").to_pylist() == [7]
    assert {one.error_class for one in decoded.bad} == {"SHORT_PAYLOAD"}


def test_a_sequence_of_nothing_is_refused():
    """A ROS 1 message without fields takes no bytes: four bytes could claim any number of them."""
    text = "pkg/None[] many\n" + "=" * 80 + "\nMSG: pkg/None\n"
    with pytest.raises(UnsupportedFormatError):
        ros_decoder(schema_of("pkg/T", text, "ros1msg"))
    decoder = ros_decoder(schema_of("pkg/msg/T", text))
    payload = b"\0\1\0\0\2\0\0\0\0\0"
    (row,) = decoder.decode(batch_of([payload])).rows.to_pylist()
    assert row == {"many": [{"_empty": None}] * 2}


def test_exponential_nesting_is_refused_quickly():
    """A small hostile definition can't expand to more columns than a table may have."""
    line = "=" * 80 + "\n"
    parts = ["pkg/M0 a\npkg/M0 b\n"]
    parts += [f"MSG: pkg/M{i}\npkg/M{i + 1} a\npkg/M{i + 1} b\n" for i in range(30)]
    parts += ["MSG: pkg/M30\nint32 x\n"]
    with pytest.raises(UnsupportedFormatError):
        ros_decoder(schema_of("pkg/msg/T", line.join(parts)))


def test_comments_constants_defaults_and_bounds_are_understood():
    """The whole grammar of .msg files: only fields become columns."""
    text = (
        "# head\nint32 LIMIT=5 # five\nstring NAME = a # b\r\n"
        'string<=10 name "x # y"\nint32[<=3] few [1, 2]\nstring<=4[<=2] tags\n\n  float32 x 1.5\n'
    )
    root = parse_definition(text, name="pkg/msg/T")
    assert [name for name, _ in root.fields] == ["name", "few", "tags", "x"]


def test_nan_and_infinity_and_denormals_are_kept():
    """Fault 35: NaN never becomes null or 0."""
    values = [math.nan, math.inf, -math.inf, 5e-324, -0.0]
    payloads = cdr("float64 x\n", "pkg/msg/T", [{"x": one} for one in values])
    column = ros_decoder(schema_of("pkg/msg/T", "float64 x\n")).decode(batch_of(payloads)).rows[0]
    assert column.null_count == 0
    assert column.to_numpy().tobytes() == np.array(values).tobytes()


def test_no_messages_give_no_rows_of_the_right_type():
    """An empty batch has the schema of a full one."""
    decoder = ros_decoder(schema_of("pkg/msg/Nested", NESTED))
    decoded = decoder.decode(batch_of([]))
    assert decoded.rows.schema == decoder.schema
    assert decoded.rows.num_rows == len(decoded.index) == 0
