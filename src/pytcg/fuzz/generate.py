"""Random sequences of harmless instructions: random bytes that capstone knows and a filter passes.

Harmless: no control transfer, port, privileged or system instruction; memory only where a register
is known to point into scratch memory: rBX, which stays, rSP and, for string instructions, rSI and
rDI until something else writes them. Flags that an instruction leaves undefined are known from
capstone; an instruction that would read one is not taken. What faults ends a sequence.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import capstone
from capstone import x86

from pytcg.errors import CpuError
from pytcg.fuzz.state import CODE, DATA_SIZE, FLAGS, QUIET, State, random_data, random_state

KINDS = ("integer", "sse", "x87", "any")
"""What most instructions of a sequence are."""
_BAD_GROUPS = {x86.X86_GRP_JUMP, x86.X86_GRP_CALL, x86.X86_GRP_RET, x86.X86_GRP_INT,
               x86.X86_GRP_IRET, x86.X86_GRP_PRIVILEGE, x86.X86_GRP_BRANCH_RELATIVE,
               x86.X86_GRP_VM}  # fmt: skip
_UNFIT = """
cpuid rdtsc rdtscp rdpmc xgetbv syscall sysenter sysret sysexit hlt in out insb insw insd outsb
outsw outsd cli sti popf popfq popfw popfd leave enter ud0 ud1 int1 int3 into lsl lar verr verw sldt
str sgdt sidt smsw rdrand rdseed rdfsbase rdgsbase wrfsbase wrgsbase swapgs monitor mwait monitorx
mwaitx xabort xbegin xend loop loope loopne rcpps rcpss rsqrtps rsqrtss vrcpps vrcpss vrsqrtps
vrsqrtss pfrcp pfrsqrt pfrcpit1 pfrsqit1 pfrcpit2 rdpid ptwrite fxsave fxrstor fxsave64 fxrstor64
clac stac lds les lfs lgs lss maskmovq maskmovdqu vmaskmovdqu rdmsr wrmsr rdpkru wrpkru clzero
rdpru invlpga mcommit xtest fnstenv fnsave fldenv frstor fnstsave xresldtrk xsusldtrk senduipi
incsspd incsspq rdsspd rdsspq saveprevssp rstorssp wrssd wrssq wrussd wrussq setssbsy clrssbsy
enclu enclv encls pconfig tpause umonitor umwait xstore montmul xcryptecb xcryptcbc xcryptctr
xcryptcfb xcryptofb xsha1 xsha256 clts invd movdiri movdir64b wbinvd wbnoinvd lgdt lidt lldt ltr
lmsw invlpg
"""
_VARIES = """
fsin fcos fsincos fptan fpatan f2xm1 fyl2x fyl2xp1 fcomi fcompi fucomi fucompi
"""
# Processors differ: in the last bits, and in whether C1 is cleared.
_UNICORN_LACKS = """
cmpxchg lahf sahf bsf bsr bound emms wait fwait movnti xlatb prefetch prefetchw clflush clflushopt
clwb endbr64 endbr32 div idiv push pop pushf pushfq shld shrd ldmxcsr stmxcsr
"""
# cmpxchg clears the upper half of a register that it leaves alone, unlike the host CPU; lahf and
# sahf are not there in 64-bit code on its default CPU model; others differ where they fault.
_BAD_NAMES = frozenset(_UNFIT.split() + _VARIES.split())
_UNICORNS = frozenset(_UNICORN_LACKS.split())
_PRODUCTS = {"imul": 0xD4, "mul": 0xD4}
"""Flags that the manual leaves undefined and capstone does not say so."""
_READERS = ("lahf", "pushf", "pushfq", "pushfw")
_FAMILIES = {"rax": "rax eax ax al ah", "rbx": "rbx ebx bx bl bh", "rcx": "rcx ecx cx cl ch",
             "rsp": "rsp esp sp spl", "rsi": "rsi esi si sil", "rdi": "rdi edi di dil"}  # fmt: skip
_FAMILY = {name: whole for whole, names in _FAMILIES.items() for name in names.split()}
_STRINGS = ("movs", "cmps", "stos", "lods", "scas")
_STRING_NAMES = frozenset(name + size for name in _STRINGS for size in "bwdq")
_SHIFTS = ("rol", "ror", "rcl", "rcr", "shl", "sal", "shr", "sar", "shld", "shrd")
_UNDEFINED = {name: getattr(x86, f"X86_EFLAGS_UNDEFINED_{name.upper()}") for name in FLAGS}
_TESTED = {name: getattr(x86, f"X86_EFLAGS_TEST_{name.upper()}") for name in FLAGS}
_DEFINED = {name: sum(getattr(x86, f"X86_EFLAGS_{kind}_{name.upper()}", 0)
                      for kind in ("MODIFY", "RESET", "SET")) for name in FLAGS}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rules:
    """What the engines that run a sequence don't agree about anyway."""

    unicorn: bool = False  # whether Unicorn is one of them
    groups: frozenset[int] = frozenset()  # capstone's, of instructions that only some have
    gfni: bool = False  # whether all have those, which are in no group


