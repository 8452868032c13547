"""-object: memory backends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from pytcg.cli.system.option_values import OptionError, listing, only, parse_size, properties

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options
    from pytcg.machine.memory_backend import MemoryBackend

KINDS: Final = {"memory-backend-file": "a file: mem-path, size, share",
                "memory-backend-memfd": "memory without a file: size, share"}  # fmt: skip
_KNOWN: Final = ("id", "size", "share", "mem-path", "prealloc", "dump", "merge", "discard-data")


def set_object(options: Options, text: str) -> None:
    """-object KIND,id=NAME,…; OptionError."""
    values = properties(text, "qom-type")
    kind = values.get("qom-type", "")
    if kind in ("help", "?"):
        raise listing("List of user creatable objects:", KINDS)
    if kind not in KINDS:
        raise OptionError(f"-object {text}: invalid object type: {kind}")
    only("-object", values, ["qom-type", *_KNOWN])
    for name in ("id", "size", *(["mem-path"] if kind == "memory-backend-file" else [])):
        if not values.get(name):
            raise OptionError(f"-object {text}: Parameter '{name}' is missing")
    if any(other["id"] == values["id"] for other in options.objects):
        raise OptionError(f"-object {text}: attempt to add duplicate property '{values['id']}'")
    values["size"] = str(parse_size(values["size"], unit="b"))
    if values.setdefault("share", "on" if kind.endswith("memfd") else "off") not in ("on", "off"):
        raise OptionError(f"-object {text}: Parameter 'share' expects 'on' or 'off'")
    options.objects.append(values)


def open_objects(options: Options, stack: ExitStack) -> dict[str, MemoryBackend]:
    """The backends by id; BackendError."""
    if not options.objects:
        return {}
    import os

    from pytcg.machine.memory_backend import open_file, open_memfd

    found = {}
    for values in options.objects:
        name, size, share = values["id"], int(values["size"]), values["share"] == "on"
        if values["qom-type"] == "memory-backend-file":
            made = open_file(name, values["mem-path"], size, share=share)
        else:
            made = open_memfd(name, size, share=share)
        stack.callback(os.close, made.fd)
        found[name] = made
    return found
