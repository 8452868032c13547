"""The command line and the configuration file, as qemu-ga has them."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

VIRTIO_PATH = "/dev/virtio-ports/org.qemu.guest_agent.0"
SERIAL_PATH = "/dev/ttyS0"
FREEZE_HOOK = "/etc/qemu/fsfreeze-hook"
CONFIGURATION = "/etc/qemu/qemu-ga.conf"
METHODS = ("virtio-serial", "isa-serial", "unix-listen", "vsock-listen")
REQUIRED, OPTIONAL = 1, 2


class OptionError(Exception):
    """A command line or configuration that can't be; the text says why."""


class Option(NamedTuple):
    """A row of the table; ``key`` is its name in the configuration file."""

    letter: str
    long: str
    argument: int
    key: str
    help: str


OPTIONS = (
    Option("m", "method", REQUIRED, "method", "transport: " + ", ".join(METHODS)),
    Option("p", "path", REQUIRED, "path", f"device or socket ({VIRTIO_PATH} or {SERIAL_PATH})"),
    Option("l", "logfile", REQUIRED, "logfile", "log there instead of to stderr"),
    Option("f", "pidfile", REQUIRED, "pidfile", "pidfile (default is /var/run/qemu-ga.pid)"),
    Option("F", "fsfreeze-hook", OPTIONAL, "fsfreeze-hook",
           f"run a script on freeze and thaw (-F{FREEZE_HOOK}: no space)"),
    Option("t", "statedir", REQUIRED, "statedir", "folder for state (default is /var/run)"),
    Option("v", "verbose", 0, "verbose", "log more"),
    Option("V", "version", 0, "", "print version information and exit"),
    Option("d", "daemonize", 0, "daemon", "become a daemon"),
    Option("b", "block-rpcs", REQUIRED, "block-rpcs",
           'comma-separated RPCs to disable ("help" lists them)'),
    Option("", "blacklist", REQUIRED, "block-rpcs", "the same"),
    Option("a", "allow-rpcs", REQUIRED, "allow-rpcs", "comma-separated RPCs, no other is allowed"),
    Option("D", "dump-conf", 0, "", "print the configuration that the options make, and exit"),
    Option("c", "config", REQUIRED, "", f"configuration file (default is {CONFIGURATION})"),
    Option("r", "retry-path", 0, "retry-path", "try again when the path can't be opened"),
    Option("h", "help", 0, "", "display this help and exit"),
)
BOOLEANS = ("daemon", "verbose", "retry-path")


def usage(program: str) -> str:
    """What -h prints."""
    lines = [f"Usage: {program} [-m <method> -p <path>] [<options>]\n"]
    for row in OPTIONS:
        short = f"-{row.letter}, " if row.letter else "    "
        lines.append(f"  {short}--{row.long:<15} {row.help}")
    return "\n".join(lines) + "\n"


def split(words: list[str]) -> list[tuple[Option, str | None]]:
    """Options with their arguments, as getopt_long(3) splits them; other words are passed over."""
    found: list[tuple[Option, str | None]] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            rows = [row for row in OPTIONS if row.long == name] or [
                row for row in OPTIONS if row.long.startswith(name)]
            if len(rows) != 1:
                raise OptionError(f"unrecognized option '{word}'")
            given = value if equals else None
            found.append((rows[0], _argument(rows[0], given, rest)))
        elif word.startswith("-") and len(word) > 1:
            found += _letters(word[1:], rest)
    return found


def _letters(letters: str, rest: Any) -> list[tuple[Option, str | None]]:
    found: list[tuple[Option, str | None]] = []
    while letters:
        letter, letters = letters[0], letters[1:]
        row = next((row for row in OPTIONS if row.letter == letter), None)
        if row is None:
            raise OptionError(f"invalid option -- '{letter}'")
        if row.argument:
            found.append((row, _argument(row, letters or None, rest)))
            break
        found.append((row, None))
    return found


