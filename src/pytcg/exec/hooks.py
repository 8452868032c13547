"""Hooks: host or native functions that guest code calls on its way; nothing where there are none.

A hooked instruction's record has other code: it calls the hooks, then does what the record's form
says. A hooked page has no tags in the TLB, so its accesses take the slow path, which looks for
hooks. While accesses are watched every record keeps env.pc right (`record_trapped`), so that
hooks see exact registers.

Blocks with hooked instructions never become part of a region; regions leave for watched accesses
as they do for a device's.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pytcg.exec.debug import debug_break, debug_watch
from pytcg.exec.exits import Exit
from pytcg.exec.forms import form_at, record_code
from pytcg.exec.layout import RECORD_SIZE, STOP_NOW, TB, ExecEnv, Hook, Record, Tb
from pytcg_native import (
    NULL,
    call_host,
    i64,
    load8,
    native,
    ptr,
    resume,
    symbol,
    u8,
    u32,
    u64,
    unlikely,
)

HEAD = TB.size
ROW_MASK = 0xFFF
"""The bits of a form's key that say which instruction it is."""
NO_PC = 0xFFFF_FFFF_FFFF_FFFF


class Hooks(IntEnum):
    """Index of a list in env.hooks."""

    CODE = 0    # before an instruction: (address, size); what it returns skips the instruction
    BLOCK = 1   # when a block is entered: (address, size)
    MEMORY = 2  # before an access: (address, size | WRITES, value); see `watch`


class HookFlag(IntFlag):
    """hook.flags: the first two are those of `Access`."""

    READ = 1 << 0
    WRITE = 1 << 1
    NATIVE = 1 << 2  # called with (env, data) before its arguments
    DEBUG = 1 << 3   # nothing is called: it is a debugger's, see `exec.debug`


WRITES = 1 << 8
"""In the size that a memory hook is told: the access is a write."""


@native(inline=True)
def hook_list(env: ExecEnv, which: u64) -> Hook:
    return Hook(env.hooks[which])


@native
def hook_wants(env: ExecEnv, hook: Hook, rec: Record, linear: u64) -> bool:
    """Whether a code hook is for an instruction."""
    if linear < hook.first or linear > hook.last:
        return False
    if hook.rows == NULL:
        return True
    row: u64 = form_at(env, rec.form).key & ROW_MASK
    return (load8(ptr(hook.rows), row >> 3) >> u8(row & 7)) & 1 != 0


@native
def hook_block(env: ExecEnv, tb: Tb) -> bool:
    """Give the records of a new block their hooks; whether it got any."""
    hooked: bool = False
    for i in range(u64(0), u64(tb.insns)):
        rec: Record = Record(tb + (HEAD + i * RECORD_SIZE))
        linear: u64 = (tb.cs_base + rec.pc) & env.linear_mask
        wanted: bool = False
        hook: Hook = hook_list(env, Hooks.CODE)
        while hook != NULL and not wanted:
            wanted = hook_wants(env, hook, rec, linear)
            hook = Hook(hook.following)
        if i == 0:
            hook = hook_list(env, Hooks.BLOCK)
            while hook != NULL and not wanted:
                wanted = linear >= hook.first and linear <= hook.last
                hook = Hook(hook.following)
        if wanted:
            rec.code = symbol("record_hooked")
            hooked = True
        elif env.traps != 0:
            rec.code = symbol("record_trapped")
    if hooked and tb.code == symbol("tb_head"):
        tb.code = symbol("tb_head_hooked")
    return hooked or env.traps != 0


# Running -----------------------------------------------------------------------------------------


@native
def refund(env: ExecEnv, rec: ptr) -> None:
    """Give back the budget of a block's instructions from ``rec`` on, which were not run."""
    position: u64 = Record(rec).position
    negative: i64 = -i64(HEAD + position * RECORD_SIZE)
    head: Tb = Tb(rec + negative)
    if head.insns > position:
        env.budget += i64(head.insns) - i64(position)


@native
def leave_before(env: ExecEnv, rec: Record) -> None:
    """Leave threaded code before an instruction, for `cpu_exec` to look at the request."""
    env.pc = rec.pc
    env.step_pending = 0  # its trap
    env.exit_request = 1
    if rec.position != 0:
        env.block_skip = rec.pc
    refund(env, ptr(rec))


@native(inline=True)
def call_hook(env: ExecEnv, hook: Hook, address: u64, size: u32) -> u64:
    if (hook.flags & HookFlag.NATIVE) != 0:
        return call_host(ptr(hook.code), "u64", ptr(env), ptr(hook.data), address, size)
    if unlikely((hook.flags & HookFlag.DEBUG) != 0):
        debug_break(env)
        return 0
    return call_host(ptr(hook.code), "u64", address, size)


@native
def block_bytes(tb: Tb) -> u32:
    """The bytes of a block's instructions: one that ends at a place to stop counts one more."""
    last: Record = Record(tb + (HEAD + u64(tb.records - 1) * RECORD_SIZE))
    return u32(tb.size - 1) if last.code == symbol("tb_until") else u32(tb.size)


