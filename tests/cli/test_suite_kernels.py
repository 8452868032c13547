"""Small kernels as suites of system tests start them: multiboot, pc-testdev, an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.test_system import program
from machine.test_kernels import LOAD, elf32, multiboot_header
from x86.assemble import assemble

SUITE = ("-nodefaults -device pc-testdev -device isa-debug-exit,iobase=0xf4,iosize=0x4 -vnc none"
         " -serial stdio -no-reboot -smp 1")  # fmt: skip
"""What such suites say, whatever the test."""


def kernel(folder: Path, code: str, *, flags: int = 0) -> str:
    """A multiboot ELF that runs the code in 32-bit mode."""
    header = multiboot_header(flags)
    path = folder / "test.flat"
    path.write_bytes(elf32(header + assemble(code, 32), entry=LOAD + len(header)))
    return str(path)


SAYS_ITS_LINE = """
    mov esi, [ebx + 16]; mov dx, 0x3f8
    1: lodsb; test al, al; jz 2f; out dx, al; jmp 1b
    2: mov al, 10; out dx, al; mov eax, 5; mov dx, 0xf4; out dx, eax; hlt
"""


@pytest.mark.parametrize("machine", ["accel=tcg", "kernel_irqchip=split", "q35"])
def test_the_command_line_and_the_exit_code(tmp_path: Path, machine: str) -> None:
    path = kernel(tmp_path, SAYS_ITS_LINE)
    environment = tmp_path / "env"
    environment.write_text("NR_CPUS=1\n")
    result = program(*SUITE.split(), "-machine", machine, "-cpu", "max", "-kernel", path,
                     "-initrd", str(environment), "-append", "one two")  # fmt: skip
    assert (result.returncode, result.stderr) == (5 << 1 | 1, "")
    assert result.stdout == f"{path} one two\n"


APIC_MOVES = """
    mov ecx, 0x1b; rdmsr; and eax, 0xfffff7ff; wrmsr
    mov eax, 1; cpuid; mov bl, 1; test dh, 2; jnz 9f
    mov ecx, 0x1b; mov eax, 0xfed40900; xor edx, edx; wrmsr
    mov eax, 1; cpuid; mov bl, 2; test dh, 2; jz 9f
    inc bl; cmp dword ptr [0xfed40030], 0x50014; jne 9f
    inc bl; cmp dword ptr [0xfee00030], -1; jne 9f
    mov ecx, 0x1b; mov eax, 0xfec00900; wrmsr
    inc bl; cmp dword ptr [0xfec00030], 0x50014; jne 9f
    mov eax, 0xfee00900; wrmsr
    inc bl; cmp dword ptr [0xfee00030], 0x50014; jne 9f
    mov dword ptr [0xfec00000], 1
    inc bl; cmp byte ptr [0xfec00010], 0x20; jne 9f
    mov bl, 0
    9: movzx eax, bl; mov dx, 0xf4; out dx, eax; hlt
"""


def test_the_local_apic_s_page_moves_and_cpuid_tells_of_it(tmp_path: Path) -> None:
    """SDM vol. 3A, 11.4.3 and 11.4.5; over the I/O APIC, too."""
    result = program(*SUITE.split(), "-kernel", kernel(tmp_path, APIC_MOVES))
    assert (result.returncode >> 1, result.stderr) == (0, "")


@pytest.mark.parametrize(("options", "message"), [
    ("-smp 2", "-smp 2: Invalid SMP CPUs. The max CPUs supported by machine 'pc' is 1"),
    ("-vnc :47", "-vnc: there is no display card (-vga none)"),
    ("-cpu max,phys-bits=36", "CPU phys-bits: '36' is not 40"),
])  # fmt: skip
def test_what_is_not_there_is_one_line(tmp_path: Path, options: str, message: str) -> None:
    path = kernel(tmp_path, SAYS_ITS_LINE)
    result = program(*SUITE.split(), "-kernel", path, *options.split())
    assert result.returncode == 1
    assert result.stderr.startswith(f"pytcg-system-x86_64: {message}"), result.stderr
    assert result.stderr.count("\n") == 1
