"""`python -m pytcg.fuzz`: engines agree, what disagrees is found and minimised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytcg.fuzz import __main__ as program
from pytcg.fuzz import engines
from pytcg.fuzz.engines import Outcome
from pytcg.fuzz.generate import generate


def test_a_seed_is_a_sequence() -> None:
    assert generate(5, 8) == generate(5, 8)
    assert len({generate(n, 8).code for n in range(20)}) == 20


@pytest.mark.parametrize("others", ["jit", "unicorn", "python"])
def test_engines_agree(others: str, capsys: pytest.CaptureFixture[str]) -> None:
    count = "20" if others == "python" else "150"
    status = program.main(["--engines", f"threaded,{others}", "--count", count])
    assert status == 0, capsys.readouterr().out


def test_a_disagreement_is_minimised(monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """An engine that gets additions of the accumulator wrong."""
    right = engines.runner("threaded")

    def wrong(sequence: object) -> Outcome:
        outcome = right(sequence)  # type: ignore[arg-type]
        if any("xor" in text for text in sequence.text):  # type: ignore[attr-defined]
            return Outcome((1, *outcome.registers[1:]), *(
                getattr(outcome, name) for name in ("flags", "xmm", "data", "vector")))
        return outcome

    monkeypatch.setattr(program, "runner", lambda name: wrong if name == "bad" else right)
    assert program.main(["--engines", "threaded,bad", "--count", "60"]) == 1
    lines = capsys.readouterr().out.splitlines()
    cases = [line.strip() for line in lines if " | " in line]
    assert cases and all("xor" in case.split(" | ")[0] and ";" not in case for case in cases)


def test_it_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state"
    for expected in (7, 14):
        assert program.main(["--engines", "threaded,jit", "--count", "7", "--resume",
                             str(state)]) == 0  # fmt: skip
        assert json.loads(state.read_text()) == {"seed": expected, "bad": 0}
    state.write_text("{")
    assert program.main(["--count", "1", "--resume", str(state)]) == 1
    assert "no state to go on from" in capsys.readouterr().err
    assert program.main(["--engines", "threaded,qemu"]) == 1
    assert "no engine 'qemu'" in capsys.readouterr().err
