"""The assembler, calls by every convention, ELF and PE files."""

from __future__ import annotations

import contextlib
import ctypes
import random
import subprocess
from pathlib import Path

import pytest

from pytcg import Cpu
from pytcg.errors import AssemblyError, CpuError, GuestFault, LoadError

CODE, PAGE = 0x400000, 0x1000

SOURCE = r"""
#include <stdint.h>
extern int outside(int);
static int table[4] = {1, 2, 3, 4};
int *pointer = &table[2];
uint64_t sum(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
             uint64_t h) { return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h; }
double mix(double a, int b, double c) { return a * b - c; }
int length(const char *text) { int n = 0; while (text[n]) n++; return n; }
int through(int x) { return outside(x) + *pointer; }
"""


def cpu_with(text: str, mode: str = "long") -> Cpu:
    cpu = Cpu(mode)
    cpu.map(CODE, PAGE)
    cpu.write(CODE, cpu.asm(text, address=CODE))
    return cpu


# The assembler -----------------------------------------------------------------------------------


def test_assembly_in_every_mode() -> None:
    assert Cpu().asm("add rax, rbx; mul ecx").hex() == "4801d8f7e1"
    assert Cpu("protected").asm("add eax, ebx\nmul ecx").hex() == "01d8f7e1"
    assert Cpu("real").asm("add ax, bx").hex() == "01d8"
    assert Cpu().asm("here: jmp here; jmp there; there: ret").hex() == "ebfeeb00c3"


def test_references_are_relative_to_the_address() -> None:
    cpu = Cpu()
    assert cpu.asm("call f", address=0x1000, symbols={"f": 0x2000}).hex() == "e8fb0f0000"
    assert cpu.asm("movabs rax, offset f", symbols={"f": 0x123456789}).hex() == (
        "48b88967452301000000")  # fmt: skip
    assert cpu.asm("mov eax, [rip + f]", address=0x1000, symbols={"f": 0x1006}).hex() == (
        "8b0500000000")  # fmt: skip


@pytest.mark.parametrize(("text", "match"), [
    ("frob rax", "invalid instruction mnemonic 'frob': frob rax"), ("call f", "no symbol 'f'"),
    ('.ascii "', "unterminated|expected|newline"),
    ("jmp f ; nop \\", ".")])  # fmt: skip
def test_bad_assembly_is_an_error_and_no_end(text: str, match: str) -> None:
    with pytest.raises(AssemblyError, match=match):
        Cpu().asm(text)
    with pytest.raises(AssemblyError, match="too far"):
        Cpu().asm("call f", symbols={"f": 1 << 40})
    assert Cpu().asm("nop") == b"\x90"


# Calls -------------------------------------------------------------------------------------------


def test_sysv_and_win64() -> None:
    cpu = cpu_with("mov rax, rdi; sub rax, rsi; add rax, [rsp + 8]; ret")
    assert cpu.call(CODE, 10, 3, 0, 0, 0, 0, 100) == 107
    assert cpu.call(CODE, 1, 2, 0, 0, 0, 0, 0) == (1 << 64) - 1
    cpu = cpu_with("mov rax, rcx; sub rax, r9; add rax, [rsp + 40]; ret")
    assert cpu.call(CODE, 10, 0, 0, 3, 100, abi="win64") == 107
    cpu = cpu_with("addsd xmm0, xmm1; ret")
    assert cpu.call(CODE, 1.5, 2.25, floating=True) == 3.75
    cpu = cpu_with("mulsd xmm1, xmm3; movsd xmm0, xmm1; ret")
    assert cpu.call(CODE, 0, 1.5, 0, 2.0, abi="win64", floating=True) == 3.0


def test_32_bit_conventions() -> None:
    cpu = cpu_with("mov eax, [esp + 4]; sub eax, [esp + 8]; ret", "protected")
    assert cpu.call(CODE, 10, 3) == 7
    cpu = cpu_with("mov eax, [esp + 4]; sub eax, [esp + 8]; ret 8", "protected")
    assert cpu.call(CODE, 10, 3, abi="stdcall") == 7
    cpu = cpu_with("mov eax, ecx; sub eax, edx; sub eax, [esp + 4]; ret 4", "protected")
    assert cpu.call(CODE, 10, 3, 1, abi="fastcall") == 6
    cpu = cpu_with("fld qword ptr [esp + 4]; fmul qword ptr [esp + 12]; ret", "protected")
    assert cpu.call(CODE, -1.5, 2.5, floating=True) == -3.75
    assert cpu.regs.esp == 0


def test_strings_are_passed_by_address_and_registers_stay() -> None:
    cpu = cpu_with("xor eax, eax; l: cmp byte ptr [rdi + rax], 0; je e; inc rax; jmp l; e: ret")
    cpu.regs.rsp, cpu.regs.rip = 0x1234, 0x99
    assert cpu.call(CODE, "hello") == 5
    assert cpu.call(CODE, b"ab\0c") == 2
    assert (cpu.regs.rsp, cpu.regs.rip) == (0x1234, 0x99)


