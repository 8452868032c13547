"""Optimiser passes over the IR: one a file, ``pass(function) -> None``, in place."""
