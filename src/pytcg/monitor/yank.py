"""yank: let go of peers that don't answer, even while another command waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.chardev.socket import SocketChardev
from pytcg.monitor.command import CLASS_NO_DEVICE, Command, CommandError
from pytcg.monitor.schema.types import enum, struct, union

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

enum("YankInstanceType", "chardev")
struct("YankInstanceChardev", "id: str")
union("YankInstance", "type: YankInstanceType", "type", {"chardev": "YankInstanceChardev"})


def _sockets(machine: Machine) -> dict[str, SocketChardev]:
    return {chardev.label: chardev for chardev in machine.chardevs
            if isinstance(chardev, SocketChardev)}  # fmt: skip


def query_yank(machine: Machine) -> Any:
    """Who can be yanked."""
    return [{"type": "chardev", "id": label} for label in _sockets(machine)]


def yank(machine: Machine, instances: list[dict[str, str]]) -> Any:
    """Hang up on them; none of them if one is not there."""
    known = _sockets(machine)
    for instance in instances:
        if instance["id"] not in known:
            raise CommandError("Instance not found", CLASS_NO_DEVICE)
    for instance in instances:
        with machine.chardevs.context.lock:
            known[instance["id"]].disconnect()


COMMANDS: Final = (
    Command("query-yank", query_yank, returns="[YankInstance]", oob=True),
    Command("yank", yank, "instances: [YankInstance]", oob=True),
)  # fmt: skip
