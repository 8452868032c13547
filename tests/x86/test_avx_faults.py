"""AVX's state and faults: who may use it, alignment, pages, masks, gathers, #XM; XSAVE's kinds."""

from __future__ import annotations

import functools
import struct

import pytest

from pytcg.cpu import Cpu, Stop
from pytcg.fuzz import hostcpu
from x86.assemble import assemble

CODE, DATA, END = 0x10000, 0x20000, 0x22000
TS, OSXMMEXCPT, OSXSAVE = 1 << 3, 1 << 10, 1 << 18
CR4 = 0x600 | OSXSAVE
UD, NM, GP, PF, XM = 6, 7, 13, 14, 19
ENGINES = ["threaded", "jit", "python"]


@functools.cache
def processor(mode: str, engine: str) -> Cpu:
    cpu = Cpu(mode=mode, engine=engine)
    cpu.map(CODE, 0x1000)
    cpu.map(DATA, END - DATA)
    return cpu


def run(text: str, mode: str = "long", engine: str = "threaded", /,
        **regs: int) -> tuple[Cpu, Stop]:  # fmt: skip
    """Run assembly to its end, with rBX at the data unless said otherwise."""
    cpu = processor(mode, engine)
    code = assemble(text, 64 if mode == "long" else 32)
    cpu.write(CODE, code)
    start = {"mxcsr": 0x1F80, "cr0": 0x31, "cr4": CR4, "xcr0": 7, "rbx": DATA, "rdx": 0}
    for name, value in {**start, **regs}.items():
        cpu.regs[name] = value
    return cpu, cpu.run(CODE, until=CODE + len(code), max_insns=50)


def vector(text: str, mode: str = "long", engine: str = "threaded", /,
           **regs: int) -> int | None:  # fmt: skip
    """The vector of the fault, which must be the first instruction's; None if there is none."""
    _, stop = run(text, mode, engine, **regs)
    assert stop.kind != "exception" or stop.rip == CODE
    return stop.vector


def wide(high: int, low: int) -> int:
    return high << 128 | low


# Who may use it (SDM vol. 2A, 2.4; vol. 3, 2.6) ---------------------------------------------------


@pytest.mark.parametrize(("regs", "expected"), [
    ({}, None), ({"cr4": 0x600}, UD), ({"xcr0": 3}, UD), ({"cr0": 0x31 | TS}, NM),
    ({"cr0": 0x31 | TS, "xcr0": 3}, UD), ({"cr4": OSXSAVE}, None),
])  # fmt: skip
@pytest.mark.parametrize("mode", ["long", "protected"])
def test_the_system_enables_it(regs: dict[str, int], expected: int | None, mode: str) -> None:
    assert vector("vaddps ymm0, ymm1, ymm2", mode, **regs) == expected


@pytest.mark.parametrize("regs", [{"rax": 4}, {"rax": 5}, {"rax": 6}, {"rax": 15},
                                  {"rax": 3, "rcx": 1}])  # fmt: skip
def test_xcr0_has_its_rules(regs: dict[str, int]) -> None:
    assert vector("xsetbv", **{"rcx": 0, **regs}) == GP


def test_xsetbv_turns_avx_on_at_once() -> None:
    cpu, stop = run("xsetbv; vxorps xmm1, xmm1, xmm1; xgetbv", rax=7, rcx=0, xcr0=1)
    assert stop.kind == "until" and cpu.regs["rax"] == 7


def test_real_mode_has_none() -> None:
    cpu = Cpu(mode="real")
    cpu.map(0, 0x10000)
    cpu.write(0x1000, bytes.fromhex("c5f058c2"))  # LDS with a register: no VEX here
    assert cpu.run(0x1000, max_insns=1).vector == UD


def test_without_the_feature_it_is_undefined() -> None:
    cpu = Cpu(mode="long", model="max,-avx")
    cpu.map(0x1000, 0x1000)
    for text in ("vaddps xmm0, xmm1, xmm2", "vpaddd ymm0, ymm1, ymm2",
                 "vfmadd231ps xmm0, xmm1, xmm2"):  # fmt: skip
        cpu.write(0x1000, assemble(text))
        assert cpu.run(0x1000).vector == UD


# Upper halves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_legacy_sse_keeps_the_upper_half_and_vex_clears_it(engine: str) -> None:
    before = {f"ymm{n}": wide(n + 1, 7) for n in range(4)}
    cpu, _ = run("paddd xmm0, xmm3; vpaddd xmm1, xmm3, xmm3; movaps xmm2, xmm3; vmovd xmm3, eax",
                 "long", engine, rax=5, **before)  # fmt: skip
    assert [cpu.regs[f"ymm{n}"] for n in range(4)] == [wide(1, 14), 14, wide(3, 7), 5]


