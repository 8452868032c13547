"""Types of snapshots, transactions and exports."""

from __future__ import annotations

from typing import Final

from pytcg.monitor.schema.types import alternate, enum, struct, union

struct("BlockdevSnapshotSync", "*device: str, *node-name: str, snapshot-file: str,"
       " *snapshot-node-name: str, *format: str, *mode: NewImageMode")  # fmt: skip
struct("BlockdevSnapshot", "node: str, overlay: str")
struct("BlockdevSnapshotInternal", "device: str, name: str")
struct("Abort")
struct("BlockDirtyBitmap", "node: str, name: str")
struct("BlockDirtyBitmapAdd", "node: str, name: str, *granularity: uint32, *persistent: bool,"
       " *disabled: bool")  # fmt: skip
alternate("BlockDirtyBitmapOrStr", "str", "BlockDirtyBitmap")
struct("BlockDirtyBitmapMerge", "node: str, target: str, bitmaps: [BlockDirtyBitmapOrStr]")
struct("BlockDirtyBitmapSha256", "sha256: str")
for _name in ("Abort", "BlockDirtyBitmap", "BlockDirtyBitmapAdd", "BlockDirtyBitmapMerge",
              "BlockdevBackup", "BlockdevSnapshot", "BlockdevSnapshotInternal",
              "BlockdevSnapshotSync", "DriveBackup"):  # fmt: skip
    struct(f"{_name}Wrapper", f"data: {_name}")
_BITMAP_ACTIONS: Final = {
    **{f"block-dirty-bitmap-{verb}": "BlockDirtyBitmapWrapper"
       for verb in ("remove", "clear", "enable", "disable")},
    "block-dirty-bitmap-add": "BlockDirtyBitmapAddWrapper",
    "block-dirty-bitmap-merge": "BlockDirtyBitmapMergeWrapper",
}
enum("TransactionActionKind", " ".join(_BITMAP_ACTIONS) + " abort blockdev-backup blockdev-snapshot"
     " blockdev-snapshot-internal-sync blockdev-snapshot-sync drive-backup")  # fmt: skip
union("TransactionAction", "type: TransactionActionKind", "type", {
    **_BITMAP_ACTIONS, "abort": "AbortWrapper", "blockdev-backup": "BlockdevBackupWrapper",
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
struct("BlockExportOptionsNbd", "*name: str, *description: str, *allocation-depth: bool,"
       " *bitmaps: [BlockDirtyBitmapOrStr]")  # fmt: skip
union("BlockExportOptions", "type: BlockExportType, id: str, node-name: str, *writable: bool",
      "type", {"nbd": "BlockExportOptionsNbd"})  # fmt: skip
struct("BlockExportInfo", "id: str, type: BlockExportType, node-name: str, shutting-down: bool")
