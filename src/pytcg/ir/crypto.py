"""What the ops of ciphers, hashes and finite fields mean, on 128-bit integers."""

from __future__ import annotations

from functools import cache

_WORD = 0xFFFF_FFFF


def _every(byte: int) -> int:
    return int(f"{byte:02x}" * 16, 16)


def gf_product(a: int, b: int) -> int:
    """The product in GF(2**8) modulo x**8 + x**4 + x**3 + x + 1."""
    product = 0
    for bit in range(8):
        product ^= (a << bit) * (b >> bit & 1)
    for bit in range(14, 7, -1):
        product ^= (0x11B << (bit - 8)) * (product >> bit & 1)
    return product


@cache
def gf_inverse(a: int) -> int:
    """a**254: the inverse, 0 for 0."""
    result, square = 1, a
    for _ in range(7):  # 254 is 2 + 4 + ... + 128
        square = gf_product(square, square)
        result = gf_product(result, square)
    return result


def gf_affine(x: int, matrix: int) -> int:
    """The bits of ``x`` through an 8 by 8 matrix, row 0 in the top byte."""
    return sum(((matrix >> 8 * (7 - i) & x).bit_count() & 1) << i for i in range(8))


@cache
def sbox() -> tuple[int, ...]:
    """AES's substitution (FIPS 197, 5.1.1)."""
    return tuple(gf_affine(gf_inverse(x), 0xF1E3_C78F_1F3E_7CF8) ^ 0x63 for x in range(256))


@cache
def inverse_sbox() -> tuple[int, ...]:
    return tuple(sbox().index(x) for x in range(256))


def _bytes(value: int) -> bytes:
    return value.to_bytes(16, "little")


def _substituted(state: int, box: tuple[int, ...], step: int) -> int:
    """ShiftRows takes byte i from 5 * i, its inverse from 13 * i; then SubBytes."""
    source = _bytes(state)
    return int.from_bytes(bytes(box[source[i * step & 15]] for i in range(16)), "little")


def _doubled(x: int) -> int:
    high = x >> 7 & _every(1)
    return (x << 1 & _every(0xFE)) ^ high ^ high << 1 ^ high << 3 ^ high << 4


def _turned(x: int, count: int) -> int:
    """Each column turned by ``count`` rows."""
    low = int(f"{(1 << (32 - 8 * count)) - 1:08x}" * 4, 16)
    return (x >> 8 * count & low) | (x << 32 - 8 * count & ((1 << 128) - 1) & ~low)


def mixed_columns(x: int) -> int:
    """MixColumns (FIPS 197, 5.1.3)."""
    next_ = _turned(x, 1)
    return _doubled(x ^ next_) ^ next_ ^ _turned(x, 2) ^ _turned(x, 3)


def unmixed_columns(x: int) -> int:
    """InvMixColumns, which is MixColumns after a simpler product."""
    return mixed_columns(x ^ _doubled(_doubled(x ^ _turned(x, 2))))


def aes_encrypt(state: int, key: int, *, last: bool) -> int:
    """One round (SDM vol. 2A, AESENC)."""
    state = _substituted(state, sbox(), 5)
    return (state if last else mixed_columns(state)) ^ key


def aes_decrypt(state: int, key: int, *, last: bool) -> int:
    """One round of the equivalent inverse cipher (SDM vol. 2A, AESDEC)."""
    state = _substituted(state, inverse_sbox(), 13)
    return (state if last else unmixed_columns(state)) ^ key


def aes_keygen(source: int) -> int:
    """AESKEYGENASSIST with RCON 0: words 1 and 3 substituted, and the same turned."""
    box = sbox()
    result = 0
    for at in (1, 3):
        word = bytes(box[b] for b in (source >> 32 * at & _WORD).to_bytes(4, "little"))
        turned = word[1:] + word[:1]
        result |= int.from_bytes(word + turned, "little") << 32 * (at - 1)
    return result


def carryless_product(a: int, b: int) -> int:
    """The product of two polynomials over GF(2)."""
    product = 0
    for bit in range(64):
        product ^= (a << bit) * (b >> bit & 1)
    return product


def gf_lanes(a: int, b: int) -> int:
    pairs = zip(_bytes(a), _bytes(b), strict=True)
    return int.from_bytes(bytes(gf_product(x, y) for x, y in pairs), "little")


def gf_affine_lanes(a: int, b: int, *, inverse: bool) -> int:
    """Bytes of ``a``, or their inverses, each through the matrix in its quadword of ``b``."""
    result = bytearray()
    for i, x in enumerate(_bytes(a)):
        result.append(gf_affine(gf_inverse(x) if inverse else x, b >> (i & 8) * 8))
    return int.from_bytes(result, "little")


