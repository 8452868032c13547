"""The command line in QEMU's spelling: the option table, its values, and what is wrong with them.

QEMU's grammar is not getopt's: long options with one dash or two, every value in the next word, and
comma-separated properties inside a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

DEFAULT_MEMORY: Final = 128 << 20
LOG_ITEMS: Final = {
    "in_asm": "show guest code for each translated block",
    "op": "show the IR of each translated block",
    "op_opt": "show the IR after optimisation",
    "llvm": "show the LLVM IR of what is compiled",
    "out_asm": "show the generated host code",
    "int": "show interrupts and exceptions",
    "exec": "show each block before it runs",
    "mmu": "show TLB misses and page walks",
    "debug": "show tracebacks of errors inside the emulator",
}
TIERS: Final = ("threaded", "python")
SERIAL_PORTS: Final = 4


class OptionError(Exception):
    """A command line that can't be honoured; the text names the option or value."""


class Information(Exception):
    """The command line asks for a text instead of a machine."""


@dataclass
class Options:
    """Everything the command line says."""

    memory: int = DEFAULT_MEMORY
    kernel: str | None = None
    initrd: str | None = None
    append: str | None = None
    cpu: str = "max"
    tier: str = "threaded"
    name: str = ""
    serial: list[str] = field(default_factory=list)
    debugcon: str | None = None
    debug_exit: tuple[int, int] | None = None  # port and number of ports
    nographic: bool = False
    defaults: bool = True
    no_reboot: bool = False
    log_items: frozenset[str] = frozenset()
    log_file: str | None = None


class Option(NamedTuple):
    """One row of the table; `argument` is empty for options that take none."""

    names: str
    argument: str
    apply: Callable[[Options, str], None]
    help: str


