"""The conservation law: declared = written + bad + lost, or nothing is committed."""

from __future__ import annotations

import attrs
import pytest

from contracts.errors import ContractViolation
from contracts.recording import Channel, Finding, LedgerEntry, RecordingIndex, TimeOrder
from spark_jobs.balance import balance_of
from spark_jobs.ingest_decode import Counts


def index_of(declared=None, findings=(), structure=()):
    return RecordingIndex(
        format="mcap",
        profile="",
        library="",
        start_ns=None,
        end_ns=None,
        schemas=(),
        channels=(),
        units=(),
        messages_declared=declared,
        findings=tuple(findings),
        structure=tuple(structure),
    )


def counts_of(written=0, bad=0, lost=0):
    counts = Counts()
    entry = LedgerEntry(
        0, 1, "decoded", messages_written=written, messages_bad=bad, messages_lost=lost
    )
    counts.add_ledger([entry])
    return counts


def test_all_written_is_accepted():
    """A recording with every message in silver and no finding is ACCEPTED, nothing lost."""
    found = balance_of(index_of(10), counts_of(10))
    assert (found.outcome, found.lost, found.reason_code) == ("ACCEPTED", 0, "")


def test_finding_without_loss_is_a_flag():
    """What lost nothing is a flag and no reason."""
    found = balance_of(index_of(10, [Finding("BAD_TRAILER", "x")]), counts_of(10))
    assert (found.outcome, found.flags) == ("ACCEPTED", ("BAD_TRAILER",))


def test_loss_in_ledger_and_finding_counts_once():
    """The ledger and a finding may speak of the same loss: the declaration decides how much."""
    index = index_of(10, [Finding("CHUNK_CRC", "x", offset=7, loses=True, lost_messages=4)])
    found = balance_of(index, counts_of(6, 0, 4))
    assert (found.outcome, found.lost, found.fault_offset) == ("PARTIAL", 4, 7)
    assert found.reason_code == "CHUNK_CRC"


def test_loss_that_only_a_finding_knows_counts():
    """A chunk that is not there at all has no ledger entry, but its messages are lost."""
    index = index_of(10, [Finding("MISSING_CHUNK", "x", loses=True, lost_messages=4)])
    assert balance_of(index, counts_of(6)).lost == 4


def test_loss_of_unknown_size_stays_unknown():
    """Lost but unknown how many is null, never zero."""
    by_finding = index_of(None, [Finding("TRUNCATED", "x", loses=True, lost_messages=None)])
    assert balance_of(by_finding, counts_of(6)).lost is None
    by_ledger = balance_of(index_of(10), counts_of(6, 0, None))
    assert (by_ledger.outcome, by_ledger.lost) == ("PARTIAL", None)


def test_first_damaged_range_speaks_whichever_task_ends_first():
    """Reason and offset of a loss do not hang on the order in which tasks return."""
    entries = [
        LedgerEntry(at, 5, "quarantined", "CHUNK_CRC", f"chunk at {at}", 3, messages_lost=3)
        for at in (70, 20)
    ]
    found = []
    for order in (entries, entries[::-1]):
        counts = counts_of(4)
        for entry in order:
            one = Counts()
            one.add_ledger([entry])
            counts.add(one)
        found.append(balance_of(index_of(10), counts))
    assert found[0] == found[1]
    assert (found[0].reason, found[0].fault_offset) == ("CHUNK_CRC: chunk at 20", 20)


def test_bad_messages_make_it_partial():
    """A message that would not decode is bad, not lost, and the recording not whole."""
    found = balance_of(index_of(10), counts_of(9, 1))
    assert (found.outcome, found.bad, found.lost) == ("PARTIAL", 1, 0)
    assert found.reason_code == "BAD_MESSAGES"


@pytest.mark.parametrize(("bad", "code"), [(1, "BAD_MESSAGES"), (2, "TOPIC_QUARANTINED")])
def test_topic_with_too_many_bad_messages_is_named(bad, code):
    """Fault 18: one bad message in a thousand is a bad message, above that the topic is out."""
    counts = counts_of(1000 - bad, bad)
    counts.add(Counts(channels={7: [1000 - bad, bad, None, None]}, undecoded={7: bad}))
    index = attrs.evolve(index_of(1000), channels=(Channel(7, "/gnss", "cdr", 1),))
    found = balance_of(index, counts)
    assert (found.outcome, found.reason_code) == ("PARTIAL", code)
    assert (found.written, found.bad, found.lost) == (1000 - bad, bad, 0)
    assert ("/gnss" in found.reason) == (code == "TOPIC_QUARANTINED")


@pytest.mark.parametrize(
    ("written", "outcome", "flags"),
    [(3000, "ACCEPTED", ("LOG_TIME_BACKWARD",)), (2999, "PARTIAL", ())],
)
def test_times_that_run_backward_are_counted_over_all_parts(written, outcome, flags):
    """Fault 20: up to one message in a thousand it is a flag, above that the recording is PARTIAL.

    A step between two parts, which other tasks have decoded, counts as one within.
    """
    counts = counts_of(written)
    parts = [TimeOrder(900, 40, 90, 1, 7), TimeOrder(10, 0, 50, 1, 5)]
    for part in parts:
        counts.add(Counts(order={3: [part]}))
    found = balance_of(index_of(written), counts)
    assert (found.outcome, found.flags, found.lost) == (outcome, flags, 0)
    assert found.reason_code == ("LOG_TIME_BACKWARD" if outcome == "PARTIAL" else "")
    assert counts.steps_back() == (3, 10)


def test_quarantined_bytes_outside_the_units_count():
    """Damage in the structure of a file is a loss as well."""
    entry = LedgerEntry(5, 3, "quarantined", "BAD_RECORD", "noise", messages_lost=None)
    found = balance_of(index_of(None, structure=[entry]), counts_of(6))
    assert (found.outcome, found.lost, found.reason_code) == ("PARTIAL", None, "BAD_RECORD")


@pytest.mark.parametrize("written", [8, 11])
def test_unexplained_difference_is_refused(written):
    """Messages missing, or too many, with nothing that says why: CONSERVATION."""
    with pytest.raises(ContractViolation, match="CONSERVATION"):
        balance_of(index_of(10, [Finding("BAD_TRAILER", "x")]), counts_of(written, 1))


def test_declaration_known_to_be_wrong_does_not_refuse_good_rows():
    """More messages than declared, with a COUNT_MISMATCH finding, keeps all of them."""
    found = balance_of(index_of(10, [Finding("COUNT_MISMATCH", "x")]), counts_of(12))
    assert (found.outcome, found.written, found.lost) == ("ACCEPTED", 12, 0)


def test_range_that_holds_more_than_it_declares_does_not_refuse_good_rows():
    """A unit that says COUNT_MISMATCH of itself explains more messages than the file declares."""
    counts = Counts()
    entry = LedgerEntry(0, 1, "decoded", "COUNT_MISMATCH", "10 declared, 12 found", 12, 12)
    counts.add_ledger([entry])
    found = balance_of(index_of(10), counts)
    assert (found.outcome, found.written, found.lost) == ("ACCEPTED", 12, 0)
    assert found.flags == ("COUNT_MISMATCH",)
