"""KVM: its binary interface, the state's way there and back, and machines on it beside TCG."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path

import pytest

from cli.test_system import program
from pytcg import Cpu
from pytcg.accel.kvm import device
from pytcg.accel.kvm.abi import IOCTLS, STRUCTS
from pytcg.accel.kvm.core import KvmCpu
from pytcg.accel.kvm.cpuid import host_rows, model_rows
from pytcg.accel.kvm.device import Kvm
from pytcg.accel.kvm.state import MSRS
from pytcg.cli.system.main import main
from pytcg.engines import EngineError
from pytcg.softmmu.address_map import AddressMap
from pytcg.softmmu.ram import RamWindow
from pytcg_x86.core.reset import StateTable
from pytcg_x86.system.cpumodel import CpuModel
from x86.assemble import assemble
from x86.kvm_differences import opens

needs_kvm = pytest.mark.skipif(not opens(), reason="needs a /dev/kvm that opens")


@pytest.mark.parametrize(("name", "size"), [
    ("regs", 144), ("sregs", 312), ("vcpu_events", 64), ("debugregs", 128), ("xcrs", 392),
    ("memory_region", 32), ("cpuid_entry", 40), ("guest_debug", 72),
])  # fmt: skip
def test_structures_have_the_kernels_sizes(name: str, size: int) -> None:
    assert ctypes.sizeof(STRUCTS[name]) == size


def test_ioctl_numbers() -> None:
    assert IOCTLS["RUN"] == 0xAE80
    assert IOCTLS["SET_USER_MEMORY_REGION"] == 0x4020_AE46
    assert IOCTLS["GET_SUPPORTED_CPUID"] == 0xC008_AE05
    assert IOCTLS["GET_SREGS"] == 0x8138_AE83


def core(table: StateTable) -> KvmCpu:
    kvm = Kvm()
    memory = AddressMap(RamWindow(1 << 20))
    return KvmCpu(kvm, memory, table.state, table.regs, host_rows(kvm.supported_cpuid()))


def fill(table: StateTable, seed: int) -> None:
    """Random contents that a 64-bit guest could have."""
    source, regs, state = random.Random(seed), table.regs, table.state
    for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r15"):
        regs[name] = source.getrandbits(64)
    regs["rflags"], regs["rip"] = source.getrandbits(12) & 0xED5 | 2, source.getrandbits(47)
    regs["cr0"], regs["cr3"], regs["cr4"], regs["efer"] = 0x8005_0033, 0x5000, 0x6A0, 0xD01
    regs["cr2"] = source.getrandbits(47)
    table.set_segment("cs", 8, 0, 0xFFFF_FFFF, 0xA09B)
    for name in ("ss", "ds", "es", "fs", "gs"):
        table.set_segment(name, 16, source.getrandbits(40) if name > "f" and name < "h" else 0,
                          0xFFFF_FFFF, 0xC093)  # fmt: skip
    table.set_segment("tr", 0x28, 0x3000, 0x67, 0x8B)
    regs["gdtr.base"], regs["idtr.limit"] = source.getrandbits(47), 0xFFF
    state.set("xcr0", 7)
    for number in range(16):
        state.set("xmm", source.getrandbits(128), number)
        state.set("ymm_high", source.getrandbits(128), number)
    regs["fsw"] = source.getrandbits(3) << 11 | 0x4100
    state.set("fp_control", 0x27F)
    state.set("mxcsr", 0x1FA0)
    for number in range(8):
        regs[f"st{number}"] = source.getrandbits(80)
    state.set("fp_tag", 1, 3)
    for name in ("star", "fmask", "sysenter_cs", "kernel_gs_base", "lstar"):
        state.set(name, source.getrandbits(32))
    for number in range(4):
        state.set("dr", source.getrandbits(47), number)


@needs_kvm
@pytest.mark.parametrize("seed", range(4))
def test_state_comes_back_as_it_went(seed: int) -> None:
    table = StateTable(0x663)
    fill(table, seed)
    before = bytes(table.state.view)
    values = dict(table.regs)
    made = core(table)
    made.transfer.load(0xFEE0_0900, 0, reset=True)
    table.state.view[:] = bytes(len(before))
    table.state.set("fp_top", int.from_bytes(before, "little") and values["fsw"] >> 11 & 7)
    made.transfer.store()
    differ = {name: (hex(value), hex(table.regs[name])) for name, value in values.items()
              if table.regs[name] != value}  # fmt: skip
    assert not differ
    for name, count in (("ymm_high", 16), ("fp_tag", 8), ("kernel_gs_base", 1)):
        size = table.state.layout.fields[name].type.size
        at = table.state.layout.offset(name)
        assert table.state.view[at : at + size * count] == before[at : at + size * count], name


@needs_kvm
def test_a_models_cpuid_has_no_feature_that_kvm_lacks() -> None:
    kvm = Kvm()
    supported = {(row.function, row.index): row for row in kvm.supported_cpuid()}
    made = model_rows(CpuModel.parse("max"), kvm.supported_cpuid())
    rows = {(row.function, row.index): row for row in made.rows}
    assert not rows[1, 0].edx & ~supported[1, 0].edx
    assert not rows[7, 0].ebx & ~supported[7, 0].ebx
    assert rows[0, 0].ebx == int.from_bytes(CpuModel.parse("max").identity.vendor[:4].encode(),
                                            "little")  # fmt: skip


def test_every_msr_of_the_table_once() -> None:
    assert len({index for index, _, _ in MSRS}) == len(MSRS)


# Not there -------------------------------------------------------------------------------------


def test_without_kvm_it_says_so(monkeypatch: pytest.MonkeyPatch,
                                capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setattr(device, "DEVICE", "/dev/no-such-kvm")
    assert main(["-accel", "kvm", "-display", "none", "-serial", "null"]) == 1
    assert capfd.readouterr().err == ("pytcg-system-x86_64: Could not access KVM kernel module:"
                                      " No such file or directory\n")  # fmt: skip


# The library -----------------------------------------------------------------------------------

LINES = [
    ("mov eax, 5; add eax, 7; hlt", "hlt", None), ("ud2", "exception", 6),
    ("mov al, [0x9000]", "exception", 14), ("xor ecx, ecx; div ecx", "exception", 0),
    ("in al, 0x10; hlt", "hlt", None), ("int 0x30", "exception", 0x30), ("int3", "exception", 3),
    ("imul ecx, eax, 5; push rcx; hlt", "hlt", None),
]  # fmt: skip


@needs_kvm
@pytest.mark.parametrize("mode", ["protected", "long"])
@pytest.mark.parametrize(("text", "kind", "vector"), LINES)
def test_the_library_runs_on_kvm(mode: str, text: str, kind: str, vector: int | None) -> None:
    stops = []
    for engine in ("threaded", "kvm"):
        cpu = Cpu(mode, engine=engine)
        cpu.map(0x1000, 0x3000)
        cpu.regs["rsp"], cpu.regs["rax"] = 0x2000, 0x1234
        line = text.replace("rcx", "ecx") if mode == "protected" else text
        cpu.write(0x1000, cpu.asm(line, address=0x1000))
        stop = cpu.run(0x1000, max_insns=100)
        assert (stop.kind, stop.vector) == (kind, vector)
        names = ("rax", "rcx", "rsp", "rip", "cs", "cs.attr", "cpl", "cr0", "st0", "xmm1", "fsw")
        stops.append((stop.rip, stop.error_code, stop.address, *(cpu.regs[n] for n in names)))
    assert stops[0] == stops[1]


def test_the_library_without_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "DEVICE", "/dev/no-such-kvm")
    with pytest.raises(EngineError, match="Could not access KVM kernel module"):
        Cpu(engine="kvm")


# Programs --------------------------------------------------------------------------------------

PROGRAM = """
    cli
    mov ax, cs
    mov ds, ax
    xor ax, ax
    mov ss, ax
    mov es, ax
    mov sp, 0x7000
    mov dx, 0xe9
    cld
    mov si, 0x300
    mov cx, 6
    rep outsb
    lgdt cs:[0x320]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov ax, 8
    mov fs, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    mov edi, 0xfee00000
    mov dword ptr fs:[edi + 0xf0], 0x1ff
    mov dword ptr fs:[edi + 0x350], 0x700
    mov al, 0x11
    out 0x20, al
    mov al, 0x20
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov word ptr es:[0x80], 0x200
    mov word ptr es:[0x82], cs
    mov al, 0x34
    out 0x43, al
    mov al, 0
    out 0x40, al
    mov al, 0x10
    out 0x40, al
    mov bx, 3
