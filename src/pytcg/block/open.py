"""Opening images: from a name or options to a chain of BlockDevices."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.options import (
    FILTERS,
    Options,
    parse_bool,
    parse_keyval,
    parse_name,
    parse_size,
    place_filename,
    resolve_backing,
)
from pytcg.block.options import LEAVES as PROTOCOLS
from pytcg.block.options import unflatten as unflatten
from pytcg.block.probe import PROBE_SIZE, probe_format
from pytcg.block.protocols import locks
from pytcg.block.protocols.posix import PosixFile
from pytcg.lazy import load
from pytcg.typed import Any

MAX_CHAIN = 200  # a deeper backing chain is taken for an endless one
CACHE_MODES = ("none", "off", "writeback", "writethrough", "directsync", "unsafe")
FORMATS = {
    "raw": ("formats.raw", "RawDevice"),
    "qcow2": ("formats.qcow2.device", "Qcow2Device"),
    "vdi": ("formats.vdi", "VdiDevice"),
    "vpc": ("formats.vpc", "VpcDevice"),
    "vhdx": ("formats.vhdx.device", "VhdxDevice"),
    "vmdk": ("formats.vmdk.device", "VmdkDevice"),
    "qed": ("formats.qed.device", "QedDevice"),
    "bochs": ("formats.bochs", "BochsDevice"),
    "cloop": ("formats.cloop", "CloopDevice"),
    "parallels": ("formats.parallels", "ParallelsDevice"),
}
_COMMON = ("locking", "aio", "auto-read-only", "x-check-cache-dropped")


class OpenFlags:
    """How to open a node, and the driver's own options that nobody has taken yet."""

    def __init__(self, *, read_only: bool = False, cache: str = "writeback",
                 force_share: bool = False, no_backing: bool = False, check: bool = False,
                 exclusive: bool = False) -> None:
        if cache not in CACHE_MODES:
            raise BlockError("Invalid cache option: " + cache, errno.EINVAL)
        self.read_only = read_only
        self.direct = cache in ("none", "off", "directsync")
        self.writethrough = cache in ("writethrough", "directsync")
        self.no_flush = cache == "unsafe"
        self.force_share = force_share
        self.no_backing = no_backing
        self.check = check  # opened to be checked: a dirty or corrupt image is what we want
        self.exclusive = exclusive  # don't share writing with others (a running guest)
        self.unmap = True  # give freed clusters back to the host
        self.options: Options = {}
        self.chain: tuple[str, ...] = ()  # names above this one, to find loops
        self.nodes: Mapping[str, BlockDevice] = {}  # that there are, to stand on by name
        self.groups: Mapping[str, Any] = {}  # of throttling, likewise

    def child(self, options: Options) -> OpenFlags:
        """Flags for a node below, with its own options."""
        made = OpenFlags()
        made.__dict__.update(self.__dict__)
        made.options = options
        return made

    def take(self, name: str, default: Any = None) -> Any:
        """Remove and return one driver option."""
        return self.options.pop(name, default)

    def take_bool(self, name: str, default: bool) -> bool:
        """A boolean driver option."""
        return parse_bool(name, self.options.pop(name, default))

    def take_size(self, name: str, default: int) -> int:
        """A size option, as a number or as text with a suffix."""
        value = self.options.pop(name, default)
        try:
            return value if isinstance(value, int) else parse_size(str(value))
        except ValueError:
            raise BlockError(f"Parameter '{name}' expects a non-negative number below 2^64",
                             errno.EINVAL) from None


