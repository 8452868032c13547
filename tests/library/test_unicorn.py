"""`pytcg.unicorn` beside Unicorn itself: the same script, the same results.

Each scenario is a function of the module it uses; what it returns must be equal for both.
"""

from __future__ import annotations

import ctypes
import mmap
import pickle
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import unicorn
import unicorn.x86_const

import pytcg.unicorn
import pytcg.unicorn.x86_const
from pytcg.errors import DeviceCodeError

A = 0x1000000
THEIRS = SimpleNamespace(**vars(unicorn), **{
    k: v for k, v in vars(unicorn.x86_const).items() if k.startswith("UC_")})  # fmt: skip
OURS = SimpleNamespace(**vars(pytcg.unicorn), **{
    k: v for k, v in vars(pytcg.unicorn.x86_const).items() if k.startswith("UC_")})  # fmt: skip


def make(u: Any, code: bytes, mode: int = 4) -> Any:
    mu = u.Uc(u.UC_ARCH_X86, mode)
    mu.mem_map(A, 2 << 20)
    mu.mem_write(A, code)
    return mu


def attempt(u: Any, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except u.UcError as error:
        return "UcError", error.errno
    except AssertionError:
        return "AssertionError"


def both(scenario: Callable[[Any], Any]) -> None:
    assert scenario(OURS) == scenario(THEIRS)


def test_constants_are_unicorns() -> None:
    for ours, theirs in ((pytcg.unicorn.unicorn_const, unicorn.unicorn_const),
                         (pytcg.unicorn.x86_const, unicorn.x86_const)):  # fmt: skip
        names = {k: v for k, v in vars(ours).items() if k.startswith("UC_")}
        assert names == {k: getattr(theirs, k) for k in names}
    assert {k for k in vars(unicorn.unicorn_const) if k.startswith("UC_")} == {
        k for k in vars(pytcg.unicorn.unicorn_const) if k.startswith("UC_")}  # fmt: skip
    for number in range(24):
        assert str(OURS.UcError(number)) == str(THEIRS.UcError(number))


def test_code_and_block_hooks_and_flags() -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, b"\x41\x4a\x66\x0f\xef\xc1"), []
        mu.reg_write(u.UC_X86_REG_ECX, 0x1234)
        mu.reg_write(u.UC_X86_REG_EDX, 0x7890)
        mu.reg_write(u.UC_X86_REG_XMM0, 0x000102030405060708090A0B0C0D0E0F)
        mu.reg_write(u.UC_X86_REG_XMM1, 0x00102030405060708090A0B0C0D0E0F0)
        mu.hook_add(u.UC_HOOK_CODE, lambda uc, a, s, d: log.append(
            ("code", a, s, uc.reg_read(u.UC_X86_REG_EFLAGS), d)), 7)  # fmt: skip
        mu.hook_add(u.UC_HOOK_BLOCK, lambda uc, a, s, d: log.append(("block", a, s)))
        mu.emu_start(A, A + 6)
        return log, mu.reg_read_batch([u.UC_X86_REG_ECX, u.UC_X86_REG_EDX, u.UC_X86_REG_XMM0,
                                       u.UC_X86_REG_EIP])  # fmt: skip

    both(scenario)


INVALID = {
    "read": b"\x8b\x0d\xaa\xaa\xaa\xaa\x41\x4a", "write": b"\x89\x0d\xaa\xaa\xaa\xaa\x41\x4a",
    "jump": b"\xe9\xe9\xee\xee\xee\x41\x4a", "modify": b"\xff\x05\xaa\xaa\xaa\xaa\x41\x4a",
    "push": b"\x50\x41", "across": b"\x8b\x0d\xfe\xaf\xaa\xaa\x41\x4a",
    "movups": b"\x0f\x10\x05\xa0\xaa\xaa\xaa\x41",
    "movups out": b"\x0f\x11\x05\xa0\xaa\xaa\xaa\x41",
    "ud2": b"\x0f\x0b\x41", "div": b"\x31\xc9\xf7\xf1\x41", "int 80h": b"\xcd\x80\x41",
    "int3": b"\xcc\x41", "hlt": b"\x41\xf4\x41", "sysenter": b"\x0f\x34\x41", "cli": b"\xfa\x41",
    "in": b"\xe4\x3f\x41", "pushf": b"\x9c\x41", "iret": b"\xcf\x41",
    "far jump": b"\xea\x00\x00\x00\x00\x08\x00\x41", "mov ds": b"\x66\xb8\x10\x00\x8e\xd8\x41",
}  # fmt: skip


