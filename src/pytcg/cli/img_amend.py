"""pytcg-img amend."""

from __future__ import annotations

from pytcg.block.create import options_of, parse_options
from pytcg.block.device import BlockError
from pytcg.block.qcow2 import Qcow2Device

from .img_common import Failure, Progress, cache_mode, open_disk, parse, usage
from .img_create import option_map, print_option_help

AMENDABLE = ["backing_file", "backing_fmt", "compat", "data_file", "data_file_raw",
             "lazy_refcounts", "refcount_bits", "size"]


def run(argv: list[str]) -> int:
    """Change options of an existing image."""
    arguments = parse(argv, "h f: t: p q o: help object: image-opts force")
    given = option_map(arguments)
    driver = arguments.get("f")
    if "help" in given or "?" in given:
        if (driver or "qcow2") != "qcow2":
            raise Failure(f"Format driver '{driver}' does not support option amendment")
        print_option_help("qcow2", "Amend options for 'qcow2'", AMENDABLE)
        return 0
    if not given:
        usage("Must specify options (-o)")
    if len(arguments.words) != 1:
        usage("Expecting one image file name")
    progress = Progress(enabled="p" in arguments and "q" not in arguments)
    with open_disk(arguments.words[0], arguments, format=driver, read_only=False,
                   cache=cache_mode(arguments, "t", "writeback")) as device:
        if not isinstance(device, Qcow2Device):
            raise Failure(f"Format driver '{device.format_name}' does not support option "
                          "amendment")
        for name in given:
            if name not in options_of("qcow2"):
                raise Failure(f"Invalid parameter '{name}'")
            if name not in AMENDABLE:
                raise Failure(f"Invalid parameter '{name}'\n"
                              "This option is only supported for image creation")
        try:
            from pytcg.block.qcow2_amend import amend

            values = parse_options("qcow2", given)
            amend(device, {name: values[name] for name in given})
        except BlockError as error:
            raise Failure(str(error)) from None
    progress.finish()
    return 0
