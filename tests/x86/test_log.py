"""The debug log: what each item of `-d` shows, through the library."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest

from pytcg import Cpu
from pytcg.log import Log
from x86.assemble import assemble

PAGE = 0x1000
CODE, DATA, HOLE = 0x1000, 0x2000, 0x5000
IDT, HANDLER = 0x3000, 0x1800

Logged = Callable[..., str]


@pytest.fixture(params=["threaded", "python"])
def logged(request: pytest.FixtureRequest) -> Logged:
    """Runs code with some items on; returns the log."""

    def run(items: str, text: str, mode: str = "long", *, insns: int = 100, **regs: int) -> str:
        stream = io.StringIO()
        log = Log(items.split(","), stream)
        cpu = Cpu(mode=mode, engine=request.param, log=log)
        cpu.map(0, HOLE)
        cpu.write(CODE, assemble(text, {"real": 16, "protected": 32, "long": 64}[mode]))
        for name, value in regs.items():
            cpu.regs[name] = value
        cpu.run(CODE, max_insns=insns)
        return stream.getvalue()

    return run


def test_in_asm_shows_a_block_when_it_is_translated(logged: Logged) -> None:
    text = logged("in_asm", "mov rbx, rax; movabs rcx, 0x1122334455667788; hlt")
    assert text.startswith(
        "----------------\n"
        "IN: \n"
        "0x00001000:  48 89 c3                 movq     %rax, %rbx\n"
        "0x00001003:  48 b9 88 77 66 55 44 33  movabsq  $0x1122334455667788, %rcx\n"
        "0x0000100b:  22 11\n"
        "0x0000100d:  f4                       hlt\n"
        "\n"
    )
    assert "Trace" not in text and "check_exception" not in text


def test_in_asm_knows_the_code_size(logged: Logged) -> None:
    assert "b8 34 12                 movw     $0x1234, %ax" in logged(
        "in_asm", "mov ax, 0x1234; hlt", "real"
    )
    assert "movl     $0x1234, %eax" in logged("in_asm", "mov eax, 0x1234; hlt", "protected")


def test_in_asm_shows_bytes_that_are_no_instruction(logged: Logged) -> None:
    assert "06                       .byte    0x06" in logged("in_asm", ".byte 6")


def test_in_asm_of_an_instruction_on_two_pages(logged: Logged) -> None:
    code = "jmp 1f; .fill 0xff8, 1, 0x90; 1: mov ecx, 0x11223344; hlt"
    assert "0x00001ffd:  b9 44 33 22 11           movl     $0x11223344, %ecx" in logged(
        "in_asm", code
    )


def test_exec_shows_each_block_entered(logged: Logged) -> None:
    code = "mov ecx, 3; 1: dec ecx; jnz 1b; hlt"
    logged("exec", code, "protected")  # a form that must be compiled first interrupts its block
    text = logged("exec", code, "protected")
    trace = re.compile(r"Trace 0: 0x[0-9a-f]+ \[0{16}/([0-9a-f]{16})/[0-9a-f]{8}/[0-9a-f]{8}\]")
    pcs = [int(match[1], 16) for match in map(trace.fullmatch, text.splitlines()) if match]
    assert len(pcs) == len(text.splitlines())
    assert pcs == [CODE, CODE + 5, CODE + 5, CODE + 8]


def test_exec_shows_single_steps(logged: Logged) -> None:
    text = logged("exec", "push 0x102; popfq; nop; nop; hlt", rsp=0x4800, insns=4)
    assert all(line.startswith("Trace 0: 0x") for line in text.splitlines())
    assert re.findall(r"/([0-9a-f]{16})/", text)[-1] == f"{CODE + 6:016x}"


def test_int_shows_an_exception_with_registers(logged: Logged) -> None:
    text = logged("int", "mov rax, [rbx]", rbx=HOLE)
    first, second, *rest = text.splitlines()
    assert first == "check_exception old: 0xffffffff new 0xe"
    assert re.fullmatch(rf" {{5}}0: v=0e e=0000 i=0 cpl=0 IP=0008:{CODE:016x} pc={CODE:016x} "
                        rf"SP=0010:0{{16}} CR2={HOLE:016x}", second)  # fmt: skip
    dump = "\n".join(rest)
    assert f"RBX={HOLE:016x}" in dump and f"RIP={CODE:016x}" in dump and "CR0=00000031" in dump


def test_int_shows_software_interrupts(logged: Logged) -> None:
    text = logged("int", "mov word ptr [0x84], 0x1800; int 0x21", "real", rsp=0x4000, insns=2)
    assert "v=21 e=0000 i=1 cpl=0 IP=0000:0000000000001008" in text
    assert "check_exception" not in text and "Servicing" not in text


def test_mmu_shows_misses_and_what_was_found(logged: Logged) -> None:
    text = logged("mmu", f"mov al, [{DATA}]; mov [{DATA}], al; mov al, [{HOLE}]", "protected")
    assert f"mmu: miss addr={DATA:016x} read\n" in text
    assert f"mmu: fill addr={DATA:016x} phys={DATA:016x} rwx\n" in text
    assert f"mmu: miss addr={HOLE:016x} read\n" in text


def test_stages_of_a_form_once_each(logged: Logged) -> None:
    text = logged("op,op_opt,llvm,out_asm", "mov eax, 1; hlt; nop", "protected")
    blocks = re.findall(r"^(OP|LLVM|LLVM after optimization|OUT): MOV ", text, re.MULTILINE)
    assert sorted(blocks) == ["LLVM", "LLVM after optimization", "OP", "OUT"]
    assert "function form_" in text
    assert re.search(r"^define .* @form_", text, re.MULTILINE)
    assert re.search(r"^form_[0-9a-f]+:", text, re.MULTILINE)


def test_only_the_stage_that_was_asked_for(logged: Logged) -> None:
    text = logged("op", "mov eax, 1; hlt", "protected")
    assert text.startswith("OP: MOV ")
    assert "OP after" not in text and "define" not in text and "IN:" not in text


def test_nothing_asked_for_is_nothing_logged(logged: Logged) -> None:
    assert logged("debug", "mov eax, 1; hlt", "protected") == ""


def test_a_log_that_cannot_be_written_surfaces(logged: Logged) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("disk full")

    cpu = Cpu(log=Log(["in_asm"], Full()))
    cpu.map(0, PAGE)
    with pytest.raises(OSError, match="disk full"):
        cpu.run(0, max_insns=5)
