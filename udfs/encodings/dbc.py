"""Bus definitions (DBC, ARXML, KCD): parsed by cantools, checked, laid out for decode by columns.

Source: Vector DBC file format; AUTOSAR system template; KCD schema; SAE J1939-21 for parameter
group numbers.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

import attrs
import numpy as np

from contracts.errors import DecodeError
from contracts.ids import sha256_hex
from contracts.recording import Finding

if TYPE_CHECKING:
    from cantools.database.can import Database, Message, Signal

Form = Literal["dbc", "arxml", "kcd"]

EXTENDED = 1 << 32
"""Added to a 29-bit id to make a key, so that it never equals an 11-bit one."""
_NO_SELECTOR = "a multiplexer that is not defined"
_MESSAGE = re.compile(r"^[ \t]*BO_[ \t]+(\d+)", re.MULTILINE)
_SIGNAL = re.compile(r"^[ \t]*SG_[ \t]+(\w+)[ \t]+(m\d+M?|M)[ \t]*:", re.MULTILINE)
_EXTENDED_SELECTION = re.compile(r"^[ \t]*SG_MUL_VAL_[ \t]+(\d+)[ \t]+(\w+)", re.MULTILINE)
_HEAD_BYTES = 64 << 10
_MALFORMED = (ET.ParseError, AttributeError, KeyError, IndexError, TypeError, ValueError)
"""What cantools lets through of an XML document that is none, or not one of its kind."""
_NO_MESSAGE = 0xC0000000  # VECTOR__INDEPENDENT_SIG_MSG holds signals that no frame carries
_LEAST_ROUNDING, _MOST_ROUNDING = 1e-3, 0.499
"""Of the step between two values: what arithmetic takes, and what still tells them apart."""
_PGN_MASK_PDU1 = 0x3FF0000
_PGN_MASK_PDU2 = 0x3FFFF00


@attrs.frozen
class SignalDefinition:
    """A signal of a message: where its bits are and what they mean.

    Attributes:
        byte_offset: First byte that holds any of its bits.
        bit_offset: Bits below it, in the first byte, or in the last if big-endian.
        last_byte: Last byte that holds any of its bits.
        choices: Text by raw value.
        selector: Name of the multiplexing signal it depends on; empty if it is always there.
        selected_by: Raw values of the selector with which it is there.
        range: Lowest and highest physical value, as far as rounding takes them; None where none is
            stated.
    """

    name: str
    byte_offset: int
    bit_offset: int
    bit_count: int
    last_byte: int
    is_big_endian: bool
    is_signed: bool
    is_float: bool
    scale: float
    offset: float
    unit: str
    choices: Mapping[int, str]
    selector: str = ""
    selected_by: tuple[int, ...] = ()
    range: tuple[float, float] | None = None


@attrs.frozen(eq=False)
class MessageDefinition:
    """A message; its signals stand behind the multiplexers they depend on.

    It is itself alone, so that what is made of it once can be kept by it.
    """

    name: str
    can_id: int
    is_extended: bool
    length: int
    signals: tuple[SignalDefinition, ...]


@attrs.frozen
class BusDefinition:
    """A parsed definition.

    Attributes:
        hash: SHA-256 of its bytes.
        messages: By id, `EXTENDED` added to 29-bit ones.
        groups: J1939 messages by parameter group number, which any source address may send.
        findings: Overlaps, duplicate ids, missing multiplexers: it decodes, but is not sound.
    """

    hash: str
    messages: Mapping[int, MessageDefinition]
    groups: Mapping[int, MessageDefinition]
    findings: tuple[Finding, ...] = ()

    def message_for(self, can_id: int, *, is_extended: bool) -> MessageDefinition | None:
        """The message that a frame of this id carries; None if the definition has none."""
        found = self.messages.get(can_id + EXTENDED * is_extended)
        if found is None and is_extended and self.groups:
            found = self.groups.get(parameter_group(can_id))
        return found


def parameter_group(can_id: int) -> int:
    """J1939 parameter group bits of a 29-bit id: no priority, no addresses."""
    is_addressed = (can_id >> 16) & 0xFF < 240
    return can_id & (_PGN_MASK_PDU1 if is_addressed else _PGN_MASK_PDU2)


@functools.lru_cache(maxsize=64)
def parse_definition(data: bytes) -> BusDefinition:
    """Parse a bus definition, told by its content; the same bytes are parsed once.

    Raises:
        DecodeError: BAD_DEFINITION, it is no DBC, ARXML or KCD.
    """
    head = data[:_HEAD_BYTES]
    if b"<AUTOSAR" in head:
        return _parsed(data, "arxml")
    if b"<NetworkDefinition" in head:
        return _parsed(data, "kcd")
    return parse_dbc(data)


@functools.lru_cache(maxsize=64)
def parse_dbc(data: bytes) -> BusDefinition:
    """Parse a DBC file; the same bytes are parsed once.

    Raises:
        DecodeError: BAD_DEFINITION, it is no DBC.
    """
    return _parsed(data, "dbc")


def _parsed(data: bytes, form: Form) -> BusDefinition:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    findings: list[Finding] = []
    database = _loaded(text, form, findings)
    unselected = _unselected(text) if form == "dbc" else {}
    messages: dict[int, MessageDefinition] = {}
    groups: dict[int, MessageDefinition] = {}
    for message in database.messages:
        if message.frame_id == _NO_MESSAGE & 0x1FFFFFFF and "INDEPENDENT" in message.name:
            continue
        if message.is_container:
            what = f"{message.name} holds other messages: its frames stay raw"
            findings.append(Finding("CONTAINER_MESSAGE", what))
            continue
        key_in_text = message.frame_id | message.is_extended_frame << 31
        made = _message(message, unselected.get(key_in_text, frozenset()), form)
        key = made.can_id + EXTENDED * made.is_extended
        if key in messages:
            what = f"messages {messages[key].name} and {made.name} share the id {made.can_id:#x}"
            findings.append(Finding("DUPLICATE_ID", what))
            continue
        messages[key] = made
        if message.protocol == "j1939":
            groups.setdefault(parameter_group(made.can_id), made)
        findings += _missing_selectors(made)
    return BusDefinition(sha256_hex(data), messages, groups, tuple(findings))


def _loaded(text: str, form: Form, findings: list[Finding]) -> Database:
    """Parse strictly, and if that fails without the checks of signal layout."""
    from cantools.database.errors import Error

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is doubtful is found and said below
        try:
            return _database(text, form, strict=True)
        except (Error, *_MALFORMED) as error:
            doubt = str(error)
        try:
            database = _database(text, form, strict=False)
        except (Error, *_MALFORMED) as error:
            raise DecodeError(str(error), code="BAD_DEFINITION") from error
    findings.append(Finding("UNSOUND_LAYOUT", doubt))
    return database


def _database(text: str, form: Form, *, strict: bool) -> Database:
    from cantools.database import load_string
    from cantools.database.can import Database

    database = load_string(text, form, strict=strict)
    assert isinstance(database, Database)
    return database


def _unselected(text: str) -> dict[int, frozenset[str]]:
    """By message id as written, its multiplexed signals if it has no multiplexer.

    cantools takes them for signals that are always there.
    """
    found = {}
    selected = set(_EXTENDED_SELECTION.findall(text))
    parts = _MESSAGE.split(text)
    for number, block in zip(parts[1::2], parts[2::2], strict=True):
        roles = dict(_SIGNAL.findall(block))
        if "M" not in roles.values():
            found[int(number)] = frozenset(name for name in roles if (number, name) not in selected)
    return found


def _message(message: Message, unselected: Collection[str], form: Form) -> MessageDefinition:
    signals = {signal.name: _signal(signal, form) for signal in message.signals}
    for name in signals.keys() & set(unselected):
        signals[name] = attrs.evolve(signals[name], selector=_NO_SELECTOR)
    return MessageDefinition(
        name=message.name,
        can_id=message.frame_id,
        is_extended=message.is_extended_frame,
        length=message.length,
        signals=tuple(sorted(signals.values(), key=lambda s: _depth(s, signals))),
    )


def _depth(signal: SignalDefinition, signals: Mapping[str, SignalDefinition]) -> int:
    """How many multiplexers stand above a signal."""
    depth = 0
    while signal.selector in signals and depth < len(signals):
        signal, depth = signals[signal.selector], depth + 1
    return depth


def _signal(signal: Signal, form: Form) -> SignalDefinition:
    start, length = signal.start, signal.length
    if signal.byte_order == "big_endian":
        first = (
            start // 8 * 8 + 7 - start % 8
        )  # position of the highest bit, most significant first
        last = first + length - 1
        bit_offset = 7 - last % 8
    else:
        first, last = start, start + length - 1
        bit_offset = start % 8
    choices = {int(raw): str(text) for raw, text in (signal.choices or {}).items()}
    return SignalDefinition(
        name=signal.name,
        byte_offset=first // 8,
        bit_offset=bit_offset,
        bit_count=length,
        last_byte=last // 8,
        is_big_endian=signal.byte_order == "big_endian",
        is_signed=signal.is_signed,
        is_float=signal.is_float,
        scale=float(signal.scale),
        offset=float(signal.offset),
        unit=signal.unit or "",
        choices=choices,
        selector=signal.multiplexer_signal or "",
        selected_by=tuple(signal.multiplexer_ids or ()),
        range=_range_of(signal, form),
    )


def _range_of(signal: Signal, form: Form) -> tuple[float, float] | None:
    """The stated range of physical values, a missing end being open; 0 to 0 states none.

    DBC and KCD state physical limits. ARXML states raw ones, which cantools puts through the rule
    one by one: where values fall as raw ones rise, its lowest is the highest.
    """
    low, high = signal.minimum, signal.maximum
    if form == "arxml" and signal.scale < 0:
        low, high = high, low
    if low is None and high is None:
        return None
    ends = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if not ends[0] < ends[1]:
        return None
    return ends[0] - _rounding(ends[0], signal), ends[1] + _rounding(ends[1], signal)


def _rounding(end: float, signal: Signal) -> float:
    """How far beyond an end a value may be that is the end itself, but for rounding.

    That of the digits that the end is written with (250.996 km/h stands for 64,255 / 256), and of
    the value itself (3 times 0.1 is more than 0.3); never as far as the next value.
    """
    step = abs(float(signal.scale))
    if math.isinf(end) or not step:
        return 0.0
    if signal.is_float and signal.length in (16, 32, 64):
        kind = np.dtype(f"f{signal.length // 8}")
        raw = min(abs((end - float(signal.offset)) / step), float(np.finfo(kind).max))
        step *= float(np.spacing(np.array(raw, kind)))
    exponent = Decimal(repr(end)).as_tuple().exponent
    assert isinstance(exponent, int)
    return min(max(10.0**exponent / 2, step * _LEAST_ROUNDING), step * _MOST_ROUNDING)


def _missing_selectors(message: MessageDefinition) -> Sequence[Finding]:
    names = {signal.name for signal in message.signals}
    return [
        Finding("MISSING_MULTIPLEXER", f"{message.name}.{s.name} depends on {s.selector}")
        for s in message.signals
        if s.selector and s.selector not in names
    ]