# A jump that is handled runs on through zeroes, in both.
@pytest.mark.parametrize(("name", "handle"), [
    (name, handle) for name in INVALID for handle in (None, False, True)
    if (name, handle) != ("jump", True)])  # fmt: skip
def test_what_goes_wrong(name: str, handle: bool | None) -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, INVALID[name]), []
        mu.reg_write(u.UC_X86_REG_ECX, 0x1234)

        def invalid(uc: Any, access: int, address: int, size: int, value: int, _: Any) -> bool:
            log.append((access, address, size, value, uc.reg_read(u.UC_X86_REG_EIP)))
            if handle:
                uc.mem_map(address & ~0xFFF, 0x1000)
            return bool(handle)

        if handle is not None:
            mu.hook_add(u.UC_HOOK_MEM_INVALID, invalid)
        result = attempt(u, lambda: mu.emu_start(A, A + len(INVALID[name])))
        return result, log, mu.reg_read(u.UC_X86_REG_EIP), mu.reg_read(u.UC_X86_REG_EFLAGS)

    both(scenario)


MEMORY = {
    "push and pop": b"\x68\xff\xff\xff\xff\x58\x50", "modify": b"\xff\x04\x24\xff\x0c\x24",
    "sse and x87": b"\x0f\x10\x04\x24\x0f\x11\x04\x24\xdd\x04\x24\xdb\x3c\x24\xdb\x2c\x24",
    "movs": b"\x89\xe6\x89\xe7\xb9\x03\x00\x00\x00\xf3\xa4",
    "locked": b"\x0f\xb1\x0c\x24\xf0\x0f\xc1\x0c\x24\x87\x0c\x24",
    "across": b"\x8b\x84\x24\xfe\x0f\x00\x00\x89\x84\x24\xfe\x0f\x00\x00",
    "call": b"\xe8\x00\x00\x00\x00\x58",
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY)
def test_memory_hooks(name: str) -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, MEMORY[name]), []
        mu.reg_write(u.UC_X86_REG_ESP, A + 0x100000)
        mu.hook_add(u.UC_HOOK_MEM_READ | u.UC_HOOK_MEM_WRITE, lambda uc, access, a, s, v, d:
                    log.append((access, a - A, s, v, uc.reg_read(u.UC_X86_REG_EIP))))
        mu.emu_start(A, A + len(MEMORY[name]))
        return log

    both(scenario)


def test_invalid_accesses_come_before_valid_ones() -> None:
    def scenario(u: Any) -> Any:
        code = b"\xb8\xef\xbe\xad\xde\xa3\x00\x80\x00\x00\xa1\x00\x00\x01\x00"
        mu, log = make(u, code), []
        mu.mem_map(0x8000, 0x1000)

        def any_access(uc: Any, access: int, address: int, size: int, value: int, _: Any) -> bool:
            log.append((access, address, size, value))
            if access == u.UC_MEM_READ_UNMAPPED:
                uc.mem_map(address, 0x1000)
            return True

        mu.hook_add(u.UC_HOOK_MEM_INVALID, any_access)
        mu.hook_add(u.UC_HOOK_MEM_VALID, any_access)
        mu.emu_start(A, A + len(code))
        return log

    both(scenario)


def test_interrupts_and_invalid_instructions() -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, b"\xcd\x80\xcc\x41\x0f\x0b\x41"), []
        mu.hook_add(u.UC_HOOK_INTR, lambda uc, n, d: log.append(
            (n, uc.reg_read(u.UC_X86_REG_EIP))))  # fmt: skip

        def invalid(uc: Any, _: Any) -> bool:
            uc.reg_write(u.UC_X86_REG_EIP, uc.reg_read(u.UC_X86_REG_EIP) + 2)
            return True

        mu.hook_add(u.UC_HOOK_INSN_INVALID, invalid)
        mu.emu_start(A, A + 7)
        return log, mu.reg_read(u.UC_X86_REG_ECX), mu.reg_read(u.UC_X86_REG_EIP)

    both(scenario)


