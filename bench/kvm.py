"""`python -m bench.kvm`: what an exit costs under KVM, ours and QEMU's: µs for each, wall time.

The devices are in the emulators (kernel-irqchip=off). A ROM of real-mode code makes so many exits
and leaves by isa-debug-exit; the time of a run with none is taken off. Medians of several runs.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

COUNT: Final = 40_000
RUNS: Final = 5
ROM: Final = 0x10000
_UNREAL: Final = bytes.fromhex(
    "fa2e0f0116f0fe"  # cli; lgdt cs:[0xfef0]
    "0f20c00c010f22c0"  # mov eax, cr0; or al, 1; mov cr0, eax
    "b808008ee0"  # mov ax, 8; mov fs, ax
    "0f20c024fe0f22c0"  # mov eax, cr0; and al, 0xfe; mov cr0, eax
    "66bf0000c0fe"  # mov edi, 0xfec00000
    "66b9"  # mov ecx, …
)
_ACCESSES: Final = {"port": bytes.fromhex("e464"), "MMIO": bytes.fromhex("6467668b07")}
"""in al, 0x64 (i8042's status); mov eax, fs:[edi], the I/O APIC's."""
_LEAVE: Final = bytes.fromhex("ba0105b000ee")  # mov dx, 0x501; mov al, 0; out dx, al
_DESCRIPTORS: Final = bytes(8) + (0x00CF_9300_0000_FFFF).to_bytes(8, "little")


def rom(access: bytes, count: int) -> bytes:
    """A BIOS that does ``access`` so many times."""
    body = access + bytes.fromhex("6649")  # dec ecx
    loop = body + b"\x75" + (256 - len(body) - 2).to_bytes(1, "little")  # jnz
    code = _UNREAL + max(count, 1).to_bytes(4, "little") + loop + _LEAVE
    image = bytearray(code.ljust(ROM, b"\xf4"))
    image[0xFE00:0xFE10] = _DESCRIPTORS
    image[0xFEF0:0xFEF6] = (15).to_bytes(2, "little") + (0xFFE00).to_bytes(4, "little")
    image[0xFFF0:0xFFF5] = b"\xea\0\0\0\xf0"
    return bytes(image)


def emulators() -> dict[str, list[str]]:
    """Command lines by name."""
    found = {"pytcg": [sys.executable, "-m", "pytcg.cli.system", "-vga", "none"]}
    if qemu := shutil.which("qemu-system-x86_64"):
        found["QEMU"] = [qemu, "-vga", "none", "-net", "none"]
    return found


def seconds(command: list[str], image: Path) -> float:
    """Wall time of one run."""
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "-accel", "kvm,kernel-irqchip=off", "-bios", str(image), "-display", "none",
         "-serial", "null", "-device", "isa-debug-exit,iobase=0x501,iosize=2"],
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)  # fmt: skip
    if done.returncode != 1:
        raise SystemExit(f"{command[0]} ended with status {done.returncode}")
    return time.perf_counter() - began


def main() -> int:
    """Print a line for each kind of exit and emulator."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, access in _ACCESSES.items():
            images = [Path(folder) / f"{kind}{count}" for count in (1, COUNT)]
            for image, count in zip(images, (1, COUNT), strict=True):
                image.write_bytes(rom(access, count))
            costs = {}
            for name, command in emulators().items():
                rows = [seconds(command, images[1]) - seconds(command, images[0])
                        for _ in range(RUNS)]  # fmt: skip
                cost = statistics.median(rows) / COUNT * 1e6
                costs[name] = cost
                print(f"{kind:<5} {name:<6} {cost:6.1f} µs an exit")
            if "QEMU" in costs:
                print(f"{kind:<5} x QEMU {costs['QEMU'] / costs['pytcg']:6.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
