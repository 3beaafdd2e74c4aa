"""Raw: what arrives. Nothing here is made by the platform."""

from __future__ import annotations

import dagster as dg

LANDING = dg.AssetKey(["raw", "landing"])
landing = dg.AssetSpec(
    LANDING,
    description="Uploads as the fleet sends them: recordings, bus definitions and manifests, on "
    "disk or under a bucket's prefix. Originals are never changed; the sensor observes them.",
    group_name="raw/landing",
    kinds={"file"},
    owners=["team:data-platform"],
)
