"""pytcg-io's `reopen`: which options may change, and what becomes of those given before."""

from __future__ import annotations

from dataclasses import replace

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.options import parse_bool
from pytcg.cli.io.session import (
    TOOL,
    LoudError,
    Session,
    ShowUsage,
    check_cache,
    options_of,
    read_arguments,
)
from pytcg.cli.io.table import ANY, command

_SWITCHES = ("read-only", "cache.no-flush", "cache.direct", "auto-read-only")
_CACHE_SIZES = ("cache-size", "l2-cache-size", "refcount-cache-size")


@command("[(-r|-w)] [-c cache] [-o options]", "reopens an image with new options", most=ANY)
def reopen(session: Session, words: list[str]) -> None:
    """Open the image again, read-only (-r), for writing (-w), with a cache mode (-c) or with
    driver options (-o)."""
    arguments = read_arguments("reopen", words, "c:o:rw")
    flags = arguments.flags
    if {"r", "w"} <= flags:
        raise LoudError(f"{TOOL}: Only one -r/-w option may be given")
    if arguments.rest:
        raise ShowUsage
    settings = replace(session.settings)
    if "c" in flags:
        settings.cache = check_cache(arguments.values["c"])
    if flags & {"r", "w"}:
        settings.read_only = "r" in flags
        settings.extra = {**settings.extra}
        settings.extra.pop("read-only", None)
    given = options_of(arguments.values["o"]) if "o" in flags else {}
    _check_given(given, session, flags)
    settings.extra = _joined(given, settings.extra)
    session.reopen(settings)


def _check_given(given: dict[str, str], session: Session, flags: set[str]) -> None:
    """Refuse what can't be changed or contradicts the other flags."""
    if "read-only" in given and flags & {"r", "w"}:
        raise LoudError(f"{TOOL}: Cannot set both -r/-w and 'read-only'")
    if "c" in flags and given.keys() & {"cache.direct", "cache.no-flush"}:
        raise LoudError(f"{TOOL}: Cannot set both -c and the cache options")
    for name, value in given.items():
        if name in _SWITCHES:
            try:
                parse_bool(name, value)
            except BlockError as error:
                raise LoudError(f"{TOOL}: {error}") from None
        if not _is_unchanged(name, value, session):
            raise LoudError(f"{TOOL}: Cannot change the option '{name.rpartition('.')[2]}'")


def _is_unchanged(name: str, value: str, session: Session) -> bool:
    """Whether an option that is fixed once a node is open has its old value; True for others."""
    *path, last = name.split(".")
    if last == "node-name":
        return session.settings.extra.get(name) == value
    if last != "driver":
        return True
    node: BlockDevice | None = session.disk
    for step in path:
        node = getattr(node, step, None) if step in ("file", "backing") else None
    return node is not None and node.format_name == value


def _joined(given: dict[str, str], before: dict[str, str]) -> dict[str, str]:
    """New options over the old ones; qcow2's groups replace what they stand for."""
    kept = dict(before)
    if given.keys() & {"overlap-check", "overlap-check.template"}:
        kept = {name: value for name, value in kept.items()
                if not name.startswith("overlap-check")}
    if "cache-size" in given:
        kept = {name: value for name, value in kept.items() if name not in _CACHE_SIZES}
    elif given.keys() & set(_CACHE_SIZES):
        kept.pop("cache-size", None)
    return {**kept, **given}