def test_ports_system_calls_and_cpuid() -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, b"\xe4\x3f\x41\xe6\x46\xed\xef"), []
        at = u.UC_X86_REG_EIP

        def port_in(uc: Any, port: int, size: int, _: Any) -> int:
            log.append((port, size, uc.reg_read(at)))
            return 0xF1F1F1F1

        mu.hook_add(u.UC_HOOK_INSN, port_in, None, 1, 0, u.UC_X86_INS_IN)
        mu.hook_add(u.UC_HOOK_INSN, lambda uc, port, size, value, d: log.append(
            (port, size, value, uc.reg_read(at))), None, 1, 0, u.UC_X86_INS_OUT)  # fmt: skip
        mu.emu_start(A, A + 7)
        other = make(u, b"\x0f\x05\x0f\xa2\x48\xff\xc0", u.UC_MODE_64)

        def cpuid(uc: Any, _: Any) -> int:
            log.append(("cpuid", uc.reg_read(at)))
            uc.reg_write(u.UC_X86_REG_EAX, 7)
            return 1

        other.hook_add(u.UC_HOOK_INSN, lambda uc, d: log.append(("syscall", uc.reg_read(at))),
                       None, 1, 0, u.UC_X86_INS_SYSCALL)  # fmt: skip
        other.hook_add(u.UC_HOOK_INSN, cpuid, None, 1, 0, u.UC_X86_INS_CPUID)
        other.emu_start(A, A + 7)
        return log, mu.reg_read(u.UC_X86_REG_EAX), other.reg_read(u.UC_X86_REG_RAX)

    both(scenario)


def test_mapping_and_its_errors() -> None:
    def scenario(u: Any) -> Any:
        mu = u.Uc(u.UC_ARCH_X86, u.UC_MODE_32)
        acts: list[Callable[[], Any]] = [
            lambda: mu.mem_map(0x1001, 0x1000), lambda: mu.mem_map(0x1000, 0),
            lambda: mu.mem_map(0x1000, 0x2000), lambda: mu.mem_map(0x2000, 0x1000),
            lambda: mu.mem_unmap(0x8000, 0x1000), lambda: mu.mem_unmap(0x8000, 0),
            lambda: mu.mem_protect(0x8000, 0x1000, 1), lambda: mu.mem_protect(0x1000, 0x1000, 1),
            lambda: list(mu.mem_regions()), lambda: mu.mem_read(0x2FFF, 2),
            lambda: mu.mem_write(0x2FFF, b"ab"), lambda: mu.mem_read(0x2FFF, 1),
            lambda: mu.mem_unmap(0x2000, 0x1000), lambda: list(mu.mem_regions()),
            lambda: mu.mem_map(0xFFFF_FFFF_FFFF_F000, 0x2000),
            lambda: mu.mem_map(0x4000, 0x1000, 8),
            lambda: mu.hook_add(u.UC_HOOK_CODE | u.UC_HOOK_INTR, print),
            lambda: mu.hook_add(1 << 25, print), lambda: mu.query(9),
            lambda: mu.hook_add(u.UC_HOOK_INSN, print, None, 1, 0, 5),
            lambda: mu.query(u.UC_QUERY_MODE), lambda: mu.query(u.UC_QUERY_PAGE_SIZE),
            lambda: u.Uc(u.UC_ARCH_X86, 3), lambda: mu.emu_start(0x100000, 0),
        ]  # fmt: skip
        return [attempt(u, act) for act in acts]

    both(scenario)


def test_host_memory() -> None:
    def scenario(u: Any) -> Any:
        pages = mmap.mmap(-1, 0x2000)
        mu = u.Uc(u.UC_ARCH_X86, 4)
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        mu.mem_map_ptr(A, 0x2000, u.UC_PROT_ALL, address)
        pages[:4] = bytes.fromhex("ff03ffc0")  # inc dword [rbx]; inc eax
        mu.reg_write(u.UC_X86_REG_EBX, A + 0x1000)
        mu.emu_start(A, A + 4)
        wrong = [attempt(u, lambda a=a: mu.mem_map_ptr(*a)) for a in (
            (A, 0x1000, 7, address), (A + 0x4000, 0, 7, address), (A + 0x4001, 0x1000, 7, address))]
        return pages[0x1000:0x1004], mu.reg_read(u.UC_X86_REG_EAX), wrong

    both(scenario)


def test_controls() -> None:
    def scenario(u: Any) -> Any:
        mu = u.Uc(u.UC_ARCH_X86, u.UC_MODE_32)
        acts: list[Callable[[], Any]] = [
            mu.ctl_get_exits, lambda: mu.ctl_exits_enabled(True), lambda: mu.ctl_set_exits([5, 6]),
            mu.ctl_get_exits, mu.ctl_get_exits_cnt, mu.ctl_get_mode, mu.ctl_get_arch,
            mu.ctl_get_page_size, lambda: mu.ctl_set_page_size(4096), mu.ctl_get_timeout,
            mu.ctl_get_cpu_model, lambda: mu.ctl_set_cpu_model(99), mu.ctl_flush_tb,
        ]  # fmt: skip
        return [attempt(u, act) for act in acts]

    both(scenario)


