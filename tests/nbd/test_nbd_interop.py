"""Real peers: libnbd's tools, qemu-img and qemu-io on our server; nbdkit and qemu-nbd under our
client; TLS both ways."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytcg.block.device import BlockError
from pytcg.block.open import open_image
from pytcg.block.protocols.nbd.client import open_nbd
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.protocol import Option, Reply
from pytcg.tls.credentials import TlsCredentials

from .nbd_support import RawClient, free_port, need, run, running, serving, tool, uri

SIZE = 4 << 20


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw image: a hole, data, a hole."""
    path = tmp_path / "disk.raw"
    with open(path, "wb") as file:
        file.truncate(SIZE)
        file.seek(1 << 20)
        file.write(random.Random(5).randbytes(1 << 20))
    return path


@pytest.fixture
def served(tmp_path: Path, raw: Path) -> Iterator[str]:
    with (open_image(str(raw), format="raw") as disk,
          serving(tmp_path, Export(disk, shared=True, allocation_depth=True),
                  Export(disk, name="second", description="again", read_only=True,
                         shared=True)) as path):
        yield path


# ---- their clients, our server ----


def test_nbdinfo_lists_both_exports(served: str) -> None:
    listed = json.loads(run(need("nbdinfo"), "--list", "--json", uri(served)))
    first, second = listed["exports"]
    assert (first["export-name"], second["export-name"]) == ("", "second")
    assert first["export-size"] == SIZE and second["description"] == "again"
    assert first["contexts"] == ["base:allocation", "qemu:allocation-depth"]
    assert second["is_read_only"] and second["can_multi_conn"] and not second["can_zero"]
    assert all(first[f"can_{what}"] for what in
               ("cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"))


def test_nbdinfo_maps_the_holes(served: str) -> None:
    extents = json.loads(run(need("nbdinfo"), "--map", "--json", uri(served)))
    assert [(e["offset"], e["length"], e["type"]) for e in extents] == [
        (0, 1 << 20, 3), (1 << 20, 1 << 20, 0), (2 << 20, 2 << 20, 3)]


