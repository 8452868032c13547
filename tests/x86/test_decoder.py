"""The decoder against capstone: lengths and operands, of random bytes and of real code."""

from __future__ import annotations

import functools
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from x86.decoding import Decoded, Decoder, by_capstone, same

PREFIXES = bytes.fromhex("66 67 f2 f3 2e 36 3e 26 64 65 f0 48 41 44 4f")
_IN_FRONT = frozenset(PREFIXES) | frozenset(range(0x40, 0x50))

UNDOCUMENTED = {"FCOM", "FCOMP", "FSTP", "FXCH"}  # aliases that hardware has and capstone has not
HINTS = {"NOP", "PREFETCH", "PREFETCHW"}  # 0F 0D and 0F 18…1F: hardware takes all of their ModRMs
FENCES = {"LFENCE", "MFENCE", "SFENCE"}  # so does it any ModRM.rm here

PREDICATED = {"CMPPS", "CMPPD", "CMPSS", "CMPSD"}

# What capstone knows and this decoder has no rows for: later instruction sets.
LATER = {"avx", "avx2", "avx512", "bmi", "bmi2", "fma", "fma4", "f16c", "xop", "tbm",
         "rtm", "hle", "cet", "vm", "sgx", "mpx", "cdi", "dqi", "bwi", "vlx",
         "ndd", "pfi", "novlx"}  # fmt: skip
SHADOW_STACK = {"incsspd", "incsspq", "rdsspd", "rdsspq", "saveprevssp", "rstorssp", "wrssd",
                "wrssq", "wrussd", "wrussq", "setssbsy", "clrssbsy"}  # fmt: skip
LATER_NAMES = {"monitor", "mwait", "getsec", "pconfig", "monitorx", "mwaitx", "xsavec",
               "xsavec64", "xsaves", "xsaves64", "xrstors", "xrstors64", "montmul", "xstore",
               "xsha1", "xsha256", "xcryptecb", "xcryptcbc", "xcryptctr", "xcryptcfb",
               "xcryptofb", *SHADOW_STACK, "rdpkru", "wrpkru", "umonitor", "umwait", "tpause",
               "enqcmd", "enqcmds", "ptwrite", "senduipi", "clui", "stui", "testui", "uiret",
               "hreset", "xresldtrk", "xsusldtrk"}  # fmt: skip
PROTECTED = {"lar", "lsl", "arpl", "str", "sldt", "lldt", "ltr", "verr", "verw"}  # #UD in real mode


@functools.cache
def decoder(bits: int, engine: str) -> Decoder:
    return Decoder(bits, engine)


def prefixes(code: bytes) -> bytes:
    """The legacy and REX prefixes in front of the opcode (REX: in any mode)."""
    for at, byte in enumerate(code):
        if byte not in _IN_FRONT:
            return code[:at]
    return code


def unjudged(code: bytes, bits: int, ours: Decoded, theirs: Decoded | None) -> str | None:
    """Why capstone can't be the judge of this instruction, or None."""
    before = prefixes(code)
    if ours.name in ("UD0", "UD1"):
        return "capstone's have no ModRM byte; those of today's processors do"
    if ours.name == "3DNOW":
        return "capstone knows which values of the last byte, for us an operand, are operations"
    if theirs is None:
        return _unknown(before, ours)
    segments = [byte for byte in before if byte in b"\x2e\x36\x3e\x26\x64\x65"]
    if bits == 64 and len(segments) > 1:
        return "capstone lets an ignored CS, DS, ES or SS prefix cancel FS and GS"
    jump = any(token[0] == "imm" for token in ours.tokens) and ours.name[0] in "JCL"
    if ours.name in PREDICATED and theirs.name != ours.name.lower():
        return "capstone puts the predicate into the name"
    if bits == 64 and 0x66 in before and jump:
        return "AMD's near jumps take a 66 prefix, Intel's and ours don't"
    if 0x67 in before and jump:
        return "capstone cuts jump targets to the address size"
    if bits == 16 and 0x66 in before and any(token[0] == "xmm" for token in ours.tokens):
        return "capstone takes a mandatory 66 for an operand size in 16-bit code"
    if ours.name in HINTS:
        return "capstone names other operands for hints"
    return None


def _unknown(before: bytes, ours: Decoded) -> str | None:
    if ours.name in UNDOCUMENTED or ours.name in HINTS or ours.name in FENCES:
        return "capstone knows documented encodings only"
    if any(byte in before for byte in b"\xf2\xf3"):
        return "capstone rejects F2 and F3 where they mean nothing, if 66 or 67 is there too"
    if ("seg", 6) in ours.tokens or ("seg", 7) in ours.tokens:
        return "the lowering raises #UD for segment registers 6 and 7"
    if before.count(0x67) > 1:
        return "capstone rejects 67 twice before MOVSXD"
    if 0x66 in before:
        return "capstone rejects 66 before some instructions that ignore it"
    return None


def random_code(rng: random.Random) -> bytes:
    front = bytes(rng.choice(PREFIXES) for _ in range(rng.choice((0, 0, 0, 1, 1, 2))))
    return (front + (b"\x0f" if rng.random() < 0.3 else b"") + rng.randbytes(15))[:15]


