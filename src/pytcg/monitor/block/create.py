"""blockdev-create: a job that makes a file, or an image on a node that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.block.create import create_image, new_values
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.jobs.job import Job
from pytcg.block.open import open_image
from pytcg.monitor.block.joblist import start_job
from pytcg.monitor.block.lookup import node_of
from pytcg.monitor.command import Command, CommandError, is_id, option_text

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

Given = dict[str, Any]
SECTOR: Final = 512
VERSIONS: Final = {"v2": 2, "v3": 3}


class Create(Job):
    """Makes what the options say; stays until it is dismissed."""

    kind = "create"

    def __init__(self, id: str, machine: Machine, given: Given) -> None:
        super().__init__(id, nodes=[], dismiss=False)
        self._machine = machine
        self._given = given
        self._below: dict[str, BlockDevice] = {}  # nodes that the new image is to lie on
        self._opened: list[BlockDevice] = []  # of these, the ones that nobody else has
        self._wrong: BlockError | None = None
        self.length = 1

    def start(self) -> None:
        try:
            for role in ("file", "data-file"):
                if role in self._given:
                    self._below[role] = self._find(self._given[role])
        except (BlockError, CommandError) as error:
            self._wrong = BlockError(str(error))  # it is the job that fails

    def _find(self, wanted: str | Given) -> BlockDevice:
        graph = self._machine.drives.graph
        if not isinstance(wanted, str):
            opened = open_image(wanted, exclusive=True, nodes={**graph.nodes, **graph.owned})
            self._opened.append(opened)
            return opened
        node = node_of(self._machine, wanted, wanted)
        graph.check_unused_by_jobs(node)
        if graph.users_of(node) or graph.parents(node):
            raise BlockError(f"Node '{wanted}' is in use")
        if node.read_only:
            raise BlockError("Block node is read-only")
        self.nodes.append(node)
        return node

    def work(self) -> None:
        try:
            if self._wrong is not None:
                raise self._wrong
            MAKERS[self._given["driver"]](self._given, self._below)
        finally:
            self.moved(1)

    def clean(self) -> None:
        for opened in self._opened:
            opened.close()


def _make_file(given: Given, below: dict[str, BlockDevice]) -> None:
    del below
    values = new_values("raw", f"file:{given['filename']}")
    for name in ("size", "preallocation", "nocow", "extent-size-hint"):
        if name in given:
            values.set(name.replace("-", "_"), option_text(given[name]))
    create_image(given["filename"], "raw", values)


def _make_qcow2(given: Given, below: dict[str, BlockDevice]) -> None:
    from pytcg.block.formats.qcow2.create import CreateOptions, create_qcow2

    if given["size"] % SECTOR:
        raise BlockError("Image size must be a multiple of 512 bytes")
    file, data_file = below["file"], below.get("data-file")
    names = ("cluster-size", "extended-l2", "compression-type", "backing-file", "data-file-raw",
             "lazy-refcounts", "refcount-bits", "preallocation")  # fmt: skip
    options = CreateOptions(
        given["size"], version=VERSIONS[given.get("version", "v3")],
        backing_format=given.get("backing-fmt"),
        data_file=data_file.filename if data_file is not None else None,
        **{name.replace("-", "_"): given[name] for name in names if name in given},
    )  # fmt: skip
    options.check()
    if file.has_zero_init and not file.layer_status(0, max(1, file.size)).zero:
        file.truncate(0)  # new clusters are taken for empty
    create_qcow2(file, options, data_file=data_file)


MAKERS: Final = {"file": _make_file, "qcow2": _make_qcow2}


def create(machine: Machine, job_id: str, options: Given) -> Any:
    """blockdev-create."""
    if options["driver"] not in MAKERS:
        raise CommandError("Driver does not support blockdev-create")
    if not is_id(job_id):
        raise CommandError(f"Invalid job ID '{job_id}'")
    start_job(machine, Create(job_id, machine, options))


COMMANDS: Final = (
    Command("blockdev-create", create, "job-id: str, options: BlockdevCreateOptions"),
)
