"""The debug log of an x86 processor (`-d in_asm,op,op_opt,llvm,out_asm,int,exec,mmu`).

Native code reports events (`LogEvent`) that env.log asks for, from places that are seldom reached:
a block is made, an exception delivered, a TLB entry filled. With nothing asked for that is one
test each, and none where blocks follow one another: `-d exec` gives blocks another head.

The text has QEMU's layout, for people and scripts that know it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from pytcg.exec.layout import FORM, RECORD, TB
from pytcg.exec.logevent import LogEvent
from pytcg.log import Log
from pytcg.softmmu.access import NO_PAGE, Access
from pytcg_x86.core.registers import StateView
from pytcg_x86.core.state import Flag, Mode, Vector
from pytcg_x86.system.interrupt import Cause

if TYPE_CHECKING:
    from pytcg_x86.core.cpu import X86Cpu

STAGES = ("op", "op_opt", "llvm", "out_asm")
"""Items about forms: shown when a block first uses a form."""

_EVENTS = {
    "in_asm": LogEvent.BLOCK, **dict.fromkeys(STAGES, LogEvent.BLOCK), "exec": LogEvent.ENTER,
    "int": LogEvent.EXCEPTION | LogEvent.INTERRUPT, "mmu": LogEvent.MISS | LogEvent.FILL,
}  # fmt: skip
_BYTES_A_LINE = 8
_PAGE = 4096
_NO_EXCEPTION = 0xFFFF_FFFF
_GENERAL = (("rax", "rbx", "rcx", "rdx"), ("rsi", "rdi", "rbp", "rsp"), ("r8", "r9", "r10", "r11"),
            ("r12", "r13", "r14", "r15"))  # fmt: skip
_FLAG_LETTERS = ((Flag.DF, "D"), (Flag.OF, "O"), (Flag.SF, "S"), (Flag.ZF, "Z"), (Flag.AF, "A"),
                 (Flag.PF, "P"), (Flag.CF, "C"))  # fmt: skip


class Reporter:
    """Turns one processor's events into text."""

    def __init__(self, cpu: X86Cpu, log: Log, dump_form: Callable[[int, Collection[str]], str]):
        self._cpu = cpu
        self._log = log
        self._dump_form = dump_form
        self._stages = [item for item in STAGES if log.enabled(item)]
        self._dumped: set[int] = set()
        self._exceptions = 0
        self.events = LogEvent(0)
        for item, events in _EVENTS.items():
            if log.enabled(item):
                self.events |= events

    def event(self, event: int, a: int, b: int, c: int) -> None:
        """What native code calls."""
        if event == LogEvent.BLOCK:
            self._block(self._tb(a), a)
        elif event == LogEvent.ENTER:
            self._enter(self._tb(a), a)
        elif event == LogEvent.EXCEPTION:
            self._exception(a)
        elif event == LogEvent.INTERRUPT:
            self._interrupt(a, Cause(b))
        elif event == LogEvent.MISS:
            self._log.write(f"mmu: miss addr={a:016x} {Access(b).name.lower()}")
        elif event == LogEvent.FILL:
            rights = "".join(name if c >> bit & 1 else "-" for bit, name in enumerate("rwx"))
            self._log.write(f"mmu: fill addr={a & -_PAGE:016x} phys={c & -_PAGE:016x} {rights}")

    # Blocks ------------------------------------------------------------------------------------

    def _tb(self, address: int) -> StateView:
        arena = self._cpu.buffers["arena"]
        return StateView(TB, arena.view[address - arena.address :])

    def _block(self, tb: StateView, address: int) -> None:
        if self._log.enabled("in_asm"):
            self._log.write(f"----------------\nIN: \n{self._disassembly(tb)}\n")
        if not self._stages:
            return
        for key in self._forms(tb):
            if key not in self._dumped:
                self._dumped.add(key)
                self._log.write(self._dump_form(key, self._stages))

    def _disassembly(self, tb: StateView) -> str:
        mode = tb.get("flags")
        linear = (tb.get("cs_base") + tb.get("pc")) & self._cpu.state.get("linear_mask")
        return disassemble(self._code(tb), linear, mode)

    def _code(self, tb: StateView) -> bytes:
        """The guest code of a block."""
        ram, size = self._cpu.memory.window.view, tb.get("size")
        first, second = tb.get("physical"), tb.get("physical2")
        left = min(size, _PAGE - first % _PAGE)
        code = bytes(ram[first : first + left])
        return code if second == NO_PAGE else code + bytes(ram[second : second + size - left])

    def _forms(self, tb: StateView) -> list[int]:
        """Keys of the forms a block uses."""
        forms = self._cpu.buffers["form_list"].view
        keys = []
        for number in range(tb.get("insns")):
            record = StateView(RECORD, tb.view[TB.size + number * RECORD.size :])
            if record.get("length") <= 15:
                keys.append(StateView(FORM, forms[record.get("form") * FORM.size :]).get("key"))
        return keys

    def _enter(self, tb: StateView, address: int) -> None:
        self._log.write(f"Trace 0: {address:#x} [{tb.get('cs_base'):016x}/{tb.get('pc'):016x}/"
                        f"{tb.get('flags'):08x}/{tb.get('insns'):08x}]")  # fmt: skip

    # Interrupts --------------------------------------------------------------------------------

    def _exception(self, vector: int) -> None:
        delivering = self._cpu.state.get("delivering")
        old = delivering - 1 if 0 < delivering <= 0x100 else _NO_EXCEPTION
        error = self._cpu.state.get("exception_error")
        self._log.write(f"check_exception old: {old:#x} new {vector:#x}")
        self._delivery(vector, error, software=False)

    def _interrupt(self, vector: int, cause: Cause) -> None:
        if cause is Cause.EXTERNAL:
            kind = "NMI" if vector == Vector.NMI else f"hardware INT={vector:#04x}"
            self._log.write(f"Servicing {kind}")
        self._delivery(vector, 0, software=cause is not Cause.EXTERNAL)

    def _delivery(self, vector: int, error: int, *, software: bool) -> None:
        regs = self._cpu.regs
        linear = (self._cpu.state.get("code_base") + regs["rip"]) & ((1 << 64) - 1)
        tail = f"CR2={regs['cr2']:016x}" if vector == Vector.PF else f"RAX={regs['rax']:016x}"
        self._log.write(
            f"{self._exceptions:6}: v={vector:02x} e={error:04x} i={int(software)} "
            f"cpl={regs['cpl']} IP={regs['cs']:04x}:{regs['rip']:016x} pc={linear:016x} "
            f"SP={regs['ss']:04x}:{regs['rsp']:016x} {tail}\n{self.registers()}"
        )
        self._exceptions += 1

    def registers(self) -> str:
        """The registers, a few a line."""
        regs, state = self._cpu.regs, self._cpu.state
        lines = [" ".join(f"{name.upper():<3}={regs[name]:016x}" for name in row)
                 for row in _GENERAL]  # fmt: skip
        flags = regs["rflags"]
        letters = "".join(letter if flags & bit else "-" for bit, letter in _FLAG_LETTERS)
        lines.append(f"RIP={regs['rip']:016x} RFL={flags:08x} [{letters}] CPL={regs['cpl']} "
                     f"II={state.get('inhibit')} HLT={state.get('halted')}")  # fmt: skip
        lines += [f"{name.upper():<3}={regs[name]:04x} {regs[name + '.base']:016x} "
                  f"{regs[name + '.limit']:08x} {regs[name + '.attr']:04x}"
                  for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")]  # fmt: skip
        lines += [f"{name.upper()}={regs[name + '.base']:016x} {regs[name + '.limit']:08x}"
                  for name in ("gdtr", "idtr")]  # fmt: skip
        lines.append(f"CR0={regs['cr0']:08x} CR2={regs['cr2']:016x} CR3={regs['cr3']:016x} "
                     f"CR4={regs['cr4']:08x} EFER={regs['efer']:016x}")  # fmt: skip
        return "\n".join(lines)


def disassemble(code: bytes, address: int, mode: int) -> str:
    """AT&T text, a line an instruction."""
    lines = []
    for at, length, text in instructions(code, address, mode):
        start = at - address
        lines += _code_lines(at, code[start : start + length], text)
    return "".join(lines)


def instructions(code: bytes, address: int, mode: int) -> Iterator[tuple[int, int, str]]:
    """(address, length, AT&T text) of each; what capstone does not know is shown as bytes."""
    import capstone

    size = capstone.CS_MODE_16
    if mode & Mode.CODE64:
        size = capstone.CS_MODE_64
    elif mode & Mode.CODE32:
        size = capstone.CS_MODE_32
    engine = capstone.Cs(capstone.CS_ARCH_X86, size)
    engine.syntax = capstone.CS_OPT_SYNTAX_ATT
    engine.skipdata = True
    for at, length, mnemonic, operands in engine.disasm_lite(code, address):
        yield at, length, f"{mnemonic:<8} {operands}"


def _code_lines(address: int, code: bytes, text: str) -> list[str]:
    lines = []
    for at in range(0, len(code), _BYTES_A_LINE):
        columns = "".join(f" {byte:02x}" for byte in code[at : at + _BYTES_A_LINE])
        line = f"0x{address + at:08x}: {columns:<{3 * _BYTES_A_LINE}}  {text if at == 0 else ''}"
        lines.append(line.rstrip() + "\n")
    return lines
