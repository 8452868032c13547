"""`Stop`: why a run ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

_VECTORS = ("#DE divide error", "#DB debug", "NMI", "#BP breakpoint", "#OF overflow",
            "#BR bound range", "#UD invalid opcode", "#NM device not available",
            "#DF double fault", "coprocessor overrun", "#TS invalid TSS", "#NP not present",
            "#SS stack fault", "#GP general protection", "#PF page fault", "reserved",
            "#MF x87 error", "#AC alignment check", "#MC machine check", "#XM SIMD error",
            "#VE virtualization", "#CP control protection")  # fmt: skip


@dataclass(slots=True)
class Stop:
    """Why `Cpu.run` returned.

    ``kind`` is "hlt", "exception", "until", "limit", "stop" (`Cpu.stop`), "timeout" or "shutdown"
    (triple fault). For exceptions: the ``vector``, the ``error_code`` (None where there is none),
    the faulting linear ``address`` (page faults only), and the ``rip`` of the instruction; for the
    others rip is where the processor would go on. ``access`` of a page fault is "read", "write" or
    "fetch", ``size`` its bytes, ``value`` what would have been written. ``instruction`` is the one
    at rip, disassembled.
    """

    kind: str
    rip: int
    vector: int | None = None
    error_code: int | None = None
    address: int | None = None
    access: str | None = None
    size: int | None = None
    value: int | None = None
    modifies: bool = False
    """A page fault of an instruction that would have read first, then written (``value`` is 0)."""
    unmapped: bool = False
    """A page fault because memory is not mapped, or mapped without the permission."""
    describe: Callable[[int], tuple[bytes, int]] | None = field(default=None, compare=False)
    """Gives the code at an address and its width in bits."""

    @property
    def instruction(self) -> str:
        """The instruction at rip in Intel's syntax, "" if there is none."""
        import capstone

        if self.kind == "hlt":
            return ""  # it is behind us
        if self.describe is None:
            return ""
        code, bits = self.describe(self.rip)
        modes = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
        engine = capstone.Cs(capstone.CS_ARCH_X86, modes[bits])
        for _, _, mnemonic, operands in engine.disasm_lite(code, self.rip, 1):
            return f"{mnemonic} {operands}".strip()
        return ""

    @property
    def reason(self) -> str:
        """In words."""
        words = {"hlt": "HLT", "until": "reached the address to stop at", "stop": "stopped",
                 "limit": "ran as many instructions as allowed", "timeout": "ran out of time",
                 "shutdown": "triple fault"}  # fmt: skip
        if self.kind != "exception" or self.vector is None:
            return words.get(self.kind, self.kind)
        named = self.vector < len(_VECTORS)
        text = _VECTORS[self.vector] if named else f"interrupt {self.vector:#x}"
        if self.error_code is not None:
            text += f" ({self.error_code:#x})"
        if self.address is not None:
            text += f", {self.access or 'access'} of {self.address:#x}"
        return text

    def __repr__(self) -> str:
        instruction = self.instruction
        at = f"{self.rip:#x}" + (f": {instruction}" if instruction else "")
        return f"<Stop {self.kind} at {at} ({self.reason})>"

    __str__ = __repr__
