"""CPU models: what CPUID answers, from a model of the table and what the user changes.

A model is spelt as in QEMU: ``NAME,+feature,-feature,feature=on,vendor=…``. `cpumodels` has the
table, `features` the names. What CPUID denies is not there: the decoder's rows name their
features, and so do the bits of CR4 and EFER.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, replace

from pytcg_x86.system.cpumodels import MODELS, Identity
from pytcg_x86.system.features import (
    COUNTER_BITS,
    DEPENDENT,
    FEATURES,
    FIXED_COUNTERS,
    IMPLEMENTED,
    PHYSICAL_BITS,
    Word,
    feature_name,
)

_CLFLUSH_LINE = 64
_XSAVE_SIZE = 576  # legacy area and header: x87 and SSE
_COMPONENTS = {2: (576, 256), 9: (2688, 8)}
"""Where XSAVE's components lie in the standard format, and their sizes: YMM's halves, PKRU."""
_COMPACTED = 0b1010  # XSAVEC, XSAVES
_SWITCH = {"on": True, "off": False, "yes": True, "no": False, "true": True, "false": False,
           "y": True, "n": False}  # fmt: skip
_OF_KVM = ("host-phys-bits", "migratable")
"""Switches of QEMU's that change nothing without KVM."""
_ADDRESS_BITS = PHYSICAL_BITS | 48 << 8
_LA57_BITS = PHYSICAL_BITS | 57 << 8
_CRYSTAL_HZ = 1_000_000_000
"""What leaf 15H says the TSC is derived from: the local APIC timer's clock, as on hardware."""
_LAST_NUMERATOR = 4_000  # Linux multiplies it by the crystal's kHz in 32 bits


