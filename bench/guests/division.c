/* 64-bit DIV and IDIV: modular powers, remainders and Euclid's algorithm. */
#include "guest.h"

enum { ROUNDS = 5000000 };

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

uint64_t kernel(void)
{
    uint64_t seed = 5, sum = 0;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t a = xorshift(&seed), b = xorshift(&seed) >> (i & 31) | 1;
        int64_t c = (int64_t)xorshift(&seed), d = ((int64_t)xorshift(&seed) >> 3) | 1;
        sum = mix(sum, gcd(a, b) + a / b);
        sum = mix(sum, (uint64_t)(c / d) ^ (uint64_t)(c % d));
    }
    return sum;
}
