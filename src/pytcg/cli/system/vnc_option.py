"""-vnc: QEMU's grammar of it, and its words for what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytcg.cli.system.option_values import Information, OptionError, Options
from pytcg.ui.vnc.settings import CONNECTIONS, KEY_DELAY_MS, Share, VncSettings

_BOOLEANS: Final = ("ipv4", "ipv6", "password", "lossy", "non-adaptive", "lock-key-sync",
                    "page", "power-control", "reverse", "sasl")  # fmt: skip
_NUMBERS: Final = ("to", "connections", "key-delay-ms", "head")
_STRINGS: Final = ("vnc", "id", "share", "password-secret", "tls-authz", "tls-creds",
                   "websocket", "audiodev")  # fmt: skip
_SWITCHES: Final = {"on": True, "off": False, "yes": True, "no": False, "true": True,
                    "false": False, "y": True, "n": False}  # fmt: skip
_ABSENT: Final = ("power-control", "reverse", "sasl")


@dataclass(frozen=True)
class VncOption:
    """A -vnc: as it was written, what it asks for, and the objects it names."""

    text: str
    settings: VncSettings
    secret: str | None = None
    tls_creds: str | None = None


def set_vnc(options: Options, text: str) -> None:
    """[HOST]:DISPLAY, unix:PATH or `none`, and how it is served; OptionError."""
    if text in ("help", "?"):
        rows = sorted([*(f"  {name}=<bool (on/off)>\n" for name in _BOOLEANS),
                       *(f"  {name}=<num>\n" for name in _NUMBERS),
                       *(f"  {name}=<str>\n" for name in _STRINGS)])  # fmt: skip
        raise Information("vnc options:\n" + "".join(rows))
    try:
        made = parse_vnc(text, f"vnc{len(options.vnc) + 1}" if options.vnc else "default")
    except OptionError as error:
        raise OptionError(f"-vnc {text}: {error}") from None
    if any(each.settings.ident == made.settings.ident for each in options.vnc):
        raise OptionError(f"-vnc {text}: Duplicate ID '{made.settings.ident}' for vnc")
    options.vnc.append(made)


def parse_vnc(text: str, ident: str) -> VncOption:
    """The option, whose id is that unless it has one; OptionError."""
    values = _checked(text)
    address = values.get("vnc", "none") or "none"
    if address != "none" and ":" not in address:
        raise OptionError("no vnc port specified")
    on: dict[str, bool] = {name: _SWITCHES[values[name]] for name in _BOOLEANS if name in values}
    for name in _ABSENT:
        if on.get(name):
            raise OptionError(f"'{name}' is not there")
    if on.get("password") and "password-secret" in values:
        raise OptionError("'password' flag is redundant with 'password-secret'")
    settings = VncSettings(
        address, values.get("id", ident), int(values["to"]) if "to" in values else None,
        _families(on), _share(values.get("share", Share.ALLOW_EXCLUSIVE.value)),
        int(values.get("connections", CONNECTIONS)),
        bool(on.get("password")) or "password-secret" in values,
        values.get("websocket"), on.get("page", True),
        int(values.get("key-delay-ms", KEY_DELAY_MS)) / 1000,
    )  # fmt: skip
    if "tls-authz" in values:
        raise OptionError("'tls-authz' is not there" if "tls-creds" in values
                          else "'tls-authz' provided but TLS is not enabled")
    return VncOption(text, settings, values.get("password-secret"), values.get("tls-creds"))


def _checked(text: str) -> dict[str, str]:
    """The words by their names, of the kinds they have to be."""
    from pytcg.chardev.spec import split_options

    values: dict[str, str] = {}
    for index, part in enumerate(split_options(text)):
        name, equals, value = part.partition("=")
        if not equals:
            name, value = ("vnc", part) if index == 0 else (part, "on")
        if name in _BOOLEANS and value not in _SWITCHES:
            raise OptionError(f"Parameter '{name}' expects 'on' or 'off'")
        if name in _NUMBERS and not (value.isascii() and value.isdecimal()):
            raise OptionError(f"Parameter '{name}' expects a number")
        if name not in (*_BOOLEANS, *_NUMBERS, *_STRINGS):
            raise OptionError(f"Invalid parameter '{name}'")
        values[name] = value
    return values


def _families(on: dict[str, bool]) -> tuple[bool, bool]:
    """Whether IPv4 and IPv6 are meant: one that is on leaves the other out unless it is on too."""
    ipv4, ipv6 = on.get("ipv4"), on.get("ipv6")
    return (ipv4 if ipv4 is not None else not ipv6), (ipv6 if ipv6 is not None else not ipv4)


def _share(word: str) -> Share:
    try:
        return Share(word)
    except ValueError:
        raise OptionError("unknown vnc share= option") from None
