/* Recursion: calls, returns and the stack, and next to nothing else. */
#include "guest.h"

enum { N = 37 };

/* optimize: the compiler would turn most of the recursion into loops. */
__attribute__((noinline, noclone, optimize("no-inline", "no-optimize-sibling-calls")))
static uint64_t fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

uint64_t kernel(void)
{
    return fib(N);
}
