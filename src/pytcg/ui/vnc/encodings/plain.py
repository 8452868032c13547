"""Raw pixels, as they are and compressed (RFC 6143, 7.7.1; zlib)."""

from __future__ import annotations

import numpy as np

from pytcg.ui.vnc.encodings.encoder import LEVEL, Encoder, ZlibStream
from pytcg.ui.vnc.pixelformat import PixelFormat, Pixels


class Raw(Encoder):
    """The pixels."""

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """Row by row."""
        return np.ascontiguousarray(format.convert(pixels)).tobytes()


class Zlib(Encoder):
    """Raw, compressed."""

    def __init__(self, level: int = LEVEL) -> None:
        super().__init__(level)
        self._stream = ZlibStream(level)

    def encode(self, pixels: Pixels, format: PixelFormat) -> bytes:
        """A length and the stream's next bytes."""
        return self._stream.pack_counted(np.ascontiguousarray(format.convert(pixels)).tobytes())
