"""pytcg-img measure."""

from __future__ import annotations

import errno

from pytcg.block.create import PREALLOCATION_MODES, new_values
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.create import CreateOptions
from pytcg.block.jobs.measure import Measurement, measure
from pytcg.cli.img.common import (
    PROGRAM,
    Arguments,
    Failure,
    open_disk,
    output_format,
    parse,
    size_argument,
)
from pytcg.cli.img.convert import select_snapshot
from pytcg.cli.img.create import option_texts


def run(argv: list[str]) -> int:
    """Say how large an image's file would be."""
    arguments = parse(argv, "f: l: o: O: U/force-share image-opts output: size:")
    as_json = output_format(arguments) == "json"
    text = arguments.get("size")
    size = size_argument(text, "image size") if text is not None else None
    if len(arguments.words) > 1:
        raise Failure("At most one filename argument is allowed.")
    if not arguments.words and ("image-opts" in arguments or "f" in arguments
                                or "l" in arguments):
        raise Failure("--image-opts, -f, and -l require a filename argument.")
    if arguments.words and size is not None:
        raise Failure("--size N cannot be used together with a filename.")
    if not arguments.words and size is None:
        raise Failure("Either --size N or one filename must be specified.")
    source: BlockDevice | None = None
    if arguments.words:
        source = open_disk(arguments.words[0], arguments, format=arguments.get("f"))
    try:
        snapshot = arguments.get("l")
        if source is not None and snapshot is not None:
            select_snapshot(source, snapshot)
        result = _measure(arguments, source, size)
    except BlockError as error:
        raise Failure(str(error)) from None
    finally:
        if source is not None:
            source.close()
    _print(result, as_json=as_json)
    return 0


def _measure(arguments: Arguments, source: BlockDevice | None, size: int | None
             ) -> Measurement:
    driver = arguments.get("O", "raw") or ""
    given = new_values(driver, "")
    try:
        for option in option_texts(arguments):
            given.parse(option)
    except BlockError as error:
        raise Failure(f"{error}\n{PROGRAM}: Invalid options for file format '{driver}'") from None
    values = given.as_dict()
    size = size if size is not None else int(values.get("size", 0))
    names = ("cluster_size", "extended_l2", "refcount_bits", "preallocation")
    version = 2 if values.get("compat") in ("0.10", "v2") else 3
    options = CreateOptions(size, version=version,
                            **{name: values[name] for name in names if name in values})
    if options.preallocation not in PREALLOCATION_MODES:
        raise Failure(f"invalid parameter value: {options.preallocation}")
    try:
        return measure(driver, options, source)
    except BlockError as error:
        if error.errno != errno.EFBIG:
            raise
        raise Failure("The image size is too large (try using a larger cluster size)") from None


def _print(result: Measurement, *, as_json: bool) -> None:
    if as_json:
        from json import dumps

        found = {} if result.bitmaps is None else {"bitmaps": result.bitmaps}
        found |= {"required": result.required, "fully-allocated": result.fully_allocated}
        print(dumps(found, indent=4))
        return
    print(f"required size: {result.required}")
    print(f"fully allocated size: {result.fully_allocated}")
    if result.bitmaps is not None:
        print(f"bitmaps size: {result.bitmaps}")
