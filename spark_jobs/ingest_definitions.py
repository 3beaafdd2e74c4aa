"""Bus definitions that came with a call of ingest, kept beside the lake while their batch is open.

Whoever finishes the batch decodes with the same ones.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pyarrow.fs as pafs

from contracts.settings import Settings
from spark_jobs.parts import delete_file
from spark_jobs.storage import filesystem_of


def keep_definitions(settings: Settings, batch_id: str, definitions: Mapping[str, bytes]) -> None:
    """Store the definitions of a batch by binding; nothing if there are none."""
    if not definitions:
        return
    filesystem, path = _place(settings, batch_id)
    if isinstance(filesystem, pafs.LocalFileSystem):
        filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
    value = {name: base64.b64encode(data).decode() for name, data in definitions.items()}
    with filesystem.open_output_stream(path) as stream:
        stream.write(json.dumps(value).encode())


def kept_definitions(settings: Settings, batch_id: str) -> dict[str, bytes]:
    """The definitions of a batch, none if none were kept."""
    filesystem, path = _place(settings, batch_id)
    try:
        with filesystem.open_input_stream(path) as stream:
            value = json.loads(stream.read())
    except FileNotFoundError:
        return {}
    return {name: base64.b64decode(data) for name, data in value.items()}


def forget_definitions(settings: Settings, batch_id: str) -> None:
    """Delete the definitions of a batch that has ended."""
    delete_file(*_place(settings, batch_id))


def _place(settings: Settings, batch_id: str) -> tuple[pafs.FileSystem, str]:
    uri = f"{settings.lake_uri.rstrip('/')}/_ingest/{batch_id}.json"
    return filesystem_of(uri, storage_options=settings.storage_options)
