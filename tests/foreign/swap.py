"""A script written for Unicorn, with pytcg's module in its place:

    python -m tests.foreign.swap SCRIPT [ARGUMENT…]
"""

from __future__ import annotations

import importlib
import pkgutil
import runpy
import sys
from pathlib import Path

_OURS = ("unicorn_const", "x86_const")


def swap() -> None:
    """Put pytcg's module into Unicorn's place; other guests' constants stay Unicorn's."""
    theirs = importlib.import_module("unicorn")
    others = {name: importlib.import_module(f"unicorn.{name}")
              for _, name, _ in pkgutil.iter_modules(theirs.__path__)
              if name.endswith("_const") and name not in _OURS}  # fmt: skip
    ours = importlib.import_module("pytcg.unicorn")
    sys.modules["unicorn"] = ours
    for name in _OURS:
        sys.modules[f"unicorn.{name}"] = importlib.import_module(f"pytcg.unicorn.{name}")
    for name, module in others.items():
        setattr(ours, name, module)


def main() -> None:
    """Run a script as `python SCRIPT` does."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    swap()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
