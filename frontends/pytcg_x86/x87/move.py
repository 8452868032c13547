"""x87 loads and stores: FLD, FILD, FBLD, constants, FST, FIST, FISTTP, FBSTP."""

from __future__ import annotations

from collections.abc import Callable

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower
from pytcg_x86.x87 import host, memory, stack, transfer
from pytcg_x86.x87.lowering import Native, begin, call, index, loaded, note, run

# Loads -----------------------------------------------------------------------------------------


@lower("FLD", dst="raw")
def fld(t: Translator, op: Operand) -> None:
    """FLD m32, m64, ST(i): push."""
    if op.is_memory:
        core = transfer.fp_load_m32 if op.bits == 32 else transfer.fp_load_m64
        value = loaded(t, op)
        host.load_number(t, value, lambda: run(t, core, value), integer=False)
        return
    begin(t)
    note(t)
    i = index(t, op)
    host.load_register(t, i, lambda: run(t, stack.fp_load_register, i))


@lower("FLD80", dst="raw")
def fld80(t: Translator, op: Operand) -> None:
    """FLD m80: push, unchanged."""
    begin(t)
    parts = t.load_ten(t.address(80))
    note(t, operand=True)
    host.load_ten(t, parts, lambda: run(t, stack.fp_load, parts[0], parts[1].zext(Type.I32)))


@lower("FBLD", dst="raw")
def fbld(t: Translator, op: Operand) -> None:
    """FBLD m80: push a packed decimal."""
    begin(t)
    address = t.address(80)
    low, high = t.load(64, address), t.load(16, address + 8)
    note(t, operand=True)
    call(t, transfer.fp_load_decimal, low, high)


@lower("FILD", dst="raw")
def fild(t: Translator, op: Operand) -> None:
    """FILD: push a signed integer."""
    value = loaded(t, op)
    value = value.sext(Type.I64) if op.bits < 64 else value
    host.load_number(t, value, lambda: run(t, transfer.fp_load_int, value), integer=True)


_WHOLE = {"1": 1, "Z": 0}


def _constant(which: int, name: str) -> Callable[..., None]:
    def lowering(t: Translator) -> None:
        begin(t)
        note(t)

        def slow() -> None:
            call(t, stack.fp_load_constant, which)

        if name in _WHOLE:  # the others depend on the rounding
            host.load_number(t, t.const(_WHOLE[name], 64), slow, integer=True)
        else:
            slow()

    return lowering


for _which, _name in enumerate(("1", "L2T", "L2E", "PI", "LG2", "LN2", "Z")):
    lower(f"FLD{_name}", dst="raw")(_constant(_which, _name))


# Stores ----------------------------------------------------------------------------------------


def destination(t: Translator, size: int) -> Value:
    """Make sure ``size`` bytes can be stored: their linear address."""
    address = t.address(size * 8, write=True)
    call(t, memory.fp_probe, address, t.const(size, 64))
    note(t, operand=True)
    return address


def store_and_pop(t: Translator, address: Value, parts: list[Value], pops: int) -> None:
    """Store the parts one after the other and pop, unless an exception forbids it."""
    with t.when(call(t, transfer.fp_storable), likely=True):
        for part in parts:
            t.store(part.bits, address, part)
            address = address + part.bits // 8
        if pops:
            call(t, stack.fp_pop)


def _store(pops: int) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        begin(t)
        if op.is_memory:
            core = transfer.fp_to_m32 if op.bits == 32 else transfer.fp_to_m64

            def slow() -> None:
                address = destination(t, op.bits // 8)
                store_and_pop(t, address, [call(t, core)], pops)

            t.offset()
            host.store_number(t, Type.F32 if op.bits == 32 else Type.F64, op.bits, pops,
                              lambda: note(t, operand=True), slow)  # fmt: skip
            return
        note(t)
        i = index(t, op)
        host.store_register(t, i, pops, lambda: run(t, stack.fp_store_register, i, pops))

    return lowering


def _store_int(*, chop: int, pops: int) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        begin(t)

        def slow() -> None:
            address = destination(t, op.bits // 8)
            value = call(t, transfer.fp_to_int, op.bits, chop)
            store_and_pop(t, address, [value.resize(op.type)], pops)

        if chop:
            slow()
            return
        t.offset()
        host.store_number(t, op.type, op.bits, pops, lambda: note(t, operand=True), slow)

    return lowering


def _store_ten(core: Native) -> Callable[..., None]:
    def lowering(t: Translator, op: Operand) -> None:
        begin(t)

        def slow() -> None:
            address = destination(t, 10)
            value = call(t, core)
            parts = [value.trunc(Type.I64), (value >> 64).trunc(Type.I16)]
            store_and_pop(t, address, parts, 1)

        if core is transfer.fp_stored:
            t.offset()
            host.store_ten(t, lambda: note(t, operand=True), slow)
        else:
            slow()

    return lowering


for _pops, _suffix in enumerate(("", "P")):
    lower(f"FST{_suffix}", dst="raw")(_store(_pops))
    lower(f"FIST{_suffix}", dst="raw")(_store_int(chop=0, pops=_pops))
lower("FISTTP", dst="raw")(_store_int(chop=1, pops=1))
lower("FSTP80", dst="raw")(_store_ten(transfer.fp_stored))
lower("FBSTP", dst="raw")(_store_ten(transfer.fp_to_decimal))
