"""Pictures in metadata: PNG bytes as Markdown that the page renders."""

from __future__ import annotations

import base64

import dagster as dg


def picture(png: bytes, *, title: str) -> dg.MarkdownMetadataValue:
    """Markdown metadata that shows a PNG."""
    return dg.MetadataValue.md(
        f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"
    )
