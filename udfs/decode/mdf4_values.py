"""From records to samples: raw values of a channel, then its conversion, all rows at once.

A sample is a number or a text, or neither where it is invalid. Conversions are computed in double
precision, as the standard has it.

Source: ASAM MDF 4.1, clauses 4.16 (channels) and 4.17 (conversions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import UnsupportedFormatError
from contracts.recording import Int64Array
from udfs.decode.mdf4_formula import formula
from udfs.decode.mdf4_records import Records, Variable
from udfs.decode.mdf4_types import (
    CN_ALL_INVALID,
    CN_HAS_INVALID_BIT,
    CN_MLSD,
    CN_VIRTUAL,
    CN_VIRTUAL_MASTER,
    CN_VLSD,
    ChannelGroup,
    Conversion,
    MdfChannel,
)
from udfs.encodings.bits import floats, integers
from udfs.encodings.columns import gather_bytes
from udfs.encodings.samples import Mask, Samples, always, no_text

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.uint64] | npt.NDArray[np.float64]

_EXACT_IN_DOUBLE = 1 << 53
_CODECS = {6: "latin-1", 7: "utf-8", 8: "utf-16-le", 9: "utf-16-be"}
_IDENTITY = Conversion(0)


def samples_of(
    group: ChannelGroup,
    channel: MdfChannel,
    records: Records,
    *,
    variable: Callable[[MdfChannel, Int64Array], Variable],
    element: int = 0,
    plain: Samples | None = None,
) -> Samples:
    """Samples of a channel, or of one element of a channel array.

    Args:
        group: Its group.
        channel: A channel without parts.
        records: Records of the group.
        variable: Reads variable-length values at the offsets that the records hold.
        element: Which element of the array, row-major; 0 for a channel that is none.
        plain: Its samples without regard to marks, where they are read already.
    """
    offset, bit = element_place(channel, element)
    if plain is not None:
        samples = plain
    elif channel.kind == CN_VLSD or channel.data_type in (6, 7, 8, 9, 10, 11, 12, 13, 14):
        blobs = blobs_of(group, channel, records, variable=variable, offset=offset)
        samples = _text_conversion(_texts(channel, blobs), channel.conversion)
    else:
        samples = convert(numbers_of(channel, records, offset=offset), channel.conversion)
    invalid = invalid_samples(group, channel, records, bit=bit)
    return samples if invalid is None else samples.without(invalid)


def element_place(channel: MdfChannel, element: int) -> tuple[int, int]:
    """Byte offset and invalidation bit of an element of a channel array, counted row-major."""
    shape = channel.array
    if shape is None:
        return channel.byte_offset, channel.invalid_bit
    if shape.is_column_major:
        indexes = np.unravel_index(element, shape.dimensions)
        element = int(np.ravel_multi_index(indexes[::-1], shape.dimensions[::-1]))
    offset = channel.byte_offset + element * shape.stride_bytes
    return offset, channel.invalid_bit + element * shape.invalid_bit_stride


def invalid_samples(
    group: ChannelGroup, channel: MdfChannel, records: Records, *, bit: int
) -> Mask | None:
    """(N,) bool, which samples their record marks as invalid; None where it has no marks."""
    rows = len(records.ordinal)
    has_bit = bool(channel.flags & CN_HAS_INVALID_BIT) and group.invalid_bytes > 0
    if channel.flags & CN_ALL_INVALID or (has_bit and bit // 8 >= group.invalid_bytes):
        return np.ones(rows, bool)  # a mark that is not in the record can't say that they are valid
    if not has_bit:
        return None
    column = records.matrix[:, group.data_bytes + bit // 8]
    return (column >> np.uint8(bit % 8)) & 1 != 0


def numbers_of(channel: MdfChannel, records: Records, *, offset: int | None = None) -> Numbers:
    """Raw numbers of a channel: int64, uint64 or float64."""
    if channel.kind in (CN_VIRTUAL, CN_VIRTUAL_MASTER):
        return records.ordinal
    at = channel.byte_offset if offset is None else offset
    kind = channel.data_type
    if kind in (4, 5):
        return floats(
            records.matrix, byte_offset=at, bit_count=channel.bit_count, is_big_endian=kind == 5
        )
    return integers(
        records.matrix,
        byte_offset=at,
        bit_offset=channel.bit_offset,
        bit_count=channel.bit_count,
        is_signed=kind in (2, 3),
        is_big_endian=kind in (1, 3),
    )


def blobs_of(
    group: ChannelGroup,
    channel: MdfChannel,
    records: Records,
    *,
    variable: Callable[[MdfChannel, Int64Array], Variable],
    offset: int | None = None,
) -> Variable:
    """Bytes of a string or byte array channel."""
    at = channel.byte_offset if offset is None else offset
    if channel.kind == CN_VLSD:
        offsets = integers(
            records.matrix,
            byte_offset=at,
            bit_offset=0,
            bit_count=channel.bit_count,
            is_signed=False,
            is_big_endian=False,
        )
        return variable(channel, offsets.astype(np.int64))
    rows, stride = records.matrix.shape
    width = channel.bit_count // 8
    if offset is None and channel.array is not None:
        width = channel.array.stride_bytes * math.prod(channel.array.dimensions)
    arena = np.ascontiguousarray(records.matrix).reshape(-1)
    lengths = np.full(rows, width, np.int64)
    if channel.kind == CN_MLSD:
        size = find_channel(group.channels, channel.data_link)
        if size is not None:
            lengths = np.minimum(numbers_of(size, records).astype(np.int64), width)
    return Variable(arena, np.arange(rows, dtype=np.int64) * stride + at, lengths)


def find_channel(channels: Sequence[MdfChannel], address: int) -> MdfChannel | None:
    """The channel at an address, searched through structures too."""
    for channel in channels:
        if channel.address == address:
            return channel
        inner = find_channel(channel.parts, address)
        if inner is not None:
            return inner
    return None


def _texts(channel: MdfChannel, blobs: Variable) -> Samples:
    """Texts of a string channel; the hex digits of any other bytes."""
    codec = _CODECS.get(channel.data_type)
    there = blobs.starts >= 0
    starts, lengths = blobs.starts, blobs.lengths
    if not there.all():
        starts, lengths = starts[there], lengths[there]
    column = gather_bytes(blobs.arena, starts, lengths).dictionary_encode()
    codes = np.full(len(there), -1, np.int64)
    codes[there] = column.indices.to_numpy()
    return Samples(
        value=np.zeros(len(codes)),
        is_value=np.zeros(len(codes), bool),
        text=codes,
        texts=tuple(_text(raw, codec) for raw in column.dictionary.to_pylist()),
    )


def _text(raw: bytes, codec: str | None) -> str:
    if codec is None:
        return raw.hex()
    if codec.startswith("utf-16"):
        return raw[: len(raw) // 2 * 2].decode(codec, "replace").split("\0", 1)[0]
    return raw.split(b"\0", 1)[0].decode(codec, "replace")


def _text_conversion(samples: Samples, conversion: Conversion | None) -> Samples:
    """Text to value (9) and text to text (10), looked up once for each text that occurs."""
    if conversion is None or conversion.kind not in (9, 10):
        return samples
    refs = conversion.refs
    if conversion.kind == 10:
        table = {refs[i]: refs[i + 1] for i in range(0, len(refs) - 1, 2)}
        default = refs[-1] if len(refs) % 2 else None
        texts = tuple(
            str(found) if (found := table.get(text, default)) is not None else text
            for text in samples.texts
        )
        return attrs.evolve(samples, texts=texts)
    numbers = dict(zip(refs, conversion.values, strict=False))
    fallback = conversion.values[len(refs)] if len(conversion.values) > len(refs) else np.nan
    by_code = np.array([numbers.get(text, fallback) for text in samples.texts] or [0.0])
    there = samples.text >= 0
    value = np.where(there, by_code[samples.text], 0.0)
    return attrs.evolve(samples, value=value, is_value=there & ~np.isnan(value))


def convert(raw: Numbers, conversion: Conversion | None) -> Samples:
    """Physical values, or texts, of raw numbers; what overflows is infinite."""
    conversion = conversion or _IDENTITY
    with np.errstate(all="ignore"):
        rule = _to_text if conversion.kind in (7, 8, 11) else _numeric
        samples = rule(raw, conversion)
    if conversion.kind == 0:
        return _with_exact_texts(samples, raw)
    return attrs.evolve(samples, raw=raw.astype(np.float64, copy=False))


def _numeric(raw: Numbers, conversion: Conversion) -> Samples:
    x = raw.astype(np.float64, copy=False)
    none = no_text(len(x))
    try:
        value = _number_rule(conversion)(x, raw.dtype.kind == "f")
    except UnsupportedFormatError:
        return Samples(x, np.zeros(len(x), bool), none)  # the raw value stands beside; see the plan
    is_value = always(len(x))
    if conversion.kind == 6 and len(conversion.values) % 3 == 0:
        is_value = ~np.isnan(value)  # no default: a raw value outside all ranges has no number
    return Samples(value, is_value, none)


def _with_exact_texts(samples: Samples, raw: Numbers) -> Samples:
    """Digits as text for integers that a double can't hold, so that none is lost."""
    if raw.dtype.kind == "f" or not len(raw):
        return samples
    large = raw > _EXACT_IN_DOUBLE if raw.dtype.kind == "u" else np.abs(raw) > _EXACT_IN_DOUBLE
    if not large.any():
        return samples
    unique, codes = np.unique(raw[large], return_inverse=True)
    text = np.full(len(raw), -1, np.int64)
    text[large] = codes
    return attrs.evolve(samples, text=text, texts=tuple(str(number) for number in unique.tolist()))


