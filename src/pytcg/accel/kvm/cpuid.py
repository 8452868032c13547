"""What CPUID tells a guest under KVM: a model's answers, cut to what KVM can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from pytcg.accel.kvm.abi import STRUCTS, counted

_INDEXED: Final = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX
_SIGNATURE: Final = 0x4000_0000
_FEATURES: Final = 0x4000_0001
_KVM_FEATURES: Final = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 24
"""No I/O delay, kvmclock (old, new, stable): what needs no interrupt controller of KVM's."""
_WITH_LAPIC: Final = 1 << 6
"""An end of interrupt that is no exit (PV_EOI)."""
_X2APIC, _TSC_DEADLINE, _HYPERVISOR = 1 << 21, 1 << 24, 1 << 31
_MASKED: Final = {(1, 0): ("ecx", "edx"), (7, 0): ("ebx", "ecx", "edx"), (7, 1): ("eax",),
                  (0x8000_0001, 0): ("ecx", "edx"), (0x8000_0008, 0): ("ebx",),
                  (0xD, 1): ("eax",)}  # fmt: skip
_WORDS: Final = ("eax", "ebx", "ecx", "edx")
_XSAVE: Final = 0xD
_SUBLEAVES: Final = {7: 2, 0xB: 2}


class Model(Protocol):
    """A CPU model's answers."""

    kvm: bool

    @property
    def last_leaf(self) -> int: ...

    @property
    def last_extended(self) -> int: ...

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]: ...


def host_rows(supported: Iterable[Any], *, lapic: bool = False) -> Any:
    """kvm_cpuid2 of all that KVM can do; ``lapic``: the local APIC is the kernel's."""
    return _table(_adapt(row, lapic=lapic) for row in supported)


def model_rows(model: Model, supported: Iterable[Any], *, lapic: bool = False) -> Any:
    """kvm_cpuid2 of a model, without features that KVM has not."""
    there = {(row.function, row.index): row for row in supported}
    rows = []
    for leaf in (*range(model.last_leaf + 1), *range(0x8000_0000, model.last_extended + 1)):
        if leaf == _XSAVE:
            continue
        for subleaf in range(_SUBLEAVES.get(leaf, 1)):
            row = _row(leaf, subleaf, model.cpuid(leaf, subleaf))
            for word in _MASKED.get((leaf, subleaf), ()):
                mask = getattr(there[leaf, subleaf], word) if (leaf, subleaf) in there else 0
                if (leaf, word) == (1, "ecx"):
                    mask |= _HYPERVISOR | _TSC_DEADLINE | _X2APIC
                setattr(row, word, getattr(row, word) & mask)
            rows.append(row)
    rows += _xsave_rows(model, there)
    if model.kvm:
        rows += [row for row in there.values() if row.function >> 16 == _SIGNATURE >> 16]
    return _table(_adapt(row, lapic=lapic) for row in rows)


def _xsave_rows(model: Model, there: dict[tuple[int, int], Any]) -> list[Any]:
    """The areas of the state components that the model has."""
    wanted = model.cpuid(_XSAVE, 0)[0]
    rows = []
    for (leaf, subleaf), row in there.items():
        if leaf != _XSAVE or (subleaf > 1 and not wanted >> subleaf & 1):
            continue
        copy = STRUCTS["cpuid_entry"].from_buffer_copy(row)
        if subleaf == 0:
            copy.eax, copy.edx = copy.eax & wanted, 0
        elif subleaf == 1:
            copy.eax, copy.ecx, copy.edx = copy.eax & model.cpuid(_XSAVE, 1)[0], 0, 0
        rows.append(copy)
    return rows if wanted else []


def _row(leaf: int, subleaf: int, words: Iterable[int]) -> Any:
    row = STRUCTS["cpuid_entry"]()
    row.function, row.index = leaf, subleaf
    row.flags = _INDEXED if leaf in _SUBLEAVES else 0
    for word, value in zip(_WORDS, words, strict=True):
        setattr(row, word, value & 0xFFFF_FFFF)
    return row


def _adapt(row: Any, *, lapic: bool) -> Any:
    """Without what only a local APIC in the kernel does, unless there is one."""
    if row.function == 1:
        if not lapic:
            row.ecx &= ~(_X2APIC | _TSC_DEADLINE)
        row.ecx |= _HYPERVISOR
        row.ebx &= 0x00FF_FFFF  # APIC id 0
    elif row.function == _FEATURES:
        row.eax &= _KVM_FEATURES | (_WITH_LAPIC if lapic else 0)
    return row


_FEATURE_WORDS: Final = (((1, 0, "edx"), (1, 0, "ecx")), ((7, 0, "ebx"), (7, 0, "ecx")),
                         ((0x8000_0001, 0, "edx"), (0x8000_0001, 0, "ecx")),
                         ((0x8000_0007, 0, "edx"), (6, 0, "eax")),
                         ((7, 0, "edx"), (7, 1, "eax")),
                         ((0xD, 1, "eax"), (0x8000_0008, 0, "ebx")))  # fmt: skip
"""Where the pairs of `pytcg_x86.system.features.Word` are told."""


def cut_words(words: Iterable[int], table: Any) -> list[int]:
    """A model's feature words without what the table of its answers does not have."""
    rows = {(row.function, row.index): row for row in table.rows}

    def told(leaf: int, subleaf: int, word: str) -> int:
        return int(getattr(rows[leaf, subleaf], word)) if (leaf, subleaf) in rows else 0

    masks = [told(*low) | told(*high) << 32 for low, high in _FEATURE_WORDS]
    return [word & mask for word, mask in zip(words, [*masks, 0], strict=True)]


def _table(rows: Iterable[Any]) -> Any:
    found = list(rows)
    made = counted("cpuid_entry", len(found))
    for place, row in enumerate(found):
        made.rows[place] = row
    return made
