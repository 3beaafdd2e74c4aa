"""Recordings by themselves: opened from anywhere, with what is asked for of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from contracts.errors import ContractViolation
from contracts.recording import RecordingIndex
from contracts.tables import LAYERS
from drivelake.bag_folder import files_of
from drivelake.environment import load_settings
from udfs.decode.reading import Account, iter_rows
from udfs.decode.recording import index_recording, quick_index
from udfs.decode.selection import Selection
from udfs.decode.source import (
    PART_READ_AHEAD_BYTES,
    READ_AHEAD_BYTES,
    OpenSource,
    open_source,
)


def read_batches(
    uri: str,
    selection: Selection,
    *,
    payloads: bool = False,
    definitions: Mapping[str, bytes] | None = None,
    allow_loss: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Batches of a recording, or of the files of a folder; see `drivelake.read`."""
    account = Account()
    files = files_of(uri)
    refused: list[ContractViolation] = []
    for file in files.uris:
        try:
            with opened(file, selection) as (source, index):
                account.add_index(index)
                for table, rows in iter_rows(
                    source,
                    index,
                    selection=selection,
                    account=account,
                    definitions=definitions,
                    payloads=payloads,
                ):
                    metadata = {**(rows.schema.metadata or {}), "table": table}
                    yield rows.replace_schema_metadata(metadata)
        except ContractViolation as error:  # a topic that not every part of a bag has
            refused.append(error)
            if error.code != "USAGE" or len(refused) == len(files.uris):
                raise
    if files.missing:
        account.lost_unknown = True
        account.reasons["SPLIT_MISSING"] = f"{', '.join(files.missing)} of the bag is not there"
    if not allow_loss:
        account.check(uri)


@contextmanager
def opened(uri: str, selection: Selection) -> Iterator[tuple[OpenSource, RecordingIndex]]:
    """A recording and its index: its own where a part is asked for, else one that is checked.

    Raises:
        ContractViolation: USAGE, nothing is there.
        DecodeError: It can't be indexed.
        UnsupportedFormatError: No recording, or none that can be read here.
    """
    read_ahead = READ_AHEAD_BYTES if selection.is_all else PART_READ_AHEAD_BYTES
    with open_recording(uri, read_ahead=read_ahead) as source:
        yield source, index_recording(source) if selection.is_all else quick_index(source)


def open_recording(uri: str, *, read_ahead: int = READ_AHEAD_BYTES) -> OpenSource:
    """Open a recording on disk or S3; ContractViolation USAGE if nothing is there."""
    if not uri:
        what = "The place of the recording is empty"
        raise ContractViolation(what, code="USAGE", remedy="Name a file, or its s3:// place")
    try:
        return open_source(
            uri, storage_options=load_settings().storage_options, read_ahead=read_ahead
        )
    except (FileNotFoundError, IsADirectoryError) as error:
        remedy = "It is a folder: name a file in it" if Path(uri).is_dir() else None
        if uri.split(".", maxsplit=1)[0] in LAYERS:
            remedy = f'`drivelake.table("{uri}")` reads a table of the lake'
        what = f"There is no recording at {uri}"
        raise ContractViolation(what, code="USAGE", remedy=remedy) from error
