"""The table of pytcg-io's commands, and how a line finds its command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytcg.cli.io.session import TOOL, LoudError, Session, ShowUsage

ANY = 1 << 30


@dataclass(frozen=True)
class Command:
    """A command by name: how many words it takes, what it needs, what help says."""

    name: str
    run: Callable[[Session, list[str]], None]
    least: int
    most: int
    usage: str
    summary: str
    detail: str = ""
    alias: str = ""
    needs_file: bool = True
    writes: bool = False

    @property
    def help_line(self) -> str:
        """One line of help."""
        return self.help_as(self.name)

    def help_as(self, name: str) -> str:
        """The same under the name it was asked by."""
        words = f"{name} {self.usage}" if self.usage else name
        return f"{words} -- {self.summary}"

    def check_count(self, count: int) -> None:
        """Refuse too few or too many words."""
        if self.least <= count <= self.most:
            return
        if self.most == ANY:
            wanted = f"at least {self.least}"
        elif self.least == self.most:
            wanted = str(self.least)
        else:
            wanted = f"between {self.least} and {self.most}"
        raise LoudError(f"bad argument count {count} to {self.name}, expected {wanted} arguments")


COMMANDS: dict[str, Command] = {}


def command(usage: str, summary: str, *, least: int = 0, most: int = 0, alias: str = "",
            needs_file: bool = True, writes: bool = False, name: str = ""
            ) -> Callable[[Callable[[Session, list[str]], None]],
                          Callable[[Session, list[str]], None]]:
    """Put a function into the table; its docstring is the long help."""

    def add(function: Callable[[Session, list[str]], None]
            ) -> Callable[[Session, list[str]], None]:
        made = Command(
            name or function.__name__.removesuffix("_command"), function, least, most, usage,
            summary, function.__doc__ or "", alias, needs_file, writes,
        )
        COMMANDS[made.name] = made
        return function

    return add


def find(word: str) -> Command | None:
    """A command by its name or its short form."""
    if word in COMMANDS:
        return COMMANDS[word]
    return next((c for c in COMMANDS.values() if c.alias and c.alias == word), None)


def run_line(session: Session, line: str) -> bool:
    """Run one command line; whether it succeeded. Words are separated by spaces, no quoting."""
    words = [word for word in line.split(" ") if word]
    if not words:
        return True
    found = find(words[0])
    if found is None:
        raise LoudError(f'command "{words[0]}" not found')
    if found.needs_file and session.device is None:
        raise LoudError("no file open, try 'help open'")
    found.check_count(len(words) - 1)
    if found.writes and session.disk.read_only:
        raise LoudError(f"{TOOL}: Block node is read-only")
    try:
        found.run(session, words[1:])
    except ShowUsage:
        print(found.help_line)
        return False
    return True
