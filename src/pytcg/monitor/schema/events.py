"""THE table of events: names and data."""

from __future__ import annotations

from typing import Final

from pytcg.monitor.schema.types import enum, members

enum("ShutdownCause", "host-qmp-quit host-qmp-system-reset guest-shutdown guest-reset")

enum("IoOperationType", "read write")
enum("BlockErrorAction", "ignore report stop")

_JOB: Final = "type: JobType, device: str, len: int, offset: int, speed: int"

EVENTS: Final = {name: members(data) for name, data in {
    "STOP": "",
    "RESUME": "",
    "RESET": "guest: bool, reason: ShutdownCause",
    "SHUTDOWN": "guest: bool, reason: ShutdownCause",
    "POWERDOWN": "",
    "VNC_CONNECTED": "server: VncServerInfo, client: VncBasicInfo",
    "VNC_INITIALIZED": "server: VncServerInfo, client: VncClientInfo",
    "VNC_DISCONNECTED": "server: VncServerInfo, client: VncClientInfo",
    "JOB_STATUS_CHANGE": "id: str, status: JobStatus",
    "BLOCK_JOB_READY": _JOB,
    "BLOCK_JOB_CANCELLED": _JOB,
    "BLOCK_JOB_COMPLETED": f"{_JOB}, *error: str",
    "BLOCK_JOB_PENDING": "type: JobType, id: str",
    "BLOCK_EXPORT_DELETED": "id: str",
    "DEVICE_DELETED": "*device: str, path: str",
    "VSERPORT_CHANGE": "id: str, open: bool",
    "BALLOON_CHANGE": "actual: int",
    "DEVICE_TRAY_MOVED": "device: str, id: str, tray-open: bool",
    "BLOCK_IO_ERROR": "device: str, node-name: str, operation: IoOperationType,"
                      " action: BlockErrorAction, nospace: bool, reason: str",
    "MIGRATION": "status: MigrationStatus",
}.items()}  # fmt: skip
