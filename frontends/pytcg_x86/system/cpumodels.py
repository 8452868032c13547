"""The table of CPU models: QEMU's names with QEMU's identities and features, and psABI levels.

A line is ``NAME base + features -features | family model stepping vendor leaf leaf8 | brand``; a
model has its base's features and its own, less those after a minus. ``leaf`` and ``leaf8`` are the
last basic leaf and, less 80000000H, the last extended one. What is not implemented of a model is
left out, and told.

"max" has all there is, and is the default: no guest runs faster on another. It says that it is an
Atom of the last in-order kind (family 6, model 36H): like an emulator it does not speculate, and
Linux, which knows that, leaves out page table isolation, retpolines and speculation barriers.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytcg_x86.system.features import FEATURES, IMPLEMENTED

_VENDORS = {"intel": "GenuineIntel", "amd": "AuthenticAMD"}

_TABLE = """
486 + fpu pse | 4 8 0 intel 1 0 |
pentium 486 + apic cx8 de mce mmx msr tsc | 5 4 3 intel 1 0 |
pentium2 pentium + cmov fxsr mca mtrr pae pat pge pse36 sep | 6 5 2 intel 2 0 |
pentium3 pentium2 + sse | 6 7 3 intel 3 0 |
athlon pentium3 + 3dnow 3dnowext mmxext sse2 | 6 2 3 amd 2 8 | pytcg Virtual CPU
qemu32 pentium3 + sse2 sse3 -mca -mtrr -pse36 | 6 6 3 intel 4 4 | pytcg Virtual CPU (32 bits)
kvm32 pentium3 + clflush sse2 sse3 | 15 6 1 intel 5 8 | Common 32-bit KVM processor
kvm64 kvm32 + cx16 lm nx syscall | 15 6 1 intel 13 8 | Common KVM processor
qemu64 kvm64 + lahf-lm | 15 107 1 amd 13 10 | pytcg Virtual CPU
coreduo kvm32 + monitor nx ss -pse36 | 6 14 8 intel 10 8 | Genuine Intel(R) CPU T2600 @ 2.16GHz
core2duo qemu64 + monitor ss ssse3 | 6 15 11 intel 10 8 | Intel(R) Core(TM)2 Duo CPU T7700 @ 2.40GHz
n270 coreduo + lahf-lm movbe ssse3 | 6 28 2 intel 10 8 | Intel(R) Atom(TM) CPU N270 @ 1.60GHz
phenom qemu64 + 3dnow 3dnowext abm fxsr-opt mmxext monitor pdpe1gb popcnt rdtscp sse4a | 16 \
    2 3 amd 5 26 | AMD Phenom(tm) 9550 Quad-Core Processor
Conroe kvm32 + lahf-lm lm nx ssse3 syscall | 6 15 3 intel 10 8 | Intel Celeron_4x0 \
    (Conroe/Merom Class Core 2)
Penryn Conroe + cx16 sse4.1 | 6 23 3 intel 10 8 | Intel Core 2 Duo P9xxx (Penryn Class Core 2)
Nehalem Penryn + popcnt sse4.2 | 6 26 3 intel 11 8 | Intel Core i7 9xx (Nehalem Class Core i7)
Westmere Nehalem + aes arat pclmulqdq | 6 44 1 intel 11 8 | Westmere E56xx/L56xx/X56xx (Nehalem-C)
SandyBridge Westmere + avx rdtscp tsc-deadline x2apic xsave xsaveopt | 6 42 1 intel 13 8 | \
    Intel Xeon E312xx (Sandy Bridge)
IvyBridge SandyBridge + erms f16c fsgsbase rdrand smep | 6 58 9 intel 13 8 | Intel Xeon \
    E3-12xx v2 (Ivy Bridge)
Haswell IvyBridge + abm avx2 bmi1 bmi2 fma hle invpcid movbe pcid rtm | 6 60 4 intel 13 8 | \
    Intel Core Processor (Haswell)
Broadwell Haswell + 3dnowprefetch adx rdseed smap | 6 61 2 intel 13 8 | Intel Core Processor \
    (Broadwell)
Skylake-Client Broadwell + xgetbv1 xsavec | 6 94 3 intel 13 8 | Intel Core Processor (Skylake)
Skylake-Server Skylake-Client + avx512bw avx512cd avx512dq avx512f avx512vl clflushopt clwb \
    pdpe1gb pku | 6 85 4 intel 13 8 | Intel Xeon Processor (Skylake)
