"""Regions: hot blocks compiled by LLVM as whole functions, in processes of their own."""