@dataclass(frozen=True, slots=True)
class Sequence:
    """Instructions, and the registers and data they start from."""

    code: tuple[bytes, ...]
    text: tuple[str, ...]
    start: State
    data: bytes
    undefined: int = 0  # flags that need not match at the end
    doubtful: int = 0  # flags that need not match at some place
    rules: Rules = Rules()

    def without(self, number: int) -> Sequence:
        """The sequence less one instruction."""
        return self.of((*self.code[:number], *self.code[number + 1 :])) or self

    def of(self, code: tuple[bytes, ...]) -> Sequence | None:
        """Other instructions from the same start; None if one is not allowed."""
        return describe(code, self)


@cache
def _decoder() -> Any:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = True
    return engine


def generate(seed: int, most: int, kinds: Iterable[str] = KINDS,
             rules: Rules | None = None) -> Sequence:  # fmt: skip
    """The sequence of a seed, of up to ``most`` instructions; CpuError for kinds there are not."""
    rng = random.Random(seed)
    kind = rng.choice([*kinds])
    if kind not in KINDS:
        raise CpuError(f"no kind {kind!r}: {', '.join(KINDS)} are there")
    rules = rules or Rules()
    start = random_state(rng)
    if rules.unicorn:
        start |= QUIET  # it can't be given all of those
    sequence = Sequence((), (), start, random_data(rng), rules=rules)
    wanted = rng.randrange(1, most + 1)
    while len(sequence.code) < wanted:
        sequence = sequence.of((*sequence.code, _instruction(rng, kind))) or sequence
    return sequence


def _instruction(rng: random.Random, kind: str) -> bytes:
    """Bytes that may be an instruction, with a bias to what is one."""
    if kind != "integer" and rng.random() < 0.85:
        return _MAKERS[kind](rng)
    prefixes = bytes(rng.choice(b"\x66\xf2\xf3\xf0") for _ in range(rng.random() < 0.2))
    rex = bytes([0x40 | rng.getrandbits(4)]) if rng.random() < 0.5 else b""
    escape = b"\x0f" if rng.random() < 0.4 else b""
    return prefixes + rex + escape + _tail(rng)


def _tail(rng: random.Random) -> bytes:
    """Opcode, ModRM (often [rbx+disp8]) and what follows."""
    if rng.random() < 0.4:
        return bytes([rng.getrandbits(8), 0x43 | rng.getrandbits(3) << 3]) + rng.randbytes(10)
    return rng.randbytes(10)


def _sse(rng: random.Random) -> bytes:
    prefix = rng.choice((b"", b"\x66", b"\xf2", b"\xf3"))
    rex = bytes([0x40 | rng.getrandbits(4)]) if rng.random() < 0.5 else b""
    return prefix + rex + rng.choice((b"\x0f", b"\x0f", b"\x0f\x38", b"\x0f\x3a")) + _tail(rng)


def _x87(rng: random.Random) -> bytes:
    if rng.random() < 0.2:  # MMX, which shares the registers
        return b"\x0f" + _tail(rng)
    memory = bytes([0x43 | rng.getrandbits(3) << 3]) + rng.randbytes(10)
    return bytes([0xD8 | rng.getrandbits(3)]) + rng.choice((memory, rng.randbytes(10)))


def _any(rng: random.Random) -> bytes:
    return rng.choice((_sse, _x87, lambda rng: _instruction(rng, "integer")))(rng)


_MAKERS: dict[str, Callable[[random.Random], bytes]] = {"sse": _sse, "x87": _x87, "any": _any}


def describe(code: tuple[bytes, ...], like: Sequence) -> Sequence | None:
    """A sequence of these instructions with the start of ``like``; None if one is not allowed."""
    undefined = doubtful = 0
    found, texts, lost = [], [], set[str]()
    for raw in code:
        insn = next(_decoder().disasm(raw, CODE, 1), None)
        if insn is None or not _harmless(insn, lost, like):
            return None
        lost |= _written(insn)
        lost |= {"mxcsr"} if insn.mnemonic.endswith("ldmxcsr") else set()
        touched = {register for registers in insn.regs_access() for register in registers}
        flags = insn.eflags if x86.X86_REG_EFLAGS in touched else 0  # else it may be anything
        if insn.mnemonic in _READERS and undefined:
            return None
        if any(undefined & bit and flags & _TESTED[name] for name, bit in FLAGS.items()):
            return None
        for name, bit in FLAGS.items():
            if flags & _UNDEFINED[name] or insn.mnemonic.split()[-1] in _SHIFTS:
                undefined |= bit  # a shift's count decides which
            elif flags & _DEFINED[name]:
                undefined &= ~bit
        undefined |= _PRODUCTS.get(insn.mnemonic.split()[-1], 0)
        doubtful |= undefined
        found.append(bytes(insn.bytes))
        texts.append(f"{insn.mnemonic} {insn.op_str}".strip())
    return replace(like, code=tuple(found), text=tuple(texts), undefined=undefined,
                   doubtful=doubtful)  # fmt: skip


