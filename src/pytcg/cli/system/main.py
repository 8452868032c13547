"""`pytcg-system-x86_64`: a PC from the command line.

Only the option table is imported at start: `-version` and `-h` answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pytcg.cli.system.messages import complain
from pytcg.cli.system.option_values import Information, OptionError, Options
from pytcg.cli.system.options import parse
from pytcg.cli.system.process_options import detach, speak


def open_standard_files() -> None:
    """Stand-ins for descriptors 0 to 2 that are closed, before another file gets their number."""
    for number, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own); returns the exit status."""
    if arguments is None:
        open_standard_files()
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        speak(options)
        if options.daemonize:
            detach(options)
        return run(options)
    except Information as answer:
        return say(str(answer))
    except OptionError as error:
        complain(error)
    except KeyboardInterrupt:
        complain("terminating on signal 2")
    return 1


def say(text: str) -> int:
    """Print an answer; a reader who goes away early (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        complain(f"could not write to standard output: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def run(options: Options) -> int:
    """Build the machine and run it until it ends, turning known errors into one line."""
    from pytcg.cli.system.build import StartError, build_and_run

    try:
        return build_and_run(options)
    except StartError as error:
        complain(error)
    except Exception as error:
        if "debug" in options.log_items:
            import traceback

            traceback.print_exc()
        complain(f"internal error: {type(error).__name__}: {error} (-d debug shows where)")
    return 1
