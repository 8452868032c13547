"""Guest programs of integer arithmetic, in registers and in memory."""

from __future__ import annotations

import math
import struct
from typing import Final

from bench.program import M64, Program

SEED: Final = 0x9E37_79B9_7F4A_7C15


def xorshift(value: int) -> int:
    value ^= value << 13 & M64
    value ^= value >> 7
    return value ^ (value << 17 & M64)


XORSHIFT: Final = """
    mov rcx, rax
    shl rcx, 13
    xor rax, rcx
    mov rcx, rax
    shr rcx, 7
    xor rax, rcx
    mov rcx, rax
    shl rcx, 17
    xor rax, rcx
"""

_INTEGER: Final = f"""
    movabs rax, {SEED}
    xor edx, edx
.Lloop:
{XORSHIFT}
    lea rdx, [rdx + rax*2 + 1]
    imul rdx, rdx, 77
    dec rsi
    jnz .Lloop
    mov rax, rdx
    ret
"""


def _integer(count: int) -> int:
    state, total = SEED, 0
    for _ in range(count):
        state = xorshift(state)
        total = (total + 2 * state + 1) * 77 & M64
    return total


_MEMORY: Final = """
    xor eax, eax
    xor ecx, ecx
.Lloop:
    mov rdx, [rdi + rcx*8]
    add rdx, rcx
    xor rdx, rax
    mov [rdi + rcx*8], rdx
    add eax, [rdi + rcx*4]
    inc ecx
    and ecx, 4095
    dec rsi
    jnz .Lloop
    ret
"""


def _memory(count: int) -> int:
    data = bytearray(8 * 4096)
    total = 0
    for step in range(count):
        index = step & 4095
        value, = struct.unpack_from("<Q", data, 8 * index)
        struct.pack_into("<Q", data, 8 * index, (value + index & M64) ^ total)
        total = total + struct.unpack_from("<L", data, 4 * index)[0] & 0xFFFF_FFFF
    return total


_SIEVE_SIZE: Final = 8192
_SIEVE: Final = f"""
    xor eax, eax
.Lagain:
    xor ecx, ecx
.Lclear:
    mov qword ptr [rdi + rcx], 0
    add ecx, 8
    cmp ecx, {_SIEVE_SIZE}
    jb .Lclear
    mov ecx, 2
.Lnumber:
    cmp byte ptr [rdi + rcx], 0
    jne .Lnext
    inc rax
    lea edx, [rcx + rcx]
    jmp .Ltest
.Lcross:
    mov byte ptr [rdi + rdx], 1
    add edx, ecx
.Ltest:
    cmp edx, {_SIEVE_SIZE}
    jb .Lcross
.Lnext:
    inc ecx
    cmp ecx, {_SIEVE_SIZE}
    jb .Lnumber
    dec rsi
    jnz .Lagain
    ret
"""


def _sieve(count: int) -> int:
    def is_prime(number: int) -> bool:
        return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))

    return count * sum(is_prime(number) for number in range(2, _SIEVE_SIZE))


PROGRAMS: Final = (
    Program(
        "integer", "shifts, logic, a multiplication; all in registers",
        _INTEGER, _integer, 100_000_000, 10_000,
    ),
    Program(
        "memory", "a loop with two loads and a store",
        _MEMORY, _memory, 100_000_000, 15_000,
    ),
    Program(
        "sieve", "Eratosthenes in 8 KiB: short loops, byte stores",
        _SIEVE, _sieve, 20_000, 1,
    ),
)
