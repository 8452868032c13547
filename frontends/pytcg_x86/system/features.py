"""CPUID's feature bits by name, and which of them work.

Names are QEMU's; Linux's spellings of the same are aliases.
"""

from __future__ import annotations

from enum import IntEnum


class Word(IntEnum):
    """Index in env.cpuid_features; the low half is the first register, the high half the second."""

    BASIC = 0     # leaf 1: EDX, ECX
    EXTENDED = 1  # leaf 7: EBX, ECX
    AMD = 2       # leaf 80000001H: EDX, ECX
    POWER = 3     # leaf 80000007H EDX, leaf 6 EAX
    LATER = 4     # leaf 7: EDX; its subleaf 1: EAX
    XSAVE = 5     # leaf DH subleaf 1: EAX; leaf 80000008H: EBX
    PRIVATE = 6   # not CPUID's: what is told in other ways


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
        " lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw - xop"
        " - - - - fma4 - - - - tbm"
    ),
    Word.POWER: "- - - - - - - - invtsc" + 25 * " -" + " arat",
    Word.LATER: "- - - - fsrm - - - - - - - - - serialize" + 17 * " -" + " sha512 - - - avx-vnni",
    Word.XSAVE: "xsaveopt xsavec xgetbv1 xsaves" + 28 * " -" + " clzero - xsaveerptr - - - - - -"
                " wbnoinvd",
    Word.PRIVATE: "pmu",
}
PHYSICAL_BITS = 40
"""MAXPHYADDR, as leaf 80000008H tells the guest."""
FIXED_COUNTERS, COUNTER_BITS = 3, 48
"""What ``pmu`` means: performance counters of leaf AH."""
ALIASES = {
    "pni": "sse3", "sse4-1": "sse4.1", "sse4-2": "sse4.2", "lzcnt": "abm", "i64": "lm", "xd": "nx",
    "pclmuldq": "pclmulqdq", "ffxsr": "fxsr-opt", "cpuid-hypervisor": "hypervisor",
    "sha": "sha-ni", "cmpxchg16b": "cx16",
}  # fmt: skip

FEATURES = {
    name: (word, bit)
    for word, names in _NAMES.items()
    for bit, name in enumerate(names.split())
    if name != "-"
}
"""Every feature name: its word and bit."""

IMPLEMENTED = frozenset({
    "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "cx8", "apic", "sep", "mtrr", "pge", "cmov",
    "pat", "pse36", "clflush", "mmx", "fxsr", "sse", "sse2", "hypervisor", "cx16", "syscall", "nx",
    "lm",
    "lahf-lm", "pcid", "x2apic", "movbe", "popcnt", "tsc-deadline", "xsave", "fsgsbase", "smep",
    "erms", "invpcid", "smap", "tsc-adjust", "clflushopt", "pdpe1gb", "rdtscp", "abm",
    "3dnowprefetch", "invtsc", "arat", "sse3", "ssse3", "sse4.1", "sse4.2", "adx", "aes",
    "pclmulqdq", "sha-ni", "gfni", "xsaveopt", "monitor", "mce", "mca", "bmi1", "bmi2",
    "mmxext", "sse4a", "3dnow", "3dnowext", "rdrand", "rdseed", "clwb", "clzero", "wbnoinvd",
    "serialize", "movdiri", "movdir64b", "rdpid", "cldemote", "umip", "cr8legacy", "avx", "avx2",
    "fma", "f16c", "vaes", "vpclmulqdq", "avx-vnni", "xsavec", "xsaves", "xgetbv1", "pku",
    "la57", "pmu", "ss", "osvw",
})  # fmt: skip
"""What may be switched on: a feature bit promises that its instructions and registers work."""


_OF_AVX = ("avx2", "fma", "f16c", "vaes", "vpclmulqdq", "avx-vnni")
DEPENDENT = {"avx": _OF_AVX, "xsave": ("avx", *_OF_AVX, "xsaveopt", "xsavec", "xsaves", "xgetbv1")}
"""What goes with a feature that is switched off."""


def feature_name(text: str) -> str:
    """The name of a feature in any of its spellings; ValueError if there is none."""
    name = text.replace("_", "-")
    name = ALIASES.get(name, name)
    if name not in FEATURES:
        raise ValueError(f"no CPU feature {text!r}")
    return name
