/* The C library's string functions on short and middling strings. */
#include "guest.h"

enum { COUNT = 2048, LONGEST = 120, ROUNDS = 450 };
static char words[COUNT][LONGEST + 8];

uint64_t kernel(void)
{
    uint64_t seed = 11, sum = 0;
    char text[LONGEST * 2 + 16];
    for (int i = 0; i < COUNT; i++) {
        int length = (int)(xorshift(&seed) % LONGEST) + 1;
        for (int j = 0; j < length; j++)
            words[i][j] = (char)('a' + xorshift(&seed) % 20);
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < COUNT; i++) {
            const char *one = words[i], *two = words[(i * 7 + round) % COUNT];
            strcpy(text, one);
            strcat(text, two);
            const char *found = strchr(text, 'q'), *part = strstr(text, "ab");
            sum += strlen(text) + (found ? (uint64_t)(found - text) : 0);
            sum += (part ? (uint64_t)(part - text) : 0) + (strcmp(one, two) < 0);
            sum = mix(sum, strspn(text, "abcdefghij") + (memchr(text, 't', 100) != NULL));
            for (char *at = text; *at; at++)
                sum += (uint64_t)(*at & 0xdf);
        }
    return sum;
}
