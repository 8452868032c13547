"""blkdebug's rules: which event injects which error, changes the state or stops a request.

They come from a file in the manner of git's configuration, with the sections ``[inject-error]``
and ``[set-state]``, or from options of these names (QEMU's docs/devel/blkdebug.rst).
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytcg.block.device import BlockError
from pytcg.block.options import parse_bool
from pytcg.typed import Any

_EVENT_NAMES = """
    l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update
    l2_update_compressed l2_alloc_cow_read l2_alloc_write read_aio read_backing_aio
    read_compressed write_aio write_compressed vmstate_load vmstate_save cow_read cow_write
    reftable_load reftable_grow reftable_update refblock_load refblock_update
    refblock_update_part refblock_alloc refblock_alloc_hookup refblock_alloc_write
    refblock_alloc_write_blocks refblock_alloc_write_table refblock_alloc_switch_table
    cluster_alloc cluster_alloc_bytes cluster_free flush_to_os flush_to_disk pwritev_rmw_head
    pwritev_rmw_after_head pwritev_rmw_tail pwritev_rmw_after_tail pwritev pwritev_zero
    pwritev_done empty_image_prepare l1_shrink_write_table l1_shrink_free_l2_clusters cor_write
    cluster_alloc_space none
"""
EVENTS = frozenset(_EVENT_NAMES.split())
IO_TYPES = ("read", "write", "write-zeroes", "discard", "flush", "block-status")
SECTOR = 512
_KEYS = {
    "inject-error": {"event", "state", "iotype", "errno", "sector", "once", "immediately"},
    "set-state": {"event", "state", "new_state"},
}
_HEADING = re.compile(r'\[([^\s"\]]+)(?:\s+"[^"]*")?\]\Z')
_SETTING = re.compile(r'(\S+)\s+=\s*"([^"]*)"')


@dataclass(eq=False)
class Rule:
    """What an event leads to, in one state or (0) in any."""

    event: str
    state: int = 0


@dataclass(eq=False)
class InjectError(Rule):
    """Requests of some types, maybe only those that touch an offset, fail from the event on."""

    error: int = errno.EIO
    iotypes: tuple[str, ...] = IO_TYPES[:-1]
    offset: int | None = None
    once: bool = False

    def hits(self, offset: int, length: int, iotype: str) -> bool:
        """Whether a request fails by this."""
        return iotype in self.iotypes and (
            self.offset is None or offset <= self.offset < offset + length)


@dataclass(eq=False)
class SetState(Rule):
    """The event leads to another state."""

    new_state: int = 0


@dataclass(eq=False)
class Suspend(Rule):
    """The event stops its request until it is resumed by the tag."""

    tag: str = ""


class Rules:
    """The rules of one node, its state, and the requests that wait in it."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules
        self._active: list[InjectError] = []
        self._state = 1
        self._suspended: list[Suspend] = []
        self._changed = threading.Condition()

    def event(self, event: str) -> None:
        """Act on an event; returns when no breakpoint holds it any more."""
        with self._changed:
            met = [rule for rule in self._rules
                   if rule.event == event and rule.state in (0, self._state)]
            if errors := [rule for rule in met if isinstance(rule, InjectError)]:
                self._active = errors
            for rule in met:
                if isinstance(rule, SetState):
                    self._state = rule.new_state
            for rule in met:
                if isinstance(rule, Suspend):
                    self._suspend(rule)

    def _suspend(self, rule: Suspend) -> None:
        self._rules.remove(rule)
        self._suspended.append(rule)
        print(f"blkdebug: Suspended request '{rule.tag}'")
        self._changed.notify_all()
        self._changed.wait_for(lambda: rule not in self._suspended)

    def check(self, offset: int, length: int, iotype: str) -> None:
        """Raise the error, if any, that a request is to meet."""
        with self._changed:
            for rule in self._active:
                if rule.hits(offset, length, iotype):
                    break
            else:
                return
            if rule.once:
                self._active.remove(rule)
                self._rules.remove(rule)
        if rule.error:
            raise BlockError(os.strerror(rule.error), rule.error)

    # ---- breakpoints ----

    def add_breakpoint(self, event: str, tag: str) -> bool:
        """Stop the next request that raises the event; False if there is no such event."""
        if event not in EVENTS:
            return False
        with self._changed:
            self._rules.append(Suspend(event, tag=tag))
        return True

    def remove_breakpoint(self, tag: str) -> bool:
        """Forget breakpoints and let requests go on; False if there are none."""
        with self._changed:
            kept = [rule for rule in self._rules
                    if not isinstance(rule, Suspend) or rule.tag != tag]
            found = len(kept) < len(self._rules)
            self._rules[:] = kept
        while self.resume(tag):
            found = True
        return found

    def resume(self, tag: str) -> bool:
        """Let the newest request that stopped with this tag go on; False if there is none."""
        with self._changed:
            for rule in reversed(self._suspended):
                if rule.tag == tag:
                    print(f"blkdebug: Resuming request '{tag}'")
                    self._suspended.remove(rule)
                    self._changed.notify_all()
                    return True
        return False

    def wait_suspended(self, tag: str) -> None:
        """Return when some request has stopped with this tag."""
        with self._changed:
            self._changed.wait_for(lambda: any(rule.tag == tag for rule in self._suspended))


