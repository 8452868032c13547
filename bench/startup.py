"""What comes before the guest: `-version` and other answers, the time to the first instruction.

The first instruction is that of a kernel which ends the emulator at once, by isa-debug-exit: the
whole process is measured, its end included. Our loader enters a kernel in 64-bit code, QEMU's
firmware enters its real-mode part; the image has the same few instructions in both places.
"""

from __future__ import annotations

import statistics
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import process
from bench.assembler import assemble
from bench.qemu import EXIT_PORT, QemuTcg
from bench.results import Measurement

NAME: Final = "startup"
_OURS: Final = "pytcg threaded, warm cache"
SECTOR: Final = 512
SETUP: Final = 0x200  # the real-mode code begins with a jump over the rest of the header
HEADER_END: Final = 0x268
ENTRY_64: Final = 0x200
PROTOCOL: Final = 0x020C
LOADED_HIGH: Final = 1
KERNEL_64: Final = 1
EXIT_STATUS: Final = 1  # isa-debug-exit makes value << 1 | 1 of what is written
_LEAVE: Final = f"""
    mov dx, {EXIT_PORT}
    xor eax, eax
    out dx, al
.Lhang:
    hlt
    jmp .Lhang
"""


def kernel() -> bytes:
    """A bzImage of one setup sector, with both entries and nothing behind them."""
    head = bytearray(2 * SECTOR)
    head[0x1F1] = 1  # setup_sects
    struct.pack_into("<H", head, 0x1FE, 0xAA55)
    head[SETUP : SETUP + 2] = bytes([0xEB, HEADER_END - SETUP - 2])
    struct.pack_into("<4sH", head, 0x202, b"HdrS", PROTOCOL)
    head[0x211] = LOADED_HIGH
    struct.pack_into("<L", head, 0x214, 0x100000)  # code32_start
    struct.pack_into("<L", head, 0x22C, 0x7FFFFFFF)  # initrd_addr_max
    struct.pack_into("<LB", head, 0x230, 0x1000, 1)  # kernel_alignment, relocatable_kernel
    struct.pack_into("<H", head, 0x236, KERNEL_64)
    struct.pack_into("<L", head, 0x238, 255)  # cmdline_size
    struct.pack_into("<QL", head, 0x258, 0x100000, 0x1000)  # pref_address, init_size
    code = assemble(".code16\n" + _LEAVE)
    head[HEADER_END : HEADER_END + len(code)] = code
    payload = bytes(ENTRY_64) + assemble(_LEAVE)
    payload = payload.ljust(-(-len(payload) // 16) * 16, b"\0")
    struct.pack_into("<L", head, 0x1F4, len(payload) // 16)  # syssize
    return bytes(head) + payload


def _commands(image: str) -> dict[tuple[str, str], tuple[Sequence[str], int]]:
    """The command and its exit status by what is measured and on what."""
    machine = ["-m", "64", "-nodefaults", "-display", "none", "-no-reboot", "-kernel", image,
               "-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"]  # fmt: skip
    commands: dict[tuple[str, str], tuple[Sequence[str], int]] = {
        ("-version", _OURS): ([*process.OURS, "-version"], 0),
        ("-h", _OURS): ([*process.OURS, "-h"], 0),
        ("-M help", _OURS): ([*process.OURS, "-M", "help"], 0),
        ("-device help", _OURS): ([*process.OURS, "-device", "help"], 0),
        ("first insn", _OURS): ([*process.OURS, *machine], EXIT_STATUS),
    }
    if QemuTcg.available():
        qemu = QemuTcg().name
        for question in (["-version"], ["-h"], ["-M", "help"], ["-device", "help"]):
            commands[" ".join(question), qemu] = ([*process.QEMU, *question], 0)
        commands["first insn", qemu] = ([*process.QEMU, *machine], EXIT_STATUS)
    return commands


def measure(runs: int) -> list[Measurement]:
    """Rows of the start-up; a run of each before them fills the caches."""
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as cache:
        image = Path(cache, "kernel")
        image.write_bytes(kernel())
        variables = process.environment(cache)
        commands = _commands(str(image))
        for command, status in commands.values():
            process.seconds_of(command, status=status, variables=variables)
        for _ in range(runs):
            for key, (command, status) in commands.items():
                seconds = process.seconds_of(command, status=status, variables=variables)
                found.setdefault(key, []).append(seconds)
    return [Measurement(what, on, statistics.median(times)) for (what, on), times in found.items()]
