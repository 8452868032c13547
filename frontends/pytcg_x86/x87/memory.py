"""The x87 in memory: environment and state, in 14- and 28-byte layouts (SDM vol. 1, 8.1.10).

Stores probe the whole image first and loads read all of it first, so a fault changes nothing.
"""

from __future__ import annotations

from pytcg.exec.layout import PAGE_MASK, ExecEnv
from pytcg.softmmu.access import (
    load_u16,
    load_u32,
    load_u64,
    probe_read,
    probe_write,
    store_u16,
    store_u32,
    store_u64,
    tlb_entry,
)
from pytcg_native import likely, native, u16, u32, u64
from pytcg_x86.core.state import Env, Mode
from pytcg_x86.x87.softfloat80 import Fsw, Kind, x80_kind
from pytcg_x86.x87.stack import fp_number, fp_physical, fp_tag_all

CONTROL_RESET = 0x37F
CONTROL_FIXED = 0x40  # bit 6 reads as 1
CONTROL_WRITABLE = 0x1F3F
REGISTER_BYTES = 10
MISC_FOPCODE = 1 << 2  # IA32_MISC_ENABLE: fopcode compatibility mode


@native(inline=True)
def fp_probe(env: Env, address: u64, size: u64) -> None:
    """Fault now if ``size`` bytes at ``address`` can't be written."""
    if not likely(tlb_entry(ExecEnv(env), address).write == (address + size - 1) & PAGE_MASK):
        probe_write(ExecEnv(env), address, size)


# Status, control and tags ----------------------------------------------------------------------


@native(inline=True)
def fp_status_word(env: Env) -> u16:
    word: u16 = (env.fp_status & 0xC7FF) | u16((env.fp_top & 7) << 11)
    return word


@native
def fp_summarise(env: Env) -> None:
    """Recompute ES and B: unmasking a pending exception makes the next instruction raise #MF."""
    status: u32 = u32(env.fp_status) & (0xFFFF ^ (Fsw.ES | Fsw.B))
    if (status & ~u32(env.fp_control) & Fsw.EXCEPTIONS) != 0:
        status |= Fsw.ES | Fsw.B
    else:
        env.fp_ferr = 0
    env.fp_status = u16(status)


@native
def fp_set_control(env: Env, value: u16) -> None:
    env.fp_control = (value & CONTROL_WRITABLE) | CONTROL_FIXED
    fp_summarise(env)


@native
def fp_clear_exceptions(env: Env) -> None:
    env.fp_status &= 0x7F00
    env.fp_ferr = 0


@native
def fp_set_opcode(env: Env, opcode: u16) -> None:
    env.fp_opcode = opcode & 0x7FF
    env.fp_last = env.fp_opcode


@native
def fp_init(env: Env) -> None:
    env.fp_control = CONTROL_RESET
    env.fp_status = 0
    env.fp_ferr = 0
    env.fp_top = 0
    fp_tag_all(env, 1)
    fp_set_opcode(env, 0)
    env.fp_cs = 0
    env.fp_ds = 0
    env.fp_ip = 0
    env.fp_dp = 0


@native
def fp_tag_of(env: Env, n: u32) -> u32:
    """Two tag bits of physical register n: valid, zero, special or empty."""
    if env.fp_tag[n] != 0:
        return 3
    kind: u32 = x80_kind(fp_number(env, n))
    if kind == Kind.NORMAL:
        return 0
    if kind == Kind.ZERO:
        return 1
    return 2


@native
def fp_tag_word(env: Env) -> u16:
    word: u32 = 0
    for n in range(u32(8)):
        word |= fp_tag_of(env, n) << (2 * n)
    return u16(word)


@native
def fp_shown_opcode(env: Env) -> u16:
    """FOP: that of the last unmasked exception, or of the last instruction if IA32_MISC_ENABLE says
    so, as in processors before the Pentium 4 (SDM vol. 1, 8.1.9.1)."""
    if (env.misc_enable & MISC_FOPCODE) != 0:
        return env.fp_last
    return env.fp_opcode


# The environment -------------------------------------------------------------------------------


@native
def fp_word(env: Env, n: u32, small: u32) -> u32:
    """Field n of the environment image; ``small`` asks for the 16-bit layouts' values."""
    control: u32 = env.fp_control
    if n == 0:
        return control
    if n == 1:
        return fp_status_word(env)
    if n == 2:
        return fp_tag_word(env)
    if (env.mode & Mode.PROTECTED) != 0:
        return fp_protected_word(env, n)
    return fp_real_word(env, n, small)


