"""Encodings of rectangles (RFC 6143, 7.7, and the community's "The RFB Protocol")."""
