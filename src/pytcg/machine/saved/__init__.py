"""Saved machines: the format of the stream, and what of a machine goes into it."""