def test_registers_in_their_shapes() -> None:
    def scenario(u: Any) -> Any:
        mu = u.Uc(u.UC_ARCH_X86, u.UC_MODE_64)
        found = []
        for name, value in (("GDTR", (0, 0x1000, 0x7F, 0)), ("IDTR", (0, 0x2000, 0xFF, 0)),
                            ("FP3", (123, 456)), ("ST2", 77), ("XMM3", 1 << 100), ("EAX", -1),
                            ("AH", 0x1234), ("EFLAGS", 0xCD7), ("FPSW", 0x3800),
                            ("FPCW", 0x27F), ("YMM1", 1 << 200), ("FS_BASE", 0x1234),
                            ("CR3", 0x5000), ("DR0", 9), ("MXCSR", 0x1F80),
                            ("SI", 9)):  # fmt: skip
            number = getattr(u, f"UC_X86_REG_{name}")
            mu.reg_write(number, value)
            found.append((name, mu.reg_read(number)))
        found.append(mu.reg_read(u.UC_X86_REG_EAX))
        mu.msr_write(0xC0000082, 0x1234)
        return found, mu.msr_read(0xC0000082)

    both(scenario)


def test_segments_come_from_the_gdt() -> None:
    def scenario(u: Any) -> Any:
        mu = make(u, b"\x65\x8b\x05\x04\x00\x00\x00")  # mov eax, gs:[4]
        entries = [0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x0040930800000FFF]
        mu.mem_map(0x3000, 0x1000)
        mu.mem_map(0x80000, 0x1000)
        mu.mem_write(0x80004, b"\x2a\0\0\0")
        mu.mem_write(0x3000, b"".join(e.to_bytes(8, "little") for e in entries))
        mu.reg_write(u.UC_X86_REG_GDTR, (0, 0x3000, 0x1F, 0))
        mu.reg_write(u.UC_X86_REG_CS, 8)
        for name in ("SS", "DS", "ES"):
            mu.reg_write(getattr(u, f"UC_X86_REG_{name}"), 0x10)
        mu.reg_write(u.UC_X86_REG_GS, 0x18)
        mu.emu_start(A, A + 7)
        return mu.reg_read(u.UC_X86_REG_EAX), mu.reg_read(u.UC_X86_REG_GS)

    both(scenario)


def test_limits_of_segments_are_not_checked() -> None:
    """Speakeasy's stack segment expands down, so that on hardware all of it would be out of it."""
    def scenario(u: Any) -> Any:
        mu = make(u, bytes.fromhex("5081042400000100 8b1d00000200"))  # push eax; add …; mov ebx, []
        entries = [0, 0x00FF9F0000000FFF, 0x00FF970000000FFF, 0x004093000000000F]
        mu.mem_map(0x3000, 0x1000)
        mu.mem_map(0x20000, 0x1000)
        mu.mem_write(0x20000, b"\x2a\0\0\0")
        mu.mem_write(0x3000, b"".join(e.to_bytes(8, "little") for e in entries))
        mu.reg_write(u.UC_X86_REG_GDTR, (0, 0x3000, 0x1F, 0))
        for name, selector in (("CS", 8), ("SS", 0x10), ("DS", 0x18)):
            mu.reg_write(getattr(u, f"UC_X86_REG_{name}"), selector)
        mu.reg_write(u.UC_X86_REG_ESP, 0x20800)
        mu.emu_start(A, A + 14)
        return mu.reg_read(u.UC_X86_REG_EBX), mu.mem_read(0x207FC, 4)

    both(scenario)


def test_segments_of_64_bit_code_are_but_numbers() -> None:
    def scenario(u: Any) -> Any:
        mu, found = u.Uc(u.UC_ARCH_X86, u.UC_MODE_64), []
        for name in ("CS", "DS", "ES", "SS", "FS", "GS"):
            number = getattr(u, f"UC_X86_REG_{name}")
            for value in (8, 0x33, 0x2B, 0):
                found.append(attempt(u, lambda n=number, v=value: mu.reg_write(n, v)))
                found.append(mu.reg_read(number))
        return found

    both(scenario)


def test_real_mode() -> None:
    def scenario(u: Any) -> Any:
        mu, log = u.Uc(u.UC_ARCH_X86, u.UC_MODE_16), []
        mu.mem_map(0, 0x20000)
        mu.mem_write(0x7000, b"\x8b\x00\x40\xeb\xfd")
        mu.reg_write(u.UC_X86_REG_CS, 0x600)
        mu.reg_write(u.UC_X86_REG_DS, 0x100)
        mu.reg_write(u.UC_X86_REG_BX, 2)
        mu.hook_add(u.UC_HOOK_CODE, lambda uc, a, s, d: log.append(
            (a, s, uc.reg_read(u.UC_X86_REG_IP), uc.reg_read(u.UC_X86_REG_EIP))))  # fmt: skip
        mu.hook_add(u.UC_HOOK_MEM_READ, lambda uc, access, a, s, v, d: log.append((access, a, s)))
        mu.emu_start(0x7000, 0x7003)
        return log, mu.reg_read(u.UC_X86_REG_AX), mu.reg_read(u.UC_X86_REG_IP)

    both(scenario)


