"""pytcg: a whole x86 PC in software."""

from __future__ import annotations

from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytcg.cpu import Cpu, CpuError, Stop
    from pytcg.library.hooks import SKIP

__version__ = "0.1.0"
__all__ = ["SKIP", "Cpu", "CpuError", "Stop", "__version__"]


def __getattr__(name: str) -> Any:
    # On first use: importing pytcg alone (`-version`) must stay cheap.
    if name in ("SKIP", "Cpu", "CpuError", "Stop"):
        from pytcg import cpu

        return getattr(cpu, name)
    raise AttributeError(f"module 'pytcg' has no attribute {name!r}")
