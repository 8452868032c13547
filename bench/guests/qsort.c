/* The C library's qsort: calls through a pointer, unpredictable branches, moves. */
#include "guest.h"

enum { COUNT = 1 << 19, ROUNDS = 3 };
static uint64_t values[COUNT];

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

uint64_t kernel(void)
{
    uint64_t seed = 7, sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++)
            values[i] = xorshift(&seed);
        qsort(values, COUNT, sizeof *values, compare);
        for (int i = 0; i < COUNT; i += 97)
            sum = mix(sum, values[i]);
    }
    return sum;
}
