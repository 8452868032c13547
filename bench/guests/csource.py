"""The C file that gcc compiles: some thousand lines, the same each time."""

from __future__ import annotations

from typing import Final

_HEAD: Final = """\
typedef unsigned long size;
struct node {
    struct node *left, *right;
    long key, values[8];
    double weight;
};
extern void *take(size bytes);
extern void say(const char *text, long value);
"""

# One of each for every number; {n} and {m} make them different enough to be compiled anew.
_FUNCTIONS: Final = """\
static struct node *insert_{n}(struct node *root, long key)
{{
    if (!root) {{
        struct node *made = take(sizeof *made);
        made->left = made->right = 0;
        made->key = key;
        for (int i = 0; i < 8; i++)
            made->values[i] = key * {m} + i;
        made->weight = key / {m}.0;
        return made;
    }}
    if (key < root->key)
        root->left = insert_{n}(root->left, key);
    else if (key > root->key)
        root->right = insert_{n}(root->right, key);
    else
        root->values[key & 7] += {n};
    return root;
}}
static long parse_{n}(const char *text, long *rest)
{{
    long value = 0, sign = 1;
    while (*text == ' ' || *text == '\\t')
        text++;
    if (*text == '-') {{
        sign = -1;
        text++;
    }}
    for (; *text; text++) {{
        switch (*text) {{
        case '0': case '1': case '2': case '3': case '4':
        case '5': case '6': case '7': case '8': case '9':
            value = value * 10 + (*text - '0');
            break;
        case '_':
            break;
        case 'k':
            value *= {m};
            break;
        case 'm':
            value <<= {n} & 15;
            break;
        default:
            *rest = *text;
            say("parse_{n}", value);
            return value * sign;
        }}
    }}
    *rest = 0;
    return value * sign;
}}
static double blend_{n}(const double *a, const float *b, double *out, int count)
{{
    double total = 0;
    for (int i = 0; i < count; i++) {{
        double x = a[i] * {m}.25 + b[i];
        out[i] = x > total ? x - total : x * 0.{m};
        total += out[i];
    }}
    return total;
}}
long work_{n}(const char *text, double *a, float *b, long *table, int count)
{{
    struct node *root = 0;
    long rest, sum = parse_{n}(text, &rest);
    for (int i = 0; i < count; i++)
        root = insert_{n}(root, table[i] ^ sum);
    for (struct node *at = root; at; at = at->key & 1 ? at->left : at->right) {{
        sum += at->values[at->key % {m} & 7] / (at->key | 1);
        table[at->key & 63] = (sum << {n} % 31) | (sum >> 7);
    }}
    return sum + (long)blend_{n}(a, b, a + count, count) + rest;
}}
"""


def source(count: int = 30) -> str:
    """The text; about 75 lines for each of ``count``."""
    return _HEAD + "".join(_FUNCTIONS.format(n=n, m=3 + n * 7 % 90) for n in range(count))
