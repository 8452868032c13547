"""pytcg-img bench: time simple sequential requests."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from pytcg.block.device import BlockDevice, BlockError
from pytcg.cli.img.common import (
    CACHE_MODES,
    Arguments,
    Failure,
    one_word,
    open_disk,
    parse,
    size_argument,
)

INT_MAX = (1 << 31) - 1


def run(argv: list[str]) -> int:
    """Send requests and say how long they took."""
    arguments = parse(argv, "c: d: f: n i: o: q s: S: t: w U/force-share image-opts pattern: "
                            "flush-interval: no-drain")
    count = _count(arguments, "c", "request count", 75000)
    depth = _count(arguments, "d", "queue depth", 64)
    if arguments.get("i", "threads") not in ("threads", "native", "io_uring"):
        raise Failure(f"Invalid aio option: {arguments.get('i')}")
    offset = size_argument(arguments.get("o", "0") or "", "offset")
    size = size_argument(arguments.get("s", "4096") or "", "buffer size", highest=INT_MAX)
    step = size_argument(arguments.get("S", "0") or "", "step_size", highest=INT_MAX) or size
    cache = arguments.get("t", "none" if "n" in arguments else "writeback") or ""
    if cache not in CACHE_MODES:
        raise Failure("Invalid cache mode")
    pattern = _count(arguments, "pattern", "pattern byte", 0, highest=255)
    interval = _count(arguments, "flush-interval", "flush interval", 0)
    name = one_word(arguments)
    write = "w" in arguments
    if interval and not write:
        raise Failure("--flush-interval is only available in write tests")
    if interval and interval < depth:
        raise Failure("Flush interval can't be smaller than depth")
    with open_disk(name, arguments, format=arguments.get("f"), read_only=not write,
                   cache=cache) as device:
        if "q" not in arguments:
            kind = "write" if write else "read"
            print(f"Sending {count} {kind} requests, {size} bytes each, {depth} in parallel "
                  f"(starting at offset {offset}, step size {step})")
            if interval:
                print(f"Sending flush every {interval} requests")
        began = time.monotonic()
        try:
            _bench(device, count, depth, size, step, offset, bytes([pattern]) * size,
                   write=write, interval=interval)
        except BlockError as error:
            raise Failure(f"Failed request: {error}") from None
        if "q" not in arguments:
            print(f"Run completed in {time.monotonic() - began:.3f} seconds.")
    return 0


def _count(arguments: Arguments, option: str, what: str, default: int, *,
           highest: int = INT_MAX) -> int:
    text = arguments.get(option)
    if text is None:
        return default
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= highest:
        raise Failure(f"Invalid {what} specified")
    return value


def _bench(device: BlockDevice, count: int, depth: int, size: int, step: int, offset: int,
           data: bytes, *, write: bool, interval: int) -> None:
    if size > device.size:
        raise Failure("Buffer size exceeds the image size")
    # Requests so small are over before another thread would have woken: threads serve big ones.
    workers = 1 if size < 65536 else min(depth, 8)

    def request(position: int) -> None:
        if write:
            device.pwrite(position, data)
        else:
            device.pread(position, size)

    def positions() -> list[int]:
        found, at = [], offset
        for _ in range(count):
            found.append(at)
            at += step
            if at + size > device.size:
                at = offset
        return found

    if workers == 1 and not write:
        pread = device.pread
        for position in positions():
            pread(position, size)
        return

    if workers == 1:
        for index, position in enumerate(positions(), 1):
            request(position)
            if interval and index % interval == 0:
                device.flush()
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[None]] = deque()
        for index, position in enumerate(positions(), 1):
            waiting.append(pool.submit(request, position))
            if len(waiting) >= depth:
                waiting.popleft().result()
            if interval and index % interval == 0:
                device.flush()
        for future in waiting:
            future.result()
