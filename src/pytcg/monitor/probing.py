"""What management programs ask before they start anything: processors, devices, options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pytcg.machine.devices.model import Property
from pytcg.machine.devices.table import BY_NAME, MODELS
from pytcg.monitor.command import CLASS_NO_DEVICE, Command, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

CPU_TYPE: Final = "-x86_64-cpu"
PARENTS: Final = {"PCI": "pci-device", "SCSI": "scsi-device", "IDE": "ide-device",
                  "ISA": "isa-device", "virtio-serial-bus": "virtio-serial-port"}  # fmt: skip
ABSTRACT: Final = {"object": None, "device": "object", "cpu": "device", "x86_64-cpu": "cpu",
                   **dict.fromkeys(PARENTS.values(), "device"), "memory-backend": "object",
                   "machine": "object", "tls-creds": "object", "rng": "object",
                   "accel": "object"}  # fmt: skip
_SLEEP: Final = tuple(Property(f"disable_s{state}", "uint8", 0, "ACPI doesn't name the sleep state")
                      for state in (3, 4))  # fmt: skip
ON_BOARD: Final = {"PIIX4_PM": _SLEEP, "ICH9-LPC": _SLEEP}
"""Devices that no `-device` adds, with what `-global` sets."""
KINDS_OF_VALUE: Final = {"OnOffAuto": "OnOffAuto", "pci-address": "int32"}
QOM_TYPES: Final = {"size": "size", "share": "bool", "prealloc": "bool", "dump": "bool",
                    "merge": "bool", "discard-data": "bool", "verify-peer": "bool"}  # fmt: skip


def _types() -> dict[str, str | None]:
    """Every type there is, with its parent."""
    from pytcg.cli.system.machine_option import MACHINES
    from pytcg.engines import cpu_models
    from pytcg.machine.objects import KINDS

    found: dict[str, str | None] = dict(ABSTRACT)
    found |= dict.fromkeys(ON_BOARD, "pci-device")
    found |= dict.fromkeys(("tcg-accel", "kvm-accel"), "accel")
    found |= {model.name: PARENTS.get(model.bus, "device") for model in MODELS}
    found |= {f"{name}{CPU_TYPE}": "x86_64-cpu" for name in cpu_models()}
    for name in KINDS:
        groups = ("memory-backend", "rng", "tls-creds")
        parent = next((kind for kind in groups if name.startswith(kind)), "object")
        found[name] = parent
    found |= {f"{name}-machine": "machine" for name in MACHINES if name != "pc"}
    return found


def _ancestors(types: dict[str, str | None], name: str) -> list[str]:
    found = [name]
    while (parent := types.get(found[-1])) is not None:
        found.append(parent)
    return found


def list_types(machine: Machine, implements: str | None = None, *, abstract: bool = False) -> Any:
    """qom-list-types: names, and what each is a kind of."""
    del machine
    types = _types()
    return [{"name": name, **({"parent": parent} if parent else {}),
             **({"abstract": True} if name in ABSTRACT else {})}
            for name, parent in types.items()
            if (abstract or name not in ABSTRACT)
            and (implements is None or implements in _ancestors(types, name))]  # fmt: skip


def list_device_properties(machine: Machine, typename: str) -> Any:
    """device-list-properties."""
    del machine
    if typename in ON_BOARD:
        return _rows(ON_BOARD[typename])
    model = BY_NAME.get(typename)
    if model is None:
        if typename in _types():
            raise CommandError(f"Parameter 'typename' expects a device type, not '{typename}'")
        raise CommandError(f"Device '{typename}' not found", CLASS_NO_DEVICE)
    return _rows(model.properties)


def _rows(properties: Iterable[Property]) -> list[dict[str, Any]]:
    rows = []
    for row in properties:
        told: dict[str, Any] = {"name": row.name, "type": KINDS_OF_VALUE.get(row.kind, row.kind)}
        if row.help:
            told["description"] = row.help
        if isinstance(row.default, int):
            told["default-value"] = row.default
        rows.append(told)
    return rows


def list_properties(machine: Machine, typename: str) -> Any:
    """qom-list-properties: of devices, objects and processors."""
    from pytcg.machine.objects import KINDS

    del machine
    types = _types()
    if typename not in types:
        raise CommandError(f"Class '{typename}' not found", CLASS_NO_DEVICE)
    if typename in BY_NAME:
        return _rows(BY_NAME[typename].properties)
    if typename in KINDS:
        return [{"name": name, "type": QOM_TYPES.get(name, "string")}
                for name in KINDS[typename].known]  # fmt: skip
    if typename.endswith(CPU_TYPE):
        return [{"name": name, "type": "bool"} for name in _features(typename, only_on=False)]
    return [{"name": "type", "type": "string"}]


# --- processors ----------------------------------------------------------------------------------


def _features(typename: str, *, only_on: bool) -> dict[str, bool]:
    """A model's features, by name."""
    from pytcg.engines import cpu_features

    features = cpu_features(typename.removesuffix(CPU_TYPE))
    return {name: on for name, on in features.items() if on or not only_on}


