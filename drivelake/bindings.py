"""Which bus a definition that is named in a shell is of."""

from __future__ import annotations

import re

from contracts.errors import ContractViolation

_BUS = re.compile(r"(?:(can|lin):)?(\d+|\*|/.*)")


def binding_of(text: str) -> tuple[str, str]:
    """Binding of a bus definition, as in `DecodeContext`, and the place of its file.

    Args:
        text: `FILE`, for all CAN frames, or `BUS=FILE`. A bus is a number or a topic, of CAN unless
            it is `lin:1` or `lin:*`.

    Raises:
        ContractViolation: USAGE, it is neither.

    >>> binding_of("vehicle.dbc"), binding_of("1=can.dbc"), binding_of("lin:*=doors.dbc")
    (('can:*', 'vehicle.dbc'), ('can:1', 'can.dbc'), ('lin:*', 'doors.dbc'))
    """
    bus, separator, place = text.partition("=")
    if not separator:
        bus, place = "*", text
    found = _BUS.fullmatch(bus)
    if not place or not found:
        raise ContractViolation(f"--dbc takes FILE or BUS=FILE; got '{text}'", code="USAGE")
    return f"{found[1] or 'can'}:{found[2]}", place
