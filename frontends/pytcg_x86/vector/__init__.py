"""MMX and SSE instructions, and MXCSR."""
