/* memcpy, memmove and memset of all sizes, from a few bytes to megabytes. */
#include "guest.h"

enum { SIZE = 4 << 20, SMALL = 1500000, LARGE = 100 };
static uint8_t from[SIZE + 64], to[SIZE + 64];

uint64_t kernel(void)
{
    uint64_t seed = 3, sum = 0;
    for (int i = 0; i < SIZE; i++)
        from[i] = (uint8_t)xorshift(&seed);
    for (int i = 0; i < SMALL; i++) {
        uint64_t r = xorshift(&seed);
        size_t length = r % 300, at = (r >> 16) % 60000;
        memcpy(to + at, from + (r >> 40) % 60000, length);
        sum += to[at + length / 2];
    }
    for (int i = 0; i < LARGE; i++) {
        memcpy(to + i % 17, from + i % 5, SIZE);
        memmove(to + 8, to, SIZE / 2);
        memset(to + SIZE / 2, i, SIZE / 4);
        sum = mix(sum, to[(uint32_t)i * 7919 % SIZE]);
    }
    return sum;
}