wait:
    sti
    hlt
    cli
    test bx, bx
    jnz wait
    mov di, 0x600
    mov dx, 0x40
    mov cx, 4
    rep insb
    mov edi, 0xfee00000
    mov eax, fs:[edi + 0x30]
    mov dx, 0xe9
    add al, 0x20
    out dx, al
    mov dword ptr fs:[edi + 0x380], 0x56000000
    mov eax, fs:[edi + 0x380]
    shr eax, 24
    out dx, al
    mov di, 0xb800
    mov es, di
    mov byte ptr es:[0], 0x41
    mov al, 0x0a
    out dx, al
    mov ax, 0xf000
    mov es, ax
    mov byte ptr es:[0xff00], 0x41
    mov al, es:[0xff00]
    out dx, al
    mov dx, 0x501
    mov al, 16
    out dx, al
.org 0x200
    dec bx
    mov al, 0x2e
    out 0xe9, al
    mov al, 0x20
    out 0x20, al
    iret
.org 0x300
    .byte 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20
.org 0x310
    .quad 0
    .quad 0x00cf93000000ffff
    .word 15
    .long 0xf0310
"""


def bios(path: Path) -> Path:
    """A ROM that runs `PROGRAM` from the reset vector."""
    image = bytearray(b"\xf4" * 0x10000)
    code = assemble(PROGRAM, 16)
    image[: len(code)] = code
    image[0xFF00] = ord("R")
    image[0xFFF0:0xFFF5] = b"\xea\0\0\0\xf0"
    path.write_bytes(image)
    return path


@pytest.mark.parametrize("accel", [
    "tcg", *(pytest.param(f"kvm,kernel-irqchip={which}", marks=needs_kvm)
             for which in ("off", "split", "on")),
])  # fmt: skip
def test_ports_strings_interrupts_mmio_and_rom(accel: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = program("-accel", accel, "-bios", str(bios(tmp_path / "rom")), "-display", "none",
                     "-vga", "none", "-serial", "null", "-debugcon", f"file:{log}",
                     "-device", "isa-debug-exit,iobase=0x501,iosize=4")  # fmt: skip
    assert (result.returncode, result.stderr) == (33, "")
    assert log.read_bytes() == b"hello ...4V\nR"


@needs_kvm
@pytest.mark.boot
def test_seabios_finds_nothing_to_boot(tmp_path: Path) -> None:
    from boot.terminal import BOOT_SECONDS, Terminal

    terminal = Terminal("-enable-kvm", "-m", "64", "-nographic", "-vga", "none", "-nodefaults",
                        "-serial", "stdio")  # fmt: skip
    try:
        terminal.wait_for(rb"No bootable device\.", BOOT_SECONDS)
    finally:
        terminal.close()
