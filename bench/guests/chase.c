/* A chain of pointers through 256 KiB in random order: every load waits for the one before it. */
#include "guest.h"

enum { COUNT = 1 << 12, STEPS = 100000000 };

struct link {
    struct link *next;
    uint64_t value[7];
};
static struct link links[COUNT];

uint64_t kernel(void)
{
    uint64_t seed = 99, sum = 0;
    uint32_t *order = malloc(COUNT * sizeof *order);
    for (uint32_t i = 0; i < COUNT; i++)
        order[i] = i;
    for (uint32_t i = COUNT - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(xorshift(&seed) % (i + 1)), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        links[order[i]].next = &links[order[(i + 1) % COUNT]];
        links[order[i]].value[0] = i;
    }
    const struct link *at = links;
    for (int i = 0; i < STEPS; i++) {
        sum += at->value[0];
        at = at->next;
    }
    free(order);
    return sum;
}
