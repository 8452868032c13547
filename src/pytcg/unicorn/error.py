"""`UcError`, with Unicorn's numbers and words."""

from __future__ import annotations

from pytcg.unicorn import unicorn_const

_WORDS = {
    "OK": "OK", "NOMEM": "No memory available or memory not present",
    "ARCH": "Invalid/unsupported architecture", "HANDLE": "Invalid handle", "MODE": "Invalid mode",
    "VERSION": "Different API version between core & binding",
    "READ_UNMAPPED": "Invalid memory read", "WRITE_UNMAPPED": "Invalid memory write",
    "FETCH_UNMAPPED": "Invalid memory fetch", "HOOK": "Invalid hook type",
    "INSN_INVALID": "Invalid instruction", "MAP": "Invalid memory mapping",
    "WRITE_PROT": "Write to write-protected memory", "READ_PROT": "Read from non-readable memory",
    "FETCH_PROT": "Fetch from non-executable memory", "ARG": "Invalid argument",
    "READ_UNALIGNED": "Read from unaligned memory", "WRITE_UNALIGNED": "Write to unaligned memory",
    "FETCH_UNALIGNED": "Fetch from unaligned memory", "RESOURCE": "Insufficient resource",
    "EXCEPTION": "Unhandled CPU exception", "OVERFLOW": "Provided buffer is too small",
}  # fmt: skip
_BY_NUMBER = {getattr(unicorn_const, f"UC_ERR_{name}"): f"{text} (UC_ERR_{name})"
              for name, text in _WORDS.items()}  # fmt: skip


class UcError(Exception):
    """What goes wrong, as ``errno`` (``UC_ERR_…``)."""

    def __init__(self, errno: int, *args: object):
        super().__init__(*args)
        self.errno = errno

    def __str__(self) -> str:
        return _BY_NUMBER.get(self.errno, "Unknown error code")
