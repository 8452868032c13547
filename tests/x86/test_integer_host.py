"""Every integer instruction form of 64-bit code, random operands and states, against the host CPU.

`integer_cases.EXCLUDED` lists what can't be run this way, and why.
"""

from __future__ import annotations

import random

import pytest

from pytcg.fuzz import hostcpu
from x86.integer_cases import Case, cases, family_rows
from x86.outcome import LONG, Outcome, differences, on_engine, on_host

pytestmark = pytest.mark.skipif(not hostcpu.available(), reason="the host is no x86-64 Linux")

_MNEMONICS = sorted({row.mnemonic for row in family_rows() if "i64" not in row.attrs})


@pytest.mark.parametrize("mnemonic", _MNEMONICS)
def test_threaded_engine_does_what_the_host_does(mnemonic: str) -> None:
    wrong = [line for case in cases(LONG, mnemonic, seed=1, repeat=6)
             for line in differences(case, on_host(case), on_engine(case, "threaded"))]  # fmt: skip
    assert not wrong, "\n".join(wrong[:5])


@pytest.mark.parametrize("engine", ["python", "jit"])
@pytest.mark.parametrize("mnemonic", _MNEMONICS)
def test_other_engines_do_what_the_host_does(mnemonic: str, engine: str) -> None:
    every = list(cases(LONG, mnemonic, seed=2, repeat=1))
    few = random.Random(mnemonic).sample(every, min(3, len(every)))  # they take their time
    wrong = [line for case in few
             for line in differences(case, on_host(case), _run(case, engine))]  # fmt: skip
    assert not wrong, "\n".join(wrong[:5])


def _run(case: Case, engine: str) -> Outcome:
    """A region is left to threaded code where the budget is too small for it."""
    return on_engine(case, engine, whole=engine == "jit" and not case.faults)
