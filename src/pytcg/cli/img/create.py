"""pytcg-img create."""

from __future__ import annotations

import errno

from pytcg.block.create import (
    check_backing,
    create_image,
    new_values,
    options_of,
    protocol_options,
    set_backing,
)
from pytcg.block.create_values import Option, split_options
from pytcg.block.device import BlockError
from pytcg.cli.img.common import Arguments, Failure, parse, size_argument, usage

_KINDS = {"bool": "bool (on/off)", "str": "str", "size": "size", "num": "num"}


def option_texts(arguments: Arguments) -> list[str]:
    """The -o values."""
    texts = arguments.all("o")
    for text in texts:
        # Values are joined by commas: one that begins or ends with an odd one would merge.
        if not text or text[0] == "," or (len(text) - len(text.rstrip(","))) % 2:
            raise Failure(f"Invalid option list: {text}")
    return texts


def help_wanted(texts: list[str]) -> bool:
    """Whether ``help`` or ``?`` is among the options."""
    return any(name in ("help", "?") and value is None
               for text in texts for name, value in split_options(text))


def print_create_help(driver: str, filename: str | None) -> int:
    """What ``-o help`` gives."""
    try:
        known = options_of(driver)
        if filename is not None:
            known = protocol_options(filename) | known
    except BlockError as error:
        raise Failure(str(error)) from None
    print("Supported options:" if filename is not None else f"Supported {driver} options:")
    print_options(known)
    if filename is None:
        print("\nThe protocol level may support further options.\nSpecify the target filename to "
              "include those options.")
    return 0


def print_options(known: dict[str, Option]) -> None:
    """The options with their types and what they mean."""
    for line in sorted(f"{f'  {name}=<{_KINDS[option.kind]}>':<24} - {option.help}"
                       for name, option in known.items()):
        print(line)


def run(argv: list[str]) -> int:
    """Make an image."""
    arguments = parse(argv, "F: b: f: o: q u")
    driver = arguments.get("f", "raw") or ""
    texts = option_texts(arguments)
    if help_wanted(texts):
        return print_create_help(driver, arguments.words[0] if arguments.words else None)
    if not arguments.words:
        usage("Expecting image file name")
    name, *sizes = arguments.words
    size = size_argument(sizes[0], "image size") if sizes else None
    if len(sizes) > 1:
        usage(f"Unexpected argument: {sizes[1]}")
    try:
        _create(name, driver, texts, size, arguments)
    except BlockError as error:
        raise Failure(f"{name}: {error}") from None
    return 0


def _create(name: str, driver: str, texts: list[str], size: int | None, arguments: Arguments
            ) -> None:
    values = new_values(driver, name)
    for text in texts:
        values.parse(text)
    if size is not None:
        if "size" in values:
            raise BlockError("The image size must be specified only once")
        values.set("size", str(size))
    set_backing(values, driver, arguments.get("b"), arguments.get("F"))
    found = check_backing(name, values, open_it="u" not in arguments)
    if "size" not in values:
        if found is None:
            raise BlockError("Image creation needs a size parameter")
        values.set("size", str(found))
    if "q" not in arguments:
        print(f"Formatting '{name}', fmt={driver} {values.describe()}", flush=True)
    try:
        create_image(name, driver, values)
    except BlockError as error:
        if error.errno != errno.EFBIG:
            raise
        hint = " (try using a larger cluster size)" if values.get("cluster_size") else ""
        raise BlockError(f"The image size is too large for file format '{driver}'{hint}"
                         ) from None
