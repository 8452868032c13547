"""Making images of any format from ``-o`` options."""

from __future__ import annotations

import errno
from collections.abc import Callable

from pytcg.typed import Any, NamedTuple

from .device import BlockDevice, BlockError
from .open import FORMATS, open_image
from .options import parse_bool, parse_size, protocol_of, resolve_backing
from .posix import PosixFile

SECTOR = 512


class Option(NamedTuple):
    """One create option: its type (str, size, num, bool), default and help."""

    kind: str
    help: str
    default: Any = None


_SIZE = Option("size", "Virtual disk size")
_BACKING = {
    "backing_file": Option("str", "File name of a base image"),
    "backing_fmt": Option("str", "Image format of the base image"),
}
_PREALLOCATION = Option("str", "Preallocation mode (allowed values: off, metadata, falloc, full)")
_RAW_PREALLOCATION = Option("str", "Preallocation mode (allowed values: off, falloc, full)")

# In the order in which create prints them.
OPTIONS: dict[str, dict[str, Option]] = {
    "raw": {"size": _SIZE, "preallocation": _RAW_PREALLOCATION},
    "qcow2": {
        "cluster_size": Option("size", "qcow2 cluster size", 65536),
        "extended_l2": Option("bool", "Extended L2 tables", False),
        "preallocation": _PREALLOCATION,
        "compression_type": Option("str", "Compression method used for image cluster "
                                   "compression", "zlib"),
        "size": _SIZE,
        "compat": Option("str", "Compatibility level (v2 [0.10] or v3 [1.1])"),
        **_BACKING,
        "data_file": Option("str", "File name of an external data file"),
        "data_file_raw": Option("bool", "The external data file must stay valid as a raw image"),
        "lazy_refcounts": Option("bool", "Postpone refcount updates", False),
        "refcount_bits": Option("num", "Width of a reference count entry in bits", 16),
    },
    "vdi": {"size": _SIZE,
            "static": Option("bool", "VDI static (pre-allocated) image", False)},
    "vpc": {
        "size": _SIZE,
        "subformat": Option("str", "Type of virtual hard disk format. Supported formats are "
                            "{dynamic (default) | fixed} "),
        "force_size": Option("bool", "Force disk size calculation to use the actual size "
                             "specified, rather than using the nearest CHS-based calculation"),
    },
    "vmdk": {
        "size": _SIZE,
        "subformat": Option("str", "VMDK flat extent format, can be one of {monolithicSparse "
                            "(default) | monolithicFlat | streamOptimized} "),
        "adapter_type": Option("str", "Virtual adapter type, can be one of ide (default), "
                               "lsilogic, buslogic or legacyESX"),
    },
}


def parse_options(driver: str, given: dict[str, str]) -> dict[str, Any]:
    """Typed values of ``-o`` options, defaults filled in; BlockError for what isn't known."""
    known = options_of(driver)
    values = {name: option.default for name, option in known.items()
              if option.default is not None}
    for name, text in given.items():
        if name not in known:
            raise BlockError(f"Invalid parameter '{name}'", errno.EINVAL)
        values[name] = _parse_value(name, text, known[name].kind)
    return {name: values[name] for name in known if name in values}


def _parse_value(name: str, text: str, kind: str) -> Any:
    if kind == "bool":
        return parse_bool(name, text)
    if kind == "str":
        return text
    try:
        value = parse_size(text) if kind == "size" else int(text, 0)
        if not 0 <= value < 1 << 64:
            raise ValueError
        return value
    except ValueError:
        what = "a non-negative number below 2^64" if kind == "size" else "a number"
        hint = SIZE_HINT if kind == "size" else ""
        raise BlockError(f"Parameter '{name}' expects {what}{hint}", errno.EINVAL) from None


SIZE_HINT = ("\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
             "and exabytes, respectively.")


