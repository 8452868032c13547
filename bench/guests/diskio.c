/* diskio NAME DEVICE: how fast a disk is, without the guest's cache: blocks of 1 MiB in a row, then of
   4 KiB at random places, one at a time and 32 at a time. Prints "disk NAME TEST OPERATIONS SECONDS". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { BIG = 1 << 20, SMALL = 4096, SPAN = 192 << 20, THREADS = 32 };

static int disk;
static double limit;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void *some(void *seed)
{
    uint64_t state = (uintptr_t)seed * 0x9e3779b97f4a7c15, done = 0;
    void *buffer = aligned_alloc(SMALL, SMALL);
    for (; now() < limit; done++) {
        state = state * 6364136223846793005 + 1442695040888963407;
        if (pread(disk, buffer, SMALL, (state >> 33) % (SPAN / SMALL) * SMALL) != SMALL)
            exit(1);
    }
    return (void *)done;
}

static uint64_t random_reads(int threads)
{
    pthread_t all[THREADS];
    uint64_t done = 0;
    for (intptr_t number = 0; number < threads; number++)
        if (pthread_create(&all[number], 0, some, (void *)(number + 1)))
            exit(1);
    for (int number = 0; number < threads; number++) {
        void *count;
        pthread_join(all[number], &count);
        done += (uint64_t)count;
    }
    return done;
}

static uint64_t in_a_row(int writes)
{
    char *buffer = aligned_alloc(SMALL, BIG);
    uint64_t done = 0;
    for (int at = 0; at < BIG; at++)
        buffer[at] = at * 7;
    for (; now() < limit; done++) {
        off_t place = (off_t)done * BIG % SPAN;
        ssize_t moved = writes ? pwrite(disk, buffer, BIG, place) : pread(disk, buffer, BIG, place);
        if (moved != BIG)
            exit(1);
    }
    return done;
}

int main(int count, char **words)
{
    static const char *const names[] = {"read", "write", "random-1", "random-32"};
    if (count != 3 || (disk = open(words[2], O_RDWR | O_DIRECT)) < 0)
        return 2;
    for (int test = 0; test < 4; test++) {
        double began = now();
        limit = began + 1.5;
        uint64_t done = test < 2 ? in_a_row(test) : random_reads(test == 2 ? 1 : THREADS);
        printf("disk %s %s %llu %.3f\n", words[1], names[test], (unsigned long long)done, now() - began);
    }
    return 0;
}
