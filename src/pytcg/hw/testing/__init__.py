"""Devices that exist to be driven by test kernels and by people who learn to write drivers."""
