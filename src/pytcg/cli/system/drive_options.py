"""Options that name disks: `-drive`, `-hda`, `-cdrom`, `-blockdev`, `-device` and their kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.block.device import BlockError
from pytcg.block.options import parse_json_name, parse_keyval, unflatten
from pytcg.cli.system.option_values import Information, OptionError, Options
from pytcg.machine.io_errors import READ_ACTIONS, WRITE_ACTIONS

INTERFACES: Final = ("ide", "virtio", "floppy", "pflash", "none", "scsi", "sd")
MEDIA: Final = ("disk", "cdrom")
CHOICES: Final = {
    "if": INTERFACES,
    "media": MEDIA,
    "cache": ("none", "off", "writeback", "writethrough", "directsync", "unsafe"),
    "aio": ("threads", "native", "io_uring"),
    "discard": ("ignore", "off", "unmap", "on"),
    "detect-zeroes": ("off", "on", "unmap"),
    "snapshot": ("on", "off"),
    "readonly": ("on", "off"),
    "copy-on-read": ("on", "off"),
    "rerror": (*READ_ACTIONS, "auto"),
    "werror": (*WRITE_ACTIONS, "auto"),
}
NUMBERS: Final = ("index", "bus", "unit")
FLASH: Final = ("if", "file", "format", "unit", "readonly", "index", "id")


def set_drive(options: Options, text: str) -> None:
    """`-drive`: what isn't its own is the block driver's."""
    values = parse_keyval(text, implied="file")
    if "read-only" in values:
        values["readonly"] = values.pop("read-only")
    for key, known in CHOICES.items():
        if key in values and values[key] not in known:
            what = "unsupported bus type" if key == "if" else f"{key} can't be"
            raise OptionError(f"-drive {text}: {what} '{values[key]}'")
    for key in NUMBERS:
        if key in values and not values[key].isdecimal():
            raise OptionError(f"-drive {text}: Parameter '{key}' expects a number")
    if values.get("format") == "help":
        raise Information(_formats())
    if values.get("if") == "pflash":
        _set_flash(options, text, values)
    else:
        options.drives.append(values)


def _set_flash(options: Options, text: str, values: dict[str, str]) -> None:
    for key in values:
        if key not in FLASH:
            raise OptionError(f"-drive {text}: invalid parameter '{key}'")
    if "file" not in values:
        raise OptionError(f"-drive {text}: which file=?")
    options.flashes.append({**values, "unit": values.get("unit", values.get("index", ""))})


def _formats() -> str:
    from pytcg.block.open import FORMATS

    return "Supported formats: " + " ".join(sorted(FORMATS)) + "\n"


def set_disk(index: int) -> Callable[[Options, str], None]:
    """`-hda` to `-hdd`."""

    def apply(options: Options, text: str) -> None:
        options.drives.append({"if": "ide", "index": str(index), "media": "disk", "file": text})

    return apply


def set_cdrom(options: Options, text: str) -> None:
    """`-cdrom`: the second channel's master."""
    options.drives.append({"if": "ide", "index": "2", "media": "cdrom", "file": text})


def set_floppy(index: int) -> Callable[[Options, str], None]:
    """`-fda` and `-fdb`."""

    def apply(options: Options, text: str) -> None:
        options.drives.append({"if": "floppy", "index": str(index), "file": text})

    return apply


def set_snapshot(options: Options, text: str) -> None:
    """`-snapshot`: every drive's writes go to a file that is thrown away."""
    del text
    options.snapshot = True


def set_blockdev(options: Options, text: str) -> None:
    """`-blockdev`: a node by itself, as JSON or as key=value."""
    try:
        if text.startswith("{"):
            node = parse_json_name("json:" + text)
        else:
            node = unflatten(parse_keyval(text, implied="driver"))
    except BlockError as error:
        raise OptionError(f"-blockdev {text}: {error}") from None
    name = node.get("node-name")
    if not isinstance(node.get("driver"), str):
        raise OptionError(f"-blockdev {text}: Parameter 'driver' is missing")
    if not isinstance(name, str) or not name:
        raise OptionError(f"-blockdev {text}: 'node-name' must be specified for the root node")
    if name in options.blockdevs:
        raise OptionError(f"-blockdev {text}: Duplicate nodes with node-name='{name}'")
    options.blockdevs[name] = node


def set_device(options: Options, text: str) -> None:
    """`-device MODEL[,property=value…]`; help for all, or for one model."""
    from pytcg.machine.devices.model import describe, values_of
    from pytcg.machine.devices.table import BY_NAME, listing
    from pytcg.machine.drives import DeviceError

    values = (json_values("-device", text) if text.startswith("{")
              else parse_keyval(text, implied="driver"))  # fmt: skip
    name = values.pop("driver", "")
    if name in ("help", "?"):
        raise Information(listing())
    model = BY_NAME.get(name)
    if model is None:
        raise OptionError(f"-device {text}: '{name}' is not a valid device model name")
    if "help" in values or "?" in values:
        raise Information(describe(model))
    try:
        values_of(model, values)
    except DeviceError as error:
        raise OptionError(f"-device {text}: {error}") from None
    options.devices.append((name, values))


def json_values(option: str, text: str) -> dict[str, str]:
    """An option's properties given as JSON; OptionError."""
    try:
        values = parse_json_name("json:" + text)
    except BlockError as error:
        raise OptionError(f"{option} {text}: {error}") from None
    words = {True: "on", False: "off"}
    return {key: words[value] if isinstance(value, bool) else str(value)
            for key, value in values.items()}  # fmt: skip
