"""x87 instructions (SDM vol. 1, chapter 8): operands in and out of the native cores.

Everything but the FN… instructions waits: it first raises #MF for an exception left pending. What
an instruction does to the register stack is in `stack`, arithmetic in `softfloat80*`.

Deviations: the last opcode (FOP) is not recorded, as on processors that keep it only for unmasked
exceptions. Where processors differ (C1 after FCOMI, the last
bit of transcendentals) the manual or the correctly rounded value wins.
"""

from __future__ import annotations

from collections.abc import Callable

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.state import Flag
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower
from pytcg_x86.x87 import host, memory, operate, remainder, stack, transcendental, transfer
from pytcg_x86.x87 import move as _move  # noqa: F401  loads and stores
from pytcg_x86.x87 import rows as _rows  # noqa: F401  the rows of this family
from pytcg_x86.x87.lowering import Native, begin, call, index, loaded, note, run
from pytcg_x86.x87.softfloat80_arith import Arith

UNDEFINED: dict[str, str] = {}


# Arithmetic and comparison ---------------------------------------------------------------------


def _arith(operation: Arith) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        if op.is_memory:
            core = operate.fp_arith_m32 if op.bits == 32 else operate.fp_arith_m64
            value = loaded(t, op)
            host.arith_memory(t, operation, value, lambda: run(t, core, operation, value),
                              integer=False)  # fmt: skip
            return
        begin(t)
        note(t)
        i = index(t, op)
        host.arith(t, operation, i, 0, 0,
                   lambda: run(t, operate.fp_arith_register, operation, i, 0, 0))  # fmt: skip

    return lowering


def _arith_sti(operation: Arith, pops: int) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        begin(t)
        note(t)
        i = index(t, op)
        host.arith(t, operation, i, i, pops,
                   lambda: run(t, operate.fp_arith_register, operation, i, i, pops))  # fmt: skip

    return lowering


def _arith_int(operation: Arith) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        value = loaded(t, op).sext(Type.I64)
        host.arith_memory(t, operation, value,
                          lambda: run(t, transfer.fp_arith_int, operation, value),
                          integer=True)  # fmt: skip

    return lowering


# With ST(i) as destination the manual's SUB is ST(i) - ST(0): the cores' SUBR.
_SWAPPED = {Arith.SUB: Arith.SUBR, Arith.SUBR: Arith.SUB,
            Arith.DIV: Arith.DIVR, Arith.DIVR: Arith.DIV}  # fmt: skip

for _operation in Arith:
    _name = _operation.name
    _swapped = _SWAPPED.get(_operation, _operation)
    lower(f"F{_name}", dst="raw")(_arith(_operation))
    lower(f"F{_name}_STI", dst="raw")(_arith_sti(_swapped, 0))
    lower(f"F{_name}P", dst="raw")(_arith_sti(_swapped, 1))
    lower(f"FI{_name}", dst="raw")(_arith_int(_operation))


def _compare(*, quiet: int, pops: int) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        if op.is_memory:
            core = operate.fp_compare_m32 if op.bits == 32 else operate.fp_compare_m64
            value = loaded(t, op)
            host.compare_memory(t, value, pops, lambda: run(t, core, value, pops), integer=False)
            return
        begin(t)
        note(t)
        i = index(t, op)
        host.compare(t, i, quiet=quiet, pops=pops,
                     slow=lambda: run(t, operate.fp_compare_register, i, quiet, pops))  # fmt: skip

    return lowering


def _compare_int(pops: int) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        value = loaded(t, op).sext(Type.I64)
        host.compare_memory(t, value, pops, lambda: run(t, transfer.fp_compare_int, value, pops),
                            integer=True)  # fmt: skip

    return lowering


def _compare_next(quiet: int) -> Callable[..., None]:
    def lowering(t: Translator) -> None:
        begin(t)
        note(t)
        host.compare(t, 1, quiet=quiet, pops=2,
                     slow=lambda: run(t, operate.fp_compare_register, 1, quiet, 2))  # fmt: skip

    return lowering


def _compare_flags(*, quiet: int, pops: int) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        begin(t)
        note(t)
        i, image = index(t, op), t.b.local(Type.I32, "order")

        def note_order(stack: host.Stack, word: Value) -> None:
            codes = word.zext(Type.I32)  # C3, C2, C0 are ZF, PF, CF, eight bits further up
            t.b.set(image, (codes >> 8) & (Flag.ZF | Flag.PF | Flag.CF))
            stack.codes()

        def slow() -> None:
            t.b.set(image, call(t, operate.fp_order_flags, i, quiet, pops))

        host.compare(t, i, quiet=quiet, pops=pops, slow=slow, note=note_order)
        t.flags.load(t.b.get(image))

    return lowering


for _pops, _suffix in enumerate(("", "P")):
    lower(f"FCOM{_suffix}", dst="raw")(_compare(quiet=0, pops=_pops))
    lower(f"FUCOM{_suffix}", dst="raw")(_compare(quiet=1, pops=_pops))
    lower(f"FICOM{_suffix}", dst="raw")(_compare_int(_pops))
    lower(f"FCOMI{_suffix}", dst="raw")(_compare_flags(quiet=0, pops=_pops))
    lower(f"FUCOMI{_suffix}", dst="raw")(_compare_flags(quiet=1, pops=_pops))
lower("FCOMPP", dst="raw")(_compare_next(0))
lower("FUCOMPP", dst="raw")(_compare_next(1))


@lower("FTST", dst="raw")
def ftst(t: Translator) -> None:
    """FTST: compare ST(0) with 0.0."""
    begin(t)
    note(t)
    zero = t.const(0, 64)
    host.compare_memory(t, zero, 0, lambda: run(t, transfer.fp_compare_int, zero, 0),
                        integer=True)  # fmt: skip


