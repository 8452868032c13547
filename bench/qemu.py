"""QEMU's TCG as an engine: the program in a bare guest that enters long mode and runs it.

The guest is a flat multiboot image (QEMU's `-kernel` loads it), answers on the debug console and
leaves through isa-debug-exit. What QEMU and its firmware take before and after is measured with a
program that does nothing, and subtracted.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.assembler import assemble
from bench.engines import EngineError, Outcome
from bench.program import Program

BINARY: Final = "qemu-system-x86_64"
TIMEOUT: Final = 600
LOAD: Final = 0x100000
CODE: Final = LOAD + 0x1000
DATA: Final = 0x400000
STACK: Final = 0x300000
TABLES: Final = 0x200000  # PML4, PDPT, page directory
EXIT_PORT: Final = 0x501
CONSOLE_PORT: Final = 0xE9
STATUS: Final = 1  # set in the exit status by isa-debug-exit
MAGIC: Final = 0x1BADB002
ADDRESSES: Final = 1 << 16  # the header says where the image goes

_START: Final = f"""
    .code32
.Limage:
    .long {MAGIC}, {ADDRESSES}, {-(MAGIC + ADDRESSES) & 0xFFFFFFFF}
    .long {LOAD}, {LOAD}, 0, 0, {LOAD} + .Lentry - .Limage
.Lgdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
.Lgdtr:
    .word 23
    .long {LOAD} + .Lgdt - .Limage
.Lcount:
    .quad 0
.Lentry:
    .set .Lgdtr_address, {LOAD} + .Lgdtr - .Limage
    lgdt [.Lgdtr_address]
    mov dword ptr [{TABLES}], {TABLES + 0x1003}
    mov dword ptr [{TABLES + 0x1000}], {TABLES + 0x2003}
    mov edi, {TABLES + 0x2000}
    mov eax, 0x83
.Lpage:
    mov [edi], eax
    mov dword ptr [edi + 4], 0
    add edi, 8
    add eax, 0x200000
    cmp edi, {TABLES + 0x3000}
    jb .Lpage
    mov eax, 0x620
    mov cr4, eax
    mov eax, {TABLES}
    mov cr3, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, 0x80000033
    mov cr0, eax
    .byte 0xea
    .long {LOAD} + .Llong - .Limage
    .word 8
    .code64
.Llong:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, {STACK}
    mov edi, {DATA}
    mov rsi, [rip + .Lcount]
    mov eax, {CODE}
    call rax
    mov ecx, 8
.Lanswer:
    out {CONSOLE_PORT}, al
    shr rax, 8
    dec ecx
    jnz .Lanswer
    mov edx, {EXIT_PORT}
    out dx, al
    hlt
"""
_COUNT: Final = 32 + 24 + 6  # where it lies in the image: behind the header, the GDT and the GDTR
_NOTHING: Final = Program("nothing", "", "xor eax, eax\nret", lambda count: 0, 1, 1)


def image(program: Program, count: int) -> bytes:
    """The multiboot image that runs a program."""
    start = bytearray(assemble(_START))
    start[_COUNT : _COUNT + 8] = count.to_bytes(8, "little")
    return bytes(start.ljust(CODE - LOAD, b"\0")) + program.code


def version() -> str:
    """QEMU's version number."""
    text = subprocess.run([BINARY, "-version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\S+)", text)
    return found[1] if found else "?"


class QemuTcg:
    """`qemu-system-x86_64 -accel tcg`, a process for each run."""

    def __init__(self) -> None:
        self.name = f"QEMU {version()} TCG"
        self._empty: list[float] = []

    @staticmethod
    def available() -> bool:
        return shutil.which(BINARY) is not None

    def run(self, program: Program, count: int) -> Outcome:
        self._empty.append(self.process(_NOTHING, 1)[1])
        answer, seconds = self.process(program, count)
        return Outcome(answer, max(seconds - statistics.median(self._empty), 0.0))

    def process(self, program: Program, count: int) -> tuple[int, float]:
        """The answer, and the wall time of the whole process."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            kernel = Path(folder, "kernel")
            kernel.write_bytes(image(program, count))
            command = [BINARY, "-accel", "tcg", "-cpu", "max", "-m", "64", "-nodefaults",
                       "-display", "none", "-no-reboot", "-debugcon", "stdio",
                       "-device", f"isa-debug-exit,iobase={EXIT_PORT},iosize=1",
                       "-kernel", str(kernel)]  # fmt: skip
            began = time.perf_counter()
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                                    timeout=TIMEOUT, check=False)  # fmt: skip
            seconds = time.perf_counter() - began
        # SeaBIOS may write to the debug console too: the answer is what came last.
        if not result.returncode & STATUS or len(result.stdout) < 8:
            words = result.stderr.decode(errors="replace").strip() or "no answer"
            raise EngineError(f"{self.name}: {program.name}: {words}")
        return int.from_bytes(result.stdout[-8:], "little"), seconds
