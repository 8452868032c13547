"""A VNC server: the remote framebuffer protocol, RFC 6143."""