def test_jumps_stops_counts_and_exceptions_in_hooks() -> None:
    def scenario(u: Any) -> Any:
        found: list[Any] = []
        mu, log = make(u, b"\x90\x40\x40\x40\x40"), []

        def jump(uc: Any, address: int, size: int, _: Any) -> None:
            log.append(address)
            if address == A + 1:
                uc.reg_write(u.UC_X86_REG_EIP, A + 4)

        mu.hook_add(u.UC_HOOK_CODE, jump)
        mu.emu_start(A, A + 5)
        found.append((log, mu.reg_read(u.UC_X86_REG_EAX)))
        mu = make(u, b"\x40" * 20)
        for count in (1, 2, 3, 7):
            mu.emu_start(A, A + 20, 0, count)
            found.append((mu.reg_read(u.UC_X86_REG_EAX), mu.reg_read(u.UC_X86_REG_EIP)))
        handle = mu.hook_add(u.UC_HOOK_CODE, lambda uc, *_: uc.emu_stop(), None, A + 5, A + 5)
        mu.emu_start(A, A + 20)
        found.append(mu.reg_read(u.UC_X86_REG_EIP))
        mu.hook_del(handle)

        def broken(*_: Any) -> None:
            raise ZeroDivisionError

        mu.hook_add(u.UC_HOOK_CODE, broken)
        with pytest.raises(ZeroDivisionError):
            mu.emu_start(A, A + 20)
        return found

    both(scenario)


def test_time_and_exits() -> None:
    def scenario(u: Any) -> Any:
        mu = make(u, b"\xe2\xfe\x40\x40", u.UC_MODE_64)
        mu.reg_write(u.UC_X86_REG_RCX, 1 << 40)
        mu.emu_start(A, A + 2, timeout=50000)
        timed_out = mu.query(u.UC_QUERY_TIMEOUT)
        mu.ctl_exits_enabled(True)
        other = make(u, b"\x40\x40\x40\x40")
        other.ctl_exits_enabled(True)
        other.ctl_set_exits([A + 1, A + 3])
        other.emu_start(A, 0)
        first = other.reg_read(u.UC_X86_REG_EIP)
        other.emu_start(A + 2, 0)
        return timed_out, first, other.reg_read(u.UC_X86_REG_EIP)

    both(scenario)


def test_the_end_need_not_be_memory() -> None:
    def scenario(u: Any) -> Any:
        mu = make(u, b"\xff\x05\x00\x20\x00\x01\x40\xc3")
        mu.reg_write(u.UC_X86_REG_ESP, A + 0x1000)
        mu.mem_write(A + 0x1000, (0xDEAD000).to_bytes(4, "little"))
        mu.emu_start(A, 0xDEAD000)
        return mu.mem_read(A + 0x2000, 4), mu.reg_read(u.UC_X86_REG_EIP)

    both(scenario)


def test_devices() -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, b"\x8b\x0d\x00\x00\x00\x02\x89\x0d\x04\x00\x00\x02"), []

        def read(uc: Any, offset: int, size: int, data: str) -> int:
            log.append((offset, size, data))
            return 0x19260817

        mu.mmio_map(0x2000000, 0x1000, read, "r",
                    lambda uc, o, s, v, d: log.append((o, s, v, d)), "w")  # fmt: skip
        mu.emu_start(A, A + 12)
        mu.mem_write(0x2000008, b"\1\2\3\4")
        return (log, mu.mem_read(0x2000010, 4), mu.reg_read(u.UC_X86_REG_ECX),
                list(mu.mem_regions()))  # fmt: skip

    both(scenario)


def test_contexts() -> None:
    def scenario(u: Any) -> Any:
        mu = make(u, b"\x40\x40")
        context = mu.context_save()
        mu.emu_start(A, A + 2)
        after = mu.reg_read(u.UC_X86_REG_EAX)
        again = mu.context_save()
        mu.context_restore(pickle.loads(pickle.dumps(context)))
        return (after, mu.reg_read(u.UC_X86_REG_EAX), again.reg_read(u.UC_X86_REG_EAX),
                again.mode, again.arch)  # fmt: skip

    both(scenario)


