"""Protocols: where an image's bytes come from."""
