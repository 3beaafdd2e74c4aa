"""How a recorder stamps the sensor's instant, the publication and the arrival on its clock."""

from __future__ import annotations

import attrs
import numpy as np

from contracts.recording import Int64Array
from simulation.plan import DrivePlan

MIN_LATENCY_NS = 2_500_000
"""Above twice the largest jitter, so that nothing arrives before it was measured."""


@attrs.frozen(eq=False)
class Stamps:
    """Stamps of the messages of one topic on the recorder's clock; every array is (N,) int64."""

    sensor_ns: Int64Array
    publish_ns: Int64Array
    log_ns: Int64Array


def stamp_messages(
    plan: DrivePlan,
    *,
    recorder: str,
    topic: str,
    t_ns: Int64Array,
    latency_ns: tuple[int, int],
) -> Stamps:
    """Stamp the messages of a topic.

    Args:
        plan: The drive.
        recorder: Whose clock.
        topic: The topic; picks the jitter.
        t_ns: (N,) instants of the sensor, UTC.
        latency_ns: Bounds of the time from the sensor to the recorder, at least
            `MIN_LATENCY_NS`.

    Returns:
        The stamps: sensor <= publish <= log.
    """
    rng = plan.stream(recorder, "stamps", topic)
    clock = plan.clocks[recorder]
    latency = rng.integers(*latency_ns, len(t_ns))
    sensor = clock.stamp(t_ns, rng=rng)
    log = clock.stamp(t_ns + latency, rng=rng)
    publish = np.maximum(sensor, log - rng.integers(50_000, 400_000, len(t_ns)))
    return Stamps(sensor, publish, log)
