"""-accel, -enable-kvm and -machine accel=: what runs the guest, and in what order that is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.cli.system.option_values import Information, OptionError, Options, only, properties

TIERS: Final = ("auto", "threaded", "jit", "python")
ACCELERATORS: Final = ("tcg", "kvm", "qtest")
IRQCHIPS: Final = ("on", "split", "off")


def set_accel(options: Options, text: str) -> None:
    """-accel NAME[:NAME…][,property=value…]; given again: what to fall back to."""
    values = properties(text, "accel")
    names = values.pop("accel", "")
    add_accelerators(options, names)
    known = {name: setter for kind in names.split(":") for name, setter in _SETTERS[kind].items()}
    only("-accel", values, list(known))
    for name, value in values.items():
        known[name](options, value)


def add_accelerators(options: Options, names: str) -> None:
    """Names with colons between, the first that works counts; OptionError."""
    if names in ("help", "?", ""):
        listed = "\n".join(ACCELERATORS)
        raise Information(f"Accelerators supported in pytcg-system-x86_64:\n{listed}\n")
    for name in names.split(":"):
        if name not in ACCELERATORS:
            raise OptionError(f"invalid accelerator {name}")
        options.accelerators.append(name)


def set_enable_kvm(options: Options, text: str) -> None:
    """-enable-kvm: the same as -accel kvm."""
    del text
    options.accelerators.append("kvm")


def set_irqchip(options: Options, value: str) -> None:
    """kernel-irqchip=: which interrupt controllers are the kernel's."""
    if value not in IRQCHIPS:
        raise OptionError(f"kernel-irqchip={value}: expected 'on', 'off' or 'split'")
    options.irqchip = value


def _set_tier(options: Options, value: str) -> None:
    if value not in TIERS:
        names = ", ".join(TIERS)
        raise OptionError(f"-accel tcg,tier={value}: invalid tier '{value}', not one of {names}")
    options.tier = value


def _set_tb_size(options: Options, value: str) -> None:
    if not value.isdecimal():
        raise OptionError(f"-accel tcg,tb-size={value}: expected a number of MiB")
    options.tb_size = int(value)


def _set_perf(options: Options, value: str) -> None:
    if value not in ("on", "off"):
        raise OptionError("-accel tcg: Parameter 'perf' expects 'on' or 'off'")
    options.perf = value == "on"


def set_perfmap(options: Options, text: str) -> None:
    """-perfmap: the same as -accel tcg,perf=on."""
    del text
    options.perf = True


def _set_thread(options: Options, value: str) -> None:
    """One processor has one thread either way."""
    del options
    if value not in ("single", "multi"):
        raise OptionError(f"-accel tcg,thread={value}: expected 'single' or 'multi'")


_SETTERS: Final[dict[str, dict[str, Callable[[Options, str], None]]]] = {
    "tcg": {"tier": _set_tier, "tb-size": _set_tb_size, "perf": _set_perf, "thread": _set_thread},
    "kvm": {"kernel-irqchip": set_irqchip},
    "qtest": {},
}  # fmt: skip
