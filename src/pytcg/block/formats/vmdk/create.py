"""Making VMDK images: one file or several, with the descriptor that names them."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

from pytcg.block.device import BlockDevice, BlockError, NotSupported
from pytcg.block.formats.mapped import SECTOR
from pytcg.block.formats.vmdk.descriptor import NO_PARENT
from pytcg.block.formats.vmdk.sparse import (
    DEFLATE,
    FLAG_COMPRESSED,
    FLAG_MARKERS,
    FLAG_NEWLINE,
    FLAG_REDUNDANT,
    FLAG_ZERO_GRAIN,
    HEADER,
    MAGIC,
)
from pytcg.block.options import resolve_backing
from pytcg.block.protocols.posix import PosixFile
from pytcg.typed import Any

SUBFORMATS = ("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
              "twoGbMaxExtentFlat", "streamOptimized")
ADAPTERS = ("ide", "buslogic", "lsilogic", "legacyESX")
SPLIT_BYTES = 2 << 30
MAX_DISK = 64 << 40
GRAIN_SECTORS = 128
GT_ENTRIES = 512
TABLE_SECTORS = GT_ENTRIES * 4 // SECTOR
DESCRIPTOR_SECTORS = 20


def create_vmdk(path: str, size: int, values: dict[str, Any]) -> None:
    """Make an image; ``values`` are the create options."""
    kind = _choice(values, "subformat", SUBFORMATS)
    adapter = _choice(values, "adapter_type", ADAPTERS)
    if values.get("backing_fmt", "vmdk") != "vmdk":
        raise BlockError("backing_file must be a vmdk image", errno.EINVAL)
    flat, split = kind.endswith("Flat"), kind.startswith("twoGb")
    _check_flat(values, flat=flat)
    if size > MAX_DISK:
        raise BlockError("VMDK disks can have at most 64 TiB", errno.EFBIG)
    hardware = _hardware(values)
    parent_cid, parent_line = _parent(path, values)
    names = list(_extent_names(path, size, flat=flat, split=split))
    lines = "".join(f'RW {length // SECTOR} {"FLAT" if flat else "SPARSE"} '
                    f'"{os.path.basename(name)}"{" 0" if flat else ""}\n'
                    for name, length in names)
    heads = 16 if adapter == "ide" else 255
    cid = int.from_bytes(os.urandom(4), "little")
    text = (f"# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID={parent_cid:08x}\n"
            f'createType="{kind}"\n{parent_line}\n# Extent description\n{lines}\n'
            "# The Disk Data Base\n#DDB\n\n"
            f'ddb.virtualHWVersion = "{hardware}"\n'
            f'ddb.geometry.cylinders = "{size // (63 * heads * SECTOR)}"\n'
            f'ddb.geometry.heads = "{heads}"\nddb.geometry.sectors = "63"\n'
            f'ddb.adapterType = "{adapter}"\n'
            f'ddb.toolsVersion = "{values.get("toolsversion", "2147483647")}"\n').encode()
    if len(text) > DESCRIPTOR_SECTORS * SECTOR and not (flat or split):
        raise BlockError("The VMDK descriptor is too long", errno.EINVAL)
    with PosixFile.create(path) as file:
        file.pwrite(0 if flat or split else SECTOR, text)
    for name, length in names:
        if flat:
            PosixFile.create(name, length).close()
            continue
        with PosixFile(name) if name == path else PosixFile.create(name) as file:
            _write_sparse(file, length, compress=kind == "streamOptimized",
                          zero_grain=bool(values.get("zeroed_grain")))


def _choice(values: dict[str, Any], name: str, known: tuple[str, ...]) -> str:
    value: str = values.get(name, known[0])
    if value not in known:
        raise BlockError(f"invalid parameter value: {value}", errno.EINVAL)
    return value


def _check_flat(values: dict[str, Any], *, flat: bool) -> None:
    if flat and values.get("backing_file"):
        raise NotSupported("Flat image can't have backing file")
    if flat and values.get("zeroed_grain"):
        raise NotSupported("Flat image can't enable zeroed grain")


def _hardware(values: dict[str, Any]) -> str:
    version: str = values.get("hwversion", "undefined")
    if values.get("compat6") and version != "undefined":
        raise BlockError("compat6 cannot be enabled with hwversion set", errno.EINVAL)
    if version == "undefined":
        return "6" if values.get("compat6") else "4"
    return version


def _parent(path: str, values: dict[str, Any]) -> tuple[int, str]:
    """The parent's CID and the descriptor's line about it."""
    name = values.get("backing_file")
    if not name:
        return NO_PARENT, ""
    from pytcg.block.formats.vmdk.device import VmdkDevice
    from pytcg.block.open import open_image

    with open_image(resolve_backing(path, name), read_only=True, no_backing=True) as parent:
        if not isinstance(parent, VmdkDevice):
            raise BlockError(f"Invalid backing file format: {parent.format_name}. Must be vmdk",
                             errno.EINVAL)
        return parent.descriptor.cid("CID"), f'parentFileNameHint="{name}"'


def _extent_names(path: str, size: int, *, flat: bool, split: bool
                  ) -> Iterator[tuple[str, int]]:
    """(file name, bytes) of each extent."""
    directory, base = os.path.split(path)
    stem, dot, ending = base.rpartition(".")
    stem = os.path.join(directory, stem if dot else base)
    ending = dot + ending if dot else ""
    if not split:
        yield (f"{stem}-flat{ending}" if flat else path), size
        return
    for index, start in enumerate(range(0, size, SPLIT_BYTES), 1):
        yield (f"{stem}-{'f' if flat else 's'}{index:03d}{ending}",
               min(SPLIT_BYTES, size - start))


def _write_sparse(file: BlockDevice, size: int, *, compress: bool, zero_grain: bool) -> None:
    """The header and two sets of grain directory and (empty) grain tables."""
    capacity = size // SECTOR
    tables = -(-capacity // (GT_ENTRIES * GRAIN_SECTORS))
    directory_sectors = -(-tables * 4 // SECTOR)
    redundant_at = 1 + DESCRIPTOR_SECTORS
    directory_at = redundant_at + directory_sectors + tables * TABLE_SECTORS
    overhead = directory_at + directory_sectors + tables * TABLE_SECTORS
    overhead = -(-overhead // GRAIN_SECTORS) * GRAIN_SECTORS
    flags = FLAG_NEWLINE | FLAG_REDUNDANT
    flags |= FLAG_COMPRESSED | FLAG_MARKERS if compress else 0
    flags |= FLAG_ZERO_GRAIN if zero_grain else 0
    header = HEADER.pack(MAGIC, 3 if compress else 2 if zero_grain else 1, flags, capacity,
                         GRAIN_SECTORS, 1, DESCRIPTOR_SECTORS, GT_ENTRIES, redundant_at,
                         directory_at, overhead, 0, b"\n", b" ", b"\r", b"\n",
                         DEFLATE if compress else 0)
    file.pwrite(0, header)
    for at in (redundant_at, directory_at):
        first = at + directory_sectors
        file.pwrite(at * SECTOR, struct.pack(
            f"<{tables}I", *range(first, first + tables * TABLE_SECTORS, TABLE_SECTORS)))
    file.truncate(overhead * SECTOR)
