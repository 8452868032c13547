"""Random small functions: a few blocks with locals, loads, stores, branches and a bounded loop."""

from __future__ import annotations

import random

from pytcg.ir.blocks import Block, Function, Local, Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import BITS, Type

TYPES = [Type.I8, Type.I32, Type.I64]
BINARY = ["add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr", "rotl", "rotr", "mulhu"]
COMPARE = ["eq", "ne", "ult", "sle", "ugt", "sge", "addc", "subo"]
UNARY = ["neg", "not", "popcnt", "clz", "ctz"]
SLOTS = 8  # eight-byte places in the buffer
ROUNDS = 12


class Maker:
    """Makes one function ``i64 name(ptr buffer, i64 x)`` from a seed."""

    def __init__(self, name: str, seed: int):
        self.random = random.Random(seed)
        params = [("buffer", Type.PTR), ("x", Type.I64)]
        self.function = Function(name, params, Type.I64)
        self.b = Builder(self.function)
        self.locals: list[Local] = []
        self.known: list[Value] = []

    def make(self) -> Function:
        b, r = self.b, self.random
        buffer, x = self.function.params
        self.locals = [b.local(type_, "v") for type_ in (*TYPES, *TYPES)]
        for local in self.locals:
            b.set(local, b.const(r.getrandbits(64), local.type))
        rounds = b.local(Type.I64, "rounds")
        b.set(rounds, b.const(ROUNDS, Type.I64))
        blocks = [b.new_block("n") for _ in range(r.randint(2, 6))]
        out = b.new_block("out")
        b.br(blocks[0])
        for index, block in enumerate(blocks):
            b.place(block)
            self.known = [x]
            left = b.get(rounds) - 1
            b.set(rounds, left)
            self.fill(buffer)
            more, back = b.new_block("more"), r.choice(blocks)
            b.brif(left.eq(0), out, more)
            b.place(more)
            self.leave([*blocks[index + 1:], out], back)
        b.place(out)
        total = b.get(rounds)
        for local in self.locals:
            total = total * 31 + b.get(local).resize(Type.I64)
        b.ret(total)
        return self.function

    def leave(self, ahead: list[Block], back: Block) -> None:
        b, r = self.b, self.random
        choice = r.randrange(3)
        if choice == 0:
            b.br(r.choice(ahead))
        elif choice == 1:
            b.brif(self.condition(), r.choice(ahead), r.choice([*ahead, back]),
                   likely=r.choice([None, True, False]))  # fmt: skip
        else:
            cases = [(i, r.choice([*ahead, back])) for i in range(3)]
            b.switch(self.value(Type.I8) & 3, cases, r.choice(ahead))

    def fill(self, buffer: Value) -> None:
        b, r = self.b, self.random
        for _ in range(r.randint(2, 10)):
            choice = r.randrange(6)
            type_ = r.choice(TYPES)
            if choice == 0:
                self.known.append(b.get(r.choice(self.locals)))
            elif choice == 1:
                local = r.choice(self.locals)
                b.set(local, self.value(local.type))
            elif choice == 2:
                self.known.append(b.ld(type_, buffer, r.randrange(SLOTS * 8 - 8)))
            elif choice == 3:
                b.st(self.value(type_), buffer, r.randrange(SLOTS * 8 - 8))
            else:
                self.known.append(self.compute(type_))

    def value(self, type_: Type) -> Value:
        """Something of that type: made before, or a constant."""
        r = self.random
        if r.random() < 0.2:
            number = r.choice([0, 1, (1 << BITS[type_]) - 1, r.getrandbits(64)])
            return self.b.const(number, type_)
        value = r.choice(self.known)
        if value.bits >= BITS[type_]:
            return value.trunc(type_)
        return value.sext(type_) if r.random() < 0.5 else value.zext(type_)

    def condition(self) -> Value:
        type_ = self.random.choice(TYPES)
        name = self.random.choice(COMPARE)
        return self.b.op(name, self.value(type_), self.value(type_))

    def compute(self, type_: Type) -> Value:
        b, r = self.b, self.random
        choice = r.randrange(4)
        if choice == 0:
            return b.op(r.choice(UNARY), self.value(type_))
        if choice == 1:
            return b.select(self.condition(), self.value(type_), self.value(type_))
        return b.op(r.choice(BINARY), self.value(type_), self.value(type_))
