/* Page faults: memory is mapped, touched page by page, and given back. */
#include <sys/mman.h>

#include "guest.h"

enum { PAGE = 4096, PAGES = 4096, ROUNDS = 16 };

uint64_t kernel(void)
{
    uint64_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED)
            return 0;
        madvise(area, PAGES * PAGE, MADV_NOHUGEPAGE);
        for (int i = 0; i < PAGES; i++)
            area[i * PAGE + i % PAGE] = (uint8_t)(i + round);
        for (int i = 0; i < PAGES; i += 5)
            sum = mix(sum, area[i * PAGE + i % PAGE]);
        munmap(area, PAGES * PAGE);
    }
    return sum;
}
