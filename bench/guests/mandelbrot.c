/* Mandelbrot's set: scalar double-precision arithmetic in a tight loop. */
#include "guest.h"

enum { SIZE = 400, DEPTH = 600 };

uint64_t kernel(void)
{
    uint64_t sum = 0;
    for (int row = 0; row < SIZE; row++)
        for (int column = 0; column < SIZE; column++) {
            double cx = 3.0 * column / SIZE - 2.2, cy = 2.6 * row / SIZE - 1.3, x = 0, y = 0;
            int n = 0;
            while (n < DEPTH && x * x + y * y < 4.0) {
                double next = x * x - y * y + cx;
                y = 2 * x * y + cy;
                x = next;
                n++;
            }
            sum = mix(sum, (uint64_t)n);
        }
    return sum;
}
