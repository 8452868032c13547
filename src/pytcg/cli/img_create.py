"""pytcg-img create."""

from __future__ import annotations

from pytcg.block.create import (
    OPTIONS,
    backing_size,
    create_image,
    describe_options,
    options_of,
    parse_options,
)
from pytcg.block.device import BlockError
from pytcg.block.options import parse_keyval
from pytcg.typed import Any

from .img_common import Arguments, Failure, parse, size_argument, usage


def option_map(arguments: Arguments) -> dict[str, str]:
    """All -o options together."""
    given: dict[str, str] = {}
    for text in arguments.all("o"):
        given.update(parse_keyval(text))
    return given


def print_option_help(driver: str, title: str, names: list[str] | None = None) -> None:
    """The list that ``-o help`` gives."""
    known = options_of(driver)
    kinds = {"bool": "<bool (on/off)>", "str": "<str>", "size": "<size>", "num": "<num>"}
    print(f"{title}:")
    for name in sorted(names or known):
        left = f"  {name}={kinds[known[name].kind]}"
        print(f"{left:<24} - {known[name].help}")
    if names is None:
        print(
            "\nThe protocol level may support further options.\nSpecify the target filename to "
            "include those options."
        )


def run(argv: list[str]) -> int:
    """Make an image."""
    arguments = parse(argv, "h F: b: f: o: q u help object:")
    driver = arguments.get("f", "raw") or ""
    given = option_map(arguments)
    if "help" in given or "?" in given:
        if driver not in OPTIONS:
            raise Failure(f"Unknown file format '{driver}'")
        print_option_help(driver, f"Supported {driver} options")
        return 0
    if not arguments.words:
        usage("Expecting image file name")
    name, *sizes = arguments.words
    size = size_argument(sizes[0], "image size") if sizes else None
    if len(sizes) > 1:
        usage(f"Unexpected argument: {arguments.words[-1]}")
    try:
        _create(name, driver, given, size, arguments)
    except BlockError as error:
        raise Failure(f"{name}: {error}") from None
    return 0


def _create(
    name: str, driver: str, given: dict[str, str], size: int | None, arguments: Arguments
) -> None:
    known = options_of(driver)
    for option, key in (("b", "backing_file"), ("F", "backing_fmt")):
        value = arguments.get(option)
        if value is not None:
            if key not in known:
                what = (
                    "Backing file not supported"
                    if option == "b"
                    else "Backing format not supported"
                )
                raise BlockError(f"{what} for file format '{driver}'")
            given[key] = value
    values: dict[str, Any] = parse_options(driver, given)
    if size is not None:
        values["size"] = size
    base = backing_size(name, values, check="u" not in arguments)
    if "size" not in values:
        if base is None:
            raise BlockError("Image creation needs a size parameter")
        values["size"] = base
    values = {key: values[key] for key in known if key in values}
    if "q" not in arguments:
        print(f"Formatting '{name}', fmt={driver} {describe_options(values)}", flush=True)
    create_image(name, driver, values)
