"""The boundary between the jobs' errors and Dagster's: what is said, and what is tried again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from contracts.errors import PlatformError


class ErrorRetries(dg.RetryPolicy):  # type: ignore[misc]
    """A retry policy for errors: a step that is interrupted ends, and its run with it.

    Dagster's own tries a step again also when a person, or the end of the platform, stopped it.
    """

    def calculate_delay(self, attempt_num: int) -> float:
        """Seconds before an attempt; Dagster asks while it handles what ended the last one.

        Raises:
            BaseException: The interrupt, if there was one instead of an error.
        """
        ended_by = sys.exc_info()[1]
        if ended_by is not None and not isinstance(ended_by, Exception):
            raise ended_by
        return super().calculate_delay(attempt_num)


@contextmanager
def stated_failures() -> Iterator[None]:
    """Turn an error that drivelake raised on purpose into a failed step that is not tried again.

    Its code, place and remedy become metadata. Any other error (storage, network, a worker that
    died) passes, and the retry policy of the asset applies.

    Raises:
        Failure: From a PlatformError.
    """
    try:
        yield
    except PlatformError as error:
        fields = {"code": error.code, "uri": error.uri, "topic": error.topic}
        raise dg.Failure(
            description=str(error),
            metadata={
                **{name: value for name, value in fields.items() if value},
                **({"remedy": error.remedy} if error.remedy else {}),
            },
            allow_retries=False,
        ) from error
