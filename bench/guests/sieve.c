/* Eratosthenes' sieve: byte stores with growing strides, a scan with a branch. */
#include "guest.h"

enum { LIMIT = 1 << 20, ROUNDS = 70 };
static uint8_t composite[LIMIT];

uint64_t kernel(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        memset(composite, 0, sizeof composite);
        for (uint32_t i = 2; i < LIMIT; i++) {
            if (composite[i])
                continue;
            sum += i ^ round;
            for (uint64_t j = (uint64_t)i * i; j < LIMIT; j += i)
                composite[j] = 1;
        }
    }
    return sum;
}
