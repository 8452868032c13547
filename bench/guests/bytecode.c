/* An interpreter of a little stack machine: a switch in a loop, that is indirect jumps. */
#include "guest.h"

enum { PUSH, ADD, MULTIPLY, XOR, LOAD, STORE, LESS, JUMP_IF, JUMP, SHIFT, HALT };
enum { ROUNDS = 4000000 };

/* i = 0; do { a = (a * 31 + i) ^ (a >> 7); if (a < b) b = b + 3; else b = b ^ a; } while (++i < ROUNDS) */
static const int32_t program[] = {
    LOAD, 1, PUSH, 31, MULTIPLY, LOAD, 0, ADD, LOAD, 1, SHIFT, 7, XOR, STORE, 1,
    LOAD, 1, LOAD, 2, LESS, JUMP_IF, 31,
    LOAD, 2, LOAD, 1, XOR, STORE, 2, JUMP, 38,
    LOAD, 2, PUSH, 3, ADD, STORE, 2,
    LOAD, 0, PUSH, 1, ADD, STORE, 0, LOAD, 0, PUSH, ROUNDS, LESS, JUMP_IF, 0,
    HALT,
};

static uint64_t run(const int32_t *code)
{
    int64_t stack[16] = {0}, *top = stack;
    uint64_t variables[4] = {0, 12345, 678, 0};
    const int32_t *at = code;
    for (;;) {
        switch (*at++) {
        case PUSH: *++top = *at++; break;
        case ADD: top--; top[0] += top[1]; break;
        case MULTIPLY: top--; top[0] = (int64_t)((uint64_t)top[0] * (uint64_t)top[1]); break;
        case XOR: top--; top[0] ^= top[1]; break;
        case LOAD: *++top = (int64_t)variables[*at++]; break;
        case STORE: variables[*at++] = (uint64_t)*top--; break;
        case LESS: top--; top[0] = (uint32_t)top[0] < (uint32_t)top[1]; break;
        case JUMP_IF: at = *top-- ? code + *at : at + 1; break;
        case JUMP: at = code + *at; break;
        case SHIFT: *top = (int64_t)((uint64_t)*top >> *at++); break;
        default: return mix(mix(0, variables[1]), variables[2]);
        }
    }
}

uint64_t kernel(void)
{
    return run(program);
}
