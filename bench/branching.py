"""Guest programs that go elsewhere all the time."""

from __future__ import annotations

from typing import Final

from bench.integer import SEED, XORSHIFT, xorshift
from bench.program import M64, Program

_CALLS: Final = """
    xor r8d, r8d
.Lagain:
    mov edx, 15
    call .Lfibonacci
    add r8, rax
    dec rsi
    jnz .Lagain
    mov rax, r8
    ret
.Lfibonacci:
    cmp edx, 2
    jb .Lbase
    push rdx
    dec edx
    call .Lfibonacci
    pop rdx
    push rax
    sub edx, 2
    call .Lfibonacci
    pop rcx
    add rax, rcx
    ret
.Lbase:
    mov eax, edx
    ret
"""
_FIBONACCI_15: Final = 610


def _calls(count: int) -> int:
    return count * _FIBONACCI_15


_BRANCHES: Final = """
    xor eax, eax
.Lnumber:
    mov rdx, rsi
.Lstep:
    cmp rdx, 1
    je .Ldone
    inc rax
    test dl, 1
    jz .Leven
    lea rdx, [rdx + rdx*2 + 1]
    jmp .Lstep
.Leven:
    shr rdx, 1
    jmp .Lstep
.Ldone:
    dec rsi
    jnz .Lnumber
    ret
"""


def _branches(count: int) -> int:
    steps = 0
    for number in range(1, count + 1):
        while number != 1:
            number = 3 * number + 1 if number & 1 else number >> 1
            steps += 1
    return steps


_INDIRECT: Final = f"""
    movabs rax, {SEED}
    mov edx, 1
    lea r8, [rip + .Ltable]
.Lloop:
{XORSHIFT}
    mov ecx, eax
    and ecx, 3
    movsxd rcx, dword ptr [r8 + rcx*4]
    add rcx, r8
    jmp rcx
.Ladd:
    add rdx, rax
    jmp .Lnext
.Lxor:
    xor rdx, rsi
    jmp .Lnext
.Lrotate:
    rol rdx, 5
    jmp .Lnext
.Lnegate:
    neg rdx
.Lnext:
    dec rsi
    jnz .Lloop
    mov rax, rdx
    ret
    .balign 4
.Ltable:
    .long .Ladd - .Ltable
    .long .Lxor - .Ltable
    .long .Lrotate - .Ltable
    .long .Lnegate - .Ltable
"""


def _indirect(count: int) -> int:
    state, value = SEED, 1
    for left in range(count, 0, -1):
        state = xorshift(state)
        match state & 3:
            case 0:
                value = value + state & M64
            case 1:
                value ^= left
            case 2:
                value = (value << 5 | value >> 59) & M64
            case _:
                value = -value & M64
    return value


PROGRAMS: Final = (
    Program(
        "calls", "recursive Fibonacci: calls, returns, pushes, pops",
        _CALLS, _calls, 40_000, 8,
    ),
    Program(
        "branches", "Collatz: branches nobody can foretell",
        _BRANCHES, _branches, 1_500_000, 500,
    ),
    Program(
        "indirect", "an interpreter of four operations: jumps through a table",
        _INDIRECT, _indirect, 40_000_000, 6_000,
    ),
)