def options_of(driver: str) -> dict[str, Option]:
    """The create options of a format; BlockError if images of it can't be made."""
    if driver not in OPTIONS:
        if driver in FORMATS:
            raise BlockError(f"Format driver '{driver}' does not support image creation",
                             errno.ENOTSUP)
        raise BlockError(f"Unknown file format '{driver}'", errno.EINVAL)
    return OPTIONS[driver]


def describe_options(values: dict[str, Any]) -> str:
    """``name=value`` pairs as create prints them."""
    shown = []
    for name, value in values.items():
        if isinstance(value, bool):
            value = "on" if value else "off"
        shown.append(f"{name}={str(value).replace(',', ',,')}")
    return " ".join(shown)


def backing_size(filename: str, values: dict[str, Any], *, check: bool) -> int | None:
    """The size of a new image's backing file; also refuses one that can't be used."""
    name = values.get("backing_file")
    if not name:
        return None
    if resolve_backing(filename, name) == filename:
        raise BlockError("Error: Trying to create an image with the same filename as the backing "
                         "file", errno.EINVAL)
    driver = values.get("backing_fmt")
    if driver is not None and driver not in FORMATS:
        raise BlockError(f"Unknown backing file format '{driver}'", errno.EINVAL)
    if not check:
        return None
    full = resolve_backing(filename, name)
    try:
        with open_image(full, format=driver, read_only=True) as backing:
            if driver is None:
                raise BlockError("Backing file specified without backing format\n"
                                 f"Detected format of {backing.format_name}.", errno.EINVAL)
            return backing.size
    except BlockError as error:
        if driver is None and "without backing format" in str(error):
            raise
        raise BlockError(f"{error}\nCould not open backing image.", error.errno) from None


def create_image(filename: str, driver: str, values: dict[str, Any]) -> None:
    """Make the image; ``values`` as from parse_options, with a ``size``."""
    size = -(-int(values["size"]) // SECTOR) * SECTOR
    if size >> 63:
        raise BlockError("Image size must be less than 8 EiB!", errno.EINVAL)
    path = _local_path(filename)
    creators: dict[str, Callable[[str, int, dict[str, Any]], None]] = {
        "raw": _create_raw, "qcow2": _create_qcow2}
    creator = creators.get(driver)
    if creator is None:
        from .open import format_class

        creator = format_class(driver).create_image
    assert creator is not None
    creator(path, size, values)


def _local_path(filename: str) -> str:
    if protocol_of(filename) is None:
        return filename
    if filename.startswith("file:"):
        return filename.removeprefix("file:")
    raise BlockError(f"Protocol driver '{protocol_of(filename)}' does not support image creation, "
                     "and opening the image failed", errno.ENOTSUP)


def _create_raw(path: str, size: int, values: dict[str, Any]) -> None:
    mode = values.get("preallocation", "off")
    if mode not in ("off", "falloc", "full"):
        raise BlockError(f"Unsupported preallocation mode '{mode}'", errno.EINVAL)
    PosixFile.create(path, size, preallocation=mode).close()


_COMPAT = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}


def _create_qcow2(path: str, size: int, values: dict[str, Any]) -> None:
    from .qcow2_create import CreateOptions, create_qcow2

    compat = values.get("compat", "1.1")
    if compat not in _COMPAT:
        raise BlockError(f"Invalid parameter '{compat}'", errno.EINVAL)
    names = ("cluster_size", "extended_l2", "compression_type", "backing_file", "data_file",
             "data_file_raw", "lazy_refcounts", "refcount_bits", "preallocation")
    options = CreateOptions(size, version=_COMPAT[compat],
                            backing_format=values.get("backing_fmt"),
                            **{name: values[name] for name in names if name in values})
    options.check()
    data_file: BlockDevice | None = None
    if options.data_file:
        data_file = PosixFile.create(options.data_file)
    file = PosixFile.create(path)
    try:
        create_qcow2(file, options, data_file=data_file)
    finally:
        file.close()
        if data_file is not None:
            data_file.close()
