"""Types of jobs."""

from __future__ import annotations

from typing import Final

from pytcg.block.jobs.job import Status
from pytcg.monitor.schema.types import enum, struct

enum("JobType", "commit stream mirror backup create snapshot-load snapshot-save snapshot-delete")
enum("JobStatus", " ".join(status.value for status in Status))
struct("JobInfo", "id: str, type: JobType, status: JobStatus, current-progress: int,"
       " total-progress: int, *error: str")  # fmt: skip
struct("BlockJobInfo", "type: str, device: str, len: int, offset: int, busy: bool, paused: bool,"
       " speed: int, io-status: BlockDeviceIoStatus, ready: bool, status: JobStatus,"
       " auto-finalize: bool, auto-dismiss: bool, *error: str")  # fmt: skip
enum("BlockdevOnError", "report")
enum("MirrorSyncMode", "top full none incremental bitmap")
enum("BitmapSyncMode", "on-success never always")
enum("MirrorCopyMode", "background")
enum("NewImageMode", "existing absolute-paths")
_BACKUP: Final = ("*job-id: str, device: str, sync: MirrorSyncMode, *speed: int,"
                  " *bitmap: str, *bitmap-mode: BitmapSyncMode, *compress: bool,"
                  " *on-source-error: BlockdevOnError, *on-target-error: BlockdevOnError,"
                  " *auto-finalize: bool, *auto-dismiss: bool")  # fmt: skip
struct("DriveMirror", "*job-id: str, device: str, target: str, *format: str, *node-name: str,"
       " sync: MirrorSyncMode, *mode: NewImageMode, *speed: int, *granularity: uint32,"
       " *buf-size: int, *on-source-error: BlockdevOnError, *on-target-error: BlockdevOnError,"
       " *unmap: bool, *copy-mode: MirrorCopyMode, *auto-finalize: bool,"
       " *auto-dismiss: bool")  # fmt: skip
struct("DriveBackup", f"{_BACKUP}, target: str, *format: str, *mode: NewImageMode")
struct("BlockdevBackup", f"{_BACKUP}, target: str")
