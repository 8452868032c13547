/* fork, a little work in the child on pages it shares with its parent, exit and wait. */
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

enum { CHILDREN = 500, SIZE = 1 << 18 };
static uint8_t data[SIZE];

uint64_t kernel(void)
{
    uint64_t sum = 0;
    memset(data, 1, sizeof data);
    for (int i = 0; i < CHILDREN; i++) {
        int status = 0;
        pid_t child = fork();
        if (child < 0)
            return 0;
        if (child == 0) {
            for (int at = 0; at < SIZE; at += 1 << 14)
                data[at] = (uint8_t)(data[at] + i);
            _exit(data[0] & 0x7f);
        }
        if (waitpid(child, &status, 0) != child)
            return 1;
        sum = mix(sum, (uint64_t)WEXITSTATUS(status));
    }
    return sum;
}