@native
def call_hooks(env: ExecEnv, rec: Record) -> u64:
    """Call the hooks of an instruction that is about to run; not 0 if one of them skips it."""
    linear: u64 = (env.code_base + rec.pc) & env.linear_mask
    if rec.position == 0 and env.block_skip != rec.pc:
        negative: i64 = -i64(HEAD)
        size: u32 = block_bytes(Tb(rec + negative))
        hook: Hook = hook_list(env, Hooks.BLOCK)
        while hook != NULL and env.stop_request != STOP_NOW:
            if linear >= hook.first and linear <= hook.last:
                call_hook(env, hook, linear, size)
            hook = Hook(hook.following)
    env.block_skip = NO_PC
    skip: u64 = 0
    other: Hook = hook_list(env, Hooks.CODE)
    while other != NULL and env.stop_request != STOP_NOW:
        if hook_wants(env, other, rec, linear):
            skip |= call_hook(env, other, linear, u32(rec.length))
        other = Hook(other.following)
    return skip


@native
def leave_missing(env: ExecEnv, rec: Record) -> None:
    env.pc = rec.pc
    env.hook_skip = rec.pc
    env.block_skip = rec.pc
    refund(env, ptr(rec))
    env.exit_reason = Exit.MISSING_FORMS


@native(threaded=True)
def record_trapped(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """An instruction whose accesses may be watched: env.pc is right while it runs."""
    if unlikely(env.stop_request != 0):
        leave_before(env, Record(rec))
        return NULL
    code: ptr = record_code(env, Record(rec))
    if unlikely(code == NULL):
        leave_missing(env, Record(rec))
        return NULL
    env.pc = Record(rec).pc
    return resume(code, rec)


@native(threaded=True)
def record_hooked(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """An instruction with hooks on it."""
    if unlikely(env.stop_request != 0):
        leave_before(env, Record(rec))
        return NULL
    pc: u64 = Record(rec).pc
    env.pc = pc
    if env.hook_skip != pc:
        skip: u64 = call_hooks(env, Record(rec))
        if unlikely(env.stop_request != 0):
            leave_before(env, Record(rec))
            env.hook_skip = pc
            env.block_skip = pc
            if skip != 0:
                skip_record(env, Record(rec))
            return NULL
        if unlikely(skip != 0):
            refund(env, rec)
            skip_record(env, Record(rec))
            env.exit_request = 1
            return NULL
        if unlikely(Record(rec).code != symbol("record_hooked")):
            env.hook_skip = pc  # the hook stored into this block: what is there now has had it
            env.block_skip = pc
            return rec
    env.hook_skip = NO_PC
    code: ptr = record_code(env, Record(rec))
    if unlikely(code == NULL):
        leave_missing(env, Record(rec))
        return NULL
    return resume(code, rec)


@native
def skip_record(env: ExecEnv, rec: Record) -> None:
    """Go on behind an instruction that a hook has done."""
    env.pc = (rec.pc + rec.length) & env.linear_mask
    env.hook_skip = NO_PC
    env.block_skip = NO_PC
    env.budget -= i64(1)


# Watched accesses --------------------------------------------------------------------------------


@native(inline=True)
def hook_covers(hook: Hook, address: u64, size: u64, access: u32) -> bool:
    wanted: bool = ((hook.flags >> access) & 1) != 0
    return wanted and address <= hook.last and address + (size - 1) >= hook.first


@native
def is_watched(env: ExecEnv, address: u64, size: u64) -> bool:
    """Whether a memory hook is for any access in a range: its pages go without tags."""
    hook: Hook = hook_list(env, Hooks.MEMORY)
    while hook != NULL:
        if address <= hook.last and address + (size - 1) >= hook.first:
            return True
        hook = Hook(hook.following)
    return False


@native
def watch(env: ExecEnv, address: u64, size: u32, access: u32, value: u64) -> bool:
    """Call the hooks of an access; True if one has put another value into env.hook_value."""
    changed: bool = False
    told: u64 = value
    hook: Hook = hook_list(env, Hooks.MEMORY)
    kind: u32 = size if access == 0 else size | WRITES
    while hook != NULL:
        if hook_covers(hook, address, u64(size), access):
            answer: u64 = 0
            if (hook.flags & HookFlag.DEBUG) != 0:
                debug_watch(env, address, access)
            elif (hook.flags & HookFlag.NATIVE) != 0:
                answer = call_host(ptr(hook.code), "u64", ptr(env), ptr(hook.data), address, kind,
                                   told)  # fmt: skip
            else:
                answer = call_host(ptr(hook.code), "u64", address, kind, told)
            if answer != 0:
                told = env.hook_value
                changed = True
        hook = Hook(hook.following)
    env.hook_value = told
    return changed


@native
def watch_modify(env: ExecEnv, address: u64, size: u64) -> None:
    """Before a read-modify-write: debuggers' watchpoints, as it can't be given up later."""
    hook: Hook = hook_list(env, Hooks.MEMORY)
    while hook != NULL:
        if (hook.flags & HookFlag.DEBUG) != 0:
            if hook_covers(hook, address, size, 1):
                debug_watch(env, address, 1)
            elif hook_covers(hook, address, size, 0):
                debug_watch(env, address, 0)
        hook = Hook(hook.following)


@native
def hooks_wanted(env: ExecEnv, address: u64, size: u32, access: u32) -> bool:
    """Whether an access has hooks."""
    hook: Hook = hook_list(env, Hooks.MEMORY)
    while hook != NULL:
        if hook_covers(hook, address, u64(size), access):
            return True
        hook = Hook(hook.following)
    return False
