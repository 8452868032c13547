"""pytcg-img: disk image utility, with qemu-img's command line."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable

from pytcg import __version__
from pytcg.block.device import BlockError
from pytcg.cli.img.common import PROGRAM, TRY_HELP, Failure, HelpWanted
from pytcg.lazy import load

# command: (module, function, synopsis); a module is imported when its command is run.
COMMANDS = {
    "amend": ("img.amend", "run", "[-f fmt] [-t cache] [-p] [-q] -o options filename"),
    "bench": (
        "img.bench",
        "run",
        "[-c count] [-d depth] [-f fmt] [-w] [-s buffer_size] "
        "[-S step_size] [-o offset] [--pattern=pattern] [--flush-interval=n] filename",
    ),
    "bitmap": (
        "img.bitmap",
        "run",
        "(--merge SOURCE | --add | --remove | --clear | --enable | "
        "--disable)... [-b source_file [-F source_fmt]] [-g granularity] [-f fmt] "
        "filename bitmap",
    ),
    "check": ("img.check", "run", "[-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-U] filename"),
    "commit": ("img.commit", "run", "[-q] [-f fmt] [-t cache] [-b base] [-d] [-p] filename"),
    "compare": ("img.compare", "run", "[-f fmt] [-F fmt] [-p] [-q] [-s] [-U] filename1 filename2"),
    "convert": (
        "img.convert",
        "run",
        "[-c] [-p] [-q] [-n] [-f fmt] [-O output_fmt] "
        "[-B backing_file [-F backing_fmt]] [-o options] [-l snapshot_param] "
        "[-S sparse_size] [-m num] [-W] [--bitmaps] filename [filename2 [...]] "
        "output_filename",
    ),
    "create": (
        "img.create",
        "run",
        "[-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]",
    ),
    "dd": (
        "img.dd",
        "run",
        "[-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input of=output",
    ),
    "info": ("img.info", "run", "[-f fmt] [--output=ofmt] [--backing-chain] [-U] filename"),
    "map": (
        "img.map",
        "run",
        "[-f fmt] [--start-offset=offset] [--max-length=len] [--output=ofmt] [-U] filename",
    ),
    "measure": (
        "img.measure",
        "run",
        "[--output=ofmt] [-O output_fmt] [-o options] [--size N | "
        "[-f fmt] [-l snapshot_param] filename]",
    ),
    "rebase": (
        "img.rebase",
        "run",
        "[-q] [-f fmt] [-t cache] [-p] [-u] -b backing_file [-F backing_fmt] filename",
    ),
    "resize": (
        "img.resize",
        "run",
        "[-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size",
    ),
    "snapshot": (
        "img.info",
        "run_snapshot",
        "[-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename",
    ),
}


def print_help() -> None:
    """What --help gives."""
    from pytcg.block.open import FORMATS

    print(
        f"{PROGRAM} version {__version__}\n"
        f"usage: {PROGRAM} [standard options] command [command options]\n"
        "Disk image utility with the command line of qemu-img\n\n"
        "    '-h', '--help'       display this help and exit\n"
        "    '-V', '--version'    output version information and exit\n\nCommand syntax:"
    )
    for name, (_, _, synopsis) in COMMANDS.items():
        print(f"  {name} {synopsis}")
    print(
        "\nSizes take the suffixes k, M, G, T, P and E (powers of 1024). Images may be named by "
        "path,\nnbd:// or nbd+unix:// URI, json:{...}, or with --image-opts by "
        "key=value,... options.\n\nSupported formats: " + " ".join(sorted(FORMATS))
    )


def dispatch(argv: list[str]) -> int:
    """Run one command line; Failure for what goes wrong."""
    while argv and argv[0] in ("-T", "--trace"):  # accepted, as scripts pass it
        argv = argv[2:]
    if not argv:
        raise Failure(f"Not enough arguments\n{TRY_HELP}")
    command, rest = argv[0], argv[1:]
    if command in ("-h", "--help"):
        print_help()
        return 0
    if command in ("-V", "--version"):
        print(f"{PROGRAM} version {__version__}")
        return 0
    if command.startswith("-"):
        raise Failure(f"unrecognized option '{command}'\n{TRY_HELP}")
    if command not in COMMANDS:
        raise Failure(f"Command not found: {command}\n{TRY_HELP}")
    module, function, _ = COMMANDS[command]
    run: Callable[[list[str]], int] = load(f"pytcg.cli.{module}", function)
    try:
        return run(rest)
    except HelpWanted:
        print_help()
        return 0


def main() -> None:
    """The console script."""
    code = 1
    atexit.register(gc.freeze)  # the last look for cycles is an eighth of a small command's time
    try:
        code = dispatch(sys.argv[1:])
        sys.stdout.flush()
    except Failure as failure:
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
        code = failure.code
    except BlockError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
    except MemoryError:
        print(f"{PROGRAM}: Cannot allocate memory", file=sys.stderr)
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
