"""The processor: its state, flags, blocks, and how lowerings become code."""
