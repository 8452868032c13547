"""Guest programs of string work: REP instructions, and SSE2 as a C library does it."""

from __future__ import annotations

from typing import Final

from bench.program import M64, Program

_MOVS: Final = """
    mov r8, rdi
    mov r10, rsi
    xor r9d, r9d
    xor edx, edx
.Lagain:
    mov rdi, r8
    mov rax, r9
    mov ecx, 512
    rep stosq
    mov rsi, r8
    lea rdi, [r8 + 8192]
    mov ecx, 4096
    rep movsb
    mov ecx, r9d
    and ecx, 511
    add rdx, [r8 + rcx*8 + 8192]
    inc r9
    dec r10
    jnz .Lagain
    mov rax, rdx
    ret
"""


def _movs(count: int) -> int:
    return sum(range(count))


_SCAS: Final = """
    mov r8, rdi
    mov r10, rsi
    mov al, 1
    mov ecx, 4095
    rep stosb
    lea rdi, [r8 + 8192]
    mov ecx, 4095
    rep stosb
    mov byte ptr [r8 + 8192 + 4090], 2
    xor edx, edx
.Lagain:
    mov rdi, r8
    xor eax, eax
    mov rcx, -1
    repne scasb
    not rcx
    add rdx, rcx
    mov rsi, r8
    lea rdi, [r8 + 8192]
    mov ecx, 8192
    repe cmpsb
    add rdx, rcx
    dec r10
    jnz .Lagain
    mov rax, rdx
    ret
"""


def _scas(count: int) -> int:
    return count * (4096 + 8192 - 4091)  # the terminator's place; what is left at the difference


_SSE2: Final = """
    mov eax, 0x01010101
    movd xmm1, eax
    pshufd xmm1, xmm1, 0
    pxor xmm2, xmm2
    xor eax, eax
.Lfill:
    movdqa [rdi + rax], xmm1
    add eax, 16
    cmp eax, 4096
    jb .Lfill
    mov byte ptr [rdi + 4093], 0
    pxor xmm3, xmm3
    xor edx, edx
.Lagain:
    xor ecx, ecx
.Lsearch:
    movdqu xmm0, [rdi + rcx]
    movdqu [rdi + rcx + 8192], xmm0
    paddq xmm3, xmm0
    pcmpeqb xmm0, xmm2
    pmovmskb eax, xmm0
    add ecx, 16
    test eax, eax
    jz .Lsearch
    bsf eax, eax
    lea eax, [rcx + rax - 16]
    add rdx, rax
    dec rsi
    jnz .Lagain
    movq rax, xmm3
    add rax, rdx
    ret
"""


def _sse2(count: int) -> int:
    ones = 0x0101_0101_0101_0101
    return (count * 256 * ones + count * 4093) & M64


PROGRAMS: Final = (
    Program(
        "movs", "rep stosq and rep movsb of 4 KiB",
        _MOVS, _movs, 100_000, 50,
    ),
    Program(
        "scas", "repne scasb and repe cmpsb over 4 KiB",
        _SCAS, _scas, 50_000, 10,
    ),
    Program(
        "sse2", "strlen and copy, 16 bytes at a time",
        _SSE2, _sse2, 500_000, 50,
    ),
)
