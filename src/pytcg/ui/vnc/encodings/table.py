"""Which encodings there are, by their numbers."""

from __future__ import annotations

from typing import Final

from pytcg.ui.vnc.encodings.encoder import Encoder
from pytcg.ui.vnc.encodings.hextile import Hextile
from pytcg.ui.vnc.encodings.plain import Raw, Zlib
from pytcg.ui.vnc.encodings.tight import Tight
from pytcg.ui.vnc.encodings.zrle import Zrle
from pytcg.ui.vnc.protocol import Encoding

ENCODERS: Final[dict[int, type[Encoder]]] = {
    Encoding.RAW: Raw, Encoding.HEXTILE: Hextile, Encoding.ZLIB: Zlib, Encoding.TIGHT: Tight,
    Encoding.ZRLE: Zrle,
}  # fmt: skip
