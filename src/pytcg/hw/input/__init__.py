"""Keyboards, mice and their controller."""
