/* Five bodies under gravity: double-precision arithmetic with square roots and divisions. */
#include <math.h>

#include "guest.h"

enum { BODIES = 5, STEPS = 400000 };

struct body {
    double place[3], speed[3], mass;
};

static void advance(struct body *bodies, double time)
{
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double apart[3], square = 0;
            for (int k = 0; k < 3; k++) {
                apart[k] = bodies[i].place[k] - bodies[j].place[k];
                square += apart[k] * apart[k];
            }
            double pull = time / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                bodies[i].speed[k] -= apart[k] * bodies[j].mass * pull;
                bodies[j].speed[k] += apart[k] * bodies[i].mass * pull;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].place[k] += time * bodies[i].speed[k];
}

uint64_t kernel(void)
{
    struct body bodies[BODIES] = {{.mass = 39.5}};
    uint64_t sum = 0;
    for (int i = 1; i < BODIES; i++) {
        double radius = 3.0 + 6.5 * i;
        bodies[i] = (struct body){{radius, 0.1 * i, 0.02 * i}, {0, sqrt(39.5 / radius), 0.01 * i},
                                  0.04 / i};
    }
    for (int step = 0; step < STEPS; step++)
        advance(bodies, 0.001);
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            sum = mix_double(mix_double(sum, bodies[i].place[k]), bodies[i].speed[k]);
    return sum;
}
