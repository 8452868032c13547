"""Objects beside the machine: `-object` and `object-add` make them, devices name them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pytcg.block.filters.throttle import Limits, ThrottleGroup
    from pytcg.chardev.base import Context

Values = dict[str, str]


class ObjectError(Exception):
    """An object that can't be made or go; the text says why."""


class Kind(NamedTuple):
    """A row: what it is, its properties, and those it must have."""

    help: str
    known: tuple[str, ...]
    needed: tuple[str, ...] = ()


_MEMORY: Final = ("size", "share", "prealloc", "dump", "merge", "discard-data", "reserve")
_TLS: Final = ("dir", "endpoint", "verify-peer")
KINDS: Final = {
    "iothread": Kind("accepted: a disk's requests have threads of their own anyway",
                     ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch",
                      "thread-pool-min", "thread-pool-max")),
    "memory-backend-file": Kind("a file: mem-path, size, share", (*_MEMORY, "mem-path"),
                                ("size", "mem-path")),
    "memory-backend-memfd": Kind("memory without a file: size, share", _MEMORY, ("size",)),
    "memory-backend-ram": Kind("memory of this machine's own: size", _MEMORY, ("size",)),
    "rng-builtin": Kind("entropy: the host's generator", ()),
    "rng-random": Kind("entropy from a file: filename", ("filename",)),
    "secret": Kind("a password: data or file, format", ("data", "file", "format")),
    "throttle-group": Kind("limits that disks keep together: x-bps-total, x-iops-read-max, ...",
                           ("x-iops-size", "limits.iops-size", *(
                               f"{prefix}{unit}-{way}{burst}" for prefix in ("x-", "limits.")
                               for unit in ("bps", "iops") for way in ("total", "read", "write")
                               for burst in ("", "-max", "-max-length")))),
    "tls-creds-anon": Kind("TLS without certificates: endpoint", _TLS),
    "tls-creds-psk": Kind("TLS with keys that both know: dir, endpoint, username",
                          (*_TLS, "username")),
    "tls-creds-x509": Kind("TLS with certificates: dir, endpoint, verify-peer", _TLS),
}  # fmt: skip
_NUMBERS: Final = {"poll-max-ns": "32768"} | dict.fromkeys(
    ("poll-grow", "poll-shrink", "aio-max-batch"), "0")


def check(values: Values) -> None:
    """Whether an object can be made of these; fills in what is the usual. ObjectError."""
    kind = values.get("qom-type", "")
    if kind not in KINDS:
        raise ObjectError(f"Parameter 'qom-type' does not accept value '{kind}'")
    row = KINDS[kind]
    for name in ("id", *row.needed):
        if not values.get(name):
            raise ObjectError(f"Parameter '{name}' is missing")
    if not kind.startswith("tls-creds"):  # which say themselves what they don't support
        for name in values:
            if name not in ("qom-type", "id", *row.known):
                raise ObjectError(f"Parameter '{name}' is unexpected")
    if kind.startswith("memory"):
        _check_memory(kind, values)
    elif kind == "secret":
        _check_secret(values)
    elif kind == "iothread":
        _check_numbers(values)


def _check_memory(kind: str, values: Values) -> None:
    from pytcg.block.options import parse_size

    try:
        size = parse_size(values["size"])
    except ValueError:
        raise ObjectError("Parameter 'size' expects a size") from None
    if size <= 0:
        raise ObjectError("property 'size' of " + kind + " doesn't take value '0'")
    values["size"] = str(size)
    if values.setdefault("share", "on" if kind.endswith("memfd") else "off") not in ("on", "off"):
        raise ObjectError("Parameter 'share' expects 'on' or 'off'")


def _check_secret(values: Values) -> None:
    form = values.setdefault("format", "raw")
    if form not in ("raw", "base64"):
        raise ObjectError(f"Parameter 'format' does not accept value '{form}'")
    if "data" in values and "file" in values:
        raise ObjectError("'file' and 'data' are mutually exclusive")
    if "data" not in values and "file" not in values:
        raise ObjectError("Either 'file' or 'data' must be provided")


def _check_numbers(values: Values) -> None:
    for name in KINDS["iothread"].known:
        if not values.get(name, "0").isdecimal():
            raise ObjectError(f"Parameter '{name}' expects an integer")


