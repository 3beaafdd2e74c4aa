"""Drives written straight into the silver tables, and their frames made slice by slice."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from contracts.tables import TABLES, table_uri
from spark_jobs.frame_plan import DriveWork, plan_frames
from spark_jobs.silver_files import silver_tables
from spark_jobs.silver_frames import frames_from
from spark_jobs.tables import create_table, read_arrow
from udfs.sync.rules import SyncRules


def add_recording(settings, name, *, drive="late", **streams):
    """Add a recording of a drive to the tables: streams by table, seconds on its clock."""
    start, second = 1_790_000_000_000_000_000, 1_000_000_000
    own = {"recording_id": name, "drive_id": drive, "recorder": "adas", "topic": "/one"}
    t_ns = {table: start + np.rint(t_s * second).astype(np.int64) for table, t_s in streams.items()}
    span = [min(map(np.min, t_ns.values())), max(map(np.max, t_ns.values()))]
    clock = {"reference": "utc", "method": "gnss_time", "anchor_ns": start, "offset_ns": 0}
    clock |= {"drift_ppb": 0.0, "uncertainty_ns": 1000, "drift_uncertainty_ppb": 1.0, "samples": 9}
    rows = {
        "bronze.recordings": {**own, "start_ns": span[:1], "end_ns": span[1:]},
        "silver.clocks": {**own, **clock, "valid_from_ns": span[:1], "valid_to_ns": span[1:]},
        **{
            f"silver.{table}": {
                **own, "log_time_ns": one, "sensor_time_ns": one, "orientation_w": 1.0,
                "position_x_m": np.arange(len(one)) / 50, "position_y_m": 0.0,
                "data_offset": np.arange(len(one)),
                **{f"orientation_{axis}": 0.0 for axis in "xyz"},
            }
            for table, one in t_ns.items()
        },
    }  # fmt: skip
    for table, values in rows.items():
        contract = TABLES[table]
        create_table(settings, contract)
        count = max(np.size(one) for one in values.values())
        known = {**values, "ingest_date": dt.date(2026, 11, 20)}
        columns = [
            pa.array(np.broadcast_to(known[field.name], count).tolist(), field.type)
            if field.name in known
            else pa.nulls(count, field.type)
            for field in contract.schema
        ]
        place = table_uri(settings.lake_uri, table)
        write_deltalake(
            place,
            pa.table(columns, schema=contract.schema),
            mode="append",
            storage_options=settings.storage_options,
        )


def frames_by_slices(spark, settings, drive, *, slice_ns):
    """Frames of a drive that is cut into more than four tasks, or left whole if it is short."""
    rules = SyncRules()
    clocks = read_arrow(settings, "silver.clocks", filters=[("drive_id", "=", drive)]).to_pylist()
    drives = [DriveWork(drive, clocks)]
    tables = silver_tables(settings, {row["recording_id"] for row in clocks}, rules=rules)
    plan = plan_frames(spark, settings, drives, tables, rules=rules, slice_ns=slice_ns)
    assert len(plan.tasks) > 4 or slice_ns > 10**12
    found = frames_from(spark, settings, plan, drives, tables, rules=rules).toArrow()
    return found.cast(TABLES["silver.frames"].schema)


def rows_by_time(frames):
    """Rows of frames in the order of camera and time."""
    return sorted(frames.to_pylist(), key=lambda row: (row["camera_topic"], row["t_ns"]))
