"""The gate: criteria in a file, measured values against them, and the alias that only it moves."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import pyarrow as pa

from contracts.errors import ContractViolation
from contracts.ids import canonical_json, sha256_hex
from ml import registry

DEFAULT_CRITERIA = Path(__file__).with_name("criteria.yaml")
Bound = Literal["value", "lower"]


@attrs.frozen
class Criterion:
    """One limit; exactly one of `at_least` and `at_most` is set.

    Attributes:
        subject: What is judged, e.g. `torch ap50 of class=car`.
        key: Where the value is looked up; a target such as `qnn_*` stands for each that matches.
        at_least: Least value that passes.
        at_most: Largest value that passes.
    """

    subject: str
    key: tuple[str, ...]
    at_least: float | None = None
    at_most: float | None = None

    def __attrs_post_init__(self) -> None:
        """One limit, not two, not none."""
        if (self.at_least is None) == (self.at_most is None):
            raise ContractViolation(f"criterion {self.subject} needs one of at_least and at_most")


@attrs.frozen
class Criteria:
    """A version of the criteria; `content_hash` covers every one of them."""

    version: int
    criteria: tuple[Criterion, ...]
    content_hash: str


@attrs.frozen
class Check:
    """A criterion and what was measured; None where nothing was."""

    subject: str
    measured: float | None
    limit: str
    passed: bool

    @property
    def reason(self) -> str:
        """One sentence a person can act on."""
        if self.measured is None:
            return f"{self.subject} was not measured; it must be {self.limit}"
        return f"{self.subject} is {self.measured:.4g}; it must be {self.limit}"


@attrs.frozen
class Verdict:
    """Every check of a judgement; passed when all of them are."""

    criteria_version: int
    criteria_hash: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed; never without a check."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass."""
        return tuple(check.reason for check in self.checks if not check.passed)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passed": self.passed,
            "criteria_version": self.criteria_version,
            "criteria_hash": self.criteria_hash,
            "checks": [attrs.asdict(check) for check in self.checks],
        }


@attrs.frozen
class Promotion:
    """What became of a version: the alias stands on `approved_version` (None: on nothing)."""

    promoted: bool
    approved_version: str | None
    reasons: tuple[str, ...]


