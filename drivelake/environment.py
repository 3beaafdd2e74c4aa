"""The one place where the front door reads the process environment."""

from __future__ import annotations

import os
from pathlib import Path

from contracts.settings import Settings, settings_from

PROJECT = Path(__file__).resolve().parent.parent


def load_settings() -> Settings:
    """Settings of this shell; relative defaults start from the project's root."""
    return settings_from(os.environ, working_folder=PROJECT)
