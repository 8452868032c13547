"""VNC in the human monitor: `info vnc`, and the commands that set its password."""

from __future__ import annotations

from typing import Any, Final

from pytcg.monitor.command import CommandError
from pytcg.monitor.human.table import HumanCommand, Shell, UsageError
from pytcg.monitor.vnc import NOT_SET

NO_PASSWORDS: Final = ("If you want use passwords please enable password auth using"
                       " '-vnc ${dpy},password'.\n")  # fmt: skip


def show(shell: Shell, words: list[str]) -> str:
    """info vnc."""
    del words
    servers = shell.qmp("query-vnc-servers")
    return "".join(map(_server, servers)) or "None\n"


def _server(row: dict[str, Any]) -> str:
    lines = [f"{row['id']}:\n"]
    for place in row["server"]:
        lines += [_place("Server", place), _auth(place["auth"], place.get("vencrypt"), "    ")]
    for place in row["clients"]:
        lines += [_place("Client", place),
                  f"    x509_dname: {place.get('x509_dname', 'none')}\n",
                  f"    sasl_username: {place.get('sasl_username', 'none')}\n"]  # fmt: skip
    if not row["server"]:
        lines.append(_auth(row["auth"], row.get("vencrypt"), "  "))
    return "".join(lines)


def _place(what: str, place: dict[str, Any]) -> str:
    kind = place["family"] + (" (Websocket)" if place["websocket"] else "")
    return f"  {what}: {place['host']}:{place['service']} ({kind})\n"


def _auth(name: str, inner: str | None, indent: str) -> str:
    return f"{indent}Auth: {name} (Sub: {inner or 'none'})\n"


def _set(shell: Shell, command: str, **arguments: str) -> str:
    """Set a password; a hint where the server has none."""
    if arguments.get("protocol") not in (None, "vnc", "spice"):
        return f"Error: invalid parameter value: {arguments['protocol']}\n"
    try:
        shell.qmp(command, **arguments)
    except CommandError as error:
        servers = shell.machine.vnc
        open_door = servers and not servers[0].settings.password
        hint = NO_PASSWORDS if open_door and str(error) == NOT_SET else ""
        return f"{hint}Error: {error}\n"
    return ""


def _display(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The words without `-d DISPLAY`."""
    if "-d" not in words:
        return words, {}
    at = words.index("-d")
    if len(words) <= at + 1:
        raise UsageError("-d: display expected")
    return words[:at] + words[at + 2 :], {"display": words[at + 1]}


def set_password(shell: Shell, words: list[str]) -> str:
    """set_password."""
    words, display = _display(words)
    if len(words) < 2:
        raise UsageError("set_password: string expected")
    connected = {"connected": words[2]} if len(words) > 2 else {}
    return _set(shell, "set_password", protocol=words[0], password=words[1], **connected,
                **display)  # fmt: skip


def expire_password(shell: Shell, words: list[str]) -> str:
    """expire_password."""
    words, display = _display(words)
    if len(words) < 2:
        raise UsageError("expire_password: string expected")
    shell.qmp("expire_password", protocol=words[0], time=words[1], **display)
    return ""


def change(shell: Shell, words: list[str]) -> str:
    """change vnc password NEW."""
    if len(words) < 2:
        raise UsageError("change: filename expected")
    if words[1] not in ("passwd", "password"):
        return "Error: Parameter 'target' expects 'password'\n"
    if len(words) < 3:
        raise UsageError("change: password expected")
    return _set(shell, "change-vnc-password", password=words[2])


COMMANDS: Final = (
    HumanCommand("set_password", "protocol password [-d display] [action-if-connected]",
                 "set spice/vnc password", set_password, 2, 5),
    HumanCommand("expire_password", "protocol time [-d display]",
                 "set spice/vnc password expire-time", expire_password, 2, 4),
)  # fmt: skip

SUBJECTS: Final = (HumanCommand("vnc", "", "show the vnc server status", show),)
