/* AES-128-GCM (NIST SP 800-38D) of a megabyte, by AES-NI and PCLMULQDQ, four blocks at a time. */
#include <immintrin.h>

#include "guest.h"

#define CIPHER __attribute__((target("aes,pclmul,sse4.1")))
enum { SIZE = 1 << 20, ROUNDS = 80, WIDE = 4 };
static _Alignas(16) uint8_t data[SIZE];
static __m128i keys[11], powers[WIDE];  /* of the hash key, the highest first */

CIPHER static __m128i next_key(__m128i key, __m128i assist)
{
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, _mm_shuffle_epi32(assist, 0xff));
}

#define EXPAND(i, rcon) keys[i] = next_key(keys[i - 1], _mm_aeskeygenassist_si128(keys[i - 1], rcon))

CIPHER static void expand(__m128i key)
{
    keys[0] = key;
    EXPAND(1, 0x01), EXPAND(2, 0x02), EXPAND(3, 0x04), EXPAND(4, 0x08), EXPAND(5, 0x10);
    EXPAND(6, 0x20), EXPAND(7, 0x40), EXPAND(8, 0x80), EXPAND(9, 0x1b), EXPAND(10, 0x36);
}

CIPHER static void encrypt(__m128i *blocks, int count)
{
    for (int i = 0; i < count; i++)
        blocks[i] = _mm_xor_si128(blocks[i], keys[0]);
#pragma GCC unroll 9
    for (int round = 1; round < 10; round++)
        for (int i = 0; i < count; i++)
            blocks[i] = _mm_aesenc_si128(blocks[i], keys[round]);
    for (int i = 0; i < count; i++)
        blocks[i] = _mm_aesenclast_si128(blocks[i], keys[10]);
}

CIPHER static __m128i reversed(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f));
}

/* Products of byte-reversed operands, summed: the lowest bit of the field is the highest here. */
CIPHER static __m128i products(const __m128i *a, const __m128i *b, int count)
{
    __m128i low = _mm_setzero_si128(), high = low, middle = low;
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) {
        low = _mm_xor_si128(low, _mm_clmulepi64_si128(a[i], b[i], 0x00));
        high = _mm_xor_si128(high, _mm_clmulepi64_si128(a[i], b[i], 0x11));
        middle = _mm_xor_si128(middle, _mm_clmulepi64_si128(a[i], b[i], 0x01));
        middle = _mm_xor_si128(middle, _mm_clmulepi64_si128(a[i], b[i], 0x10));
    }
    low = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
    high = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
    /* 255 bits to 256, then modulo x**128 + x**7 + x**2 + x + 1. */
    __m128i carry = _mm_srli_epi32(low, 31), over = _mm_srli_epi32(high, 31);
    low = _mm_or_si128(_mm_slli_epi32(low, 1), _mm_slli_si128(carry, 4));
    high = _mm_or_si128(_mm_slli_epi32(high, 1), _mm_slli_si128(over, 4));
    high = _mm_or_si128(high, _mm_srli_si128(carry, 12));
    __m128i fold = _mm_xor_si128(_mm_xor_si128(_mm_slli_epi32(low, 31), _mm_slli_epi32(low, 30)),
                                 _mm_slli_epi32(low, 25));
    low = _mm_xor_si128(low, _mm_slli_si128(fold, 12));
    __m128i rest = _mm_xor_si128(_mm_xor_si128(_mm_srli_epi32(low, 1), _mm_srli_epi32(low, 2)),
                                 _mm_xor_si128(_mm_srli_epi32(low, 7), _mm_srli_si128(fold, 4)));
    return _mm_xor_si128(high, _mm_xor_si128(low, rest));
}

CIPHER static __m128i seal(__m128i start)
{
    __m128i sum = _mm_setzero_si128(), block[WIDE], mask[WIDE];
    for (size_t at = 0; at < SIZE; at += sizeof block) {
        __m128i *text = (__m128i *)(data + at);
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; i++) {
            start = _mm_add_epi32(start, _mm_set_epi32(0, 0, 0, 1));
            mask[i] = reversed(start);
        }
        encrypt(mask, WIDE);
#pragma GCC unroll 4
        for (int i = 0; i < WIDE; i++) {
            text[i] = _mm_xor_si128(text[i], mask[i]);
            block[i] = reversed(text[i]);
        }
        block[0] = _mm_xor_si128(block[0], sum);
        sum = products(block, powers, WIDE);
    }
    __m128i length = _mm_xor_si128(sum, _mm_set_epi64x(0, (uint64_t)SIZE * 8));
    return products(&length, powers + WIDE - 1, 1);
}

CIPHER uint64_t kernel(void)
{
    uint64_t seed = 5, sum = 0, tag[2];
    __m128i hash = _mm_setzero_si128(), first;
    for (int at = 0; at < SIZE; at++)
        data[at] = (uint8_t)xorshift(&seed);
    expand(_mm_set_epi64x(0x0f0e0d0c0b0a0908, 0x0706050403020100));
    encrypt(&hash, 1);
    powers[WIDE - 1] = reversed(hash);
    for (int i = WIDE - 1; i > 0; i--)
        powers[i - 1] = products(powers + i, powers + WIDE - 1, 1);
    for (int round = 0; round < ROUNDS; round++) {
        __m128i counter = _mm_set_epi32(round, 0x0badcafe, 0x12345678, 1);
        first = reversed(counter);
        encrypt(&first, 1);
        _mm_storeu_si128((__m128i *)tag, _mm_xor_si128(reversed(seal(counter)), first));
        sum = mix(mix(sum, tag[0]), tag[1]);
    }
    return sum;
}
