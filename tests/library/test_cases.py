"""One-line cases: the project's own, and the pytest plugin that collects other people's."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pytcg.cases import ENGINES, Case, CaseError, parse, parse_file, run

_FILES = sorted((Path(__file__).parent / "cases").glob("*.cases"))
_CASES = [(path.stem, number, case) for path in _FILES
          for number, case in parse_file(path.read_text())]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "number", "case"), _CASES)
def test_case(name: str, number: int, case: Case, engine: str) -> None:
    assert isinstance(case, Case), case
    assert run(case, engine) == []


@pytest.mark.parametrize(("line", "match"), [
    ("nop", "a case is"), ("nop | => #QQ", "no exception"), ("nop | eax => ", "neither"),
    ("nop | => [5", "neither"),
])  # fmt: skip
def test_lines_that_are_none(line: str, match: str) -> None:
    with pytest.raises(CaseError, match=match):
        parse(line)


def test_what_differs_is_said() -> None:
    assert run(parse("inc al | al=1 => al=3 zf=1")) == ["al is 0x2, not 0x3", "zf is 0x0, not 0x1"]
    assert "ended by <Stop exception" in run(parse("ud2 | => al=1"))[0]
    with pytest.raises(CaseError, match="no register 'qax'"):
        run(parse("nop | qax=1 => al=0"))


def test_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "some.cases").write_text("inc al | al=1 => al=2\ninc al | al=1 => al=3\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    installed = any(found.name == "pytcg" for found in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "pytcg.pytest_plugin"]  # from a bare checkout
    done = subprocess.run([sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider",
                           "--pytcg-engines=threaded,python", str(tmp_path)],
                          capture_output=True, text=True, cwd=tmp_path, env=environment,
                          timeout=60, check=False)  # fmt: skip
    assert "2 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "some.cases:2: inc al | al=1 => al=3" in done.stdout
    assert "al is 0x2, not 0x3" in done.stdout
