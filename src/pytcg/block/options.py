"""Image names and options: ``json:{...}``, ``key=value,...``, protocol prefixes, sizes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping

from pytcg.block.device import BlockError
from pytcg.typed import Any

Options = dict[str, Any]  # nested: {"driver": "qcow2", "file": {"driver": "file", ...}}

LEAVES = ("file", "host_device", "host_cdrom", "nbd", "null-co", "null-aio")
FILTERS = {"blkdebug": "image", "compress": "file", "copy-on-read": "file",
           "throttle": "file"}  # and the node below
NBD_PROTOCOLS = ("nbd", "nbd+tcp", "nbd+unix", "nbds", "nbds+tcp", "nbds+unix")
_SUFFIXES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50,
             "e": 1 << 60}
_DIGITS = "0123456789"
_HEX_DIGITS = _DIGITS + "abcdefABCDEF"


def _bad(message: str) -> BlockError:
    return BlockError(message, errno.EINVAL)


SIZE_HINT = ("\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
             "and exabytes, respectively.")


def parse_size(text: str, *, unit: str = "b") -> int:
    """Bytes of ``64``, ``1k``, ``1.5G``, ``0x10``; ValueError if it is none of these.

    The value is not bounded: what is too large for its use has its own message there.
    """
    text = text.lstrip(" \t\n\v\f\r").removeprefix("+")
    hexadecimal = text[:2].lower() == "0x"
    whole, rest = _leading(text[2:] if hexadecimal else text,
                           _HEX_DIGITS if hexadecimal else _DIGITS)
    value, fraction = int(whole, 16 if hexadecimal else 10), ""
    if rest.startswith(".") and not hexadecimal:
        rest = rest[1:]
        if rest[:1].isdigit():
            fraction, rest = _leading(rest, _DIGITS)
    if len(rest) > 1 or (rest and rest.lower() not in _SUFFIXES):
        raise ValueError(f"not a size: {text!r}")
    factor = _SUFFIXES[rest.lower() or unit]
    if not fraction.strip("0"):
        return value * factor
    if factor == 1:
        raise ValueError("a fraction of a byte")
    scale: int = 10 ** len(fraction)
    return value * factor + (2 * int(fraction) * factor + scale) // (2 * scale)


def _leading(text: str, digits: str) -> tuple[str, str]:
    """The digits that ``text`` begins with, at least one, and what follows."""
    rest = text.lstrip(digits)
    if rest == text:
        raise ValueError(f"no digits: {text!r}")
    return text[: len(text) - len(rest)], rest


def parse_bool(name: str, value: object) -> bool:
    """on/off/true/false/yes/no as QEMU takes them."""
    if isinstance(value, bool):
        return value
    if value in ("on", "yes", "true", "y"):
        return True
    if value in ("off", "no", "false", "n"):
        return False
    raise _bad(f"Parameter '{name}' expects 'on' or 'off'")


def split_commas(text: str) -> Iterator[str]:
    """The pieces between single commas; a doubled comma stands for itself."""
    piece = ""
    for part in _comma_parts(text):
        if part is None:
            yield piece
            piece = ""
        else:
            piece += part
    yield piece


def _comma_parts(text: str) -> Iterator[str | None]:
    position = 0
    while (comma := text.find(",", position)) >= 0:
        yield text[position:comma]
        if text.startswith(",,", comma):
            yield ","
            position = comma + 2
        else:
            yield None
            position = comma + 1
    yield text[position:]


def parse_keyval(text: str, *, implied: str | None = None) -> dict[str, str]:
    """``a=1,b=2`` to a flat dict; a first bare value goes to ``implied``, a later one is "on"."""
    result: dict[str, str] = {}
    for index, piece in enumerate(split_commas(text)):
        if not piece:
            continue
        key, equals, value = piece.partition("=")
        if equals:
            result[key] = value
        elif index == 0 and implied is not None:
            result[implied] = key
        elif key.startswith("no") and len(key) > 2 and not key.startswith("node"):
            result[key[2:]] = "off"
        else:
            result[key] = "on"
    return result


def unflatten(flat: Mapping[str, Any]) -> Options:
    """``{"file.driver": "file"}`` to ``{"file": {"driver": "file"}}``, through nested values."""
    result: Options = {}
    for key, value in flat.items():
        if isinstance(value, Mapping):
            value = unflatten(value)
            if not value:  # a group without options is as good as none
                continue
        *path, last = key.split(".")
        level = result
        for step in path:
            below = level.setdefault(step, {})
            if step == "overlap-check" and isinstance(below, str):
                below = level[step] = {"": below}
            if not isinstance(below, dict):
                raise _bad(f"Cannot mix '{step}' as a value and as a group of options")
            level = below
        if isinstance(value, dict) and isinstance(level.get(last), dict):
            level[last].update(value)
        elif last == "overlap-check" and isinstance(level.get(last), dict):
            level[last][""] = value  # the one name of a value and of a group
        else:
            level[last] = value
    return result


def parse_json_name(filename: str) -> Options:
    """The options behind a ``json:`` name."""
    from pytcg.block.json_name import parse_json_text

    try:
        value = parse_json_text(filename[len("json:") :])
    except (ValueError, RecursionError) as error:
        raise _bad(f"Could not parse the JSON options: {error}") from None
    if not isinstance(value, dict):
        raise _bad("Invalid JSON object given")
    return unflatten(value)


def protocol_of(filename: str) -> str | None:
    """``nbd`` of ``nbd:...``; None for a plain path (no colon before the first slash)."""
    head, colon, _ = filename.partition(":")
    if not colon or "/" in head or not head:
        return None
    return head


def path_of(filename: str) -> str:
    """The path of a ``file:`` name, such that it is not taken for another protocol's name."""
    path = filename[len("file:") :]
    return path if protocol_of(path) is None else f"./{path}"


