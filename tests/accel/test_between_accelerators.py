"""A machine saved under TCG goes on under KVM, with any of its interrupt controllers, and back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from accel.test_kvm import PROGRAM
from cli.test_system import SOURCES
from x86.assemble import assemble
from x86.kvm_differences import opens

needs_kvm = pytest.mark.skipif(not opens(), reason="needs a /dev/kvm that opens")
SECONDS = 120
MODEL = "qemu64,-sse3,kvm=off"
# Letters in order, one every 8 interrupts of the 8254. A count in ESI and one in memory must agree.
# In between the processor halts; the local APIC's timer counts, with its interrupts masked.
LETTERS = PROGRAM[: PROGRAM.index("    mov bx, 3")] + """
    mov dword ptr fs:[edi + 0x3e0], 0xb
    mov dword ptr fs:[edi + 0x320], 0x30040
    mov dword ptr fs:[edi + 0x380], 0x10000000
    xor esi, esi
    mov es:[0x600], esi
    xor bp, bp
next:
    mov bx, 8
wait:
    sti
    hlt
    cli
    test bx, bx
    jnz wait
    inc esi
    inc dword ptr es:[0x600]
    cmp esi, es:[0x600]
    jne wrong
    cmp word ptr es:[0x80], 0x200
    jne wrong
    inc bp
    cmp bp, 26
    jb letter
    xor bp, bp
letter:
    mov ax, bp
    add al, 0x41
    mov dx, 0xe9
    out dx, al
    jmp next
wrong:
    mov al, 0x21
    mov dx, 0xe9
    out dx, al
    jmp wrong
.org 0x200
    dec bx
    mov al, 0x20
    out 0x20, al
    iret
.org 0x300
    .byte 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20
.org 0x310
    .quad 0
    .quad 0x00cf93000000ffff
    .word 15
    .long 0xf0310
"""


class Machine:
    """The letters' machine, with what it has said."""

    def __init__(self, folder: Path, number: int, accel: str, *options: str) -> None:
        self.log = folder / f"log{number}"
        path = folder / f"qmp{number}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytcg.cli.system", "-accel", accel, "-cpu", MODEL, "-m", "16",
             "-bios", str(folder / "rom"), "-display", "none", "-vga", "none", "-serial", "null",
             "-debugcon", f"file:{self.log}", "-qmp", f"unix:{path},server=on,wait=off", *options],
            env={**os.environ, "PYTHONPATH": SOURCES}, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)  # fmt: skip
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        while self.sock.connect_ex(str(path)):
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.05)
        self.file = self.sock.makefile("rwb")
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """A command's answer."""
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.file.flush()
        while True:
            said = json.loads(self.file.readline())
            assert "error" not in said, said
            if "return" in said:
                return said["return"]

    def wait_for_letters(self, count: int) -> None:
        """More letters than before by so many."""
        seen, end = len(self.letters()), time.monotonic() + SECONDS
        while len(self.letters()) < seen + count:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, self.letters()
            time.sleep(0.02)

    def letters(self) -> str:
        """What it has said, but for the program's greeting."""
        return self.log.read_text("latin-1").removeprefix("hello ")

    def save(self, path: Path) -> None:
        """Stop, and go on from the file."""
        self.ask("stop")
        self.ask("migrate", uri=f"file:{path}")
        while self.ask("query-migrate")["status"] not in ("completed", "failed"):
            time.sleep(0.02)
        assert self.ask("query-migrate")["status"] == "completed"

    def end(self) -> None:
        """Power off."""
        self.sock.close()
        self.process.kill()
        self.process.communicate()


def write_rom(path: Path) -> None:
    image = bytearray(b"\xf4" * 0x10000)
    code = assemble(LETTERS, 16)
    image[: len(code)] = code
    image[0xFFF0:0xFFF5] = b"\xea\0\0\0\xf0"
    path.write_bytes(image)


@needs_kvm
@pytest.mark.boot
def test_letters_go_on_where_they_were(tmp_path: Path) -> None:
    write_rom(tmp_path / "rom")
    said, options = "", list[str]()
    for number, accel in enumerate(("tcg", "kvm", "kvm,kernel-irqchip=split",
                                    "kvm,kernel-irqchip=off", "tcg")):  # fmt: skip
        machine = Machine(tmp_path, number, accel, *options)
        try:
            machine.wait_for_letters(3)
            machine.save(tmp_path / f"saved{number}")
            said += machine.letters()
        finally:
            machine.end()
        options = ["-incoming", f"file:{tmp_path}/saved{number}"]
    assert len(said) >= 15
    assert all((ord(second) - ord(first)) % 26 == 1 for first, second in pairwise(said)), said


@needs_kvm
def test_other_features_are_named(tmp_path: Path) -> None:
    write_rom(tmp_path / "rom")
    machine = Machine(tmp_path, 0, "tcg")
    try:
        machine.save(tmp_path / "saved")
    finally:
        machine.end()
    done = subprocess.run(
        [sys.executable, "-m", "pytcg.cli.system", "-accel", "kvm", "-cpu", MODEL + ",-cx16",
         "-m", "16", "-bios", str(tmp_path / "rom"), "-display", "none", "-vga", "none", "-serial",
         "null", "-debugcon", "null", "-incoming", f"file:{tmp_path}/saved"],
        env={**os.environ, "PYTHONPATH": SOURCES}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=SECONDS)  # fmt: skip
    assert done.returncode == 1
    assert "other features (-cpu): cx16" in done.stderr
