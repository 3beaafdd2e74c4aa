"""The conservation law of decode: every message a recording declares is written, bad or lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from contracts.errors import ContractViolation
from contracts.limits import LIMITS
from contracts.recording import RecordingIndex
from spark_jobs.ingest_decode import Counts


@attrs.frozen
class Balance:
    """What became of a recording.

    Attributes:
        outcome: ACCEPTED or PARTIAL.
        declared: Messages that the file declares, None if it does not.
        written: Messages in silver.
        bad: Messages in `bronze.bad_messages`.
        lost: Messages lost; None if unknown how many.
        reason_code: Of a PARTIAL one.
        reason: The same in words, and what flags are about that need words.
        fault_offset: Byte of its first loss, if known.
        flags: Findings that lost nothing, sorted.
    """

    outcome: str
    declared: int | None
    written: int
    bad: int
    lost: int | None
    reason_code: str = ""
    reason: str = ""
    fault_offset: int | None = None
    flags: tuple[str, ...] = ()

    def flagged(self, code: str, words: Sequence[str]) -> Balance:
        """The same with a flag that lost nothing, and what it is about."""
        if not words:
            return self
        told = _in_words(filter(None, [self.reason, f"{code}: {'; '.join(words)}"]))
        return attrs.evolve(self, flags=tuple(sorted({*self.flags, code})), reason=told)


def balance_of(index: RecordingIndex, counts: Counts) -> Balance:
    """Settle a recording.

    Losses stand in the ledger by byte range and in findings of the whole file; both may speak of
    the same loss. What the file declares decides, and findings must explain all that is missing.

    Raises:
        ContractViolation: CONSERVATION, messages are missing or too many and nothing says why.
    """
    total = Counts()
    total.add(counts)
    total.add_ledger(index.structure)
    losing = [finding for finding in index.findings if finding.loses]
    unknown = total.lost_unknown or any(finding.lost_messages is None for finding in losing)
    declared = index.messages_declared
    lost: int | None = total.lost
    miscounted = total.miscounted or any(f.code == "COUNT_MISMATCH" for f in index.findings)
    if unknown:
        lost = None
    elif declared is not None:
        lost = declared - total.written - total.bad
        explained = total.lost + sum(finding.lost_messages or 0 for finding in losing)
        if lost < total.lost and miscounted:
            lost = total.lost  # more messages than declared: the declaration was wrong
        elif not total.lost <= lost <= explained:
            raise ContractViolation(
                f"{declared} messages declared, {total.written} written, {total.bad} bad, "
                f"{total.lost} lost by the ledger",
                code="CONSERVATION",
            )
    else:
        lost = max(total.lost, sum(finding.lost_messages or 0 for finding in losing))
    ranges = sorted((*first, code) for code, first in total.quarantined.items())
    reasons = {finding.code: finding.detail for finding in losing}
    reasons |= {code: words for _, words, code in ranges}
    topics = {channel.id: channel.topic for channel in index.channels}
    spoiled = [f"{topics[one]}: {total.undecoded[one]}" for one in total.spoiled_channels()]
    if spoiled:
        what = f"too many messages would not decode, the others are bytes: {', '.join(spoiled)}"
        reasons["TOPIC_QUARANTINED"] = what
    if total.bad:
        reasons["BAD_MESSAGES"] = f"{total.bad} messages would not decode"
    flags = {finding.code for finding in index.findings if not finding.loses}
    if miscounted and "COUNT_MISMATCH" not in reasons:
        flags.add("COUNT_MISMATCH")
    backward, step_ns = total.steps_back()
    if backward > LIMITS.backward_time_share * (total.written + total.bad):
        what = f"{backward} messages are older than the one before, by up to {step_ns / 1e9:g} s"
        reasons["LOG_TIME_BACKWARD"] = what
    elif backward:
        flags.add("LOG_TIME_BACKWARD")
    offsets = [finding.offset for finding in losing if finding.offset is not None]
    if not offsets and index.format != "rosbag2_db3":  # whose ranges are rows
        offsets = [offset for offset, _, _ in ranges]
    return Balance(
        outcome="PARTIAL" if reasons or lost != 0 else "ACCEPTED",
        declared=declared,
        written=total.written,
        bad=total.bad,
        lost=lost,
        reason_code=next(iter(reasons), ""),
        reason=_in_words(f"{code}: {text}" for code, text in reasons.items()),
        fault_offset=min(offsets, default=None),
        flags=tuple(sorted(flags)),
    )


def _in_words(parts: Iterable[str]) -> str:
    """One sentence of bounded length."""
    text = "; ".join(parts)
    return text if len(text) <= 1000 else text[:999] + "…"
