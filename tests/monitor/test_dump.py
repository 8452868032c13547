"""dump-guest-memory, read by gdb and by a library that knows ELF."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from monitor.qemu_monitor import QEMU, ask_qemu
from monitor.station import Station

Make = Callable[[str], Station]


def test_memory_and_registers_are_in_the_core(station: Make, tmp_path: Path) -> None:
    made = station("")
    made.board.vcpu.regs = defaultdict(int, {"rip": 0x1234, "rsp": 0x8000, "cr3": 0x5000, "cs": 8})
    made.board.memory.write(0x1234, b"\xf4hello")
    core = tmp_path / "core"
    made.run("dump-guest-memory", paging=False, protocol=f"file:{core}")
    with core.open("rb") as file:
        elf = ELFFile(file)
        assert (elf["e_type"], elf["e_machine"]) == ("ET_CORE", "EM_X86_64")
        notes, low, high = list(elf.iter_segments())
        assert [note["n_name"] for note in notes.iter_notes()] == ["CORE", "QEMU"]
        assert (low["p_paddr"], low["p_filesz"]) == (0, 0xA0000)
        assert (high["p_paddr"], high["p_filesz"]) == (1 << 20, 15 << 20)
        assert low.data()[0x1234:0x123A] == b"\xf4hello"
    if shutil.which("gdb"):
        done = subprocess.run(
            ["gdb", "-q", "-batch", "-ex", "set architecture i386:x86-64", "-ex",
             f"target core {core}", "-ex", "p/x $rip", "-ex", "p/x $rsp", "-ex", "x/s 0x1235"],
            capture_output=True, text=True, timeout=240, check=False)  # fmt: skip
        assert "0x1234" in done.stdout and "0x8000" in done.stdout and '"hello"' in done.stdout


def test_a_part_of_it(station: Make, tmp_path: Path) -> None:
    made = station("")
    made.board.vcpu.regs = defaultdict(int)
    core = tmp_path / "core"
    made.run("dump-guest-memory", paging=False, protocol=f"file:{core}", begin=0x9F000,
             length=0x62000)  # fmt: skip
    with core.open("rb") as file:
        loads = [(each["p_paddr"], each["p_filesz"]) for each in ELFFile(file).iter_segments()][1:]
    assert loads == [(0x9F000, 0x1000), (0x100000, 0x1000)]
    for arguments, text in (
        ({"begin": 0}, "Parameter 'length' is missing"),
        ({"protocol": "x"}, "parameter 'protocol' must start with 'file:' or 'fd:'"),
        ({"begin": 1 << 40, "length": 1}, "Invalid parameter 'begin'"),
    ):
        asked = {"paging": False, "protocol": f"file:{core}", **arguments}
        assert made.refused("dump-guest-memory", **asked) == text


@pytest.mark.skipif(QEMU is None, reason="needs QEMU to compare with")
def test_qemu_s_core_has_the_same_shape(station: Make, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    ask_qemu(["-m", "16"], [{"execute": "dump-guest-memory", "arguments": {
        "paging": False, "protocol": f"file:{theirs}"}}])  # fmt: skip
    made = station("")
    made.board.vcpu.regs = defaultdict(int)
    made.run("dump-guest-memory", paging=False, protocol=f"file:{ours}")
    shapes = []
    for core in (theirs, ours):
        with core.open("rb") as file:
            elf = ELFFile(file)
            notes = next(elf.iter_segments())
            # Before it ran QEMU's processor is a 386, and so is the other note's.
            shapes.append((elf["e_ident"]["EI_CLASS"], elf["e_type"], [
                (note["n_type"], note["n_descsz"]) for note in notes.iter_notes()
                if note["n_name"] == "QEMU"]))  # fmt: skip
    assert shapes[0] == shapes[1]