def open_image(name: str | Mapping[str, Any], *, format: str | None = None,
               read_only: bool = False, cache: str = "writeback", discard: str = "unmap",
               detect_zeroes: str = "off", force_share: bool = False, no_backing: bool = False,
               check: bool = False, exclusive: bool = False, snapshot: bool = False,
               image_opts: bool = False, nodes: Mapping[str, BlockDevice] | None = None,
               groups: Mapping[str, Any] | None = None) -> BlockDevice:
    """Open an image and its backing chain.

    ``name`` is a path, an NBD URI, ``json:{...}``, a dict of QEMU's blockdev options, or with
    ``image_opts`` a ``key=value,...`` string. ``format`` None probes. ``exclusive`` refuses to
    share the file with other writers; ``force_share`` (read-only) takes no locks.
    ``snapshot`` puts a throw-away overlay on top. ``nodes`` may be named in place of a node's
    options; they stay open. ``groups`` are the ThrottleGroups by name. Raises BlockError.
    """
    options, shown = _options_of(name, format, image_opts=image_opts)
    if force_share and not read_only:
        raise BlockError("force-share=on can only be used with read-only images", errno.EINVAL)
    flags = OpenFlags(read_only=read_only or snapshot, cache=cache, force_share=force_share,
                      no_backing=no_backing, check=check, exclusive=exclusive)
    flags.nodes, flags.groups = nodes or {}, groups or {}
    discard = str(options.pop("discard", discard))
    flags.unmap = discard in ("unmap", "on")
    detect_zeroes = str(options.pop("detect-zeroes", detect_zeroes))
    device = open_node(options, flags, shown)
    if snapshot:
        from pytcg.block.overlay import temporary_overlay

        device = temporary_overlay(device)
    if discard not in ("unmap", "on") or detect_zeroes != "off":
        from pytcg.block.filters.filter import RequestPolicy

        device = RequestPolicy(device, discard=discard, detect_zeroes=detect_zeroes)
    return device


def _options_of(name: str | Mapping[str, Any], format: str | None, *, image_opts: bool
                ) -> tuple[Options, str]:
    shown = ""
    if not isinstance(name, str):
        options = unflatten(name)
    elif image_opts:
        options = unflatten(parse_keyval(name, implied="file"))
    elif name.startswith("json:") or format is None or format in FORMATS:
        options = parse_name(name)
        shown = "" if name.startswith(("json:", "file:")) else name
    else:
        options = place_filename({"driver": format}, name)
    if format is not None and options.setdefault("driver", format) != format:
        raise BlockError("Driver specified twice", errno.EINVAL)
    return options, shown


def known_driver(name: str) -> bool:
    """Whether images can be opened by this driver."""
    return name in FORMATS or name in PROTOCOLS or name in FILTERS


def open_node(options: Options, flags: OpenFlags, shown: str = "") -> BlockDevice:
    """Open the node that nested ``options`` describe; ``shown`` is its name in messages."""
    flags = flags.child(dict(options))
    name = flags.take("node-name", "")
    device = _open_described(flags, shown)
    device.node_name = name
    return device


def _open_described(flags: OpenFlags, shown: str) -> BlockDevice:
    _take_common(flags)
    _take_policy(flags)
    driver = flags.take("driver")
    if driver is not None and not known_driver(driver):
        raise BlockError(f"Unknown driver '{driver}'", errno.EINVAL)
    if driver in PROTOCOLS:
        return _as_disk(open_protocol(driver, flags), flags)
    if driver in FILTERS:
        return _open_filter(driver, flags, protocol=False)
    filename = flags.take("filename")
    if filename is not None and "file" not in flags.options:
        flags.options["file"] = parse_name(str(filename)).get("file")
    if driver is None and "file" not in flags.options:
        raise BlockError("Must specify either driver or file", errno.EINVAL)
    file = open_child(flags, "file", protocol=True)
    try:
        return _open_format(driver, file, flags, shown or file.filename)
    except BaseException:
        file.close()
        raise


def _take_common(flags: OpenFlags) -> None:
    for name in _COMMON:
        flags.take(name)
    flags.read_only = flags.take_bool("read-only", flags.read_only)
    flags.force_share = flags.take_bool("force-share", flags.force_share)
    cache = flags.take("cache")
    if isinstance(cache, dict):
        flags.direct = parse_bool("cache.direct", cache.get("direct", flags.direct))
        flags.no_flush = parse_bool("cache.no-flush", cache.get("no-flush", flags.no_flush))


