"""The same command lines through qemu-img and pytcg-img: same output, same exit codes.

A script is a list of command lines run in a directory of its own by each program. Lines that
begin with ``io`` go to qemu-io in both directories, ``sh`` to a shell.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Ran, needs_qemu, pytcg_img, qemu_img, qemu_io

LINES = Path(__file__).parent / "lines"
SCRIPTS = {
    "create": """
        create -f qcow2 a.q 10M
        create -f qcow2 -o preallocation=metadata,compat=1.1,lazy_refcounts=on b.q 10M
        create -f qcow2 -b a.q -F qcow2 c.q
        create -f qcow2 -b a.q -F qcow2 -u -o cluster_size=4k d.q 1M
        create -f qcow2 -o compat=0.10 e.q 1000
        create -f qcow2 -o extended_l2=on,compression_type=zstd,refcount_bits=64 f.q 1G
        create -f qcow2 -o data_file=x.raw,data_file_raw=on g.q 1M
        create r.img 10M
        create -f raw -o preallocation=full s.img 1M
        create -q -f qcow2 quiet.q 1M
    """,
    "create errors": """
        create -f nope x 1M
        create -f qcow2 x
        create -f qcow2 x 1Q
        create -f qcow2 -o foo=1 x 1M
        create -f qcow2 -o cluster_size=1000 x 1M
        create -f qcow2 -o cluster_size=4M x 1M
        create -f qcow2 -o refcount_bits=3 x 1M
        create -f qcow2 -o compat=0.10,refcount_bits=8 x 1M
        create -f qcow2 -o compat=0.10,lazy_refcounts=on x 1M
        create -f qcow2 -o extended_l2=on,cluster_size=4k x 1M
        create -f qcow2 -o size=abc x
        create -f qcow2 -b nothere.q -F qcow2 x
        create -f qcow2 -b x -F qcow2 x 1M
        create -f qcow2 /nonexistent/x 1M
        create -f raw -b y x 1M
        create
        create -f qcow2 a b c
    """,
    "info": """
        create -f qcow2 a.q 10M
        create -f qcow2 -b a.q -F qcow2 c.q
        create -f qcow2 -o compat=0.10 e.q 1000
        create -f qcow2 -o extended_l2=on,compression_type=zstd,refcount_bits=64 f.q 1G
        create -f qcow2 -o data_file=x.raw,data_file_raw=on g.q 1M
        create r.img 10M
        info a.q
        info --output=json a.q
        info c.q
        info --backing-chain c.q
        info --backing-chain --output=json c.q
        info e.q
        info f.q
        info --output=json f.q
        info g.q
        info --output json r.img
        info -f qcow2 r.img
        info nope
        info
        info --foo a.q
        info a.q c.q
        info --output=xml a.q
        info --image-opts driver=qcow2,file.filename=a.q
    """,
    "command line": """
        foo
        check --output=human
        snapshot -l -c foo x
        resize x
        convert x
        compare x
        map
        rebase x
    """,
    "snapshot": """
        create -f qcow2 a.q 4M
        io a.q | write -P 1 0 1M
        snapshot -c one a.q
        io a.q | write -P 2 512k 1M
        snapshot -c two a.q
        snapshot -l a.q
        info a.q
        check a.q
        snapshot -a one a.q
        check a.q
        map a.q
        snapshot -d two a.q
        check a.q
        snapshot -d nope a.q
        snapshot -a nope a.q
        snapshot -d one a.q
        check a.q
        info --output=json a.q
    """,
    "check": """
        create -f qcow2 a.q 4M
        create r.img 1M
        check a.q
        io a.q | write 0 100k | write 1M 64k | write -c 2M 64k
        check a.q
        check --output=json a.q
        check -q a.q
        check r.img
        check nope
        check -r leaks a.q
        check -r all a.q
        check -r some a.q
    """,
    "map": """
        create -f qcow2 a.q 4M
        io a.q | write -P 5 64k 200k | write -z 1M 256k | write -zu 2M 64k
        create -f qcow2 -b a.q -F qcow2 b.q 6M
        io b.q | write 128k 1000 | discard 1M 64k
        map a.q
        map --output=json a.q
        map b.q
        map --output=json b.q
        map --output=json --start-offset=100k --max-length=1M b.q
        create r.img 1M
        io -f raw r.img | write 4k 4k
        map --output=json r.img
        io a.q | write -c 3M 64k
        map --output=json a.q
        map a.q
    """,
    "map of preallocated images": """
        create -f qcow2 -o preallocation=metadata a.q 2M
        create -f qcow2 -o preallocation=full b.q 2M
        create -f qcow2 -o preallocation=falloc c.q 2M
        map --output=json a.q
        map --output=json b.q
        io a.q | write 64k 64k
        map --output=json a.q
    """,
    "compare": """
        create -f qcow2 a.q 4M
        create b.img 4M
        create -f qcow2 c.q 5M
        compare a.q b.img
        compare a.q c.q
        compare -s a.q c.q
        compare -s a.q b.img
        io a.q | write -P 3 1000k 4k
        compare a.q b.img
        compare -q a.q b.img
        compare -s b.img a.q
        io c.q | write -P 3 1000k 4k
        compare a.q c.q
        io c.q | write -P 4 4500k 512
        compare a.q c.q
        compare nope a.q
        compare a.q nope
        compare -f qcow2 -F raw a.q b.img
    """,
    "resize": """
        create -f qcow2 a.q 4M
        io a.q | write -P 1 0 4M
        resize a.q 6M
        check a.q
        resize a.q +1M
        resize a.q 2M
        resize --shrink a.q 2M
        check a.q
        resize --shrink a.q -1M
        info --output=json a.q
        map --output=json a.q
        resize a.q 100M --preallocation=metadata
        resize --preallocation=metadata a.q 10M
        resize -q a.q 20M
        resize a.q -100M
        create r.img 1M
        resize -f raw r.img 2M
        resize r.img +1k
        resize a.q 1T
        check a.q
    """,
    "commit": """
        create -f qcow2 base.q 4M
        create -f qcow2 -b base.q -F qcow2 mid.q
        create -f qcow2 -b mid.q -F qcow2 top.q 5M
        io base.q | write -P 1 0 4M
        io mid.q | write -P 2 1M 1M | write -z 3M 128k
        io top.q | write -P 3 1500k 1M | write -P 4 4500k 1k
        commit top.q
        compare mid.q top.q
        map --output=json mid.q
        map --output=json top.q
        commit -d mid.q
        info --output=json base.q
        map --output=json mid.q
        commit base.q
        check base.q
        check top.q
    """,
    "rebase": """
        create -f qcow2 one.q 4M
        create -f qcow2 two.q 4M
        io one.q | write -P 1 0 2M
        io two.q | write -P 2 1M 2M
        create -f qcow2 -b one.q -F qcow2 top.q
        io top.q | write -P 3 64k 64k
        convert top.q before.img
        rebase -b two.q -F qcow2 top.q
        compare -f raw -F qcow2 before.img top.q
        info top.q
        rebase -b "" top.q
        compare -f raw -F qcow2 before.img top.q
        rebase -u -b nothere.q -F qcow2 top.q
        info --output=json top.q
        rebase -u -b "" top.q
        rebase -b nope top.q
        rebase -b nope -F nope top.q
    """,
    "convert": """
        create -f qcow2 a.q 4M
        io a.q | write -P 5 64k 200k | write -P 7 1M 4k | write -z 2M 64k
        convert a.q b.img
        convert -O qcow2 a.q c.q
        map --output=json c.q
        convert -c -O qcow2 a.q d.q
        check d.q
        map --output=json d.q
        convert -p -O raw a.q e.img
        compare -f qcow2 -F raw a.q e.img
        convert -S 0 -O qcow2 a.q f.q
        map --output=json f.q
        convert -n -O raw a.q e.img
        convert -O qcow2 nope g.q
        convert -O nope a.q g.q
        convert -O qcow2 b.img c.q g.q
        info --output=json g.q
        compare g.q a.q
        snapshot -c s a.q
        io a.q | write -P 9 0 4M
        convert -l s -O raw a.q s.img
        compare -f raw -F raw s.img b.img
        convert -l snapshot.name=s -O raw a.q s2.img
        convert -l nope -O raw a.q s3.img
        create -f qcow2 -b c.q -F qcow2 over.q
        io over.q | write -P 4 3M 64k
        convert -O qcow2 -B c.q -F qcow2 over.q over2.q
        map --output=json over2.q
        convert -o cluster_size=4k,extended_l2=off -O qcow2 over.q h.q
        map --output=json h.q
        create -f raw small.img 1M
        convert -n -O raw a.q small.img
        convert -c -O raw a.q i.img
        convert -O qcow2 -o preallocation=metadata -c a.q j.q
    """,
    "other formats": """
        create -f vdi a.vdi 10M
        create -f vdi -o static=on b.vdi 10M
        create -f vpc a.vpc 10M
        create -f vpc -o subformat=fixed,force_size=on b.vpc 10M
        info a.vdi
        info --output=json b.vdi
        info a.vpc
        info -f vpc b.vpc
        create -f qcow2 a.q 10M
        io a.q | write -P 1 1M 2M | write -P 2 9M 1M
        convert -O vdi a.q c.vdi
        convert -O vpc -o force_size=on a.q c.vpc
        convert -O vmdk a.q c.vmdk
        compare a.q c.vdi
        compare a.q c.vpc
        compare a.q c.vmdk
        map --output=json c.vdi
        convert -O qcow2 c.vmdk d.q
        compare a.q d.q
        check a.vpc
        resize a.vpc 20M
        snapshot -c x a.vpc
        create -f vdi -b a.q x.vdi 1M
    """,
    "measure": """
        create -f qcow2 a.q 10M
        io a.q | write 1M 1M | write 5M 4k
        measure -O qcow2 a.q
        measure --output=json -O qcow2 a.q
        measure -O qcow2 --size 1G
        measure -O qcow2 -o cluster_size=4k,refcount_bits=64 --size 1T
        measure -O qcow2 -o extended_l2=on,cluster_size=2M --size 12345678
        measure -O qcow2 -o preallocation=full a.q
        measure -O raw a.q
        measure -O raw --output=json --size 100M
        measure -O qcow2
        measure -O qcow2 --size 1M a.q
        measure a.q b.q
        create r.img 3M
        measure -O qcow2 -f raw r.img
        bitmap --add a.q one
        bitmap --add -g 4k a.q two
        measure -O qcow2 a.q
    """,
    "dd": """
        create -f qcow2 a.q 4M
        io a.q | write -P 1 0 1M | write -P 2 1M 1M | write -P 3 3M 1M
        dd if=a.q of=b.img
        compare -F raw a.q b.img
        dd -O qcow2 if=a.q of=c.q bs=1M skip=1
        info --output=json c.q
        map --output=json c.q
        dd -O raw if=a.q of=d.img bs=64k count=20
        info --output=json d.img
        dd if=a.q
        dd if=a.q of=x foo=1
        dd if=nope of=x
        dd -O nope if=a.q of=x
        dd if=a.q of=x bs=0
    """,
    "bitmap": """
        create -f qcow2 a.q 4M
        bitmap --add a.q one
        bitmap --add -g 4k --disable a.q two
        info a.q
        check a.q
        io a.q | write 1M 100k
        info --output=json a.q
        bitmap --merge one a.q two
        bitmap --add a.q one
        bitmap --remove a.q nope
        bitmap --clear --enable a.q two
        bitmap --remove a.q one
        info --output=json a.q
        check a.q
        create -f qcow2 b.q 4M
        bitmap --add b.q three
        bitmap --merge two -b a.q -F qcow2 b.q three
        resize b.q 8M
        check b.q
        bitmap a.q two
        bitmap --add a.q
        convert --bitmaps -O qcow2 a.q c.q
        info --output=json c.q
        check c.q
        bitmap --remove a.q two
        info --output=json a.q
        check a.q
    """,
    "amend": """
        create -f qcow2 -o compat=0.10 a.q 4M
        io a.q | write -P 1 1M 1M
        amend -o compat=1.1 a.q
        info a.q
        amend -o lazy_refcounts=on a.q
        info a.q
        amend -o refcount_bits=64 a.q
        info a.q
        check a.q
        amend -o refcount_bits=16,lazy_refcounts=off a.q
        io a.q | write -z 1M 64k
        amend -o compat=0.10 a.q
        info a.q
        convert a.q a.img
        compare a.q a.img
        amend -o size=8M a.q
        info a.q
        create -f raw r.img 1M
        amend -f raw -o size=2M r.img
        amend -o nothing=1 a.q
        amend -o cluster_size=4k a.q
        amend a.q
        amend -o compat=2.0 a.q
    """,
}


def _normal(program: str, ran: Ran, command: str) -> dict[str, Any]:
    def text(value: str) -> str:
        value = value.replace(program, "PROGRAM")
        value = re.sub(r"disk size: .*", "disk size: X", value)
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", value)

    out: Any = text(ran.out)
    if "json" in command and ran.code in (0, 2, 3) and ran.out.startswith(("{", "[")):
        out = json.loads(ran.out)
        for item in out if isinstance(out, list) else [out]:
            item.pop("actual-size", None)
            for snapshot in item.get("snapshots", ()):
                snapshot["date-sec"] = snapshot["date-nsec"] = 0
    elif " -p " in command:
        out = "progress" if "(100.00/100%)" in out else out
    return {"code": ran.code, "out": out, "err": text(ran.err)}


# Placement of clusters is each program's own: offsets in these are compared by check and compare.
def _without_offsets(result: dict[str, Any]) -> dict[str, Any]:
    out = result["out"]
    if isinstance(out, list):
        for item in out:
            item.pop("offset", None)
    elif isinstance(out, dict):
        out.pop("image-end-offset", None)
        out.pop("fragmented-clusters", None)
    elif isinstance(out, str):
        out = re.sub(r"Image end offset: \d+", "", out)
        out = re.sub(r"0x[0-9a-f]+ +(?=\S+$)", "OFFSET ", out, flags=re.M)
        result["out"] = re.sub(r"[0-9.]+% fragmented", "", out)
    return result


def _joined(result: dict[str, Any]) -> dict[str, Any]:
    """Map extents with adjacent like neighbours joined, as offsets may split them."""
    out = result["out"]
    if isinstance(out, list) and out and "start" in out[0]:
        joined = [out[0]]
        for item in out[1:]:
            last = joined[-1]
            if all(last[key] == item[key] for key in ("depth", "present", "zero", "data")):
                last["length"] += item["length"]
            else:
                joined.append(item)
        result["out"] = joined
    return result


def _run_elsewhere(line: str, directories: tuple[Path, Path]) -> bool:
    """Lines that prepare both directories alike: ``io IMAGE | ...`` and ``sh ...``."""
    if line.startswith("io "):
        head, *commands = line[3:].split("|")
        *options, image = head.split()
        for directory in directories:
            qemu_io(image, *(command.strip() for command in commands), cwd=directory,
                    options=tuple(options))
    elif line.startswith("sh "):
        for directory in directories:
            subprocess.run(line[3:], shell=True, cwd=directory, check=True, timeout=60)
    else:
        return False
    return True


def _differences(script: str, tmp_path: Path) -> list[str]:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    differences = []
    for line in script.strip().splitlines():
        line = line.strip()
        if _run_elsewhere(line, (theirs, ours)):
            continue
        argv = shlex.split(line)
        expected = _joined(_without_offsets(
            _normal("qemu-img", qemu_img(*argv, cwd=theirs), line)))
        got = _joined(_without_offsets(
            _normal("pytcg-img", pytcg_img(*argv, cwd=ours), line)))
        if got != expected:
            differences.append(f"{line}\n  expected {expected}\n  got      {got}")
    return differences


@needs_qemu
@pytest.mark.parametrize("name", SCRIPTS)
def test_same_as_qemu(name: str, tmp_path: Path) -> None:
    differences = _differences(SCRIPTS[name], tmp_path)
    assert not differences, "\n".join(differences)


@needs_qemu
@pytest.mark.parametrize("name", [path.stem for path in sorted(LINES.glob("*.txt"))])
def test_command_lines_of_all_kinds(name: str, tmp_path: Path) -> None:
    """Options, their combinations and their errors, command by command."""
    differences = _differences((LINES / f"{name}.txt").read_text(), tmp_path)
    assert not differences, "\n".join(differences)


@needs_qemu
def test_measure_s_json_has_its_keys_in_qemu_s_order(tmp_path: Path) -> None:
    for line in ("create -f qcow2 a.q 1M", "bitmap --add a.q b"):
        pytcg_img(*line.split(), cwd=tmp_path)
    for line in ("measure --output=json -O qcow2 -f qcow2 a.q", "measure --output=json --size 1M"):
        assert pytcg_img(*line.split(), cwd=tmp_path) == qemu_img(*line.split(), cwd=tmp_path)
