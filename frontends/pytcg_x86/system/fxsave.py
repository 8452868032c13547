"""LDMXCSR, STMXCSR, FXSAVE, FXRSTOR: state images in memory (SDM vol. 1, 10.5).

The image, legacy region first: FCW FSW FTW FOP FIP FDP MXCSR MXCSR_MASK, eight x87 registers of 16
bytes from 32, sixteen XMM registers from 160 (eight outside 64-bit code). `xsave` builds on it.
FXSAVE without REX.W keeps 32-bit pointers and selectors, with it 64-bit pointers.
"""

from __future__ import annotations

from pytcg.exec.layout import ExecEnv
from pytcg.ir.blocks import Value
from pytcg.softmmu.access import (
    load_u8,
    load_u16,
    load_u32,
    load_u64,
    load_u128,
    probe_read,
    probe_write,
    store_u16,
    store_u32,
    store_u64,
    store_u128,
)
from pytcg_native import native, u8, u16, u32, u64
from pytcg_x86.core.exceptions import raise_error
from pytcg_x86.core.state import Env, Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.mxcsr import VALID, mxcsr_load, mxcsr_value
from pytcg_x86.x87.memory import (
    fp_set_opcode,
    fp_shown_opcode,
    fp_status_word,
    fp_summarise,
)

UNDEFINED: dict[str, str] = {}

rows("""
np:0f.ae/0/m FXSAVE   M          fpu ?fxsr
np:0f.ae/1/m FXRSTOR  M          fpu ?fxsr
np:0f.ae/2/m LDMXCSR  Md         sse ?sse
np:0f.ae/3/m STMXCSR  Md         sse ?sse
""")

_IMAGE = 512
_REGISTERS = 32
_XMM = 160
_MXCSR = 24


# Saving ----------------------------------------------------------------------------------------


@native
def save_x87(env: Env, address: u64, wide: u32) -> None:
    """The x87 part of the image; the caller has probed it."""
    e: ExecEnv = ExecEnv(env)
    store_u16(e, address, env.fp_control)
    store_u16(e, address + 2, fp_status_word(env))
    tags: u32 = 0
    for i in range(u32(8)):
        if env.fp_tag[i] == 0:
            tags |= u32(1) << i
    store_u16(e, address + 4, u16(tags))
    store_u16(e, address + 6, fp_shown_opcode(env))
    if wide != 0:
        store_u64(e, address + 8, env.fp_ip)
        store_u64(e, address + 16, env.fp_dp)
    else:
        store_u64(e, address + 8, (env.fp_ip & 0xFFFF_FFFF) | u64(env.fp_cs) << 32)
        store_u64(e, address + 16, (env.fp_dp & 0xFFFF_FFFF) | u64(env.fp_ds) << 32)
    for k in range(u32(8)):
        register: u32 = (env.fp_top + k) & 7
        at: u64 = address + _REGISTERS + 16 * u64(k)
        store_u64(e, at, env.fp_register[2 * register])
        store_u64(e, at + 8, env.fp_register[2 * register + 1])


@native
def save_xmm(env: Env, address: u64, count: u32) -> None:
    """The XMM registers of the image."""
    for i in range(u64(0), u64(count)):
        store_u128(ExecEnv(env), address + _XMM + 16 * i, env.xmm[i])


@native
def save_mxcsr(env: Env, address: u64) -> None:
    store_u32(ExecEnv(env), address + _MXCSR, mxcsr_value(env))
    store_u32(ExecEnv(env), address + _MXCSR + 4, VALID)


@native
def fxsave(env: Env, address: u64, wide: u32, count: u32) -> None:
    """FXSAVE: nothing is stored unless all can be."""
    if (address & 15) != 0:
        raise_error(env, Vector.GP, 0)
    probe_write(ExecEnv(env), address, _IMAGE)
    save_x87(env, address, wide)
    save_mxcsr(env, address)
    save_xmm(env, address, count)


# Restoring -------------------------------------------------------------------------------------


