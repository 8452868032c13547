"""pytcg-img convert."""

from __future__ import annotations

import errno

from pytcg.block.create import create_image, new_values, set_backing
from pytcg.block.create_values import CreateValues
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.jobs.convert import Concatenation, Copier, CopyOptions
from pytcg.block.open import format_class, open_image
from pytcg.block.options import parse_keyval
from pytcg.cli.img.common import (
    PROGRAM,
    Arguments,
    Failure,
    Progress,
    cache_mode,
    open_disk,
    parse,
    size_argument,
    warn,
)
from pytcg.cli.img.create import help_wanted, option_texts, print_create_help

MAX_BUFFER = 16 << 20
_OPTIONS = ("f: O: B: F: C c e 6 o: l: S: p t: T: q n m: W U/force-share r: image-opts "
            "source-image-opts: target-image-opts target-is-zero salvage bitmaps "
            "skip-broken-bitmaps")


def run(argv: list[str]) -> int:
    """Copy images into a new one."""
    arguments = parse(argv, _OPTIONS)
    texts = option_texts(arguments)
    rules = _copy_rules(arguments)
    _check_combinations(arguments, texts)
    *inputs, output = arguments.words or [""]
    if help_wanted(texts):
        if "target-image-opts" in arguments:
            raise Failure("Option help requires a format be specified")
        return print_create_help(arguments.get("O", "raw") or "", output if inputs else None)
    if not inputs:
        raise Failure("Must specify image file name")
    cache_mode(arguments, "T", "writeback")
    with Progress(enabled="p" in arguments and "q" not in arguments) as progress:
        progress(0, 1)
        source = _open_sources(inputs, arguments)
        try:
            _convert(source, output, texts, rules, arguments, progress)
        finally:
            source.close()
    return 0


def _copy_rules(arguments: Arguments) -> CopyOptions:
    """What the command line alone says about the copy."""
    text = arguments.get("S")
    min_sparse = size_argument(text, "buffer size for sparse output") if text else 4096
    if min_sparse % 512 or min_sparse > MAX_BUFFER:
        raise Failure("Invalid buffer size for sparse output specified. Valid sizes are multiples "
                      f"of 512 up to {MAX_BUFFER}. Select 0 to disable sparse detection (fully "
                      "allocates output).")
    workers = _number(arguments.get("m", "8") or "")
    if not 1 <= workers <= 16:
        raise Failure("Invalid number of coroutines. Allowed number of coroutines is between 1 "
                      "and 16")
    rate = arguments.get("r")
    return CopyOptions(
        min_sparse=min_sparse, fill_zeroes=min_sparse == 0, compressed="c" in arguments,
        workers=workers, out_of_order="W" in arguments, salvage="salvage" in arguments,
        copy_range="C" in arguments, rate=size_argument(rate, "rate limit") if rate else 0,
        count_data="p" in arguments and "q" not in arguments)


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return -1


def _check_combinations(arguments: Arguments, texts: list[str]) -> None:
    create = "n" not in arguments
    rules = (
        ("skip-broken-bitmaps" in arguments and "bitmaps" not in arguments,
         "Use of --skip-broken-bitmaps requires --bitmaps"),
        ("C" in arguments and "c" in arguments, "Cannot enable copy offloading when -c is used"),
        ("C" in arguments and "S" in arguments, "Cannot enable copy offloading when -S is used"),
        ("C" in arguments and "salvage" in arguments,
         "Cannot use copy offloading in salvaging mode"),
        ("target-image-opts" in arguments and create,
         "--target-image-opts requires use of -n flag"),
        (bool(texts) and not create, "-o has no effect when skipping image creation"),
        ("target-is-zero" in arguments and create, "--target-is-zero requires use of -n flag"))
    for wrong, message in rules:
        if wrong:
            raise Failure(message)


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
    from pytcg.block.formats.qcow2.snapshot import load_snapshot

    wanted = parameter
    if parameter.startswith("snapshot."):
        values = parse_keyval(parameter)
        for name in values:
            if name not in ("snapshot.id", "snapshot.name"):
                raise Failure(f"Invalid parameter '{name}'\n{PROGRAM}: Failed in parsing snapshot "
                              f"param '{parameter}'")
        wanted = values.get("snapshot.id") or values.get("snapshot.name") or ""
    try:
        if not isinstance(device, Qcow2Device):
            raise BlockError("Operation not supported")
        load_snapshot(device, wanted)
    except BlockError as error:
        reason = "Can't find snapshot" if error.errno == errno.ENOENT else error
        raise Failure(f"Failed to load snapshot: {reason}") from None


