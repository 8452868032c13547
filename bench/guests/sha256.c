/* SHA-256 of a megabyte, again and again: 32-bit rotates and additions. */
#include "sha256.h"

uint64_t kernel(void) { return hash_of_data(compress, 14); }