def load_criteria(path: Path = DEFAULT_CRITERIA) -> Criteria:
    """Read criteria.

    Raises:
        ContractViolation: The file is no criteria file, or states no limit.
    """
    import yaml

    document = yaml.safe_load(path.read_text())
    try:
        criteria = (
            *(_criterion(line, "metric") for line in document.get("metrics", ())),
            *(_criterion(line, "parity") for line in document.get("parity", ())),
            *(_criterion(line, "size") for line in document.get("sizes", ())),
        )
        version = int(document["version"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ContractViolation(f"no criteria: {error!r}", uri=str(path)) from error
    if not criteria:
        raise ContractViolation("criteria without a limit would pass everything", uri=str(path))
    return Criteria(version, criteria, sha256_hex(canonical_json(document)))


def _criterion(line: Mapping[str, Any], kind: str) -> Criterion:
    known = {"target", "slice", "metric", "bound", "measure", "at_least", "at_most"}
    unknown = set(line) - known - {"at_most_bytes"}
    if unknown:
        raise ValueError(f"unknown words {sorted(unknown)}")
    target = line["target"]
    if kind == "metric":
        bound = line.get("bound", "value")
        if bound not in ("value", "lower"):
            raise ValueError(f"unknown bound {bound}")
        subject = f"{target} {line['metric']} of {line['slice']}"
        subject += " (lower end of 95 %)" if bound == "lower" else ""
        key: tuple[str, ...] = ("metric", target, line["slice"], line["metric"], bound)
    elif kind == "parity":
        subject, key = f"{target} {line['measure']}", ("parity", target, line["measure"])
    else:
        limit = float(line["at_most_bytes"])
        return Criterion(f"{target} size_bytes", ("size", target), at_most=limit)
    return Criterion(subject, key, at_least=line.get("at_least"), at_most=line.get("at_most"))


def judge(
    evaluations: pa.Table,
    parity: pa.Table,
    criteria: Criteria,
    *,
    sizes_bytes: Mapping[str, int] | None = None,
) -> Verdict:
    """Judge one model version.

    Args:
        evaluations: Rows of `gold.evaluations` of one model version.
        parity: Columns target, measure, value.
        criteria: The limits.
        sizes_bytes: Size of the binary by target.

    Raises:
        ContractViolation: Rows of several model versions, or two values for one criterion.
    """
    versions = set(
        zip(evaluations["model"].to_pylist(), evaluations["model_version"].to_pylist(), strict=True)
    )
    if len(versions) > 1:
        raise ContractViolation(f"evaluations of one model are needed, not of {sorted(versions)}")
    measured = _collected(evaluations.to_pylist(), parity.to_pylist(), sizes_bytes or {})
    targets = sorted({key[1] for key in measured})
    lines = [line for each in criteria.criteria for line in _by_target(each, targets)]
    checks = tuple(_check(line, measured.get(line.key)) for line in lines)
    return Verdict(criteria.version, criteria.content_hash, checks)


def _by_target(line: Criterion, targets: Sequence[str]) -> list[Criterion]:
    """The criterion for each target that its own stands for; itself where there is none."""
    kind, pattern, *rest = line.key
    return [
        attrs.evolve(
            line, subject=line.subject.replace(pattern, target, 1), key=(kind, target, *rest)
        )
        for target in fnmatch.filter(targets, pattern)
    ] or [line]


def _collected(
    evaluations: Iterable[Mapping[str, Any]],
    parity: Iterable[Mapping[str, Any]],
    sizes_bytes: Mapping[str, int],
) -> dict[tuple[str, ...], float | None]:
    entries: list[tuple[tuple[str, ...], float | None]] = []
    for row in evaluations:
        base = ("metric", row["target"], row["slice"], row["metric"])
        entries += [((*base, bound), row[bound]) for bound in ("value", "lower")]
    entries += [(("parity", row["target"], row["measure"]), row["value"]) for row in parity]
    entries += [(("size", target), float(size)) for target, size in sizes_bytes.items()]
    measured: dict[tuple[str, ...], float | None] = {}
    for key, value in entries:
        if key in measured and measured[key] != value:
            raise ContractViolation(f"two values for {' '.join(key)}: choose the dataset first")
        measured[key] = value
    return measured


def _check(line: Criterion, value: float | None) -> Check:
    if line.at_least is not None:
        limit, passed = f"at least {line.at_least:g}", value is not None and value >= line.at_least
    else:
        limit = f"at most {line.at_most:g}"
        passed = value is not None and line.at_most is not None and value <= line.at_most
    return Check(subject=line.subject, measured=value, limit=limit, passed=bool(passed))


def promote(verdict: Verdict, *, model_name: str, version: str, tracking_uri: str) -> Promotion:
    """Record the verdict with the version, and move the alias `approved` to it only if it passed.

    A version that fails leaves the alias where it stands.
    """
    client = registry.open_client(tracking_uri)
    reasons: Sequence[str] = verdict.reasons
    tags = {
        "drivelake.gate.passed": str(verdict.passed).lower(),
        "drivelake.gate.criteria_version": str(verdict.criteria_version),
        "drivelake.gate.criteria_hash": verdict.criteria_hash,
        "drivelake.gate.reasons": "; ".join(reasons)[:4000],
    }
    for name, value in tags.items():
        client.set_model_version_tag(model_name, version, name, value)
    if verdict.passed:
        registry.set_alias(client, model_name, alias=registry.APPROVED, version=version)
    approved = registry.version_of_alias(client, model_name, alias=registry.APPROVED)
    return Promotion(verdict.passed, approved, tuple(reasons))
