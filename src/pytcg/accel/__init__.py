"""Accelerators: what runs guest code in place of our own engines."""