@pytest.mark.parametrize(("engine", "count"), [("threaded", 8000), ("python", 300)])
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_random_bytes(bits: int, engine: str, count: int) -> None:
    rng = random.Random(bits)
    wrong, judged = [], 0
    for _ in range(count):
        code = random_code(rng)
        ours = decoder(bits, engine).decode(code)
        if ours is None:
            continue
        theirs = by_capstone(code, bits)
        if unjudged(code, bits, ours, theirs) is None:
            judged += 1
            if theirs is None or not same(ours, theirs):
                wrong.append(f"{code.hex()}\n  ours {ours}\n  theirs {theirs}")
    assert not wrong, "\n".join(wrong[:10])
    assert judged > count // 2


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_no_valid_instruction_is_undefined(bits: int) -> None:
    rng = random.Random(-bits)
    missing: dict[str, str] = {}
    for _ in range(8000):
        code = random_code(rng)
        theirs = by_capstone(code, bits)
        if theirs is None or later(theirs) or lenient(code) or (
                bits == 16 and theirs.name in PROTECTED):  # fmt: skip
            continue
        if decoder(bits, "threaded").decode(code) is None:
            missing.setdefault(theirs.name, code.hex())
    assert not missing


def lenient(code: bytes) -> bool:
    """Whether capstone may accept what hardware does not, or there are no rows for.

    It passes over LOCK where it is not allowed, and over 66, F2 and F3 where they make an opcode of
    map 1 another one or none. Maps 2 and 3 are later sets, but for MOVBE and INVPCID.
    """
    before = prefixes(code)
    mandatory = any(byte in before for byte in b"\x66\xf2\xf3")
    escaped = code[len(before)] == 0x0F
    return 0xF0 in before or (escaped and mandatory) or in_later_map(code)


def in_later_map(code: bytes) -> bool:
    """Whether the opcode is in map 2 or 3 (0F 38, 0F 3A): capstone gives some no group."""
    at = len(prefixes(code))
    return code[at : at + 2] in (b"\x0f\x38", b"\x0f\x3a")


def later(insn: Decoded) -> bool:
    """Whether an instruction belongs to a set that there are no rows for."""
    return bool(insn.groups & LATER) or insn.name in LATER_NAMES or insn.name[0] == "v"


# Real code -------------------------------------------------------------------------------------


def text_section(path: Path) -> bytes:
    """The .text of a 64-bit ELF file; empty if there is none."""
    image = path.read_bytes()
    if image[:5] != b"\x7fELF\x02":
        return b""
    table, = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", image, table + i * size) for i in range(count)]
    for name, _, _, _, offset, length in sections:
        start = sections[names][4] + name
        if image[start : image.index(0, start)] == b".text":
            return image[offset : offset + length]
    return b""


def programs() -> Iterator[Path]:
    """Programs and libraries of this host: the interpreter and what it has loaded."""
    yield Path(sys.executable).resolve()
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split()[-1]
        if ".so" in path and "/" in path and Path(path).exists():
            yield Path(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF files of the host")
def test_real_code() -> None:
    rng = random.Random(7)
    seen = 0
    for path in sorted(set(programs())):
        text = text_section(path)
        for _ in range(40 if len(text) > 4096 else 0):
            seen += _check_run(text, rng.randrange(len(text) - 512), str(path))
    assert seen > 2000


def _check_run(text: bytes, start: int, name: str) -> int:
    """Follow capstone from an offset, past a few instructions until it is in step."""
    at, seen = start, 0
    for number in range(40):
        code = text[at : at + 15]
        theirs = by_capstone(code, 64)
        if theirs is None or len(code) < 15:
            break
        ours = decoder(64, "threaded").decode(code)
        absent = later(theirs) or (ours is None and in_later_map(code))
        if number >= 10 and not absent:
            where = f"{name} .text+{at:#x} {code.hex()}"
            assert ours is not None, f"{where}: {theirs}"
            if unjudged(code, 64, ours, theirs) is None:
                assert same(ours, theirs), f"{where}\n{ours}\n{theirs}"
                seen += 1
        at += theirs.length
    return seen


# VEX -------------------------------------------------------------------------------------------

_JUDGED = {"avx", "avx2", "fma", "f16c", "bmi", "bmi2"}
_PREDICATES = {"VCMPPS", "VCMPPD", "VCMPSS", "VCMPSD"}


def random_vex(rng: random.Random) -> bytes:
    """Mostly instructions: vvvv often unused, W and L any, maps 1 to 3."""
    vvvv = rng.choice((0x78, rng.randrange(16) << 3))
    last = vvvv | rng.randrange(8) | rng.choice((0, 0x80))
    if rng.random() < 0.3:
        return bytes([0xC5, last | 0x80]) + rng.randbytes(13)
    first = rng.choice((0xE0, rng.randrange(8) << 5)) | rng.choice((1, 2, 2, 3, 3))
    return bytes([0xC4, first, last]) + rng.randbytes(12)


@pytest.mark.parametrize("bits", [32, 64])
def test_random_vex(bits: int) -> None:
    """What capstone knows of the judged sets is known, with its length and operands."""
    rng = random.Random(bits)
    missing, wrong, judged = {}, [], 0
    for _ in range(16000):
        code = random_vex(rng)
        if bits == 32 and code[1] < 0xC0:
            continue  # LES and LDS
        ours, theirs = decoder(bits, "threaded").decode(code), by_capstone(code, bits)
        if theirs is None or not theirs.groups & _JUDGED:
            continue
        judged += 1
        if ours is None:
            missing.setdefault(theirs.name, code.hex())
        elif ours.name not in _PREDICATES and not same(ours, theirs):
            wrong.append(f"{code.hex()}\n  ours {ours}\n  theirs {theirs}")
    assert not missing and not wrong, "\n".join([str(missing), *wrong[:10]])
    assert judged > 500


# Lengths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_fifteen_bytes_are_an_instruction_and_sixteen_are_not(bits: int) -> None:
    made = decoder(bits, "threaded")
    found = made.decode(b"\x2e" * 14 + b"\x90")
    assert found is not None and found.length == 15
    assert made.decode(b"\x2e" * 15) is None
    assert made.decode(b"\x2e" * 13 + b"\xb8\x01") is None