def _argument(row: Option, given: str | None, rest: Any) -> str | None:
    if row.argument == REQUIRED and given is None:
        given = next(rest, None)
        if given is None:
            raise OptionError(f"option '--{row.long}' requires an argument")
    return given


class Settings:
    """What the agent is told: by the file first, then by the command line."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def load(self, path: str, *, required: bool) -> None:
        """A file in GKeyFile's form; `[general]` is what counts."""
        import configparser

        parser = configparser.RawConfigParser(strict=False)
        try:
            with open(path, encoding="utf-8") as file:
                parser.read_file(file)
        except FileNotFoundError:
            if required:
                raise OptionError(f"error loading configuration from path: {path}, No such file or"
                                  " directory") from None  # fmt: skip
            return
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            reason = str(error).splitlines()[0]
            raise OptionError(
                f"error loading configuration from path: {path}, {reason}") from error
        if parser.has_section("general"):
            values = dict(parser["general"])
            if "blacklist" in values:
                values["block-rpcs"] = values.pop("blacklist")
            self.values.update(values)

    def take(self, given: list[tuple[Option, str | None]]) -> None:
        """The command line's."""
        for row, value in given:
            if not row.key:
                continue
            if row.key in ("block-rpcs", "allow-rpcs") and self.values.get(row.key):
                self.values[row.key] += f",{value}"
            elif row.key == "fsfreeze-hook":
                self.values[row.key] = value or FREEZE_HOOK
            else:
                self.values[row.key] = "true" if value is None else value

    def on(self, key: str) -> bool:
        """A switch."""
        return self.values.get(key) == "true"

    def names(self, key: str) -> list[str]:
        """A list of commands."""
        return [name for name in self.values.get(key, "").replace(";", ",").split(",") if name]

    @property
    def method(self) -> str:
        """The transport."""
        return self.values.get("method", METHODS[0])

    @property
    def path(self) -> str | None:
        """The device or socket."""
        usual = {"virtio-serial": VIRTIO_PATH, "isa-serial": SERIAL_PATH}
        return self.values.get("path", usual.get(self.method))

    def get(self, key: str, usual: str) -> str:
        """A value."""
        return self.values.get(key, usual)

    def dump(self) -> str:
        """What -D prints: a configuration file."""
        rows = ["[general]", f"daemon={_word(self.on('daemon'))}", f"method={self.method}"]
        if self.path is not None:
            rows.append(f"path={self.path}")
        if "logfile" in self.values:
            rows.append(f"logfile={self.values['logfile']}")
        rows += [f"pidfile={self.get('pidfile', '/var/run/qemu-ga.pid')}"]
        if "fsfreeze-hook" in self.values:
            rows.append(f"fsfreeze-hook={self.values['fsfreeze-hook']}")
        rows += [f"statedir={self.get('statedir', '/var/run')}",
                 f"verbose={_word(self.on('verbose'))}",
                 f"retry-path={_word(self.on('retry-path'))}",
                 "block-rpcs=" + ",".join(reversed(self.names("block-rpcs")))]
        if "allow-rpcs" in self.values:
            rows.append("allow-rpcs=" + ",".join(reversed(self.names("allow-rpcs"))))
        return "\n".join(rows) + "\n"


def _word(value: object) -> str:
    return "true" if value else "false"


def parse(words: list[str]) -> tuple[Settings, list[tuple[Option, str | None]]]:
    """Settings and the options as given; OptionError."""
    given = split(words)
    settings = Settings()
    named = [value for row, value in given if row.long == "config" and value is not None]
    path = named[-1] if named else os.environ.get("QGA_CONF", CONFIGURATION)
    settings.load(path, required=bool(named))
    settings.take(given)
    return settings, given


def complain(text: str) -> None:
    """One line for whoever started the agent."""
    print(f"qemu-ga: {text}", file=sys.stderr)
