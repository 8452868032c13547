"""A machine under GDB: a small kernel with symbols, real mode, Linux."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from boot.terminal import SOURCES
from chardev.listening import listens
from gdbstub.client import CS, RIP, SECONDS, Wire, needs_gdb, run_gdb
from pytcg.cli.guest import INITRAMFS, KERNEL, cache_folder

KERNEL_SOURCE = r"""
asm(".section .multiboot,\"a\"\n .long 0x1BADB002, 0, -0x1BADB002\n .text\n"
    ".globl _start\n _start: mov $0x90000, %esp\n push $0\n popf\n call run\n");
volatile int counter; volatile int table[4];
int work(int n) { table[n & 3] = n; counter += n; return counter; }
void run(void) { for (int n = 0;; n = (n + 1) & 7) work(n); }
"""
PROGRAM = "mov ax, 0x1234; mov ds, ax; l: inc word ptr [0x10]; nop; jmp l"


@contextmanager
def machine(folder: Path, *options: str, serial: str = "none",
            stopped: bool = True) -> Iterator[str]:  # fmt: skip
    """An emulator with a debugger's socket; its path."""
    path = folder / "gdb"
    command = [sys.executable, "-m", "pytcg.cli.system", "-m", "64", "-serial", serial,
               "-vga", "none", "-gdb", f"unix:{path},server=on,wait=off", *options]  # fmt: skip
    process = subprocess.Popen([*command, *(["-S"] if stopped else [])],
                               env={**os.environ, "PYTHONPATH": SOURCES},
                               stdin=subprocess.DEVNULL)  # fmt: skip
    try:
        end = time.monotonic() + SECONDS
        while not listens(path):
            assert time.monotonic() < end and process.poll() is None, "no socket"
            time.sleep(0.05)
        yield str(path)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multiboot kernel of 32-bit code, with debug information."""
    folder = tmp_path_factory.mktemp("kernel")
    source, path = folder / "kernel.c", folder / "kernel"
    source.write_text(KERNEL_SOURCE)
    subprocess.run(["gcc", "-m32", "-O1", "-g", "-fno-inline", "-fno-pic", "-static", "-nostdlib",
                    "-fno-asynchronous-unwind-tables", "-Wl,-Ttext=0x101000",
                    "-Wl,--build-id=none", "-Wl,-n",
                    "-Wl,--section-start=.multiboot=0x100000", "-o", str(path), str(source)],
                   check=True)  # fmt: skip
    return path


@needs_gdb
def test_gdb_debugs_a_kernel_by_its_symbols(tmp_path: Path, kernel: Path) -> None:
    with machine(tmp_path, "-cpu", "pentium3", "-kernel", str(kernel)) as path:
        text = run_gdb(path, "break work if n == 3", "continue", "p n", "finish", "p counter",
                       "backtrace", "watch table[1]", "delete 1", "continue", "continue",
                       "p table", "monitor info status", "info threads", "x/2i $pc", "delete",
                       "set var counter = 1000", "tbreak work", "continue", "p counter", "stepi",
                       "p $eflags", "detach", symbols=kernel)  # fmt: skip
    assert "$1 = 3" in text and "Value returned is $2 = 6" in text and "$3 = 6" in text
    assert "run ()" in text
    assert "Old value = 1\nNew value = 5" in text and "$4 = {0, 1, 6, 7}" in text
    assert "VM status: paused (debug)" in text and "CPU#0" in text
    assert "$5 = 1001" in text


def test_real_mode_by_hand(tmp_path: Path) -> None:
    from pytcg import Cpu

    code = Cpu("real").asm(PROGRAM, address=0xFE00)
    jump = b"\xea\x00\xfe\x00\xf0"  # jmp 0F000h:0FE00h
    bios = bytearray(b"\xf4" * 0x10000)
    bios[0xFE00 : 0xFE00 + len(code)], bios[0xFFF0:0xFFF5] = code, jump
    (tmp_path / "bios").write_bytes(bios)
    with machine(tmp_path, "-bios", str(tmp_path / "bios")) as path:
        wire = Wire(path)
        assert wire.ask("?") == "T05thread:01;"
        assert (wire.register(RIP), wire.register(CS)) == (0xFFF0, 0xF000)
        assert wire.ask("s") == "T05thread:01;"
        assert (wire.register(RIP), wire.memory(0xFFE00, 3)) == (0xFE00, code[:3])
        assert wire.ask("Z2,12350,2") == "OK"
        assert wire.ask("c") == "T05thread:01;watch:12350;"
        assert wire.memory(0x12350, 2) == b"\x01\x00"
        assert wire.ask("z2,12350,2") == wire.ask("Z0,ffe09,1") == "OK"
        assert wire.ask("c") == wire.ask("c") == "T05thread:01;"
        assert wire.register(RIP) == 0xFE09 and wire.memory(0x12350, 1) == b"\x02"
        assert wire.ask("X12350,2:\x34\x12") == "OK" and wire.memory(0x12350, 2) == b"\x34\x12"
        assert wire.ask("Qqemu.PhyMemMode:1") == "OK"
        assert wire.memory(0xFEE00020, 4) == bytes(4)  # the local APIC's ID
        assert wire.ask("z0,ffe09,1") == "OK"
        wire.send("c")
        assert wire.interrupt() == "T02thread:01;"
        wire.socket.sendall(b"\x00$junk\xff#zz" * 20)
        wire.close()
        again = Wire(path)  # the machine lives
        assert again.ask("?") == "T05thread:01;"
        assert again.ask("D") == "OK"
        again.close()


@pytest.mark.boot
@needs_gdb
def test_gdb_debugs_linux(tmp_path: Path) -> None:
    """A user process's getpid is caught in the kernel, by a symbol file made by hand."""
    serial = tmp_path / "serial"
    with machine(tmp_path, "-m", "256", "-kernel", str(cache_folder() / KERNEL), "-initrd",
                 str(cache_folder() / INITRAMFS), "-append", "console=ttyS0 nokaslr quiet",
                 serial=f"unix:{serial},server=on,wait=off", stopped=False) as path:  # fmt: skip
        console = Wire(str(serial)).socket
        _read_until(console, b"# ")
        console.sendall(b"grep -E ' (__x64_sys_mkdir|jiffies)$' /proc/kallsyms\n")
        rows = [line.split() for line in _read_until(console, b"# ").decode().splitlines()]
        places = {row[2]: row[0] for row in rows if len(row) == 3 and row[1] in "TDBR"}
        source, symbols = tmp_path / "symbols.s", tmp_path / "symbols.o"
        source.write_text("".join(f".globl {n}\n{n} = 0x{at}\n" for n, at in places.items()))
        subprocess.run(["as", "--64", "-o", str(symbols), str(source)], check=True)
        console.sendall(b"sleep 1; mkdir /tmp/caught; echo made\n")
        text = run_gdb(path, "hbreak *&__x64_sys_mkdir", "continue", "p/x $cs", "x/i $pc",
                       "stepi", "delete", "p *(long *)&jiffies > 0", "p $cr3 != 0",
                       "info registers gs_base", "detach", symbols=symbols)  # fmt: skip
        assert "$1 = 0x10" in text and f"0x{places['__x64_sys_mkdir']}" in text, text
        assert "$2 = 1" in text and "$3 = 1" in text and "0xffff8880" in text
        _read_until(console, b"\nmade")


def _read_until(console: object, what: bytes) -> bytes:
    found = b""
    while what not in found:
        data = console.recv(4096)  # type: ignore[attr-defined]
        assert data, found
        found += data
    return found
