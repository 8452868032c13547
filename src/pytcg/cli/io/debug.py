"""pytcg-io's commands for breakpoints in a blkdebug node."""

from __future__ import annotations

import errno
import os

from pytcg.cli.io.session import CommandError, Session
from pytcg.cli.io.table import command
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.device import BlockDevice
    from pytcg.block.filters.blkdebug_rules import Rules


def _rules_below(session: Session, failure: str) -> Rules:
    """The rules of the highest blkdebug node."""
    device: BlockDevice | None = session.disk
    while device is not None and not device.debugged:
        device = device.file
    if device is None:
        raise CommandError(f"{failure}: {os.strerror(errno.ENOTSUP)}")
    from pytcg.block.filters.blkdebug import Blkdebug

    while not isinstance(device, Blkdebug):
        assert device.file is not None  # debugged nodes are Blkdebug or over one
        device = device.file
    return device.rules


def _require(done: bool, failure: str) -> None:
    if not done:
        raise CommandError(f"{failure}: {os.strerror(errno.ENOENT)}")


@command("event tag", "sets a breakpoint on event and tags the stopped request as tag", least=2,
         most=2, name="break")
def break_command(session: Session, words: list[str]) -> None:
    """Stop the next request that comes to a step of its work."""
    failure = "Could not set breakpoint"
    _require(_rules_below(session, failure).add_breakpoint(words[0], words[1]), failure)


@command("tag", "remove a breakpoint by tag", least=1, most=1)
def remove_break(session: Session, words: list[str]) -> None:
    """Forget a breakpoint; requests that stopped at it go on."""
    failure = f"Could not remove breakpoint {words[0]}"
    _require(_rules_below(session, failure).remove_breakpoint(words[0]), failure)


@command("tag", "resumes the request tagged as tag", least=1, most=1)
def resume(session: Session, words: list[str]) -> None:
    """Let a stopped request go on."""
    failure = "Could not resume request"
    _require(_rules_below(session, failure).resume(words[0]), failure)


@command("tag", "waits for the suspension of a request", least=1, most=1)
def wait_break(session: Session, words: list[str]) -> None:
    """Wait until a request has stopped at a breakpoint."""
    _rules_below(session, "Could not wait").wait_suspended(words[0])
