"""x, xp, print, i, o: memory, values and ports in QEMU's formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from pytcg.machine.virtual import read_virtual
from pytcg.monitor.human.expression import Expression
from pytcg.monitor.human.table import HumanCommand, Shell, UsageError
from pytcg.softmmu.ram import RamError

if TYPE_CHECKING:
    from pytcg.monitor.machine import UsualFormat

SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8, "L": 8}
MOST_BYTES: Final = 1 << 20
NOTATIONS: Final = "oduxic"
LONGEST: Final = 15  # bytes of an instruction


class Format(NamedTuple):
    """How many, in which notation, of how many bytes."""

    repeat: int
    notation: str
    size: int

    @property
    def width(self) -> int:
        """Columns of a value."""
        bits = 8 * self.size
        return {"x": bits // 4, "o": -(-bits // 3), "c": 0}.get(self.notation, -(-bits * 10 // 33))


def take_format(shell: Shell, words: list[str]) -> tuple[Format, str]:
    """A leading `/FORMAT` and the rest as one text; what it leaves out is as it was last time."""
    usual = shell.machine.usual_format
    count = 1
    if words and words[0].startswith("/"):
        count = _take_letters(words[0], usual)
        words = words[1:]
    return Format(count, usual.notation, usual.size), " ".join(words)


def _take_letters(text: str, usual: UsualFormat) -> int:
    """The count; letters change what is usual."""
    digits = text[1:][: len(text[1:]) - len(text[1:].lstrip("0123456789"))]
    size, notation = usual.size, usual.notation
    for letter in text[1 + len(digits) :]:
        if letter in SIZES:
            size = SIZES[letter]
        elif letter in NOTATIONS:
            notation = letter
        else:
            raise UsageError(f"invalid char in format: '{letter}'")
    if notation != "i":
        usual.size = size
    usual.notation = notation
    return int(digits[:9] or "1")


def _no_register(name: str) -> int:
    raise KeyError(name)


def evaluate(shell: Shell, text: str) -> int:
    """An expression's value; UsageError."""
    if "$" not in text:
        return Expression(text, _no_register).value()
    with shell.machine.runner.at_rest():
        regs = shell.machine.board.vcpu.regs
        names = {"pc": "rip", "eip": "rip", "eflags": "rflags"}
        return Expression(text, lambda name: regs[names.get(name, name)]).value()


def show_char(value: int) -> str:
    """As QEMU shows characters."""
    named = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x27: "\\'", 0x5C: "\\\\"}
    if value in named:
        return f"'{named[value]}'"
    return f"'{chr(value)}'" if 32 <= value <= 126 else f"'\\x{value:02x}'"


def show_octal(value: int) -> str:
    """With a 0 in front, as C's %#o."""
    return f"0{value:o}" if value else "0"


def show_value(form: Format, value: int) -> str:
    """One unit in memory."""
    match form.notation:
        case "x":
            return f"0x{value:0{form.width}x}"
        case "o":
            return f"{show_octal(value):>{form.width}}"
        case "c":
            return show_char(value)
    return f"{value:{form.width}d}"


def print_value(shell: Shell, words: list[str]) -> str:
    """print."""
    form, text = take_format(shell, words)
    value = evaluate(shell, text)
    match form.notation:
        case "x":
            return f"{value:#x}\n"
        case "o":
            return f"{show_octal(value)}\n"
        case "c":
            return show_char(value) + "\n"
        case "d":
            return f"{value - ((value >> 63) << 64)}\n"
    return f"{value}\n"


def dump_physical(shell: Shell, words: list[str]) -> str:
    """xp."""
    return _dump(shell, words, shell.machine.board.memory.read)


def dump_virtual(shell: Shell, words: list[str]) -> str:
    """x."""
    with shell.machine.runner.at_rest():
        board = shell.machine.board
        return _dump(shell, words, lambda address, length: read_virtual(
            board.memory, board.vcpu.regs, address, length))  # fmt: skip


def _dump(shell: Shell, words: list[str], read: Callable[[int, int], bytes]) -> str:
    form, text = take_format(shell, words)
    address = evaluate(shell, text)
    if form.repeat * form.size > MOST_BYTES:
        raise UsageError(f"more than {MOST_BYTES} bytes at once")
    if form.notation == "i":
        return disassemble(shell, address, form.repeat, read)
    step = 8 if form.size == 1 else 16
    lines: list[str] = []
    left = form.repeat * form.size
    if form.notation == "c":
        form = form._replace(size=1)
    while left > 0:
        length = min(left, step)
        try:
            data = read(address, length)
        except RamError:
            return "".join((*lines, f"{address:016x}: Cannot access memory\n"))
        units = (data[at : at + form.size] for at in range(0, length, form.size))
        values = " ".join(show_value(form, int.from_bytes(unit, "little")) for unit in units)
        lines.append(f"{address:016x}: {values}\n")
        address, left = address + length, left - length
    return "".join(lines)


