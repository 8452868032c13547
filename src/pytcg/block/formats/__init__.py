"""Formats: what the bytes of an image file mean."""
