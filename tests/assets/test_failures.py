"""The boundary between the jobs' errors and Dagster's."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.failures import stated_failures
from contracts.errors import ContractViolation


def test_a_stated_error_is_not_tried_again():
    """An error raised on purpose fails the step at once, with its code, place and remedy."""
    with pytest.raises(dg.Failure) as caught, stated_failures():
        raise ContractViolation("no dataset", code="NO_DATASET", uri="file:///x", remedy="Make one")
    failure = caught.value
    assert not failure.allow_retries
    assert "NO_DATASET" in failure.description
    assert {name: value.value for name, value in failure.metadata.items()} == {
        "code": "NO_DATASET",
        "uri": "file:///x",
        "remedy": "Make one",
    }


def test_any_other_error_may_be_tried_again():
    """A storage error passes as it is, so that the retry policy applies."""
    with pytest.raises(OSError, match="gone"), stated_failures():
        raise OSError("gone")


@pytest.mark.parametrize(("error", "attempts"), [(ContractViolation("no"), 1), (OSError("no"), 3)])
def test_the_retry_policy_follows(error, attempts):
    """In a run, a stated error is raised once and a storage error three times."""
    tried = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def broken():
        tried.append(1)
        with stated_failures():
            raise error

    with dg.instance_for_test() as instance:
        assert not dg.materialize([broken], instance=instance, raise_on_error=False).success
    assert len(tried) == attempts
