"""Work on one recording in a child process with bounds, as an ingest does it.

What it says comes back as JSON; what it writes stands beside its place until it is done.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pyarrow.fs as pafs

from contracts.errors import (
    ContractViolation,
    DecodeError,
    PlatformError,
    UnsupportedFormatError,
)
from drivelake.bindings import binding_of
from drivelake.environment import load_settings
from drivelake.recordings import open_recording
from spark_jobs.guard import Bounds, guarded
from spark_jobs.readers import import_readers
from spark_jobs.storage import filesystem_of, is_local
from udfs.decode.selection import Selection
from udfs.decode.source import PART_READ_AHEAD_BYTES, OpenSource

_ERRORS = {
    error.__name__: error for error in (ContractViolation, DecodeError, UnsupportedFormatError)
}


def inspect_recording(uri: str) -> dict[str, Any]:
    """`recording_report.Summary` as JSON; raises PlatformError as it does."""
    from drivelake.recording_report import summarise

    return _in_child(uri, summarise, read_ahead=PART_READ_AHEAD_BYTES)


def diagnose_recording(uri: str, *, definitions: Mapping[str, bytes]) -> dict[str, Any]:
    """`recording_report.Diagnosis` as JSON; ContractViolation USAGE if nothing is there."""
    from drivelake.recording_report import diagnose, hopeless

    try:
        return _in_child(uri, lambda source: diagnose(source, definitions=definitions))
    except DecodeError as error:  # the reader itself came to grief
        return attrs.asdict(hopeless(uri, error))


def convert_recording(
    uri: str,
    place: str,
    *,
    container: str,
    selection: Selection,
    definitions: Mapping[str, bytes],
) -> dict[str, Any]:
    """Write a recording, or a part of it, as `mcap` or `parquet`; `Copied` as JSON.

    Raises:
        PlatformError: As `recording_copy` does; USAGE, something is at the place already.
    """
    from drivelake.recording_copy import copy_messages, copy_rows

    def work(source: OpenSource, target: Path) -> Any:
        if container == "mcap":
            return copy_messages(
                source,
                target,
                selection=selection,
                container="mcap",
                walk=selection.is_all,
                definitions=definitions,
            )
        target.mkdir()
        return copy_rows(source, target, selection=selection, definitions=definitions)

    return _copy(uri, place, work, read_ahead=None if selection.is_all else PART_READ_AHEAD_BYTES)


def recover_recording(uri: str, place: str) -> dict[str, Any]:
    """Write what can be read to a clean file, a bag where the name ends in .bag, else MCAP.

    Raises:
        PlatformError: As `recording_copy` does; USAGE, something is at the place already;
            DecodeError where nothing can be recovered.
    """
    from drivelake.recording_copy import copy_messages

    container = "bag" if place.endswith(".bag") else "mcap"

    def work(source: OpenSource, target: Path) -> Any:
        return copy_messages(
            source,
            target,
            selection=Selection(),
            container=container,
            walk=True,
            definitions={},
        )

    return _copy(uri, place, work)


def definitions_of(texts: Sequence[str]) -> dict[str, bytes]:
    """Bus definitions by binding, from `FILE` or `BUS=FILE`; ContractViolation USAGE.

    A topic that holds frames is a bus, too.
    """
    definitions = {}
    for text in texts:
        binding, name = binding_of(text)
        path = Path(name)
        if not path.is_file():
            raise ContractViolation(f"There is no file {name}", code="USAGE")
        definitions[binding] = path.read_bytes()
    return definitions


def _in_child(
    uri: str, work: Callable[[OpenSource], Any], *, read_ahead: int | None = None
) -> dict[str, Any]:
    """What `work` says of a recording, an attrs value as plain JSON.

    Raises:
        PlatformError: As `work` raised it; RESOURCE_LIMIT, WORKER_CRASH or WORKER_FAILED.
    """
    options = {} if read_ahead is None else {"read_ahead": read_ahead}

    def told(what: Callable[[OpenSource], Any]) -> Callable[[], bytes]:
        def run() -> bytes:
            try:
                with open_recording(uri, **options) as source:
                    return json.dumps({"value": what(source)}, default=_plain).encode()
            except PlatformError as error:
                about = (error.what, error.code, error.uri, error.topic, error.offset, error.remedy)
                return json.dumps({"error": [type(error).__name__, *about]}).encode()

        return run

    import_readers([uri])
    size = _value(guarded(told(lambda source: source.size), bounds=Bounds()))
    found = _value(guarded(told(work), bounds=Bounds.for_input(size)))
    assert isinstance(found, dict)
    return found


def _value(answer: bytes) -> Any:
    value = json.loads(answer)
    if "value" in value:
        return value["value"]
    name, what, code, uri, topic, offset, remedy = value["error"]
    kind = _ERRORS.get(name, PlatformError)
    raise kind(what, code=code, uri=uri, topic=topic, offset=offset, remedy=remedy)


def _plain(value: Any) -> Any:
    return attrs.asdict(value) if attrs.has(type(value)) else value.item()  # of NumPy


def _copy(
    uri: str,
    place: str,
    work: Callable[[OpenSource, Path], Any],
    *,
    read_ahead: int | None = None,
) -> dict[str, Any]:
    """Let `work` write beside the place, and put it there when it is done and has something."""
    with _workshop(place) as target:
        found = _in_child(uri, lambda source: work(source, target), read_ahead=read_ahead)
        if not found["recovered"] and (found["bad"] or found["lost"] != 0 or found["reasons"]):
            code, words = next(iter(found["reasons"].items()), ("EMPTY", "it holds no message"))
            raise DecodeError(f"nothing can be recovered: {words}", code=code, uri=uri)
        _put(target, place)
    return found


@contextmanager
def _workshop(place: str) -> Iterator[Path]:
    """A path to write to, gone after the block; ContractViolation USAGE if the place is taken."""
    if not place:
        what = "The place to write to is empty"
        raise ContractViolation(what, code="USAGE", remedy="Name a new file or folder")
    filesystem, path = filesystem_of(place, storage_options=load_settings().storage_options)
    if filesystem.get_file_info(path).type.name != "NotFound":
        what = f"There is something at {place} already"
        raise ContractViolation(what, code="USAGE", remedy="Name a place that is free")
    beside = Path(path).parent if is_local(place) else None
    if beside is not None and not beside.is_dir():
        raise ContractViolation(f"There is no folder {beside}", code="USAGE")
    folder = Path(tempfile.mkdtemp(prefix=".drivelake-", dir=beside))
    try:
        yield folder / Path(path).name
    finally:
        shutil.rmtree(folder)


def _put(made: Path, place: str) -> None:
    filesystem, path = filesystem_of(place, storage_options=load_settings().storage_options)
    if is_local(place):
        made.rename(path)
        return
    pafs.copy_files(
        str(made),
        path,
        source_filesystem=pafs.LocalFileSystem(),
        destination_filesystem=filesystem,
    )
