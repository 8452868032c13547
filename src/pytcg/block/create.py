"""Making images of any format from ``-o`` options."""

from __future__ import annotations

import errno
from collections.abc import Callable, Container

from pytcg.block.create_values import FILE_OPTIONS, NBD_OPTIONS, SIZE, CreateValues, Option
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.open import FORMATS, OpenFlags, open_image, open_node
from pytcg.block.options import NBD_PROTOCOLS, parse_name, path_of, protocol_of, resolve_backing
from pytcg.block.protocols.posix import PosixFile
from pytcg.typed import Any

SECTOR = 512
PREALLOCATION_MODES = ("off", "metadata", "falloc", "full")

_BACKING = {
    "backing_file": Option("str", "File name of a base image"),
    "backing_fmt": Option("str", "Image format of the base image"),
}
_ENCRYPTION = {
    "encryption": Option("bool", "Encrypt the image with format 'aes'. (Deprecated in favor of "
                         "encrypt.format=aes)"),
    "encrypt.format": Option("str", "Encrypt the image, format choices: 'aes', 'luks'"),
    "encrypt.key-secret": Option("str", "ID of secret providing qcow AES key or LUKS passphrase"),
    "encrypt.cipher-alg": Option("str", "Name of encryption cipher algorithm"),
    "encrypt.cipher-mode": Option("str", "Name of encryption cipher mode"),
    "encrypt.ivgen-alg": Option("str", "Name of IV generator algorithm"),
    "encrypt.ivgen-hash-alg": Option("str", "Name of IV generator hash algorithm"),
    "encrypt.hash-alg": Option("str", "Name of encryption hash algorithm"),
    "encrypt.iter-time": Option("num", "Time to spend in PBKDF in milliseconds"),
}

# In the order in which create prints them.
OPTIONS: dict[str, dict[str, Option]] = {
    "raw": {"size": SIZE},
    "qcow2": {
        **_ENCRYPTION,
        "cluster_size": Option("size", "qcow2 cluster size", 65536),
        "extended_l2": Option("bool", "Extended L2 tables", False),
        "preallocation": Option("str", "Preallocation mode (allowed values: off, metadata, falloc, "
                                "full)"),
        "compression_type": Option("str", "Compression method used for image cluster "
                                   "compression", "zlib"),
        "size": SIZE,
        "compat": Option("str", "Compatibility level (v2 [0.10] or v3 [1.1])"),
        **_BACKING,
        "data_file": Option("str", "File name of an external data file"),
        "data_file_raw": Option("bool", "The external data file must stay valid as a raw image"),
        "lazy_refcounts": Option("bool", "Postpone refcount updates", False),
        "refcount_bits": Option("num", "Width of a reference count entry in bits", 16),
    },
    "qed": {
        "size": SIZE,
        "backing_file": Option("str", "File name of a base image"),
        "backing_fmt": Option("str", "Image format of the base image"),
        "cluster_size": Option("size", "Cluster size (in bytes)", 65536),
        "table_size": Option("size", "L1/L2 table size (in clusters)"),
    },
    "parallels": {
        "size": SIZE,
        "cluster_size": Option("size", "Parallels image cluster size", 1 << 20),
    },
    "vdi": {"size": SIZE,
            "static": Option("bool", "VDI static (pre-allocated) image", False)},
    "vpc": {
        "size": SIZE,
        "subformat": Option("str", "Type of virtual hard disk format. Supported formats are "
                            "{dynamic (default) | fixed} "),
        "force_size": Option("bool", "Force disk size calculation to use the actual size "
                             "specified, rather than using the nearest CHS-based calculation"),
    },
    "vhdx": {
        "size": Option("size", "Virtual disk size; max of 64TB."),
        "log_size": Option("size", "Log size; min 1MB.", 1 << 20),
        "block_size": Option("size", "Block Size; min 1MB, max 256MB. 0 means auto-calculate "
                             "based on image size.", 0),
        "subformat": Option("str", "VHDX format type, can be either 'dynamic' or 'fixed'. Default "
                            "is 'dynamic'."),
        "block_state_zero": Option("bool", "Force use of payload blocks of type 'ZERO'. "
                                   "Non-standard, but default.  Do not set to 'off' when using "
                                   "'qemu-img convert' with subformat=dynamic."),
    },
    "vmdk": {
        "size": SIZE,
        "adapter_type": Option("str", "Virtual adapter type, can be one of ide (default), "
                               "lsilogic, buslogic or legacyESX"),
        "backing_file": Option("str", "File name of a base image"),
        "backing_fmt": Option("str", "Must be 'vmdk' if present"),
        "compat6": Option("bool", "VMDK version 6 image", False),
        "hwversion": Option("str", "VMDK hardware version", "undefined"),
        "toolsversion": Option("str", "VMware guest tools version"),
        "subformat": Option("str", "VMDK flat extent format, can be one of {monolithicSparse "
                            "(default) | monolithicFlat | twoGbMaxExtentSparse | "
                            "twoGbMaxExtentFlat | streamOptimized} "),
        "zeroed_grain": Option("bool", "Enable efficient zero writes using the zeroed-grain GTE "
                               "feature"),
    },
}