def parse_name(filename: str) -> Options:
    """Options for what a user typed as an image name (without the format)."""
    if filename.startswith("json:"):
        return parse_json_name(filename)
    protocol = protocol_of(filename)
    if protocol is None:  # a file or a device
        return {"file": {"filename": filename}}
    if protocol == "file":
        return {"file": {"filename": path_of(filename)}}
    if protocol in NBD_PROTOCOLS:
        return {"file": {"driver": "nbd", "filename": filename}}
    if protocol == "blkdebug":
        return {"file": _parse_blkdebug(filename[len("blkdebug:") :])}
    if filename in ("null-co://", "null-aio://"):
        return {"file": {"driver": protocol}}
    raise BlockError(f"Unknown protocol '{protocol}'", errno.ENOENT)


def _parse_blkdebug(rest: str) -> Options:
    config, colon, image = rest.partition(":")
    if not colon:
        raise _bad("blkdebug requires both config file and image path")
    below = {"driver": "blkdebug", "image": parse_name(image).get("file")}
    return {**below, "config": config} if config else below


def merge(over: Options, under: Options) -> Options:
    """Both sets of options; where they differ, those of ``over``."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        result[key] = merge(value, below) if both and below else value
    return result


def place_filename(options: Options, name: str, *, protocol: bool = False) -> Options:
    """Options with the name that was given beside them, which belongs to the lowest node.

    ``protocol``: these are the options of a format's file, where no format is guessed.
    """
    if name.startswith("json:"):
        return merge(options, parse_json_name(name))
    driver = options.get("driver")
    if driver in LEAVES:
        named = parse_name(name)["file"]
        fits = named.get("driver", driver) == driver
        return merge(options, named if fits else {"filename": name})
    if driver is None and protocol:
        return merge(options, parse_name(name)["file"])
    child = FILTERS.get(str(driver), "file")
    below = options.get(child, {})
    if not isinstance(below, dict):
        return options
    at_protocol = protocol if driver in FILTERS else True
    return {**options, child: place_filename(below, name, protocol=at_protocol)}


def resolve_backing(overlay: str, backing: str) -> str:
    """A backing file's name as seen from here: relative names are beside the overlay."""
    if overlay.startswith("json:") or protocol_of(overlay) not in (None, "file"):
        if protocol_of(backing) is None and not os.path.isabs(backing):
            raise _bad("Cannot use relative backing file names for "
                       f"'{overlay}'")
        return backing
    if protocol_of(backing) is not None or os.path.isabs(backing):
        return backing
    overlay = overlay.removeprefix("file:")
    directory = overlay.rpartition("/")
    return directory[0] + directory[1] + backing