@pytest.mark.parametrize("connections", ["1", "4"])
def test_nbdcopy_there_and_back(served: str, raw: Path, tmp_path: Path, connections: str) -> None:
    copy = tmp_path / "copy.raw"
    run(need("nbdcopy"), "-C", connections, uri(served), str(copy))
    assert copy.read_bytes() == raw.read_bytes()
    changed = random.Random(6).randbytes(SIZE // 2) + bytes(SIZE // 2)
    copy.write_bytes(changed)
    run(need("nbdcopy"), "-C", connections, "--flush", str(copy), uri(served))
    assert raw.read_bytes() == changed


NBDSH = """
import nbd
h = nbd.NBD()
h.set_handshake_flags(nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE)
h.add_meta_context("base:allocation")
h.connect_uri(uri)
assert h.get_size() == 4 << 20 and h.can_fast_zero() and h.can_df()
assert h.get_block_size(nbd.SIZE_MAXIMUM) == 32 << 20
h.pwrite(b"x" * 5000, 12345, nbd.CMD_FLAG_FUA)
assert h.pread(5002, 12344) == b"\\0" + b"x" * 5000 + b"\\0"
kinds = set()
h.pread_structured(1 << 20, 0, lambda buf, off, kind, err: kinds.add(kind), nbd.CMD_FLAG_DF)
assert kinds == {nbd.READ_DATA}, kinds
h.pread_structured(1 << 20, 0, lambda buf, off, kind, err: kinds.add(kind))
assert kinds == {nbd.READ_DATA, nbd.READ_HOLE}, kinds
h.zero(4096, 12288, nbd.CMD_FLAG_NO_HOLE)
h.zero(4096, 12288, nbd.CMD_FLAG_FAST_ZERO)
h.trim(1 << 20, 1 << 20, nbd.CMD_FLAG_FUA)
h.cache(65536, 0)
h.flush()
assert h.pread(1 << 20, 1 << 20) == bytes(1 << 20)
seen = []
h.block_status(4 << 20, 0, lambda ctx, off, entries, err: seen.append((ctx, entries)))
assert seen[0][0] == "base:allocation" and sum(seen[0][1][::2]) == 4 << 20, seen
cookies = [h.aio_pread(nbd.Buffer(512), n * 512) for n in range(200)]
while h.aio_in_flight():
    h.poll(-1)
assert all(h.aio_command_completed(c) for c in cookies)
for bad in (lambda: h.pread(2, (4 << 20) - 1), lambda: h.pwrite(b"xx", (4 << 20) - 1)):
    h.set_strict_mode(0)
    try:
        bad()
    except nbd.Error as error:
        assert error.errno in ("EINVAL", "ENOSPC"), error
    else:
        raise AssertionError("a request past the end succeeded")
h.pread(1, 0)
h.shutdown()
"""


def test_nbdsh_finds_nothing_to_complain_about(served: str) -> None:
    # nbdsh wants the Python that libnbd was built for, which need not be ours.
    run("env", "PATH=/usr/bin:/bin", need("nbdsh"), "-c", f"uri = {uri(served)!r}", "-c", NBDSH)


def test_qemu_img_reads_what_the_file_holds(served: str, raw: Path, tmp_path: Path) -> None:
    img = need("qemu-img")
    assert json.loads(run(img, "info", "--output=json", uri(served)))["virtual-size"] == SIZE
    run(img, "compare", "-f", "raw", "-F", "raw", uri(served), str(raw))
    ours = json.loads(run(img, "map", "--output=json", "-f", "raw", uri(served)))
    theirs = json.loads(run(img, "map", "--output=json", "-f", "raw", str(raw)))
    assert ours == theirs
    run(img, "convert", "-f", "raw", "-O", "qcow2", uri(served), str(tmp_path / "c.qcow2"))
    run(img, "compare", "-f", "raw", "-F", "qcow2", str(raw), str(tmp_path / "c.qcow2"))
    run(img, "convert", "-n", "-f", "qcow2", "-O", "raw", str(tmp_path / "c.qcow2"), uri(served))


def test_qemu_io_writes_zeroes_and_discards(served: str, raw: Path) -> None:
    commands = ["write -P 7 1000 9000", "write -f -P 8 2M 64k", "write -z 1M 128k",
                "write -zu 1200k 8k", "discard 1500k 4k", "flush", "read -P 7 1000 9000",
                "read -P 0 1M 128k", "aio_write -P 9 3M 1M", "aio_read 0 2M", "aio_flush"]
    args = [word for command in commands for word in ("-c", command)]
    run(need("qemu-io"), "-f", "raw", "-d", "unmap", "-t", "writethrough", *args, uri(served))
    data = raw.read_bytes()
    assert data[1000:10000] == b"\7" * 9000 and data[3 << 20 :] == b"\t" * (1 << 20)
    assert not any(data[1 << 20 : (1 << 20) + (128 << 10)])


def test_a_qcow2_chain_is_served_with_its_depth_and_bitmap(tmp_path: Path) -> None:
    img, qio, nbdinfo = need("qemu-img"), need("qemu-io"), need("nbdinfo")
    base, top = str(tmp_path / "base.qcow2"), str(tmp_path / "top.qcow2")
    run(img, "create", "-f", "qcow2", base, "1M")
    run(img, "bitmap", "--add", base, "below")
    run(qio, "-f", "qcow2", "-c", "write -P 1 0 256k", base)
    run(img, "create", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    run(img, "bitmap", "--add", top, "changes")
    run(qio, "-f", "qcow2", "-c", "write -P 2 128k 64k", top)
    path, bitmaps = str(tmp_path / "s"), ("-B", "changes", "-B", "below")
    ours = tool("nbd", "-f", "qcow2", "-r", "-A", *bitmaps, "-t", "-k", path, top)
    theirs_path = str(tmp_path / "t")
    theirs = [need("qemu-nbd"), "-f", "qcow2", "-r", "-A", *bitmaps, "-t", "-k",
              theirs_path, top]
    found = []
    for command, where in ((ours, path), (theirs, theirs_path)):
        with running(command, where):
            found.append([
                json.loads(run(nbdinfo, f"--map={context}", "--json", uri(where)))
                for context in ("base:allocation", "qemu:allocation-depth",
                                "qemu:dirty-bitmap:changes", "qemu:dirty-bitmap:below")
            ])
    assert found[0] == found[1]


def test_nbdcopy_into_a_qcow2_over_four_connections(tmp_path: Path) -> None:
    img = need("qemu-img")
    source, disk, path = tmp_path / "source", str(tmp_path / "d.qcow2"), str(tmp_path / "s")
    rng = random.Random(10)
    source.write_bytes(b"".join(rng.choice((rng.randbytes(1 << 16), bytes(1 << 16)))
                                for _ in range(256)))
    run(img, "create", "-f", "qcow2", "-o", "cluster_size=4k", disk, "16M")
    with running(tool("nbd", "-f", "qcow2", "-e", "4", "-t", "-k", path, disk), path):
        run(need("nbdcopy"), "-C", "4", "--flush", str(source), uri(path))
        run(need("nbdcopy"), "-C", "4", uri(path), str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    run(img, "check", disk)
    run(img, "compare", "-f", "raw", "-F", "qcow2", str(source), disk)


# ---- our client, their servers ----


def test_our_client_on_nbdkit(tmp_path: Path) -> None:
    path = str(tmp_path / "kit")
    kit = [need("nbdkit"), "-f", "-U", path, "memory", "4M"]
    with running(kit, path), open_nbd({"filename": uri(path)}) as image:
        assert image.size == SIZE
        image.pwrite(70_000, b"z" * 100_000, fua=True)
        image.write_zeroes(80_000, 1000)
        image.discard(1 << 20, 1 << 20)
        image.flush()
        assert image.pread(69_999, 4) == b"\0zzz"
        assert image.pread(79_999, 1002) == b"z" + bytes(1000) + b"z"
        extents = image.block_status(0, SIZE)
        assert sum(extent.length for extent in extents) == SIZE
        assert any(extent.zero for extent in extents)


def test_our_client_on_an_nbdkit_with_coarse_blocks(tmp_path: Path) -> None:
    path = str(tmp_path / "kit")
    command = [need("nbdkit"), "-f", "-U", path, "--filter=blocksize-policy", "memory", "1M",
               "blocksize-minimum=4096", "blocksize-preferred=64k", "blocksize-maximum=128k",
               "blocksize-error-policy=error"]
    with running(command, path), open_nbd({"filename": uri(path)}) as image:
        data = random.Random(8).randbytes(300_000)
        image.pwrite(12_345, data)
        assert image.pread(12_345, len(data)) == data


def test_our_client_gets_nbdkit_s_errors(tmp_path: Path) -> None:
    path = str(tmp_path / "kit")
    command = [need("nbdkit"), "-f", "-U", path, "--filter=error", "memory", "1M",
               "error-pread=ENOMEM", "error-pread-rate=100%"]
    with running(command, path), open_nbd({"filename": uri(path)}) as image:
        with pytest.raises(BlockError) as caught:
            image.pread(0, 512)
        assert caught.value.errno == 12
        image.pwrite(0, b"still there")


def test_our_client_on_an_oldstyle_nbdkit(tmp_path: Path) -> None:
    path = str(tmp_path / "kit")
    kit = [need("nbdkit"), "-f", "-o", "-U", path, "pattern", "1M"]
    with running(kit, path), open_nbd({"filename": uri(path)}, read_only=True) as image:
        assert image.pread(4096, 8) == (4096).to_bytes(8, "big")


def test_our_client_on_qemu_nbd(tmp_path: Path, raw: Path) -> None:
    path = str(tmp_path / "q")
    command = [need("qemu-nbd"), "-f", "raw", "-x", "disk", "-t", "-e", "2", "-k", path, str(raw)]
    before = raw.read_bytes()
    with running(command, path), open_nbd({"filename": uri(path, "disk")}) as image:
        assert image.pread(0, SIZE) == before
        assert [(e.length, e.zero) for e in image.block_status(0, SIZE)] == [
            (1 << 20, True), (1 << 20, False), (2 << 20, True)]
        image.pwrite(5, b"hello", fua=True)
        image.write_zeroes(1 << 20, 1 << 20)
        with pytest.raises(BlockError, match="not available"):
            open_nbd({"filename": uri(path)})
    after = raw.read_bytes()
    assert after[5:10] == b"hello" and not any(after[1 << 20 : 2 << 20])


# ---- TLS ----


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    pytest.importorskip("cryptography")
    from .nbd_certificates import make_certificates

    make_certificates(tmp_path / "pki")
    (tmp_path / "pki" / "keys.psk").write_text("alice:00112233445566778899aabbccddeeff\n")
    return tmp_path / "pki"


def credentials(kind: str, directory: Path, endpoint: str) -> TlsCredentials:
    """The credentials of one side."""
    return TlsCredentials(f"tls-creds-{kind}", "t", str(directory), endpoint, username="alice")


def object_option(kind: str, directory: Path, endpoint: str) -> str:
    """The same as an --object argument."""
    user = ",username=alice" if (kind, endpoint) == ("psk", "client") else ""
    return f"tls-creds-{kind},id=t,dir={directory},endpoint={endpoint}{user}"


def tls_uri(kind: str, path: str, directory: Path) -> str:
    """A nbds+unix URI with the client's credentials."""
    extra = f"tls-psk-file={directory}/keys.psk&tls-username=alice"
    if kind == "x509":
        extra = f"tls-certificates={directory}&tls-hostname=localhost"
    user = "alice@" if kind == "psk" else ""
    return f"nbds+unix://{user}/?socket={path}&{extra}"


@pytest.mark.parametrize("kind", ["x509", "psk"])
def test_tls_between_our_own(tmp_path: Path, raw: Path, certificates: Path, kind: str) -> None:
    server = credentials(kind, certificates, "server").server_context()
    with (open_image(str(raw), format="raw") as disk,
          serving(tmp_path, Export(disk), tls=server) as path):
        with open_nbd({"filename": tls_uri(kind, path, certificates)}) as image:
            assert image.pread(0, SIZE) == raw.read_bytes()
            image.pwrite(0, b"secret" * 100_000)
            assert image.pread(0, 6) == b"secret"
        with pytest.raises(BlockError, match="TLS negotiation required"):
            open_nbd({"path": path})
    assert raw.read_bytes()[:6] == b"secret"


@pytest.mark.parametrize("kind", ["x509", "psk"])
def test_their_tls_clients_on_our_server(tmp_path: Path, raw: Path, certificates: Path,
                                         kind: str) -> None:
    path = str(tmp_path / "s")
    ours = tool("nbd", "-f", "raw", "-r", "-t", "-k", path, "--object",
                object_option(kind, certificates, "server"), "--tls-creds", "t", str(raw))
    with running(ours, path):
        options = f"driver=nbd,server.type=unix,server.path={path},tls-creds=t"
        options += ",tls-hostname=localhost" if kind == "x509" else ""
        objects = ["--object", object_option(kind, certificates, "client")]
        opened = run(need("qemu-io"), "-r", *objects, "--image-opts", "-c", "read 1M 1M", options)
        assert "read 1048576/1048576" in opened
        where = f"nbds+unix://alice@/?socket={path}&tls-psk-file={certificates}/keys.psk"
        if kind == "x509":
            where = f"nbds+unix:///?socket={path}&tls-certificates={certificates}"
        copy = tmp_path / "copy"
        run(need("nbdcopy"), where, str(copy))
        assert copy.read_bytes() == raw.read_bytes()
        refused = run(need("qemu-io"), "-r", "-f", "raw", "-c", "read 0 1", uri(path), status=1)
        assert "TLS" in refused


@pytest.mark.parametrize("kind", ["x509", "psk"])
def test_our_client_on_qemu_nbd_with_tls(tmp_path: Path, raw: Path, certificates: Path, kind: str
                                         ) -> None:
    path = str(tmp_path / "s")
    theirs = [need("qemu-nbd"), "-f", "raw", "-t", "-k", path, "--object",
              object_option(kind, certificates, "server"), "--tls-creds", "t", str(raw)]
    with running(theirs, path):
        with open_nbd({"filename": tls_uri(kind, path, certificates)}) as image:
            assert image.pread(0, SIZE) == raw.read_bytes()
        listing = run(*tool("nbd", "-L", "-k", path, "--object",
                            object_option(kind, certificates, "client"), "--tls-creds", "t",
                            "--tls-hostname", "localhost"))
        assert f"size:  {SIZE}" in listing


def test_a_certificate_must_name_the_host(tmp_path: Path, raw: Path, certificates: Path) -> None:
    port = free_port()
    theirs = tool("nbd", "-f", "raw", "-r", "-t", "-b", "0.0.0.0", "-p", str(port), "--object",
                  object_option("x509", certificates, "server"), "--tls-creds", "t", "--pid-file",
                  str(tmp_path / "pid"), "--fork", str(raw))
    run(*theirs)
    try:
        query = f"?tls-certificates={certificates}"
        with open_nbd({"filename": f"nbds://127.0.0.1:{port}/{query}"}, read_only=True) as image:
            assert image.size == SIZE
        with pytest.raises(BlockError, match="does not match the hostname"):
            open_nbd({"filename": f"nbds://127.0.0.2:{port}/{query}"}, read_only=True)
    finally:
        run("kill", (tmp_path / "pid").read_text().strip())


def test_fuzz_the_tls_server_lives(tmp_path: Path, raw: Path, certificates: Path) -> None:
    server = credentials("x509", certificates, "server").server_context()
    rng = random.Random(9)
    with (open_image(str(raw), format="raw") as disk,
          serving(tmp_path, Export(disk, shared=True), tls=server) as path):
        for length in (0, 1, 5, 100, 5000):
            with RawClient(path) as client:
                assert client.option(Option.LIST)[-1][0] == Reply.ERR_TLS_REQD
                assert client.option(Option.STARTTLS)[-1][0] == Reply.ACK
                # Something like the start of a handshake record, then noise.
                client.channel.send(b"\x16\x03\x01\x02\x00" + rng.randbytes(length))
        with open_nbd({"filename": tls_uri("x509", path, certificates)}) as image:
            assert image.pread(0, 512) == bytes(512)


def test_a_client_without_a_certificate_is_refused(tmp_path: Path, raw: Path, certificates: Path
                                                   ) -> None:
    server = credentials("x509", certificates, "server").server_context()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "ca-cert.pem").write_bytes((certificates / "ca-cert.pem").read_bytes())
    with (open_image(str(raw), format="raw") as disk,
          serving(tmp_path, Export(disk), tls=server) as path):
        with pytest.raises(BlockError):
            open_nbd({"filename": tls_uri("x509", path, bare)})
        wrong = tmp_path / "wrong"
        wrong.mkdir()
        (wrong / "keys.psk").write_text("alice:ffffffff\n")
        with pytest.raises(BlockError):
            open_nbd({"filename": tls_uri("psk", path, wrong)})