def _take_policy(flags: OpenFlags) -> None:
    """What a node below another does with discards; zeroes are detected at the top only."""
    if "discard" in flags.options:
        flags.unmap = str(flags.take("discard")) in ("unmap", "on")
    if flags.options.get("detect-zeroes") == "off":
        flags.take("detect-zeroes")


def _as_disk(file: BlockDevice, flags: OpenFlags) -> BlockDevice:
    """A protocol node used as a disk itself."""
    _lock(file, flags, "raw")
    _refuse_leftovers(file, flags)
    return file


def open_child(flags: OpenFlags, name: str, *, protocol: bool) -> BlockDevice:
    """Open the node below that the option ``name`` describes.

    ``protocol``: it holds a format's own bytes, so no format is guessed and locks are the format's.
    """
    child = flags.take(name)
    if child is None:
        raise BlockError(f"A block device must be specified for \"{name}\"", errno.EINVAL)
    if isinstance(child, str):
        return _refer(child, flags)
    if not isinstance(child, dict):
        raise BlockError(f"Invalid options for \"{name}\"", errno.EINVAL)
    driver = child.get("driver")
    if not protocol or driver in FORMATS:  # in a format e.g. raw windows of another image
        return open_node(child, flags)
    below = flags.child(dict(child))
    node_name = below.take("node-name", "")
    _take_common(below)
    _take_policy(below)
    below.take("driver")
    if driver in FILTERS:
        file = _open_filter(driver, below, protocol=True)
    else:
        file = open_protocol(driver, below)
    file.node_name = node_name
    try:
        _refuse_leftovers(file, below)
    except BaseException:
        file.close()
        raise
    return file


def _refer(name: str, flags: OpenFlags) -> BlockDevice:
    """The node of a name, for one more to stand on."""
    if name not in flags.nodes:
        raise BlockError(f"Cannot find device='{name}' nor node-name='{name}'", errno.EINVAL)
    from pytcg.block.filters.filter import Reference

    return Reference(flags.nodes[name])


def _open_filter(driver: str, flags: OpenFlags, *, protocol: bool) -> BlockDevice:
    open_filter = load(f"{__package__}.filters.{driver.replace('-', '_')}", "open_filter")
    below = open_child(flags, FILTERS[driver], protocol=protocol)
    try:
        device: BlockDevice = open_filter(below, flags)
        _refuse_leftovers(device, flags)
    except BaseException:
        below.close()
        raise
    return device


def open_protocol(driver: str | None, flags: OpenFlags) -> BlockDevice:
    """Open a node that has none below; without a driver the file or the device it names."""
    if driver == "nbd":
        from pytcg.block.protocols.nbd.client import open_nbd

        options, flags.options = flags.options, {}
        remote: BlockDevice = open_nbd(options, read_only=flags.read_only)
        return remote
    if driver in ("null-co", "null-aio"):
        from pytcg.block.protocols.null import open_null

        return open_null(driver, flags)
    if driver is not None and driver not in PROTOCOLS:
        raise BlockError(f"Unknown driver '{driver}'", errno.EINVAL)
    filename = flags.take("filename")
    if not isinstance(filename, str) or not filename:
        raise BlockError(f"The '{driver or 'file'}' block driver requires a file name",
                         errno.EINVAL)
    kind: type[PosixFile] = PosixFile
    if flags.direct:
        from pytcg.block.protocols.direct import DirectFile as kind
    return kind(filename, read_only=flags.read_only, no_flush=flags.no_flush,
                writethrough=flags.writethrough, driver=driver)