def test_paging_and_a_system_call_behind_it() -> None:
    def scenario(u: Any) -> Any:
        mu, log = u.Uc(u.UC_ARCH_X86, u.UC_MODE_64), []
        mu.mem_map(0, 0x100000)
        # mov eax, 7; mov [rip + …], rax; syscall
        code = bytes.fromhex("b807000000 488905f5ff0f00 0f05")
        for at, value in ((0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007),
                          *((0x4000 + 8 * n, n << 12 | 7) for n in range(64)),
                          (0x4000 + 8 * 0x41, 0x20007), (0x4000 + 8 * 0x141, 0x21007)):  # fmt: skip
            mu.mem_write(at, value.to_bytes(8, "little"))
        mu.mem_write(0x20000, code)
        mu.reg_write(u.UC_X86_REG_CR3, 0x1000)
        mu.reg_write(u.UC_X86_REG_CR4, mu.reg_read(u.UC_X86_REG_CR4) | 0x20)
        mu.reg_write(u.UC_X86_REG_CR0, mu.reg_read(u.UC_X86_REG_CR0) | 0x80000000)
        mu.hook_add(u.UC_HOOK_INSN, lambda uc, d: log.append(uc.reg_read(u.UC_X86_REG_RIP)),
                    None, 1, 0, u.UC_X86_INS_SYSCALL)  # fmt: skip
        mu.emu_start(0x41000, 0x41000 + len(code))
        return log, mu.mem_read(0x21001, 8)

    both(scenario)


def test_nested_runs() -> None:
    def scenario(u: Any) -> Any:
        mu = make(u, b"\x41\x4a\x4a")
        mu.reg_write(u.UC_X86_REG_ECX, 0x1234)
        mu.reg_write(u.UC_X86_REG_EDX, 0x7890)

        def nested(uc: Any, *_: Any) -> None:
            uc.emu_start(A + 1, A + 2)
            uc.emu_stop()

        mu.hook_add(u.UC_HOOK_CODE, nested, None, A, A)
        mu.emu_start(A, A + 3)
        return mu.reg_read(u.UC_X86_REG_ECX), mu.reg_read(u.UC_X86_REG_EDX)

    both(scenario)


def test_code_that_writes_itself() -> None:
    def scenario(u: Any) -> Any:
        code = (b"\x48\x89\x05\x29\x00\x00\x00\x66\xc7\x05\x00\x00\x00\x00\x48\x05\x8b\x80\x78\x56"
                b"\x34\x12\x90\x90\x90\x48\x89\x05\xf8\xff\xff\xff\x66\xc7\x05\x00\x00\x00\x00\x48"
                b"\x05\x8b\x80\x78\x56\x34\x12\xf4")  # fmt: skip
        mu = make(u, code, u.UC_MODE_64)
        mu.emu_start(A, 0xFFFF_FFFF_FFFF_FFFF)
        return mu.reg_read(u.UC_X86_REG_RAX)

    both(scenario)


def test_other_guests_are_refused() -> None:
    with pytest.raises(OURS.UcError, match="UC_ERR_ARCH"):
        OURS.Uc(OURS.UC_ARCH_ARM, 0)
    assert not OURS.uc_arch_supported(OURS.UC_ARCH_ARM)


def test_a_stop_comes_before_a_system_call_and_other_hooks() -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, b"\x90\x0f\x05\x90", u.UC_MODE_64), []
        mu.hook_add(u.UC_HOOK_CODE, lambda uc, *_: uc.emu_stop(), None, A + 1, A + 1)
        mu.hook_add(u.UC_HOOK_CODE, lambda uc, address, *_: log.append(address))
        mu.hook_add(u.UC_HOOK_INSN, lambda uc, d: log.append("syscall"), None, 1, 0,
                    u.UC_X86_INS_SYSCALL)  # fmt: skip
        mu.emu_start(A, A + 4)
        return log, mu.reg_read(u.UC_X86_REG_RIP)

    both(scenario)


@pytest.mark.parametrize("handle", [None, False, True])
def test_what_follows_a_count_is_fetched(handle: bool | None) -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, b"\x90\xff\xe3"), []
        mu.reg_write(u.UC_X86_REG_EBX, 0x5000)

        def invalid(uc: Any, access: int, address: int, *_: Any) -> bool:
            log.append((access, address))
            if handle:
                uc.mem_map(0x5000, 0x1000)
                uc.mem_write(0x5000, b"\x40\x40")
            return bool(handle)

        if handle is not None:
            mu.hook_add(u.UC_HOOK_MEM_FETCH_UNMAPPED, invalid)
        found = [attempt(u, lambda: mu.emu_start(A, A + 3, 0, 1)),
                 attempt(u, lambda: mu.emu_start(A, A + 3, 0, 2)), log]
        return found, mu.reg_read(u.UC_X86_REG_EAX), mu.reg_read(u.UC_X86_REG_EIP)

    both(scenario)


