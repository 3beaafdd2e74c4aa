"""A rosbag2 SQLite file opened as the immutable object it is, and its rows, damage included.

Source: rosbag2_storage_sqlite3, schema versions 1 to 4.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import attrs
import numpy as np
import numpy.typing as npt

from contracts.errors import DecodeError
from contracts.recording import Int64Array, Source
from udfs.decode.limits import MAX_UNIT_BYTES
from udfs.decode.rosbag2_pages import COLUMNS, Pages
from udfs.decode.source import LocalCopy, MappedSource

_ROWS_AT_A_TIME = 50_000
_DAMAGE = (sqlite3.Error, MemoryError)
"""What SQLite raises at damage: a length that it can't have is no memory to it."""
_HEADER_BYTES = 100
_MOST_GROWTH = 1000
_TOPIC_COLUMNS = (
    "name",
    "type",
    "serialization_format",
    "offered_qos_profiles",
    "type_description_hash",
)
_SOUND = "typeof(topic_id) || typeof(timestamp) || typeof(data) = 'integerintegerblob'"
_HEAD = (  # a damaged row may hold anything: it then belongs to no topic
    f"rowid, CASE WHEN {_SOUND} THEN topic_id ELSE -1 END,"
    f" CASE WHEN {_SOUND} THEN timestamp ELSE 0 END"
)
_SELECT = f"SELECT {_HEAD}, COALESCE(length(data), 0) FROM messages"  # noqa: S608  constants
_SELECT_DATA = f"SELECT {_HEAD}, data FROM messages"  # noqa: S608
_MESSAGE_COUNT = re.compile(r"^\s{0,2}message_count:\s*(\d+)\s*$", re.MULTILINE)


class Topic(NamedTuple):
    """A row of `topics`; `qos` and `type_hash` are empty where the schema has no such column."""

    id: int
    name: str
    type: str
    encoding: str
    qos: str
    type_hash: str


class Definition(NamedTuple):
    """A row of `message_definitions`."""

    type: str
    encoding: str
    text: str


@attrs.frozen(eq=False)
class Rows:
    """The rows of `messages` without their data, by rowid.

    Attributes:
        id: (N,) int64, ascending.
        topic: (N,) int64.
        time_ns: (N,) int64, when they were received, recorder's clock.
        size: (N,) int64, bytes of data; unpacked ones where it says so and they may be.
        disordered: Rows left out because a damaged page gives them rowids out of order.
        gaps: Rowid ranges [first, last] that can't be read; last is None where the table goes on
            for nobody knows how long.
    """

    id: Int64Array
    topic: Int64Array
    time_ns: Int64Array
    size: Int64Array
    gaps: tuple[tuple[int, int | None], ...] = ()
    disordered: int = 0