@pytest.mark.parametrize("engine", ENGINES)
def test_vzeroupper_and_vzeroall(engine: str) -> None:
    before = {f"ymm{n}": wide(n + 1, n) for n in range(16)}
    cpu, _ = run("vzeroupper", "long", engine, **before)
    assert [cpu.regs[f"ymm{n}"] for n in range(16)] == list(range(16))
    cpu, _ = run("vzeroall", "long", engine, **before)
    assert not any(cpu.regs[f"ymm{n}"] for n in range(16))


def test_outside_64_bit_code_eight_are_cleared() -> None:
    cpu, _ = run("vzeroall", "protected", **{f"ymm{n}": wide(1, 1) for n in range(16)})
    assert [bool(cpu.regs[f"ymm{n}"]) for n in range(16)] == [False] * 8 + [True] * 8


# Memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["vmovaps ymm0, [rbx]", "vmovaps [rbx], ymm0",
                                  "vmovdqa ymm0, [rbx]", "vmovntps [rbx], ymm0",
                                  "vmovntdqa ymm0, [rbx]"])  # fmt: skip
def test_some_moves_must_be_aligned(text: str) -> None:
    assert vector(text) is None
    assert vector(text, rbx=DATA + 16) == GP
    assert vector(text.replace("ymm", "xmm"), rbx=DATA + 16) is None
    assert vector(text.replace("ymm", "xmm"), rbx=DATA + 8) == GP


@pytest.mark.parametrize("text", ["vmovups ymm0, [rbx]", "vaddps ymm0, ymm1, [rbx]",
                                  "vpaddd ymm0, ymm1, [rbx]", "vpsllw ymm0, ymm1, [rbx]",
                                  "vmovups [rbx], ymm0", "vlddqu ymm0, [rbx]"])  # fmt: skip
@pytest.mark.parametrize("engine", ENGINES)
def test_others_need_not_be_and_may_cross_pages(text: str, engine: str) -> None:
    assert vector(text, "long", engine, rbx=DATA + 1) is None
    assert vector(text, "long", engine, rbx=DATA + 0x1000 - 9) is None


@pytest.mark.parametrize("engine", ENGINES)
def test_what_crosses_a_page_is_whole(engine: str) -> None:
    cpu = processor("long", engine)
    pattern = bytes(range(1, 33))
    cpu.write(DATA + 0x1000 - 15, pattern)
    cpu, _ = run("vmovups ymm1, [rbx]; vmovups [rbx + 64], ymm1", "long", engine,
                 rbx=DATA + 0x1000 - 15)  # fmt: skip
    assert cpu.regs["ymm1"] == int.from_bytes(pattern, "little")
    assert cpu.read(DATA + 0x1000 + 49, 32) == pattern


@pytest.mark.parametrize("engine", ENGINES)
def test_a_store_into_a_missing_page_changes_nothing(engine: str) -> None:
    cpu = processor("long", engine)
    cpu.write(END - 32, bytes(32))
    cpu, stop = run("vmovups [rbx], ymm1", "long", engine, rbx=END - 20, ymm1=(1 << 256) - 1)
    assert (stop.vector, stop.address) == (PF, END)
    assert cpu.read(END - 32, 32) == bytes(32)
    _, stop = run("vmovups ymm1, [rbx]", "long", engine, rbx=END - 20)
    assert (stop.vector, stop.address) == (PF, END)
    assert cpu.regs["ymm1"] == (1 << 256) - 1


# Masks -----------------------------------------------------------------------------------------

FIRST_TWO = 1 << 31 | 1 << 63


