"""The errors of the platform: what went wrong, where (uri, topic, offset) and what to do.

Lost data is an error, never a warning. An error is handled once: logged or raised, not both.
"""

from __future__ import annotations


class PlatformError(Exception):
    """Base of every error that drivelake raises on purpose.

    Attributes:
        code: Reason code in capitals, as stored in `bronze.uploads.reason_code`.
        uri: Object concerned, if any.
        topic: Topic or signal concerned, if any.
        offset: Byte offset in the object, if any.
        sentence: The message without the code, for people.
    """

    code = "PLATFORM"

    def __init__(
        self,
        what: str,
        *,
        code: str | None = None,
        uri: str | None = None,
        topic: str | None = None,
        offset: int | None = None,
        remedy: str | None = None,
    ) -> None:
        """Build the message from its fields; the uri stands last because it is long."""
        self.what = what
        self.code = code or type(self).code
        self.uri = uri
        self.topic = topic
        self.offset = offset
        self.remedy = remedy
        where = [f"topic {topic}"] if topic else []
        where += [f"byte {offset}"] if offset is not None else []
        where += [uri] if uri else []
        self.sentence = what
        if where:
            self.sentence += f" (at {', '.join(where)})"
        if remedy:
            self.sentence += f". {remedy}"
        super().__init__(f"{self.code}: {self.sentence}")


class DecodeError(PlatformError):
    """Bytes that claim a format but do not hold to it."""

    code = "DECODE"


class UnsupportedFormatError(PlatformError):
    """Bytes of a format, compression or encoding that no reader here takes."""

    code = "UNSUPPORTED_FORMAT"


class ResourceLimitError(DecodeError):
    """An input that would take more memory, time or records than a reader is granted."""

    code = "RESOURCE_LIMIT"


class ClockError(PlatformError):
    """Stamps that can't be mapped to UTC, or a clock with no evidence."""

    code = "CLOCK"


class SchemaMismatchError(PlatformError):
    """Columns that differ from what the contract or the table says."""

    code = "SCHEMA_MISMATCH"


class ContractViolation(PlatformError):
    """Data or a request that breaks a rule of a contract."""

    code = "CONTRACT"


class CompileError(PlatformError):
    """A model that did not compile for its target, or compiled for another one."""

    code = "COMPILE"


class IntegrityError(PlatformError):
    """An artefact whose bytes differ from what was signed."""

    code = "INTEGRITY"


class SetupError(PlatformError):
    """The machine lacks something that the platform needs."""

    code = "SETUP"
