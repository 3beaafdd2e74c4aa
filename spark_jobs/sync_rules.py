"""The rules of synchronisation that a deployment goes by."""

from __future__ import annotations

from contracts.errors import ContractViolation
from contracts.settings import Settings
from spark_jobs.storage import filesystem_of
from udfs.sync.rules import SyncRules
from udfs.sync.rules_file import rules_from_text


def sync_rules(settings: Settings) -> SyncRules:
    """The rules of `settings.sync_uri`, or those of this release where there is none.

    Raises:
        ContractViolation: SYNC_RULES, there is no such file, or what stands in it is wrong.
    """
    uri = settings.sync_uri
    if uri is None:
        return SyncRules()
    filesystem, path = filesystem_of(uri, storage_options=settings.storage_options)
    try:
        with filesystem.open_input_stream(path) as stream:
            text = stream.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ContractViolation(
            f"rules of synchronisation can't be read: {error}",
            code="SYNC_RULES",
            uri=uri,
            remedy="DRIVELAKE_SYNC names the file; unset it for the rules of this release",
        ) from error
    return rules_from_text(text, uri=uri)