class Store:
    """An open bag file; a context manager.

    Attributes:
        tables: Names of its tables.
        columns: Names of the columns of the tables that a bag may have.
        missing_bytes: What the file is shorter than its header says.
        pages: The pages of `messages`; None where only SQLite can tell what they hold.
    """

    def __init__(self, source: Source) -> None:
        """Open the file read-only; DecodeError DB_MALFORMED or NOT_A_DATABASE if it won't read."""
        self._path = source.local_path()
        self.missing_bytes, self._padded = _padded_copy(source)
        path = self._padded.path if self._padded else self._path
        uri = f"file:{quote(path)}?mode=ro&immutable=1"
        self._db = sqlite3.connect(uri, uri=True)
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_UNIT_BYTES)
        self._db.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            names = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            self.tables = {name for (name,) in names}
            self.columns = {
                table: {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}
                for table in ("topics", "messages", "message_definitions", "schema", "metadata")
            }
            self.pages = self._sound_pages(source)
        except (*_DAMAGE, UnicodeDecodeError) as error:
            self.__exit__()
            code = "NOT_A_DATABASE" if "not a database" in str(error) else "DB_MALFORMED"
            raise DecodeError(str(error), code=code, uri=source.uri) from error

    def __enter__(self) -> Self:
        """Enter the block that closes the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, and delete the copy if one was made."""
        self._db.close()
        if self._padded:
            self._padded.delete()

    def _sound_pages(self, source: Source) -> Pages | None:
        """The pages of `messages` where the table is as recorders make it and nothing is cut.

        They are read from the mapping of the source where there is one: to map a file again costs
        a fault of the system for each page again, as much as its rows take to read.
        """
        found = self._db.execute("SELECT name, type, pk FROM pragma_table_info('messages')")
        names = [(name, kind if pk else "", pk) for name, kind, pk in found]
        wanted = [
            (name, "INTEGER" if i == 0 else "", int(i == 0)) for i, name in enumerate(COLUMNS)
        ]
        if names != wanted or self.missing_bytes:
            return None
        where = "name = 'messages' AND type = 'table' AND sql NOT LIKE '%WITHOUT%'"
        root = self._db.execute(f"SELECT rootpage FROM sqlite_master WHERE {where}").fetchone()  # noqa: S608
        with contextlib.suppress(ValueError):
            if root:
                own = source if isinstance(source, MappedSource) else None
                mapped = own or MappedSource(Path(self._path), uri=source.uri)
                return Pages(mapped.read_at(0, mapped.size), root=root[0])
        return None

    def wal_bytes(self) -> int:
        """Size of a write-ahead log that lies beside the file; it is another object, not read."""
        with contextlib.suppress(OSError):
            return Path(f"{self._path}-wal").stat().st_size
        return 0

    def topics(self) -> list[Topic]:
        """The rows of `topics`, up to the first that can't be read.

        Messages of the topics behind it count as those of unknown topics.

        Raises:
            DecodeError: DB_MALFORMED, not one row can be read.
        """
        columns = ", ".join(
            f"CAST(COALESCE({name}, '') AS TEXT)" if name in self.columns["topics"] else "''"
            for name in _TOPIC_COLUMNS
        )
        rows: list[Topic] = []
        try:
            found = self._db.execute(f"SELECT rowid, {columns} FROM topics ORDER BY rowid")  # noqa: S608
            rows.extend(Topic(*row) for row in found)
        except _DAMAGE as error:
            if not rows:
                raise DecodeError(f"topics: {error}", code="DB_MALFORMED") from error
        return rows

    def definitions(self) -> list[Definition]:
        """All rows of `message_definitions` that hold a definition; none in old files.

        Raises:
            DecodeError: DB_MALFORMED, they can't be read.
        """
        if "message_definitions" not in self.tables:
            return []
        rows = self._sound(
            "SELECT CAST(topic_type AS TEXT), CAST(encoding AS TEXT),"
            " CAST(encoded_message_definition AS TEXT) FROM message_definitions ORDER BY rowid"
        )
        return [Definition(*row) for row in rows if all(row)]

    def schema_version(self) -> tuple[int, str]:
        """Version of the schema and ROS distribution, as far as the file says."""
        if "schema" not in self.tables:
            return (2 if "offered_qos_profiles" in self.columns["topics"] else 1), ""
        with contextlib.suppress(DecodeError, ValueError, TypeError, IndexError):
            rows = self._sound("SELECT schema_version, ros_distro FROM schema")
            return int(rows[0][0]), str(rows[0][1])
        return 3, ""

    def declared_count(self) -> int | None:
        """Messages that the metadata counts; None where a closed recorder has left none."""
        if "metadata" not in self.tables:
            return None
        try:
            rows = self._sound("SELECT metadata FROM metadata ORDER BY rowid DESC LIMIT 1")
        except DecodeError:
            return None
        counts = _MESSAGE_COUNT.findall(str(rows[0][0])) if rows else []
        total = max((int(count) for count in counts), default=0)
        return total or None

    def rows(self) -> Rows:
        """All rows of `messages` that can be read, and the ranges that can't."""
        cells = self.pages.rows() if self.pages else None
        if self.pages and cells is not None:
            sizes = self.pages.unpacked_sizes(cells)
            return Rows(cells.id, cells.topic, cells.time_ns, sizes)
        parts: list[Int64Array] = []
        gaps: tuple[tuple[int, int | None], ...] = ()
        last = 0
        try:
            cursor = self._db.execute(f"{_SELECT} ORDER BY rowid")
            while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
                parts.append(np.array(rows, np.int64))
                last = rows[-1][0]
        except _DAMAGE:
            head = self._until_damage("rowid > ? ORDER BY rowid", last)
            last = head[-1][0] if head else last
            tail = self._until_damage("rowid > ? ORDER BY rowid DESC", last)[::-1]
            parts += [np.array(rows, np.int64) for rows in (head, tail) if rows]
            gaps = ((last + 1, tail[0][0] - 1 if tail else None),)
        table = np.concatenate([np.empty((0, 4), np.int64), *parts]).T.copy()
        good = _ascending(table[0], after=0)
        disordered = int(np.count_nonzero(~good))
        table = table if not disordered else table[:, good]
        return Rows(table[0], table[1], table[2], table[3], gaps, disordered)

    def data(self, first: int, count: int) -> list[tuple[int, int, int, bytes | None]]:
        """(rowid, topic, time, data) of `count` rows from rowid `first` on; None: unreadable."""
        try:
            where = "WHERE rowid >= ? ORDER BY rowid LIMIT ?"
            rows = self._all(f"{_SELECT_DATA} {where}", (first, count))
        except _DAMAGE:
            ahead = self._until_damage("rowid >= ? ORDER BY rowid LIMIT ?", first, count)
            back = self._until_damage("rowid >= ? ORDER BY rowid DESC", first)
            heads = sorted({row[0]: row for row in (*ahead, *back)}.values())[:count]
            rows = [(row[0], row[1], row[2], self._data_of(row[0])) for row in heads]
        good = _ascending(np.array([row[0] for row in rows], np.int64), after=first - 1)
        return rows if good.all() else [rows[i] for i in np.flatnonzero(good).tolist()]

    def _data_of(self, rowid: int) -> bytes | None:
        try:
            rows = self._all("SELECT data FROM messages WHERE rowid = ?", (rowid,))
        except _DAMAGE:
            return None
        return rows[0][0] if rows else None

    def blobs(self, rowids: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield (rowid, data) in the order asked for; DecodeError if a row won't read."""
        for rowid in rowids:
            data = self._data_of(rowid)
            if data is None:
                raise DecodeError(f"row {rowid} can't be read", code="DB_MALFORMED")
            yield rowid, data

    def _until_damage(self, where: str, *values: int) -> list[tuple[int, int, int, int]]:
        """Rows up to the first that won't read; `extend` keeps those before the error."""
        rows: list[tuple[int, int, int, int]] = []
        with contextlib.suppress(*_DAMAGE):
            rows.extend(self._db.execute(f"{_SELECT} WHERE {where}", values))
        return rows

    def _sound(self, statement: str) -> list[Any]:
        try:
            return self._all(statement)
        except (*_DAMAGE, UnicodeDecodeError) as error:
            raise DecodeError(str(error), code="DB_MALFORMED") from error

    def _all(self, statement: str, values: Sequence[int] = ()) -> list[Any]:
        return self._db.execute(statement, values).fetchall()


def _ascending(ids: Int64Array, *, after: int) -> npt.NDArray[np.bool_]:
    """(N,) which ids are larger than `after` and all before them, as those of sound pages are."""
    largest = np.maximum.accumulate(np.concatenate([np.array([after]), ids]))
    return ids > largest[:-1]


def _padded_copy(source: Source) -> tuple[int, LocalCopy | None]:
    """Bytes that a cut file lacks, and a copy that has zeros for them; (0, None) for a whole one.

    SQLite opens no file that is shorter than its header says; a page of zeros it reports when it
    comes to it, and every page before is read.
    """
    if source.size < _HEADER_BYTES:
        return 0, None
    page_bytes, pages = struct.unpack(">16xH10xI", source.read_at(0, 32))
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    missing = pages * page_bytes - source.size
    if missing <= 0 or pages * page_bytes > _MOST_GROWTH * source.size:
        return 0, None
    return missing, LocalCopy(source, size=pages * page_bytes)