EPYC Westmere + 3dnowprefetch abm adx avx avx2 bmi1 bmi2 clflushopt cr8legacy f16c fma \
    fsgsbase fxsr-opt misalignsse mmxext monitor movbe osvw pdpe1gb rdrand rdseed rdtscp sha-ni \
    smap smep sse4a xgetbv1 xsave xsavec xsaveopt | 23 1 2 amd 13 30 | AMD EPYC Processor
EPYC-Rome EPYC + clwb clzero rdpid umip wbnoinvd xsaveerptr xsaves | 23 49 0 amd 13 30 | AMD \
    EPYC-Rome Processor
Opteron_G1 kvm64 + -cx16 | 15 6 1 amd 5 8 | AMD Opteron 240 (Gen 1 Class Opteron)
Opteron_G2 Opteron_G1 + cx16 lahf-lm | 15 6 1 amd 5 10 | AMD Opteron 22xx (Gen 2 Class Opteron)
Opteron_G3 Opteron_G2 + abm misalignsse monitor popcnt rdtscp sse4a | 16 2 3 amd 5 10 | AMD \
    Opteron 23xx (Gen 3 Class Opteron)
Opteron_G4 Opteron_G3 + 3dnowprefetch aes avx fma4 pclmulqdq pdpe1gb sse4.1 sse4.2 ssse3 xop \
    xsave -monitor | 21 1 2 amd 13 26 | AMD Opteron 62xx class CPU
Opteron_G5 Opteron_G4 + f16c fma tbm | 21 2 0 amd 13 26 | AMD Opteron 63xx class CPU
x86-64-v1 kvm64 + | 6 15 1 intel 13 8 | pytcg x86-64-v1
x86-64-v2 x86-64-v1 + lahf-lm popcnt sse3 sse4.1 sse4.2 ssse3 | 6 26 1 intel 13 8 | pytcg \
    x86-64-v2
x86-64-v3 x86-64-v2 + abm avx avx2 bmi1 bmi2 f16c fma movbe xsave | 6 60 1 intel 13 8 | \
    pytcg x86-64-v3
x86-64-v4 x86-64-v3 + avx512bw avx512cd avx512dq avx512f avx512vl | 6 85 1 intel 13 8 | \
    pytcg x86-64-v4
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a processor says that it is."""

    vendor: str
    family: int
    model: int
    stepping: int
    brand: str = ""
    last_leaf: int = 0x16
    last_extended: int = 0x8000_0008

    @property
    def signature(self) -> int:
        """Leaf 1's EAX; family and model beyond 15 are in fields of their own (SDM vol. 2A)."""
        base = min(self.family, 15)
        return (self.stepping | (self.model & 15) << 4 | base << 8 | (self.model >> 4) << 16
                | (self.family - base) << 20)  # fmt: skip


Model = tuple[Identity, frozenset[str]]


def _parse_table() -> dict[str, Model]:
    models: dict[str, Model] = {}
    for line in _TABLE.strip().splitlines():
        head, numbers, brand = (" ".join(part.split()) for part in line.split("|"))
        name, features = (part.strip() for part in head.split("+"))
        name, *base = name.split()
        family, model, stepping, vendor, leaf, leaf8 = numbers.split()
        inherited = models[base[0]][1] if base else frozenset({"hypervisor"})
        identity = Identity(_VENDORS[vendor], int(family), int(model), int(stepping), brand,
                            int(leaf), 0x8000_0000 + int(leaf8))  # fmt: skip
        own = features.split()
        gone = {feature[1:] for feature in own if feature[0] == "-"}
        kept = frozenset(feature for feature in own if feature[0] != "-")
        models[name] = identity, inherited - gone | kept
        unknown = models[name][1] - FEATURES.keys()
        assert not unknown, (name, unknown)
    return models


_UNADVERTISED = {"monitor", "la57", "pmu", "ss", "osvw"}
"""Works, but helps no guest: a slower HLT, longer page walks, counters that never interrupt."""

MODELS: dict[str, Model] = {
    **_parse_table(),
    "max": (Identity(_VENDORS["intel"], 6, 0x36, 1, "pytcg Virtual CPU"),
            IMPLEMENTED - _UNADVERTISED),
    "base": (Identity(_VENDORS["amd"], 15, 107, 1, "pytcg Virtual CPU"), frozenset()),
}  # fmt: skip