def test_the_first_descriptor_tables_are_empty() -> None:
    def scenario(u: Any) -> Any:
        mu = make(u, b"\x90\x8e\xe8")  # mov gs, eax: a selector of the LDT
        mu.reg_write(u.UC_X86_REG_EAX, 0xFFFF)
        tables = [mu.reg_read(getattr(u, f"UC_X86_REG_{name}")) for name in ("LDTR", "TR", "GDTR")]
        mu.emu_start(A, A + 1, timeout=9000)
        return tables, mu.ctl_get_timeout(), attempt(u, lambda: mu.emu_start(A, A + 3))

    both(scenario)


def test_a_written_instruction_pointer_calls_hooks_again() -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, b"\x90\x90\x90"), []

        def code(uc: Any, address: int, size: int, _: Any) -> None:
            log.append(address - A)
            if len(log) < 5:
                uc.reg_write(u.UC_X86_REG_EIP, A + 1)

        mu.hook_add(u.UC_HOOK_CODE, code)
        mu.emu_start(A, A + 3)
        return log

    both(scenario)


def test_a_block_is_told_when_its_memory_came_late() -> None:
    def scenario(u: Any) -> Any:
        mu, log = u.Uc(u.UC_ARCH_X86, u.UC_MODE_32), []

        def missing(uc: Any, access: int, address: int, *_: Any) -> bool:
            uc.mem_map(0x1000, 0x1000)
            uc.mem_write(0x1000, b"\x90\x90")
            return True

        mu.hook_add(u.UC_HOOK_MEM_FETCH_UNMAPPED, missing)
        mu.hook_add(u.UC_HOOK_BLOCK, lambda uc, address, size, d: log.append((address, size)))
        mu.emu_start(0x1000, 0x1002)
        return log

    both(scenario)


def test_new_edges_and_operands_of_comparisons() -> None:
    def scenario(u: Any) -> Any:
        # cmp eax, 0; jg l; inc eax; nop; l: sub ebx, [ecx]; cmp byte [ecx], 5; cmp al, bh
        code = b"\x83\xf8\x00\x7f\x02\x40\x90\x2b\x19\x80\x39\x05\x38\xf8"
        mu, log = make(u, code), []
        mu.mem_map(0x3000, 0x1000)
        mu.mem_write(0x3000, b"\x12\x34\x56\x78")
        mu.reg_write(u.UC_X86_REG_ECX, 0x3000)
        mu.reg_write(u.UC_X86_REG_EBX, 0x7000)
        mu.hook_add(u.UC_HOOK_EDGE_GENERATED, lambda uc, cur, prev, d: log.append(
            ("edge", prev.pc, prev.size, prev.icount, cur.pc, cur.size)))  # fmt: skip

        def operands(_: Any, address: int, a: int, b: int, bits: int, kind: int) -> None:
            # Of SUB Unicorn tells the result, and both with more than their bits.
            a = a if kind == u.UC_TCG_OP_FLAG_CMP else 0
            log.append((address, a & (1 << bits) - 1, b & (1 << bits) - 1, bits, kind))

        for kind in (u.UC_TCG_OP_FLAG_CMP, u.UC_TCG_OP_FLAG_DIRECT):
            mu.hook_add(u.UC_HOOK_TCG_OPCODE, operands, kind, aux1=u.UC_TCG_OP_SUB, aux2=kind)
        for eax in (0, 5):
            mu.reg_write(u.UC_X86_REG_EAX, eax)
            mu.emu_start(A, A + len(code))
        wrong = attempt(u, lambda: mu.hook_add(u.UC_HOOK_TCG_OPCODE, print, None, aux1=7))
        return log, wrong

    both(scenario)


def test_devices_that_are_cut_count_from_their_pieces() -> None:
    def scenario(u: Any) -> Any:
        mu, log = make(u, b"\x8b\x1d\x04\x40\x00\x00\x89\x1d\x08\x30\x00\x00"), []
        mu.mmio_map(0x2000, 0x3000, lambda uc, offset, size, d: log.append(offset) or 7, None,
                    lambda uc, offset, size, value, d: log.append((offset, value)), None)
        mu.mem_unmap(0x2000, 0x1000)
        mu.emu_start(A, A + 12)
        mu.mem_protect(0x4000, 0x1000, u.UC_PROT_READ)
        mu.emu_start(A, A + 12)
        return log

    both(scenario)