def disassemble(shell: Shell, address: int, count: int,
                read: Callable[[int, int], bytes]) -> str:  # fmt: skip
    """Instructions in AT&T's notation, in the processor's mode."""
    import capstone

    with shell.machine.runner.at_rest():
        mode = code_bits(shell)
    names = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
    decoder = capstone.Cs(capstone.CS_ARCH_X86, names[mode])
    decoder.syntax = capstone.CS_OPT_SYNTAX_ATT
    lines = ""
    for _ in range(count):
        data = _some(read, address)
        if not data:
            return lines + f"{address:#010x}: unable to read memory\n"
        name, operands, length = next(
            ((each[2], each[3], each[1]) for each in decoder.disasm_lite(data, address, 1)),
            (".byte", f"{data[0]:#04x}", 1))  # fmt: skip
        lines += _listing(address, data[:length], f"{name:8} {operands}".rstrip())
        address += length
    return lines


def _some(read: Callable[[int, int], bytes], address: int) -> bytes:
    """As many bytes as there are of an instruction."""
    for length in (LONGEST, min(LONGEST, 4096 - address % 4096), 1):
        try:
            return read(address, length)
        except RamError:
            pass
    return b""


def _listing(address: int, data: bytes, text: str) -> str:
    rows = [data[at : at + 8] for at in range(0, len(data), 8)]
    lines = f"{address:#010x}:  {rows[0].hex(' '):23}  {text}\n"
    for number, row in enumerate(rows[1:], 1):
        lines += f"{address + 8 * number:#010x}:  {row.hex(' ')}\n"
    return lines


def code_bits(shell: Shell) -> int:
    """What the processor runs: 16-, 32- or 64-bit code. At rest."""
    regs = shell.machine.board.vcpu.regs
    attributes = regs["cs.attr"]
    if regs["efer"] & 1 << 10 and attributes & 1 << 13:
        return 64
    return 32 if attributes & 1 << 14 else 16


_PORT_LETTERS: Final = {1: "b", 2: "w", 4: "l"}


def _port(words: list[str], shell: Shell) -> tuple[Format, list[str]]:
    form, text = take_format(shell, words)
    if form.size not in _PORT_LETTERS:
        raise UsageError("a port is 1, 2 or 4 bytes wide")
    return form, text.split()


def read_port(shell: Shell, words: list[str]) -> str:
    """i."""
    form, rest = _port(words, shell)
    if len(rest) not in (1, 2):
        raise UsageError("unexpected end of expression")
    port = evaluate(shell, rest[0]) & 0xFFFF
    bus = shell.machine.board.backplane.ports
    with shell.machine.chardevs.context.lock:
        if len(rest) == 2:
            bus.write(port, 1, evaluate(shell, rest[1]) & 0xFF)
            port += 1
        value = bus.read(port & 0xFFFF, form.size)
    return f"port{_PORT_LETTERS[form.size]}[{port:#06x}] = 0x{value:0{2 * form.size}x}\n"


def write_port(shell: Shell, words: list[str]) -> str:
    """o."""
    form, rest = _port(words, shell)
    if len(rest) != 2:
        raise UsageError("unexpected end of expression")
    port, value = (evaluate(shell, word) for word in rest)
    with shell.machine.chardevs.context.lock:
        mask = (1 << 8 * form.size) - 1
        shell.machine.board.backplane.ports.write(port & 0xFFFF, form.size, value & mask)
    return ""


def translate(shell: Shell, words: list[str]) -> str:
    """gva2gpa."""
    from pytcg.machine.virtual import physical_address

    address = evaluate(shell, " ".join(words))
    with shell.machine.runner.at_rest():
        board = shell.machine.board
        found = physical_address(board.memory, board.vcpu.regs, address)
    return "Unmapped\n" if found is None else f"gpa: {found:#x}\n"


COMMANDS: Final = (
    HumanCommand("print|p", "/fmt expr",
                 "print expression value (use $reg for CPU register access)", print_value,
                 1, 99, format=True),
    HumanCommand("x", "/fmt addr", "virtual memory dump starting at 'addr'", dump_virtual,
                 0, 99, format=True),
    HumanCommand("xp", "/fmt addr", "physical memory dump starting at 'addr'", dump_physical,
                 0, 99, format=True),
    HumanCommand("i", "/fmt addr", "I/O port read", read_port, 0, 99, format=True),
    HumanCommand("o", "/fmt addr value", "I/O port write", write_port, 0, 99, format=True),
    HumanCommand("gva2gpa", "addr",
                 "print the guest physical address corresponding to a guest virtual address",
                 translate, 1, 99),
)  # fmt: skip
