"""pytcg-img convert."""

from __future__ import annotations

import errno

from pytcg.block.convert import Concatenation, Copier, CopyOptions
from pytcg.block.create import backing_size, create_image, options_of, parse_options
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.open import FORMATS, open_image
from pytcg.block.options import parse_keyval
from pytcg.block.qcow2 import Qcow2Device
from pytcg.typed import Any

from .img_common import (
    PROGRAM,
    Arguments,
    Failure,
    Progress,
    cache_mode,
    open_disk,
    parse,
    size_argument,
)
from .img_create import option_map, print_option_help

_OPTIONS = ("h f: O: B: F: C c e 6 o: l: S: p t: T: q n m: W U r: help object: image-opts "
            "source-image-opts: target-image-opts target-is-zero salvage bitmaps "
            "skip-broken-bitmaps force-share")


def run(argv: list[str]) -> int:
    """Copy images into a new one."""
    arguments = parse(argv, _OPTIONS)
    given = option_map(arguments)
    driver = arguments.get("O")
    if "help" in given or "?" in given:
        print_option_help(driver or "raw", f"Supported {driver or 'raw'} options")
        return 0
    _check_combinations(arguments, driver)
    *inputs, output = arguments.words
    source = _open_sources(inputs, arguments)
    try:
        _convert(source, output, driver or "raw", given, arguments)
    finally:
        source.close()
    return 0


def _check_combinations(arguments: Arguments, driver: str | None) -> None:
    if len(arguments.words) < 2:
        raise Failure("Must specify image file name" if arguments.words else
                      "Expecting image file name")
    if "target-image-opts" in arguments and "n" not in arguments:
        raise Failure("--target-image-opts requires use of -n flag")
    if "target-image-opts" in arguments and driver is not None:
        raise Failure("-O and --target-image-opts are mutually exclusive")
    if "target-is-zero" in arguments and "n" not in arguments:
        raise Failure("--target-is-zero requires use of -n flag")
    if "n" in arguments and "o" in arguments:
        raise Failure("-o has no effect when skipping image creation")
    if "C" in arguments and "S" in arguments:
        raise Failure("Cannot enable copy offloading when -S is used")
    if "C" in arguments and "c" in arguments:
        raise Failure("Cannot enable copy offloading when compression is used")
    if driver is not None and driver not in FORMATS:
        raise Failure(f"Unknown file format '{driver}'")
    if driver is not None and "n" not in arguments:
        try:
            options_of(driver)
        except BlockError as error:
            raise Failure(str(error)) from None


def _open_sources(inputs: list[str], arguments: Arguments) -> BlockDevice:
    cache = cache_mode(arguments, "T", "writeback")
    opened: list[BlockDevice] = []
    try:
        for name in inputs:
            opened.append(open_disk(name, arguments, format=arguments.get("f"), cache=cache))
        snapshot = arguments.get("l")
        if snapshot is not None:
            _load_snapshot(opened, snapshot)
    except BaseException:
        for device in opened:
            device.close()
        raise
    return opened[0] if len(opened) == 1 else Concatenation(opened)


def _load_snapshot(opened: list[BlockDevice], parameter: str) -> None:
    if len(opened) > 1:
        raise Failure("No support for concatenating multiple snapshot")
    select_snapshot(opened[0], parameter)


def select_snapshot(device: BlockDevice, parameter: str) -> None:
    """Show an internal snapshot: ``-l ID_OR_NAME`` or ``-l snapshot.name=...``."""
    from pytcg.block.qcow2_snapshot import load_snapshot

    wanted = parameter
    if parameter.startswith("snapshot."):
        values = parse_keyval(parameter)
        wanted = values.get("snapshot.id") or values.get("snapshot.name") or ""
    try:
        if not isinstance(device, Qcow2Device):
            raise BlockError("Operation not supported")
        load_snapshot(device, wanted)
    except BlockError as error:
        reason = "Can't find snapshot" if error.errno == errno.ENOENT else error
        raise Failure(f"Failed to load snapshot: {reason}") from None


