"""A library processor's memory: regions, permissions, devices, views."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from pytcg import Cpu
from pytcg.errors import CpuError, MapError, UnmappedError
from x86.kvm_differences import opens

CODE = 0x10000
PAGE = 0x1000
ENGINES = pytest.mark.parametrize("engine", ["auto", "jit", "python"])


def cpu_with(code: str, engine: str = "threaded", mode: str = "long") -> Cpu:
    cpu = Cpu(mode, engine=engine)
    cpu.map(CODE, PAGE, "r-x", data=bytes.fromhex(code))
    return cpu


@ENGINES
@pytest.mark.parametrize(("perm", "code", "access", "error"), [
    ("r--", "890b", "write", 3), ("-w-", "8b0b", "read", 1), ("---", "8b0b", "read", 1),
    ("rw-", "ffe3", "fetch", 0x11),
])  # fmt: skip
def test_permissions_are_page_faults(engine: str, perm: str, code: str, access: str,
                                     error: int) -> None:  # fmt: skip
    cpu = cpu_with(code + "f4", engine)
    cpu.map(0x50000, PAGE, perm)
    cpu.regs.rbx = 0x50010
    stop = cpu.run(CODE)
    assert (stop.kind, stop.vector, stop.access, stop.address) == ("exception", 14, access, 0x50010)
    assert stop.error_code == error


@ENGINES
def test_protect_takes_effect_on_what_runs_already(engine: str) -> None:
    cpu = cpu_with("8803 f4", engine)  # mov [rbx], al
    cpu.map(0x50000, 3 * PAGE)
    cpu.regs.rbx = 0x51000
    assert cpu.run(CODE).kind == "hlt"
    cpu.protect(0x51000, PAGE, "r")
    assert cpu.run(CODE).access == "write"
    assert [r.perms.letters() for r in cpu.regions[1:]] == ["rwx", "r--", "rwx"]
    cpu.protect(0x51000, PAGE, "rwx")
    assert cpu.run(CODE).kind == "hlt"
    assert len(cpu.regions) == 2


def test_unmapping_splits_and_what_is_mapped_again_is_zero() -> None:
    cpu = Cpu()
    cpu.map(0, 4 * PAGE, data=b"\x55" * 4 * PAGE)
    cpu.unmap(PAGE, 2 * PAGE)
    assert [(r.address, r.size) for r in cpu.regions] == [(0, PAGE), (3 * PAGE, PAGE)]
    with pytest.raises(UnmappedError, match="no memory at 0x1000"):
        cpu.read(0xFFF, 2)
    cpu.map(PAGE, PAGE)
    assert cpu.read(0, 2 * PAGE) == b"\x55" * PAGE + bytes(PAGE)
    assert cpu.read(3 * PAGE, PAGE) == b"\x55" * PAGE


def test_neighbours_are_one_region_and_thousands_are_no_limit() -> None:
    cpu = Cpu()
    for number in range(8):
        cpu.map(number * PAGE, PAGE)
    assert [(r.address, r.size) for r in cpu.regions] == [(0, 8 * PAGE)]
    for number in range(2000):
        cpu.map(0x100000 + number * 2 * PAGE, PAGE)
    assert len(cpu.regions) == 2001
    cpu.write(0, bytes.fromhex("8b03 f4"))
    cpu.write(0x100000 + 1999 * 2 * PAGE, b"\x78\x56\x34\x12")
    cpu.regs.rbx = 0x100000 + 1999 * 2 * PAGE
    cpu.run(0)
    assert cpu.regs.eax == 0x12345678


def test_memory_far_larger_than_the_host_is_reserved_only() -> None:
    cpu = Cpu()
    cpu.map(0, PAGE, data=bytes.fromhex("c70378563412 8b03 f4"))  # mov [rbx], imm; mov eax, [rbx]
    cpu.write(0x800, b"kept")
    cpu.map(1 << 40, 1 << 40)
    cpu.regs.rbx = (1 << 41) - 4
    assert cpu.run(0).kind == "hlt"
    assert (cpu.regs.eax, cpu.read((1 << 41) - 4, 4)) == (0x12345678, b"\x78\x56\x34\x12")
    assert cpu.read(0x800, 4) == b"kept"


def test_the_last_page_of_the_address_space() -> None:
    cpu = cpu_with("8b0425 fcffffff f4")  # mov eax, [-4]
    cpu.map((1 << 64) - PAGE, PAGE)
    cpu.write((1 << 64) - 4, b"\1\2\3\4")
    assert cpu.run(CODE).kind == "hlt"
    assert cpu.regs.eax == 0x04030201


@pytest.mark.parametrize(("address", "size", "match"), [
    (0x123, PAGE, "whole pages"), (0, 0, "not positive"), (0, -PAGE, "not positive"),
    (-PAGE, PAGE, "64-bit"), ((1 << 64) - PAGE, 2 * PAGE, "64-bit"), (CODE, PAGE, "overlaps"),
    (CODE - PAGE, 4 * PAGE, "overlaps"), (1 << 60, 1 << 60, "memory"),
])  # fmt: skip
def test_mappings_that_cannot_be(address: int, size: int, match: str) -> None:
    cpu = cpu_with("f4")
    with pytest.raises(MapError, match=match):
        cpu.map(address, size)
    assert len(cpu.regions) == 1


def test_unmapping_and_protecting_what_is_not_there() -> None:
    cpu = cpu_with("f4")
    for act in (lambda: cpu.unmap(CODE, 2 * PAGE), lambda: cpu.protect(0, PAGE, "r")):
        with pytest.raises(MapError, match="not all mapped"):
            act()
    with pytest.raises(CpuError, match="no permission 'q'"):
        cpu.protect(CODE, PAGE, "rq")
    with pytest.raises(CpuError, match="no bytes"):
        cpu.write(CODE, 3 + 4j)  # type: ignore[arg-type]


@ENGINES
def test_devices_are_functions(engine: str) -> None:
    cpu = cpu_with("8b03 894304 8a4b07 f4", engine)
    # mov eax, [rbx]; mov [rbx+4], eax; mov cl, [rbx+7]
    seen: list[tuple[int, ...]] = []

    def read(offset: int, size: int) -> int:
        seen.append((offset, size, cpu.regs.rip))
        return 0x11223344AABBCCDD >> 8 * (8 - size)

    cpu.map_mmio(0xF0000, PAGE, read, lambda *what: seen.append(what))
    cpu.regs.rbx = 0xF0100
    assert cpu.run(CODE).kind == "hlt"
    assert seen == [(0x100, 4, CODE), (0x104, 4, 0x11223344), (0x107, 1, CODE + 5)]
    assert (cpu.regs.eax, cpu.regs.cl) == (0x11223344, 0x11)


def test_an_exception_in_a_device_surfaces() -> None:
    cpu = cpu_with("8b03 f4")
    cpu.map_mmio(0xF0000, PAGE, lambda offset, size: 1 // 0)
    cpu.regs.rbx = 0xF0000
    with pytest.raises(ZeroDivisionError):
        cpu.run(CODE)
    cpu.unmap(0xF0000, PAGE)
    assert cpu.run(CODE).kind == "exception"


def test_views_are_the_memory_itself() -> None:
    cpu = cpu_with("ff03 f4")  # inc dword [rbx]
    cpu.map(0x50000, PAGE)
    cpu.regs.rbx = 0x50004
    words = cpu.view(0x50000, PAGE).view("<u4")
    words[1] = 41
    cpu.run(CODE)
    assert words[1] == 42
    with pytest.raises(MapError, match="views"):
        cpu.map(1 << 40, 1 << 40)


def shared_pages(pages: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(mmap.mmap(-1, pages * PAGE), np.uint8)


def private_pages(pages: int) -> npt.NDArray[np.uint8]:
    """Memory of malloc's, from a page's beginning."""
    room = np.zeros((pages + 1) * PAGE, np.uint8)
    return room[-room.ctypes.data % PAGE :][: pages * PAGE]


@pytest.mark.parametrize("make", [shared_pages, private_pages])
@pytest.mark.parametrize("engine", ["threaded", "jit", "kvm"])
def test_a_buffer_is_the_guests_memory(make: Callable[[int], npt.NDArray[np.uint8]],
                                       engine: str) -> None:  # fmt: skip
    if engine == "kvm" and not opens():
        pytest.skip("no /dev/kvm opens")
    code, data = make(1), make(2)
    code[:3] = [0xFF, 0x03, 0xF4]  # inc dword [rbx]; hlt
    data[:] = 7
    cpu = Cpu(engine=engine)
    cpu.map_buffer(CODE, code, "rx")
    cpu.map_buffer(0x50000, data, "rw")
    cpu.regs.rbx = 0x50000 + PAGE - 2
    for expected in (0x07070708, 0x07070709):
        assert cpu.run(CODE).kind == "hlt"
        assert data[PAGE - 2 : PAGE + 2].view("<u4")[0] == expected
    data[PAGE - 2 : PAGE + 2] = 0
    cpu.run(CODE)
    assert cpu.read_int(0x50000 + PAGE - 2, 4) == 1
    cpu.write(0x50000, b"from Python")
    assert data[:11].tobytes() == b"from Python"
    cpu.unmap(0x50000, PAGE)
    cpu.map(0x50000, PAGE)
    assert cpu.read(0x50000, 4) == bytes(4) and data[:4].tobytes() == b"from"
    assert cpu.regions[-1].size == PAGE


def test_buffers_and_snapshots() -> None:
    data = shared_pages(1)
    cpu = cpu_with("ff03 f4")
    before = cpu.snapshot()
    cpu.map_buffer(0x50000, data)
    cpu.regs.rbx = 0x50000
    mapped = cpu.snapshot()
    cpu.run(CODE)
    data[9] = 9
    cpu.restore(mapped)
    assert not data.any()
    cpu.run(CODE)
    cpu.restore(before)
    assert cpu.memory.find(0x50000) is None
    cpu.restore(mapped)
    cpu.run(CODE)
    assert data[0] == cpu.read_int(0x50000, 1)


def test_buffers_that_cannot_be() -> None:
    cpu = Cpu()
    pages = shared_pages(2)
    for buffer, match in ((b"x" * PAGE, "read-only|not writable"),
                          (pages[1 : PAGE + 1], "at a page"), (pages[:100], "whole pages"),
                          (5, "bytes-like"),
                          (pages[::2], "contiguous"), (bytearray(), "not positive")):  # fmt: skip
        with pytest.raises(MapError, match=match):
            cpu.map_buffer(0x10000, buffer)
    cpu.map_buffer(0x10000, pages)
    with pytest.raises(MapError, match="overlaps"):
        cpu.map_buffer(0x11000, pages)
    with pytest.raises(MapError, match="buffers of others"):
        cpu.map(1 << 40, 1 << 40)
    cpu.map_buffer(0x20000, pages)
    cpu.write(0x10000, b"twice")
    assert cpu.read(0x20000, 5) == b"twice"


def test_numbers_and_strings() -> None:
    cpu = Cpu()
    cpu.map(0, 2 * PAGE)
    cpu.write_int(8, -2, 4)
    assert (cpu.read_int(8, 4), cpu.read_int(8, 4, signed=True)) == (0xFFFFFFFE, -2)
    cpu.write(PAGE - 3, b"across\0")
    assert cpu.read_string(PAGE - 3) == b"across"
    assert cpu.read_string(PAGE - 3, 4) == b"acro"
