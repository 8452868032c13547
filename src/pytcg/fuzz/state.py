"""What a sequence starts from and what it leaves behind, by names that `Cpu.regs` knows."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pytcg.fuzz import hostcpu, values

DATA, DATA_SIZE = hostcpu.DATA, 0x1000
CENTRE = DATA + DATA_SIZE // 2
STACK = DATA + DATA_SIZE * 3 // 4
CODE = hostcpu.CODE
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
             *(f"r{n}" for n in range(8, 16)))  # fmt: skip
XMM = tuple(f"xmm{n}" for n in range(16))
X87 = ("fcw", "fsw", *(f"st{n}" for n in range(8)), "ftw")  # to set STn is to fill it
NAMES = (*REGISTERS, "rflags", "rip", *XMM, "mxcsr", *X87)
FLAGS = {"cf": 0x1, "pf": 0x4, "af": 0x10, "zf": 0x40, "sf": 0x80, "of": 0x800}
_COMPARED = sum(FLAGS.values()) | 0x400
_FX_X87, _FX_XMM = 32, 160  # offsets in FXSAVE's image
_XM, _PE = 19, 0x20
EMPTY = 3  # a tag of `ftw`
QUIET = {"rflags": 0x202, "mxcsr": 0x1F80, "fcw": 0x37F, "fsw": 0, "ftw": 0xFFFF}
"""Registers that begin as something: what the library's processors and cases begin with."""

State = dict[str, int]
"""Values by the names of `NAMES`; ``ftw`` says valid or empty only, 0 or 3 a register."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Registers and data; and the vector of an exception, or in words why there is neither."""

    registers: State
    data: bytes
    vector: int | None = None
    failure: str = ""
    answered: bool = True  # False: this engine can't say

    def differences(self, other: Outcome, undefined: int, doubtful: int) -> list[tuple[str, str]]:
        """(what, how) of all that differs, but for flags that are undefined at the end.

        After an exception those count that were so at any time: ``doubtful``. Registers and data
        that only one of them knows are not compared.
        """
        if self.failure or other.failure:
            return [("end", f"{self.failure or 'an end'} and {other.failure or 'an end'}")]
        if self.vector != other.vector:
            return [("exception", f"{_exception(self)} and {_exception(other)}")]
        ignored = undefined if self.vector is None else doubtful
        found = []
        for name in self.registers.keys() & other.registers.keys():
            mine, theirs = self.registers[name], other.registers[name]
            if name == "rflags":
                wrong = (mine ^ theirs) & _COMPARED & ~ignored
                if wrong:
                    names = " ".join(n for n, bit in FLAGS.items() if wrong & bit) or "df"
                    found.append((name, f"{names} in {mine:#x} and {theirs:#x}"))
            elif name == "mxcsr" and self.vector == _XM and not (mine ^ theirs) & ~_PE:
                continue  # docs/GAPS.md: PE beside an unmasked overflow or underflow
            elif mine != theirs:
                found.append((name, f"{mine:#x} and {theirs:#x}"))
        found.sort(key=lambda each: NAMES.index(each[0]))
        for at in range(0, min(len(self.data), len(other.data)), 8):
            mine_8, theirs_8 = self.data[at : at + 8], other.data[at : at + 8]
            if mine_8 != theirs_8:
                how = f"{mine_8[::-1].hex()} and {theirs_8[::-1].hex()}"
                found.append((f"[{DATA + at:#x}]", how))
        return found


def _exception(outcome: Outcome) -> str:
    return "none" if outcome.vector is None else str(outcome.vector)


def random_state(rng: random.Random) -> State:
    """A start: rBX at the centre of the data; rSP, rSI and rDI point into them too."""
    state = {name: values.integer(rng) for name in REGISTERS}
    state |= {"rbx": CENTRE, "rsp": STACK, "rip": CODE}
    for name in ("rsi", "rdi"):
        state[name] = CENTRE + rng.randrange(-256, 256)
    if rng.random() < 0.5:
        state["rcx"] = rng.randrange(8)
    state["rflags"] = 0x202 | sum(bit for bit in FLAGS.values() if rng.random() < 0.5)
    for name in XMM:
        state[name] = int.from_bytes(values.vector(rng), "little")
    control, top, holes = values.control(rng), rng.randrange(8), rng.choice((0.0, 0.15, 0.5))
    status = top << 11 | rng.getrandbits(16) & 0x4700
    if rng.random() < 0.3:
        status |= rng.getrandbits(7) & (control & 0x3F | 0x40)  # flags that are masked
    state |= {"mxcsr": values.mxcsr(rng), "fcw": control, "fsw": status}
    for number in range(8):
        state[f"st{number}"] = values.number(rng)
    state["ftw"] = sum(EMPTY << 2 * n for n in range(8) if rng.random() < holes)
    return state


def random_data(rng: random.Random) -> bytes:
    """The scratch memory: operands of all kinds around the centre, where instructions reach."""
    memory = bytearray(rng.randbytes(DATA_SIZE))
    for at in range(DATA_SIZE // 4, DATA_SIZE * 3 // 4, 16):
        kind = rng.randrange(3)
        if kind == 0:
            memory[at : at + 16] = values.vector(rng)
        elif kind == 1:
            memory[at : at + 10] = values.number(rng).to_bytes(10, "little")
    return bytes(memory)


# FXSAVE's image, as the host's trampoline takes and gives it --------------------------------------


def fx_image(state: State) -> bytes:
    """FXRSTOR64's 512 bytes."""
    image = bytearray(512)
    valid = sum(1 << n for n in range(8) if state["ftw"] >> 2 * n & 3 != EMPTY)
    image[0:5] = (state["fcw"] | state["fsw"] << 16 | valid << 32).to_bytes(5, "little")
    image[24:28] = state["mxcsr"].to_bytes(4, "little")
    for number in range(8):
        at = _FX_X87 + 16 * number
        image[at : at + 10] = state[f"st{number}"].to_bytes(10, "little")
    for number, name in enumerate(XMM):
        at = _FX_XMM + 16 * number
        image[at : at + 16] = state[name].to_bytes(16, "little")
    return bytes(image)


def fx_registers(image: bytes) -> State:
    """The registers in such an image."""
    def word(at: int, size: int) -> int:
        return int.from_bytes(image[at : at + size], "little")

    valid = word(4, 1)
    found = {"fcw": word(0, 2), "fsw": word(2, 2), "mxcsr": word(24, 4),
             "ftw": sum(EMPTY << 2 * n for n in range(8) if not valid >> n & 1)}  # fmt: skip
    found |= {f"st{n}": word(_FX_X87 + 16 * n, 10) for n in range(8)}
    return found | {name: word(_FX_XMM + 16 * n, 16) for n, name in enumerate(XMM)}
