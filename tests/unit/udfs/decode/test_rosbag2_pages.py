from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from udfs.decode.rosbag2_pages import Pages
from udfs.decode.rosbag2_store import Store
from udfs.decode.source import BytesSource, open_source

TABLE = (
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,"
    " timestamp INTEGER NOT NULL, data BLOB NOT NULL)"
)
TIMES = [0, 1, -1, 127, -129, 40_000, 10**6, -(10**9), 10**12, 10**18, -(2**63), 2**63 - 1]


def make(path: Path, rows: list[tuple], *, table: str = TABLE, page_bytes: int = 4096) -> Path:
    """A bag of these rows of `messages`."""
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA page_size = {page_bytes}")
    db.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT)")
    db.execute(table)
    db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
    db.commit()
    db.close()
    return path


def random_rows(count: int, draw: random.Random, *, most: int = 70_000) -> list[tuple]:
    """Rows with integers of every width, and payloads in the cell and beyond it."""
    ids = np.cumsum([draw.choice([1, 1, 1, 300, 10**7]) for _ in range(count)]).tolist()
    choices = [0, 3, 90, 450, 4000, 4061, 4062, 9000, 70_000]
    sizes = [draw.choice([one for one in choices if one <= most]) for _ in ids]
    return [
        (one, draw.choice([0, 1, 5, 300, -4]), draw.choice(TIMES), draw.randbytes(size))
        for one, size in zip(ids, sizes, strict=True)
    ]


def from_pages(store: Store) -> list[tuple]:
    """All rows as the pages have them."""
    cells = store.pages.rows()
    arena, starts = store.pages.payloads(cells)
    data = [arena[s : s + n].tobytes() for s, n in zip(starts, cells.size, strict=True)]
    columns = (cells.id, cells.topic, cells.time_ns)
    return [*zip(*(one.tolist() for one in columns), data, strict=True)]


@pytest.mark.parametrize("page_bytes", [512, 4096, 65536])
def test_pages_give_the_rows_that_sqlite_gives(tmp_path, page_bytes):
    """Every integer width, payloads of every length, one level of pages or three."""
    rows = random_rows(600, random.Random(page_bytes))  # noqa: S311  no secret
    path = make(tmp_path / "a.db3", rows, page_bytes=page_bytes)
    with Store(open_source(str(path))) as store:
        assert from_pages(store) == rows
        middle = store.pages.rows_from(rows[200][0], count=50)
        assert middle.id.tolist() == [row[0] for row in rows[200:250]]


def test_real_files_are_read_from_their_pages(samples):
    """Each real bag's rows, by value, from its pages and from SQLite."""
    paths = sorted((samples / "db3").rglob("*.db3"))
    assert len(paths) == 15
    for path in paths:
        with Store(open_source(str(path))) as store, sqlite3.connect(path) as db:
            columns = "rowid, topic_id, timestamp, data"
            wanted = db.execute(f"SELECT {columns} FROM messages ORDER BY rowid").fetchall()
            assert from_pages(store) == wanted


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (TABLE, (1, "text", 5, b"x")),
        (TABLE, (1, 1, 2.5, b"x")),
        (TABLE, (1, 1, 5, "text")),
        (TABLE.replace(" NOT NULL", ""), (1, 1, 5, None)),
        (TABLE.replace("id INTEGER", "id INT"), (1, 1, 5, b"x")),
        (TABLE + " WITHOUT ROWID", (1, 1, 5, b"x")),
    ],
)
def test_what_no_recorder_writes_is_left_to_sqlite(tmp_path, table, row):
    """Other types and other tables have no rows in pages, so that SQLite is asked."""
    with Store(open_source(str(make(tmp_path / "a.db3", [row] * 1, table=table)))) as store:
        assert store.pages is None or store.pages.rows() is None


def test_scattered_overflow_pages_are_followed(tmp_path):
    """Payloads that were written into the holes of deleted ones are read all the same."""
    path = make(tmp_path / "a.db3", [(i, 1, i, bytes(9000)) for i in range(1, 60)])
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM messages WHERE id % 2 = 0")
        db.execute("INSERT INTO messages VALUES (100, 1, 5, ?)", (bytes(range(256)) * 300,))
    db.close()
    with Store(open_source(str(path))) as store:
        cells = store.pages.rows()
        assert len(cells) == 31
        arena, starts = store.pages.payloads(cells.where(slice(30, 31)))
        assert arena[starts[0] :][:76_800].tobytes() == bytes(range(256)) * 300


def test_damaged_pages_never_hang_or_fail(tmp_path):
    """Bytes flipped anywhere give rows, or None, or no pages: nothing else."""
    draw = random.Random(4)  # noqa: S311  no secret
    whole = make(tmp_path / "a.db3", random_rows(150, draw, most=450), page_bytes=512).read_bytes()
    with sqlite3.connect(tmp_path / "a.db3") as db:
        where = "name = 'messages'"
        root = db.execute(f"SELECT rootpage FROM sqlite_master WHERE {where}").fetchone()[0]
    outcomes = {"rows": 0, "none": 0, "refused": 0}
    for _ in range(400):
        data = bytearray(whole)
        page = draw.randrange(len(data) // 512)
        at = draw.choice([draw.randrange(512), draw.randrange(16)])
        data[page * 512 + at] ^= 1 << draw.randrange(8)
        try:
            pages = Pages(memoryview(data), root=root)
        except ValueError:
            outcomes["refused"] += 1
            continue
        cells = pages.rows()
        if cells is not None:
            pages.payloads(cells)
            assert (np.diff(cells.id, prepend=0) > 0).all()
        outcomes["none" if cells is None else "rows"] += 1
    assert min(outcomes.values()) > 0


def test_a_file_cut_short_is_left_to_sqlite(tmp_path):
    """Pages that are not there are SQLite's to report."""
    path = make(tmp_path / "a.db3", random_rows(100, random.Random(1)))  # noqa: S311  no secret
    with Store(BytesSource(path.read_bytes()[:-5000])) as store:
        assert store.pages is None
