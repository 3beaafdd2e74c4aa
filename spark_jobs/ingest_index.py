"""First stage of ingest, in the workers: hash each object, tell what it is, index recordings."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import pyarrow as pa
from pyspark.sql import SparkSession

from contracts.errors import DecodeError, PlatformError
from contracts.recording import RecordingIndex
from spark_jobs.discover import UploadObject, parse_manifest
from spark_jobs.guard import ATTEMPTS, Bounds, guarded
from spark_jobs.index_codec import pack_index, unpack_index
from spark_jobs.readers import import_readers
from spark_jobs.stage import pack, run_stage
from spark_jobs.storage import filesystem_of

TASK_BYTES = 256 << 20
TASK_OBJECTS = 32
_MAX_DEFINITION_BYTES = 64 << 20


@attrs.frozen
class ChannelPlan:
    """Where the messages of a channel go: known from the definitions before anything is decoded."""

    channel_id: int
    table: str
    schema: pa.Schema | None
    status: str


@attrs.frozen
class Indexed:
    """What the first stage found out about an object.

    Attributes:
        uri: The object.
        sha256: Of its bytes; None where it could not be read or its reader died.
        size_bytes: Bytes that were hashed.
        kind: As sniffed.
        format: As sniffed.
        fault: (reason code, words, byte offset) where it is not fit to be taken.
        flags: What is not sound about it, though it is taken.
        missing: Files that it names and that are not beside it, of how many.
        unreadable: Why the storage did not give it, which says nothing of its bytes.
        index: Packed index of a recording.
        plans: Where its channels go.
        definition: Bytes of a bus definition.
    """

    uri: str
    sha256: str | None
    size_bytes: int
    kind: str | None = None
    format: str | None = None
    fault: tuple[str, str, int | None] | None = None
    flags: tuple[str, ...] = ()
    missing: tuple[tuple[str, ...], int] = ((), 0)
    unreadable: str = ""
    index: bytes = attrs.field(default=b"", repr=False)
    plans: tuple[ChannelPlan, ...] = attrs.field(default=(), repr=False)
    definition: bytes = attrs.field(default=b"", repr=False)

    def recording_index(self) -> RecordingIndex:
        """The index of the recording, unpacked."""
        return unpack_index(self.index)


def index_objects(
    spark: SparkSession,
    objects: Sequence[UploadObject],
    *,
    storage_options: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
) -> dict[str, Indexed]:
    """Hash, sniff and index objects on the Spark server, by uri.

    Args:
        spark: Session.
        objects: Complete objects.
        storage_options: delta-rs style keys for S3.
        progress: Told the number of objects done.
    """
    weights = [item.size_bytes for item in objects]
    tasks = pack(weights, limit=TASK_BYTES, at_most=TASK_OBJECTS)
    payloads = [
        json.dumps([[objects[i].uri, objects[i].size_bytes] for i in task]).encode()
        for task in tasks
    ]
    found: dict[str, Indexed] = {}
    work = partial(index_task, storage_options=dict(storage_options))
    for result in run_stage(spark, payloads, work):
        for item in json.loads(result):
            found[item["uri"]] = _revived(item)
        if progress:
            progress(len(found))
    return found


def index_task(payload: bytes, *, storage_options: Mapping[str, str]) -> bytes:
    """Work of one task: several objects in one guarded child, singly if that one dies."""
    objects = [(uri, size) for uri, size in json.loads(payload)]
    import_readers(uri for uri, _ in objects)
    return json.dumps(list(_index_guarded(objects, storage_options))).encode()


def _index_guarded(
    objects: Sequence[tuple[str, int]], storage_options: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    def work() -> bytes:
        return json.dumps([_index_one(uri, storage_options) for uri, _ in objects]).encode()

    try:
        answer = guarded(
            work,
            bounds=Bounds.for_input(sum(size for _, size in objects)),
            attempts=ATTEMPTS if len(objects) == 1 else 1,
        )
        yield from json.loads(answer)
    except DecodeError as error:
        if len(objects) > 1:
            for item in objects:
                yield from _index_guarded([item], storage_options)
            return
        uri, size = objects[0]
        yield _faulty(_hash_guarded(uri, size, storage_options), error)


def _hash_guarded(uri: str, size: int, storage_options: Mapping[str, str]) -> dict[str, Any]:
    """The hash alone, for an object whose reader died; without one where hashing dies too."""

    def work() -> bytes:
        return json.dumps(_hashed(uri, storage_options)).encode()

    try:
        return json.loads(guarded(work, bounds=Bounds.for_input(size)))
    except DecodeError:
        return {"uri": uri, "sha256": None, "size_bytes": size}


def _hashed(uri: str, storage_options: Mapping[str, str]) -> dict[str, Any]:
    from udfs.decode.source import open_source, sha256_of

    with open_source(uri, storage_options=storage_options) as source:
        return {"uri": uri, "sha256": sha256_of(source), "size_bytes": source.size}


def _index_one(uri: str, storage_options: Mapping[str, str]) -> dict[str, Any]:
    """Hash, sniff and index; what is wrong with the bytes becomes a fault, never an exception."""
    from udfs.decode.packed import unpacked
    from udfs.decode.recording import index_recording, table_of_channel
    from udfs.decode.sniff import sniff
    from udfs.decode.source import open_source, sha256_of

    try:
        source = open_source(uri, storage_options=storage_options)
    except OSError as error:
        text = f"{type(error).__name__}: {error.strerror or error}"
        return {"uri": uri, "sha256": None, "size_bytes": 0, "unreadable": text}
    with source:
        found = {"uri": uri, "sha256": sha256_of(source), "size_bytes": source.size}
        try:
            sniffed = sniff(unpacked(source))
            found |= {"kind": sniffed.kind, "format": sniffed.format}
            if sniffed.kind == "recording":
                index = index_recording(source)
                plans = [
                    (channel.id, *table_of_channel(index, channel)) for channel in index.channels
                ]
                found["index"] = _text_of(pack_index(index))
                found["plans"] = [
                    [number, table, _text_of(schema.serialize()) if schema else None, status]
                    for number, table, schema, status in plans
                ]
            elif sniffed.kind == "bus_definition":
                data = _whole(source)
                found["definition"] = _text_of(data)
                found["flags"] = _doubts(data) if sniffed.format == "dbc" else []
            elif sniffed.kind == "recording_metadata":
                found["missing"] = _missing_files(_whole(source), uri, storage_options)
            elif sniffed.kind == "upload_manifest":
                parse_manifest(_whole(source), uri=uri)
        except PlatformError as error:
            return _faulty(found, error)
    return found


def _doubts(definition: bytes) -> list[str]:
    """Codes of what is not sound in a bus definition; BAD_DEFINITION if it does not parse."""
    from udfs.encodings.dbc import parse_definition

    return sorted({finding.code for finding in parse_definition(definition).findings})


def _missing_files(
    metadata: bytes, uri: str, storage_options: Mapping[str, str]
) -> tuple[list[str], int]:
    """Files of a bag that do not lie beside its metadata, and how many it has."""
    from udfs.decode.rosbag2_metadata import split_files

    names = split_files(metadata)
    filesystem, path = filesystem_of(uri, storage_options=storage_options)
    folder = path.rpartition("/")[0]
    beside = filesystem.get_file_info([f"{folder}/{name}" for name in names])
    there = {info.base_name for info in beside if info.is_file}
    return [name for name in names if name not in there], len(names)


def _whole(source: Any) -> bytes:
    if source.size > _MAX_DEFINITION_BYTES:
        what = f"{source.size} bytes, the limit of a definition is {_MAX_DEFINITION_BYTES}"
        raise DecodeError(what, code="RESOURCE_LIMIT")
    return bytes(source.read_at(0, source.size))


def _faulty(found: dict[str, Any], error: PlatformError) -> dict[str, Any]:
    return {**found, "fault": [error.code, error.what, error.offset]}


def _text_of(data: bytes | pa.Buffer) -> str:
    return base64.b64encode(bytes(data)).decode("ascii")


def _revived(item: dict[str, Any]) -> Indexed:
    return Indexed(
        uri=item["uri"],
        sha256=item["sha256"],
        size_bytes=item["size_bytes"],
        kind=item.get("kind"),
        format=item.get("format"),
        fault=tuple(item["fault"]) if "fault" in item else None,
        flags=tuple(item.get("flags", ())),
        missing=(tuple(item["missing"][0]), item["missing"][1]) if "missing" in item else ((), 0),
        unreadable=item.get("unreadable", ""),
        index=base64.b64decode(item.get("index", "")),
        plans=tuple(
            ChannelPlan(
                number,
                table,
                pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema))) if schema else None,
                status,
            )
            for number, table, schema, status in item.get("plans", ())
        ),
        definition=base64.b64decode(item.get("definition", "")),
    )
