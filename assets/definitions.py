"""The code location. Alone in its file: a `definitions` function hides its neighbours' assets."""

from __future__ import annotations

import dagster as dg

from assets.platform import platform_definitions


@dg.definitions
def definitions() -> dg.Definitions:
    """The platform of this environment."""
    return platform_definitions()