def test_hooks_may_answer_rdtsc() -> None:
    u = OURS  # Unicorn's Python binding takes no such hooks, its C interface does
    mu = make(u, b"\x0f\x31\x0f\x01\xf9", u.UC_MODE_64)
    mu.hook_add(u.UC_HOOK_INSN, lambda uc, d: uc.reg_write(u.UC_X86_REG_RAX, 5) or True, None, 1, 0,
                u.UC_X86_INS_RDTSC)  # fmt: skip
    mu.hook_add(u.UC_HOOK_INSN, lambda uc, d: uc.reg_write(u.UC_X86_REG_RCX, 6) or True, None, 1, 0,
                u.UC_X86_INS_RDTSCP)  # fmt: skip
    mu.emu_start(A, A + 5)
    assert (mu.reg_read(u.UC_X86_REG_RAX), mu.reg_read(u.UC_X86_REG_RCX)) == (5, 6)


def test_host_memory_that_is_no_page() -> None:
    def scenario(u: Any) -> Any:
        mu, found = make(u, bytes.fromhex("ff03ff8300200000")), []  # inc [ebx]; inc [ebx + 2000h]
        memory = ctypes.create_string_buffer(0x3000 + 1)
        mu.mem_map_ptr(0x10000, 0x3000, u.UC_PROT_ALL, ctypes.addressof(memory) + 1)
        mu.reg_write(u.UC_X86_REG_EBX, 0x10000)
        for value in (b"\x05", b"\x17"):
            memory[1] = value
            mu.emu_start(A, A + 8)
            found.append((memory[1], memory[0x2001], mu.mem_read(0x10000, 2)))
        mu.mem_write(0x12000, b"xy")
        memory[2] = b"z"
        found.append((memory[0x2001:0x2004], mu.mem_read(0x10001, 1)))
        mu.mem_unmap(0x11000, 0x1000)
        mu.emu_start(A, A + 8)
        found.append((memory[1], memory[0x2001], list(mu.mem_regions())))
        return found

    both(scenario)


def test_hooks_whose_range_is_cut_to_64_bits() -> None:
    def scenario(u: Any) -> Any:
        found = []
        for begin, end in ((-1, 1 << 64), (A, 1 << 64), (1 << 64, A), (-1, 0)):
            mu, seen = make(u, b"\x41\x4a"), []
            mu.hook_add(u.UC_HOOK_CODE, lambda uc, at, size, data, to=seen: to.append(at),
                        None, begin, end)  # fmt: skip
            mu.emu_start(A, A + 2)
            found.append(seen)
        return found

    both(scenario)


def test_arguments_of_a_wrong_kind() -> None:
    """Unicorn's binding raises one of ctypes' errors or TypeError; ours is a TypeError."""
    mu = make(OURS, b"\x90")
    for wrong in (None, "x", 1.5, [], {}):
        with pytest.raises(TypeError):
            mu.mem_read(wrong, 4)
        with pytest.raises(TypeError):
            mu.mem_read(A, wrong)
        with pytest.raises(TypeError):
            mu.mem_write(wrong, b"x")
        with pytest.raises(TypeError):
            mu.mem_write(A, wrong)
    with pytest.raises(pytcg.unicorn.UcError, match="UC_ERR_ARG"):
        mu.mem_read(A, -1)
    with pytest.raises(pytcg.unicorn.UcError, match="UC_ERR_ARG"):
        mu.reg_write(OURS.UC_X86_REG_MSR, {})


def test_another_thread_may_not_run_it_too() -> None:
    mu, found = make(OURS, b"\xeb\xfe"), []

    def hook(uc: Any, *_: object) -> None:
        thread = threading.Thread(
            target=lambda: found.append(attempt(OURS, lambda: uc.emu_start(A, A + 1))))
        thread.start()
        thread.join()
        uc.emu_stop()

    mu.hook_add(OURS.UC_HOOK_CODE, hook)
    mu.emu_start(A, A + 2)
    assert found == [("UcError", OURS.UC_ERR_RESOURCE)]


def test_a_jump_to_a_device() -> None:
    mu = make(OURS, b"\xff\xe3")  # jmp ebx
    mu.mmio_map(0x10000, 0x1000, lambda *_: 0x90, None, lambda *_: None, None)
    mu.reg_write(OURS.UC_X86_REG_EBX, 0x10000)
    error = attempt(OURS, lambda: mu.emu_start(A, A + 9))
    assert error in (("UcError", OURS.UC_ERR_FETCH_PROT), ("UcError", OURS.UC_ERR_FETCH_UNMAPPED))
    mu.mem_protect(0x10000, 0x1000, OURS.UC_PROT_ALL)
    assert attempt(OURS, lambda: mu.emu_start(A, A + 9)) == ("UcError", OURS.UC_ERR_FETCH_UNMAPPED)
    with pytest.raises(DeviceCodeError, match="rip 0x10000 is in a device's memory"):
        mu.cpu.run(0x10000)
