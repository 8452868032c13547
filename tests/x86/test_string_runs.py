"""Repeated string instructions through segments with bases and limits, against a plain model."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from pytcg.cpu import Cpu
from x86.outcome import HLT

CODE, BASES, SPAN = 0x1000, {"ds": 0x12340, "es": 0x25670}, 0x10000
OPCODES = {"movs": 0xA4, "stos": 0xAA, "lods": 0xAC, "scas": 0xAE, "cmps": 0xA6}


@dataclass
class Model:
    """What a repetition leaves: one element after the other, each checked against the limits."""

    name: str
    size: int
    down: bool
    while_equal: bool
    mask: int
    limits: dict[str, int]
    memory: bytearray
    ax: int
    cx: int
    si: int
    di: int
    faults: bool = False

    def _at(self, segment: str, offset: int) -> slice:
        if offset + self.size - 1 > self.limits[segment]:
            raise IndexError(segment)
        start = BASES[segment] + offset
        return slice(start, start + self.size)

    def _element(self) -> bool:
        """Whether to go on."""
        accumulator = self.ax.to_bytes(8, "little")[:self.size]
        going = True
        if self.name == "movs":
            value = self.memory[self._at("ds", self.si)]
            self.memory[self._at("es", self.di)] = value
        elif self.name == "stos":
            self.memory[self._at("es", self.di)] = accumulator
        elif self.name == "lods":
            value = bytes(self.memory[self._at("ds", self.si)])
            kept = self.ax & ~((1 << 8 * self.size) - 1)
            self.ax = kept | int.from_bytes(value, "little")
        elif self.name == "scas":
            going = (bytes(self.memory[self._at("es", self.di)]) == accumulator) == self.while_equal
        else:
            left, right = self.memory[self._at("ds", self.si)], self.memory[self._at("es", self.di)]
            going = (left == right) == self.while_equal
        step = -self.size if self.down else self.size
        if self.name in ("movs", "lods", "cmps"):
            self.si = (self.si + step) & self.mask
        if self.name != "lods":
            self.di = (self.di + step) & self.mask
        return going

    def run(self) -> None:
        try:
            while self.cx:
                going = self._element()
                self.cx -= 1
                if not going:
                    return
        except IndexError:
            self.faults = True


def setup(mode: str, model: Model) -> Cpu:
    cpu = Cpu(mode=mode)
    cpu.map(0, 0x40000)
    cpu.write(0, bytes(model.memory))
    for segment, base in BASES.items():
        cpu.regs[f"{segment}.base"] = base
        cpu.regs[f"{segment}.limit"] = model.limits[segment]
    values = {"eax": model.ax, "ecx": model.cx, "esi": model.si, "edi": model.di,
              "eflags": 0x402 if model.down else 2}  # fmt: skip
    for name, value in values.items():
        cpu.regs[name] = value
    return cpu


def random_model(rng: random.Random, mode: str, name: str) -> Model:
    size = rng.choice((1, 2, 4))
    memory = bytearray(0x40000)
    filling = rng.randrange(3)
    if filling:  # long stretches without an element that ends a comparison
        memory[:] = bytes([rng.choice((0, 0x41))]) * len(memory)
        for _ in range(40 if filling == 2 else 0):
            memory[rng.randrange(len(memory))] = rng.randrange(256)
    else:
        memory[:] = rng.randbytes(len(memory))
    limit = SPAN - 1 if mode == "real" else rng.choice((SPAN - 1, rng.randrange(0x8000, SPAN)))
    mask = 0xFFFF if mode == "real" else 0xFFFF_FFFF
    aligned = -size if mode == "real" else -1  # no element across 64 KiB: it would find a handler
    return Model(name, size, rng.random() < 0.3, rng.random() < 0.5, mask,
                 {"ds": SPAN - 1, "es": limit}, memory, rng.choice((0, 0x4141_4141, 0x12345678)),
                 rng.choice((rng.randrange(40), rng.randrange(0x5000))),
                 rng.randrange(SPAN) & aligned,
                 rng.choice((rng.randrange(SPAN), rng.randrange(64))) & aligned)  # fmt: skip


@pytest.mark.parametrize("name", OPCODES)
@pytest.mark.parametrize("mode", ["real", "protected"])
def test_runs_through_checked_segments(mode: str, name: str) -> None:
    rng = random.Random(f"{mode} {name}")
    for _ in range(40):
        model = random_model(rng, mode, name)
        cpu = setup(mode, model)
        wide = b"\x66" if (model.size == 2) == (mode == "protected") and model.size > 1 else b""
        prefix = b"\xf3" if model.while_equal or name in ("movs", "stos", "lods") else b"\xf2"
        cpu.write(CODE, prefix + wide + bytes([OPCODES[name] + (model.size > 1)]) + HLT)
        model.memory[CODE:CODE + 8] = cpu.read(CODE, 8)
        model.run()
        stop = cpu.run(CODE, max_insns=1)
        found = tuple(cpu.regs[name] for name in ("eax", "ecx", "esi", "edi"))
        assert found == (model.ax, model.cx, model.si, model.di), model.name
        assert (stop.kind == "exception") == model.faults, stop
        assert cpu.read(0, 0x40000) == bytes(model.memory)
