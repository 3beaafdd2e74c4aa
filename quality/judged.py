"""What models are chosen and judged by: the frames behind the samples of validation and test."""

from __future__ import annotations

from collections.abc import Callable

from contracts.limits import LIMITS
from contracts.tables import TableContract
from quality.rule import Failing

# Samples whose frame was synchronised anew since are not judged: their dataset is of other frames.
_JUDGED = f"""
SELECT s.dataset_id, s.split, COUNT(*) AS samples,
    SUM(CASE WHEN f.is_complete THEN 0 ELSE 1 END) AS incomplete,
    SUM(CASE WHEN f.clock_uncertainty_ns <= {LIMITS.clock_uncertainty_ns} THEN 0 ELSE 1 END)
        AS unsure
FROM {{rows}} AS s
JOIN silver.frames AS f ON f.drive_id = s.drive_id AND f.t_ns = s.t_ns
    AND f.camera_recording_id = s.recording_id
WHERE s.split IN ('validation', 'test')
GROUP BY s.dataset_id, s.split
"""


def judged_fault(condition: str) -> Callable[[TableContract], Failing | None]:
    """Splits for which a condition holds.

    Args:
        condition: SQL on `r.samples`, and of these `r.incomplete`, in whose frames a stream is
            missing, and `r.unsure`, whose clocks are not known well enough.
    """
    failing = Failing(condition=condition, source=_JUDGED, reads=("silver.frames",))
    return lambda table: failing if table.name == "gold.dataset_samples" else None
