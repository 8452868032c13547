"""Fixtures that tests of the monitor share."""

from __future__ import annotations

from monitor.station import station

__all__ = ["station"]
