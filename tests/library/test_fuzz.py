"""`python -m pytcg.fuzz`: engines agree, what disagrees is found and minimised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytcg.cases import parse, run
from pytcg.errors import CpuError
from pytcg.fuzz import __main__ as program
from pytcg.fuzz import engines, hostcpu, report
from pytcg.fuzz.generate import KINDS, Rules, Sequence, describe, generate
from pytcg.fuzz.hostserver import HostServer
from pytcg.fuzz.state import CODE, Outcome

HOST = pytest.mark.skipif(not hostcpu.available(), reason="no Linux on x86-64")


def test_a_seed_is_a_sequence() -> None:
    assert generate(5, 8) == generate(5, 8)
    assert len({generate(n, 8).code for n in range(20)}) == 20


@pytest.mark.parametrize("others", ["jit", "unicorn", "python", pytest.param("host", marks=HOST)])
def test_engines_agree(others: str, capsys: pytest.CaptureFixture[str]) -> None:
    count = {"python": "20", "jit": "20"}.get(others, "150")
    status = program.main(["--engines", f"threaded,{others}", "--count", count])
    assert status == 0, capsys.readouterr().out


def test_a_disagreement_is_minimised(monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """An engine that gets rAX wrong where there is an XOR, reported as a case."""
    right = engines.runner("threaded")

    def wrong(sequence: Sequence) -> Outcome:
        outcome = right(sequence)
        if any("xor" in text for text in sequence.text):
            return Outcome({**outcome.registers, "rax": 1}, outcome.data, outcome.vector)
        return outcome

    for module in (program, report):
        monkeypatch.setattr(module, "runner", lambda name: wrong if name == "bad" else right)
    assert program.main(["--engines", "threaded,bad", "--count", "40", "--kinds", "integer"]) == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if " => " in line]
    assert lines
    for line in lines:
        case = parse(line)
        assert case.after.registers["rax"] == 1 and ";" not in case.assembly
        assert run(case)[0].startswith("rax is ")


def test_what_is_reported_can_be_run() -> None:
    """A case that says what the threaded engine does holds."""
    for seed in range(8):
        sequence = generate(seed, 3)
        outcome = engines.runner("threaded")(sequence)
        other = Outcome({**outcome.registers, "rip": 0}, outcome.data, outcome.vector)
        assert outcome.differences(other, 0, 0)[0][0] == "rip"


@HOST
def test_faults_on_the_host_are_outcomes_and_deaths_too() -> None:
    server = HostServer()
    try:
        start = generate(1, 1)
        for code, vector in ((b"\x90", None), (b"\x0f\x0b", 6), (b"\xf4", 13), (b"\xcc", 3)):
            outcome = server.run(b"\x90" + code, start.start, start.data)
            assert outcome.vector == vector
            assert outcome.registers["rip"] == CODE + (1 if vector in (6, 13) else 2)
        died = server.run(b"\xeb\xfe", start.start, start.data)  # jmp $
        assert died.failure == "the host process's death by SIGVTALRM"
        assert server.run(b"\x90", start.start, start.data).vector is None
    finally:
        server.close()


def test_what_a_sequence_may_not_be() -> None:
    like = generate(3, 1)
    for code in ("f4", "cd80", "0f05", "c3", "8b00", "89e3", "5c", "648b03", "0fa2"):
        assert describe((bytes.fromhex(code),), like) is None, code
    assert describe((bytes.fromhex("48ab"), bytes.fromhex("5b")), like) is None  # pop rbx
    assert describe((bytes.fromhex("89c7"), bytes.fromhex("48ab")), like) is None  # mov edi, eax
    assert describe((bytes.fromhex("48ab"), bytes.fromhex("58")), like) is not None
    avx = bytes.fromhex("c5f458c2")  # vaddps
    assert describe((avx,), generate(3, 1, KINDS, Rules(groups=engines.rules(
        ["threaded", "host"]).groups))) is None or "avx" in _ours()  # fmt: skip
    with pytest.raises(CpuError, match="no kind 'odd'"):
        generate(1, 1, ["odd"])


def _ours() -> frozenset[str]:
    from pytcg_x86.system.cpumodel import CpuModel

    return frozenset(CpuModel.parse("max").features)


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