@native
def restore_x87(env: Env, address: u64, wide: u32) -> None:
    """The x87 part of the image; the caller has probed it."""
    e: ExecEnv = ExecEnv(env)
    status: u16 = load_u16(e, address + 2)
    env.fp_control = load_u16(e, address)
    env.fp_status = status & 0xC7FF
    env.fp_top = (u32(status) >> 11) & 7
    tags: u32 = load_u8(e, address + 4)
    for i in range(u32(8)):
        env.fp_tag[i] = u8(((tags >> i) & 1) ^ 1)
    fp_set_opcode(env, load_u16(e, address + 6))
    env.fp_ip = load_u64(e, address + 8)
    env.fp_dp = load_u64(e, address + 16)
    if wide == 0:
        env.fp_cs = u16(env.fp_ip >> 32)
        env.fp_ds = u16(env.fp_dp >> 32)
        env.fp_ip = env.fp_ip & 0xFFFF_FFFF
        env.fp_dp = env.fp_dp & 0xFFFF_FFFF
    for k in range(u32(8)):
        register: u32 = (env.fp_top + k) & 7
        at: u64 = address + _REGISTERS + 16 * u64(k)
        env.fp_register[2 * register] = load_u64(e, at)
        env.fp_register[2 * register + 1] = load_u16(e, at + 8)
    fp_summarise(env)


@native
def restore_xmm(env: Env, address: u64, count: u32) -> None:
    for i in range(u64(0), u64(count)):
        env.xmm[i] = load_u128(ExecEnv(env), address + _XMM + 16 * i)


@native
def checked_mxcsr(env: Env, address: u64) -> u32:
    """The image's MXCSR; #GP(0) if it sets reserved bits."""
    value: u32 = load_u32(ExecEnv(env), address + _MXCSR)
    if (value >> 16) != 0:
        raise_error(env, Vector.GP, 0)
    return value


@native
def fxrstor(env: Env, address: u64, wide: u32, count: u32) -> None:
    """FXRSTOR: every fault comes before the first change."""
    if (address & 15) != 0:
        raise_error(env, Vector.GP, 0)
    probe_read(ExecEnv(env), address, _IMAGE)
    mxcsr: u32 = checked_mxcsr(env, address)
    restore_x87(env, address, wide)
    restore_xmm(env, address, count)
    mxcsr_load(env, mxcsr)


@native
def reset_xmm(env: Env, count: u32) -> None:
    for i in range(count):
        env.xmm[i] = 0


@native
def reset_x87(env: Env) -> None:
    """The x87's state after FNINIT."""
    env.fp_control = 0x37F
    env.fp_status = 0
    env.fp_top = 0
    fp_set_opcode(env, 0)
    env.fp_cs = 0
    env.fp_ds = 0
    env.fp_ip = 0
    env.fp_dp = 0
    for i in range(8):
        env.fp_tag[i] = 1
        env.fp_register[2 * i] = 0
        env.fp_register[2 * i + 1] = 0


# The instructions ------------------------------------------------------------------------------


def image_operands(t: Translator, bits: int, *, write: bool) -> tuple[Value, Value, Value]:
    """Address, whether pointers are 64-bit, how many XMM registers there are."""
    wide = t.const(int(t.cx.operand_size == 64), 32)
    count = t.const(16 if t.cx.code_size == 64 else 8, 32)
    return t.address(bits, write=write), wide, count


@lower("FXSAVE", dst="raw")
def fxsave_lowering(t: Translator, image: Operand) -> None:
    """FXSAVE (SDM vol. 2A)."""
    t.call(fxsave, t.env, *image_operands(t, _IMAGE * 8, write=True))


@lower("FXRSTOR", dst="raw")
def fxrstor_lowering(t: Translator, image: Operand) -> None:
    """FXRSTOR (SDM vol. 2A)."""
    t.call(fxrstor, t.env, *image_operands(t, _IMAGE * 8, write=False))


@lower("LDMXCSR", dst="r")
def ldmxcsr(t: Translator, value: Value) -> None:
    """LDMXCSR: #GP(0) on reserved bits (SDM vol. 2A)."""
    t.raise_if((value >> 16).ne(0), Vector.GP, 0)
    t.call(mxcsr_load, t.env, value)


@lower("STMXCSR", dst="w")
def stmxcsr(t: Translator) -> Value:
    """STMXCSR (SDM vol. 2B)."""
    value = t.call(mxcsr_value, t.env)
    assert value is not None
    return value
