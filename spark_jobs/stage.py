"""A stage of work on the Spark server: one task a payload, bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

Work = Callable[[bytes], bytes]


def run_stage(spark: SparkSession, payloads: Sequence[bytes], work: Work) -> Iterator[bytes]:
    """Run `work` on every payload in a task of its own, and yield what they return as they end.

    Args:
        spark: Session.
        payloads: What each task gets; a few megabytes at most.
        work: A module's function, or a `functools.partial` of one: the workers import it.

    Yields:
        Results, in no particular order.
    """
    if not payloads:
        return

    def work_through(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for payload in payloads_in(batches):
            yield pa.RecordBatch.from_arrays([pa.array([work(payload)], pa.binary())], ["r"])

    dealt = deal(spark, payloads, tasks=len(payloads))
    for row in dealt.mapInArrow(work_through, "r binary").toLocalIterator():
        yield bytes(row.r)


def deal(spark: SparkSession, payloads: Sequence[bytes], *, tasks: int) -> DataFrame:
    """Payloads as the one column of a frame, dealt evenly to a number of tasks."""
    # From one partition round-robin deals as many rows to each task; adaptive execution, which
    # puts small partitions together whatever they take to work through, leaves it alone.
    df = spark.createDataFrame(pa.table({"payload": pa.array(payloads, pa.binary())}))
    return df.coalesce(1).repartition(max(tasks, 1))


def payloads_in(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """In a worker: the payloads that `deal` gave it."""
    for batch in batches:
        yield from batch.column(0).to_pylist()


def pack(weights: Sequence[int], *, limit: int, at_most: int) -> list[list[int]]:
    """Deal consecutive items to tasks so that none weighs more than `limit`, if it can be.

    Args:
        weights: Weight of each item.
        limit: Weight of a task; an item above it stands alone.
        at_most: Items a task.

    Returns:
        Positions of the items of each task, in order.
    """
    tasks: list[list[int]] = []
    weight = 0
    for position, item in enumerate(weights):
        if not tasks or weight + item > limit or len(tasks[-1]) >= at_most:
            tasks.append([])
            weight = 0
        tasks[-1].append(position)
        weight += item
    return tasks
