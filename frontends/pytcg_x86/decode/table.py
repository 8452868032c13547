"""The instruction table: rows in the manual's operand letters, and the registry of lowerings.

Each family module holds its rows beside its lowerings, as text: one encoding a line,

    opcode      mnemonic  operands   attributes
    00          ADD       Eb,Gb      lock
    81/0        ADD       Ev,Iz      lock
    66:0f.6f    MOVDQA    Vx,Wx      sse
    0f.01/3/m   LIDT      M          end cpl0
    0f.01/1/r0  MONITOR              cpl0

*Opcode*: an optional mandatory prefix (np, 66, f3, f2), the bytes joined by dots, then /n for
ModRM.reg, then /m (memory only), /r (register only) or /rN (register only, ModRM.rm = N). `50+`
stands for the eight opcodes 50-57 with a register in the low bits. A prefix that begins with v
(vnp, v66, vf3, vf2) is VEX's: such a row is chosen by VEX.L and VEX.W too if it says l0 or l1, w0
or w1.

*Operands* are the SDM's (vol. 2, appendix A.2): a letter for the kind
    E general register or memory   G general register (reg)   R general register (rm, never memory)
    M memory, never a register     Z register in the opcode   I immediate    J relative target
    O memory at an immediate offset  A far pointer immediate  S segment register  C control register
    D debug register  V XMM (reg)  W XMM or memory  U XMM (rm)  P MMX (reg)  Q MMX or memory
    N MMX (rm)  X string source (DS:rSI)  Y string destination (ES:rDI)
    H XMM in VEX.vvvv  B general register in VEX.vvvv  L XMM in an immediate's upper half
and one for the size
    b byte  w word  d doubleword  q quadword  x 128 bits, or 256 with VEX.L  h half of x
    o 128 bits always  v by operand size (16/32/64)
    z 16 or 32 by operand size (immediates: sign-extended)  y 32, or 64 with REX.W
    s sign-extended byte immediate   p far pointer   (none: an address only)
or a register by name: AL CL DX rAX 1.

*Attributes*: lock (LOCK allowed with a memory destination), end (the block ends after it; the next
instruction is looked up), branch (lowers its own exits), d64 (operand size 64 by default in 64-bit
code), f64 (always 64 there), i64 (invalid in 64-bit code), o64 (only there), cpl0 (privileged),
prot (#UD in real and virtual-8086 mode), rep (REP prefixes mean something), fpu, mmx, sse (what
its #NM/#UD depend on), avx (the same for YMM state), lig (VEX.L is ignored), vsib (the memory
operand's index is a vector), nosize (the operand size changes nothing: one form).

*Features*: ``?ssse3``, the CPUID feature without which the row is not there; ``?sse|mmxext`` if
either will do. Then the row with the same opcode and no prefix counts (BSR for LZCNT), else #UD.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ATTRIBUTES = ("lock", "end", "branch", "d64", "f64", "i64", "o64", "cpl0", "prot", "rep", "fpu",
              "mmx", "sse", "nosize", "stack", "avx", "lig", "vsib", "shadow")  # fmt: skip
SELECTORS = {"l0": ("length", 0), "l1": ("length", 1), "w0": ("wide", 0), "w1": ("wide", 1)}

PREFIXES = ("np", "66", "f3", "f2")


@dataclass(frozen=True, slots=True)
class Row:
    """One encoding of one instruction."""

    opcode: tuple[int, ...]
    prefix: str | None  # mandatory: one of PREFIXES, or None when prefixes don't select
    reg: int | None
    mod: str | None  # "m", "r" or None
    rm: int | None
    plus: bool  # register in the opcode's low three bits
    mnemonic: str
    operands: tuple[str, ...]
    attrs: frozenset[str]
    features: tuple[str, ...] = ()  # any of them
    vex: bool = False
    length: int | None = None  # VEX.L, if it selects
    wide: int | None = None  # VEX.W

    def __str__(self) -> str:
        return f"{'.'.join(f'{b:02x}' for b in self.opcode)} {self.mnemonic}"


class TableError(Exception):
    """A row that makes no sense."""


_OPCODE = re.compile(
    r"(?:(?P<vex>v)?(?P<prefix>np|66|f3|f2):)?(?P<bytes>[0-9a-f]{2}(?:\.[0-9a-f]{2})*)(?P<plus>\+)?"
    r"(?:/(?P<reg>[0-7]))?(?:/(?P<mod>[mr])(?P<rm>[0-7])?)?$"
)


def parse_rows(text: str) -> list[Row]:
    """Rows of a family's table; ``#`` starts a comment."""
    return [_parse(line) for raw in text.splitlines() if (line := raw.split("#")[0].strip())]


def _parse(line: str) -> Row:
    opcode, mnemonic, *rest = line.split()
    match = _OPCODE.match(opcode)
    operands: tuple[str, ...] = ()
    if rest and rest[0] not in (*ATTRIBUTES, *SELECTORS) and rest[0][0] != "?":
        operands = tuple(rest.pop(0).split(","))
    wanted = [token for token in rest if token[0] == "?"]
    features = tuple(wanted[0][1:].split("|")) if wanted else ()
    chosen = dict(SELECTORS[token] for token in rest if token in SELECTORS)
    rest = [token for token in rest if token[0] != "?" and token not in SELECTORS]
    unknown = set(rest) - set(ATTRIBUTES)
    if match is None or unknown:
        raise TableError(f"{line}: {'opcode' if match is None else unknown}")
    number = {k: None if match[k] is None else int(match[k]) for k in ("reg", "rm")}
    return Row(
        tuple(bytes.fromhex(match["bytes"].replace(".", ""))), match["prefix"], number["reg"],
        match["mod"], number["rm"], bool(match["plus"]), mnemonic, operands, frozenset(rest),
        features, match["vex"] is not None, chosen.get("length"), chosen.get("wide"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lowering:
    """How an instruction is lowered: ``dst`` says what becomes of its first operand.

    ``rw``: loaded, passed, and the result is written back; ``w``: not loaded nor passed, the
    result is written; ``r``: all operands are loaded and passed, nothing is written; ``raw``:
    operands are passed as `Operand`s and the function reads and writes them itself.
    """

    function: Callable[..., Any]
    dst: str


LOWERINGS: dict[str, Lowering] = {}
ROWS: list[Row] = []


def lower(*mnemonics: str, dst: str = "rw") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a lowering for one or more mnemonics."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for mnemonic in mnemonics:
            if mnemonic in LOWERINGS:
                raise TableError(f"{mnemonic} is lowered twice")
            LOWERINGS[mnemonic] = Lowering(function, dst)
        return function

    return register


def rows(text: str) -> None:
    """Add a family's rows to the table."""
    ROWS.extend(parse_rows(text))
