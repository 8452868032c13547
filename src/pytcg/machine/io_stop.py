"""A machine that stops when a disk request fails, and tries it again when it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.machine.runner import Runner, RunState

if TYPE_CHECKING:
    from pytcg.machine.drives import Drive, DriveBay
    from pytcg.machine.io_errors import Failure


def stop_for_errors(drives: DriveBay, runner: Runner) -> None:
    """Connect the two."""

    def failed(drive: Drive, failure: Failure) -> None:
        node = drive.io.device.node.node_name if drive.io is not None else ""
        runner.tell(
            "BLOCK_IO_ERROR",
            **{"device": drive.id, "node-name": node, "operation": failure.operation,
               "action": failure.action, "nospace": failure.no_space, "reason": failure.reason},
        )  # fmt: skip
        if failure.action == "stop":
            runner.pause(RunState.IO_ERROR)

    drives.on_failure = failed
    runner.before_resume = drives.retry
