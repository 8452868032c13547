"""What of a machine is saved: its clock, its chips, its processor, its memory.

The header of the stream holds ``board`` (what the machine must be like: see `describe`), ``clock``
(nanoseconds since power-on), ``chips`` (each one's state, in the order of the board) and ``cpu``.
Disks are not in it: they are as the guest left them. The processor rests, no request of a disk is
under way, and the device lock is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytcg.hw.state import StateError, kind
from pytcg.machine.saved.stream import SavedError, SavedMachine

if TYPE_CHECKING:
    from pytcg.machine.loop import HostClock
    from pytcg.machine.pc import Pc


def describe(board: Pc) -> dict[str, Any]:
    """What has to be the same for a saved machine to fit."""
    chips = [kind(chip) for chip in board.backplane.chips]
    cards = {f"{devfn >> 3:02x}.{devfn & 7}": type(card).__name__
             for devfn, card in sorted(board.pci.devices.items())}  # fmt: skip
    return {"machine": "pc", "memory": board.config.ram_size, "chips": chips, "cards": cards}


def header(board: Pc, clock: HostClock) -> dict[str, Any]:
    """All but the memory."""
    return {
        "board": describe(board), "clock": clock.now(),
        "chips": [chip.state() for chip in board.backplane.chips],
        "cpu": board.vcpu.save(),
    }  # fmt: skip


def check(board: Pc, saved: SavedMachine) -> None:
    """SavedError names what is different."""
    there, here = saved.header.get("board"), describe(board)
    if not isinstance(there, dict):
        raise SavedError("it is damaged: it doesn't say of what machine it is")
    for key, value in here.items():
        if there.get(key) != value:
            raise SavedError(f"it is of another machine: {key} {_shown(there.get(key), value)}")
    if any(run.offset + run.length > board.memory.window.size for run in saved.runs):
        raise SavedError("it is damaged: it has more memory than the machine")


def _shown(there: Any, here: Any) -> str:
    """The first difference of two values."""
    if isinstance(there, dict) and isinstance(here, dict):
        for place in sorted({*there, *here}):
            if there.get(place) != here.get(place):
                return f"{place}: {there.get(place, 'none')}, here {here.get(place, 'none')}"
    if isinstance(there, list) and isinstance(here, list):
        extra = [each for each in there if each not in here]
        lacks = [each for each in here if each not in there]
        return f"{', '.join(map(str, extra)) or 'none'}, here {', '.join(lacks) or 'none'}"
    return f"{there}, here {here}"


def restore(board: Pc, clock: HostClock, saved: SavedMachine) -> None:
    """Be that machine. SavedError before anything changed, or with all chips as they were."""
    check(board, saved)
    try:
        before = header(board, clock)
    except StateError as error:
        raise SavedError(str(error)) from None
    try:
        _restore_chips(board, clock, saved.header)
    except (StateError, ValueError, KeyError, TypeError, AssertionError) as error:
        _restore_chips(board, clock, before)
        raise SavedError(f"it does not fit: {error}") from None
    window = board.memory.window
    window.discard(0, window.size)
    saved.fill(window.view)
    board.vcpu.forget_code()


def _restore_chips(board: Pc, clock: HostClock, wanted: dict[str, Any]) -> None:
    chips, states = board.backplane.chips, wanted["chips"]
    if len(states) != len(chips):
        raise StateError(f"{len(states)} chips instead of {len(chips)}")
    # From the state after power-on: no timer of what was before may be armed.
    board.backplane.reset()
    board.vcpu.reset()
    clock.set(wanted["clock"])
    board.vcpu.restore(wanted["cpu"])
    # Twice: while lines come to their levels, chips that were restored before see edges.
    for _ in range(2):
        for chip, state in zip(chips, states, strict=True):
            chip.restore(state)
    # An edge on the NMI pin, or a reset, that a chip made meanwhile was none.
    board.vcpu.restore(wanted["cpu"])
    board.take_request()