def options_of(driver: str) -> dict[str, Option]:
    """The create options of a format; BlockError if images of it can't be made."""
    if driver not in OPTIONS:
        if is_driver_name(driver):
            raise BlockError(f"Format driver '{driver}' does not support image creation",
                             errno.ENOTSUP)
        raise BlockError(f"Unknown file format '{driver}'", errno.EINVAL)
    return OPTIONS[driver]


def is_driver_name(name: str) -> bool:
    """Whether QEMU knows this format, or protocol; then we name what is wrong with it."""
    if name in FORMATS:
        return True
    from pytcg.block.driver_names import DRIVER_NAMES

    return name in DRIVER_NAMES


def new_values(driver: str, filename: str) -> CreateValues:
    """Values to fill in for an image of a format under this name; BlockError if it can't be."""
    if not is_driver_name(driver):
        raise BlockError(f"Unknown file format '{driver}'", errno.EINVAL)
    below = protocol_options(filename)
    return CreateValues({**options_of(driver), **{name: option for name, option in below.items()
                                                  if name not in OPTIONS[driver]}})


def protocol_options(filename: str) -> dict[str, Option]:
    """The create options of what holds the image."""
    protocol = protocol_of(filename)
    if protocol in (None, "file"):
        return FILE_OPTIONS
    if protocol in NBD_PROTOCOLS:
        return NBD_OPTIONS
    raise BlockError(f"Unknown protocol '{protocol}'", errno.ENOENT)


def set_backing(values: CreateValues, driver: str, file: str | None, format: str | None) -> None:
    """What -b (or -B) and -F add to the options."""
    for name, value, what in (("backing_file", file, "file"), ("backing_fmt", format,
                                                               "file format")):
        if value is None:
            continue
        if name not in OPTIONS[driver]:
            raise BlockError(f"Backing {what} not supported for file format '{driver}'",
                             errno.EINVAL)
        values.set(name, value)


def check_backing(filename: str, values: CreateValues, *, open_it: bool) -> int | None:
    """The size of a new image's backing file; also refuses one that can't be used."""
    name, driver = values.get("backing_file"), values.get("backing_fmt")
    if name is None:
        return None
    if not name:
        raise BlockError("Expected backing file name, got empty string", errno.EINVAL)
    full = resolve_backing(filename, name)
    if full == filename:
        raise BlockError("Error: Trying to create an image with the same filename as the backing "
                         "file", errno.EINVAL)
    if not open_it:
        if driver is None:
            raise BlockError("Backing file specified without backing format", errno.EINVAL)
        return None
    try:
        backing = open_image(full, format=driver, read_only=True, force_share=True)
    except BlockError as error:
        raise BlockError(f"{error}\nCould not open backing image.", error.errno) from None
    with backing:
        if driver is None:
            raise BlockError("Backing file specified without backing format\n"
                             f"Detected format of {backing.format_name}.", errno.EINVAL)
        return backing.size


