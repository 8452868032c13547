"""Memory that is mapped elsewhere while code runs: what a chipset's registers do."""

from __future__ import annotations

import threading

import pytest

from pytcg.engines import make_vcpu
from pytcg.exec.bus import ExitReason
from pytcg.exec.layout import STORES_TO_DEVICE
from pytcg.exec.vcpu import Vcpu
from pytcg.log import Log
from pytcg.softmmu.address_map import AddressMap, Region, rom
from pytcg.softmmu.ram import RamWindow
from x86.assemble import assemble
from x86.fake_bus import FakeBus

PAGE = 0x1000
CODE, DATA, OTHER = 0x1000, 0x3000, 0x8000
ENGINES = pytest.mark.parametrize("engine", ["threaded", "jit", "python"])


class Bench:
    """A vCPU in real mode, 32 KiB of RAM, and as much of the window behind it."""

    def __init__(self, engine: str, text: str, size: int = 0x8000) -> None:
        self.memory = AddressMap(RamWindow(2 * size))
        self.memory.add_ram(0, size, 0)
        self.bus = FakeBus()
        self.cpu: Vcpu = make_vcpu(self.memory, self.bus, model="max", tier=engine, log=Log())
        self.code = assemble(text, 16)
        self.memory.write(CODE, self.code)
        self.cpu.set_segment("cs", 0, 0, 0xFFFF, 0x9B)
        self.cpu.regs["rip"], self.cpu.regs["rsp"] = CODE, 0x7F00
        self.bus.on_write = self.port
        self.actions = [lambda: None]

    def port(self, port: int, value: int) -> None:
        if value == 0xFF:
            self.cpu.request_exit()
        else:
            self.actions[value]()

    def elsewhere(self, data: bytes) -> None:
        """Bytes in the part of the window that is no RAM."""
        self.memory.window.view[OTHER : OTHER + len(data)] = data

    def run(self) -> None:
        assert self.cpu.run() is ExitReason.REQUESTED


END = "mov al, 0xff; out 0x80, al; 9: jmp 9b"


@ENGINES
def test_loads_and_stores_see_a_new_mapping_at_the_next_instruction(engine: str) -> None:
    made = Bench(engine, f"""
        mov bx, {DATA}; mov word ptr [bx], 0x1111
        mov al, 0; out 0x80, al
        mov cx, [bx]; mov word ptr [bx], 0x3333; mov dx, [bx]
        mov al, 1; out 0x80, al
        mov si, [bx]; {END}
    """)  # fmt: skip
    made.elsewhere(b"\x22\x22")
    made.actions = [lambda: made.memory.shadow("rom", [rom(DATA, PAGE, OTHER)]),
                    lambda: made.memory.shadow("rom", [])]  # fmt: skip
    made.run()
    assert [made.cpu.regs[name] for name in ("cx", "dx", "si")] == [0x2222, 0x2222, 0x1111]


@ENGINES
def test_code_that_maps_its_own_page_away_goes_on_in_the_new_one(engine: str) -> None:
    made = Bench(engine, f"mov al, 0; out 0x80, al; mov bx, 1; {END}")
    made.elsewhere(made.code.replace(b"\xbb\x01", b"\xbb\x02"))
    made.actions = [lambda: made.memory.shadow("rom", [rom(CODE, PAGE, OTHER)])]
    made.run()
    assert made.cpu.regs["bx"] == 2


@ENGINES
def test_a_loop_over_two_mappings_of_its_code(engine: str) -> None:
    """Blocks of both stay: each is found again at its place in the window."""
    made = Bench(engine, f"""
        mov cx, 50; xor dx, dx
        1: mov di, {DATA}; mov al, 0; out 0x80, al; call di; add dx, bx
        mov al, 1; out 0x80, al; call di; add si, bx
        dec cx; jnz 1b; {END}
    """)  # fmt: skip
    made.memory.write(DATA, assemble("mov bx, 1; ret", 16))
    made.elsewhere(assemble("mov bx, 2; ret", 16))
    made.actions = [lambda: made.memory.shadow("rom", []),
                    lambda: made.memory.shadow("rom", [rom(DATA, PAGE, OTHER)])]  # fmt: skip
    made.run()
    assert (made.cpu.regs["dx"], made.cpu.regs["si"]) == (50, 100)


@ENGINES
def test_rom_drops_stores_shadow_ram_takes_them_and_flash_tells_its_device(engine: str) -> None:
    made = Bench(engine, f"""
        mov bx, {DATA}; mov byte ptr [bx], 1; inc byte ptr [bx + 1]; mov cl, [bx]
        mov byte ptr [bx + 0x1000], 2; mov ch, [bx + 0x1000]
        mov byte ptr [bx + 0x2000], 3; or byte ptr [bx + 0x2001], 4; mov dl, [bx + 0x2000]
        {END}
    """)  # fmt: skip
    made.elsewhere(b"\x77\x70")
    made.memory.shadow("all", [
        rom(DATA, PAGE, OTHER), Region(DATA + PAGE, PAGE, OTHER, DATA + PAGE),
        Region(DATA + 2 * PAGE, PAGE, OTHER, STORES_TO_DEVICE),
    ])  # fmt: skip
    made.run()
    assert [made.cpu.regs[name] for name in ("cl", "ch", "dl")] == [0x77, 0x77, 0x77]
    assert made.bus.stored == [(DATA + 2 * PAGE, 1, 3), (DATA + 2 * PAGE + 1, 1, 0x74)]
    made.memory.shadow("all", [])
    assert made.memory.read(DATA, 2) == b"\0\0"
    assert made.memory.read(DATA + PAGE, 1) == b"\x02"


@ENGINES
def test_another_thread_changes_the_mapping(engine: str) -> None:
    made = Bench(engine, f"mov bx, {DATA}; 1: cmp byte ptr [bx], 0x22; jne 1b; {END}")
    made.elsewhere(b"\x22")
    timer = threading.Timer(0.05, made.memory.shadow, ("rom", [rom(DATA, PAGE, OTHER)]))
    timer.start()
    made.run()
    timer.join()


@ENGINES
def test_a20_wraps_the_first_mebibyte(engine: str) -> None:
    made = Bench(engine, f"""
        mov ax, 0xffff; mov ds, ax
        mov cx, [0x510]; mov al, 0; out 0x80, al; mov dx, [0x510]
        mov al, 1; out 0x80, al; mov si, [0x510]; {END}
    """, size=2 << 20)  # fmt: skip
    made.memory.write(0x500, b"\x11\x11")
    made.memory.write(0x100500, b"\x22\x22")
    made.actions = [lambda: made.cpu.set_a20(False), lambda: made.cpu.set_a20(True)]
    made.run()
    assert [made.cpu.regs[name] for name in ("cx", "dx", "si")] == [0x2222, 0x1111, 0x2222]
