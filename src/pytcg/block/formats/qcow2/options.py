"""qcow2's options of a single opening: cache sizes, overlap checks, discards, lazy refcounts."""

from __future__ import annotations

import errno

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.l2 import L2_CACHE_BYTES
from pytcg.block.formats.qcow2.refcount import REFCOUNT_CACHE_BYTES
from pytcg.block.options import parse_bool
from pytcg.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytcg.block.open import OpenFlags

OVERLAP_TEMPLATES = ("none", "constant", "cached", "all")
OVERLAP_STRUCTURES = ("main-header", "active-l1", "active-l2", "refcount-table", "refcount-block",
                      "snapshot-table", "inactive-l1", "inactive-l2", "bitmap-directory")
_MIN_ENTRY = 512
_MIN_REFCOUNT_BLOCKS = 4
_INT_MAX = (1 << 31) - 1
_UINT_MAX = (1 << 32) - 1


class RuntimeOptions(NamedTuple):
    """What the options ask for; None for what the image or the drive says."""

    lazy_refcounts: bool | None = None
    l2_cache_size: int = L2_CACHE_BYTES
    refcount_cache_size: int = REFCOUNT_CACHE_BYTES
    overlap_check: str | None = None
    discard: bool | None = None  # pass the guest's discards on to the file


def take_options(flags: OpenFlags, header: fmt.Header) -> RuntimeOptions:
    """Take qcow2's runtime options. Raises BlockError in QEMU's words."""
    l2_size, refcount_size = _take_cache_sizes(flags, header)
    _check_interval(flags.take("cache-clean-interval", 0))
    lazy = _take_switch(flags, "lazy-refcounts")
    if lazy and header.version < 3:
        raise _bad("Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility "
                   "level")
    overlap = _take_overlap_check(flags)
    discard = _take_switch(flags, "pass-discard-request")
    _take_switch(flags, "pass-discard-snapshot")
    _take_switch(flags, "pass-discard-other")
    return RuntimeOptions(lazy, l2_size, refcount_size, overlap, discard)


def _check_interval(value: object) -> None:
    """Check how often (in seconds) unused cache entries would go; ours stay."""
    try:
        seconds = int(str(value), 0)
    except ValueError:
        raise _bad("Parameter 'cache-clean-interval' expects a number") from None
    if not 0 <= seconds <= _UINT_MAX:
        raise _bad("Cache clean interval too big")


def _take_switch(flags: OpenFlags, name: str) -> bool | None:
    return flags.take_bool(name, False) if name in flags.options else None


def _take_cache_sizes(flags: OpenFlags, header: fmt.Header) -> tuple[int, int]:
    """(L2 cache, refcount cache) in bytes."""
    cluster = 1 << header.cluster_bits
    word = 16 if header.incompatible & fmt.Incompatible.EXTENDED_L2 else 8
    needed = -(-(-(-header.size // cluster) * word) // cluster) * cluster  # by all L2 tables
    given = flags.options.keys() & {"cache-size", "l2-cache-size", "refcount-cache-size"}
    both = flags.take_size("cache-size", 0)
    l2_wanted = flags.take_size("l2-cache-size", L2_CACHE_BYTES)
    refcount_size = flags.take_size("refcount-cache-size", REFCOUNT_CACHE_BYTES)
    l2_size = min(needed, l2_wanted)
    if "cache-size" in given:
        _check_total(given, both, l2_wanted, refcount_size)
        if "l2-cache-size" in given:
            refcount_size = both - l2_size
        elif "refcount-cache-size" in given:
            l2_size = both - refcount_size
        else:
            least = _MIN_REFCOUNT_BLOCKS * cluster
            refcount_size = max(both - needed, min(both, least))
            l2_size = both - refcount_size
    _check_entry_size(flags, cluster, l2_size, whole=l2_size >= needed)
    if refcount_size // cluster > _INT_MAX:
        raise _bad("Refcount cache size too big")
    return l2_size, refcount_size


def _check_total(given: set[str], both: int, l2_size: int, refcount_size: int) -> None:
    if len(given) == 3:
        raise _bad("cache-size, l2-cache-size and refcount-cache-size may not be set at the same "
                   "time")
    if "l2-cache-size" in given and l2_size > both:
        raise _bad("l2-cache-size may not exceed cache-size")
    if "refcount-cache-size" in given and refcount_size > both:
        raise _bad("refcount-cache-size may not exceed cache-size")


def _check_entry_size(flags: OpenFlags, cluster: int, l2_size: int, *, whole: bool) -> None:
    """Check ``l2-cache-entry-size``; our caches have a size of their own for their slices."""
    entry = flags.take_size("l2-cache-entry-size", cluster if whole else min(cluster, 4096))
    if not _MIN_ENTRY <= entry <= cluster or entry & (entry - 1):
        raise _bad(f"L2 cache entry size must be a power of two between {_MIN_ENTRY} and the "
                   f"cluster size ({cluster})")
    if l2_size // entry > _INT_MAX:
        raise _bad("L2 cache size too big")


def _take_overlap_check(flags: OpenFlags) -> str | None:
    """The template of ``overlap-check`` or ``overlap-check.template``."""
    given = flags.take("overlap-check")
    if given is None:
        return None
    if not isinstance(given, dict):
        given = {"": given}
    direct, template = given.pop("", None), given.pop("template", None)
    if direct is not None and template is not None and direct != template:
        raise _bad(f"Conflicting values for qcow2 options 'overlap-check' ('{direct}') and "
                   f"'overlap-check.template' ('{template}')")
    chosen: str | None = direct if direct is not None else template
    if chosen is not None and chosen not in OVERLAP_TEMPLATES:
        raise _bad(f"Unsupported value '{chosen}' for qcow2 option 'overlap-check'. Allowed are "
                   f"any of the following: {', '.join(OVERLAP_TEMPLATES)}")
    for name, value in given.items():
        if name not in OVERLAP_STRUCTURES:
            raise _bad(f"Block format 'qcow2' does not support the option 'overlap-check.{name}'")
        parse_bool(f"overlap-check.{name}", value)
    return chosen


def _bad(message: str) -> BlockError:
    return BlockError(message, errno.EINVAL)