def create_image(filename: str, driver: str, given: CreateValues) -> None:
    """Make the image; ``given`` includes a ``size``."""
    values = given.as_dict()
    size = -(-int(values["size"]) // SECTOR) * SECTOR
    if size >> 63:
        raise BlockError("Image size must be less than 8 EiB!", errno.EINVAL)
    if given.get("nocow") or given.get("extent_size_hint"):
        from pytcg.block.protocols.file_hints import give_hints

        give_hints(_local_path(filename), nocow=bool(given.get("nocow")),
                   extent_size=given.get("extent_size_hint") or 0)
    creators: dict[str, Callable[[str, int, dict[str, Any]], None]] = {
        "raw": _create_raw, "qcow2": _create_qcow2}
    creator = creators.get(driver)
    if creator is not None:
        creator(filename, size, values)
        return
    from pytcg.block.open import format_class

    format_class(driver).create_image(_local_path(filename), size, values)


def _local_path(filename: str) -> str:
    if protocol_of(filename) is None:
        return filename
    if filename.startswith("file:"):
        return path_of(filename)
    raise BlockError(f"Images of this format can't be made in '{filename}'", errno.ENOTSUP)


def _create_file(filename: str, size: int = 0, *, preallocation: str = "off") -> BlockDevice:
    """What holds a new image, opened: a new file, or an export that has room for it."""
    if protocol_of(filename) not in NBD_PROTOCOLS:
        return PosixFile.create(_local_path(filename), size, preallocation=preallocation)
    if preallocation != "off":
        raise BlockError(f"Unsupported preallocation mode '{preallocation}'", errno.ENOTSUP)
    try:
        export = open_node({"driver": "raw", **parse_name(filename)}, OpenFlags())
    except BlockError as error:
        raise BlockError("Protocol driver 'nbd' does not support image creation, and opening the "
                         f"image failed: {error}", error.errno) from None
    try:
        if export.size < size:
            raise BlockError("Cannot grow NBD nodes", errno.ENOTSUP)
        export.write_zeroes(0, min(SECTOR, export.size))  # nothing that looks like an old image
    except BlockError:
        export.close()
        raise
    return export


def _create_raw(filename: str, size: int, values: dict[str, Any]) -> None:
    mode = values.get("preallocation", "off")
    if mode not in PREALLOCATION_MODES:
        raise BlockError(f"invalid parameter value: {mode}", errno.EINVAL)
    _create_file(filename, size, preallocation=mode).close()


_COMPAT = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}


def _create_qcow2(filename: str, size: int, values: dict[str, Any]) -> None:
    from pytcg.block.formats.qcow2.create import CreateOptions, create_qcow2

    _check_qcow2_values(values)
    names = ("cluster_size", "extended_l2", "compression_type", "backing_file", "data_file",
             "data_file_raw", "lazy_refcounts", "refcount_bits", "preallocation")
    options = CreateOptions(size, version=_COMPAT[values.get("compat", "1.1")],
                            backing_format=values.get("backing_fmt"),
                            **{name: values[name] for name in names if name in values})
    options.check()
    data_file: BlockDevice | None = None
    if options.data_file:
        data_file = _create_file(options.data_file)
    file = _create_file(filename)
    try:
        create_qcow2(file, options, data_file=data_file)
    finally:
        file.close()
        if data_file is not None:
            data_file.close()


def _check_qcow2_values(values: dict[str, Any]) -> None:
    """BlockError for words that aren't values of their options, in the order QEMU finds them."""
    if values.get("encryption") or any(name.startswith("encrypt.") for name in values):
        raise BlockError("Encryption is not supported", errno.ENOTSUP)
    words: tuple[tuple[str, str, Container[str]], ...] = (
        ("compat", "version", _COMPAT), ("preallocation", "preallocation", PREALLOCATION_MODES),
        ("compression_type", "compression-type", ("zlib", "zstd")))
    for name, shown, allowed in words:
        if name in values and values[name] not in allowed:
            raise BlockError(f"Parameter '{shown}' does not accept value '{values[name]}'",
                             errno.EINVAL)
    backing_format = values.get("backing_fmt")
    if backing_format is not None and not is_driver_name(backing_format):
        raise BlockError(f"Parameter 'backing-fmt' does not accept value '{backing_format}'",
                         errno.EINVAL)
