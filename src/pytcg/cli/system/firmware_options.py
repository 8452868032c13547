"""Options about firmware and boot order: -bios, -L, -boot, -smbios, -uuid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytcg.cli.system.option_values import OptionError, properties

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options
    from pytcg.machine.boot_order import BootOptions

BOOT: Final = ("order", "once", "menu", "splash", "splash-time", "reboot-timeout", "strict")
SWITCHES: Final = {"on": True, "yes": True, "true": True, "y": True,
                   "off": False, "no": False, "false": False, "n": False}  # fmt: skip
LONGEST_MS: Final = 0xFFFF


def set_bios(options: Options, text: str) -> None:
    options.bios = text


def set_rom_folder(options: Options, text: str) -> None:
    options.rom_folders.append(text)


def set_pflash(options: Options, text: str) -> None:
    options.flashes.append({"file": text})


def set_boot(options: Options, text: str) -> None:
    for key, value in properties(text, "order").items():
        if key not in BOOT:
            raise OptionError(f"-boot {text}: invalid parameter '{key}'")
        options.boot[key] = value


def set_smbios(options: Options, text: str) -> None:
    values = properties(text, "file")
    if "file" in values:
        raise OptionError(f"-smbios {text}: binary tables are not supported, name a type")
    if not values.get("type", "").isdecimal():
        raise OptionError(f"-smbios {text}: which type=?")
    options.smbios.append((int(values.pop("type")), values))


def set_uuid(options: Options, text: str) -> None:
    options.smbios.append((1, {"uuid": text}))


def boot_options(values: dict[str, str]) -> BootOptions:
    """What `-boot` said; OptionError."""
    from pytcg.machine.boot_order import BootOptions, BootOrderError, cmos_order

    made = BootOptions(menu=_switch(values, "menu"), strict=_switch(values, "strict"))
    made.order = values.get("order", made.order)
    made.once = values.get("once")
    for letters in (made.order, made.once or ""):
        try:
            cmos_order(letters)
        except BootOrderError as error:
            raise OptionError(str(error)) from None
    made.splash_time = _milliseconds(values, "splash-time")
    made.reboot_timeout = _milliseconds(values, "reboot-timeout")
    if "splash" in values:
        made.splash = _picture(values["splash"])
    return made


def _switch(values: dict[str, str], key: str) -> bool:
    text = values.get(key, "off")
    if text not in SWITCHES:
        raise OptionError(f"-boot {key}={text}: expected 'on' or 'off'")
    return SWITCHES[text]


def _milliseconds(values: dict[str, str], key: str) -> int | None:
    text = values.get(key)
    if text is None or text == "-1":
        return None
    if not text.isdecimal() or int(text) > LONGEST_MS:
        raise OptionError(f"-boot {key}={text}: expected a number up to {LONGEST_MS}")
    return int(text)


def _picture(path: str) -> bytes:
    """The boot menu's picture: JPEG, or BMP."""
    try:
        with open(path, "rb") as file:
            data = file.read(16 << 20)
    except OSError as error:
        raise OptionError(f"could not open splash file '{path}': {error.strerror}") from error
    if not data.startswith((b"BM", b"\xff\xd8")):
        raise OptionError(f"splash file '{path}' is neither JPEG nor BMP")
    return data
