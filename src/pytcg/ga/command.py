"""Commands: the table that modules add theirs to, argument checks, and the answer to a request."""

from __future__ import annotations

import binascii
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from pytcg.ga.wire import ParseError

if TYPE_CHECKING:
    from pytcg.ga.agent import Agent

WHILE_FROZEN = frozenset(("guest-ping", "guest-info", "guest-sync", "guest-sync-delimited",
                          "guest-fsfreeze-status", "guest-fsfreeze-thaw"))  # fmt: skip
MEMBERS = ("execute", "arguments", "id")
NAMES = {"int": "integer", "str": "string", "bool": "boolean"}


class CommandError(Exception):
    """A command failed; ``kind`` is the error's class."""

    def __init__(self, text: str, kind: str = "GenericError") -> None:
        super().__init__(text)
        self.kind = kind


def named(names: Iterable[str], values: Iterable[int]) -> dict[str, int]:
    """Names with their values, as many as there are of both."""
    return dict(zip(names, values))  # noqa: B905  `strict` needs a newer Python than guests have


def failed(what: str, error: OSError) -> CommandError:
    """What could not be done, and the system's reason."""
    return CommandError(f"{what}: {os.strerror(error.errno or 0)}")


class Command(NamedTuple):
    """``arguments`` maps names to types: int, str, bool, a list of one, a dict of members, or a
    tuple of alternatives; an optional one's name ends in `?`."""

    name: str
    run: Callable[..., Any]
    arguments: dict[str, Any]
    answers: bool  # else success is silent


COMMANDS: dict[str, Command] = {}


def command(name: str, arguments: dict[str, Any] | None = None, *, answers: bool = True
            ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # fmt: skip
    """Enter a function into the table; it is called with the agent and its arguments by name."""

    def enter(run: Callable[..., Any]) -> Callable[..., Any]:
        COMMANDS[name] = Command(name, run, arguments or {}, answers)
        return run

    return enter


def answer(agent: Agent, request: Any) -> dict[str, Any] | None:
    """The response to a request, with its id; None where success is silent."""
    identity = request.get("id", agent) if isinstance(request, dict) else agent
    try:
        found = look_up(agent, request)
        given = request.get("arguments", {})
        values = check_object(found.arguments, given, "")
        result = found.run(agent, **{key.replace("-", "_"): value for key, value in values.items()})
        if not found.answers:
            return None
        response = {"return": {} if result is None else result}
    except (CommandError, ParseError) as error:
        kind = getattr(error, "kind", "GenericError")
        response = {"error": {"class": kind, "desc": str(error)}}
    except OSError as error:
        response = {"error": {"class": "GenericError", "desc": f"{request['execute']}: {error}"}}
    return response if identity is agent else {**response, "id": identity}


def look_up(agent: Agent, request: Any) -> Command:
    """The command that a request names, if it may run now."""
    if isinstance(request, ParseError):
        raise request
    if not isinstance(request, dict):
        raise CommandError("QMP input must be a JSON object")
    for member in request:
        if member not in MEMBERS:
            raise CommandError(f"QMP input member '{member}' is unexpected")
    if "execute" not in request:
        raise CommandError("QMP input lacks member 'execute'")
    name = request["execute"]
    if not isinstance(name, str):
        raise CommandError("QMP input member 'execute' must be a string")
    if not isinstance(request.get("arguments", {}), dict):
        raise CommandError("QMP input member 'arguments' must be an object")
    found = COMMANDS.get(name)
    if found is None:
        raise CommandError(f"The command {name} has not been found", "CommandNotFound")
    if name in agent.blocked:
        raise CommandError(f"Command {name} has been disabled", "CommandNotFound")
    if agent.frozen and name not in WHILE_FROZEN:
        reason = "the agent is in frozen state"
        raise CommandError(f"Command {name} has been disabled: {reason}", "CommandNotFound")
    return found


def check_object(kinds: dict[str, Any], given: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The members, checked; CommandError names the one that is wrong."""
    values = {}
    for spelt, kind in kinds.items():
        name = spelt.rstrip("?")
        if name in given:
            values[name] = check(kind, given[name], prefix + name)
        elif not spelt.endswith("?"):
            raise CommandError(f"Parameter '{prefix}{name}' is missing")
    for name in given:
        if name not in values:
            raise CommandError(f"Parameter '{prefix}{name}' is unexpected")
    return values


def check(kind: Any, value: Any, name: str) -> Any:
    """A value of the kind, or CommandError."""
    if isinstance(kind, tuple):
        return _alternative(kind, value, name)
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise _wrong(name, "array")
        return [check(kind[0], item, f"{name}[{at}]") for at, item in enumerate(value)]
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            raise _wrong(name, "object")
        return check_object(kind, value, f"{name}.")
    is_kind = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not is_kind or (kind is int and not -1 << 63 <= value < 1 << 63):
        raise _wrong(name, NAMES[kind.__name__])
    return value


def _alternative(kinds: Iterable[type], value: Any, name: str) -> Any:
    for kind in kinds:
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
    raise _wrong(name, " or ".join(NAMES[kind.__name__] for kind in kinds))


def _wrong(name: str, expected: str) -> CommandError:
    return CommandError(f"Invalid parameter type for '{name}', expected: {expected}")


def from_base64(text: str) -> bytes:
    """The bytes; CommandError."""
    try:
        return binascii.a2b_base64(text.encode("ascii")) if _is_base64(text) else _bad_base64()
    except (ValueError, binascii.Error):
        return _bad_base64()


def _is_base64(text: str) -> bool:
    return all(char.isalnum() or char in "+/=\n" for char in text)


def _bad_base64() -> bytes:
    raise CommandError("Base64 data contains invalid characters")
