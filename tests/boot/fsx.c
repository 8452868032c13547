/* Random reads, writes, truncations and mappings of one file, compared with what memory says.
   fsx FILE OPERATIONS SEED */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST (256 << 10)

static unsigned char model[MOST], buffer[MOST];
static size_t size;
static const char *path;

static void fail(const char *what, long turn) {
    printf("FAILED %s at %ld: %s\n", what, turn, strerror(errno));
    exit(1);
}

static void write_at(int fd, size_t at, size_t length, long turn) {
    if (pwrite(fd, model + at, length, at) != (ssize_t)length) fail("write", turn);
}

static void change(size_t at, size_t length) {
    for (size_t i = 0; i < length; i++) model[at + i] = rand();
    if (at + length > size) size = at + length;
}

static void check(int fd, size_t at, size_t length, long turn) {
    size_t want = at >= size ? 0 : at + length > size ? size - at : length;
    if (pread(fd, buffer, length, at) != (ssize_t)want) fail("length read", turn);
    if (memcmp(buffer, model + at, want)) fail("data read", turn);
}

static void map(int fd, size_t at, size_t length, int writes, long turn) {
    if (at >= size) return;
    if (at + length > size) length = size - at;
    size_t page = at & ~4095ul;
    char *p = mmap(0, at - page + length, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                   fd, page);
    if (p == MAP_FAILED) fail("mmap", turn);
    if (memcmp(p + (at - page), model + at, length)) fail("data mapped", turn);
    if (writes) {
        change(at, length);
        memcpy(p + (at - page), model + at, length);
        if (msync(p, at - page + length, MS_SYNC)) fail("msync", turn);
    }
    munmap(p, at - page + length);
}

int main(int count, char **words) {
    (void)count;
    path = words[1];
    long turns = atol(words[2]);
    srand(atoi(words[3]));
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) fail("open", -1);
    for (long turn = 0; turn < turns; turn++) {
        size_t at = rand() % (MOST / 2), length = rand() % 40000 + 1;
        struct stat found;
        switch (rand() % 8) {
        case 0: case 1:
            if (at > size) memset(model + size, 0, at - size);
            change(at, length);
            write_at(fd, at, length, turn);
            break;
        case 2: case 3: check(fd, at, length, turn); break;
        case 4:
            if (ftruncate(fd, at)) fail("truncate", turn);
            if (at > size) memset(model + size, 0, at - size);
            size = at;
            break;
        case 5: map(fd, at, length, 0, turn); break;
        case 6: map(fd, at, length, 1, turn); break;
        default:
            if (fsync(fd) || close(fd)) fail("close", turn);
            fd = open(path, O_RDWR);
            if (fd < 0) fail("reopen", turn);
        }
        if (fstat(fd, &found) || (size_t)found.st_size != size) fail("size", turn);
    }
    check(fd, 0, MOST, turns);
    printf("fsx is content\n");
    return 0;
}
