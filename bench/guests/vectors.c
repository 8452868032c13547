/* Loops of every kind that a compiler makes vectors of, interrupted by signals that use them too. */
#include <math.h>
#include <signal.h>
#include <sys/time.h>

#include "guest.h"

enum { N = 1024, ROUNDS = 40 };
static float f[N], g[N];
static double d[N];
static int8_t b[N];
static int16_t h[N];
static int32_t i[N], index_[N];
static int64_t q[N];
static uint8_t u[N];
static volatile uint64_t ticks;
static double clobber[8];

static void tick(int number)
{
    (void)number;
    for (int k = 0; k < 8; k++)
        clobber[k] = clobber[k] * 0.5 + (double)k;
    ticks++;
}

static void step(int round)
{
    for (int k = 0; k < N; k++)
        f[k] = f[k] * 0.75f + g[k];
    for (int k = 0; k < N; k++)
        d[k] = sqrt(d[k] * d[k] + 1.0) - (double)f[k];
    for (int k = 0; k < N; k++)
        i[k] = (i[k] << (k & 7)) ^ (i[k] >> (k & 15)) ^ (int32_t)f[k];
    for (int k = 0; k < N; k++)
        b[k] = (int8_t)(b[k] > u[k] ? b[k] - 3 : u[k] + round);
    for (int k = 0; k < N; k++)
        h[k] = (int16_t)(h[k] * 3 + b[k]);
    for (int k = 0; k < N; k++)
        q[k] += (int64_t)i[k] * h[k] + i[index_[k]];
    for (int k = 0; k < N; k++)
        u[k] = (uint8_t)((u[k] + (uint8_t)b[k] + 1) >> 1);
    for (int k = 0; k < N; k++)
        g[k] = (float)d[index_[k]] + (float)(h[k] & 63);
    for (int k = 0; k < N; k++)
        if (i[k] > 0)
            f[k] = floorf(g[k] * 1.25f);
    for (int k = 0; k < N; k++)
        index_[k] = (index_[k] * 5 + u[k]) & (N - 1);
}

static uint64_t whole(void)
{
    uint64_t seed = 41, sum = 0;
    for (int k = 0; k < N; k++) {
        f[k] = (float)(xorshift(&seed) % 1000) / 7.0f;
        g[k] = (float)(xorshift(&seed) % 1000) / 11.0f;
        d[k] = (double)(xorshift(&seed) % 1000) / 13.0;
        b[k] = (int8_t)xorshift(&seed);
        h[k] = (int16_t)xorshift(&seed);
        i[k] = (int32_t)xorshift(&seed);
        q[k] = (int64_t)xorshift(&seed);
        u[k] = (uint8_t)xorshift(&seed);
        index_[k] = (int32_t)(xorshift(&seed) & (N - 1));
    }
    for (int round = 0; round < ROUNDS; round++)
        step(round);
    for (int k = 0; k < N; k++) {
        sum = mix_double(mix_double(sum, f[k]), d[k]);
        sum = mix(mix(sum, (uint64_t)q[k]), (uint64_t)(b[k] ^ h[k] ^ i[k] ^ u[k]));
    }
    return sum;
}

uint64_t kernel(void)
{
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    signal(SIGALRM, tick);
    uint64_t calm = whole();
    setitimer(ITIMER_REAL, &often, NULL);
    uint64_t sum = 0;
    for (int times = 0; times < 10 || ticks < 3; times++)
        sum = whole();
    setitimer(ITIMER_REAL, &never, NULL);
    return calm == sum ? sum : 0;
}
