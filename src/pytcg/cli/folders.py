"""Where programs keep what they have fetched."""

from __future__ import annotations

import os


def guest_folder() -> str:
    """`$XDG_CACHE_HOME/pytcg/guest`: kernels, initramfs images, firmware."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return f"{base}/pytcg/guest"
