"""`-fsdev` and `-virtfs`: folders that the guest mounts."""

from __future__ import annotations

from typing import Final

from pytcg.block.device import BlockError
from pytcg.block.options import parse_keyval
from pytcg.cli.system.option_values import OptionError, Options

COMMON: Final = ("fsdriver", "id", "mount_tag", "writeout", "readonly")
THROTTLED: Final = (
    *(f"throttling.{unit}-{way}{part}" for unit in ("bps", "iops")
      for way in ("total", "read", "write") for part in ("", "-max", "-max-length")),
    "throttling.iops-size",
)  # fmt: skip
LOCAL: Final = ("path", "security_model", "fmode", "dmode", "multidevs")
DRIVERS: Final = {"local": LOCAL, "proxy": ("socket", "sock_fd"), "synth": ()}
MODELS: Final = ("passthrough", "mapped-xattr", "mapped-file", "none")
MULTIDEVS: Final = ("remap", "forbid", "warn")


def set_fsdev(options: Options, text: str) -> None:
    """-fsdev DRIVER,id=NAME,…"""
    values = _parse("-fsdev", text)
    if not values.get("id"):
        raise OptionError(f"-fsdev {text}: fsdev: No id specified")
    _add(options, f"-fsdev {text}", values, (*COMMON, *THROTTLED))


def set_virtfs(options: Options, text: str) -> None:
    """-virtfs DRIVER,mount_tag=TAG,…: -fsdev with its device."""
    values = _parse("-virtfs", text)
    if not values.get("fsdriver") or not values.get("mount_tag"):
        raise OptionError(f"-virtfs {text}: Usage: -virtfs fsdriver,mount_tag=tag")
    tag = values["mount_tag"]
    values.setdefault("id", tag)
    _add(options, f"-virtfs {text}", values, COMMON)
    options.devices.append(("virtio-9p-pci", {"fsdev": values["id"], "mount_tag": tag}))


def _parse(option: str, text: str) -> dict[str, str]:
    try:
        return parse_keyval(text, implied="fsdriver")
    except BlockError as error:
        raise OptionError(f"{option} {text}: {error}") from None


def _add(options: Options, where: str, values: dict[str, str], known: tuple[str, ...]) -> None:
    driver = values.get("fsdriver", "")
    if driver not in DRIVERS:
        raise OptionError(f"{where}: fsdev: fsdriver {driver} not found")
    for key in values:
        if key not in known and key not in DRIVERS[driver]:
            raise OptionError(f"{where}: Invalid parameter '{key}'")
    if any(other["id"] == values["id"] for other in options.fsdevs):
        raise OptionError(f"{where}: Duplicate ID '{values['id']}' for fsdev")
    if values.setdefault("readonly", "off") not in ("on", "off"):
        raise OptionError(f"{where}: Parameter 'readonly' expects 'on' or 'off'")
    if driver == "local":
        _check_local(where, values)
    elif driver == "proxy":
        _check_proxy(where, values)
    options.fsdevs.append(values)


def _check_local(where: str, values: dict[str, str]) -> None:
    if values.get("security_model") == "mapped":
        values["security_model"] = "mapped-xattr"
    _one_of(where, values, "security_model", MODELS)
    if not values.get("path"):
        raise OptionError(f"{where}: path property not set")
    values.setdefault("multidevs", "warn")
    _one_of(where, values, "multidevs", MULTIDEVS)
    for key, default in ("fmode", "0600"), ("dmode", "0700"):
        values.setdefault(key, default)
        try:
            file_mode(values[key])
        except ValueError:
            raise OptionError(f"{where}: Parameter '{key}' expects a number") from None


def _check_proxy(where: str, values: dict[str, str]) -> None:
    name, fd = values.get("socket"), values.get("sock_fd")
    if not name and not fd:
        raise OptionError(f"{where}: both socket and sock_fd properties are missing")
    if name and fd:
        raise OptionError(f"{where}: both socket and sock_fd properties are set")
    if fd and not fd.isdecimal():
        raise OptionError(f"{where}: Parameter 'sock_fd' expects a number")


def _one_of(where: str, values: dict[str, str], key: str, known: tuple[str, ...]) -> None:
    """One line, where QEMU prints two."""
    value = values.get(key)
    if value not in known:
        what = f"{key} property not set" if value is None else f"invalid {key} property '{value}'"
        raise OptionError(f"{where}: {what} (valid options are: {'|'.join(known)})")


def file_mode(text: str) -> int:
    """Permissions, octal behind a leading 0 as in C."""
    octal = text.startswith("0") and text.isdecimal()
    return int(text, 8 if octal else 0) & 0o777