def _convert(source: BlockDevice, output: str, texts: list[str], rules: CopyOptions,
             arguments: Arguments, progress: Progress) -> None:
    create = "n" not in arguments
    driver = None if "target-image-opts" in arguments else arguments.get("O", "raw") or ""
    values = _target_values(source, output, driver, texts, arguments) if create else None
    backing = arguments.get("B") or (values.get("backing_file") if values else None)
    if backing is not None and "target-is-zero" in arguments:
        raise Failure("Cannot use --target-is-zero when the destination image has a backing file")
    if backing is not None and isinstance(source, Concatenation):
        raise Failure("Having a backing file for the target makes no sense when concatenating "
                      "multiple input images")
    if values is not None:
        _check_values(values)
    if "bitmaps" in arguments:
        _check_bitmaps(source, skip_broken="skip-broken-bitmaps" in arguments)
    if values is not None:
        assert driver is not None
        try:
            create_image(output, driver, values)
        except BlockError as error:
            raise Failure(f"{output}: error while converting {driver}: {error}") from None
    with _open_target(output, driver, arguments) as target:
        _check_target(source, target, arguments)
        below = target.backing if create else None
        rules = rules._replace(
            compressed=rules.compressed or target.needs_compressed_writes,
            target_is_zero="target-is-zero" in arguments or (
                create and bool(rules.min_sparse) and backing is None and target.has_zero_init),
            keep_backing=backing is not None,
            backing_size=target.size if below is None else below.size)
        try:
            Copier(source, target, rules, progress,
                   (lambda message: None) if "q" in arguments else warn).run()
            if "bitmaps" in arguments:
                _copy_bitmaps(source, target)
            target.flush()
        except BlockError as error:
            raise Failure(str(error)) from None
        progress(1, 1)


def _target_values(source: BlockDevice, output: str, driver: str | None, texts: list[str],
                   arguments: Arguments) -> CreateValues:
    try:
        values = new_values(driver or "", output)
        for text in texts:
            values.parse(text)
        values.set("size", str(source.size))
        set_backing(values, driver or "", arguments.get("B"), arguments.get("F"))
    except BlockError as error:
        raise Failure(str(error)) from None
    if "c" in arguments:
        _check_compression(values, driver or "")
    return values


def _check_values(values: CreateValues) -> None:
    if "backing_file" in values and "backing_fmt" not in values:
        raise Failure("Use of backing file requires explicit backing format")


def _check_compression(values: CreateValues, driver: str) -> None:
    if not format_class(driver).can_compress:
        raise Failure("Compression not supported for this file format")
    if values.get("encryption") or values.get("encrypt.format") is not None:
        raise Failure("Compression and encryption not supported at the same time")
    if values.get("preallocation") not in (None, "off"):
        raise Failure("Compression and preallocation not supported at the same time")


def _open_target(output: str, driver: str | None, arguments: Arguments) -> BlockDevice:
    cache = cache_mode(arguments, "t", "unsafe")
    if driver is None and "O" in arguments:
        raise Failure("--image-opts and --format are mutually exclusive")
    try:
        return open_image(output, format=driver, cache=cache, image_opts=driver is None)
    except BlockError as error:
        raise Failure(f"Could not open '{output}': {error}") from None


def _check_target(source: BlockDevice, target: BlockDevice, arguments: Arguments) -> None:
    if "bitmaps" in arguments and not isinstance(target, Qcow2Device):
        raise Failure(f"Format driver '{target.format_name}' does not support bitmaps")
    if "c" in arguments and not target.can_compress:
        raise Failure("Compression not supported for this file format")
    if target.size < source.size:
        raise Failure("output file is smaller than input file")


def _check_bitmaps(source: BlockDevice, *, skip_broken: bool) -> None:
    if isinstance(source, Concatenation):
        raise Failure("Copying bitmaps only possible with single source")
    if not isinstance(source, Qcow2Device):
        raise Failure("Source lacks bitmap support")
    if not source.has_bitmaps or skip_broken:
        return
    for bitmap in source.bitmaps.bitmaps:
        if bitmap.in_use:
            raise Failure(f"Cannot copy inconsistent bitmap '{bitmap.entry.name}'\n"
                          f"Try --skip-broken-bitmaps, or use '{PROGRAM} bitmap --remove' to "
                          "delete it")


def _copy_bitmaps(source: BlockDevice, target: BlockDevice) -> None:
    assert isinstance(source, Qcow2Device) and isinstance(target, Qcow2Device)
    for bitmap in source.bitmaps.bitmaps if source.has_bitmaps else ():
        entry = bitmap.entry
        if bitmap.in_use:
            warn(f"Skipping inconsistent bitmap '{entry.name}'")
            continue
        try:
            target.bitmaps.add(entry.name, 1 << entry.granularity_bits)
        except BlockError as error:
            raise Failure(f"Failed to create bitmap {entry.name}: {error}") from None
        target.bitmaps.merge(entry.name, source.bitmaps.load(bitmap), entry.granularity_bits)
        target.bitmaps.enable(entry.name, on=bitmap.enabled)
