"""IR to LLVM text to host code, with an object cache on disk."""
