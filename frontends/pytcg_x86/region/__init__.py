"""Regions: blocks of guest code lowered into one function."""
