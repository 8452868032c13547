"""QEMU's tools and ours in every pairing of client and server: the same words and maps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nbd_support import environment, need, running, tool


def _said(*command: str) -> tuple[int, str]:
    """Exit status and output, whichever tool it was."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    said = done.stdout + done.stderr
    return done.returncode, said.replace("pytcg-", "qemu-").replace("img.py", "qemu-img")


def _both(program: str, *args: str) -> tuple[int, str]:
    """What qemu's program says, after checking that ours says the same."""
    theirs = _said(need(f"qemu-{program}"), *args)
    assert _said(*tool(program, *args)) == theirs
    return theirs


@pytest.fixture(params=["qemu-nbd", "pytcg-nbd"])
def server(request: pytest.FixtureRequest) -> list[str]:
    """The command line of a server."""
    return tool("nbd") if request.param == "pytcg-nbd" else [need("qemu-nbd")]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A raw image of 1000 bytes."""
    path = tmp_path / "odd.raw"
    path.write_bytes(b"x" * 1000)
    return path


@pytest.fixture
def sock(tmp_path: Path) -> Iterator[str]:
    return str(tmp_path / "sock")


@pytest.mark.parametrize("options", [["-f", "raw"], []])
def test_an_image_that_ends_within_a_sector(
        server: list[str], odd: Path, sock: str, options: list[str]) -> None:
    listed = "min block: 1\n" if options else "min block: 512\n"
    with running([*server, "-t", "-k", sock, *options, str(odd)], sock):
        assert listed in _both("nbd", "--list", "-k", sock)[1]
        for given in (["-f", "raw"], []):
            _both("img", "map", "--output=json", *given, f"nbd:unix:{sock}")


def test_status_by_allocation_depth(server: list[str], tmp_path: Path, sock: str) -> None:
    lower, upper = str(tmp_path / "lower"), str(tmp_path / "upper")
    subprocess.run([need("qemu-img"), "create", "-qf", "qcow2", lower, "4M"], check=True)
    subprocess.run([need("qemu-io"), "-c", "write 0 2M", lower], check=True, capture_output=True)
    subprocess.run([need("qemu-img"), "create", "-qf", "qcow2", "-b", lower, "-F", "qcow2", upper],
                   check=True)
    subprocess.run([need("qemu-io"), "-c", "write 1M 2M", upper], check=True, capture_output=True)
    with running([*server, "-t", "-r", "-A", "-f", "qcow2", "-k", sock, upper], sock):
        _both("nbd", "--list", "-k", sock)
        options = f"driver=nbd,server.type=unix,server.path={sock}"
        for context in ("", ",x-dirty-bitmap=qemu:allocation-depth"):
            _both("img", "map", "--output=json", "--image-opts", options + context)


@pytest.mark.parametrize("export", ["", "disk", "a b"])
def test_names_in_info(server: list[str], odd: Path, sock: str, export: str) -> None:
    options = {"driver": "nbd", "path": sock} | ({"export": export} if export else {})
    with running([*server, "-t", "-f", "raw", "-k", sock, "-x", export, str(odd)], sock):
        for name in (f"nbd:unix:{sock}" + (f":exportname={export}" if export else ""),
                     f"nbd+unix:///{export.replace(' ', '%20')}?socket={sock}",
                     "json:" + json.dumps(options)):
            _both("img", "info", name)


@pytest.mark.parametrize("name", [
    "nbd:unix:/none", "nbd:localhost:1", "nbd://localhost:1/x", "nbd:x", "nbd://",
    'json:{"driver": "nbd"}', 'json:{"driver": "nbd", "path": 42}',
    'json:{"driver": "nbd", "server": {"type": "inet", "host": "h"}}',
    'json:{"driver": "nbd", "server.type": "inet"}',
    'json:{"driver": "nbd", "host": "x", "path": "y"}',
    'json:{"driver": "nbd", "path": "/none", "reconnect-delay": "x"}',
])
def test_names_that_lead_nowhere(name: str) -> None:
    assert _both("img", "info", name)[0] == 1


@pytest.mark.parametrize(("other_ca", "given"), [
    (False, ""), (False, "tls-hostname=localhost"), (False, "tls-hostname=elsewhere"),
    (True, "tls-hostname=localhost")])
def test_what_a_certificate_is_good_for(
        server: list[str], odd: Path, sock: str, tmp_path: Path, *, other_ca: bool, given: str
        ) -> None:
    pytest.importorskip("cryptography")
    from .nbd_certificates import make_certificates

    for name in ("pki", "other"):
        make_certificates(tmp_path / name)
    theirs = f"tls-creds-x509,id=t,endpoint=server,dir={tmp_path}/pki"
    ours = f"tls-creds-x509,id=t,dir={tmp_path}/{'other' if other_ca else 'pki'}"
    name = f"driver=nbd,path={sock},tls-creds=t" + (f",{given}" if given else "")
    with running([*server, "-t", "-f", "raw", "-k", sock, "--object", theirs, "--tls-creds", "t",
                  str(odd)], sock):
        _both("img", "info", "--object", ours, "--image-opts", name)
        _both("nbd", "-L", "-k", sock, "--object", ours, "--tls-creds", "t",
              *([f"--{given}"] if given else []))


def test_tls_on_one_side_only(server: list[str], odd: Path, sock: str, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from .nbd_certificates import make_certificates

    make_certificates(tmp_path / "pki")
    credentials = f"tls-creds-x509,id=t,dir={tmp_path}/pki,endpoint="
    with running([*server, "-t", "-f", "raw", "-k", sock, str(odd)], sock):
        _both("img", "info", "--object", credentials + "client", "--image-opts",
              f"driver=nbd,path={sock},tls-creds=t,tls-hostname=localhost")
    with running([*server, "-t", "-f", "raw", "-k", sock, "--object", credentials + "server",
                  "--tls-creds", "t", str(odd)], sock):
        _both("img", "info", f"nbd:unix:{sock}")
        _both("nbd", "-L", "-k", sock)