def _written(insn: Any) -> set[str]:
    """The registers that no longer point where they did; string instructions move theirs a bit."""
    if insn.mnemonic.split()[-1] in _STRING_NAMES:
        return {"rcx"} if insn.mnemonic.startswith("rep") else set()
    _, written = insn.regs_access()
    return {_FAMILY[name] for reg in written if (name := insn.reg_name(reg)) in _FAMILY} - {"rsp"}


def _harmless(insn: Any, lost: set[str], like: Sequence) -> bool:
    names = insn.mnemonic.split()
    name = names[-1]
    if name in _BAD_NAMES or name.startswith(("xsave", "xrstor", "v4f", "vp4d", "prefetchwt")):
        return False
    if name[0] == "v":
        return False  # AVX: the oracles' upper halves are not set, and Unicorn has none
    if any(insn.group(group) for group in _BAD_GROUPS) or insn.addr_size != 8:
        return False
    if any(insn.group(group) for group in like.rules.groups):
        return False
    if _left_open(insn, name, lost, like):
        return False
    if like.rules.unicorn and not _unicorn_runs(insn, names):
        return False
    if any(operand.type == x86.X86_OP_REG and insn.reg_name(operand.reg) in _SYSTEM
           for operand in insn.operands):  # fmt: skip
        return False
    if b"\x64" in insn.bytes[:4] or b"\x65" in insn.bytes[:4]:
        return False  # a prefix that capstone need not tell of: FS and GS are the host's own
    if _is_string(insn, name):
        return _string_in_bounds(names, lost, like)
    if any(operand.type == x86.X86_OP_MEM and not _near(insn, operand.mem)
           for operand in insn.operands):  # fmt: skip
        return False
    return "rbx" not in _written(insn) and not _moves_stack(insn, name)


_SYSTEM = frozenset(("cs", "ds", "es", "fs", "gs", "ss", *(f"{kind}{n}" for kind in
                     ("cr", "dr", "tr") for n in range(16))))  # fmt: skip


def _left_open(insn: Any, name: str, lost: set[str], like: Sequence) -> bool:
    """Whether the manual, or what processors do, leaves open what comes of it."""
    memory = [op.mem for op in insn.operands if op.type == x86.X86_OP_MEM]
    if name in ("shld", "shrd", "bswap"):
        return bool(insn.operands[0].size == 2 or 0x66 in insn.prefix)  # counts above 16; all
    if name.startswith("sha"):
        return any(mem.disp % 16 for mem in memory)  # AMD's check no alignment
    if name.startswith("cvt") and name.endswith("2pi"):  # AMD's fault in MMX state already
        return "mxcsr" in lost or like.start["mxcsr"] & 0x1F80 != 0x1F80
    return name.startswith("gf2p8") and not like.rules.gfni


def _is_string(insn: Any, name: str) -> bool:
    """LODS and SCAS have a register first; MOVSD and CMPSD are SSE's too."""
    return name in _STRING_NAMES and any(
        operand.type == x86.X86_OP_MEM and insn.reg_name(operand.mem.base) in ("rsi", "rdi")
        for operand in insn.operands
    )


def _string_in_bounds(names: list[str], lost: set[str], like: Sequence) -> bool:
    if lost & {"rsi", "rdi"}:
        return False
    return len(names) == 1 or ("rcx" not in lost and like.start["rcx"] < 32)


def _moves_stack(insn: Any, name: str) -> bool:
    """Whether it writes rSP otherwise than by pushing and popping."""
    if name in ("push", "pop", "pushf", "pushfq", "pushfw"):
        return any(operand.type == x86.X86_OP_REG and _FAMILY.get(insn.reg_name(operand.reg)) ==
                   "rsp" for operand in insn.operands) and name == "pop"  # fmt: skip
    _, written = insn.regs_access()
    return any(_FAMILY.get(insn.reg_name(reg)) == "rsp" for reg in written)


def _unicorn_runs(insn: Any, names: list[str]) -> bool:
    """Whether Unicorn's answer counts for an instruction."""
    if names[-1] in _UNICORNS or len(names) > 1 or names[-1] in _STRING_NAMES:
        return False
    return not (names[-1].startswith("f") or insn.group(x86.X86_GRP_MMX) or any(
        operand.type == x86.X86_OP_REG and insn.reg_name(operand.reg).startswith("mm")
        for operand in insn.operands
    ))  # fmt: skip


def _near(insn: Any, memory: Any) -> bool:
    """[rbx + small], whatever an instruction makes of it, stays in the scratch memory."""
    name = insn.mnemonic.split()[-1]
    if name == "xlatb":
        return True
    bit_string = name in ("bt", "bts", "btr", "btc") and insn.operands[1].type != x86.X86_OP_IMM
    return (insn.reg_name(memory.base) == "rbx" and memory.index == 0 and memory.segment == 0
            and abs(memory.disp) < DATA_SIZE // 4 and not bit_string)  # fmt: skip
