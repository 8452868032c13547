"""The VNC servers of the command line."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytcg.cli.system.messages import complain
from pytcg.cli.system.object_option import read_secret
from pytcg.cli.system.option_values import OptionError
from pytcg.tls.credentials import find_object
from pytcg.tls.errors import TlsError
from pytcg.ui.vnc.address import VncError
from pytcg.ui.vnc.server import VncServer

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options
    from pytcg.cli.system.vnc_option import VncOption
    from pytcg.machine.loop import MainLoop
    from pytcg.machine.runner import Runner
    from pytcg.ui.console import Console


def serve_vnc(options: Options, console: Console | None, loop: MainLoop, runner: Runner,
              stack: ExitStack) -> list[VncServer]:  # fmt: skip
    """All of them, listening; OptionError."""
    made = []
    for option in options.vnc:
        if console is None:
            if option.settings.address == "none":
                continue
            raise OptionError("-vnc: there is no display card (-vga none)")
        server = VncServer(loop.asyncio, console, options.name or "pytcg", option.settings,
                           runner.tell, complain)  # fmt: skip
        stack.callback(server.close)
        try:
            _open(server, option, options)
        except (VncError, OptionError, TlsError) as error:
            raise OptionError(f"-vnc {option.text}: {error}") from None
        made.append(server)
    return made


def _open(server: VncServer, option: VncOption, options: Options) -> None:
    if option.secret is not None:
        server.guard.password.set(read_secret(options, option.secret))
    if option.tls_creds is not None:
        credentials = find_object(option.tls_creds)
        if credentials.kind == "tls-creds-psk":
            raise OptionError(f"Expecting x509 TLS credentials, not '{credentials.kind}'")
        server.guard.tls = credentials.server_context()
        server.guard.anonymous = credentials.kind == "tls-creds-anon"
    server.listen()
    if option.settings.to is not None:
        row = server.servers()[0]
        print(f"VNC server running on {row['host']}:{row['service']}", flush=True)
