"""Snapshots: registers, mappings and memory of a processor, which only costs what changes after.

Snapshots make a tree: each was taken some time after another. The state is always that of the
*current* one and the pages changed since, which native code keeps (`pytcg.exec.snapshot`). Going to
another goes through their common ancestor, page by page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.errors import SnapshotError
from pytcg.exec.layout import PAGE_SIZE
from pytcg.softmmu.ram import HostBuffer

if TYPE_CHECKING:
    from pytcg.cpu import Context, Cpu
    from pytcg.library.memory import Region

Pages = dict[int, bytes]


class Snapshot:
    """What `Cpu.snapshot` returns; `Cpu.restore` goes back to it."""

    __slots__ = ("back", "context", "forward", "owner", "parent", "regions", "room")

    def __init__(self, owner: Snapshots, parent: Snapshot | None, context: Context,
                 regions: list[Region], room: tuple[int, list[tuple[int, int]]]):  # fmt: skip
        self.owner = owner
        self.parent = parent
        self.context = context
        self.regions = regions
        self.room = room
        self.back: Pages = {}
        """Pages of the parent that differ here."""
        self.forward: Pages = {}
        """The same pages here; known once it was left for the parent."""

    def line(self) -> list[Snapshot]:
        """It and its ancestors, itself first."""
        found: list[Snapshot] = []
        node: Snapshot | None = self
        while node is not None:
            found.append(node)
            node = node.parent
        return found


class Snapshots:
    """The snapshots of one processor."""

    def __init__(self, cpu: Cpu):
        self._cpu = cpu
        self.current: Snapshot | None = None
        self._buffers: list[HostBuffer] = []

    def take(self) -> Snapshot:
        """The present state as a new snapshot."""
        cpu, memory = self._cpu, self._cpu.memory
        parent = self.current
        if parent is None:
            self._begin()
        new = Snapshot(self, parent, cpu.save_context(), list(memory.regions), memory.room())
        if parent is not None:
            new.back = self._saved()
        self.current = new
        cpu._cpu.engine.call("snapshot_begin", cpu._cpu.address)
        self._flush()
        return new

    def restore(self, target: Snapshot) -> None:
        """Make the state that of ``target``."""
        if target.owner is not self:
            raise SnapshotError("that is a snapshot of another processor")
        cpu = self._cpu
        cpu._cpu.engine.call("snapshot_undo", cpu._cpu.address)
        if target is not self.current:
            self._travel(target)
        memory = cpu.memory
        memory.set_room(target.room)
        if memory.regions != target.regions:
            memory.replace_all(target.regions)
        cpu.restore_context(target.context)
        self._flush()

    def _travel(self, target: Snapshot) -> None:
        """From the current snapshot to another, by way of their common ancestor."""
        assert self.current is not None
        here, there = self.current.line(), target.line()
        common = next(node for node in here if node in there)
        for node in here[: here.index(common)]:
            node.forward = {page: self._page(page) for page in node.back}
            self._put(node.back)
        for node in reversed(there[: there.index(common)]):
            self._put(node.forward)
        self.current = target

    # Pages -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The first snapshot: from now on pages are saved before they change."""
        cpu = self._cpu
        state, size = cpu._cpu.state, cpu.memory.window.size
        pages = size // PAGE_SIZE
        self._buffers = [HostBuffer(size, huge=False), HostBuffer(pages * 4, huge=False),
                         HostBuffer(pages * 8, huge=False)]  # fmt: skip
        cpu._cpu.engine.attach(self._buffers)
        for name, buffer in zip(("snap_shadow", "snap_marks", "snap_log"), self._buffers,
                                strict=True):  # fmt: skip
            state.set(name, buffer.address)
        cpu.memory.before_write.append(self._before_write)
        cpu.memory.keep_freed = True

    def _before_write(self, offset: int, length: int) -> None:
        self._cpu._cpu.engine.call("save_pages", self._cpu._cpu.address, offset, length)

    def _saved(self) -> Pages:
        """The pages saved since the current snapshot, as they were then."""
        count = self._cpu._cpu.state.get("snap_count")
        log = self._buffers[2].view[: 8 * count].cast("Q")
        shadow = self._buffers[0].view
        return {page: bytes(shadow[page : page + PAGE_SIZE]) for page in log}

    def _page(self, page: int) -> bytes:
        return bytes(self._cpu.memory.window.view[page : page + PAGE_SIZE])

    def _put(self, pages: Pages) -> None:
        view = self._cpu.memory.window.view
        for page, data in pages.items():
            view[page : page + PAGE_SIZE] = data
            for listener in self._cpu.memory.on_write:
                listener(page, PAGE_SIZE)

    def _flush(self) -> None:
        """No page may be stored to unseen: not by the TLB, nor through views."""
        cpu = self._cpu
        cpu._cpu.engine.call("tlb_flush", cpu._cpu.address)
        for address, size in cpu.live_views():
            self._before_write(address, size)