_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bkmgt]?)", re.IGNORECASE)
_UNITS: Final = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_size(text: str, *, unit: str = "m") -> int:
    """Bytes of a size such as 256, 256M or 1.5G; the unit counts where none is written."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise OptionError(f"invalid size '{text}'")
    value = float(found[1]) if "." in found[1] else int(found[1])
    return int(value * (1 << _UNITS[(found[2] or unit).lower()]))


def properties(text: str, first: str) -> dict[str, str]:
    """`a,b=c` as a dict; a leading word without `=` is the value of the key `first`."""
    result: dict[str, str] = {}
    for index, part in enumerate(text.split(",")):
        key, equals, value = part.partition("=")
        if equals:
            result[key] = value
        elif index == 0:
            result[first] = part
        else:
            result[part] = "on"
    return result


def _listing(title: str, rows: dict[str, str]) -> Information:
    width = max(map(len, rows)) + 2
    lines = "".join(f"  {name:<{width}}{text}\n" for name, text in rows.items())
    return Information(f"{title}\n{lines}")


def _only(option: str, values: dict[str, str], known: Sequence[str]) -> None:
    for key in values:
        if key not in known:
            raise OptionError(f"{option}: invalid parameter '{key}'")


def _memory(options: Options, text: str) -> None:
    values = properties(text, "size")
    _only("-m", values, ["size"])
    size = parse_size(values["size"])
    if size <= 0:
        raise OptionError(f"-m {text}: the guest needs some memory")
    options.memory = -(-size // 8192) * 8192


def _kernel(options: Options, text: str) -> None:
    options.kernel = text


def _initrd(options: Options, text: str) -> None:
    options.initrd = text


def _append(options: Options, text: str) -> None:
    options.append = text


def _cpu(options: Options, text: str) -> None:
    if text in ("help", "?"):
        from pytcg.exec.vcpu import cpu_models

        raise _listing("Available CPUs:", cpu_models())
    options.cpu = text


def _smp(options: Options, text: str) -> None:
    values = properties(text, "cpus")
    _only("-smp", values, ["cpus", "sockets", "cores", "threads", "maxcpus"])
    for value in values.values():
        if not value.isdecimal() or int(value) != 1:
            raise OptionError(
                f"-smp {text}: Invalid SMP CPUs. The max CPUs supported by machine 'pc' is 1"
            )


def _accelerator(name: str) -> None:
    if name == "help":
        raise Information("Accelerators supported in pytcg-system-x86_64:\ntcg\n")
    if name != "tcg":
        raise OptionError(f"invalid accelerator {name}")


def _accel(options: Options, text: str) -> None:
    values = properties(text, "accel")
    _only("-accel", values, ["accel", "tier"])
    _accelerator(values.get("accel", "tcg"))
    tier = values.get("tier", options.tier)
    if tier not in TIERS:
        raise OptionError(f"-accel {text}: invalid tier '{tier}', not one of {', '.join(TIERS)}")
    options.tier = tier


def _machine(options: Options, text: str) -> None:
    del options
    values = properties(text, "type")
    if values.get("type") == "help":
        raise _listing("Supported machines are:", {"pc": "Standard PC without PCI (default)"})
    _only("-machine", values, ["type", "accel"])
    if values.get("type", "pc") != "pc":
        raise OptionError(f"unsupported machine type '{values['type']}'")
    _accelerator(values.get("accel", "tcg"))


def _serial(options: Options, text: str) -> None:
    if len(options.serial) == SERIAL_PORTS:
        raise OptionError(f"-serial {text}: there are only {SERIAL_PORTS} serial ports")
    options.serial.append(text)


def _debugcon(options: Options, text: str) -> None:
    options.debugcon = text


def _number(option: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise OptionError(f"{option}: '{text}' is not a number") from None


def _device(options: Options, text: str) -> None:
    values = properties(text, "driver")
    driver = values.pop("driver", "")
    if driver in ("help", "?"):
        raise _listing("Devices:", {"isa-debug-exit": "a write to iobase ends the emulator"})
    if driver != "isa-debug-exit":
        raise OptionError(f"-device {text}: '{driver}' is not a valid device model name")
    _only(f"-device {driver}", values, ["iobase", "iosize"])
    port = _number("-device iobase", values.get("iobase", "0x501"))
    count = _number("-device iosize", values.get("iosize", "2"))
    if not 1 <= count <= 4 or not 0 <= port <= 0x10000 - count:
        raise OptionError(f"-device {text}: no such ports")
    options.debug_exit = (port, count)


def _log(options: Options, text: str) -> None:
    if text in ("help", "?"):
        raise _listing("Log items (comma separated):", LOG_ITEMS)
    for item in text.split(","):
        if item not in LOG_ITEMS:
            raise OptionError(f"Invalid log item specified in \"-d {text}\": '{item}'")
        options.log_items |= {item}


def _log_file(options: Options, text: str) -> None:
    options.log_file = text


def _name(options: Options, text: str) -> None:
    options.name = text


def _nographic(options: Options, text: str) -> None:
    del text
    options.nographic = True


def _nodefaults(options: Options, text: str) -> None:
    del text
    options.defaults = False


def _no_reboot(options: Options, text: str) -> None:
    del text
    options.no_reboot = True


def _must_be_none(option: str, what: str) -> Callable[[Options, str], None]:
    """An option that is fine as long as it asks for nothing."""

    def apply(options: Options, text: str) -> None:
        del options
        if text != "none":
            raise OptionError(f"-{option} {text}: there is no {what} yet")

    return apply


def _version(options: Options, text: str) -> None:
    from pytcg import __version__

    del options, text
    raise Information(f"pytcg emulator version {__version__}\n")


def _help(options: Options, text: str) -> None:
    del options, text
    raise Information(help_text())


OPTIONS: Final = (
    Option("h help", "", _help, "display this help and exit"),
    Option("version", "", _version, "display the version and exit"),
    Option("machine M", "[type=]pc", _machine, "select the machine (-machine help lists them)"),
    Option("cpu", "NAME[,+feature,-feature]", _cpu, "select the CPU (-cpu help lists them)"),
    Option("accel", "[accel=]tcg[,tier=threaded|python]", _accel, "select the engine"),
    Option("smp", "[cpus=]1", _smp, "number of CPUs"),
    Option("m", "[size=]MEGS", _memory, "guest memory, 128 MiB if not given; K, M, G and T work"),
    Option("name", "STRING", _name, "name of the guest"),
    Option("device", "DRIVER[,property=value...]", _device, "add a device (-device help)"),
    Option("kernel", "BZIMAGE", _kernel, "boot this Linux kernel"),
    Option("append", "CMDLINE", _append, "its command line"),
    Option("initrd", "FILE", _initrd, "its initial ramdisk"),
    Option("serial", "CHARDEV", _serial, "connect the next serial port (up to four)"),
    Option("debugcon", "CHARDEV", _debugcon, "connect the debug console at port 0xe9"),
    Option("nographic", "", _nographic, "first serial port on the terminal, Ctrl-A h helps"),
    Option("display", "none", _must_be_none("display", "display"), "there is none"),
    Option("vga", "none", _must_be_none("vga", "display"), "there is none"),
    Option("monitor", "none", _must_be_none("monitor", "monitor"), "there is none"),
    Option("parallel", "none", _must_be_none("parallel", "parallel port"), "there is none"),
    Option("net", "none", _must_be_none("net", "network"), "there is none"),
    Option("nic", "none", _must_be_none("nic", "network"), "there is none"),
    Option("nodefaults", "", _nodefaults, "no serial port unless asked for"),
    Option("no-reboot", "", _no_reboot, "exit instead of rebooting"),
    Option("d", "ITEM[,...]", _log, "log items (-d help lists them)"),
    Option("D", "FILE", _log_file, "write the log there instead of to stderr"),
)
BY_NAME: Final = {name: option for option in OPTIONS for name in option.names.split()}

USAGE: Final = "usage: pytcg-system-x86_64 [options]\n\n"
NOTES: Final = """
CHARDEV is stdio, mon:stdio (with Ctrl-A escapes), file:PATH, pty, null or none.
There is no display: without -serial the first serial port is on the terminal, as with -nographic.
"""


def help_text() -> str:
    """What -h prints: made from the table."""
    rows = []
    for option in OPTIONS:
        left = " or ".join(f"-{name}" for name in option.names.split())
        left = f"{left} {option.argument}".rstrip()
        gap = "  " if len(left) < 30 else "\n" + " " * 32
        rows.append(f"{left:<30}{gap}{option.help}\n")
    return USAGE + "".join(rows) + NOTES


def parse(words: Sequence[str]) -> Options:
    """The options of a command line; OptionError says what is wrong, Information what was asked."""
    options = Options()
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            raise OptionError(f"{word}: there are no disk drives yet")
        name = word[2:] if word.startswith("--") else word[1:]
        option = BY_NAME.get(name)
        if option is None:
            raise OptionError(f"{word}: invalid option")
        value = ""
        if option.argument:
            following = next(rest, None)
            if following is None:
                raise OptionError(f"{word}: requires an argument")
            value = following
        option.apply(options, value)
    _check(options)
    return options


def _check(options: Options) -> None:
    if options.kernel is None:
        for name in ("initrd", "append"):
            if getattr(options, name) is not None:
                raise OptionError(f"-{name} only allowed with -kernel option")
        raise OptionError("nothing to boot: there is no firmware yet, use -kernel")


def serial_ports(options: Options) -> list[str]:
    """The chardevs of the serial ports: on the terminal unless something else was asked for."""
    if options.serial or not options.defaults:
        ports = list(options.serial)
        if options.nographic and not ports:
            ports = ["mon:stdio"]
        return ports
    return ["mon:stdio"]
