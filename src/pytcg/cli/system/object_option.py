"""-object: memory backends, secrets, TLS credentials."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from pytcg.cli.system.option_values import OptionError, listing, only, parse_size, properties

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options
    from pytcg.machine.memory_backend import MemoryBackend


class Kind(NamedTuple):
    """A row: what it is, its properties, and those it must have."""

    help: str
    known: tuple[str, ...]
    needed: tuple[str, ...] = ()


_MEMORY: Final = ("size", "share", "prealloc", "dump", "merge", "discard-data")
KINDS: Final = {
    "memory-backend-file": Kind("a file: mem-path, size, share", (*_MEMORY, "mem-path"),
                                ("size", "mem-path")),
    "memory-backend-memfd": Kind("memory without a file: size, share", _MEMORY, ("size",)),
    "secret": Kind("a password: data or file, format", ("data", "file", "format")),
    "tls-creds-anon": Kind("TLS without certificates: endpoint", ()),
    "tls-creds-psk": Kind("TLS with keys that both know: dir, endpoint, username", ()),
    "tls-creds-x509": Kind("TLS with certificates: dir, endpoint, verify-peer", ()),
}  # fmt: skip


def set_object(options: Options, text: str) -> None:
    """-object KIND,id=NAME,…; OptionError."""
    values = properties(text, "qom-type")
    kind = values.get("qom-type", "")
    if kind in ("help", "?"):
        raise listing("List of user creatable objects:",
                      {name: row.help for name, row in KINDS.items()})  # fmt: skip
    if kind not in KINDS:
        raise OptionError(f"-object {text}: invalid object type: {kind}")
    if kind.startswith("tls-creds"):
        _add_credentials(text)
        return
    only("-object", values, ["qom-type", "id", *KINDS[kind].known])
    for name in ("id", *KINDS[kind].needed):
        if not values.get(name):
            raise OptionError(f"-object {text}: Parameter '{name}' is missing")
    if any(other["id"] == values["id"] for other in options.objects):
        raise OptionError(f"-object {text}: attempt to add duplicate property '{values['id']}'")
    if kind == "secret":
        _check_secret(text, values)
    else:
        _check_memory(text, values)
    options.objects.append(values)


def _add_credentials(text: str) -> None:
    """Into the table that all users of TLS look into."""
    from pytcg.block.device import BlockError
    from pytcg.tls.credentials import TlsError, add_object

    try:
        add_object(text)
    except (TlsError, BlockError) as error:
        raise OptionError(f"-object {text}: {error}") from None


def _check_memory(text: str, values: dict[str, str]) -> None:
    values["size"] = str(parse_size(values["size"], unit="b"))
    shared = "on" if values["qom-type"].endswith("memfd") else "off"
    if values.setdefault("share", shared) not in ("on", "off"):
        raise OptionError(f"-object {text}: Parameter 'share' expects 'on' or 'off'")


def _check_secret(text: str, values: dict[str, str]) -> None:
    form = values.setdefault("format", "raw")
    if form not in ("raw", "base64"):
        raise OptionError(f"-object {text}: Parameter 'format' does not accept value '{form}'")
    if "data" in values and "file" in values:
        raise OptionError("'file' and 'data' are mutually exclusive")
    if "data" not in values and "file" not in values:
        raise OptionError("Either 'file' or 'data' must be provided")


def read_secret(options: Options, ident: str) -> bytes:
    """What a secret holds; OptionError."""
    values = next((each for each in options.objects
                   if each["id"] == ident and each["qom-type"] == "secret"), None)  # fmt: skip
    if values is None:
        raise OptionError(f"No secret with id '{ident}'")
    try:
        if "file" in values:
            with open(values["file"], "rb") as file:
                data = file.read()
        else:
            data = values["data"].encode()
    except OSError as error:
        raise OptionError(f"Unable to read {values['file']}: {error.strerror}") from None
    if values["format"] == "raw":
        return data
    from base64 import b64decode

    try:
        return b64decode(b"".join(data.split()), validate=True)
    except ValueError:
        raise OptionError("Base64 data contains invalid characters") from None


def open_objects(options: Options, stack: ExitStack) -> dict[str, MemoryBackend]:
    """The memory backends by id; BackendError."""
    backends = [each for each in options.objects if each["qom-type"].startswith("memory")]
    if not backends:
        return {}
    import os

    from pytcg.machine.memory_backend import open_file, open_memfd

    found = {}
    for values in backends:
        name, size, share = values["id"], int(values["size"]), values["share"] == "on"
        if values["qom-type"] == "memory-backend-file":
            made = open_file(name, values["mem-path"], size, share=share)
        else:
            made = open_memfd(name, size, share=share)
        stack.callback(os.close, made.fd)
        found[name] = made
    return found