def _convert(source: BlockDevice, output: str, driver: str, given: dict[str, str],
             arguments: Arguments) -> None:
    backing = arguments.get("B") or given.get("backing_file")
    create = "n" not in arguments
    if create:
        _create_target(source, output, driver, given, arguments, backing)
    target = _open_target(output, driver, arguments)
    with target:
        if target.size < source.size:
            raise Failure("output file is smaller than input file")
        options = _copy_options(source, target, arguments, created=create, backing=backing)
        progress = Progress(enabled="p" in arguments and "q" not in arguments)
        copier = Copier(source, target, options, progress)
        try:
            copier.run()
            if "bitmaps" in arguments:
                _copy_bitmaps(source, target, skip_broken="skip-broken-bitmaps" in arguments)
            target.flush()
        except BlockError as error:
            raise Failure(str(error)) from None
        progress.finish()


def _create_target(source: BlockDevice, output: str, driver: str, given: dict[str, str],
                   arguments: Arguments, backing: str | None) -> None:
    known = options_of(driver)
    try:
        for option, key in (("B", "backing_file"), ("F", "backing_fmt")):
            value = arguments.get(option)
            if value is not None:
                if key not in known:
                    raise BlockError(f"Backing file not supported for file format '{driver}'")
                given[key] = value
        values: dict[str, Any] = parse_options(driver, given)
        values.setdefault("size", source.size)
        if backing is not None:
            if "backing_fmt" not in values:
                raise Failure("Backing file specified without backing format")
            backing_size(output, values, check=True)
        if "c" in arguments and values.get("preallocation", "off") != "off":
            raise Failure("Compression and preallocation not supported at the same time")
    except BlockError as error:
        raise Failure(str(error)) from None
    try:
        create_image(output, driver, values)
    except BlockError as error:
        raise Failure(f"{output}: error while converting {driver}: {error}") from None


def _open_target(output: str, driver: str, arguments: Arguments) -> BlockDevice:
    cache = cache_mode(arguments, "t", "unsafe")
    as_options = "target-image-opts" in arguments
    try:
        return open_image(output, format=None if as_options else driver, cache=cache,
                          image_opts=as_options)
    except BlockError as error:
        raise Failure(f"Could not open '{output}': {error}") from None


def _copy_options(source: BlockDevice, target: BlockDevice, arguments: Arguments, *,
                  created: bool, backing: str | None) -> CopyOptions:
    text = arguments.get("S")
    min_sparse = size_argument(text, "buffer size for sparse output") if text else 4096
    if text and (min_sparse % 512 or min_sparse > 1 << 31):
        raise Failure("Invalid buffer size for sparse output specified. Valid sizes are multiples "
                      "of 512 up to 2147483136. Select 0 to disable sparse detection (fully "
                      "allocates output).")
    if text == "0":
        min_sparse = 0
    workers = arguments.get("m", "8") or ""
    if not workers.isdigit() or not 1 <= int(workers) <= 16:
        raise Failure("Invalid number of coroutines. Allowed number of coroutines is between 1 "
                      "and 16")
    rate = arguments.get("r")
    return CopyOptions(
        min_sparse=min_sparse,
        target_is_zero="target-is-zero" in arguments or (created and target.has_zero_init)
        or (created and backing is not None),
        keep_backing=backing is not None,
        backing_size=target.backing.size if target.backing is not None else 0,
        compressed="c" in arguments, workers=int(workers), out_of_order="W" in arguments,
        salvage="salvage" in arguments, copy_range="C" in arguments,
        rate=size_argument(rate, "rate limit") if rate else 0)


def _copy_bitmaps(source: BlockDevice, target: BlockDevice, *, skip_broken: bool) -> None:
    if not isinstance(source, Qcow2Device) or not source.has_bitmaps:
        return
    if not isinstance(target, Qcow2Device):
        raise BlockError("Format driver does not support persistent bitmaps")
    for bitmap in source.bitmaps.bitmaps:
        entry = bitmap.entry
        if bitmap.in_use:
            if skip_broken:
                continue
            raise BlockError(f"Cannot copy inconsistent bitmap '{entry.name}'\nTry "
                             f"--skip-broken-bitmaps, or use '{PROGRAM} bitmap --remove'")
        target.bitmaps.add(entry.name, 1 << entry.granularity_bits)
        target.bitmaps.merge(entry.name, source.bitmaps.load(bitmap), entry.granularity_bits)
        target.bitmaps.enable(entry.name, on=bitmap.enabled)