@dataclass(eq=False)
class UserObject:
    """One: its properties as text, and what devices get of it."""

    values: Values
    thing: object
    close: Callable[[], object]
    users: int = 0
    deleted: bool = False

    def release(self) -> None:
        """One device less has it."""
        self.users -= 1
        if self.deleted and not self.users:
            self.close()

    @property
    def kind(self) -> str:
        """A key of `KINDS`."""
        return self.values["qom-type"]


class Objects:
    """All of them by id. `close` gives back what they hold."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._by_id: dict[str, UserObject] = {}
        self.groups: dict[str, ThrottleGroup] = {}

    def create(self, values: Values) -> None:
        """Make one; ObjectError, BackendError, TlsError, BlockError."""
        check(values)
        name = values["id"]
        if name in self._by_id:
            raise ObjectError(f"attempt to add duplicate property '{name}' to object (type"
                              " 'container')")  # fmt: skip
        thing, close = self._make(values)
        self._by_id[name] = UserObject(values, thing, close)

    def _make(self, values: Values) -> tuple[object, Callable[[], object]]:
        kind, name = values["qom-type"], values["id"]
        if kind.startswith("memory"):
            from pytcg.machine.memory_backend import open_backend

            backend = open_backend(kind, values)
            return backend, lambda: os.close(backend.fd)
        if kind.startswith("rng"):
            from pytcg.machine.entropy import FileEntropy, HostEntropy

            if kind == "rng-builtin":
                return HostEntropy(), _nothing
            path = values.setdefault("filename", "/dev/urandom")
            try:
                source = FileEntropy(path, self._context)
            except OSError as error:
                raise ObjectError(f"Could not open '{path}': {error.strerror}") from error
            return source, source.close
        if kind.startswith("tls-creds"):
            from pytcg.tls.credentials import add_object, remove_object

            text = ",".join(f"{key}={value.replace(',', ',,')}" for key, value in values.items())
            add_object(text)
            return None, lambda: remove_object(name)
        if kind == "throttle-group":
            from pytcg.block.filters.throttle import ThrottleGroup

            group = self.groups[name] = ThrottleGroup(limits_of(values))
            return group, lambda: self.groups.pop(name, None)
        if kind == "secret":
            read_secret(values)
        return None, _nothing

    def delete(self, name: str) -> None:
        """Undo `create`; a device that has it keeps it. ObjectError."""
        if name not in self._by_id:
            raise ObjectError(f"object '{name}' not found")
        found = self._by_id[name]
        if found.users and found.kind.startswith("memory"):
            raise ObjectError(f"object '{name}' is in use, can not be deleted")
        del self._by_id[name]
        found.deleted = True
        if not found.users:
            found.close()

    def get(self, name: str) -> UserObject | None:
        """By id."""
        return self._by_id.get(name)

    def __iter__(self) -> Iterator[tuple[str, UserObject]]:
        return iter(self._by_id.items())

    def close(self) -> None:
        """The machine is no more."""
        for each in self._by_id.values():
            each.close()
        self._by_id.clear()


def limits_of(values: Mapping[str, str]) -> Limits:
    """A throttle group's; ObjectError, BlockError."""
    from pytcg.block.filters.throttle import Limits

    numbers = {}
    for name, text in values.items():
        if name in KINDS["throttle-group"].known:
            try:
                numbers[name.removeprefix("x-").removeprefix("limits.")] = int(text, 0)
            except ValueError:
                raise ObjectError(f"Parameter '{name}' expects an integer") from None
    return Limits.parse(numbers)


def read_secret(values: Mapping[str, str]) -> bytes:
    """What a secret holds; ObjectError."""
    try:
        if "file" in values:
            with open(values["file"], "rb") as file:
                data = file.read()
        else:
            data = values["data"].encode()
    except OSError as error:
        raise ObjectError(f"Unable to read {values['file']}: {error.strerror}") from None
    if values["format"] == "raw":
        return data
    from base64 import b64decode

    try:
        return b64decode(b"".join(data.split()), validate=True)
    except ValueError:
        raise ObjectError("Base64 data contains invalid characters") from None


def iothread_numbers(values: Mapping[str, str]) -> dict[str, int]:
    """What `query-iothreads` tells of one."""
    return {name: int(values.get(name, usual)) for name, usual in _NUMBERS.items()}


def _nothing() -> None:
    """There is nothing to give back."""
