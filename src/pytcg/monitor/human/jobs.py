"""Jobs, snapshots, exports and devices: commands that are QMP's in short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pytcg.block.options import parse_keyval
from pytcg.monitor.human.block import flags_of, one_device
from pytcg.monitor.human.table import HumanCommand, Shell, UsageError, number


def _named(command: str, *names: str, numbers: tuple[str, ...] = ()
           ) -> Callable[[Shell, list[str]], str]:  # fmt: skip
    """A command whose words are its arguments, in this order."""

    def run(shell: Shell, words: list[str]) -> str:
        given: dict[str, Any] = dict(zip(names, words, strict=False))
        for name in numbers:
            if name in given:
                given[name] = number(given[name])
        shell.qmp(command, **given)
        return ""

    return run


def _copy(command: str) -> Callable[[Shell, list[str]], str]:
    """drive_mirror and drive_backup: -n reuses the target, -f copies all layers."""

    def run(shell: Shell, words: list[str]) -> str:
        flags, rest = flags_of(words, "nfc" if command == "drive-backup" else "nf")
        if len(rest) < 2:
            raise UsageError(f"{command.replace('-', '_')}: string expected")
        given: dict[str, Any] = dict(zip(("device", "target", "format"), rest, strict=False))
        if "c" in flags:
            raise UsageError("unsupported option -c")
        shell.qmp(command, **given, sync="full" if "f" in flags else "top",
                  mode="existing" if "n" in flags else "absolute-paths")  # fmt: skip
        return ""

    return run


def snapshot(shell: Shell, words: list[str]) -> str:
    """snapshot_blkdev [-n] DEVICE FILE [FORMAT]."""
    flags, rest = flags_of(words, "n")
    if len(rest) < 2:
        return "Error: Parameter 'snapshot-file' is missing\n"
    given: dict[str, Any] = dict(zip(("device", "snapshot_file", "format"), rest, strict=False))
    shell.qmp("blockdev-snapshot-sync", **given,
              mode="existing" if "n" in flags else "absolute-paths")  # fmt: skip
    return ""


def cancel(shell: Shell, words: list[str]) -> str:
    """block_job_cancel [-f] DEVICE."""
    device, force = one_device("block_job_cancel", words)
    shell.qmp("block-job-cancel", device=device, force=force)
    return ""


def show_jobs(shell: Shell, words: list[str]) -> str:
    """info block-jobs."""
    del words
    rows = shell.qmp("query-block-jobs")
    text = ""
    for row in rows:
        what = "Streaming device" if row["type"] == "stream" else f"Type {row['type']}, device"
        text += (f"{what} {row['device']}: Completed {row['offset']} of {row['len']} bytes, speed"
                 f" limit {row['speed']} bytes/s\n")  # fmt: skip
    return text or "No active jobs\n"


def start_server(shell: Shell, words: list[str]) -> str:
    """nbd_server_start [-a] [-w] HOST:PORT: -a exports every drive, -w for writing."""
    flags, rest = flags_of(words, "aw")
    if "w" in flags and "a" not in flags:
        return "Error: -w only valid together with -a\n"
    if len(rest) != 1:
        raise UsageError("nbd_server_start: string expected")
    host, colon, port = rest[0].rpartition(":")
    address: dict[str, Any] = {"type": "inet", "data": {"host": host or "0.0.0.0", "port": port}}
    if rest[0].startswith("unix:"):
        address = {"type": "unix", "data": {"path": rest[0].removeprefix("unix:")}}
    elif not colon:
        return f"Error: error parsing address '{rest[0]}'\n"
    shell.qmp("nbd-server-start", addr=address)
    if "a" in flags:
        for row in shell.qmp("query-block"):
            if row["device"] and "inserted" in row:
                shell.qmp("nbd-server-add", device=row["device"], writable="w" in flags)
    return ""


def add_export(shell: Shell, words: list[str]) -> str:
    """nbd_server_add [-w] DEVICE [NAME]."""
    flags, rest = flags_of(words, "w")
    if not rest:
        raise UsageError("nbd_server_add: block device name expected")
    name = {"name": rest[1]} if len(rest) > 1 else {}
    shell.qmp("nbd-server-add", device=rest[0], writable="w" in flags, **name)
    return ""


def add_device(shell: Shell, words: list[str]) -> str:
    """device_add DRIVER[,PROPERTY=VALUE]…"""
    shell.qmp("device_add", **parse_keyval(words[0], implied="driver"))
    return ""


def add_object(shell: Shell, words: list[str]) -> str:
    """object_add KIND,id=NAME[,PROPERTY=VALUE]…"""
    shell.qmp("object-add", **parse_keyval(words[0], implied="qom-type"))
    return ""


def show_iothreads(shell: Shell, words: list[str]) -> str:
    """info iothreads."""
    del words
    return "".join(f"{row.pop('id')}:\n  thread_id={row.pop('thread-id')}\n"
                   + "".join(f"  {key}={value}\n" for key, value in row.items())
                   for row in shell.qmp("query-iothreads"))  # fmt: skip


def show_memdev(shell: Shell, words: list[str]) -> str:
    """info memdev."""
    del words
    text = ""
    for row in shell.qmp("query-memdev"):
        row["host nodes"] = ""
        text += f"memory backend: {row.pop('id')}\n"
        for key in ("size", "merge", "dump", "prealloc", "share", "reserve", "policy",
                    "host nodes"):  # fmt: skip
            value = row[key]
            shown = str(value).lower() if isinstance(value, bool) else value
            text += f"  {key}:  {shown}\n" if key == "size" else f"  {key}: {shown}\n"
    return text + "\n"


def balloon(shell: Shell, words: list[str]) -> str:
    """balloon: in MiB."""
    shell.qmp("balloon", value=number(words[0]) << 20)
    return ""


def show_balloon(shell: Shell, words: list[str]) -> str:
    """info balloon."""
    del words
    return f"balloon: actual={shell.qmp('query-balloon')['actual'] >> 20}\n"


COMMANDS: Final = (
    HumanCommand("device_add", "driver[,prop=value][,...]", "add device, like -device on the"
                 " command line", add_device, 1, 1),
    HumanCommand("device_del", "device", "remove device", _named("device_del", "id"), 1, 1),
    HumanCommand("object_add", "[qom-type=]type,id=str[,prop=value][,...]", "create QOM object",
                 add_object, 1, 1),
    HumanCommand("object_del", "id", "destroy QOM object", _named("object-del", "id"), 1, 1),
    HumanCommand("balloon", "target", "request VM to change its memory allocation (in MB)",
                 balloon, 1, 1),
    HumanCommand("snapshot_blkdev", "[-n] device [new-image-file] [format]",
                 "initiates a live snapshot of device", snapshot, 1, 4),
    HumanCommand("snapshot_blkdev_internal", "device name", "take an internal snapshot of device",
                 _named("blockdev-snapshot-internal-sync", "device", "name"), 2, 2),
    HumanCommand("snapshot_delete_blkdev_internal", "device name [id]",
                 "delete an internal snapshot of device",
                 _named("blockdev-snapshot-delete-internal-sync", "device", "name", "id"), 2, 3),
    HumanCommand("drive_mirror", "[-n] [-f] device target [format]",
                 "initiates live storage migration for a device", _copy("drive-mirror"), 2, 5),
    HumanCommand("drive_backup", "[-n] [-f] device target [format]",
                 "initiates a point-in-time copy for a device", _copy("drive-backup"), 2, 5),
    HumanCommand("block_stream", "device [speed [base]]", "copy data from a backing file into a"
                 " block device", _named("block-stream", "device", "speed", "base",
                                         numbers=("speed",)), 1, 3),
    HumanCommand("block_job_set_speed", "device speed", "set maximum speed for a background block"
                 " operation", _named("block-job-set-speed", "device", "speed",
                                      numbers=("speed",)), 2, 2),
    HumanCommand("block_job_cancel", "[-f] device", "stop an active background block operation",
                 cancel, 1, 2),
    *(HumanCommand(f"block_job_{verb}", "device", f"{verb} an active background block operation",
                   _named(f"block-job-{verb}", "device"), 1, 1)
      for verb in ("complete", "pause", "resume")),
    HumanCommand("nbd_server_start", "[-a] [-w] host:port", "serve block devices on the given host"
                 " and port", start_server, 1, 3),
    HumanCommand("nbd_server_add", "[-w] device [name]", "export a block device via NBD",
                 add_export, 1, 3),
    HumanCommand("nbd_server_remove", "name", "remove an export previously exposed via NBD",
                 _named("nbd-server-remove", "name"), 1, 1),
    HumanCommand("nbd_server_stop", "", "stop serving block devices using the NBD protocol",
                 _named("nbd-server-stop")),
)  # fmt: skip
SUBJECTS: Final = (
    HumanCommand("block-jobs", "", "show progress of ongoing block device operations", show_jobs),
    HumanCommand("iothreads", "", "show iothreads", show_iothreads),
    HumanCommand("memdev", "", "show memory backends", show_memdev),
    HumanCommand("balloon", "", "show balloon information", show_balloon),
)
