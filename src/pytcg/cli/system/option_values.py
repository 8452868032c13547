"""What each option of the command line means: its value, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from pytcg.cli.system.vnc_option import VncOption

DEFAULT_MEMORY: Final = 128 << 20
LOG_ITEMS: Final = {
    "in_asm": "show guest code for each translated block",
    "op": "show the IR of each translated block",
    "op_opt": "show the LLVM text after its passes",
    "llvm": "show the LLVM IR of what is compiled",
    "out_asm": "show the generated host code",
    "int": "show interrupts and exceptions",
    "exec": "show each block before it runs",
    "mmu": "show TLB misses and page walks",
    "stats": "show at the end how much was run, and how fast",
    "debug": "show tracebacks of errors inside the emulator",
}
SERIAL_PORTS: Final = 4
PARALLEL_PORTS: Final = 3


class OptionError(Exception):
    """A command line that can't be honoured; the text names the option or value."""


class Information(Exception):
    """The command line asks for a text instead of a machine."""


class ChardevOption(NamedTuple):
    """A -chardev: as it was written, and taken apart."""

    text: str
    kind: str
    name: str
    values: dict[str, str]


class MonitorOption(NamedTuple):
    """A monitor: what it is reached by, and what it speaks."""

    chardev: str  # a short form, or chardev:ID
    control: bool  # QMP, else the human monitor
    pretty: bool = False


def _nothing() -> None:
    """Nobody waits for the machine."""


@dataclass
class Options:
    """Everything the command line says."""

    memory: int = DEFAULT_MEMORY
    kernel: str | None = None
    initrd: str | None = None
    append: str | None = None
    cpu: str = "max"
    tier: str = "auto"
    tb_size: int = 0  # MiB; 0: as usual
    perf: bool = False
    accelerators: list[str] = field(default_factory=list)  # the first that works; none: tcg
    irqchip: str = "on"
    name: str = ""
    bios: str | None = None
    hpet: bool = True
    smm: bool = False
    firmware_on_serial: bool = False
    rom_folders: list[str] = field(default_factory=list)
    flashes: list[dict[str, str]] = field(default_factory=list)  # of `-drive if=pflash`
    drives: list[dict[str, str]] = field(default_factory=list)
    blockdevs: dict[str, dict[str, Any]] = field(default_factory=dict)  # by node-name
    devices: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # model, properties
    objects: list[dict[str, str]] = field(default_factory=list)
    fsdevs: list[dict[str, str]] = field(default_factory=list)
    snapshot: bool = False
    boot: dict[str, str] = field(default_factory=dict)
    smbios: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    serial: list[str] = field(default_factory=list)
    parallel: list[str] = field(default_factory=list)
    debugcon: str | None = None
    debugcon_port: int = 0xE9
    nographic: bool = False
    q35: bool = False
    vga: str | None = None
    curses: bool = False
    vnc: list[VncOption] = field(default_factory=list)
    chardevs: list[ChardevOption] = field(default_factory=list)
    monitors: list[MonitorOption] = field(default_factory=list)
    gdb: str | None = None
    qtest: str | None = None
    qtest_log: str | None = None
    paused: bool = False
    loadvm: str | None = None
    incoming: str | None = None
    defaults: bool = True
    no_reboot: bool = False
    log_items: frozenset[str] = frozenset()
    log_file: str | None = None
    pid_file: str | None = None
    daemonize: bool = False
    fd_sets: dict[int, list[int]] = field(default_factory=dict)  # of -add-fd
    ready: Callable[[], None] = _nothing
    """Called once the machine is there, before it runs."""
    no_machine: bool = False
    epoch: int | None = None  # what the real-time clock shows at power-on; None: UTC
    no_shutdown: bool = False
    sleep_states: frozenset[int] = frozenset((3, 4, 5))
    message_time: bool = False  # in front of what is said on stderr
    message_name: bool = False


