"""The servers of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ui.show import Show


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Show]:
    made = Show(tmp_path / "vnc")
    yield made
    made.close()
    assert made.errors == []
