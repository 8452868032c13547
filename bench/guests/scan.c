/* Bytes looked for in a text, 32 at a time: what AVX2's versions of memchr and strspn do. */
#include <immintrin.h>

#include "guest.h"

enum { SIZE = 1 << 18, ROUNDS = 1500 };
static unsigned char text[SIZE];

static uint64_t positions(unsigned char low, unsigned char wanted)
{
    const __m256i bound = _mm256_set1_epi8((char)low), byte = _mm256_set1_epi8((char)wanted);
    uint64_t sum = 0;
    for (size_t at = 0; at < SIZE; at += 32) {
        __m256i block = _mm256_loadu_si256((const __m256i *)(text + at));
        __m256i less = _mm256_cmpeq_epi8(_mm256_min_epu8(block, bound), block);
        uint32_t found = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(block, byte));
        sum += (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_epi8(less));
        if (found)
            sum += at + (uint32_t)__builtin_ctz(found);
    }
    return sum;
}

uint64_t kernel(void)
{
    uint64_t seed = 23, sum = 0;
    for (size_t at = 0; at < SIZE; at++)
        text[at] = (unsigned char)xorshift(&seed);
    for (int round = 0; round < ROUNDS; round++)
        sum = mix(sum, positions((unsigned char)(round * 3), (unsigned char)(round * 7)));
    return sum;
}
