"""Control flow of a function: which blocks are reached, in what order, who dominates whom."""

from __future__ import annotations

from pytcg.ir.blocks import Block, Function


def reachable(function: Function) -> list[Block]:
    """Blocks reachable from the entry, in reverse postorder."""
    seen: set[str] = set()
    order: list[Block] = []
    stack: list[tuple[Block, int]] = [(function.blocks[0], 0)]
    seen.add(function.blocks[0].label)
    while stack:
        block, index = stack.pop()
        successors = block.successors()
        if index == len(successors):
            order.append(block)
            continue
        stack.append((block, index + 1))
        target = successors[index]
        if target.label not in seen:
            seen.add(target.label)
            stack.append((target, 0))
    return order[::-1]


def predecessors(blocks: list[Block]) -> dict[str, list[str]]:
    """Labels of the blocks that branch to each."""
    found: dict[str, list[str]] = {block.label: [] for block in blocks}
    for block in blocks:
        for target in block.successors():
            found[target.label].append(block.label)
    return found


def immediate_dominators(function: Function) -> dict[str, str | None]:
    """The closest strict dominator of every reachable block; None for the entry.

    The iterative scheme of Cooper, Harvey and Kennedy over reverse postorder.
    """
    blocks = reachable(function)
    order = {block.label: i for i, block in enumerate(blocks)}
    before = predecessors(blocks)
    closest: list[int | None] = [0] + [None] * (len(blocks) - 1)
    changed = True
    while changed:
        changed = False
        for i in range(1, len(blocks)):
            known = [order[p] for p in before[blocks[i].label] if closest[order[p]] is not None]
            new = known[0]
            for other in known[1:]:
                new = _meet(closest, new, other)
            if closest[i] != new:
                closest[i], changed = new, True
    labels = [block.label for block in blocks]
    return {label: None if i == 0 else labels[closest[i] or 0] for i, label in enumerate(labels)}


def _meet(closest: list[int | None], a: int, b: int) -> int:
    while a != b:
        if a > b:
            a = closest[a] or 0
        else:
            b = closest[b] or 0
    return a
