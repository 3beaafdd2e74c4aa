"""A small lakehouse that keeps every rule: one drive, two recordings, three frames, a dataset."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa

from contracts.tables import TABLES

DAY = date(2026, 1, 2)
START_NS = 1_767_312_000_000_000_000
STEP_NS = 100_000_000
_STREAMS = ("lidar", "gnss", "pose", "speed", "yaw_rate", "acceleration", "steering_angle")


def _recording(recording_id: str, recorder: str, messages: int) -> dict[str, Any]:
    return {
        "recording_id": recording_id,
        "drive_id": "drive-1",
        "recorder": recorder,
        "format": "mcap",
        "size_bytes": 1000,
        "messages_declared": messages,
        "messages_written": messages,
        "messages_bad": 0,
        "messages_lost": 0,
        "integrity": "CRC",
        "outcome": "ACCEPTED",
    }


def _upload(uri: str, state: str, **more: Any) -> dict[str, Any]:
    return {"uri": uri, "sha256": f"hash of {uri}", "size_bytes": 9, "state": state, **more}


def _messages(count: int) -> list[dict[str, Any]]:
    return [
        {
            "recording_id": "rec-a",
            "channel_id": 1,
            "topic": "/sensor",
            "sequence": index,
            "log_time_ns": START_NS + index * STEP_NS,
        }
        for index in range(count)
    ]


def _frame(index: int) -> dict[str, Any]:
    t_ns = START_NS + index * STEP_NS
    row: dict[str, Any] = {
        "drive_id": "drive-1",
        "clock": "utc",
        "t_ns": t_ns,
        "camera_recording_id": "rec-a",
        "camera_topic": "/camera",
        "camera_unit_offset": 64,
        "camera_data_offset": 1000 * index,
        "sync_error_ns": 5_000_000,
        "clock_uncertainty_ns": 100_000,
        "is_complete": True,
        "latitude_deg": 48.1,
        "longitude_deg": 11.5,
    }
    for stream in _STREAMS:
        row |= {f"{stream}_state": "ok", f"{stream}_sync_error_ns": -5_000_000}
        row |= {f"{stream}_t_ns": t_ns - 5_000_000}
    return row


def _label(index: int) -> dict[str, Any]:
    return {
        "drive_id": "drive-1",
        "t_ns": START_NS + index * STEP_NS,
        "camera_topic": "/camera",
        "label_id": f"label-{index}",
        "class_name": "car",
        "length_m": 4.2,
        "width_m": 1.8,
        "height_m": 1.5,
        "box_x0_px": 10.0,
        "box_y0_px": 20.0,
        "box_x1_px": 30.0,
        "box_y1_px": 40.0,
        "distance_m": 12.0,
        "confidence": 0.9,
        "lidar_points": 40,
        "labeller": "clusters",
        "labeller_version": "1",
    }


def _sample(split: str, drive: str) -> dict[str, Any]:
    return {
        "dataset_id": "set-1",
        "sample_id": f"sample-{split}",
        "split": split,
        "drive_id": drive,
        "t_ns": START_NS,
        "recording_id": "rec-a",
        "image_jpeg": f"image {split}".encode(),
        "boxes": [],
    }


def _clock(recording_id: str, method: str) -> dict[str, Any]:
    return {
        "drive_id": "drive-1",
        "recording_id": recording_id,
        "recorder": "adas" if recording_id == "rec-a" else "bus",
        "reference": "utc",
        "valid_from_ns": START_NS,
        "valid_to_ns": START_NS + 10 * STEP_NS,
        "offset_ns": 250_000_000,
        "uncertainty_ns": 100_000,
        "method": method,
    }


def _channel(channel_id: int, table: str, count: int) -> dict[str, Any]:
    return {
        "recording_id": "rec-a",
        "channel_id": channel_id,
        "topic": f"/{table}",
        "table_name": f"silver.{table}",
        "decode_status": "DECODED",
        "message_count": count,
        "bad_count": 0,
    }


def _ledger(recording_id: str, messages: int, *, offset: int, length: int) -> dict[str, Any]:
    return {
        "recording_id": recording_id,
        "offset": offset,
        "length": length,
        "fate": "decoded" if messages else "skipped",
        "messages_declared": messages,
        "messages_written": messages,
        "messages_bad": 0,
        "messages_lost": 0,
    }


ROWS: dict[str, list[dict[str, Any]]] = {
    "bronze.uploads": [
        _upload("a.mcap", "ACCEPTED", recording_id="rec-a", recovered_messages=5),
        _upload("b.mcap", "PARTIAL", recording_id="rec-b", reason_code="TRUNCATED"),
        _upload("c.mcap", "DUPLICATE", duplicate_of="rec-a"),
        _upload("d.mcap", "QUARANTINED", reason_code="BAD_MAGIC"),
        {"uri": "e.mcap", "state": "PENDING"},
    ],
    "bronze.recordings": [_recording("rec-a", "adas", 5), _recording("rec-b", "bus", 2)],
    "bronze.channels": [_channel(1, "imu", 3)],
    "bronze.decode_ledger": [
        _ledger("rec-a", 0, offset=0, length=64),
        _ledger("rec-a", 5, offset=64, length=936),
        _ledger("rec-b", 2, offset=0, length=1000),
    ],
    "silver.imu": _messages(3),
    "silver.clocks": [_clock("rec-a", "gnss_time"), _clock("rec-b", "shared_signal")],
    "silver.frames": [_frame(index) for index in range(3)],
    "gold.scenarios": [
        {
            "drive_id": "drive-1",
            "scenario": "standstill",
            "start_ns": START_NS,
            "end_ns": START_NS + STEP_NS,
        }
    ],
    "gold.labels": [_label(index) for index in range(2)],
    "gold.datasets": [
        {
            "dataset_id": "set-1",
            "name": "set",
            "train_samples": 1,
            "validation_samples": 1,
            "test_samples": 1,
        }
    ],
    "gold.dataset_samples": [
        _sample("train", "drive-2"),
        _sample("validation", "drive-1"),
        _sample("test", "drive-3"),
    ],
    "gold.evaluations": [
        {
            "model": "detector",
            "model_version": "1",
            "dataset_id": "set-1",
            "target": "torch",
            "slice": "all",
            "metric": "ap50",
            "value": 0.6,
            "lower": 0.5,
            "upper": 0.7,
        }
    ],
}


def good_tables() -> dict[str, pa.Table]:
    """Every table of the contracts, with the rows above where there are some."""
    tables = {}
    for name, contract in TABLES.items():
        dated = {"ingest_date": DAY} if "ingest_date" in contract.schema.names else {}
        rows = [{**row, **dated} for row in ROWS.get(name, [])]
        tables[name] = pa.Table.from_pylist(rows, schema=contract.schema)
    return tables