def _lock(file: BlockDevice | None, flags: OpenFlags, driver: str) -> None:
    while file is not None and file.is_filter:
        file = file.file
    if flags.force_share or not isinstance(file, PosixFile):
        return
    perms, shared = locks.Perm.CONSISTENT_READ, locks.ALL
    if not flags.read_only:
        perms |= locks.Perm.WRITE
        if flags.exclusive:
            shared &= ~locks.Perm.WRITE
    if driver != "raw":  # others must not change metadata under us
        shared &= ~(locks.Perm.WRITE | locks.Perm.RESIZE)
        if not flags.read_only:
            perms |= locks.Perm.RESIZE
    file.lock(perms, shared)


def _open_format(driver: str | None, file: BlockDevice, flags: OpenFlags, shown: str
                 ) -> BlockDevice:
    probed = driver is None
    if driver is None:
        driver = probe_format(_head_of(file), file.filename)
        if driver not in FORMATS:
            raise BlockError(f"Image is in {driver} format, which is not supported",
                             errno.ENOTSUP)
    _lock(file, flags, driver)
    device: BlockDevice = format_class(driver).open(file, flags)
    device.probed = probed
    if probed and driver == "raw":  # what is asked of block 0 must be whole to be judged
        device.request_alignment = 512
    if file.filename.startswith("json:"):  # no plain name would open it again
        shown = f'json:{{"driver": "{driver}", "file": {file.filename[len("json:") :]}}}'
    elif not isinstance(file.node, PosixFile):  # protocols spell names in a way of their own
        shown = file.filename
    device.filename = shown
    try:
        backing = flags.take("backing", ...)
        _refuse_leftovers(device, flags)
        if device.supports_backing and not flags.no_backing and backing is not None:
            device.backing = _open_backing(device, backing, flags)
    except BaseException:
        device.file = None  # the caller closes it
        device.close()
        raise
    return device


def _head_of(file: BlockDevice) -> bytes:
    # A host file reads as zeroes beyond its end, an export doesn't.
    length = PROBE_SIZE if isinstance(file.node, PosixFile) else min(PROBE_SIZE, file.size)
    return file.pread(0, length)


def format_class(driver: str) -> Any:
    """The class of a format; importing it now, as most runs need one format only."""
    try:
        module, name = FORMATS[driver]
    except KeyError:
        raise BlockError(f"Unknown driver '{driver}'", errno.EINVAL) from None
    return load(f"{__package__}.{module}", name)


def _refuse_leftovers(device: BlockDevice, flags: OpenFlags) -> None:
    for name in flags.options:
        driver = device.format_name
        what = (f"protocol '{driver}' doesn't" if driver in PROTOCOLS or driver == "blkdebug"
                else f"format '{driver}' does not")
        raise BlockError(f"Block {what} support the option '{name}'", errno.EINVAL)


def _open_backing(device: BlockDevice, given: Any, flags: OpenFlags) -> BlockDevice | None:
    below = flags.child({})
    below.read_only = True
    below.check = below.exclusive = False
    options: Options
    if isinstance(given, str):
        return _refer(given, flags)
    given = given if isinstance(given, dict) else {}
    if "file" in given or ("driver" in given and not device.backing_file):
        options, name = given, ""
    else:
        if not device.backing_file:
            return None
        name = resolve_backing(device.location, device.backing_file)
        above = flags.chain or (device.location,)
        if name in above or len(flags.chain) >= MAX_CHAIN:
            raise BlockError(f"Backing file '{name}' creates an infinite loop.", errno.ELOOP)
        below.chain = (*above, name)
        try:
            options = place_filename(given, name) if given else parse_name(name)
        except BlockError as error:
            raise BlockError(f"Could not open backing file: {error}", error.errno) from None
        if device.backing_format is not None:
            options.setdefault("driver", device.backing_format)
    try:
        return open_node(options, below, name)
    except BlockError as error:
        raise BlockError(f"Could not open backing file: {error}", error.errno) from None
