"""What the Python interpreter runs: objects, dictionaries, strings, expressions, numbers."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import reduce
from itertools import pairwise
from typing import NamedTuple


class Point(NamedTuple):
    x: float
    y: float


class Account:
    def __init__(self, owner: str, balance: int) -> None:
        self.owner, self.balance = owner, balance

    def move(self, other: Account, amount: int) -> None:
        if amount > self.balance:
            raise ValueError("not enough")
        self.balance -= amount
        other.balance += amount


def accounts(rounds: int) -> tuple[int, int]:
    known = [Account(f"owner{i}", 1000 + i) for i in range(50)]
    failed = 0
    for i in range(rounds):
        try:
            known[i * 7 % 50].move(known[i * 11 % 50], i % 40 * 9)
        except ValueError:
            failed += 1
    return failed, sum(i * one.balance for i, one in enumerate(known))


def words(rounds: int) -> list[tuple[str, int]]:
    text = " ".join(f"word{i * i % 97}-{i % 13}" for i in range(rounds))
    counts: dict[str, int] = defaultdict(int)
    for name, number in re.findall(r"(\w+)-(\d+)", text):
        counts[name.upper()] += int(number)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]


def queens(n: int, row: int = 0, columns: int = 0, left: int = 0, right: int = 0) -> int:
    if row == n:
        return 1
    free, found = ~(columns | left | right) & (1 << n) - 1, 0
    while free:
        bit = free & -free
        free ^= bit
        found += queens(n, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1)
    return found


def points(rounds: int) -> float:
    made = [Point(i * 0.5, (i * 37 % 101) / 3) for i in range(rounds)]
    made.sort(key=lambda point: (point.y, -point.x))
    return round(sum(a.x * b.y - a.y * b.x for a, b in pairwise(made)), 6)


def digits(n: int) -> tuple[int, int]:
    power = pow(3, 1 << 12, (1 << 521) - 1)
    return len(str(reduce(lambda a, b: a * b, range(1, n)))), power % 1000003


print(accounts(40000))
print(words(12000))
print(queens(7))
print(points(20000))
print(digits(600))
