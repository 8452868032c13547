"""Types of disks: drives, nodes, images, statistics."""

from __future__ import annotations

from typing import Final

from pytcg.block.filters.blkdebug_rules import EVENTS, IO_TYPES
from pytcg.monitor.schema.types import alternate, enum, struct, union

DRIVERS: Final = (
    "file host_device nbd null-co null-aio raw qcow2 vdi vpc vhdx vmdk qed bochs cloop parallels"
    " blkdebug compress copy-on-read throttle"
)
"""Those that `blockdev-add` takes."""

# --- what is told -------------------------------------------------------------------------------

struct("SnapshotInfo", "id: str, name: str, vm-state-size: int, date-sec: int, date-nsec: int,"
       " vm-clock-sec: int, vm-clock-nsec: int, *icount: int")  # fmt: skip
enum("Qcow2BitmapInfoFlags", "in-use auto")
struct("Qcow2BitmapInfo", "name: str, granularity: uint32, flags: [Qcow2BitmapInfoFlags]")
enum("Qcow2CompressionType", "zlib zstd")
struct("ImageInfoSpecificQCow2", "compat: str, *data-file: str, *data-file-raw: bool,"
       " *extended-l2: bool, *lazy-refcounts: bool, *corrupt: bool, refcount-bits: int,"
       " *bitmaps: [Qcow2BitmapInfo], compression-type: Qcow2CompressionType")  # fmt: skip
struct("ImageInfoSpecificQCow2Wrapper", "data: ImageInfoSpecificQCow2")
struct("VmdkExtentInfo", "filename: str, format: str, virtual-size: int, *cluster-size: int,"
       " *compressed: bool")  # fmt: skip
struct("ImageInfoSpecificVmdk", "create-type: str, cid: int, parent-cid: int,"
       " extents: [ImageInfo]")  # fmt: skip
struct("ImageInfoSpecificVmdkWrapper", "data: ImageInfoSpecificVmdk")
enum("ImageInfoSpecificKind", "qcow2 vmdk")
union("ImageInfoSpecific", "type: ImageInfoSpecificKind", "type", {
    "qcow2": "ImageInfoSpecificQCow2Wrapper", "vmdk": "ImageInfoSpecificVmdkWrapper"})
struct("ImageInfo", "filename: str, format: str, *dirty-flag: bool, *actual-size: int,"
       " virtual-size: int, *cluster-size: int, *encrypted: bool, *compressed: bool,"
       " *backing-filename: str, *full-backing-filename: str, *backing-filename-format: str,"
       " *snapshots: [SnapshotInfo], *backing-image: ImageInfo,"
       " *format-specific: ImageInfoSpecific")  # fmt: skip
enum("BlockdevDetectZeroesOptions", "off on unmap")
struct("BlockdevCacheInfo", "writeback: bool, direct: bool, no-flush: bool")
_UNITS: Final = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
_LIMITS: Final = ", ".join((
    *(f"{unit}: int" for unit in _UNITS), *(f"*{unit}_max: int" for unit in _UNITS),
    *(f"*{unit}_max_length: int" for unit in _UNITS), "*iops_size: int, *group: str",
))  # fmt: skip
struct("BlockIOThrottle", f"*device: str, *id: str, {_LIMITS}")
struct("BlockDeviceInfo", "file: str, *node-name: str, ro: bool, drv: str, *backing_file: str,"
       " backing_file_depth: int, encrypted: bool, detect_zeroes: BlockdevDetectZeroesOptions,"
       f" {_LIMITS}, image: ImageInfo, cache: BlockdevCacheInfo, write_threshold: int,"
       " *dirty-bitmaps: [BlockDirtyInfo]")  # fmt: skip
struct("BlockDirtyInfo", "*name: str, count: int, granularity: uint32, recording: bool,"
       " busy: bool, persistent: bool, *inconsistent: bool")  # fmt: skip
enum("BlockDeviceIoStatus", "ok failed nospace")
struct("BlockInfo", "device: str, *qdev: str, type: str, removable: bool, locked: bool,"
       " *inserted: BlockDeviceInfo, *tray_open: bool,"
       " *io-status: BlockDeviceIoStatus")  # fmt: skip
_KINDS: Final = ("rd", "wr", "flush", "unmap")
struct("BlockDeviceTimedStats", ", ".join((
    "interval_length: int",
    *(f"{which}_{kind}_latency_ns: int" for kind in ("rd", "wr", "flush")
      for which in ("min", "max", "avg")),
    "avg_rd_queue_depth: number, avg_wr_queue_depth: number",
)))  # fmt: skip
struct("BlockDeviceStats", ", ".join((
    "rd_bytes: int, wr_bytes: int, unmap_bytes: int",
    *(f"{kind}_operations: int, {kind}_total_time_ns: int, failed_{kind}_operations: int,"
      f" invalid_{kind}_operations: int" for kind in _KINDS),
    "wr_highest_offset: int, rd_merged: int, wr_merged: int, unmap_merged: int",
    "*idle_time_ns: int, account_invalid: bool, account_failed: bool,"
    " timed_stats: [BlockDeviceTimedStats]",
)))  # fmt: skip
struct("BlockStats", "*device: str, *qdev: str, *node-name: str, stats: BlockDeviceStats,"
       " *parent: BlockStats, *backing: BlockStats")  # fmt: skip
enum("BlockdevChangeReadOnlyMode", "retain read-only read-write")

