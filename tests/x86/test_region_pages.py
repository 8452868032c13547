"""Accesses across pages from compiled regions: the page remembered must not be taken for both."""

from __future__ import annotations

import pytest

from x86.protection import RW, TABLES, US, A, D, Machine, P

FIRST, SECOND = 0x4_0000, 0x6_0000
VIEW = 0x18_0000


def machine(engine: str) -> Machine:
    """Two pages side by side at VIEW, far from one another in memory."""
    made = Machine("long", engine)
    table = made.map_long()
    for number, page in enumerate((FIRST, SECOND)):
        made.put(table + ((VIEW >> 12) + number) * 8, page | P | RW | US, 8)
    made.put(FIRST + 0xFF8, 0x1111_2222_3333_4444, 8)
    made.put(SECOND, 0x5555_6666_7777_8888, 8)
    return made


@pytest.mark.parametrize("engine", ["threaded", "jit"])
@pytest.mark.parametrize("base", ["rbx", "rsp", "r12"])
def test_an_access_over_a_page_s_end_sees_both_pages(engine: str, base: str) -> None:
    made = machine(engine)
    stop = made.run(f"""
        mov {base}, {VIEW + 0x1000}
        mov rcx, 3
    1:  mov rax, [{base}]
        mov rdx, [{base} - 4]
        mov qword ptr [{base} - 3], rcx
        mov rsi, [{base} - 3]
        mov rdi, [{base} - 8]
        dec rcx
        jnz 1b
        mov rax, [{base}]
        hlt
    """)
    assert stop.kind == "hlt"
    assert made.regs["rsi"] == 1
    assert made.regs["rax"] == 0x5555_6600_0000_0000
    assert made.cpu.read(FIRST + 0xFFD, 3) + made.cpu.read(SECOND, 5) == (1).to_bytes(8, "little")


@pytest.mark.parametrize("engine", ["threaded", "jit", "python"])
@pytest.mark.parametrize("scale", [1, 8])
def test_accesses_by_one_base_and_index_see_both_pages(engine: str, scale: int) -> None:
    """The first access finds the place of the others; the index and the base change meanwhile."""
    made = machine(engine)
    stop = made.run(f"""
        mov rbx, {VIEW}
        mov rcx, {0x1000 // scale}
        mov r9, 2
    1:  mov rax, [rbx + rcx*{scale}]
        mov rdx, [rbx + rcx*{scale} - 4]
        mov qword ptr [rbx + rcx*{scale} - 3], r9
        mov rsi, [rbx + rcx*{scale} - 3]
        sub rcx, {8 // scale}
        mov rdi, [rbx + rcx*{scale}]
        add rbx, 8
        mov r8, [rbx + rcx*{scale}]
        sub rbx, 8
        add rcx, {8 // scale}
        dec r9
        jnz 1b
        hlt
    """)
    assert stop.kind == "hlt"
    assert made.regs["rax"] == 0x5555_6600_0000_0000
    assert made.regs["rdx"] == 0x222
    assert made.regs["rsi"] == 1
    assert made.regs["rdi"] == 0x0000_0122_3333_4444
    assert made.regs["r8"] == 0x5555_6600_0000_0000


@pytest.mark.parametrize("engine", ["threaded", "jit", "python"])
@pytest.mark.parametrize("rights", [P | US, P | RW | US])
def test_reading_the_stack_does_not_make_its_page_dirty(engine: str, rights: int) -> None:
    """Whatever a region expects of its stack (SDM vol. 3A, 4.8)."""
    made = machine(engine)
    entry = TABLES + 0x3000 + (VIEW >> 12) * 8
    made.put(entry, FIRST | rights, 8)
    made.regs["rsp"] = VIEW + 0xFE0
    stop = made.run("mov ecx, 3; 1: mov rax, [rsp + 0x18]; dec ecx; jnz 1b; pop rbx; hlt")
    assert (stop.kind, made.regs["rax"]) == ("hlt", 0x1111_2222_3333_4444)
    assert made.get(entry, 8) == FIRST | rights | A
    if rights & RW:
        made.run("push rcx; hlt")
        assert made.get(entry, 8) == FIRST | rights | A | D
