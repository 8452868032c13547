"""Types of snapshots, transactions and exports."""

from __future__ import annotations

from pytcg.monitor.schema.types import enum, struct, union

struct("BlockdevSnapshotSync", "*device: str, *node-name: str, snapshot-file: str,"
       " *snapshot-node-name: str, *format: str, *mode: NewImageMode")  # fmt: skip
struct("BlockdevSnapshot", "node: str, overlay: str")
struct("BlockdevSnapshotInternal", "device: str, name: str")
struct("Abort")
for _name in ("Abort", "BlockdevBackup", "BlockdevSnapshot", "BlockdevSnapshotInternal",
              "BlockdevSnapshotSync", "DriveBackup"):  # fmt: skip
    struct(f"{_name}Wrapper", f"data: {_name}")
enum("TransactionActionKind", "abort blockdev-backup blockdev-snapshot"
     " blockdev-snapshot-internal-sync blockdev-snapshot-sync drive-backup")  # fmt: skip
union("TransactionAction", "type: TransactionActionKind", "type", {
    "abort": "AbortWrapper", "blockdev-backup": "BlockdevBackupWrapper",
    "blockdev-snapshot": "BlockdevSnapshotWrapper",
    "blockdev-snapshot-internal-sync": "BlockdevSnapshotInternalWrapper",
    "blockdev-snapshot-sync": "BlockdevSnapshotSyncWrapper", "drive-backup": "DriveBackupWrapper",
})  # fmt: skip
enum("ActionCompletionMode", "individual grouped")
struct("TransactionProperties", "*completion-mode: ActionCompletionMode")
struct("InetSocketAddressWrapper", "data: InetSocketAddress")
struct("UnixSocketAddressWrapper", "data: UnixSocketAddress")
union("SocketAddressLegacy", "type: SocketAddressType", "type", {
    "inet": "InetSocketAddressWrapper", "unix": "UnixSocketAddressWrapper"})  # fmt: skip
enum("BlockExportRemoveMode", "safe hard")
enum("BlockExportType", "nbd")
struct("BlockExportOptionsNbd", "*name: str, *description: str, *allocation-depth: bool")
union("BlockExportOptions", "type: BlockExportType, id: str, node-name: str, *writable: bool",
      "type", {"nbd": "BlockExportOptionsNbd"})  # fmt: skip
struct("BlockExportInfo", "id: str, type: BlockExportType, node-name: str, shutting-down: bool")
