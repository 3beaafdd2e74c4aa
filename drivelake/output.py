"""What a command prints for a script to read."""

from __future__ import annotations

import json
import sys
from typing import Any


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON has no form for, as text."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")
