"""Hyper-V's format, with its log."""
