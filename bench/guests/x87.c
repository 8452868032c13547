/* long double: the x87's loads, stores, arithmetic, comparisons and exchanges. */
#include "guest.h"

enum { TERMS = 64, ROUNDS = 200000 };

uint64_t kernel(void)
{
    long double factors[TERMS], total = 0;
    uint64_t sum = 0, words[2] = {0, 0};
    for (int i = 0; i < TERMS; i++)
        factors[i] = 1.0L / (long double)(i + 1);
    for (int round = 0; round < ROUNDS; round++) {
        long double x = (long double)(round % 100) / 101.0L, value = 0;
        for (int i = TERMS - 1; i >= 0; i--) {
            value = value * x + factors[i];
            if (value > 3.0L)
                value -= 0.5L;
        }
        total += value / (1.0L + x);
    }
    memcpy(words, &total, 10);
    sum = mix(mix(sum, words[0]), words[1]);
    return sum;
}
