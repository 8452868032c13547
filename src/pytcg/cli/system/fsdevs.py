"""Folders of the command line, opened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from pytcg.cli.system.fsdev_options import file_mode
from pytcg.cli.system.messages import complain

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options
    from pytcg.machine.loop import MainLoop
    from pytcg.ninep.backend import Backend
    from pytcg.ninep.local.model import Passthrough
    from pytcg.ninep.service import Service
    from pytcg.ninep.session import Admit


def open_fsdevs(options: Options, loop: MainLoop, stack: ExitStack
                ) -> dict[str, Callable[[], Service]]:  # fmt: skip
    """What makes a server of each, by id; FsdevError."""
    if not options.fsdevs:
        return {}
    from pytcg.machine.fsdev import Fsdev, FsdevError

    found: dict[str, Callable[[], Service]] = {}
    for values in options.fsdevs:
        name = values["id"]
        try:
            multidevs = values.get("multidevs", "warn")
            fsdev = Fsdev(name, _open(values), multidevs, _throttle(values),
                          waits=values["fsdriver"] == "proxy" or _writes_out(values))
        except OSError as error:
            raise FsdevError(f"cannot initialize fsdev '{name}': {error}") from error
        found[name] = partial(fsdev.serve, loop.lock, loop.fail, stack, complain)
    return found


def _open(values: dict[str, str]) -> Backend:
    read_only = values["readonly"] == "on"
    if values["fsdriver"] == "synth":
        from pytcg.ninep.synth import SynthFolder

        return SynthFolder(read_only=read_only)
    if values["fsdriver"] == "proxy":
        return _open_proxy(values, read_only=read_only)
    return _open_local(values, read_only=read_only)


def _open_proxy(values: dict[str, str], *, read_only: bool) -> Backend:
    import socket

    from pytcg.ninep.proxy.folder import ProxyFolder, connect

    path = values.get("socket")
    try:
        connection = connect(path) if path else socket.socket(fileno=int(values["sock_fd"]))
    except (OSError, OverflowError) as error:
        text = getattr(error, "strerror", None) or error
        raise OSError(f"failed to connect to '{path or values['sock_fd']}': {text}") from error
    return ProxyFolder(connection, read_only=read_only,
                       write_out=_writes_out(values))  # fmt: skip


def _writes_out(values: dict[str, str]) -> bool:
    return values.get("writeout") == "immediate"


def _throttle(values: dict[str, str]) -> Admit | None:
    """Of the properties `throttling.…`."""
    prefix = "throttling."
    given = {key.removeprefix(prefix): text for key, text in values.items()
             if key.startswith(prefix)}  # fmt: skip
    if not given:
        return None
    from pytcg.block.filters.throttle import Limits, ThrottleGroup
    from pytcg.block.options import parse_size

    try:
        numbers = {key: parse_size(text) for key, text in given.items()}
    except ValueError as error:
        raise OSError(f"throttling: {error}") from error
    return ThrottleGroup(Limits.parse(numbers)).admit


def _open_local(values: dict[str, str], *, read_only: bool) -> Backend:
    from pytcg.ninep.local.beneath import Root
    from pytcg.ninep.local.folder import LocalFolder

    path, model = values["path"], values["security_model"]
    try:
        root = Root(path)
    except OSError as error:
        raise OSError(f"failed to open '{path}': {error.strerror}") from error
    return LocalFolder(root, _model(model, values), read_only=read_only,
                       write_out=_writes_out(values))  # fmt: skip


def _model(name: str, values: dict[str, str]) -> Passthrough:
    from pytcg.ninep.local.mapped import MappedFile, MappedXattr
    from pytcg.ninep.local.model import Passthrough

    if name in ("none", "passthrough"):
        return Passthrough(strict=name == "passthrough")
    modes = file_mode(values["fmode"]), file_mode(values["dmode"])
    return MappedXattr(*modes) if name == "mapped-xattr" else MappedFile(*modes)
