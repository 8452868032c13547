/* System calls: the cheapest there are, and bytes through a pipe. */
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

enum { CHEAP = 700000, BYTES = 140000 };

uint64_t kernel(void)
{
    int ends[2];
    uint64_t sum = 0;
    long first = syscall(SYS_getppid);
    for (int i = 0; i < CHEAP; i++)
        sum += syscall(SYS_getppid) == first;
    if (pipe(ends))
        return 0;
    for (int i = 0; i < BYTES; i++) {
        uint8_t out = (uint8_t)(i * 7), in = 0;
        if (write(ends[1], &out, 1) != 1 || read(ends[0], &in, 1) != 1)
            return 1;
        sum = mix(sum, in);
    }
    return sum;
}
