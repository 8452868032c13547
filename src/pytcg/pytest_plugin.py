"""pytest collects files ``*.cases`` of one-line cases (`pytcg.cases`), each on every engine.

`--pytcg-engines=threaded,jit,python` says on which. Installed with pytcg it is there by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytcg.cases import Case

_SUFFIX = ".cases"
_ENGINES = ("auto", "threaded", "jit", "python")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pytcg-engines", default="threaded,jit,python", metavar="NAMES",
                     help="engines that cases in *.cases files run on")  # fmt: skip


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseFile | None:
    if file_path.suffix == _SUFFIX:
        return CaseFile.from_parent(parent, path=file_path)
    return None


class CaseFile(pytest.File):
    """A file of cases."""

    def collect(self) -> Iterable[pytest.Item]:
        from pytcg.cases import CaseError, parse_file

        engines = [name for name in self.config.getoption("--pytcg-engines").split(",") if name]
        for name in engines:
            if name not in _ENGINES:
                raise pytest.UsageError(f"no engine {name!r}: {', '.join(_ENGINES)}")
        for number, case in parse_file(self.path.read_text()):
            if isinstance(case, CaseError):
                raise self.CollectError(f"{self.path}:{number}: {case}")
            for engine in engines:
                name = f"{number}: {case.assembly} [{engine}]"
                yield CaseItem.from_parent(self, name=name, case=case, engine=engine, line=number)


class CaseItem(pytest.Item):
    """A case on an engine."""

    def __init__(self, *, case: Case, engine: str, line: int, **kwargs: object):
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self._case = case
        self._engine = engine
        self._line = line

    def runtest(self) -> None:
        from pytcg.cases import run

        differences = run(self._case, self._engine)
        if differences:
            raise CaseFailed(differences)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException],
                     style: object = None) -> str:  # fmt: skip
        where = f"{self.path}:{self._line}: {self._case.text}"
        if isinstance(excinfo.value, CaseFailed):
            return "\n".join([where, *(f"    {text}" for text in excinfo.value.args[0])])
        return f"{where}\n    {type(excinfo.value).__name__}: {excinfo.value}"

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line - 1, self.name


class CaseFailed(Exception):
    """What differs."""
