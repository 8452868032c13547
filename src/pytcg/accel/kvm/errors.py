"""What KVM's failures are called, for those who don't use it otherwise."""

from __future__ import annotations


class KvmError(Exception):
    """KVM is not there, not permitted or too old, or it refuses; the text is QEMU's."""
