"""Near control transfers: JMP, Jcc, CALL, RET, LOOP, and the invalid instruction.

A direct transfer's record holds its successors (records); they begin as link records, which chain
themselves in. An indirect one goes through the jump cache, in line.
"""

from __future__ import annotations

from pytcg.exec.regions import CALLS, JUMPS
from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.state import Vector
from pytcg_x86.core.translate import Translator
from pytcg_x86.decode.opcodes import CONDITIONS
from pytcg_x86.decode.table import lower, rows

for _code, _name in enumerate(CONDITIONS):
    rows(f"""
{0x70 + _code:02x}        J{_name}  Jb    branch f64
0f.{0x80 + _code:02x}     J{_name}  Jz    branch f64
""")
rows("""
e9        JMP     Jz    branch f64
eb        JMP     Jb    branch f64
ff/4      JMPI    Ev    branch f64
e8        CALL    Jz    branch f64 stack
ff/2      CALLI   Ev    branch f64 stack
c3        RET           branch f64 stack
c2        RETI    Iw    branch f64 stack
e0        LOOPNE  Jb    branch f64
e1        LOOPE   Jb    branch f64
e2        LOOP    Jb    branch f64
e3        JRCXZ   Jb    branch f64
""")


def check_target(t: Translator, pc: Value, pushed: Value | None = None) -> None:
    """#GP(0) for a target outside the code segment or not canonical (SDM vol. 2, JMP).

    In 64-bit code ``pushed`` is where a return address will be stored, which may fault before.
    """
    if t.cx.code_size == 64:
        high = pc.ashr(47)
        t.check_target(high.ne(0) & high.ne(-1), pc, pushed)
    else:
        t.raise_if(pc.ugt(t.ld_env("seg_limit", 1).zext(Type.I64)), Vector.GP, 0)


def _register_conditions() -> None:
    for code, name in enumerate(CONDITIONS):

        def jcc(t: Translator, _target: Value, *, code: int = code) -> None:
            t.branch(t.flags.condition(code))

        lower(f"J{name}", dst="r")(jcc)


_register_conditions()


@lower("JMP", dst="r")
def jmp(t: Translator, _target: Value) -> None:
    """JMP rel (SDM vol. 2A)."""
    t.jump()


@lower("JMPI", dst="r")
def jmp_indirect(t: Translator, target: Value) -> None:
    """JMP r/m."""
    t.effects.computed = JUMPS
    pc = target.zext(Type.I64)
    check_target(t, pc)
    t.indirect(pc)


@lower("CALL", dst="r")
def call(t: Translator, _target: Value) -> None:
    """CALL rel: the return address is pushed at the operand size."""
    bits = t.cx.operand_size
    t.push(bits, t.next_pc().resize(t.const(0, bits).type))
    t.jump()


@lower("CALLI", dst="r")
def call_indirect(t: Translator, target: Value) -> None:
    """CALL r/m."""
    t.effects.computed = CALLS
    pc = target.zext(Type.I64)
    check_target(t, pc, t.stack_pointer() - 8)
    bits = t.cx.operand_size
    t.push(bits, t.next_pc().resize(t.const(0, bits).type))
    t.indirect(pc)


def _ret(t: Translator, release: Value | int) -> None:
    bits = t.cx.operand_size
    pc = t.top(bits).zext(Type.I64)
    check_target(t, pc)
    pointer = t.stack_pointer() + bits // 8 + release
    t.set_stack_pointer(t.wrap_stack(pointer))
    t.indirect(pc)


@lower("RET")
def ret(t: Translator) -> None:
    """RET: pop rIP (SDM vol. 2B)."""
    _ret(t, 0)


@lower("RETI", dst="r")
def ret_release(t: Translator, count: Value) -> None:
    """RET imm16: pop rIP and release the caller's arguments."""
    _ret(t, count.zext(Type.I64))


def _count(t: Translator) -> Value:
    """rCX at the address size, one less; written back."""
    bits = t.cx.address_size
    counter = t.reg(1, bits)
    count = t.read(counter) - 1
    t.write(counter, count)
    return count


@lower("LOOP", dst="r")
def loop(t: Translator, _target: Value) -> None:
    """LOOP: count rCX down, jump unless it is 0; no flags change."""
    t.branch(_count(t).ne(0))


@lower("LOOPE", dst="r")
def loope(t: Translator, _target: Value) -> None:
    """LOOPE: and only while ZF is set."""
    zero = t.flags.zf()
    t.branch(_count(t).ne(0) & zero)


@lower("LOOPNE", dst="r")
def loopne(t: Translator, _target: Value) -> None:
    """LOOPNE: and only while ZF is clear."""
    nonzero = t.flags.zf() ^ 1
    t.branch(_count(t).ne(0) & nonzero)


@lower("JRCXZ", dst="r")
def jrcxz(t: Translator, _target: Value) -> None:
    """JCXZ, JECXZ, JRCXZ by address size."""
    t.branch(t.read(t.reg(1, t.cx.address_size)).eq(0))


@lower("UD")
def undefined(t: Translator) -> None:
    """What is no instruction: #UD."""
    t.raise_if(t.b.const(1, Type.I1), Vector.UD)


@lower("NM")
def device_not_available(t: Translator) -> None:
    """x87, MMX or SSE while CR0.EM or CR0.TS forbids it: #NM."""
    t.raise_if(t.b.const(1, Type.I1), Vector.NM)
