"""The boundary between the jobs' errors and Dagster's: what is said, and what is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from contracts.errors import PlatformError


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
