"""The jobs that there are: their events, and commands by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.block.jobs.job import Job, Status
from pytcg.monitor.command import CLASS_NOT_ACTIVE, Command, CommandError, is_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytcg.monitor.machine import Machine

BLOCK_KINDS: Final = ("mirror", "commit", "backup", "stream")
VERBS: Final = {  # the states that QEMU's table of verbs allows each in
    "cancel": (Status.CREATED, Status.RUNNING, Status.PAUSED, Status.READY, Status.STANDBY,
               Status.WAITING, Status.PENDING),
    "pause": (Status.CREATED, Status.RUNNING, Status.PAUSED, Status.READY, Status.STANDBY),
    "resume": (Status.CREATED, Status.RUNNING, Status.PAUSED, Status.READY, Status.STANDBY),
    "set-speed": (Status.CREATED, Status.RUNNING, Status.PAUSED, Status.READY, Status.STANDBY),
    "complete": (Status.READY,),
    "finalize": (Status.PENDING,),
    "dismiss": (Status.CONCLUDED,),
}  # fmt: skip


def check_new(machine: Machine, id: str) -> None:
    """CommandError if no job can have this id."""
    if not id:
        raise CommandError("An explicit job ID is required for this node")
    if not is_id(id):
        raise CommandError(f"Invalid job ID '{id}'")
    if id in machine.jobs:
        raise CommandError(f"Job ID '{id}' already in use")


def start_job(machine: Machine, job: Job) -> None:
    """Run it, and tell clients how it goes; CommandError, BlockError."""
    check_new(machine, job.id)
    graph = machine.drives.graph
    for node in job.nodes:
        graph.check_unused_by_jobs(node)
    job.tell = lambda job: _tell(machine, job)
    job.call = lambda done: _in_main_loop(machine, done)
    machine.jobs[job.id] = job
    graph.busy.append(job)
    try:
        job.begin()
    except BaseException:
        graph.busy.remove(job)
        del machine.jobs[job.id]
        raise


def _in_main_loop(machine: Machine, done: Callable[[], None]) -> None:
    machine.loop.asyncio.call_soon_threadsafe(done)


def _tell(machine: Machine, job: Job) -> None:
    graph = machine.drives.graph
    if job.status is Status.CONCLUDED:
        if job in graph.busy:
            graph.busy.remove(job)
        _tell_end(machine, job)
    machine.runner.tell("JOB_STATUS_CHANGE", id=job.id, status=job.status.value)
    if job.kind in BLOCK_KINDS and job.status is Status.READY and not job.completing:
        machine.runner.tell("BLOCK_JOB_READY", **_account(job))
    if job.kind in BLOCK_KINDS and job.status is Status.PENDING and not job.auto_finalize:
        machine.runner.tell("BLOCK_JOB_PENDING", type=job.kind, id=job.id)
    if job.status is Status.NULL:
        machine.jobs.pop(job.id, None)


def _account(job: Job) -> dict[str, Any]:
    return {"type": job.kind, "device": job.id, "len": job.length, "offset": job.offset,
            "speed": job.speed}  # fmt: skip


def _tell_end(machine: Machine, job: Job) -> None:
    if job.kind not in BLOCK_KINDS:
        return
    if job.error is None and job.cancelled and (job.forced or not job.ready):
        machine.runner.tell("BLOCK_JOB_CANCELLED", **_account(job))
        return
    error = {"error": job.error} if job.error is not None else {}
    machine.runner.tell("BLOCK_JOB_COMPLETED", **_account(job), **error)


def query_block_jobs(machine: Machine) -> Any:
    """Those of the block layer."""
    return [{
        "type": job.kind, "device": job.id, "len": job.length, "offset": job.offset,
        "busy": job.status is Status.RUNNING, "paused": bool(job.pauses), "speed": job.speed,
        "io-status": "ok", "ready": job.status in (Status.READY, Status.STANDBY),
        "status": job.status.value, "auto-finalize": job.auto_finalize,
        "auto-dismiss": job.auto_dismiss, **({"error": job.error} if job.error else {}),
    } for job in machine.jobs.values() if job.kind in BLOCK_KINDS]  # fmt: skip


def query_jobs(machine: Machine) -> Any:
    """All of them."""
    return [{"id": job.id, "type": job.kind, "status": job.status.value,
             "current-progress": job.offset, "total-progress": job.length,
             **({"error": job.error} if job.error else {})}
            for job in machine.jobs.values()]  # fmt: skip


def _block_job(machine: Machine, id: str) -> Job:
    job = machine.jobs.get(id)
    if job is None or job.kind not in BLOCK_KINDS:
        raise CommandError(f"Block job '{id}' not found", CLASS_NOT_ACTIVE)
    return job


def _job(machine: Machine, id: str) -> Job:
    if id not in machine.jobs:
        raise CommandError("Job not found")
    return machine.jobs[id]


def _do(job: Job, verb: str, *, force: bool = True) -> None:
    """CommandError where the state doesn't allow it."""
    if job.status not in VERBS[verb]:
        raise CommandError(f"Job '{job.id}' in state '{job.status.value}' cannot accept command"
                           f" verb '{verb}'")  # fmt: skip
    if verb == "cancel":
        job.cancel(force=force)
    elif verb == "complete":
        if not job.can_complete:
            raise CommandError(f"The active block job '{job.id}' cannot be completed")
        if job.pauses:
            raise CommandError(f"The active block job '{job.id}' cannot be completed")
        job.complete()
    elif verb == "pause":
        if job.pauses:
            raise CommandError("Job is already paused")
        job.pause()
    elif verb == "resume":
        if not job.pauses:
            raise CommandError("Can't resume a job that was not paused")
        job.resume()
    elif verb == "finalize":
        job.finalize()
    else:
        job.set(Status.NULL)


def _verb(verb: str) -> Callable[..., Any]:
    def run(machine: Machine, id: str) -> Any:
        _do(_job(machine, id), verb)

    return run


def _block_verb(verb: str) -> Callable[..., Any]:
    def run(machine: Machine, device: str | None = None, id: str | None = None) -> Any:
        _do(_block_job(machine, device or id or ""), verb)

    return run


def cancel_block_job(machine: Machine, device: str, *, force: bool = False) -> Any:
    """A mirror that is ready ends well where it isn't forced."""
    job = _block_job(machine, device)
    if job.pauses and not force:
        raise CommandError(f"The block job for device '{device}' is currently paused")
    _do(job, "cancel", force=force)


def set_speed(machine: Machine, device: str, speed: int) -> Any:
    """Bytes a second."""
    job = _block_job(machine, device)
    if speed < 0:
        raise CommandError("Invalid parameter 'speed'")
    if job.status not in VERBS["set-speed"]:
        _do(job, "set-speed")
    job.set_speed(speed)


COMMANDS: Final = (
    Command("query-block-jobs", query_block_jobs, returns="[BlockJobInfo]"),
    Command("query-jobs", query_jobs, returns="[JobInfo]"),
    Command("block-job-set-speed", set_speed, "device: str, speed: int"),
    Command("block-job-cancel", cancel_block_job, "device: str, *force: bool"),
    *(Command(f"block-job-{verb}", _block_verb(verb), "device: str")
      for verb in ("pause", "resume", "complete")),
    *(Command(f"block-job-{verb}", _block_verb(verb), "id: str")
      for verb in ("finalize", "dismiss")),
    *(Command(f"job-{verb}", _verb(verb), "id: str")
      for verb in ("cancel", "pause", "resume", "complete", "finalize", "dismiss")),
)  # fmt: skip
