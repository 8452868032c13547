/* Work on a mounted folder: `share FOLDER`, a line for each kind, as main.c's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (1 << 20)
#define BLOCKS 96
#define FILES 200
#define ROUNDS 10

static char block[BLOCK];
static char name[4096];

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void result(const char *kind, unsigned long long sum, long long began) {
    printf("result %s %016llx %lld\n", kind, sum, now() - began);
    fflush(stdout);
}

static void fail(const char *what) {
    printf("failed %s\n", what);
    exit(1);
}

static void sequential(const char *folder) {
    unsigned long long sum = 0;
    snprintf(name, sizeof name, "%s/big", folder);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) fail("open");
    long long began = now();
    for (int i = 0; i < BLOCKS; i++) {
        for (int at = 0; at < BLOCK; at += 4096) block[at] = i + at / 4096;
        if (write(fd, block, BLOCK) != BLOCK) fail("write");
    }
    result("write", BLOCKS, began);
    lseek(fd, 0, SEEK_SET);
    began = now();
    for (int i = 0; i < BLOCKS; i++) {
        for (int got = 0, step; got < BLOCK; got += step)
            if ((step = read(fd, block + got, BLOCK - got)) <= 0) fail("read");
        for (int at = 0; at < BLOCK; at += 4096) sum = sum * 31 + (unsigned char)block[at];
    }
    result("read", sum, began);
    close(fd);
    unlink(name);
}

static void stats(const char *folder) {
    struct stat found;
    unsigned long long sum = 0;
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "%s/file-%d", folder, i);
        int fd = open(name, O_RDWR | O_CREAT, 0600);
        if (fd < 0 || write(fd, block, i) != i || close(fd)) fail("create");
    }
    long long began = now();
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < FILES; i++) {
            snprintf(name, sizeof name, "%s/file-%d", folder, i);
            if (stat(name, &found)) fail("stat");
            sum = sum * 31 + found.st_size;
        }
    result("stat", sum, began);
}

int main(int count, char **words) {
    if (count != 2) fail("usage");
    sequential(words[1]);
    stats(words[1]);
    return 0;
}
