"""CPU models: named sets of the features that are there, and CPUID's answers for them.

A model is spelt as in QEMU: ``NAME,+feature,-feature,feature=on``. The model "max" says that it is
an Atom of the last in-order kind (family 6, model 36H): like an emulator it does not speculate, and
Linux, which knows that, leaves out page table isolation, retpolines and speculation barriers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction


class Word(IntEnum):
    """Index in env.cpuid_features; the low half is the first register, the high half the second."""

    BASIC = 0     # leaf 1: EDX, ECX
    EXTENDED = 1  # leaf 7: EBX, ECX
    AMD = 2       # leaf 80000001H: EDX, ECX
    POWER = 3     # leaf 80000007H EDX, leaf 6 EAX
    LATER = 4     # leaf 7: EDX; its subleaf 1: EAX
    XSAVE = 5     # leaf DH subleaf 1: EAX; leaf 80000008H: EBX


_NAMES = {
    Word.BASIC: (
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - ds"
        " acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"
        " sse3 pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm"
        " - pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave osxsave avx f16c"
        " rdrand hypervisor"
    ),
    Word.EXTENDED: (
        "fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - avx512f"
        " avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel-pt avx512pf avx512er avx512cd"
        " sha-ni avx512bw avx512vl"
        " - avx512vbmi umip pku ospke - - - gfni vaes vpclmulqdq - - - - - la57 - - - - - rdpid - -"
        " cldemote - movdiri movdir64b"
    ),
    Word.AMD: (
        "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm"
        " 3dnowext 3dnow"
        " lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw"
    ),
    Word.POWER: "- - - - - - - - invtsc" + 25 * " -" + " arat",
    Word.LATER: "- - - - fsrm - - - - - - - - - serialize" + 17 * " -" + " sha512 - - - avx-vnni",
    Word.XSAVE: "xsaveopt xsavec xgetbv1 xsaves" + 28 * " -" + " clzero - xsaveerptr - - - - - -"
                " wbnoinvd",
}
_ALIASES = {"pni": "sse3", "sse4-1": "sse4.1", "sse4-2": "sse4.2", "lahf_lm": "lahf-lm",
            "fxsr_opt": "fxsr-opt", "lzcnt": "abm", "i64": "lm", "xd": "nx"}  # fmt: skip

FEATURES = {
    name: (word, bit)
    for word, names in _NAMES.items()
    for bit, name in enumerate(names.split())
    if name != "-"
}
"""Every feature name: its word and bit."""

_QEMU32 = [
    "fpu", "de", "pse", "tsc", "msr", "pae", "cx8", "apic", "sep", "mtrr", "pge", "cmov", "pat",
    "pse36", "clflush", "mmx", "fxsr", "sse", "sse2", "hypervisor",
]  # fmt: skip
_QEMU64 = [
    *_QEMU32, "cx16", "syscall", "nx", "lm", "lahf-lm",
]  # fmt: skip
_MAX = [
    *_QEMU64, "pcid", "x2apic", "movbe", "popcnt", "tsc-deadline", "xsave", "fsgsbase", "smep",
    "erms", "invpcid", "smap", "tsc-adjust", "clflushopt", "pdpe1gb", "rdtscp", "abm",
    "3dnowprefetch", "invtsc", "arat", "sse3", "ssse3", "sse4.1", "sse4.2", "adx", "aes",
    "pclmulqdq", "sha-ni", "gfni",
    "xsaveopt",
]  # fmt: skip

IMPLEMENTED = frozenset(_MAX)
"""What may be switched on: a feature bit promises that its instructions and registers work."""

_AMD, _INTEL = b"AuthenticAMD", b"GenuineIntel"
_CLFLUSH_LINE = 64
_XSAVE_SIZE = 576  # legacy area and header: x87 and SSE
_ADDRESS_BITS = 40 | 48 << 8
_CRYSTAL_HZ = 1_000_000_000
"""What leaf 15H says the TSC is derived from: the local APIC timer's clock, as on hardware."""
_LAST_NUMERATOR = 4_000  # Linux multiplies it by the crystal's kHz in 32 bits