# --- what blockdev-add takes --------------------------------------------------------------------

enum("BlockdevDriver", DRIVERS)
enum("BlockdevDiscardOptions", "ignore unmap")
struct("BlockdevCacheOptions", "*direct: bool, *no-flush: bool")
alternate("BlockdevRef", "BlockdevOptions", "str")
alternate("BlockdevRefOrNull", "BlockdevOptions", "str", "null")
enum("OnOffAuto", "auto on off")
enum("BlockdevAioOptions", "threads native io_uring")
struct("BlockdevOptionsFile", "filename: str, *locking: OnOffAuto, *aio: BlockdevAioOptions,"
       " *x-check-cache-dropped: bool")  # fmt: skip
enum("SocketAddressType", "inet unix")
struct("InetSocketAddress", "host: str, port: str, *numeric: bool, *to: uint16, *ipv4: bool,"
       " *ipv6: bool, *keep-alive: bool")  # fmt: skip
struct("UnixSocketAddress", "path: str, *abstract: bool, *tight: bool")
union("SocketAddress", "type: SocketAddressType", "type", {
    "inet": "InetSocketAddress", "unix": "UnixSocketAddress"})
struct("BlockdevOptionsNbd", "server: SocketAddress, *export: str, *tls-creds: str,"
       " *tls-hostname: str, *reconnect-delay: uint32, *open-timeout: uint32")  # fmt: skip
struct("BlockdevOptionsNull", "*size: int, *latency-ns: uint64, *read-zeroes: bool")
struct("BlockdevOptionsGenericFormat", "file: BlockdevRef")
struct("BlockdevOptionsRaw", "*offset: int, *size: int", base="BlockdevOptionsGenericFormat")
struct("BlockdevOptionsGenericCOWFormat", "*backing: BlockdevRefOrNull",
       base="BlockdevOptionsGenericFormat")  # fmt: skip
struct("BlockdevOptionsQcow2", "*lazy-refcounts: bool, *pass-discard-request: bool,"
       " *pass-discard-snapshot: bool, *pass-discard-other: bool, *cache-size: int,"
       " *l2-cache-size: int, *l2-cache-entry-size: int, *refcount-cache-size: int,"
       " *cache-clean-interval: int, *data-file: BlockdevRef",
       base="BlockdevOptionsGenericCOWFormat")  # fmt: skip
enum("BlkdebugEvent", " ".join(sorted(EVENTS)))
enum("BlkdebugIOType", " ".join(IO_TYPES))
struct("BlkdebugInjectErrorOptions", "event: BlkdebugEvent, *state: int, *iotype: BlkdebugIOType,"
       " *errno: int, *sector: int, *once: bool, *immediately: bool")  # fmt: skip
struct("BlkdebugSetStateOptions", "event: BlkdebugEvent, *state: int, new_state: int")
struct("BlockdevOptionsBlkdebug", "image: BlockdevRef, *config: str, *align: int,"
       " *inject-error: [BlkdebugInjectErrorOptions], *set-state: [BlkdebugSetStateOptions],"
       " *max-transfer: int32, *opt-write-zero: int32, *max-write-zero: int32,"
       " *opt-discard: int32, *max-discard: int32")  # fmt: skip
struct("BlockdevOptionsThrottle", "throttle-group: str, file: BlockdevRef")
union("BlockdevOptions", "driver: BlockdevDriver, *node-name: str,"
      " *discard: BlockdevDiscardOptions, *cache: BlockdevCacheOptions, *read-only: bool,"
      " *auto-read-only: bool, *force-share: bool,"
      " *detect-zeroes: BlockdevDetectZeroesOptions", "driver", {
          **dict.fromkeys(("file", "host_device"), "BlockdevOptionsFile"),
          "nbd": "BlockdevOptionsNbd",
          **dict.fromkeys(("null-co", "null-aio"), "BlockdevOptionsNull"),
          "raw": "BlockdevOptionsRaw", "qcow2": "BlockdevOptionsQcow2",
          **dict.fromkeys(("qed", "vmdk"), "BlockdevOptionsGenericCOWFormat"),
          **dict.fromkeys(("vdi", "vpc", "vhdx", "bochs", "cloop", "parallels", "compress",
                           "copy-on-read"), "BlockdevOptionsGenericFormat"),
          "blkdebug": "BlockdevOptionsBlkdebug", "throttle": "BlockdevOptionsThrottle",
      })  # fmt: skip

# --- what blockdev-create takes -----------------------------------------------------------------

enum("PreallocMode", "off metadata falloc full")
enum("BlockdevQcow2Version", "v2 v3")
struct("BlockdevCreateOptionsFile", "filename: str, size: size, *preallocation: PreallocMode,"
       " *nocow: bool, *extent-size-hint: size")  # fmt: skip
struct("BlockdevCreateOptionsQcow2", "file: BlockdevRef, *data-file: BlockdevRef,"
       " *data-file-raw: bool, *extended-l2: bool, size: size, *version: BlockdevQcow2Version,"
       " *backing-file: str, *backing-fmt: BlockdevDriver, *cluster-size: size,"
       " *preallocation: PreallocMode, *lazy-refcounts: bool, *refcount-bits: int,"
       " *compression-type: Qcow2CompressionType")  # fmt: skip
union("BlockdevCreateOptions", "driver: BlockdevDriver", "driver", {
    "file": "BlockdevCreateOptionsFile", "qcow2": "BlockdevCreateOptionsQcow2"})
