"""pytcg-ivshmem-client: a peer with a prompt, with ivshmem-client's command line and commands."""

from __future__ import annotations

import getopt
import os
import select
import socket
import sys
from collections.abc import Sequence
from typing import Final

from pytcg.ivshmem.peers import Peers
from pytcg.ivshmem.protocol import IvshmemError

TOOL: Final = "pytcg-ivshmem-client"
SOCKET: Final = "/tmp/ivshmem_socket"
USAGE: Final = f"""Usage: {TOOL} [OPTION]...
  -h: show this help
  -v: verbose mode
  -S <unix-sock-path>: path to the unix socket to connect to.
     default={SOCKET}
"""
HELP: Final = """dump: dump peers (including us)
int <peer> <vector>: notify one vector on a peer
int <peer> all: notify all vectors of a peer
int all: notify all vectors of all peers (excepting us)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    try:
        pairs, rest = getopt.getopt(sys.argv[1:] if arguments is None else list(arguments), "hvS:")
    except getopt.GetoptError as error:
        return _fail(str(error))
    options = dict(pairs)
    if rest:
        return _fail(f"unexpected argument '{rest[0]}'")
    if "-h" in options:
        print(USAGE, end="")
        return 0
    path = options.get("-S", SOCKET)
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.connect(path)
        peers = Peers(peer)
        peers.greet()
    except OSError as error:
        return _fail(f"cannot connect to '{path}': {error.strerror or error}")
    except IvshmemError as error:
        return _fail(str(error))
    try:
        return _converse(peers, verbose="-v" in options)
    finally:
        peers.close()


def _fail(text: str) -> int:
    print(f"{TOOL}: {text}", file=sys.stderr)
    return 1


def _converse(peers: Peers, *, verbose: bool) -> int:
    """Until the end of input or the server's."""
    peers.socket.setblocking(False)
    server = peers.socket.fileno()
    print("cmd> ", end="", flush=True)
    while True:
        ready, _, _ = select.select([0, server, *peers.own], [], [])
        for fd in peers.own:
            if fd in ready:
                count = os.eventfd_read(fd)
                times = f" ({count} times)" if count > 1 and verbose else ""
                print(f"receive notification from peer_id={peers.id} "
                      f"vector={peers.own.index(fd)}{times}", flush=True)  # fmt: skip
        if server in ready:
            try:
                while peers.take():
                    pass
            except IvshmemError as error:
                return _fail(str(error))
        if 0 in ready:
            line = _line()
            if line is None:
                return 0
            if text := obey(peers, line):
                print(text, end="")
            print("cmd> ", end="", flush=True)


def _line() -> str | None:
    """A line of the input; None at its end."""
    data = b""
    while not data.endswith(b"\n"):
        more = os.read(0, 1)
        if not more:
            return None
        data += more
    return data.decode(errors="replace").strip()


def obey(peers: Peers, line: str) -> str:
    """Do what a line says; what to print."""
    words = line.split()
    if not words:
        return ""
    if words in (["?"], ["help"]):
        return HELP
    if words == ["dump"]:
        return dump(peers)
    if words[0] == "int":
        return _interrupt(peers, words[1:])
    return "invalid command, type help\n"


def dump(peers: Peers) -> str:
    """Everybody's vectors."""
    text = f"our_id: {peers.id}\n"
    text += "".join(f"  vector {n} is enabled (fd={fd})\n" for n, fd in enumerate(peers.own))
    for peer, bells in sorted(peers.others.items()):
        text += f"peer_id: {peer}\n"
        text += "".join(f"  vector {n} is enabled (fd={fd})\n" for n, fd in enumerate(bells))
    return text


def _interrupt(peers: Peers, words: list[str]) -> str:
    if words == ["all"]:
        for peer, bells in peers.others.items():
            for vector in range(len(bells)):
                peers.ring(peer, vector)
        return ""
    if len(words) != 2 or not words[0].isdecimal() or not (words[1] == "all"
                                                           or words[1].isdecimal()):  # fmt: skip
        return "invalid command, type help\n"
    peer = int(words[0])
    if peer != peers.id and peer not in peers.others:
        return f"cannot find peer_id = {peer}\n"
    bells = peers.own if peer == peers.id else peers.others[peer]
    for vector in range(len(bells)) if words[1] == "all" else [int(words[1])]:
        if not peers.ring(peer, vector):
            return f"invalid vector {vector} on peer {peer}\n"
    return ""
