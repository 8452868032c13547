"""The text form of functions: print and parse, exact both ways.

    function add(a %0: i64, rec %1: ptr) -> i64
      local $acc.0: i64
    @entry1:
      %2: i64 = add %0, 0x5:i64
      set %2 local=$acc.0
      brif %3 then=@yes2 otherwise=@no3 likely=True
      switch %2 cases=0x1:@a4,0x2:@b5 default=@c6
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytcg.ir.blocks import Block, Function, Local, Op, Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import OPS, Type


class TextError(Exception):
    """Text that is no function; the message names the line."""


def print_op(op: Op) -> str:
    """One op on one line."""
    parts = [op.name]
    if op.args:
        parts.append(", ".join(map(_value, op.args)))
    parts += [f"{key}={_attribute(attr)}" for key, attr in op.attrs.items()]
    out = "" if op.out is None else f"{op.out!r}: {op.out.type.value} = "
    return out + " ".join(parts)


def print_function(function: Function) -> str:
    """A function, one op a line."""
    return "".join(f"{text}\n" for _, text in function_rows(function))


def function_rows(function: Function) -> Iterator[tuple[int, str]]:
    """The lines of its text, each with what it is of (`Op.line`)."""
    named = zip(function.param_names, function.params, strict=True)
    params = ", ".join(f"{name} {p!r}: {p.type.value}" for name, p in named)
    threaded = " threaded" if function.threaded else ""
    yield 0, f"function {function.name}({params}) -> {function.result.value}{threaded}"
    for local in function.locals:
        yield 0, f"  local {local!r}: {local.type.value}"
    for block in function.blocks:
        yield 0, f"{block!r}:"
        for op in block.ops:
            yield op.line, "  " + print_op(op)


def _value(value: Value) -> str:
    return repr(value) if value.const is None else f"{value.const:#x}:{value.type.value}"


def _attribute(attr: object) -> str:
    if isinstance(attr, Type):
        return attr.value
    if isinstance(attr, tuple) and attr and isinstance(attr[0], int):
        return ",".join(map(str, attr))
    if isinstance(attr, tuple):
        return ",".join(f"{case:#x}:{block!r}" for case, block in attr)
    return repr(attr) if isinstance(attr, (Block, Local, bool, int, type(None))) else str(attr)


_HEAD = re.compile(r"function (\S+)\((.*)\) -> (\w+)( threaded)?$")
_PARAM = re.compile(r"(\w+) %(\d+): (\w+)$")
_LOCAL = re.compile(r"local \$(.*)\.(\d+): (\w+)$")
_OP = re.compile(r"(?:%(\d+): (\w+) = )?(\w+)(.*)$")
_ARGUMENT = re.compile(r"(?:%(\d+)|0x([0-9a-f]+):(\w+))$")
_ATTRIBUTE = re.compile(r" (\w+)=(\S*)$")


def parse_function(text: str) -> Function:
    """The function that `print_function` printed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _Parser(lines).parse()


class _Parser:
    def __init__(self, lines: list[str]):
        self.lines = lines
        self.at = 0
        self.values: dict[int, Value] = {}

    def fail(self, what: str) -> TextError:
        line = self.lines[self.at] if self.at < len(self.lines) else "end of text"
        return TextError(f"{what}: {line}")

    def match(self, pattern: re.Pattern[str], text: str, what: str) -> re.Match[str]:
        match = pattern.match(text)
        if match is None:
            raise self.fail(what)
        return match

    def type(self, name: str) -> Type:
        try:
            return Type(name)
        except ValueError:
            raise self.fail("no such type") from None

    def parse(self) -> Function:
        head = self.match(_HEAD, self.lines[0] if self.lines else "", "not a function")
        texts = head[2].split(", ") if head[2] else []
        params = [self.match(_PARAM, text, "not a parameter") for text in texts]
        function = Function(head[1], [(p[1], self.type(p[3])) for p in params],
                            self.type(head[3]), threaded=bool(head[4]))  # fmt: skip
        self.function = function
        self.builder = Builder(function)
        function.blocks.clear()
        for match, value in zip(params, function.params, strict=True):
            value.id = int(match[2])
            self.values[value.id] = value
        self.at = 1
        while self.at < len(self.lines) and self.lines[self.at].startswith("local "):
            match = self.match(_LOCAL, self.lines[self.at], "not a local")
            function.locals.append(Local(int(match[2]), self.type(match[3]), match[1]))
            self.at += 1
        self.blocks = {line[1:-1]: Block(line[1:-1]) for line in self.lines[self.at:]
                       if line.startswith("@")}  # fmt: skip
        self.locals = {repr(local): local for local in function.locals}
        self._body()
        function.next_id = max(self.values, default=-1) + 1
        return function

    def _body(self) -> None:
        for at in range(self.at, len(self.lines)):
            self.at = at
            line = self.lines[at]
            if line.startswith("@"):
                self.function.blocks.append(self.blocks[line[1:-1]])
            elif not self.function.blocks:
                raise self.fail("an op outside every block")
            else:
                self.function.blocks[-1].ops.append(self._op(line))

    def _op(self, line: str) -> Op:
        match = self.match(_OP, line, "not an op")
        name, rest = match[3], match[4]
        if name not in OPS:
            raise self.fail("no such op")
        attributes: list[tuple[str, str]] = []
        while (found := re.search(_ATTRIBUTE, rest)) is not None:
            attributes.insert(0, (found[1], found[2]))
            rest = rest[:found.start()]
        args = tuple(self._argument(text) for text in rest.strip().split(", ") if text)
        attrs = {key: self._attr(key, text) for key, text in attributes}
        out = None
        if match[1] is not None:
            out = Value(self.builder, self.type(match[2]), int(match[1]))
            self.values[out.id] = out
        return Op(name, args, attrs, out)

    def _argument(self, text: str) -> Value:
        match = self.match(_ARGUMENT, text, "not an operand")
        if match[1] is None:
            return Value(self.builder, self.type(match[3]), -1, int(match[2], 16))
        if int(match[1]) not in self.values:
            raise self.fail(f"no value %{match[1]} yet")
        return self.values[int(match[1])]

    def _attr(self, key: str, text: str) -> object:
        if key == "type":
            return self.type(text)
        if key in ("lane", "mode"):
            return int(text)
        if key == "order":
            return tuple(map(int, text.split(",")))
        if key in ("likely", "cold"):
            return {"True": True, "False": False}.get(text)
        if key == "cases":
            pairs = [pair.split(":@") for pair in text.split(",") if pair]
            return tuple((int(case, 16), self._block("@" + label)) for case, label in pairs)
        if key == "local":
            if text not in self.locals:
                raise self.fail("no such local")
            return self.locals[text]
        return self._block(text) if text.startswith("@") else text

    def _block(self, text: str) -> Block:
        if text[1:] not in self.blocks:
            raise self.fail(f"no block {text}")
        return self.blocks[text[1:]]
