"""dump-guest-memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pytcg.machine import vmcore
from pytcg.machine.layout import ram_blocks
from pytcg.monitor.command import Command, CommandError
from pytcg.monitor.schema.types import enum, struct

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

enum("DumpGuestMemoryFormat", "elf")
struct("DumpGuestMemoryCapability", "formats: [DumpGuestMemoryFormat]")


def dump(machine: Machine, paging: bool, protocol: str, detach: bool = False,
         begin: int | None = None, length: int | None = None, format: str = "elf"
         ) -> Any:  # fmt: skip
    """Write memory and the processor's registers to a file."""
    del format
    if paging:
        raise CommandError("paging: memory is dumped by physical addresses only")
    if detach:
        raise CommandError("detach: a dump is done when the command returns")
    if (begin is None) != (length is None):
        missing = "length" if length is None else "begin"
        raise CommandError(f"Parameter '{missing}' is missing")
    if not protocol.startswith("file:"):
        raise CommandError("parameter 'protocol' must start with 'file:' or 'fd:'")
    runs = vmcore.chosen(ram_blocks(machine.board.config.ram_size), begin or 0, length)
    if not runs:
        raise CommandError("Invalid parameter 'begin'")
    path = protocol.removeprefix("file:")
    with machine.runner.at_rest():
        try:
            with open(path, "wb") as file:
                vmcore.write(file, runs, machine.board.vcpu.regs, _memory(machine, runs))
        except OSError as error:
            raise CommandError(f"Could not open '{path}': {error.strerror}") from None


def _memory(machine: Machine, runs: list[tuple[int, int]]) -> Iterator[bytes]:
    for address, length in runs:
        for at in range(address, address + length, vmcore.CHUNK):
            yield machine.board.memory.read(at, min(vmcore.CHUNK, address + length - at))


def capability(machine: Machine) -> Any:
    """query-dump-guest-memory-capability."""
    del machine
    return {"formats": ["elf"]}


COMMANDS: Final = (
    Command("dump-guest-memory", dump, "paging: bool, protocol: str, *detach: bool, *begin: int,"
            " *length: int, *format: DumpGuestMemoryFormat"),
    Command("query-dump-guest-memory-capability", capability,
            returns="DumpGuestMemoryCapability"),
)  # fmt: skip