Rule = Callable[[npt.NDArray[np.float64], bool], npt.NDArray[np.float64]]


def _number_rule(conversion: Conversion) -> Rule:
    """Function of (raw as float64, whether it was a float) for the rules that give numbers."""
    v = np.array(conversion.values)
    match conversion.kind:
        case 1:
            return lambda x, _: _linear(x, v[1], v[0])
        case 2:
            return lambda x, _: _rational(x, v)
        case 3:
            text = conversion.refs[0] if conversion.refs else None
            compute = formula(text if isinstance(text, str) else "")
            return lambda x, _: compute(x)
        case 4:
            return lambda x, _: np.interp(x, v[0::2], v[1::2])
        case 5:
            return lambda x, _: _nearest(x, v[0::2], v[1::2])
        case 6:
            return lambda x, is_float: _ranges(x, v, is_float=is_float)
        case 0:
            return lambda x, _: x
        case _:
            what = f"conversion of type {conversion.kind}"
            raise UnsupportedFormatError(what, code="UNSUPPORTED_CONVERSION")


def _linear(x: npt.NDArray[np.float64], factor: float, offset: float) -> npt.NDArray[np.float64]:
    value = x * factor
    return np.add(value, offset, out=value) if offset else value


def _rational(x: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray((v[0] * x * x + v[1] * x + v[2]) / (v[3] * x * x + v[4] * x + v[5]))


def _nearest(
    x: npt.NDArray[np.float64], keys: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Value at the nearest key; the smaller key where two are equally near."""
    above = np.minimum(np.searchsorted(keys, x), len(keys) - 1)
    below = np.maximum(above - 1, 0)
    return np.where(
        np.abs(x - keys[above]) >= np.abs(x - keys[below]), values[below], values[above]
    )


def _range_of(
    x: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    *,
    is_float: bool,
) -> Int64Array:
    """(N,) which range holds each value, -1 for none: closed for integers, half-open for floats.

    A range of one float value is that value, else nothing could be in it.
    """
    found = np.full(len(x), -1, np.int64)
    for i in range(len(low) - 1, -1, -1):
        inside = (x >= low[i]) & ((x < high[i]) if is_float else (x <= high[i]))
        if low[i] == high[i]:
            inside = x == low[i]
        found[inside] = i
    return found


def _ranges(
    x: npt.NDArray[np.float64], v: npt.NDArray[np.float64], *, is_float: bool
) -> npt.NDArray[np.float64]:
    count = len(v) // 3
    low, high, values = v[0 : 3 * count : 3], v[1 : 3 * count : 3], v[2 : 3 * count : 3]
    default = v[3 * count] if len(v) > 3 * count else np.nan
    found = _range_of(x, low, high, is_float=is_float)
    return np.where(found >= 0, values[found], default)


def _to_text(raw: Numbers, conversion: Conversion) -> Samples:
    """Value to text (7), range to text (8), bit field to text (11); a text may be a rule again."""
    if conversion.kind == 11:
        return _bit_field(raw, conversion)
    refs = conversion.refs
    x = raw.astype(np.float64)
    v = np.array(conversion.values)
    if conversion.kind == 7:
        order = np.argsort(v[: len(refs) - 1], kind="stable")
        keys = v[order]
        at = np.minimum(np.searchsorted(keys, x), max(len(keys) - 1, 0))
        chosen = np.where(keys[at] == x, order[at], -1) if len(keys) else np.full(len(x), -1)
    else:
        chosen = _range_of(x, v[0::2], v[1::2], is_float=raw.dtype.kind == "f")
    samples = Samples(x.copy(), np.zeros(len(x), bool), np.full(len(x), -1, np.int64))
    for index in np.unique(chosen).tolist():
        samples = _fill(samples, raw, chosen == index, refs[index] if refs else None)
    return samples


def _fill(samples: Samples, raw: Numbers, rows: Mask, ref: str | Conversion | None) -> Samples:
    """Set the chosen rows to a text, to what another rule gives, or to the raw number."""
    if isinstance(ref, str):
        part = Samples(np.zeros(int(rows.sum())), np.zeros(1, bool), np.zeros(1, np.int64), (ref,))
    else:
        part = convert(raw[rows], ref)
    value, is_value, text = samples.value, samples.is_value.copy(), samples.text.copy()
    value[rows] = part.value
    is_value[rows] = part.is_value
    text[rows] = np.where(part.text >= 0, part.text + len(samples.texts), -1)
    return Samples(value, is_value, text, samples.texts + part.texts)


def _bit_field(raw: Numbers, conversion: Conversion) -> Samples:
    """The texts of all fields, joined by `|`, as tools show them."""
    masks = [int(mask) for mask in conversion.values]
    unique, codes = np.unique(raw, return_inverse=True)
    texts = []
    for number in unique.tolist():
        words = []
        for mask, ref in zip(masks, conversion.refs, strict=False):
            if isinstance(ref, Conversion):
                part = convert(np.array([int(number) & mask]), ref)
                words += [part.texts[code] for code in part.text.tolist() if code >= 0]
        texts.append("|".join(word for word in words if word))
    return Samples(np.zeros(len(raw)), np.zeros(len(raw), bool), codes, tuple(texts))
