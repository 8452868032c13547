"""pytcg: a whole x86 PC in software."""

__version__ = "0.1.0"
