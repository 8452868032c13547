"""``python -m pytcg.explore FILE|HEX…``: see docs and ``--help``."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from pathlib import Path

from pytcg.engines import EngineError, explore
from pytcg.errors import CpuError
from pytcg.explore.page import about, as_page
from pytcg.explore.source import MODES, SourceError, open_code
from pytcg.explore.table import as_text

_WIDE = 200


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytcg.explore", description=(
        "Show a region of guest code beside what the engine makes of it: IR, LLVM, host code."))
    parser.add_argument("code", nargs="+", metavar="FILE|HEX",
                        help="bytes in hex, a raw file, or a program: FILE or FILE:SYMBOL")
    parser.add_argument("--mode", choices=MODES, default="64", help="bits of the code (64)")
    parser.add_argument("--base", type=lambda text: int(text, 0), metavar="ADDRESS",
                        help="where the code lies in memory")
    parser.add_argument("-o", "--output", metavar="FILE.html", help="write a page instead of text")
    parser.add_argument("--width", type=int, help="columns of text (those of the terminal)")
    return parser  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    options = _parser().parse_args(arguments)
    try:
        cpu, start, name = open_code(options.code, options.mode, options.base)
        explored = explore(cpu, start)
        if options.output:
            Path(options.output).write_text(as_page(explored, name), encoding="utf-8")
        else:
            width = options.width or shutil.get_terminal_size((_WIDE, 0)).columns
            print(about(explored))
            for line in as_text(explored, width):
                print(line)
    except BrokenPipeError:  # a pager that was left
        with contextlib.suppress(OSError):
            sys.stdout.close()
    except (SourceError, CpuError, EngineError) as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"cannot write '{options.output}': {error.strerror}")
    return 0


def _complain(text: str) -> int:
    print(f"pytcg.explore: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
