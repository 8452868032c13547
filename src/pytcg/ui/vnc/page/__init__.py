"""The page that shows the machine in a browser: `viewer.html`, a viewer in itself."""

from __future__ import annotations

from pathlib import Path


def read_page() -> bytes:
    """Its text."""
    return Path(__file__).with_name("viewer.html").read_bytes()
