"""The host's x87 as an oracle: FRSTOR, one instruction, FNSAVE.

Exceptions may be unmasked: the instruction only flags them, and FNSAVE does not wait.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
from dataclasses import dataclass, field

AVAILABLE = platform.machine() in ("x86_64", "AMD64")
EMPTY_TAG = 3


@dataclass
class X87:
    """State around one instruction: ``st`` holds ST(0)…ST(7), ``memory`` the operand's bytes."""

    control: int = 0x37F
    status: int = 0  # TOP included
    tags: int = 0xFFFF  # two bits a physical register
    st: list[int] = field(default_factory=lambda: [0] * 8)
    eflags: int = 0x202
    memory: bytes = bytes(16)

    @property
    def top(self) -> int:
        return (self.status >> 11) & 7

    def empty(self, i: int) -> bool:
        return (self.tags >> (2 * ((self.top + i) & 7))) & 3 == EMPTY_TAG

    def image(self) -> bytes:
        """FRSTOR's 108 bytes."""
        head = struct.pack("<7I", self.control, self.status, self.tags, 0, 0, 0, 0)
        return head + b"".join(x.to_bytes(10, "little") for x in self.st)

    def shown(self) -> dict[str, object]:
        """What two runs are compared by: tags as full or empty, full registers only."""
        return {
            "control": hex(self.control), "status": hex(self.status & 0xFFFF),
            "empty": [self.empty(i) for i in range(8)],
            "st": [None if self.empty(i) else f"{x >> 64:04x}:{x & (2**64 - 1):016x}"
                   for i, x in enumerate(self.st)],
            "flags": hex(self.eflags & 0x8D5), "memory": self.memory.hex(),
        }  # fmt: skip


_BEFORE = bytes.fromhex("53 4889fb dd23 ff32 9d")  # push rbx; mov rbx,rdi; frstor; push [rdx]; popf
_AFTER = bytes.fromhex("9c 8f02 dd33 5b c3")  # pushf; pop [rdx]; fnsave [rbx]; pop rbx; ret


class HostX87:
    """Runs instructions whose memory operand is [rsi]."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 1 << 16, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._used = 0
        self._entries: dict[bytes, int] = {}

    def _entry(self, code: bytes) -> int:
        if code not in self._entries:
            blob = _BEFORE + code + _AFTER
            self._page[self._used:self._used + len(blob)] = blob
            self._entries[code] = self._base + self._used
            self._used += len(blob)
        return self._entries[code]

    def run(self, code: bytes, state: X87) -> X87:
        image = ctypes.create_string_buffer(state.image(), 128)
        memory = ctypes.create_string_buffer(state.memory, 128)
        flags = ctypes.c_uint64(state.eflags)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        # The blob is ours; it follows the C convention and leaves the x87 initialised.
        kind(self._entry(code))(ctypes.addressof(image), ctypes.addressof(memory),
                                ctypes.addressof(flags))  # fmt: skip
        control, status, tags = struct.unpack_from("<3I", image.raw)
        st = [int.from_bytes(image.raw[28 + 10 * i:38 + 10 * i], "little") for i in range(8)]
        return X87(control & 0xFFFF, status & 0xFFFF, tags & 0xFFFF, st, flags.value,
                   memory.raw[:len(state.memory)])  # fmt: skip