def cpu_definitions(machine: Machine) -> Any:
    """query-cpu-definitions."""
    from pytcg.engines import cpu_missing, cpu_models

    del machine
    return [{"name": name, "typename": f"{name}{CPU_TYPE}", "static": False,
             "migration-safe": name not in ("max", "host"), "deprecated": False,
             "unavailable-features": cpu_missing(name)} for name in cpu_models()]  # fmt: skip


def expand_cpu_model(machine: Machine, type: str, model: dict[str, Any]) -> Any:
    """query-cpu-model-expansion: a model's features one by one."""
    from pytcg.engines import cpu_models

    del machine
    name, changes = str(model["name"]), model.get("props") or {}
    if name not in cpu_models():
        raise CommandError(f"The CPU definition '{name}' is unknown.")
    if not isinstance(changes, dict):
        raise CommandError("Invalid parameter type for 'model.props', expected: object")
    features = _features(name, only_on=False)
    for key, value in changes.items():
        if key not in features:
            raise CommandError(f"Property '{name}{CPU_TYPE}.{key}' not found")
        if not isinstance(value, bool):
            raise CommandError(f"Invalid parameter type for '{key}', expected: boolean")
        features[key] = value
    return {"model": {"name": "base" if type == "static" else name, "props": features}}


def hotpluggable_cpus(machine: Machine) -> Any:
    """query-hotpluggable-cpus: the one that is plugged in."""
    name = machine.cpu_model.partition(",")[0]
    return [{"type": f"{name}{CPU_TYPE}", "vcpus-count": 1,
             "props": {"core-id": 0, "thread-id": 0, "socket-id": 0},
             "qom-path": "/machine/unattached/device[0]"}]  # fmt: skip


# --- the rest ------------------------------------------------------------------------------------


def command_line_options(machine: Machine, option: str | None = None) -> Any:
    """query-command-line-options: those with properties of their own."""
    del machine
    known = _options()
    if option is not None and option not in known:
        raise CommandError("Invalid option name: " + option)
    return [{"option": name, "parameters": [{"name": key, "type": kind}
                                            for key, kind in keys.items()]}
            for name, keys in known.items() if option in (None, name)]  # fmt: skip


def _options() -> dict[str, dict[str, str]]:
    from pytcg.cli.system.drives import OWN
    from pytcg.cli.system.firmware_options import BOOT
    from pytcg.cli.system.machine_option import FIXED, HARMLESS, SETTERS

    numbers, flags = ("index", "bus", "unit", "splash-time", "reboot-timeout"), (
        "snapshot", "readonly", "copy-on-read", "menu", "strict", "pretty", "hpet", "graphics",
        *FIXED, *HARMLESS)  # fmt: skip

    def typed(names: tuple[str, ...]) -> dict[str, str]:
        return {name: "boolean" if name in flags else "number" if name in numbers else "string"
                for name in names}  # fmt: skip

    return {
        "drive": typed(OWN), "boot-opts": typed(BOOT),
        "machine": typed(("type", *FIXED, *HARMLESS, *SETTERS)),
        "mon": typed(("chardev", "mode", "pretty")),
        "name": typed(("guest",)),
        "device": {}, "object": {}, "chardev": {}, "accel": typed(("accel", "tier")),
    }  # fmt: skip


def current_machine(machine: Machine) -> Any:
    """query-current-machine: nothing wakes it, as there is no S3."""
    del machine
    return {"wakeup-suspend-support": False}


def chardev_backends(machine: Machine) -> Any:
    """query-chardev-backends."""
    from pytcg.chardev.backends import names

    del machine
    return [{"name": name} for name in names()]


def none_known(machine: Machine) -> Any:
    """query-tpm-models, query-tpm-types, query-tpm: there is none."""
    del machine
    return []


COMMANDS: Final = (
    Command("qom-list-types", list_types, "*implements: str, *abstract: bool", "[ObjectTypeInfo]"),
    Command("device-list-properties", list_device_properties, "typename: str",
            "[ObjectPropertyInfo]"),
    Command("qom-list-properties", list_properties, "typename: str", "[ObjectPropertyInfo]"),
    Command("query-cpu-definitions", cpu_definitions, returns="[CpuDefinitionInfo]"),
    Command("query-cpu-model-expansion", expand_cpu_model,
            "type: CpuModelExpansionType, model: CpuModelInfo", "CpuModelExpansionInfo"),
    Command("query-hotpluggable-cpus", hotpluggable_cpus, returns="[HotpluggableCPU]"),
    Command("query-command-line-options", command_line_options, "*option: str",
            "[CommandLineOptionInfo]"),
    Command("query-current-machine", current_machine, returns="CurrentMachineParams"),
    Command("query-chardev-backends", chardev_backends, returns="[ChardevBackendInfo]"),
    Command("query-tpm-models", none_known, returns="[TpmModel]"),
    Command("query-tpm-types", none_known, returns="[TpmType]"),
)  # fmt: skip