def test_calls_that_do_not_return() -> None:
    cpu = cpu_with("ud2")
    with pytest.raises(GuestFault, match="#UD") as caught:
        cpu.call(CODE)
    assert caught.value.stop.vector == 6  # type: ignore[attr-defined]
    with pytest.raises(GuestFault, match="limit"):
        cpu_with("l: jmp l").call(CODE, max_insns=100)
    with pytest.raises(CpuError, match="no calling convention 'cdecl' in long mode"):
        cpu.call(CODE, abi="cdecl")
    with pytest.raises(CpuError, match="in real mode: none there"):
        Cpu("real").call(0)


def test_a_hook_may_call() -> None:
    cpu = cpu_with("mov eax, 5; nop; add eax, 1; ret")
    cpu.write(CODE + 0x100, cpu.asm("lea rax, [rdi + rdi]; ret"))
    inner = []

    def nested(c: Cpu, at: int, size: int) -> None:
        context = c.save_context()
        inner.append(c.call(CODE + 0x100, 21))
        c.restore_context(context)

    cpu.hooks.address(CODE + 5, nested)
    assert cpu.call(CODE) == 6
    assert inner == [42]


# Files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    (folder / "a.c").write_text(SOURCE)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-nostdlib", "-o", folder / "a.so",
                    folder / "a.c"], check=True)  # fmt: skip
    return folder / "a.so"


def test_a_shared_object(built: Path) -> None:
    cpu = Cpu()
    image = cpu.load(built)
    rng = random.Random(1)
    for _ in range(5):
        numbers = [rng.getrandbits(64) for _ in range(8)]
        expected = sum((n + 1) * value for n, value in enumerate(numbers)) & (1 << 64) - 1
        assert cpu.call(image.symbols["sum"], *numbers) == expected
    assert cpu.call(image.symbols["mix"], 1.5, 4, 2.0, floating=True) == 4.0
    assert cpu.call(image.symbols["length"], "twelve bytes") == 12
    with pytest.raises(GuestFault):
        cpu.call(image.symbols["through"], 5)
    image.bind("outside", lambda c: c.regs.edi * 10)
    assert cpu.call(image.symbols["through"], 5) == 53
    with pytest.raises(LoadError, match="imports no 'nowhere'"):
        image.bind("nowhere", lambda c: 0)


def test_the_host_agrees(built: Path) -> None:
    """The C library's own qsort would be too much; its toupper table-free cousins will do."""
    host = ctypes.CDLL(None)
    cpu = cpu_with("lea eax, [rdi + rdi*4]; xor eax, esi; ret")
    assert cpu.call(CODE, 7, 9) == (35 ^ 9)
    assert host.abs(-5) == 5


def tiny_pe() -> bytes:
    """A PE32+ with one section: `mov eax, [rip+…]; call [import]; ret` and an import table."""
    import struct

    head = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x22)
    directories = [(0, 0)] * 16
    directories[1] = (0x1100, 40)
    optional = struct.pack("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII", 0x20B, 0, 0, 0x200, 0, 0, 0x1000,
                           0x1000, 0x140000000, 0x1000, 0x200, 6, 0, 0, 0, 6, 0, 0, 0x2000, 0x200,
                           0, 3, 0, 0x100000, 0x1000, 0x100000, 0x1000, 0, 16)  # fmt: skip
    optional += b"".join(struct.pack("<II", *pair) for pair in directories)
    section = struct.pack("<8sIIIIIIHHI", b".text", 0x200, 0x1000, 0x200, 0x200, 0, 0, 0, 0,
                          0xE0000020)  # fmt: skip
    body = bytearray(0x200)
    body[0:12] = bytes.fromhex("4883ec28 ff1576010000 83c0")  # sub rsp,40; call [0x1180]; add eax,
    body[12:18] = bytes.fromhex("01 4883c428 c3")
    body[0x100:0x114] = struct.pack("<IIIII", 0x1180, 0, 0, 0x1160, 0x1180)
    body[0x160:0x16C] = b"kernel32.dll"
    body[0x180:0x188] = struct.pack("<Q", 0x11A0)
    body[0x1A0:0x1AE] = b"\0\0GetTickCount"
    return (head + coff + optional + section).ljust(0x200, b"\0") + bytes(body)


@pytest.mark.parametrize("base", [None, 0x180000000])
def test_a_pe_file(base: int | None) -> None:
    cpu = Cpu()
    image = cpu.load(tiny_pe(), base=base)
    assert image.start == (base or 0x140000000) and list(image.imports) == ["GetTickCount"]
    image.bind("GetTickCount", lambda c: 41)
    assert cpu.call(image.entry, abi="win64") == 42


def test_files_that_are_none(tmp_path: Path, built: Path) -> None:
    whole = built.read_bytes()
    rng = random.Random(3)
    cases = [(b"", "raw", "nothing to load"), (b"\x7fELF", "auto", "no elf file"),
             (b"MZ" + bytes(200), "auto", "no pe file"), (whole, "coff", "no kind of file")]
    for data, kind, match in cases:
        with pytest.raises(LoadError, match=match):
            Cpu().load(data, kind=kind)
    with pytest.raises(LoadError, match="not for protected mode"):
        Cpu("protected").load(whole)
    with pytest.raises(LoadError, match="No such file"):
        Cpu().load(tmp_path / "none")
    for _ in range(60):
        broken = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            broken[rng.randrange(min(len(broken), 0x400))] = rng.getrandbits(8)
        with contextlib.suppress(CpuError):
            Cpu().load(bytes(broken))
