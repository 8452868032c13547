"""The system natives evaluated in Python: a ring transition and a page fault in every mode."""

from __future__ import annotations

import pytest

from x86.protection import CODE, DATA, DATA3, INTERRUPT, STACK3, TABLES, US, Machine, P


@pytest.fixture(params=["protected", "long"])
def machine(request: pytest.FixtureRequest) -> Machine:
    made = Machine(request.param, engine="python")
    if request.param == "long":
        made.map_long()
    else:
        made.map_legacy()
    return made


def test_user_int_and_back(machine: Machine) -> None:
    back = "iretq" if machine.mode == "long" else "iretd"
    machine.handler(0x80, INTERRUPT | 0x60, code=f"mov ax, cs; mov [0x9000], ax; {back}")
    machine.user()
    stop = machine.run("int 0x80; hlt")
    assert (stop.vector, stop.rip, machine.get(DATA, 2)) == (13, CODE + 2, 8)
    assert (machine.regs["rsp"], machine.regs["ss"], machine.regs["cpl"]) == (STACK3, DATA3, 3)


def test_store_to_a_read_only_page(machine: Machine) -> None:
    if machine.mode == "long":
        machine.put(TABLES + 0x3000 + 8 * 9, DATA | P | US, 8)
    else:
        machine.put(TABLES + 0x1000 + 4 * 9, DATA | P | US, 4)
    stop = machine.run("mov al, [0x9000]; mov [0x9000], al")
    assert (stop.vector, stop.error_code, stop.address) == (14, 3, DATA)
