/* A guest program is one function, called once by main.c; its result must not depend on where it runs. */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

uint64_t kernel(void);

/* Marsaglia's xorshift64: numbers that are the same everywhere. */
static inline uint64_t xorshift(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * 0x100000001b3;
}

static inline uint64_t mix_double(uint64_t sum, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return mix(sum, bits);
}