def crc32c(crc: int, data: int, bits: int) -> int:
    """CRC-32C of ``bits`` bits of data, lowest byte first (SDM vol. 2A, CRC32)."""
    for at in range(bits):
        low = (crc ^ data >> at) & 1
        crc = crc >> 1 ^ 0x82F6_3B78 * low
    return crc


# SHA: words are named as in the manual, [127:96] first -------------------------------------------


def _rol(x: int, count: int) -> int:
    return (x << count | x >> 32 - count) & _WORD


def _words(value: int) -> list[int]:
    return [value >> at & _WORD for at in (96, 64, 32, 0)]


def _joined(words: list[int]) -> int:
    return sum((w & _WORD) << 32 * (3 - i) for i, w in enumerate(words))


def sha1_nexte(a: int, b: int) -> int:
    first, *rest = _words(b)
    return _joined([first + _rol(_words(a)[0], 30), *rest])


def sha1_msg1(a: int, b: int) -> int:
    w = _words(a) + _words(b)
    return _joined([w[i] ^ w[i + 2] for i in range(4)])


def sha1_msg2(a: int, b: int) -> int:
    x, (_, w13, w14, w15) = _words(a), _words(b)
    first = _rol(x[0] ^ w13, 1)
    return _joined([first, _rol(x[1] ^ w14, 1), _rol(x[2] ^ w15, 1), _rol(x[3] ^ first, 1)])


SHA1 = (0x5A82_7999, 0x6ED9_EBA1, 0x8F1B_BCDC, 0xCA62_C1D6)


def _sha1_function(number: int, b: int, c: int, d: int) -> int:
    """FIPS 180-4, 4.1.1: Ch, Parity, Maj, Parity."""
    if number == 0:
        return b & c ^ ~b & d
    return b & c ^ b & d ^ c & d if number == 2 else b ^ c ^ d


def sha1_rnds4(a: int, b: int, function: int) -> int:
    constant = SHA1[function]
    x, y, z, u = _words(a)
    e = 0
    for word in _words(b):
        top = _sha1_function(function, y, z, u) + _rol(x, 5) + word + e + constant & _WORD
        x, y, z, u, e = top, x, _rol(y, 30), z, u
    return _joined([x, y, z, u])


def _sigma(x: int, *turns: int, shift: int = 0) -> int:
    result = x >> shift if shift else 0
    for count in turns:
        result ^= _rol(x, 32 - count)
    return result


def sha256_msg1(a: int, b: int) -> int:
    w = [*_words(a)[::-1], b & _WORD]
    return _joined([w[i] + _sigma(w[i + 1], 7, 18, shift=3) for i in (3, 2, 1, 0)])


def sha256_msg2(a: int, b: int) -> int:
    w = _words(a)[::-1]
    later = [_words(b)[1], _words(b)[0]]
    for i in range(4):
        later.append(w[i] + _sigma(later[i], 17, 19, shift=10) & _WORD)
    return _joined(later[:1:-1])


def sha256_rnds2(a: int, b: int, keys: int) -> int:
    (p, q, e, f), (r, s, g, h) = _words(b), _words(a)
    for key in (keys & _WORD, keys >> 32 & _WORD):
        t = (e & f ^ ~e & g) + _sigma(e, 6, 11, 25) + key + h & _WORD
        top = t + (p & q ^ p & r ^ q & r) + _sigma(p, 2, 13, 22) & _WORD
        p, q, r, s, e, f, g, h = top, p, q, r, t + s & _WORD, e, f, g
    return _joined([p, q, e, f])


MEANING = {
    "aesenc": "crypto.aes_encrypt(a, b, last=False)",
    "aesenclast": "crypto.aes_encrypt(a, b, last=True)",
    "aesdec": "crypto.aes_decrypt(a, b, last=False)",
    "aesdeclast": "crypto.aes_decrypt(a, b, last=True)",
    "aesimc": "crypto.unmixed_columns(a)",
    "aeskeygen": "crypto.aes_keygen(a)",
    "clmul": "crypto.carryless_product(a, b)",
    "gf2p8mul": "crypto.gf_lanes(a, b)",
    "gf2p8affine": "crypto.gf_affine_lanes(a, b, inverse=False)",
    "gf2p8affineinv": "crypto.gf_affine_lanes(a, b, inverse=True)",
    "crc32c": "crypto.crc32c(a, b, S)",
    "sha1nexte": "crypto.sha1_nexte(a, b)",
    "sha1msg1": "crypto.sha1_msg1(a, b)",
    "sha1msg2": "crypto.sha1_msg2(a, b)",
    "sha1rnds4": "crypto.sha1_rnds4(a, b, K)",
    "sha256msg1": "crypto.sha256_msg1(a, b)",
    "sha256msg2": "crypto.sha256_msg2(a, b)",
    "sha256rnds2": "crypto.sha256_rnds2(a, b, c)",
}
"""The ops' expressions, for `pytcg.ir.meaning`."""