# ---- reading rules ----


def read_rules(config: str | None, options: dict[str, Any]) -> list[Rule]:
    """Rules of a configuration file, then those in ``options``, whose keys are taken."""
    sections = list(_sections_of_file(config)) if config is not None else []
    for name in _KEYS:
        if options.get(name):
            sections += [(name, given) for given in _listed(name, options.pop(name))]
    made = [_make_rule(name, given) for name, given in sections]
    return ([rule for rule in made if isinstance(rule, InjectError)]
            + [rule for rule in made if isinstance(rule, SetState)])


def _sections_of_file(config: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open(config, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise BlockError.from_os("Could not read blkdebug config file", error) from None
    found: list[tuple[str, dict[str, Any]]] = []
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        if heading := _HEADING.match(line):
            if heading[1] not in _KEYS:
                raise _bad(f"There is no option group '{heading[1]}'")
            found.append((heading[1], {}))
        elif (setting := _SETTING.match(line)) and found:
            found[-1][1][setting[1]] = setting[2]
        else:
            raise _bad("parse error" if found else "no group defined")
    yield from found


def _listed(name: str, given: Any) -> list[dict[str, Any]]:
    """``[{…}, …]``, or what ``name.0.event=…`` options make: ``{"0": {…}, …}``."""
    if isinstance(given, Mapping):
        given = [given[key] for key in sorted(given, key=lambda key: (len(key), key))]
    if not isinstance(given, list) or not all(isinstance(item, Mapping) for item in given):
        raise _bad(f"Invalid parameter '{name}'")
    return given


def _make_rule(section: str, given: Mapping[str, Any]) -> Rule:
    for key in given:
        if key not in _KEYS[section]:
            raise _bad(f"[{section}] section doesn't support the option '{key}'")
    if "event" not in given:
        raise _bad("Missing event name for rule")
    event, state = _one_of(EVENTS, given["event"]), _number(given, "state", 0)
    if section == "set-state":
        return SetState(event, state, _number(given, "new_state", 0))
    parse_bool("immediately", given.get("immediately", False))  # ours fail at once or soon
    iotypes = ((_one_of(IO_TYPES, given["iotype"]),) if "iotype" in given
               else InjectError.iotypes)
    sector = _number(given, "sector", -1)
    return InjectError(event, state, _number(given, "errno", errno.EIO), iotypes,
                       None if sector == -1 else sector * SECTOR,
                       parse_bool("once", given.get("once", False)))


def _one_of(known: frozenset[str] | tuple[str, ...], value: Any) -> str:
    if value not in known:
        raise _bad(f"invalid parameter value: {value}")
    return str(value)


def _number(given: Mapping[str, Any], key: str, default: int) -> int:
    try:
        return int(str(given.get(key, default)), 0)
    except ValueError:
        raise _bad(f"Parameter '{key}' expects a number") from None


def _bad(message: str) -> BlockError:
    return BlockError(message, errno.EINVAL)
