"""mirror and backup: jobs that copy a disk which the guest goes on to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockDevice
from pytcg.block.dirty import DirtyBitmap, bitmaps_of, check_usable
from pytcg.block.graph import Graph, Holder
from pytcg.block.jobs.backup import Backup
from pytcg.block.jobs.mirror import Mirror
from pytcg.monitor.block.joblist import check_new, start_job
from pytcg.monitor.block.lookup import find_node, root_of
from pytcg.monitor.block.targets import prepared
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

COMMON: Final = ("*job-id: str, *speed: int, *on-source-error: BlockdevOnError,"
                 " *on-target-error: BlockdevOnError, *auto-finalize: bool, *auto-dismiss: bool")
Given = dict[str, Any]
BY_BITMAP: Final = ("bitmap", "incremental")


def _life(given: Given) -> dict[str, Any]:
    """What every job is told."""
    return {"speed": given.get("speed", 0), "finalize": given.get("auto-finalize", True),
            "dismiss": given.get("auto-dismiss", True)}  # fmt: skip


def _id(machine: Machine, given: Given) -> str:
    """The job's id: a drive's, unless there is one given."""
    drive = machine.drives.get(given["device"])
    return str(given.get("job-id") or (drive.id if drive is not None else ""))


def _source(machine: Machine, given: Given) -> BlockDevice:
    node = root_of(machine, given["device"])
    machine.drives.graph.check_unused_by_jobs(node)
    return node


def _node(machine: Machine, name: str) -> BlockDevice:
    graph = machine.drives.graph
    node = find_node(machine, name)
    if node is None:
        raise CommandError(f"Cannot find device='{name}' nor node-name='{name}'")
    drives = [drive for drive in machine.drives.values() if drive.taken_by]
    if any(drive.io in graph.users_of(node) for drive in drives):
        raise CommandError(f"Node '{name}' is in use")
    return node


def _check_sizes(source: BlockDevice, target: BlockDevice) -> None:
    if source is target:
        raise CommandError("Can't mirror node into itself")
    if target.size < source.size:
        raise CommandError("Source and target image have different sizes")


def _keep(graph: Graph, target: BlockDevice) -> Holder:
    holder = Holder(target)
    graph.use(holder)
    return holder


def mirror_job(machine: Machine, given: Given, source: BlockDevice, target: BlockDevice) -> Mirror:
    """A mirror that gives its target up, or its source, at its end."""
    graph = machine.drives.graph
    granularity = given.get("granularity", 0)
    if granularity and (granularity & granularity - 1 or not 512 <= granularity <= 64 << 20):
        raise CommandError("Parameter 'granularity' expects "
                           + ("a power of 2" if granularity & granularity - 1
                              else "a value in range [512B, 64MB]"))  # fmt: skip
    base = source.backing.node if source.backing is not None else None
    job = Mirror(_id(machine, given), graph, source, target, nodes=[source, target],
                 sync=given["sync"], base=base,
                 granularity=max(granularity, target.cluster_size, 64 << 10), **_life(given))
    holder = _keep(graph, target)

    def end(switched: bool) -> None:
        graph.leave(holder)
        graph.drop(source if switched else target)

    job.on_end = end
    return job


def _check_mirror(given: Given) -> None:
    if given["sync"] in BY_BITMAP:
        raise CommandError(f"Sync mode '{given['sync']}' not supported")


def drive_mirror(machine: Machine, given: Given) -> Any:
    """To a file."""
    _check_mirror(given)
    source = _source(machine, given)
    sync = given["sync"]
    if sync == "top" and source.backing is None:
        sync = "full"
    target = prepared(machine.drives.graph, source, target=given["target"],
                      format=given.get("format"), mode=given.get("mode", "absolute-paths"),
                      sync=sync, node_name=given.get("node-name"))  # fmt: skip
    try:
        _check_sizes(source, target)
        job = mirror_job(machine, {**given, "sync": sync}, source, target)
    except BaseException:
        target.close()
        raise

    def switch() -> None:
        if sync == "top":
            target.backing, source.backing = source.backing, None
        elif sync == "none":
            source.flush()
            target.backing = source

    job.on_switch = switch
    _start(machine, job, target)


def _start(machine: Machine, job: Mirror | Backup, target: BlockDevice) -> None:
    try:
        start_job(machine, job)
    except BaseException:
        if isinstance(job, Backup):
            job.thaw(done=False)
        graph = machine.drives.graph
        for user in list(graph.users):
            if isinstance(user, Holder) and user.device is target:
                graph.leave(user)
        graph.drop(target)
        raise


def blockdev_mirror(machine: Machine, given: Given) -> Any:
    """To a node."""
    _check_mirror(given)
    source, target = _source(machine, given), _node(machine, given["target"])
    _check_sizes(source, target)
    _start(machine, mirror_job(machine, given, source, target), target)


def _bitmap(given: Given, source: BlockDevice) -> DirtyBitmap | None:
    """What a backup is told to go by, or to keep up to date."""
    sync, name, mode = given["sync"], given.get("bitmap"), given.get("bitmap-mode")
    if name is None:
        if sync in BY_BITMAP:
            raise CommandError(f"must provide a valid bitmap name for '{sync}' sync mode")
        if mode is not None:
            raise CommandError("Cannot specify bitmap sync mode without a bitmap")
        return None
    if sync == "incremental":
        if mode not in (None, "on-success"):
            raise CommandError("Bitmap sync mode must be 'on-success' when using sync mode"
                               " 'incremental'")  # fmt: skip
        mode = "on-success"
    found = [bitmap for bitmap in bitmaps_of(source) if bitmap.name == name]
    if not found:
        raise CommandError(f"Bitmap '{name}' could not be found")
    if mode is None:
        raise CommandError("Bitmap sync mode must be given when providing a bitmap")
    check_usable(found[0], read_only=mode != "never")
    if sync == "none":
        raise CommandError("sync mode 'none' does not produce meaningful bitmap outputs")
    if mode == "never" and sync != "bitmap":
        raise CommandError("Bitmap sync mode 'never' has no meaningful effect when combined with"
                           f" sync mode '{sync}'")  # fmt: skip
    return found[0]


def backup_job(machine: Machine, given: Given, source: BlockDevice, target: BlockDevice) -> Backup:
    """A backup that gives its target up at its end."""
    graph = machine.drives.graph
    sync = "full" if given["sync"] == "top" and source.backing is None else given["sync"]
    bitmap = _bitmap(given, source)
    id = _id(machine, given)
    check_new(machine, id)
    if given.get("compress", False) and not target.can_compress:
        raise CommandError(f"Compression is not supported for this drive {target.node_name}")
    if bitmap is not None:
        bitmap.freeze()
    job = Backup(id, graph, source, target, bitmap=bitmap,
                 sync="bitmap" if sync == "incremental" else sync,
                 bitmap_mode=given.get("bitmap-mode", "on-success"),
                 compress=given.get("compress", False), **_life(given))
    holder = _keep(graph, target)

    def end() -> None:
        graph.leave(holder)
        graph.drop(target)

    job.on_end = end
    return job


def drive_backup_of(machine: Machine, given: Given) -> tuple[Backup, BlockDevice]:
    """Made, but not started: (job, target)."""
    source = _source(machine, given)
    target = prepared(machine.drives.graph, source, target=given["target"],
                      format=given.get("format"), mode=given.get("mode", "absolute-paths"),
                      sync=given["sync"], node_name=None)  # fmt: skip
    return backup_job(machine, given, source, target), target


def drive_backup(machine: Machine, given: Given) -> Any:
    """To a file."""
    _start(machine, *drive_backup_of(machine, given))


def blockdev_backup_of(machine: Machine, given: Given) -> tuple[Backup, BlockDevice]:
    """Made, but not started."""
    source, target = _source(machine, given), _node(machine, given["target"])
    _check_sizes(source, target)
    return backup_job(machine, given, source, target), target


def blockdev_backup(machine: Machine, given: Given) -> Any:
    """To a node."""
    _start(machine, *blockdev_backup_of(machine, given))


COMMANDS: Final = (
    Command("drive-mirror", drive_mirror, "DriveMirror"),
    Command("blockdev-mirror", lambda machine, **given: blockdev_mirror(machine, {
        key.replace("_", "-"): value for key, value in given.items()}),
            "*job-id: str, device: str, target: str, sync: MirrorSyncMode, *speed: int,"
            " *granularity: uint32, *buf-size: int, *on-source-error: BlockdevOnError,"
            " *on-target-error: BlockdevOnError, *copy-mode: MirrorCopyMode,"
            " *auto-finalize: bool, *auto-dismiss: bool"),
    Command("drive-backup", drive_backup, "DriveBackup"),
    Command("blockdev-backup", blockdev_backup, "BlockdevBackup"),
)  # fmt: skip
