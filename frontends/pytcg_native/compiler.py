"""Compiles ``@native`` functions to IR: call graph, statements, signatures."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from pytcg.ir.blocks import Block, Function, Local, Value
from pytcg.ir.builder import Builder
from pytcg.ir.layout import PTR, SCALARS, VOID, Scalar, Struct
from pytcg.ir.ops import Type
from pytcg_native.expressions import Expressions, Typed, ir_type
from pytcg_native.types import NativeFunction, Pointer, Table

AnyNative = NativeFunction[Any, Any]


def resolve_type(fn: AnyNative, node: ast.expr | None) -> tuple[Scalar, Struct | None]:
    """The scalar (and struct, for pointers) that an annotation names."""
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return VOID, None
    if isinstance(node, ast.Name):
        if node.id in SCALARS:
            return SCALARS[node.id], None
        if node.id == "NoReturn":
            return VOID, None
        found = fn.scope.get(node.id)
        if isinstance(found, type) and issubclass(found, Pointer):
            return PTR, getattr(found, "layout", None)
    raise fn.error(node, f"no native type {ast.unparse(node)!r}")


class Signature:
    """Parameter and result types of a native function, and whether it never returns."""

    def __init__(self, fn: AnyNative):
        arguments = fn.tree.args
        if arguments.vararg or arguments.kwonlyargs or arguments.kwarg or arguments.defaults:
            raise fn.error(fn.tree, "only plain parameters")
        self.params = [(a.arg, *resolve_type(fn, a.annotation)) for a in arguments.args]
        returns = fn.tree.returns
        self.noreturn = isinstance(returns, ast.Name) and returns.id == "NoReturn"
        self.result, self.struct = resolve_type(fn, returns)


class Program:
    """A closed set of native functions: everything reachable from the roots given so far."""

    def __init__(self) -> None:
        self.natives: dict[str, AnyNative] = {}
        self.signatures: dict[str, Signature] = {}
        self.calls: dict[str, set[str]] = {}
        self.tables: dict[str, Table] = {}
        self.functions: dict[str, Function] = {}
        self.raising: set[str] = set()
        self._compiling: list[str] = []

    def add(self, roots: Iterable[AnyNative]) -> None:
        """Take in ``roots`` and all they call, and find which functions can raise."""
        todo = list(roots)
        before = len(self.natives)
        while todo:
            fn = todo.pop()
            known = self.natives.get(fn.name)
            if known is fn or (known is not None and fn.extern):
                continue
            if known is not None and not known.extern:
                raise fn.error(fn.tree, f"another native function has that name: {known.file}")
            self.natives[fn.name] = fn
            self.signatures[fn.name] = Signature(fn)
            names, free = _names(fn.tree)
            found = [fn.scope[n] for n in sorted(names) if n in fn.scope]
            callees = [f for f in found if isinstance(f, NativeFunction)]
            self.calls[fn.name] = {f.name for f in callees if f.python.__name__ in free}
            for table in (t for t in found if isinstance(t, Table)):
                self.tables[table.name] = table
            todo += callees
        if len(self.natives) != before:
            self._find_raising()

    def _find_raising(self) -> None:
        self.raising = {n for n, s in self.signatures.items() if s.noreturn}
        self.raising |= {n for n, fn in self.natives.items() if fn.extern}
        while True:
            more = {n for n, callees in self.calls.items()
                    if n not in self.raising and callees & self.raising}  # fmt: skip
            if not more:
                return
            self.raising |= more

    def compile(self, fn: AnyNative) -> Function:
        """IR of one function (compiled once)."""
        if fn.name not in self.functions:
            if fn.name in self._compiling:
                raise fn.error(fn.tree, "inline functions can't be recursive")
            self._compiling.append(fn.name)
            self.functions[fn.name] = _FunctionCompiler(self, fn).compile()
            self._compiling.pop()
        return self.functions[fn.name]

    def compile_all(self) -> list[Function]:
        """IR of every function that is called rather than inlined."""
        wanted = [fn for fn in self.natives.values() if not fn.inline and not fn.extern]
        return [self.compile(fn) for fn in wanted]


def _is_resume(node: ast.AST) -> bool:
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == "resume" and len(node.args) == 2)  # fmt: skip


def _is_attempt(node: ast.AST) -> bool:
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == "attempt")  # fmt: skip


def _names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The names in a function, and those of them that are not only within `attempt`."""
    names: set[str] = set()
    free: set[str] = set()
    todo = [(tree, False)]
    while todo:
        node, caught = todo.pop()
        if isinstance(node, ast.Name):
            names.add(node.id)
            if not caught:
                free.add(node.id)
            continue
        caught = caught or _is_attempt(node)
        todo += [(child, caught) for child in ast.iter_child_nodes(node)]
    return names, free


