"""`sync.yaml`: how a fleet names its streams, and how far is too far, in a file of its own.

What a file leaves out is as in `SyncRules`. It may ask for closer tolerances than the contract of
`silver.frames`, never for wider ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import attrs

from contracts.errors import ContractViolation
from contracts.limits import SYNC_TOLERANCES, SyncTolerance
from udfs.sync.rules import AlignRule, Method, Quantity, SyncRules, signal_key

VERSION = 1
_NS_PER_S, _NS_PER_MS = 1e9, 1e6
_TABLES = {"camera", "lidar", "gnss", "pose", "gnss_time"}
_ALIGNED = ("lidar", "gnss", "pose")
_SCALARS = "scalars"
_METHODS: Mapping[str, tuple[Method, ...]] = {"lidar": ("nearest",)}
_CLOCKS: Mapping[str, tuple[str, float, float, float]] = {
    "max_offset_s": ("max_offset_ns", 0.0, 3_600.0, _NS_PER_S),
    "min_overlap_s": ("min_overlap_ns", 1.0, 3_600.0, _NS_PER_S),
    "max_latency_s": ("max_latency_ns", 0.0, 60.0, _NS_PER_S),
    "min_correlation": ("min_correlation", 0.0, 1.0, 1.0),
    "max_ambiguity": ("max_ambiguity", 0.0, 1.0, 1.0),
    "max_drift_ppm": ("max_drift_ppm", 0.0, 1_000.0, 1.0),
}
"""Key of the file: (attribute, least, most, factor)."""


def rules_from_text(text: str, *, uri: str) -> SyncRules:
    """Read the rules of a fleet.

    Args:
        text: YAML, as deploy/sync.yaml, which spells the defaults out.
        uri: What to call it where something is wrong.

    Raises:
        ContractViolation: SYNC_RULES, with the place in the file, what stands there and what may.
    """
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise ContractViolation(
            f"no YAML: {line}{getattr(error, 'problem', error)}", code="SYNC_RULES", uri=uri
        ) from error
    root = _Node(document if document is not None else {}, "", uri)
    root.only("version", "clocks", "streams", "quantities")
    if root.get("version") != VERSION:
        root.wrong("version", f"{VERSION} is what this release reads")
    rules = SyncRules()
    streams = root.node("streams").only(*_TABLES, _SCALARS)
    quantities = root.node("quantities")
    quantities.only(*(each.name for each in rules.quantities))
    return attrs.evolve(
        rules,
        **_clock_limits(root.node("clocks").only(*_CLOCKS)),
        **_tables(streams),
        align={
            name: _align_rule(streams.node(name), rules.align[name], tolerance=name)
            for name in _ALIGNED
        },
        quantity_align=_align_rule(
            streams.node(_SCALARS), rules.quantity_align, tolerance="speed", has_table=False
        ),
        quantities=tuple(_quantity(quantities.node(each.name), each) for each in rules.quantities),
    )


class _Node:
    """A mapping of the file that knows where it stands."""

    def __init__(self, value: object, path: str, uri: str) -> None:
        self._path, self._uri = path, uri
        self._value: Mapping[object, object] = {}
        if not isinstance(value, Mapping):
            self.wrong("", "a mapping belongs here", value=value)
        self._value = value

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def get(self, key: str) -> object:
        return self._value.get(key)

    def only(self, *known: str) -> _Node:
        for key in self._value:
            if key not in known:
                self.wrong(str(key), f"known are {', '.join(sorted(known))}", value=None)
        return self

    def node(self, key: str) -> _Node:
        return _Node(self._value.get(key, {}), self._at(key), self._uri)

    def text(self, key: str) -> str:
        value = self._value[key]
        if not isinstance(value, str) or not value:
            self.wrong(key, "a name belongs here", value=value)
        return value

    def texts(self, key: str) -> Sequence[str]:
        values = self._value[key]
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            self.wrong(key, "a list of names belongs here", value=values)
        return values

    def number(self, key: str, *, least: float, most: float) -> float:
        value = self._value[key]
        hint = f"a number from {least:g} to {most:g} belongs here"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.wrong(key, hint, value=value)
        if not least <= value <= most:
            self.wrong(key, hint, value=value)
        return float(value)

    def wrong(self, key: str, hint: str, *, value: object = ...) -> NoReturn:
        """Say what is wrong at a key of this mapping.

        Raises:
            ContractViolation: Always.
        """
        found = self._value.get(key) if value is ... else value
        what = f"{self._at(key) or 'the file'}: {hint}"
        if found is not None:
            what += f"; got {found!r}"
        raise ContractViolation(what, code="SYNC_RULES", uri=self._uri)

    def _at(self, key: str) -> str:
        return ".".join(part for part in (self._path, key) if part)


def _tables(streams: _Node) -> dict[str, Any]:
    return {
        f"{name}_table": streams.node(name).text("table")
        for name in sorted(_TABLES)
        if "table" in streams.node(name)
    }


def _clock_limits(node: _Node) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for key, (attribute, least, most, factor) in _CLOCKS.items():
        if key in node:
            value = node.number(key, least=least, most=most) * factor
            limits[attribute] = round(value) if attribute.endswith("_ns") else value
    return limits


def _align_rule(
    node: _Node, default: AlignRule, *, tolerance: str, has_table: bool = True
) -> AlignRule:
    known = {"table"} if has_table else set()
    node.only(*known, "rule", "max_error_ms", "max_gap_ms", "unique", "period")
    allowed: SyncTolerance = SYNC_TOLERANCES[tolerance]
    changes: dict[str, Any] = {}
    if "rule" in node:
        methods = _METHODS.get(tolerance, ("nearest", "linear"))
        if node.get("rule") not in methods:
            node.wrong("rule", f"one of {', '.join(methods)} belongs here")
        changes["method"] = node.get("rule")
    for key, most in (("max_error_ms", allowed.max_error_ns), ("max_gap_ms", allowed.max_gap_ns)):
        if key in node:
            value = node.number(key, least=0.0, most=most / _NS_PER_MS)
            changes[key.replace("_ms", "_ns")] = round(value * _NS_PER_MS)
    if "unique" in node:
        if not isinstance(node.get("unique"), bool):
            node.wrong("unique", "true or false belongs here")
        changes["unique"] = node.get("unique")
    if "period" in node:
        periods = node.node("period")
        periods.only(*default.period)
        changes["period"] = {
            name: periods.number(name, least=1e-9, most=1e9) if name in periods else period
            for name, period in default.period.items()
        }
    return attrs.evolve(default, **changes)


def _quantity(node: _Node, default: Quantity) -> Quantity:
    node.only("columns", "signals", "prefer")
    changes: dict[str, Any] = {}
    if "columns" in node:
        changes["columns"] = tuple(_column(node, each) for each in node.texts("columns"))
    if "signals" in node:
        changes["signals"] = frozenset(signal_key(each) for each in node.texts("signals"))
    if "prefer" in node:
        changes["prefer"] = tuple(node.texts("prefer"))
    return attrs.evolve(default, **changes)


def _column(node: _Node, name: str) -> tuple[str, str]:
    table, dot, column = name.partition(".")
    if not (table and dot and column):
        node.wrong("columns", "table.column belongs here", value=name)
    return table, column
