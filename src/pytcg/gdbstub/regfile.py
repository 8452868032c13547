"""Registers as GDB reads and writes them: hexadecimal, little-endian, by number."""

from __future__ import annotations

from pytcg.gdbstub.description import Register, registers
from pytcg.gdbstub.target import Target, TargetError


class RegisterFile:
    """The registers of a target, in the order of its description."""

    def __init__(self, target: Target):
        self._target = target
        self.registers = registers(wide=target.wide, ymm=target.has_ymm)

    def read(self, number: int) -> bytes:
        """One register's bytes; TargetError if there is none of that number."""
        return self._bytes(self._find(number))

    def read_all(self) -> bytes:
        """All of them: the ``g`` packet."""
        return b"".join(map(self._bytes, self.registers))

    def write(self, number: int, data: bytes) -> None:
        """Set one; TargetError."""
        register = self._find(number)
        if len(data) < register.bits // 8:
            raise TargetError(f"{register.name} has {register.bits} bits")
        self._put(register, data[: register.bits // 8])

    def write_all(self, data: bytes) -> None:
        """Set all that ``data`` has, those that differ only; TargetError."""
        at = 0
        for register in self.registers:
            size = register.bits // 8
            part = data[at : at + size]
            if len(part) == size and part != self._bytes(register):
                self._put(register, part)
            at += size

    def _find(self, number: int) -> Register:
        if not 0 <= number < len(self.registers):
            raise TargetError(f"there is no register {number}")
        return self.registers[number]

    def _bytes(self, register: Register) -> bytes:
        value = self._target.registers[register.source] if register.source else 0
        if register.name.startswith("ymm"):
            value >>= 128
        if register.bits == 64 and register.name[0] == "r" and not self._target.long_code:
            value &= 0xFFFF_FFFF  # what 32-bit code sees
        return (value & (1 << register.bits) - 1).to_bytes(register.bits // 8, "little")

    def _put(self, register: Register, data: bytes) -> None:
        if not register.source:
            return  # x87's last addresses
        value = int.from_bytes(data, "little")
        if register.name.startswith("ymm"):
            low = self._target.registers[register.source] & (1 << 128) - 1
            value = value << 128 | low
        try:
            self._target.registers[register.source] = value
        except (KeyError, ValueError, OverflowError) as error:
            raise TargetError(str(error)) from error
