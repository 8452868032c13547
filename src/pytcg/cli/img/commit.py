"""pytcg-img commit: merge an overlay into a backing file."""

from __future__ import annotations

import itertools
import os

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.jobs.convert import Copier, CopyOptions
from pytcg.block.open import open_image
from pytcg.block.options import protocol_of, resolve_backing
from pytcg.cli.img.common import (
    Arguments,
    Failure,
    Progress,
    cache_mode,
    one_word,
    open_disk,
    parse,
    size_argument,
)


def run(argv: list[str]) -> int:
    """Copy what the overlay (and images between) hold into the base."""
    arguments = parse(argv, "f: t: b: d p q r: image-opts")
    text = arguments.get("r")
    rate = size_argument(text, "rate limit") if text else 0
    name = one_word(arguments)
    cache = cache_mode(arguments, "t", "writeback")
    top = open_disk(name, arguments, format=arguments.get("f"), read_only=False, cache=cache,
                    no_backing=True)
    layers = [top]
    try:
        with Progress(enabled="p" in arguments and "q" not in arguments) as progress:
            progress(0, 1)
            layers.append(_open_chain(layers, name, arguments.get("b"), cache))
            _commit(layers, arguments, rate, progress)
    finally:
        for above, below in itertools.pairwise(layers):
            if above.backing is below:
                above.backing = None  # it is in the list itself
        for layer in layers:
            layer.close()
    if "q" not in arguments:
        print("Image committed.")
    return 0


def _open_chain(layers: list[BlockDevice], name: str, wanted: str | None, cache: str
                ) -> BlockDevice:
    """Open the images between top and base for reading, and the base for writing.

    Layer by layer, as the base can't be both read through the chain and open for writing.
    """
    while True:
        above = layers[-1]
        if not above.backing_file:
            if wanted is None:
                raise Failure("Image does not have a backing file")
            raise Failure(f"Did not find '{wanted}' in the backing chain of '{name}'")
        try:
            full = resolve_backing(above.location, above.backing_file)
            is_base = wanted is None or _is_same_image(above, full, wanted)
            below = open_image(full, format=above.backing_format, read_only=not is_base,
                               cache=cache, no_backing=not is_base)
        except BlockError as error:
            raise Failure(f"Could not open '{above.backing_file}': {error}") from None
        if is_base:
            return below
        above.backing = below
        layers.append(below)


def _is_same_image(above: BlockDevice, full: str, wanted: str) -> bool:
    """Whether ``wanted`` names the backing file of ``above``: seen from there, as that is."""
    if protocol_of(wanted) is not None or protocol_of(above.backing_file or "") is not None:
        return wanted in (above.backing_file, full)
    try:
        return os.path.realpath(resolve_backing(above.location, wanted)) == os.path.realpath(full)
    except BlockError:  # there is no way to see it from there
        return False


def _commit(layers: list[BlockDevice], arguments: Arguments, rate: int, progress: Progress
            ) -> None:
    top, base = layers[0], layers[-1]
    try:
        if base.size < top.size:
            base.truncate(top.size)
        options = CopyOptions(min_sparse=0, keep_backing=True, backing_size=top.size, workers=1,
                              rate=rate)
        for layer in reversed(layers[:-1]):
            Copier(layer, base, options, progress).run()
        base.flush()
    except BlockError as error:
        raise Failure(f"Block job failed: {os.strerror(error.errno)}") from None
    progress(1, 1)
    # With -b an image above the base still needs what the ones between hold.
    if "d" in arguments or "b" in arguments or not isinstance(top, Qcow2Device):
        return
    try:
        top.make_empty()
    except BlockError as error:
        raise Failure(str(error)) from None
