/* The product of two float matrices: packed single-precision multiplications and additions. */
#include "guest.h"

enum { N = 192, ROUNDS = 24 };
static float a[N][N], b[N][N], c[N][N];

__attribute__((optimize("tree-vectorize"))) static void multiply(void)
{
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            float factor = a[i][k];
            for (int j = 0; j < N; j++)
                c[i][j] += factor * b[k][j];
        }
}

uint64_t kernel(void)
{
    uint64_t seed = 17, sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (float)(xorshift(&seed) % 1000) / 997.0f;
            b[i][j] = (float)(xorshift(&seed) % 1000) / 991.0f;
        }
    for (int round = 0; round < ROUNDS; round++)
        multiply();
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            sum = mix_double(sum, c[i][j]);
    return sum;
}