_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bkmgt]?)", re.IGNORECASE)
_UNITS: Final = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parse_size(text: str, *, unit: str = "m") -> int:
    """Bytes of a size such as 256, 256M or 1.5G; the unit counts where none is written."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise OptionError(f"-m {text}: invalid size '{text}'")
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


def listing(title: str, rows: dict[str, str]) -> Information:
    width = max(map(len, rows)) + 2
    lines = "".join(f"  {name:<{width}}{text}\n" for name, text in rows.items())
    return Information(f"{title}\n{lines}")


def only(option: str, values: dict[str, str], known: Sequence[str]) -> None:
    for key in values:
        if key not in known:
            raise OptionError(f"{option}: invalid parameter '{key}'")


def set_memory(options: Options, text: str) -> None:
    values = properties(text, "size")
    only("-m", values, ["size"])
    size = parse_size(values["size"])
    if size <= 0:
        raise OptionError(f"-m {text}: the guest needs some memory")
    options.memory = -(-size // 8192) * 8192


def set_kernel(options: Options, text: str) -> None:
    options.kernel = text


def set_initrd(options: Options, text: str) -> None:
    options.initrd = text


def set_append(options: Options, text: str) -> None:
    options.append = text


def set_cpu(options: Options, text: str) -> None:
    if text in ("help", "?"):
        from pytcg.engines import cpu_models

        raise listing("Available CPUs:", cpu_models())
    options.cpu = text


def set_smp(options: Options, text: str) -> None:
    values = properties(text, "cpus")
    only("-smp", values, ["cpus", "sockets", "cores", "threads", "maxcpus"])
    for value in values.values():
        if not value.isdecimal() or int(value) != 1:
            raise OptionError(
                f"-smp {text}: Invalid SMP CPUs. The max CPUs supported by machine 'pc' is 1"
            )


def set_serial(options: Options, text: str) -> None:
    if len(options.serial) == SERIAL_PORTS:
        raise OptionError(f"-serial {text}: there are only {SERIAL_PORTS} serial ports")
    options.serial.append(text)


def set_parallel(options: Options, text: str) -> None:
    if len(options.parallel) == PARALLEL_PORTS:
        raise OptionError(f"-parallel {text}: there are only {PARALLEL_PORTS} parallel ports")
    options.parallel.append(text)


def set_debugcon(options: Options, text: str) -> None:
    options.debugcon = text


def _number(option: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise OptionError(f"{option}: '{text}' is not a number") from None


SLEEP_GLOBALS: Final = {f"{chip}.disable_s{state}": state
                        for chip in ("PIIX4_PM", "ICH9-LPC") for state in (3, 4)}  # fmt: skip
GLOBALS: Final = {"isa-debugcon.iobase": "debugcon_port"}


def set_global(options: Options, text: str) -> None:
    values = properties(text, "")
    if set(values) == {"driver", "property", "value"}:
        values = {f"{values['driver']}.{values['property']}": values["value"]}
    for name, value in values.items():
        if name in SLEEP_GLOBALS:
            states = {SLEEP_GLOBALS[name]} if _number(f"-global {name}", value) else set()
            options.sleep_states -= states
            continue
        if name not in GLOBALS:
            raise OptionError(f"-global {text}: there is no property '{name}' to set")
        port = _number(f"-global {name}", value)
        if not 0 <= port < 0x10000:
            raise OptionError(f"-global {text}: no such port")
        setattr(options, GLOBALS[name], port)


def set_log(options: Options, text: str) -> None:
    if text in ("help", "?"):
        raise listing("Log items (comma separated):", LOG_ITEMS)
    for item in text.split(","):
        if item not in LOG_ITEMS:
            raise OptionError(f"Invalid log item specified in \"-d {text}\": '{item}'")
        options.log_items |= {item}


def set_log_file(options: Options, text: str) -> None:
    options.log_file = text


def set_nographic(options: Options, text: str) -> None:
    del text
    options.nographic = True


def set_nodefaults(options: Options, text: str) -> None:
    del text
    options.defaults = False


def set_no_shutdown(options: Options, text: str) -> None:
    del text
    options.no_shutdown = True


def set_no_reboot(options: Options, text: str) -> None:
    del text
    options.no_reboot = True


def must_be_none(option: str, what: str) -> Callable[[Options, str], None]:
    """An option that is fine as long as it asks for nothing."""

    def apply(options: Options, text: str) -> None:
        del options
        if text != "none":
            raise OptionError(f"-{option} {text}: there is no {what} yet")

    return apply