@pytest.mark.parametrize("engine", ENGINES)
def test_masked_moves_touch_what_is_chosen_only(engine: str) -> None:
    cpu = processor("long", engine)
    cpu.write(END - 16, struct.pack("<4I", 1, 2, 3, 4))
    cpu, stop = run("vmaskmovps ymm2, ymm1, [rbx]", "long", engine, rbx=END - 8, ymm1=FIRST_TWO)
    assert stop.kind == "until" and cpu.regs["ymm2"] == 3 | 4 << 32
    cpu, stop = run("vpmaskmovd [rbx], ymm1, ymm2", "long", engine, rbx=END - 8, ymm1=FIRST_TWO,
                    ymm2=7 | 8 << 32 | 9 << 64)  # fmt: skip
    assert stop.kind == "until" and cpu.read(END - 8, 8) == struct.pack("<2I", 7, 8)
    _, stop = run("vpmaskmovd [rbx], ymm1, ymm2", "long", engine, rbx=END - 4, ymm1=FIRST_TWO,
                  ymm2=5)  # fmt: skip
    assert (stop.vector, stop.address) == (PF, END)
    assert cpu.read(END - 8, 8) == struct.pack("<2I", 7, 8)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gather_that_faults_has_done_what_came_before(engine: str) -> None:
    cpu = processor("long", engine)
    cpu.write(END - 8, struct.pack("<2I", 21, 22))
    signs = sum(1 << 31 + 32 * n for n in range(4))
    indices = sum(n << 32 * i for i, n in enumerate((1, 0, 2, 0)))
    registers = {"ymm1": wide(5, 0x77 << 96), "ymm2": wide(9, indices), "ymm3": wide(3, signs)}
    cpu, stop = run("vpgatherdd xmm1, [rbx + xmm2*4], xmm3", "long", engine, rbx=END - 8,
                    **registers)  # fmt: skip
    assert (stop.kind, stop.vector, stop.address, stop.rip) == ("exception", PF, END, CODE)
    assert cpu.regs["xmm1"] == 22 | 21 << 32 | 0x77 << 96
    assert cpu.regs["xmm3"] == signs >> 64 << 64
    cpu, stop = run("vpgatherdd xmm1, [rbx + xmm2*4], xmm3", "long", engine, rbx=END - 8,
                    ymm2=0, **{n: cpu.regs[n] for n in ("ymm1", "ymm3")})  # fmt: skip
    assert stop.kind == "until" and cpu.regs["ymm3"] == 0
    assert cpu.regs["ymm1"] == 22 | 21 << 32 | 21 << 64 | 21 << 96


@pytest.mark.parametrize("code", [
    "c4e27190090a", "c4e2799004 13", "c4e2719004 0b",
])  # fmt: skip
def test_a_gather_s_registers_must_differ(code: str) -> None:
    cpu = processor("long", "threaded")
    cpu.write(CODE, bytes.fromhex(code))
    cpu.regs["rbx"] = DATA
    assert cpu.run(CODE, max_insns=1).vector == UD


# Exceptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", range(4))
def test_every_lane_can_raise_xm(engine: str, number: int) -> None:
    one = 0x3FF << 52
    ones = sum(one << 64 * n for n in range(4))
    divisor = ones & ~(((1 << 64) - 1) << 64 * number)
    cpu, stop = run("vdivpd ymm1, ymm2, ymm3", "long", engine, mxcsr=0x1F80 & ~0x200, ymm1=1,
                    ymm2=ones, ymm3=divisor)  # fmt: skip
    assert (stop.vector, cpu.regs["ymm1"], cpu.regs["mxcsr"] & 0x3F) == (XM, 1, 4)


# XSAVE -----------------------------------------------------------------------------------------

AREA = 832
LOAD = "; ".join(f"vmovups ymm{n}, [rdi + {32 * n}]" for n in range(16))
STORE = "; ".join(f"vmovups [rdi + {32 * n}], ymm{n}" for n in range(16))


@pytest.mark.parametrize("name", ["xsave64", "xsavec64", "xsaveopt64"])
@pytest.mark.parametrize("components", [2, 4, 6])
@pytest.mark.skipif(not hostcpu.has("avx", "xsavec", "xsaveopt"), reason="the oracle lacks them")
def test_areas_are_the_host_s(name: str, components: int) -> None:
    """Saved with all components in use, then restored into cleared registers."""
    code = assemble(f"{LOAD}; {name} [rsi]; vzeroall; xrstor64 [rsi]; {STORE}")
    before, area = hostcpu.DATA, hostcpu.DATA + 0x400
    regs = [0] * 16
    regs[0], regs[4], regs[6], regs[7] = components, hostcpu.STACK, area, before
    data = bytes(range(1, 129)) * 4 + bytes(2048)
    host = hostcpu.host_cpu()
    host.data[:len(data)] = data
    host.run(code, hostcpu.HostState(list(regs), 0x202))
    cpu = Cpu(mode="long")
    cpu.map(hostcpu.BASE, 2 * hostcpu.PAGE + hostcpu.DATA_SIZE)
    cpu.write(hostcpu.CODE, code + b"\xf4")
    cpu.write(hostcpu.DATA, data)
    for register, value in zip(("rax", "rdx", "rsi", "rdi"), (components, 0, area, before),
                               strict=True):  # fmt: skip
        cpu.regs[register] = value
    assert cpu.run(hostcpu.CODE).kind == "hlt"
    found, wanted = cpu.read(hostcpu.DATA, len(data)), bytes(host.data[:len(data)])
    mask = 0x400 + 28  # MXCSR_MASK differs from CPU to CPU
    assert found[:mask] == wanted[:mask]
    assert found[mask + 4:0x400 + AREA] == wanted[mask + 4:0x400 + AREA]


