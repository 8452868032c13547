"""-machine: the board, and what of it can be chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pytcg.cli.system.accel_option import add_accelerators, set_irqchip
from pytcg.cli.system.option_values import (
    OptionError,
    listing,
    only,
    properties,
    set_append,
    set_initrd,
    set_kernel,
)

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options

MACHINES: Final = {
    "pc": "Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2) (default)",
    "pc-i440fx-7.2": "Standard PC (i440FX + PIIX, 1996)",
    "q35": "Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)",
    "pc-q35-7.2": "Standard PC (Q35 + ICH9, 2009)",
    "none": "empty machine",
}
ON: Final = ("on", "yes", "true", "y")
OFF: Final = ("off", "no", "false", "n")
# What the board has, or has not, for good; "auto" is fine with either.
FIXED: Final = {"acpi": True, "i8042": True, "vmport": False, "usb": False,
                "sata": False, "nvdimm": False, "x-oem-id": False}  # fmt: skip
HARMLESS: Final = ("dump-guest-core", "mem-merge", "suppress-vmdesc")


def _set_hpet(options: Options, value: str) -> None:
    options.hpet = _boolean("hpet", value)


def _set_smm(options: Options, value: str) -> None:
    options.smm = value != "auto" and _boolean("smm", value)


def _set_graphics(options: Options, value: str) -> None:
    options.firmware_on_serial = not _boolean("graphics", value)


SETTERS: Final[dict[str, Callable[[Options, str], None]]] = {
    "hpet": _set_hpet, "smm": _set_smm, "graphics": _set_graphics, "kernel": set_kernel,
    "initrd": set_initrd,
    "append": set_append, "accel": add_accelerators, "kernel-irqchip": set_irqchip,
    "kernel_irqchip": set_irqchip,
}  # fmt: skip


def set_machine(options: Options, text: str) -> None:
    values = properties(text, "type")
    kind = values.pop("type", "pc")
    if kind in ("help", "?"):
        raise listing("Supported machines are:", MACHINES)
    if kind not in MACHINES:
        raise OptionError(f"unsupported machine type '{kind}'")
    options.q35 = "q35" in kind
    options.no_machine = kind == "none"
    only("-machine", values, [*FIXED, *HARMLESS, *SETTERS])
    for name, value in values.items():
        if name in SETTERS:
            SETTERS[name](options, value)
        elif name in FIXED and value != "auto" and _boolean(name, value) != FIXED[name]:
            state = "always on" if FIXED[name] else "not there"
            raise OptionError(f"-machine {name}={value}: '{name}' is {state} on this board")


def _boolean(name: str, value: str) -> bool:
    if value not in (*ON, *OFF):
        raise OptionError(f"-machine {name}={value}: expected 'on' or 'off'")
    return value in ON


def set_no_hpet(options: Options, text: str) -> None:
    del text
    options.hpet = False
