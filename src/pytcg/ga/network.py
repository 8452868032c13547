"""Network interfaces, by the kernel's netlink socket (rtnetlink(7))."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytcg.ga.command import command

if TYPE_CHECKING:
    from pytcg.ga.agent import Agent

HEADER = struct.Struct("=LHHLL")  # nlmsghdr
DONE, ERROR = 3, 2
GETLINK, GETADDR = 18, 22
REQUEST, DUMP = 0x1, 0x300
LINK = struct.Struct("=BxHiLL")  # ifinfomsg
ADDRESS = struct.Struct("=BBBBL")  # ifaddrmsg
IFLA_ADDRESS, IFLA_IFNAME = 1, 3
IFA_ADDRESS, IFA_LOCAL = 1, 2
FAMILIES = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
COUNTERS = {"rx-bytes": 0, "rx-packets": 1, "rx-errs": 2, "rx-dropped": 3, "tx-bytes": 8,
            "tx-packets": 9, "tx-errs": 10, "tx-dropped": 11}  # columns of /proc/net/dev


def _dump(kind: int, size: int) -> Iterator[bytes]:
    """The payloads of all answers to a question for everything."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.bind((0, 0))
        link.sendall(HEADER.pack(HEADER.size + size, kind, REQUEST | DUMP, 1, 0) + bytes(size))
        while True:
            data = link.recv(1 << 20)
            while data:
                length, found, *_ = HEADER.unpack_from(data)
                if found in (DONE, ERROR) or length < HEADER.size:
                    return
                yield data[HEADER.size : length]
                data = data[length + 3 & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found


def _addresses() -> dict[int, list[dict[str, Any]]]:
    """By interface."""
    found: dict[int, list[dict[str, Any]]] = {}
    for message in _dump(GETADDR, ADDRESS.size):
        family, prefix, _, _, index = ADDRESS.unpack_from(message)
        attributes = _attributes(message[ADDRESS.size :])
        raw = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
        if family in FAMILIES and raw:
            found.setdefault(index, []).append({
                "ip-address-type": FAMILIES[family], "prefix": prefix,
                "ip-address": socket.inet_ntop(family, raw)})  # fmt: skip
    return found


def _statistics(agent: Agent) -> dict[str, dict[str, int]]:
    found = {}
    with open(agent.path("/proc/net/dev"), encoding="ascii", errors="replace") as file:
        for line in file:
            name, colon, rest = line.partition(":")
            if colon:
                columns = list(map(int, rest.split()))
                found[name.strip()] = {key: columns[at] for key, at in COUNTERS.items()}
    return found


@command("guest-network-get-interfaces")
def interfaces(agent: Agent) -> list[dict[str, Any]]:
    """Interfaces, their addresses, and their counters if they have any address."""
    addresses, statistics = _addresses(), _statistics(agent)
    rows = []
    for message in _dump(GETLINK, LINK.size):
        index = LINK.unpack_from(message)[2]
        attributes = _attributes(message[LINK.size :])
        name = os.fsdecode(attributes[IFLA_IFNAME].rstrip(b"\0"))
        row: dict[str, Any] = {"name": name}
        hardware = attributes.get(IFLA_ADDRESS, b"")
        if hardware:
            row["hardware-address"] = ":".join(f"{byte:02x}" for byte in hardware[:6])
        if index in addresses:
            row["ip-addresses"] = addresses[index]
            if name in statistics:
                row["statistics"] = statistics[name]
        rows.append(row)
    return rows