class CpuModel:
    """One model's answers to CPUID."""

    def __init__(self, name: str, identity: Identity, features: set[str],
                 missing: frozenset[str] = frozenset()):  # fmt: skip
        self.name = name
        self.identity = identity
        self.features = frozenset(features)
        self.missing = missing
        """What the model has and this emulator has not."""
        self.check = True  # whether to tell of them
        self.kvm = True  # whether KVM tells the guest of itself
        self.tsc_hz = 0  # 0: not told, the guest must measure it

    @classmethod
    def parse(cls, text: str) -> CpuModel:
        """A model from its option text; ValueError names what is wrong."""
        name, *changes = _parts(text)
        identity, names = _named(name)
        options = _Options(identity, set(names & IMPLEMENTED))
        for change in changes:
            options.apply(change)
        missing = (names | options.wanted) - IMPLEMENTED - options.denied
        if options.enforce and missing:
            raise ValueError(f"CPU model {name!r} needs what is not implemented: "
                             f"{', '.join(sorted(missing))}")  # fmt: skip
        model = cls(name, options.identity, options.features - _host_lacks(), missing)
        model.check, model.kvm = options.check, options.kvm
        return model

    @property
    def signature(self) -> int:
        """Family, model and stepping: leaf 1's EAX, and EDX after RESET."""
        return self.identity.signature

    def feature_words(self) -> list[int]:
        """The feature bits, by `Word`."""
        return list(self._words)

    @functools.cached_property
    def _words(self) -> tuple[int, ...]:
        words = [0] * len(Word)
        for name in self.features:
            word, bit = FEATURES[name]
            words[word] |= 1 << bit
        return tuple(words)

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX; what depends on CR4 and XCR0 is left to `pytcg_x86.system.cpuid`."""
        if leaf >> 16 == 0x8000:
            return self._extended_leaves(leaf) if leaf <= self.last_extended else (0, 0, 0, 0)
        if leaf >> 16 == 0x4000 and "hypervisor" in self.features:
            return _hypervisor(leaf)
        if leaf == 0:
            return (self.last_leaf, *self._vendor())
        return self._basic_leaves(leaf, subleaf) if leaf <= self.last_leaf else (0, 0, 0, 0)

    @property
    def last_leaf(self) -> int:
        """The highest basic leaf: the model's, or the last that a feature is told in."""
        words = self._words
        wanted = [7 if words[Word.EXTENDED] or words[Word.LATER] else 1,
                  0xA if "pmu" in self.features else 1,
                  0xB if "x2apic" in self.features else 1,
                  0xD if "xsave" in self.features else 1]  # fmt: skip
        return max(self.identity.last_leaf, *wanted)

    @property
    def last_extended(self) -> int:
        """The highest extended leaf, 80000000H if there are no others."""
        return max(self.identity.last_extended, 0x8000_0001 if self._has_amd_words else 0)

    @property
    def _has_amd_words(self) -> bool:
        return self._words[Word.AMD] != 0

    @property
    def _last_subleaf(self) -> int:
        """The highest subleaf of leaf 7."""
        return int(self._word(Word.LATER, 1) != 0)

    def _word(self, word: Word, half: int) -> int:
        return self._words[word] >> (32 * half) & 0xFFFF_FFFF

    def _vendor(self) -> tuple[int, int, int]:
        name = self.identity.vendor.encode()
        b, d, c = (int.from_bytes(name[i : i + 4], "little") for i in (0, 4, 8))
        return b, c, d

    def _basic_leaves(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        if leaf == 1:
            ebx = _CLFLUSH_LINE // 8 << 8 | 1 << 16
            return self.signature, ebx, self._word(Word.BASIC, 1), self._word(Word.BASIC, 0)
        if leaf == 5 and "monitor" in self.features:
            return _CLFLUSH_LINE, _CLFLUSH_LINE, 3, 0  # wakes by interrupts too; no C-states
        if leaf == 6:
            return self._word(Word.POWER, 1), 0, 0, 0
        if leaf == 7 and subleaf == 0:
            return (self._last_subleaf, self._word(Word.EXTENDED, 0),
                    self._word(Word.EXTENDED, 1), self._word(Word.LATER, 0))
        if leaf == 7 and subleaf == 1:
            return self._word(Word.LATER, 1), 0, 0, 0
        if leaf == 0xA and "pmu" in self.features:  # version 2, no counters but the fixed ones
            return 2 | 7 << 24, 0x7F, 0, FIXED_COUNTERS | COUNTER_BITS << 5
        if leaf == 0xB and "x2apic" in self.features and subleaf < 2:
            return 0, 1, subleaf | (subleaf + 1) << 8, 0  # one thread in one core
        if leaf == 0xD and "xsave" in self.features:
            return self._xsave_leaf(subleaf)
        if leaf == 0x15 and self.tsc_hz:
            from fractions import Fraction

            most = _LAST_NUMERATOR * _CRYSTAL_HZ // self.tsc_hz
            ratio = Fraction(self.tsc_hz, _CRYSTAL_HZ).limit_denominator(most)
            return ratio.denominator, ratio.numerator, _CRYSTAL_HZ, 0
        if leaf == 0x16 and self.tsc_hz:
            megahertz = round(self.tsc_hz / 1e6)
            return megahertz, megahertz, 100, 0
        return 0, 0, 0, 0

    def _xsave_leaf(self, subleaf: int) -> tuple[int, int, int, int]:
        """XSAVE's area; the sizes in EBX are for what XCR0 enables (`cpuid`)."""
        components = {0, 1}
        if "avx" in self.features:
            components.add(2)
        if "pku" in self.features:
            components.add(9)
        if subleaf == 0:
            size = max(sum(_COMPONENTS.get(n, (_XSAVE_SIZE, 0))) for n in components)
            return sum(1 << n for n in components), _XSAVE_SIZE, size, 0
        if subleaf == 1:
            features = self._word(Word.XSAVE, 0)
            return features, _XSAVE_SIZE if features & _COMPACTED else 0, 0, 0
        if subleaf not in components:
            return 0, 0, 0, 0
        offset, size = _COMPONENTS[subleaf]
        return size, offset, 0, 0

    def _extended_leaves(self, leaf: int) -> tuple[int, int, int, int]:
        if leaf == 0x8000_0000:
            return (self.last_extended, *self._vendor())
        if leaf == 0x8000_0001:
            # AMD repeats leaf 1's EDX bits here.
            edx = self._word(Word.AMD, 0)
            if self.identity.vendor == "AuthenticAMD":
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
            bits = _LA57_BITS if "la57" in self.features else _ADDRESS_BITS
            return bits, self._word(Word.XSAVE, 1), 0, 0
        return 0, 0, 0, 0


@dataclass(slots=True)
class _Options:
    """A model's identity and features while they are changed."""

    identity: Identity
    features: set[str]
    denied: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    check: bool = True
    enforce: bool = False
    kvm: bool = True

    def apply(self, text: str) -> None:
        """One change: ``+name``, ``-name``, ``name``, ``name=value``."""
        name, equals, value = text.partition("=")
        if name in ("vendor", "model-id", "family", "model", "stepping", "level", "xlevel"):
            self._identify(name, value)
            return
        if name == "phys-bits":
            if value not in ("0", str(PHYSICAL_BITS)):
                raise ValueError(f"CPU phys-bits: {value!r} is not {PHYSICAL_BITS}")
            return
        wanted = not text.startswith("-")
        name = name.lstrip("+-")
        if equals:
            if value not in _SWITCH:
                raise ValueError(f"CPU feature {name}: {value!r} is neither on nor off")
            wanted = _SWITCH[value]
        if name in ("check", "enforce", "kvm"):
            setattr(self, name, wanted)
        elif name not in _OF_KVM:
            self._switch(feature_name(name), on=wanted)

    def _switch(self, feature: str, *, on: bool) -> None:
        if not on:
            gone = {feature, *DEPENDENT.get(feature, ())}
            self.features -= gone
            self.denied |= gone
        else:
            self.features |= {feature} & IMPLEMENTED
            self.wanted.add(feature)
            self.denied.discard(feature)

    def _identify(self, name: str, value: str) -> None:
        if name == "vendor":
            if len(value.encode()) != 12:
                raise ValueError(f"CPU vendor {value!r}: it has 12 characters")
            self.identity = replace(self.identity, vendor=value)
        elif name == "model-id":
            self.identity = replace(self.identity, brand=value[:48])
        else:
            limits = {"family": 0x10E, "model": 0xFF, "stepping": 0xF}
            number = _number(name, value, limits.get(name, 0xFFFF_FFFF))
            place = {"level": "last_leaf", "xlevel": "last_extended"}.get(name, name)
            self.identity = replace(self.identity, **{place: number})  # type: ignore[arg-type]


def _parts(text: str) -> list[str]:
    """Parted by commas; two of them are one that doesn't part."""
    return [part.replace(",,", ",") for part in re.split(r"(?<!,),(?:(?=,,)|(?!,))", text)]


def _number(name: str, text: str, most: int) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise ValueError(f"CPU {name}: {text!r} is no number up to {most:#x}")
    return number


def _named(name: str) -> tuple[Identity, frozenset[str]]:
    if name == "host":
        return host_model()
    if name not in MODELS:
        raise ValueError(f"no CPU model {name!r}; there are {', '.join(cpu_models())}")
    return MODELS[name]


def host_model() -> tuple[Identity, frozenset[str]]:
    """The host's processor, as far as its features are known here."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            first = file.read().split("\n\n")[0]
    except OSError as error:
        raise ValueError("CPU model 'host': /proc/cpuinfo can't be read") from error
    facts = {key.strip(): value.strip() for key, _, value in
             (line.partition(":") for line in first.splitlines())}  # fmt: skip
    features = {"hypervisor"}
    for flag in facts.get("flags", "").split():
        try:
            features.add(feature_name(flag))
        except ValueError:
            continue
    family, model, stepping = (int(facts.get(key, "0"))
                               for key in ("cpu family", "model", "stepping"))  # fmt: skip
    identity = Identity(facts.get("vendor_id", ""), family, model, stepping,
                        facts.get("model name", "")[:48])  # fmt: skip
    return identity, frozenset(features) & (IMPLEMENTED | {"hypervisor"})


_HOSTS_OWN = frozenset({"fma", "f16c"})
"""Features that work by the host's same instructions."""


@functools.cache
def _host_lacks() -> frozenset[str]:
    """Those of `_HOSTS_OWN` that the host has not; one without /proc/cpuinfo has them."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            words = file.read(4096).decode().split()
    except OSError:
        return frozenset()
    return _HOSTS_OWN - set(words)


def _hypervisor(leaf: int) -> tuple[int, int, int, int]:
    """The signature that guests know emulation without hardware help by."""
    if leaf == 0x4000_0000:
        word = int.from_bytes(b"TCGT", "little"), int.from_bytes(b"CGTC", "little")
        return 0x4000_0001, word[0], word[1], int.from_bytes(b"GTCG", "little")
    return 0, 0, 0, 0


def cpu_models() -> dict[str, str]:
    """Names and descriptions for ``-cpu help``."""
    listed = {}
    for name, (identity, features) in MODELS.items():
        there = len(features & IMPLEMENTED)
        missing = len(features) - there
        rest = f", {missing} more are not implemented" if missing else ""
        listed[name] = f"{identity.brand or name}, {there} features{rest}"
    listed["host"] = "this computer's processor"
    return listed
