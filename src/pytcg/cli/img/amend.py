"""pytcg-img amend."""

from __future__ import annotations

from contextlib import suppress

from pytcg.block.create import OPTIONS, is_driver_name, options_of
from pytcg.block.create_values import CreateValues, Option
from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.cli.img.common import PROGRAM, Failure, Progress, cache_mode, open_disk, parse, usage
from pytcg.cli.img.create import help_wanted, option_texts, print_options

_FROM_CREATE = ("size", "compat", "backing_file", "backing_fmt", "data_file", "data_file_raw",
                "lazy_refcounts", "refcount_bits")
AMENDABLE = {
    "encrypt.state": Option("str", "Select new state of affected keyslots (active/inactive)"),
    "encrypt.keyslot": Option("num", "Select a single keyslot to modify explicitly"),
    "encrypt.old-secret": Option("str", "Select all keyslots that match this password"),
    "encrypt.new-secret": Option("str", "New secret to set in the matching keyslots. Empty string "
                                 "to erase"),
    "encrypt.iter-time": OPTIONS["qcow2"]["encrypt.iter-time"],
    **{name: OPTIONS["qcow2"][name] for name in _FROM_CREATE},
}


def run(argv: list[str]) -> int:
    """Change options of an existing image."""
    arguments = parse(argv, "f: t: p q o: image-opts force")
    texts = option_texts(arguments)
    driver = arguments.get("f")
    if not texts:
        usage("Must specify options (-o)")
    wanted = help_wanted(texts)
    if wanted and driver is not None:
        return _print_help(driver)
    if len(arguments.words) != 1:
        raise Failure("Expecting one image file name")
    cache = cache_mode(arguments, "t", "writeback")
    progress = Progress(enabled="p" in arguments and "q" not in arguments)
    with progress, open_disk(arguments.words[0], arguments, format=driver, read_only=False,
                             cache=cache) as device:
        if wanted:
            return _print_help(device.format_name)
        if not isinstance(device, Qcow2Device):
            raise _not_amendable(device.format_name)
        _amend(device, _parse(texts), progress)
    return 0


def _amend(device: Qcow2Device, values: CreateValues, progress: Progress) -> None:
    from pytcg.block.formats.qcow2.amend import amend

    progress(0, 1)
    try:
        for name in AMENDABLE:
            if name.startswith("encrypt.") and name in values:
                raise BlockError("Can't amend encryption options - encryption not present")
        backing = values.get("backing_file"), values.get("backing_fmt")
        if backing not in ((None, None), (device.backing_file, device.backing_format)):
            raise BlockError("Cannot amend the backing file\n"
                             f"You can use '{PROGRAM} rebase' instead.")
        amend(device, {name: values.get(name) for name in AMENDABLE if name in values})
    except BlockError as error:
        raise Failure(str(error)) from None
    finally:
        progress(1, 1)


def _parse(texts: list[str]) -> CreateValues:
    values = CreateValues(AMENDABLE)
    try:
        for text in texts:
            values.parse(text)
    except BlockError as error:
        hint = ""
        with suppress(BlockError):
            creation = CreateValues({**AMENDABLE, **options_of("qcow2")})
            for text in texts:
                creation.parse(text)
            hint = "\nThis option is only supported for image creation"
        raise Failure(f"{error}{hint}") from None
    return values


def _print_help(driver: str) -> int:
    if not is_driver_name(driver):
        raise Failure(f"Unknown file format '{driver}'")
    if driver != "qcow2":
        raise _not_amendable(driver)
    print(f"Amend options for '{driver}':")
    print_options(AMENDABLE)
    return 0


def _not_amendable(driver: str) -> Failure:
    return Failure(f"Format driver '{driver}' does not support option amendment")
