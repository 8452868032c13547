"""CPUID as QEMU's own processors answer it: a multiboot kernel that tells all leaves and ends."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from x86.assemble import assemble

LEAVES = ((0, 0), (1, 0), (6, 0), (7, 0), (7, 1), (0xD, 1), (0x8000_0000, 0), (0x8000_0001, 0),
          (0x8000_0007, 0), (0x8000_0008, 0))  # fmt: skip
Answers = dict[tuple[int, int], tuple[int, ...]]
"""EAX, EBX, ECX and EDX by leaf and subleaf."""
ANSWER = struct.Struct("<4I")
_BASE, _ENTRY = 0x10_0000, 0x10_0040
_MAGIC, _FLAGS = 0x1BADB002, 1 << 16
_DEBUGCON, _EXIT = 0xE9, 0xF4


def kernel() -> bytes:
    """A multiboot image that writes EAX, EBX, ECX and EDX of each leaf to the debug console."""
    code = ["mov esp, 0x90000"]
    for leaf, subleaf in LEAVES:
        code.append(f"mov eax, {leaf}; mov ecx, {subleaf}; cpuid")
        code.append("push edx; push ecx; push ebx; push eax; mov esi, esp; mov ecx, 16")
        code.append(f"mov dx, {_DEBUGCON}; cld; rep outsb; add esp, 16")
    code.append(f"mov dx, {_EXIT}; xor eax, eax; out dx, al; hlt")
    text = assemble("; ".join(code), 32)
    end = _ENTRY + len(text)
    header = struct.pack("<8I", _MAGIC, _FLAGS, -(_MAGIC + _FLAGS) & 0xFFFF_FFFF, _BASE, _BASE, end,
                         end, _ENTRY)  # fmt: skip
    return header.ljust(_ENTRY - _BASE, b"\0") + text


def answers(model: str, image: Path) -> tuple[Answers, set[str]]:
    """QEMU's registers by leaf, and the features that it says it has not."""
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", model, "-m", "16", "-display", "none",
               "-nodefaults", "-no-reboot", "-kernel", str(image), "-debugcon", "stdio",
               "-device", "isa-debug-exit,iobase=0xf4"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=300)
    found = dict(zip(LEAVES, ANSWER.iter_unpack(done.stdout), strict=True))
    lacking = {line.split("CPUID.")[1].split(".")[-1].split(" ")[0]
               for line in done.stderr.decode().splitlines() if "CPUID." in line}  # fmt: skip
    return found, lacking
