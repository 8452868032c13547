"""pytcg-img check."""

from __future__ import annotations

import os
import sys

from pytcg.block.check_result import CheckError, CheckResult
from pytcg.block.device import BlockDevice, BlockError, NotSupported
from pytcg.cli.img.common import (
    PROGRAM,
    Failure,
    cache_mode,
    one_word,
    open_disk,
    output_format,
    parse,
    usage,
)
from pytcg.typed import Any


def run(argv: list[str]) -> int:
    """Check consistency: 0 clean, 1 failed, 2 corrupt, 3 leaks, 63 not supported."""
    arguments = parse(argv, "f/format: q r/repair: T: U/force-share image-opts output:")
    as_json = output_format(arguments) == "json"
    repair = arguments.get("r")
    if repair not in (None, "leaks", "all"):
        usage(f"Unknown option value for -r (expecting 'leaks' or 'all'): {repair}")
    name = one_word(arguments)
    quiet = "q" in arguments
    device = open_disk(
        name,
        arguments,
        format=arguments.get("f"),
        read_only=repair is None,
        cache=cache_mode(arguments, "T", "writeback"),
        check=True,
        no_backing=False,
    )
    with device:
        result = _check(device, repair, quiet=quiet)
        if result.leaks_fixed or result.corruptions_fixed:
            if not as_json and not quiet:
                print(
                    "The following inconsistencies were found and repaired:\n\n"
                    f"    {result.leaks_fixed} leaked clusters\n"
                    f"    {result.corruptions_fixed} corruptions\n\n"
                    "Double checking the fixed image now...",
                )
            again = _check(device, None, quiet=quiet)
            again.leaks_fixed = result.leaks_fixed
            again.corruptions_fixed = result.corruptions_fixed
            result = again
        if as_json and not quiet:
            _print_json(result, name, device.format_name)
        elif not quiet:
            print("\n".join(_human_lines(result)))
    if result.check_errors:
        raise Failure("Check failed")
    return 2 if result.corruptions else 3 if result.leaks else 0


def _check(device: BlockDevice, repair: str | None, *, quiet: bool) -> CheckResult:
    checker = getattr(device, "check", None)
    if checker is None:
        raise Failure("This image format does not support checks", 63)
    try:
        result = checker(repair=repair, report=lambda line: print(line, file=sys.stderr))
    except NotSupported as error:  # a format that can check, but not repair
        raise Failure(str(error), 63) from None
    except CheckError as error:
        print(f"{PROGRAM}: ERROR {error}", file=sys.stderr)
        raise Failure(f"Check failed: {os.strerror(error.errno)}") from None
    except BlockError as error:
        raise Failure(f"Check failed: {error}") from None
    assert isinstance(result, CheckResult)
    return result


def _print_json(result: CheckResult, name: str, format: str) -> None:
    from json import dumps

    found: dict[str, Any] = {}
    for key in (
        "image_end_offset",
        "total_clusters",
        "check_errors",
        "corruptions",
        "leaks",
        "corruptions_fixed",
        "leaks_fixed",
        "allocated_clusters",
        "fragmented_clusters",
        "compressed_clusters",
    ):
        value = getattr(result, key)
        if value or key == "check_errors":
            found[key.replace("_", "-")] = value
    print(dumps(found | {"filename": name, "format": format}, indent=4))


def _human_lines(result: CheckResult) -> list[str]:
    lines = []
    if result.clean:
        lines.append("No errors were found on the image.")
    if result.corruptions:
        lines.append(
            f"\n{result.corruptions} errors were found on the image.\n"
            "Data may be corrupted, or further writes to the image may corrupt it."
        )
    if result.leaks:
        lines.append(
            f"\n{result.leaks} leaked clusters were found on the image.\n"
            "This means waste of disk space, but no harm to data."
        )
    if result.check_errors:
        lines.append(f"\n{result.check_errors} internal errors have occurred during the check.")
    if result.total_clusters and result.allocated_clusters:
        allocated = result.allocated_clusters
        lines.append(
            f"{allocated}/{result.total_clusters} = "
            f"{allocated * 100 / result.total_clusters:.2f}% allocated, "
            f"{result.fragmented_clusters * 100 / allocated:.2f}% fragmented, "
            f"{result.compressed_clusters * 100 / allocated:.2f}% compressed clusters"
        )
    if result.image_end_offset:
        lines.append(f"Image end offset: {result.image_end_offset}")
    return lines
