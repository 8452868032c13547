"""Importing a module when something in it is needed."""

from __future__ import annotations

from pytcg.typed import Any


def load(module: str, name: str) -> Any:
    """``name`` of ``module``; what importlib does, without importing that first."""
    return getattr(__import__(module, fromlist=[name]), name)
