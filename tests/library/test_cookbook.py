"""docs/LIBRARY.md: each recipe runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_TEXT = (Path(__file__).parents[2] / "docs" / "LIBRARY.md").read_text()
_RECIPES = re.findall(r"^## (\d+)\. ([^\n]+)\n(.*?)(?=^## |\Z)", _TEXT, re.M | re.S)


def test_there_are_ten() -> None:
    assert [int(number) for number, _, _ in _RECIPES] == list(range(1, 11))


@pytest.mark.parametrize(("title", "body"), [(title, body) for _, title, body in _RECIPES])
def test_recipe(title: str, body: str, tmp_path: Path) -> None:
    code, = re.findall(r"^```python\n(.*?)^```", body, re.M | re.S)
    path = tmp_path / "recipe.py"  # a native function is parsed from its source file
    path.write_text(code)
    exec(compile(code, str(path), "exec"), {"__name__": "recipe"})
