"""VEX's third register in a region: it is the value that the instruction before has left."""

from __future__ import annotations

import pytest

from pytcg import Cpu

# mov ecx, 5; mov edx, 15; andn eax, ecx, edx; mov ecx, 3; shlx ebx, eax, ecx; hlt
CODE = bytes.fromhex("b905000000 ba0f000000 c4e270f2c2 b903000000 c4e271f7d8 f4")


@pytest.mark.parametrize("engine", ["threaded", "jit", "python"])
def test_a_register_written_just_before(engine: str) -> None:
    cpu = Cpu(engine=engine)
    cpu.map(0x10000, 0x1000)
    cpu.write(0x10000, CODE)
    cpu.regs["rcx"] = 0
    assert cpu.run(0x10000).kind == "hlt"
    assert (cpu.regs["rax"], cpu.regs["rbx"]) == (10, 80)
