"""AES, SHA, carry-less and GF(2**8) products for hosts without instructions for them.

`pytcg_llvm.crypto` calls these by name. They compute what `pytcg.ir.crypto` says, faster.
"""

from __future__ import annotations

from pytcg.ir import crypto
from pytcg_native import native, popcnt, rotl, rotr, u32, u64, u128
from pytcg_native.types import Table

SBOX = Table("aes_sbox", "u8", list(crypto.sbox()))
INVERSE_SBOX = Table("aes_inverse_sbox", "u8", list(crypto.inverse_sbox()))
INVERSE = Table("gf_inverse", "u8", [crypto.gf_inverse(x) for x in range(256)])
SHA1 = Table("sha1_constants", "u32", list(crypto.SHA1))

ONES = int("01" * 16, 16)
EVENS = int("fe" * 16, 16)
LOW24, LOW16, LOW8 = (int(f"{(1 << n) - 1:08x}" * 4, 16) for n in (24, 16, 8))
ALL = (1 << 128) - 1


@native(inline=True)
def byte_of(value: u128, index: u32) -> u32:
    return u32(value >> u128(index * 8)) & 0xFF


@native(inline=True)
def word_of(value: u128, index: u32) -> u32:
    return u32(value >> u128(index * 32))


@native(inline=True)
def vector_of(a: u32, b: u32, c: u32, d: u32) -> u128:
    """Words, [127:96] first."""
    high: u64 = u64(a) << 32 | u64(b)
    low: u64 = u64(c) << 32 | u64(d)
    return u128(high) << 64 | u128(low)


# AES -------------------------------------------------------------------------------------------


@native
def aes_substituted(state: u128) -> u128:
    result: u128 = 0
    for i in range(u32(16)):
        result |= u128(SBOX[byte_of(state, i * 5 & 15)]) << u128(i * 8)
    return result


@native
def aes_unsubstituted(state: u128) -> u128:
    result: u128 = 0
    for i in range(u32(16)):
        result |= u128(INVERSE_SBOX[byte_of(state, i * 13 & 15)]) << u128(i * 8)
    return result


@native(inline=True)
def aes_doubled(x: u128) -> u128:
    high: u128 = x >> 7 & ONES
    return (x << 1 & EVENS) ^ high ^ high << 1 ^ high << 3 ^ high << 4


@native
def aes_mixed(x: u128) -> u128:
    one: u128 = (x >> 8 & LOW24) | (x << 24 & (ALL ^ LOW24))
    two: u128 = (x >> 16 & LOW16) | (x << 16 & (ALL ^ LOW16))
    three: u128 = (x >> 24 & LOW8) | (x << 8 & (ALL ^ LOW8))
    return aes_doubled(x ^ one) ^ one ^ two ^ three


@native
def soft_aesimc(x: u128) -> u128:
    two: u128 = (x >> 16 & LOW16) | (x << 16 & (ALL ^ LOW16))
    return aes_mixed(x ^ aes_doubled(aes_doubled(x ^ two)))


@native
def soft_aesenc(state: u128, key: u128) -> u128:
    return aes_mixed(aes_substituted(state)) ^ key


@native
def soft_aesenclast(state: u128, key: u128) -> u128:
    return aes_substituted(state) ^ key


@native
def soft_aesdec(state: u128, key: u128) -> u128:
    return soft_aesimc(aes_unsubstituted(state)) ^ key


@native
def soft_aesdeclast(state: u128, key: u128) -> u128:
    return aes_unsubstituted(state) ^ key


@native
def aes_word(word: u32) -> u32:
    result: u32 = 0
    for i in range(u32(4)):
        result |= u32(SBOX[word >> (i * 8) & 0xFF]) << (i * 8)
    return result


@native
def soft_aeskeygen(source: u128) -> u128:
    first: u32 = aes_word(word_of(source, 1))
    third: u32 = aes_word(word_of(source, 3))
    return vector_of(rotr(third, 8), third, rotr(first, 8), first)


# Products --------------------------------------------------------------------------------------


@native
def soft_clmul(a: u64, b: u64) -> u128:
    product: u128 = 0
    for i in range(u32(64)):
        if (b >> u64(i) & 1) != 0:
            product ^= u128(a) << u128(i)
    return product


@native
def soft_gf2p8mul(a: u128, b: u128) -> u128:
    result: u128 = 0
    for i in range(u32(8)):
        bits: u128 = b >> u128(i) & ONES
        result ^= a & (bits << 8) - bits
        a = aes_doubled(a)
    return result