@native
def fp_protected_word(env: Env, n: u32) -> u32:
    if n == 3:
        return u32(env.fp_ip)
    if n == 4:
        return u32(env.fp_cs) | u32(fp_shown_opcode(env)) << 16
    if n == 5:
        return u32(env.fp_dp)
    return u32(env.fp_ds)


@native
def fp_real_word(env: Env, n: u32, small: u32) -> u32:
    """Real and virtual-8086 mode store linear addresses, split."""
    ip: u32 = u32(env.fp_ip) + (u32(env.fp_cs) << 4)
    dp: u32 = u32(env.fp_dp) + (u32(env.fp_ds) << 4)
    if n == 3:
        return ip & 0xFFFF
    if n == 5:
        return dp & 0xFFFF
    high: u32 = ((ip if n == 4 else dp) >> 16) << 12
    if small != 0:
        high &= 0xF000
    return high | u32(fp_shown_opcode(env)) if n == 4 else high


@native
def fp_store_words(env: Env, address: u64, small: u32) -> None:
    for n in range(u32(7)):
        word: u32 = fp_word(env, n, small)
        if small != 0:
            store_u16(ExecEnv(env), address + 2 * u64(n), u16(word))
        else:
            if n < 3:
                word |= 0xFFFF_0000
            store_u32(ExecEnv(env), address + 4 * u64(n), word)


@native
def fp_store_environment(env: Env, address: u64, small: u32) -> None:
    """FNSTENV: store, then mask all exceptions."""
    fp_probe(env, address, 14 if small != 0 else u64(28))
    fp_store_words(env, address, small)
    env.fp_control |= Fsw.EXCEPTIONS
    fp_summarise(env)


@native(inline=True)
def fp_fetch(env: Env, address: u64, n: u64, small: u32) -> u32:
    if small != 0:
        return load_u16(ExecEnv(env), address + 2 * n)
    return load_u32(ExecEnv(env), address + 4 * n)


@native
def fp_load_environment(env: Env, address: u64, small: u32) -> None:
    control: u32 = fp_fetch(env, address, 0, small)
    status: u32 = fp_fetch(env, address, 1, small)
    tags: u32 = fp_fetch(env, address, 2, small)
    ip: u32 = fp_fetch(env, address, 3, small)
    ip_high: u32 = fp_fetch(env, address, 4, small)
    dp: u32 = fp_fetch(env, address, 5, small)
    dp_high: u32 = fp_fetch(env, address, 6, small)
    if (env.mode & Mode.PROTECTED) != 0:
        env.fp_ip = ip
        env.fp_dp = dp
        env.fp_cs = u16(ip_high)
        env.fp_ds = u16(dp_high)
        if small == 0:
            fp_set_opcode(env, u16(ip_high >> 16))
    else:
        env.fp_ip = (ip & 0xFFFF) | ((ip_high >> 12) << 16)
        env.fp_dp = (dp & 0xFFFF) | ((dp_high >> 12) << 16)
        env.fp_cs = 0
        env.fp_ds = 0
        fp_set_opcode(env, u16(ip_high))
    for n in range(u32(8)):
        env.fp_tag[n] = 1 if ((tags >> (2 * n)) & 3) == 3 else 0
    env.fp_status = u16(status) & 0xC7FF
    env.fp_top = (status >> 11) & 7
    fp_set_control(env, u16(control))


# The whole state -------------------------------------------------------------------------------


@native
def fp_save(env: Env, address: u64, small: u32) -> None:
    """FNSAVE: environment and registers, ST(0) first; then FNINIT."""
    header: u64 = 14 if small != 0 else 28
    fp_probe(env, address, header + 8 * REGISTER_BYTES)
    fp_store_words(env, address, small)
    for i in range(u32(8)):
        where: u64 = address + header + REGISTER_BYTES * u64(i)
        n: u32 = fp_physical(env, i)
        store_u64(ExecEnv(env), where, env.fp_register[2 * n])
        store_u16(ExecEnv(env), where + 8, u16(env.fp_register[2 * n + 1]))
    fp_init(env)


@native
def fp_restore(env: Env, address: u64, small: u32) -> None:
    """FRSTOR."""
    header: u64 = 14 if small != 0 else 28
    probe_read(ExecEnv(env), address, header + 8 * REGISTER_BYTES)
    fp_load_environment(env, address, small)
    for i in range(u32(8)):
        where: u64 = address + header + REGISTER_BYTES * u64(i)
        n: u32 = fp_physical(env, i)
        env.fp_register[2 * n] = load_u64(ExecEnv(env), where)
        env.fp_register[2 * n + 1] = load_u16(ExecEnv(env), where + 8)
