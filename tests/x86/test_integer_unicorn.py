"""Every integer instruction form of 16- and 32-bit code, random operands, against Unicorn."""

from __future__ import annotations

import pytest

from x86.encoder import Layout
from x86.integer_cases import Case, cases, family_rows
from x86.outcome import PROTECTED, REAL, differences, on_engine, on_unicorn

_MNEMONICS = sorted({row.mnemonic for row in family_rows() if "o64" not in row.attrs})
# What Unicorn 2.1 does wrong or does not know; the host CPU vouches for these in 64-bit code.
EXCLUDED = {
    "f6/1": "Unicorn takes the alias of TEST for undefined", "f7/1": "the same",
    "POPCNT 16": "Unicorn counts 32 bits in 16-bit code",
    "CRC32 16": "Unicorn takes it for undefined in 16-bit code", "MOVBE 16": "the same",
    **{f"{name} {bits}": "Unicorn has no ADX outside 64-bit code" for name in ("ADCX", "ADOX")
       for bits in (16, 32)},
}  # fmt: skip


def _excluded(case: Case) -> bool:
    row = case.row
    opcode = f"{row.opcode[-1]:02x}/{row.reg}"
    return opcode in EXCLUDED or f"{row.mnemonic} {case.layout.mode}" in EXCLUDED


@pytest.mark.parametrize("mnemonic", _MNEMONICS)
@pytest.mark.parametrize("layout", [REAL, PROTECTED], ids=["16-bit", "32-bit"])
def test_threaded_engine_does_what_unicorn_does(layout: Layout, mnemonic: str) -> None:
    wrong = []
    for case in cases(layout, mnemonic, seed=3, repeat=4):
        if _excluded(case):
            continue
        wrong += differences(case, on_unicorn(case), on_engine(case, "threaded"))
    assert not wrong, "\n".join(wrong[:5])
