"""Images that jobs and snapshots write to: made, opened, kept open."""

from __future__ import annotations

from pytcg.block.create import create_image, new_values, set_backing
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.filters.filter import Reference
from pytcg.block.graph import Graph
from pytcg.block.open import open_image


def make(filename: str, format: str, size: int, backing: BlockDevice | None) -> None:
    """A new image, over a node if there is one; BlockError."""
    values = new_values(format, filename)
    values.set("size", str(size))
    if backing is not None:
        set_backing(values, format, backing.filename, backing.format_name)
    create_image(filename, format, values)


def open_target(graph: Graph, filename: str, format: str | None, node_name: str | None,
                backing: BlockDevice | None) -> BlockDevice:  # fmt: skip
    """An image by its file's name, over a node that is open already; BlockError."""
    if node_name is not None:
        graph.check_free(node_name)
    try:
        image = open_image(filename, format=format, exclusive=True, no_backing=True)
    except BlockError as error:
        text = str(error)
        raise BlockError(text if filename in text else f"{filename}: {text}") from None
    image.node_name = node_name or ""
    if backing is not None and image.supports_backing:
        image.backing = Reference(backing)
    return image


def prepared(graph: Graph, source: BlockDevice, *, target: str, format: str | None,
             mode: str, sync: str, node_name: str | None) -> BlockDevice:  # fmt: skip
    """The target of drive-mirror and drive-backup."""
    backing = None
    if sync == "top" and source.backing is not None:
        backing = source.backing.node
    elif sync == "none":
        backing = source
    if mode == "absolute-paths":
        make(target, format or source.format_name, source.size, backing)
        format = format or source.format_name
    return open_target(graph, target, format, node_name, backing)
