"""VMware's format: descriptors and extents."""
