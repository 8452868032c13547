"""A processor's state as saved machines keep it: the architecture's registers by name, no pointers.

What is host's or derived (TLBs, callbacks, cc_* of a region that was left) is not in it; the
processor stands between two instructions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytcg.exec.layout import EXEC_ENV
from pytcg_x86.core.state import ENV
from pytcg_x86.system.features import FEATURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytcg_x86.core.registers import StateView

VERSION = 1
_OF_EXEC = ("pc", "halted", "inhibit", "exception_pending", "exception_vector", "exception_error",
            "exception_has_error", "exception_address", "step_pending")  # fmt: skip
_OF_THE_HOST = {"zero", "host_mxcsr", "fp_unit", "kept_tlb", "large_base", "large_mask",
                "tsc_offset", "cc_kind", "cc_a", "cc_b", "host", "cpuid_features", "vendor",
                "stop_exceptions", "intr_line"}  # fmt: skip


def _names() -> list[str]:
    own = [name for name, field in ENV.fields.items() if name not in EXEC_ENV.fields
           and name not in (*_OF_THE_HOST, "rip") and not field.type.is_pointer]  # fmt: skip
    return [*_OF_EXEC, *own]


FIELDS = tuple(_names())


def save_state(state: StateView, features: Sequence[int], tsc: int) -> dict[str, Any]:
    """Plain JSON values; the processor must not run. ``features``: a model's words."""
    kept: dict[str, Any] = {"version": VERSION, "features": list(features), "tsc": tsc}
    for name in FIELDS:
        count = ENV.fields[name].count
        values = [state.get(name, index) for index in range(count)]
        kept[name] = values if ENV.fields[name].array else values[0]
    return kept


def _compare(there: list[int], here: list[int]) -> None:
    if there == here:
        return
    names = [name for name, (word, bit) in FEATURES.items()
             if word < len(there) and (there[word] ^ here[word]) >> bit & 1]  # fmt: skip
    raise ValueError("the saved machine's processor has other features (-cpu):"
                     f" {', '.join(names)}")  # fmt: skip


def restore_state(state: StateView, features: Sequence[int], saved: dict[str, Any]) -> int:
    """Be as `save_state` found it, but for the TSC, which is returned.

    ValueError, before anything changes, if that can't be.
    """
    if saved.get("version") != VERSION:
        raise ValueError(f"processor state of version {saved.get('version')!r}")
    _compare(list(saved.get("features", [])), list(features))
    if saved.get("kvm"):
        raise ValueError("the saved machine's guest uses KVM's clock (-cpu NAME,kvm=off)")
    missing = [name for name in FIELDS if name not in saved]
    if missing:
        raise ValueError(f"processor state lacks {missing[0]!r}")
    for name in FIELDS:
        field, value = ENV.fields[name], saved[name]
        for index, each in enumerate(value if field.array else [value]):
            if not isinstance(each, int) or index >= field.count:
                raise ValueError(f"processor state: no value for {name!r}")
            state.set(name, each, index)
    return int(saved["tsc"])