@native(inline=True)
def affine(x: u32, matrix: u64) -> u32:
    result: u32 = 0
    for i in range(u32(8)):
        row: u32 = u32(matrix >> u64(56 - i * 8)) & x & 0xFF
        result |= (u32(popcnt(row)) & 1) << i
    return result


@native
def soft_gf2p8affine(a: u128, b: u128) -> u128:
    result: u128 = 0
    for i in range(u32(16)):
        matrix: u64 = u64(b >> 64) if i >= 8 else u64(b)
        result |= u128(affine(byte_of(a, i), matrix)) << u128(i * 8)
    return result


@native
def soft_gf2p8affineinv(a: u128, b: u128) -> u128:
    inverses: u128 = 0
    for i in range(u32(16)):
        inverses |= u128(INVERSE[byte_of(a, i)]) << u128(i * 8)
    return soft_gf2p8affine(inverses, b)


# SHA-1 -----------------------------------------------------------------------------------------


@native
def soft_sha1nexte(a: u128, b: u128) -> u128:
    return vector_of(word_of(b, 3) + rotl(word_of(a, 3), 30), word_of(b, 2), word_of(b, 1),
                     word_of(b, 0))  # fmt: skip


@native
def soft_sha1msg1(a: u128, b: u128) -> u128:
    return a ^ (a << 64 | b >> 64)


@native
def soft_sha1msg2(a: u128, b: u128) -> u128:
    first: u32 = rotl(word_of(a, 3) ^ word_of(b, 2), 1)
    return vector_of(first, rotl(word_of(a, 2) ^ word_of(b, 1), 1),
                     rotl(word_of(a, 1) ^ word_of(b, 0), 1), rotl(word_of(a, 0) ^ first, 1))


@native
def soft_sha1rnds4(a: u128, b: u128, function: u32) -> u128:
    x: u32 = word_of(a, 3)
    y: u32 = word_of(a, 2)
    z: u32 = word_of(a, 1)
    w: u32 = word_of(a, 0)
    e: u32 = 0
    for i in range(u32(4)):
        f: u32 = y ^ z ^ w
        if function == 0:
            f = (y & z) ^ (~y & w)
        elif function == 2:
            f = (y & z) ^ (y & w) ^ (z & w)
        top: u32 = f + rotl(x, 5) + word_of(b, 3 - i) + e + SHA1[function]
        e = w
        w = z
        z = rotl(y, 30)
        y = x
        x = top
    return vector_of(x, y, z, w)


# SHA-256 ---------------------------------------------------------------------------------------


@native(inline=True)
def sigma0(x: u32) -> u32:
    return rotr(x, 7) ^ rotr(x, 18) ^ x >> 3


@native(inline=True)
def sigma1(x: u32) -> u32:
    return rotr(x, 17) ^ rotr(x, 19) ^ x >> 10


@native
def soft_sha256msg1(a: u128, b: u128) -> u128:
    return vector_of(word_of(a, 3) + sigma0(u32(b)), word_of(a, 2) + sigma0(word_of(a, 3)),
                     word_of(a, 1) + sigma0(word_of(a, 2)), word_of(a, 0) + sigma0(word_of(a, 1)))


@native
def soft_sha256msg2(a: u128, b: u128) -> u128:
    w16: u32 = word_of(a, 0) + sigma1(word_of(b, 2))
    w17: u32 = word_of(a, 1) + sigma1(word_of(b, 3))
    w18: u32 = word_of(a, 2) + sigma1(w16)
    return vector_of(word_of(a, 3) + sigma1(w17), w18, w17, w16)


@native
def soft_sha256rnds2(a: u128, b: u128, keys: u128) -> u128:
    p: u32 = word_of(b, 3)
    q: u32 = word_of(b, 2)
    e: u32 = word_of(b, 1)
    f: u32 = word_of(b, 0)
    r: u32 = word_of(a, 3)
    s: u32 = word_of(a, 2)
    g: u32 = word_of(a, 1)
    h: u32 = word_of(a, 0)
    for i in range(u32(2)):
        t: u32 = (((e & f) ^ (~e & g)) + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25))
                  + word_of(keys, i) + h)  # fmt: skip
        top: u32 = (t + ((p & q) ^ (p & r) ^ (q & r))
                    + (rotr(p, 2) ^ rotr(p, 13) ^ rotr(p, 22)))  # fmt: skip
        h = g
        g = f
        f = e
        e = s + t
        s = r
        r = q
        q = p
        p = top
    return vector_of(p, q, e, f)


