"""The processor as GDB knows it: its registers in order, and the target description (XML).

Registers are those that QEMU shows, in its order and by its names: general ones, segments with
their bases, control registers, x87, SSE, and AVX's upper halves where there is AVX. Features are
GDB's own ("Debugging with GDB", G.5.5), with the registers it doesn't know in that of the core.
"""

from __future__ import annotations

from typing import NamedTuple


class Register(NamedTuple):
    """GDB's name and width, and the processor's name for it."""

    name: str
    bits: int
    type: str
    source: str


_FLAGS = ("cf", "", "pf", "", "af", "", "zf", "sf", "tf", "if", "df", "of")
_EFLAGS = {**{name.upper(): n for n, name in enumerate(_FLAGS) if name}, "NT": 14, "RF": 16,
           "VM": 17, "AC": 18, "VIF": 19, "VIP": 20, "ID": 21}  # fmt: skip
_CR0 = {"PE": 0, "MP": 1, "EM": 2, "TS": 3, "ET": 4, "NE": 5, "WP": 16, "AM": 18, "NW": 29,
        "CD": 30, "PG": 31}  # fmt: skip
_CR4 = {"VME": 0, "PVI": 1, "TSD": 2, "DE": 3, "PSE": 4, "PAE": 5, "MCE": 6, "PGE": 7, "PCE": 8,
        "OSFXSR": 9, "OSXMMEXCPT": 10, "UMIP": 11, "LA57": 12, "FSGSBASE": 16, "PCIDE": 17,
        "OSXSAVE": 18, "SMEP": 20, "SMAP": 21, "PKE": 22}  # fmt: skip
_EFER = {"SCE": 0, "LME": 8, "LMA": 10, "NXE": 11}
_MXCSR = {"IE": 0, "DE": 1, "ZE": 2, "OE": 3, "UE": 4, "PE": 5, "DAZ": 6, "IM": 7, "DM": 8,
          "ZM": 9, "OM": 10, "UM": 11, "PM": 12, "FZ": 15}  # fmt: skip
_VECTORS = (("v4f", "ieee_single", 4), ("v2d", "ieee_double", 2), ("v16i8", "int8", 16),
            ("v8i16", "int16", 8), ("v4i32", "int32", 4), ("v2i64", "int64", 2))  # fmt: skip
_UNION = (("v4_float", "v4f"), ("v2_double", "v2d"), ("v16_int8", "v16i8"),
          ("v8_int16", "v8i16"), ("v4_int32", "v4i32"), ("v2_int64", "v2i64"),
          ("uint128", "uint128"))  # fmt: skip
_X87 = (("fctrl", "fcw"), ("fstat", "fsw"), ("ftag", "ftw"), ("fiseg", ""), ("fioff", ""),
        ("foseg", ""), ("fooff", ""), ("fop", ""))  # fmt: skip


def core_registers(*, wide: bool) -> list[Register]:
    """General registers, flags, segments, control registers and x87."""
    bits = 64 if wide else 32
    order = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp") if wide else (
        "ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
    prefix = "r" if wide else "e"
    found = [Register(prefix + n, bits, "data_ptr" if n in ("bp", "sp") else f"int{bits}", "r" + n)
             for n in order]  # fmt: skip
    if wide:
        found += [Register(f"r{n}", 64, "int64", f"r{n}") for n in range(8, 16)]
    found += [Register(f"{prefix}ip", bits, "code_ptr", "rip"),
              Register("eflags", 32, "x86_eflags", "rflags")]  # fmt: skip
    found += [Register(n, 32, "int32", n) for n in ("cs", "ss", "ds", "es", "fs", "gs")]
    if wide:
        found += [Register(name, 64, "int64", source) for name, source in
                  (("fs_base", "fs.base"), ("gs_base", "gs.base"),
                   ("k_gs_base", "kernel_gs_base"))]  # fmt: skip
    found += [Register(n, bits, f"x86_{n}" if n in ("cr0", "cr4") else f"int{bits}", n)
              for n in ("cr0", "cr2", "cr3", "cr4")]  # fmt: skip
    if wide:
        found += [Register("cr8", 64, "int64", "cr8"), Register("efer", 64, "x86_efer", "efer")]
    found += [Register(f"st{n}", 80, "i387_ext", f"st{n}") for n in range(8)]
    return found + [Register(name, 32, "int", source) for name, source in _X87]


def registers(*, wide: bool, ymm: bool) -> list[Register]:
    """All registers, by GDB's numbers."""
    count = 16 if wide else 8
    found = core_registers(wide=wide)
    found += [Register(f"xmm{n}", 128, "vec128", f"xmm{n}") for n in range(count)]
    found.append(Register("mxcsr", 32, "x86_mxcsr", "mxcsr"))
    if ymm:
        found += [Register(f"ymm{n}h", 128, "uint128", f"ymm{n}") for n in range(count)]
    return found


def target_xml(*, wide: bool, ymm: bool) -> str:
    """The target description."""
    bits = 64 if wide else 32
    every = registers(wide=wide, ymm=ymm)
    core = len(core_registers(wide=wide))
    sse = [r for r in every if r.type in ("vec128", "x86_mxcsr")]
    upper = [r for r in every if r.name.startswith("ymm")]
    efer = _flags("x86_efer", 8, _EFER) if wide else ""
    types = (_flags("x86_eflags", 4, _EFLAGS) + _flags("x86_cr0", bits // 8, _CR0)
             + _flags("x86_cr4", bits // 8, _CR4) + efer)  # fmt: skip
    parts = [_feature("org.gnu.gdb.i386.core", types, every[:core]),
             _feature("org.gnu.gdb.i386.sse", _vector_types() + _flags("x86_mxcsr", 4, _MXCSR),
                      sse)]  # fmt: skip
    if upper:
        parts.append(_feature("org.gnu.gdb.i386.avx", "", upper))
    architecture = "i386:x86-64" if wide else "i386"
    return ('<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>'
            f"<architecture>{architecture}</architecture>{''.join(parts)}</target>")  # fmt: skip


def _feature(name: str, types: str, members: list[Register]) -> str:
    rows = "".join(f'<reg name="{r.name}" bitsize="{r.bits}" type="{r.type}"/>' for r in members)
    return f'<feature name="{name}">{types}{rows}</feature>'


def _flags(name: str, size: int, bits: dict[str, int]) -> str:
    rows = "".join(f'<field name="{n}" start="{at}" end="{at}"/>' for n, at in bits.items())
    return f'<flags id="{name}" size="{size}">{rows}</flags>'


def _vector_types() -> str:
    rows = "".join(f'<vector id="{n}" type="{t}" count="{c}"/>' for n, t, c in _VECTORS)
    fields = "".join(f'<field name="{n}" type="{t}"/>' for n, t in _UNION)
    return f'{rows}<union id="vec128">{fields}</union>'
