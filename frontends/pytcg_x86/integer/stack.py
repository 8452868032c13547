"""The stack: PUSH POP PUSHA POPA PUSHF POPF ENTER LEAVE.

Registers change only after the last access that can fault.
"""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg.softmmu.access import (
    load_u16,
    load_u32,
    load_u64,
    probe_write,
    store_u16,
    store_u32,
    store_u64,
)
from pytcg_native import native, u16, u32, u64
from pytcg_x86.core.eflags import popf, pushf_image
from pytcg_x86.core.segment import check_read, check_write
from pytcg_x86.core.state import Env, Seg
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.system.vm86 import (
    check_sensitive,
    check_virtual_flags,
    is_sensitive,
    take_virtual_if,
    virtual_image,
)

UNDEFINED: dict[str, str] = {}

rows("""
50+         PUSH   Zv      d64 stack
58+         POP    Zv      d64 stack
68          PUSH   Iz      d64 stack
6a          PUSH   Is      d64 stack
ff/6        PUSH   Ev      d64 stack
8f/0        POP    Ev      d64 stack
60          PUSHA          i64 stack
61          POPA           i64 stack
9c          PUSHF          d64 stack
9d          POPF           d64 stack end
c8          ENTER  Iw,Ib   d64 stack
c9          LEAVE          d64 stack
""")


@lower("PUSH", dst="r")
def push(t: Translator, src: Value) -> None:
    """PUSH: rSP itself is pushed as it was before (SDM vol. 2B)."""
    size = t.cx.operand_size
    t.push(size, src.sext(INT_OF_BITS[size]))


@lower("POP", dst="raw")
def pop(t: Translator, dst: Operand) -> None:
    """POP: an address based on rSP is reckoned after the increment (SDM vol. 2B)."""
    size = t.cx.operand_size // 8
    value = t.top(t.cx.operand_size)
    if dst.is_memory:
        before = t.ld_env("gpr", 4)
        t.drop(size)
        t.offset()
        t.st_env("gpr", before, 4)
        t.write(dst, value)
        t.drop(size)
    else:
        t.drop(size)
        t.write(dst, value)