class _FunctionCompiler(Expressions):
    def __init__(self, program: Program, fn: AnyNative):
        self.program = program
        self.fn = fn
        self.signature = program.signatures[fn.name]
        params = [(name, ir_type(scalar)) for name, scalar, _ in self.signature.params]
        result = Type.VOID if fn.threaded else ir_type(self.signature.result)
        self.function = Function(fn.name, params, result, threaded=fn.threaded, cold=fn.cold)
        self.b = Builder(self.function)
        self.variables: dict[str, tuple[Local, Scalar, Struct | None]] = {}
        self.loops: list[tuple[Block, Block]] = []
        self._unwind: Block | None = None
        for (name, scalar, struct), value in zip(self.signature.params, self.function.params,
                                                 strict=True):  # fmt: skip
            self._declare(name, scalar, struct)
            self.b.set(self.variables[name][0], value)

    def compile(self) -> Function:
        self._body(self.fn.tree.body)
        if not self.b.block.closed:
            if self.signature.noreturn:
                self.b.unwind()
            elif self.signature.result is VOID:
                self.b.ret()
            else:
                # Only code after an exhaustive if/else gets here; anything else is a mistake.
                if self.b.block.ops or self._reached(self.b.block):
                    raise self.fn.error(self.fn.tree.body[-1], "control reaches the end")
                self.b.effect("unreachable")
        if self._unwind is not None:
            self.b.place(self._unwind)
            self.b.unwind()
        return self.function

    def _reached(self, block: Block) -> bool:
        return any(block in b.successors() for b in self.function.blocks)

    @property
    def unwind_block(self) -> Block:
        if self._unwind is None:
            self._unwind = self.b.new_block("unwind")
        return self._unwind

    def _declare(self, name: str, scalar: Scalar, struct: Struct | None) -> None:
        self.variables[name] = (self.b.local(ir_type(scalar), name), scalar, struct)

    # Statements --------------------------------------------------------------------------------

    def _body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self.b.block.closed:
                self.b.place(self.b.new_block("dead"))
            method = getattr(self, "_stmt_" + type(statement).__name__, None)
            if method is None:
                raise self.fn.error(statement, f"no {type(statement).__name__} in native code")
            method(statement)

    def _stmt_Pass(self, node: ast.Pass) -> None:
        pass

    def _stmt_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return
        if not isinstance(node.value, ast.Call):
            raise self.fn.error(node, "an expression without effect")
        self.call(node.value, want_value=False)

    def _stmt_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not isinstance(node.target, ast.Name):
            raise self.fn.error(node, "only names are declared")
        scalar, struct = resolve_type(self.fn, node.annotation)
        old = self.variables.get(node.target.id)
        if old is not None and old[1:] != (scalar, struct):
            raise self.fn.error(node, f"{node.target.id} is already a {old[1]}")
        if old is None:
            self._declare(node.target.id, scalar, struct)
        if node.value is not None:
            value = self.coerce(node.value, self.expr(node.value), scalar)
            self.b.set(self.variables[node.target.id][0], value)

    def _stmt_Assign(self, node: ast.Assign) -> None:
        value = self.expr(node.value)
        for target in node.targets:
            self._assign(target, node.value, value)

    def _assign(self, target: ast.expr, source: ast.expr, value: Typed | int) -> None:
        if isinstance(target, ast.Name):
            if target.id not in self.variables:
                if isinstance(value, int):
                    raise self.fn.error(target, f"declare {target.id}'s type")
                self._declare(target.id, value.scalar, value.struct)
            local, scalar, _ = self.variables[target.id]
            self.b.set(local, self.coerce(source, value, scalar))
            return
        pointer, scalar = self.place(target)
        self.b.st(self.stored(self.coerce(source, value, scalar), scalar), pointer)

    def _stmt_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            left = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
            value = self.binary(node, node.op, self.expr(left), self.expr(node.value))
            self._assign(node.target, node.value, value)
            return
        pointer, scalar = self.place(node.target)
        old = self.loaded(pointer, scalar)
        value = self.binary(node, node.op, old, self.expr(node.value))
        self.b.st(self.stored(self.coerce(node.value, value, scalar), scalar), pointer)

    def _stmt_Return(self, node: ast.Return) -> None:
        if self.fn.threaded:
            self._leave(node)
        elif node.value is None:
            self.b.ret()
        else:
            value = self.coerce(node.value, self.expr(node.value), self.signature.result)
            self.b.ret(value)

    def _leave(self, node: ast.Return) -> None:
        """A threaded function returns the record to go on with; NULL leaves threaded code."""
        if node.value is None or (isinstance(node.value, ast.Name) and node.value.id == "NULL"):
            self.b.ret()
            return
        env, _, ram = (self.b.get(self.variables[name][0]) for name, _, _ in self.signature.params)
        if _is_resume(node.value):
            assert isinstance(node.value, ast.Call)
            code, record = (self.coerce(a, self.expr(a), PTR) for a in node.value.args)
        else:
            record = self.coerce(node.value, self.expr(node.value), PTR)
            code = self.b.ld(Type.PTR, record)
        self.b.effect("tail", code, env, record, ram)

    def _stmt_If(self, node: ast.If) -> None:
        known = self.constant(node.test)
        if known is not None:
            self._body(node.body if known else node.orelse)
            return
        then, after = self.b.new_block("then"), self.b.new_block("endif")
        otherwise = self.b.new_block("else") if node.orelse else after
        self.branch(node.test, then, otherwise)
        for block, body in ((then, node.body), (otherwise, node.orelse)):
            if body:
                self.b.place(block)
                self._body(body)
                if not self.b.block.closed:
                    self.b.br(after)
        self.b.place(after)
        if not self._reached(after):
            self.b.effect("unreachable")

    def _stmt_While(self, node: ast.While) -> None:
        head, body, after = (self.b.new_block(n) for n in ("while", "do", "done"))
        self.b.br(head)
        self.b.place(head)
        if self.constant(node.test):
            self.b.br(body)
        else:
            self.branch(node.test, body, after)
        self._loop(node, body, head, after)
        if not self.b.block.closed:
            self.b.br(head)
        self.b.place(after)
        if not self._reached(after):
            self.b.effect("unreachable")

    def _loop(self, node: ast.While | ast.For, body: Block, again: Block, after: Block) -> None:
        if node.orelse:
            raise self.fn.error(node, "no else on loops")
        self.b.place(body)
        self.loops.append((again, after))
        self._body(node.body)
        self.loops.pop()

    def _stmt_For(self, node: ast.For) -> None:
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
                and call.func.id == "range" and isinstance(node.target, ast.Name)):  # fmt: skip
            raise self.fn.error(node, "only `for name in range(...)`")
        bounds = [self.expr(a) for a in call.args]
        step = bounds[2] if len(bounds) == 3 else 1
        if not isinstance(step, int) or step == 0:
            raise self.fn.error(node, "range's step must be a constant")
        first, last = (0, bounds[0]) if len(bounds) == 1 else (bounds[0], bounds[1])
        name = node.target.id
        if name not in self.variables:
            typed = next((v for v in (last, first) if not isinstance(v, int)), None)
            self._declare(name, typed.scalar if typed else SCALARS["u64"], None)
        local, scalar, _ = self.variables[name]
        self.b.set(local, self.coerce(node, first, scalar))
        limit = self.coerce(node, last, scalar)
        head, body, more, after = (self.b.new_block(n) for n in ("for", "do", "next", "done"))
        self.b.br(head)
        self.b.place(head)
        test = ("s" if scalar.signed else "u") + ("lt" if step > 0 else "gt")
        self.b.brif(self.b.op(test, self.b.get(local), limit), body, after)
        self._loop(node, body, more, after)
        if not self.b.block.closed:
            self.b.br(more)
        self.b.place(more)
        self.b.set(local, self.b.get(local) + step)
        self.b.br(head)
        self.b.place(after)

    def _stmt_Break(self, node: ast.Break) -> None:
        self.b.br(self.loops[-1][1])

    def _stmt_Continue(self, node: ast.Continue) -> None:
        self.b.br(self.loops[-1][0])

    # Calls between natives ---------------------------------------------------------------------

    def call_native(self, node: ast.Call, callee: AnyNative, *,
                    catch: bool = False) -> Typed | None:  # fmt: skip
        signature = self.program.signatures[callee.name]
        if node.keywords or len(node.args) != len(signature.params):
            raise self.fn.error(node, f"{callee.name} takes {len(signature.params)} arguments")
        args = [self.coerce(a, self.expr(a), scalar)
                for a, (_, scalar, _) in zip(node.args, signature.params, strict=True)]  # fmt: skip
        raises = callee.name in self.program.raising
        result: Value | None
        if catch and (callee.inline or signature.noreturn):
            raise self.fn.error(node, "attempt takes a call of a function that is not inline")
        if callee.inline:
            unwind = self.unwind_block if raises else None
            result = self.b.inline(self.program.compile(callee), args, unwind)
        else:
            result = self.b.call(callee.name, ir_type(signature.result), *args,
                                 cold=callee.cold)  # fmt: skip
            if signature.noreturn:
                self.b.br(self.unwind_block)
            elif raises and not catch:
                self._check_pending()
        if result is None:
            return None
        return Typed(result, signature.result, signature.struct)

    def _check_pending(self) -> None:
        """After a call that may raise: leave too if it did."""
        env = next((n for n, (_, _, struct) in self.variables.items()
                    if struct and "exception_pending" in struct.fields), None)  # fmt: skip
        if env is None:
            raise self.fn.error(self.fn.tree, "a function that may raise needs an Env parameter")
        local, _, struct = self.variables[env]
        assert struct is not None
        pending = self.b.ld(Type.I8, self.b.get(local), struct.offset("exception_pending"))
        go_on = self.b.new_block("returned")
        self.b.brif(pending.eq(0), go_on, self.unwind_block, likely=True)
        self.b.place(go_on)