def test_compacted_areas() -> None:
    cpu = processor("long", "threaded")
    cpu.write(DATA, bytes(AREA))
    registers = {f"ymm{n}": 0 for n in range(16)}
    cpu, _ = run("xsavec64 [rbx]", rax=7, **registers)
    assert struct.unpack("<2Q", cpu.read(DATA + 512, 16)) == (1, 1 << 63 | 7)
    cpu, _ = run("xsaves64 [rbx]", rax=6, **{**registers, "ymm3": wide(1, 0)})
    assert struct.unpack("<2Q", cpu.read(DATA + 512, 16)) == (4, 1 << 63 | 6)
    cpu, _ = run("xrstors64 [rbx]", rax=6, mxcsr=0x1FA0, ymm3=wide(5, 5), ymm4=wide(5, 5))
    assert (cpu.regs["ymm3"], cpu.regs["ymm4"], cpu.regs["mxcsr"]) == (wide(1, 0), 0, 0x1F80)
    cpu.write(DATA + 520, bytes(8))
    assert vector("xrstors64 [rbx]", rax=6) == GP


@pytest.mark.parametrize(("offset", "value"), [
    (512, 8), (520, 1), (520, 1 << 63 | 8), (528, 1), (568, 1), (24, 1 << 16),
])  # fmt: skip
def test_bad_headers(offset: int, value: int) -> None:
    cpu = processor("long", "threaded")
    cpu.write(DATA, bytes(AREA))
    cpu.write(DATA + offset, struct.pack("<Q", value))
    assert vector("xrstor64 [rbx]", rax=7) == GP


def test_xgetbv_of_one_tells_what_is_in_use() -> None:
    registers = {f"ymm{n}": 0 for n in range(16)}
    cpu, _ = run("xgetbv", rcx=1, **registers)
    assert cpu.regs["rax"] == 1
    cpu, _ = run("xgetbv", rcx=1, **{**registers, "ymm9": wide(1, 0)})
    assert cpu.regs["rax"] == 5


def test_cpuid_tells_the_area_s_size() -> None:
    for components, size, compact in ((3, 576, 576), (7, 832, 832), (0x207, 2696, 840)):
        cpu, _ = run("cpuid", rax=0xD, rcx=0, xcr0=components)
        assert (cpu.regs["rbx"], cpu.regs["rcx"], cpu.regs["rax"]) == (size, 2696, 0x207)
        cpu, _ = run("cpuid", rax=0xD, rcx=1, xcr0=components)
        assert cpu.regs["rbx"] == compact
    cpu, _ = run("cpuid", rax=0xD, rcx=2)
    assert (cpu.regs["rax"], cpu.regs["rbx"], cpu.regs["rcx"]) == (256, 576, 0)


PKE = CR4 | 1 << 22


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("save", "restore", "place"), [
    ("xsave64", "xrstor64", 2688), ("xsaveopt64", "xrstor64", 2688), ("xsavec64", "xrstor64", 576),
    ("xsaves64", "xrstors64", 576),
])  # fmt: skip
def test_pkru_is_a_component(save: str, restore: str, place: int, engine: str) -> None:
    """SDM vol. 1, 13.5.7; in the compacted format it follows what else was asked for."""
    cpu = processor("long", engine)
    cpu.write(DATA, bytes(4096))
    text = f"""xor edx, edx; mov eax, 0x5554; wrpkru; mov eax, 0x201; {save} [rbx]
        xor eax, eax; wrpkru; mov eax, 0x200; {restore} [rbx]; rdpkru"""
    cpu, stop = run(text, "long", engine, xcr0=0x207, cr4=PKE, rcx=0, rdx=0)
    assert (stop.kind, cpu.regs["rax"]) == ("until", 0x5554)
    assert cpu.read(DATA + place, 8) == (0x5554).to_bytes(8, "little")
    cpu, _ = run(f"and qword ptr [rbx + 512], 0; {restore} [rbx]; rdpkru", "long", engine,
                 xcr0=0x207, cr4=PKE, rax=0x200, rcx=0)  # fmt: skip
    assert cpu.regs["rax"] == 0


def test_what_follows_pkru_in_xcr0_is_refused() -> None:
    assert vector("xsetbv", rax=0x207, rcx=0) is None
    assert vector("xsetbv", rax=0x407, rcx=0) == GP