@lower("PUSHA", dst="raw")
def pusha(t: Translator) -> None:
    """PUSHA, PUSHAD: rAX rCX rDX rBX, rSP as it was, rBP rSI rDI (SDM vol. 2B)."""
    bits = t.cx.operand_size
    pointer = t.stack_pointer()
    for number in range(8):
        pointer = t.wrap_stack(pointer - bits // 8)
        linear = t.segment_address(Seg.SS, pointer, bits, write=True)
        t.store(bits, linear, t.read(t.reg(number, bits)))
    t.set_stack_pointer(pointer)


@lower("POPA", dst="raw")
def popa(t: Translator) -> None:
    """POPA, POPAD: the reverse of PUSHA; the value for rSP is dropped (SDM vol. 2B)."""
    bits = t.cx.operand_size
    size = bits // 8
    values = [t.top(bits, skip=size * (7 - number)) for number in range(8)]
    t.drop(8 * size)
    for number, value in enumerate(values):
        if number != 4:
            t.write(t.reg(number, bits), value)


@native
def vm86_pushf_image(env: Env, size: u32) -> u64:
    """What PUSHF of 16-bit code pushes, which may be virtual-8086 code."""
    check_sensitive(env, size)
    if is_sensitive(env):
        return virtual_image(env)
    return pushf_image(env)


@native
def vm86_popf(env: Env, value: u64, size: u32) -> None:
    """POPF of 16-bit code, checked: where IOPL keeps IF away, VIF takes its place."""
    popf(env, value, size)
    if is_sensitive(env):
        take_virtual_if(env, value)


@lower("PUSHF", dst="raw")
def pushf(t: Translator) -> None:
    """PUSHF, PUSHFD, PUSHFQ (SDM vol. 2B). Virtual-8086 code has 16 bits."""
    size = t.cx.operand_size // 8
    image = t.call(vm86_pushf_image if t.cx.code_size == 16 else pushf_image, t.env,
                   *([t.const(size, 32)] if t.cx.code_size == 16 else []))  # fmt: skip
    assert image is not None
    t.push(t.cx.operand_size, image.resize(INT_OF_BITS[t.cx.operand_size]))


@lower("POPF", dst="raw")
def popf_(t: Translator) -> None:
    """POPF, POPFD, POPFQ (SDM vol. 2B)."""
    size = t.cx.operand_size // 8
    if t.cx.code_size == 16:
        t.call(check_sensitive, t.env, t.const(size, 32))
    value = t.top(t.cx.operand_size).resize(Type.I64)
    if t.cx.code_size == 16:
        t.call(check_virtual_flags, t.env, value)
    t.drop(size)
    t.call(vm86_popf if t.cx.code_size == 16 else popf, t.env, value, t.const(size, 32))


# ENTER -----------------------------------------------------------------------------------------


@native
def stack_store(env: Env, pointer: u64, size: u32, value: u64) -> None:
    """Store to the stack segment at a wrapped offset."""
    linear: u64 = check_write(env, Seg.SS, pointer, size)
    if size == 2:
        store_u16(env, linear, u16(value))
    elif size == 4:
        store_u32(env, linear, u32(value))
    else:
        store_u64(env, linear, value)


@native
def stack_load(env: Env, pointer: u64, size: u32) -> u64:
    """Load from the stack segment at a wrapped offset."""
    linear: u64 = check_read(env, Seg.SS, pointer, size)
    if size == 2:
        return load_u16(env, linear)
    if size == 4:
        return load_u32(env, linear)
    return load_u64(env, linear)


@native
def enter_frame(env: Env, locals_size: u64, level: u64, size: u32, mask: u64) -> None:
    """ENTER: push rBP and ``level`` - 1 frame pointers and the new one (SDM vol. 2A).

    ``size`` is the operand size in bytes, ``mask`` the stack pointer's width.
    """
    pointer: u64 = ((env.gpr[4] & mask) - size) & mask
    base: u64 = env.gpr[5]
    stack_store(env, pointer, size, base)
    frame: u64 = pointer
    if level != 0:
        for _i in range(u64(1), level):
            base -= size
            pointer = (pointer - size) & mask
            stack_store(env, pointer, size, stack_load(env, base & mask, size))
        pointer = (pointer - size) & mask
        stack_store(env, pointer, size, frame)
    pointer = (pointer - locals_size) & mask
    # The new top of the stack must be writable; nothing is written there.
    probe_write(env, check_write(env, Seg.SS, pointer, size), size)
    env.gpr[4] = (env.gpr[4] & ~mask) | pointer
    env.gpr[5] = (env.gpr[5] & ~mask) | (frame & mask)


@lower("ENTER", dst="r")
def enter(t: Translator, size: Value, level: Value) -> None:
    """ENTER: make a stack frame; the nesting level is taken modulo 32 (SDM vol. 2A)."""
    locals_size = size.resize(Type.I64) & 0xFFFF
    nesting = level.resize(Type.I64) & 31
    mask = t.const((1 << t.cx.stack_size) - 1, 64)
    t.call(enter_frame, t.env, locals_size, nesting, t.const(t.cx.operand_size // 8, 32), mask)


@lower("LEAVE", dst="raw")
def leave(t: Translator) -> None:
    """LEAVE: rSP := rBP, then rBP := Pop() (SDM vol. 2A)."""
    bits = t.cx.operand_size
    frame = t.wrap_stack(t.ld_env("gpr", 5))
    value = t.load(bits, t.segment_address(Seg.SS, frame, bits))
    t.set_stack_pointer(t.wrap_stack(frame + bits // 8))
    t.write(t.reg(5, bits), value)
