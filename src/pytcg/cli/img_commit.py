"""pytcg-img commit: merge an overlay into a backing file."""

from __future__ import annotations

import itertools

from pytcg.block.convert import Copier, CopyOptions
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.open import open_image
from pytcg.block.options import resolve_backing
from pytcg.block.qcow2 import Qcow2Device

from .img_common import Arguments, Failure, Progress, cache_mode, one_word, open_disk, parse


def run(argv: list[str]) -> int:
    """Copy what the overlay (and images between) hold into the base."""
    arguments = parse(argv, "h f: t: b: d p q r: help object: image-opts")
    name = one_word(arguments)
    cache = cache_mode(arguments, "t", "writeback")
    top = open_disk(name, arguments, format=arguments.get("f"), read_only=False, cache=cache,
                    no_backing=True)
    layers = [top]
    try:
        base = _open_chain(layers, arguments.get("b"), cache)
        layers.append(base)
        _commit(layers, base, arguments)
    finally:
        for above, below in itertools.pairwise(layers):
            if above.backing is below:
                above.backing = None  # it is in the list itself
        for layer in layers:
            layer.close()
    return 0


def _open_chain(layers: list[BlockDevice], wanted: str | None, cache: str) -> BlockDevice:
    """Open the images between top and base for reading, and the base for writing.

    Layer by layer, as the base can't be both read through the chain and open for writing.
    """
    while True:
        above = layers[-1]
        if not above.backing_file:
            if wanted is None:
                raise Failure("Image does not have a backing file")
            raise Failure(f"Did not find '{wanted}' in the backing chain of "
                          f"'{layers[0].filename}'")
        try:
            full = resolve_backing(above.location, above.backing_file)
            is_base = wanted in (None, full, above.backing_file)
            below = open_image(full, format=above.backing_format, read_only=not is_base,
                               cache=cache, no_backing=not is_base)
        except BlockError as error:
            raise Failure(f"Could not open '{above.backing_file}': {error}") from None
        if is_base:
            return below
        above.backing = below
        layers.append(below)


def _commit(layers: list[BlockDevice], base: BlockDevice, arguments: Arguments) -> None:
    top = layers[0]
    progress = Progress(enabled="p" in arguments and "q" not in arguments)
    try:
        if base.size < top.size:
            base.truncate(top.size)
        options = CopyOptions(min_sparse=0, keep_backing=True, backing_size=top.size, workers=1)
        for layer in reversed(layers[:-1]):
            Copier(layer, base, options, progress).run()
        base.flush()
        # An image two levels up still needs what the one between holds.
        if "d" not in arguments and len(layers) == 2 and isinstance(top, Qcow2Device):
            top.make_empty()
    except BlockError as error:
        raise Failure(str(error)) from None
    progress.finish()
    if "q" not in arguments:
        print("Image committed.")
