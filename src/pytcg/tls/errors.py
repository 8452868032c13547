"""What goes wrong with credentials, for those who only report it."""

from __future__ import annotations


class TlsError(Exception):
    """Credentials that can't be used; the text is the message."""