# Registers -------------------------------------------------------------------------------------


@lower("FXCH", dst="raw")
def fxch(t: Translator, op: Operand) -> None:
    """FXCH: ST(0) <-> ST(i)."""
    begin(t)
    note(t)
    i = index(t, op)
    host.exchange(t, i, lambda: run(t, stack.fp_exchange, i))


@lower("FSTPNCE", dst="raw")
def fstpnce(t: Translator, op: Operand) -> None:
    """D9 D8+i: FSTP ST(i) without a check for empty registers."""
    begin(t)
    note(t)
    call(t, stack.fp_store_unchecked, index(t, op))


def _free(pops: int) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        begin(t)
        note(t)
        call(t, stack.fp_free, index(t, op), pops)

    return lowering


lower("FFREE", dst="raw")(_free(0))
lower("FFREEP", dst="raw")(_free(1))


def _conditional(name: str, *, negate: bool) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        begin(t)
        note(t)
        tests: dict[str, Callable[[], Value]] = {
            "B": t.flags.cf, "E": t.flags.zf, "U": t.flags.pf,
            "BE": lambda: t.flags.cf() | t.flags.zf(),
        }  # fmt: skip
        condition = tests[name]()
        call(t, stack.fp_conditional_move, index(t, op), condition ^ 1 if negate else condition)

    return lowering


for _name in ("B", "E", "U", "BE"):
    lower(f"FCMOV{_name}", dst="raw")(_conditional(_name, negate=False))
    lower(f"FCMOVN{_name}", dst="raw")(_conditional(_name, negate=True))


def _core(core: Native, *args: int) -> Callable[..., None]:
    def lowering(t: Translator) -> None:
        begin(t)
        note(t)
        call(t, core, *args)

    return lowering


def _sign(name: str, *args: int) -> Callable[..., None]:
    def lowering(t: Translator) -> None:
        begin(t)
        note(t)
        host.sign(t, name, lambda: run(t, operate.fp_sign, *args))

    return lowering


def _unary(name: str, core: Native) -> Callable[..., None]:
    def lowering(t: Translator) -> None:
        begin(t)
        note(t)
        host.unary(t, name, lambda: run(t, core))

    return lowering


lower("FCHS", dst="raw")(_sign("xneg", 1, 1))
lower("FABS", dst="raw")(_sign("xabs", 0, 0))
lower("FXAM", dst="raw")(_core(operate.fp_examine))
lower("FINCSTP", dst="raw")(_core(stack.fp_step, 1))
lower("FDECSTP", dst="raw")(_core(stack.fp_step, 7))
lower("FSQRT", dst="raw")(_unary("xsqrt", operate.fp_sqrt))
lower("FRNDINT", dst="raw")(_unary("xrint", operate.fp_round_to_integral))
lower("FXTRACT", dst="raw")(_core(operate.fp_extract))
lower("FSCALE", dst="raw")(_core(operate.fp_scale))
lower("FPREM", dst="raw")(_core(remainder.fp_remainder, 0))
lower("FPREM1", dst="raw")(_core(remainder.fp_remainder, 1))
for _name, _native in transcendental.CORES.items():
    lower(_name, dst="raw")(_core(_native))


# Control ---------------------------------------------------------------------------------------


@lower("FNOP", dst="raw")
def fnop(t: Translator) -> None:
    """FNOP: only waits."""
    begin(t)
    note(t)


@lower("FNENI", "FNDISI", "FNSETPM", dst="raw")
def fneni(t: Translator) -> None:
    """8087 and 80287 instructions that later processors ignore."""


@lower("FWAIT", dst="raw")
def fwait(t: Translator) -> None:
    """WAIT: #NM by CR0.MP and TS, then #MF."""
    call(t, stack.fp_fwait)


@lower("FNCLEX", dst="raw")
def fnclex(t: Translator) -> None:
    """FNCLEX: clear the exception flags."""
    call(t, memory.fp_clear_exceptions)


@lower("FNINIT", dst="raw")
def fninit(t: Translator) -> None:
    """FNINIT: control word 37FH, everything empty."""
    call(t, memory.fp_init)


@lower("FNSTSW", dst="raw")
def fnstsw(t: Translator, op: Operand) -> None:
    """FNSTSW AX, m16."""
    t.write(op, call(t, memory.fp_status_word))


@lower("FNSTCW", dst="raw")
def fnstcw(t: Translator, op: Operand) -> None:
    """FNSTCW m16."""
    t.write(op, t.ld_env("fp_control"))


@lower("FLDCW", dst="raw")
def fldcw(t: Translator, op: Operand) -> None:
    """FLDCW m16."""
    begin(t)
    call(t, memory.fp_set_control, t.read(op))


def _image(core: Native, header: tuple[int, int], *, write: bool, waits: bool
           ) -> Callable[..., None]:  # fmt: skip
    """FLDENV and the like; ``header`` is the image's size in 16- and 32-bit layout."""

    def lowering(t: Translator, op: Operand) -> None:
        if waits:
            begin(t)
        small = t.cx.operand_size == 16
        address = t.address(header[not small] * 8, write=write)
        call(t, core, address, int(small))

    return lowering


lower("FNSTENV", dst="raw")(
    _image(memory.fp_store_environment, (14, 28), write=True, waits=False))  # fmt: skip
lower("FLDENV", dst="raw")(
    _image(memory.fp_load_environment, (14, 28), write=False, waits=True))  # fmt: skip
lower("FNSAVE", dst="raw")(_image(memory.fp_save, (94, 108), write=True, waits=False))
lower("FRSTOR", dst="raw")(_image(memory.fp_restore, (94, 108), write=False, waits=True))
