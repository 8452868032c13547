"""Disk images: formats, protocols and the layer under the machine's drives."""