@dataclass(frozen=True, slots=True)
class Identity:
    """Vendor, family, model and stepping, brand string."""

    vendor: bytes
    signature: int
    brand: str


_K8 = Identity(_AMD, 0x0006_0FB1, "pytcg Virtual CPU")
_ATOM = Identity(_INTEL, 0x0003_0661, "pytcg Virtual CPU")
_P6 = Identity(_INTEL, 0x0000_0663, "pytcg Virtual CPU (32 bits)")

MODELS: dict[str, tuple[Identity, list[str]]] = {
    "qemu64": (_K8, _QEMU64),
    "qemu32": (_P6, _QEMU32),
    "max": (_ATOM, _MAX),
    "base": (_K8, []),
}


class CpuModel:
    """One model's answers to CPUID."""

    def __init__(self, name: str, identity: Identity, features: set[str]):
        self.name = name
        self.identity = identity
        self.features = frozenset(features)
        self.tsc_hz = 0  # 0: not told, the guest must measure it

    @classmethod
    def parse(cls, text: str) -> CpuModel:
        """A model from its option text; ValueError names what is wrong."""
        name, *changes = text.split(",")
        if name not in MODELS:
            raise ValueError(f"no CPU model {name!r}; there are {', '.join(MODELS)}")
        identity, names = MODELS[name]
        features = set(names)
        for change in changes:
            feature, wanted = _change(change)
            if not wanted:
                features.discard(feature)
            elif feature in IMPLEMENTED:
                features.add(feature)
            else:
                raise ValueError(f"CPU feature {feature!r} is not implemented")
        return cls(name, identity, features)

    @property
    def signature(self) -> int:
        """Family, model and stepping: leaf 1's EAX, and EDX after RESET."""
        return self.identity.signature

    def feature_words(self) -> list[int]:
        """The feature bits, by `Word`."""
        words = [0] * len(Word)
        for name in self.features:
            word, bit = FEATURES[name]
            words[word] |= 1 << bit
        return words

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX; what depends on CR4 and XCR0 is left to `pytcg_x86.system.cpuid`."""
        if leaf >> 16 == 0x8000:
            return self._extended_leaves(leaf) if leaf <= 0x8000_0008 else (0, 0, 0, 0)
        if leaf >> 16 == 0x4000 and "hypervisor" in self.features:
            return _hypervisor(leaf)
        if leaf == 0:
            return (self.last_leaf, *self._vendor())
        return self._basic_leaves(leaf, subleaf) if leaf <= self.last_leaf else (0, 0, 0, 0)

    @property
    def last_leaf(self) -> int:
        """The highest basic leaf."""
        if self.identity.vendor == _INTEL and "lm" in self.features:
            return 0x16
        return 0xD if {"xsave", "x2apic"} & self.features else 7

    @property
    def _last_subleaf(self) -> int:
        """The highest subleaf of leaf 7."""
        return int(self._word(Word.LATER, 1) != 0)

    def _word(self, word: Word, half: int) -> int:
        return self.feature_words()[word] >> (32 * half) & 0xFFFF_FFFF

    def _vendor(self) -> tuple[int, int, int]:
        b, d, c = (int.from_bytes(self.identity.vendor[i : i + 4], "little") for i in (0, 4, 8))
        return b, c, d

    def _basic_leaves(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        if leaf == 1:
            ebx = _CLFLUSH_LINE // 8 << 8 | 1 << 16
            return self.signature, ebx, self._word(Word.BASIC, 1), self._word(Word.BASIC, 0)
        if leaf == 6:
            return self._word(Word.POWER, 1), 0, 0, 0
        if leaf == 7 and subleaf == 0:
            return (self._last_subleaf, self._word(Word.EXTENDED, 0),
                    self._word(Word.EXTENDED, 1), self._word(Word.LATER, 0))
        if leaf == 7 and subleaf == 1:
            return self._word(Word.LATER, 1), 0, 0, 0
        if leaf == 0xB and "x2apic" in self.features and subleaf < 2:
            return 0, 1, subleaf | (subleaf + 1) << 8, 0  # one thread in one core
        if leaf == 0xD and "xsave" in self.features and subleaf == 0:
            return 3, _XSAVE_SIZE, _XSAVE_SIZE, 0
        if leaf == 0xD and "xsave" in self.features and subleaf == 1:
            return self._word(Word.XSAVE, 0), 0, 0, 0
        if leaf == 0x15 and self.tsc_hz:
            most = _LAST_NUMERATOR * _CRYSTAL_HZ // self.tsc_hz
            ratio = Fraction(self.tsc_hz, _CRYSTAL_HZ).limit_denominator(most)
            return ratio.denominator, ratio.numerator, _CRYSTAL_HZ, 0
        if leaf == 0x16 and self.tsc_hz:
            megahertz = round(self.tsc_hz / 1e6)
            return megahertz, megahertz, 100, 0
        return 0, 0, 0, 0

    def _extended_leaves(self, leaf: int) -> tuple[int, int, int, int]:
        if leaf == 0x8000_0000:
            return (0x8000_0008, *self._vendor())
        if leaf == 0x8000_0001:
            # AMD repeats leaf 1's EDX bits here.
            edx = self._word(Word.AMD, 0)
            if self.identity.vendor == _AMD:
                edx |= self._word(Word.BASIC, 0) & 0x0183_F3FF
            return self.signature, 0, self._word(Word.AMD, 1), edx
        if 0x8000_0002 <= leaf <= 0x8000_0004:
            text = self.identity.brand.encode().ljust(48, b"\0")[(leaf - 0x8000_0002) * 16 :]
            a, b, c, d = (int.from_bytes(text[i : i + 4], "little") for i in (0, 4, 8, 12))
            return a, b, c, d
        if leaf == 0x8000_0005:  # 64 KiB L1 caches of 64-byte lines, two ways
            return 0x01FF_01FF, 0x01FF_01FF, 0x4002_0140, 0x4002_0140
        if leaf == 0x8000_0006:  # 512 KiB L2 cache, 16 ways
            return 0, 0x4200_4200, 0x0200_8140, 0
        if leaf == 0x8000_0007:
            return 0, 0, 0, self._word(Word.POWER, 0)
        if leaf == 0x8000_0008:
            return _ADDRESS_BITS, self._word(Word.XSAVE, 1), 0, 0
        return 0, 0, 0, 0


def _change(text: str) -> tuple[str, bool]:
    """Name and wanted state of ``+name``, ``-name``, ``name``, ``name=on``."""
    wanted = not text.startswith("-")
    name, equals, value = text.lstrip("+-").partition("=")
    if equals:
        if value not in ("on", "off"):
            raise ValueError(f"CPU feature {name}: {value!r} is neither on nor off")
        wanted = value == "on"
    name = _ALIASES.get(name, name)
    if name not in FEATURES:
        raise ValueError(f"no CPU feature {name!r}")
    return name, wanted


def _hypervisor(leaf: int) -> tuple[int, int, int, int]:
    """The signature that guests know emulation without hardware help by."""
    if leaf == 0x4000_0000:
        word = int.from_bytes(b"TCGT", "little"), int.from_bytes(b"CGTC", "little")
        return 0x4000_0001, word[0], word[1], int.from_bytes(b"GTCG", "little")
    return 0, 0, 0, 0


def cpu_models() -> dict[str, str]:
    """Names and descriptions for ``-cpu help``."""
    return {name: f"{identity.brand}, {len(features)} features"
            for name, (identity, features) in MODELS.items()}  # fmt: skip
