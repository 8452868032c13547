"""blkdebug, null and copy-on-read nodes, and what is opened by which name: beside qemu-io."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from test_io_commands import OURS, both, commands, need, run

DEBUGGED = "{{'driver':'qcow2','file':{{'driver':'blkdebug','image.filename':'q.qcow2',{}}}}}"

OPENED = [
    "open blkdebug::q.qcow2",
    "open -o driver=qcow2,file.align=4k blkdebug::q.qcow2",
    "open -o driver=qcow2,file.align=3 blkdebug::q.qcow2",
    "open -o driver=qcow2,file.align=4k,file.max-transfer=6k blkdebug::q.qcow2",
    "open -o driver=qcow2,file.foo=1 blkdebug::q.qcow2",
    "open blkdebug:q.qcow2",
    "open blkdebug:nothere:q.qcow2",
    "open blkdebug:pattern:q.qcow2",
    "open -o driver=qcow2 json:{'driver':'raw','file.filename':'q.qcow2'}",
    "open json:{'driver':'qcow2','file':{'driver':'file','filename':\"q.qcow2\"},'backing':null}",
    "open json:{'driver':'qcow2','file':{'driver':'blkdebug'}}",
    "open json:{'driver':'blkdebug','image':{'driver':'qcow2','file.filename':'q.qcow2'}}",
    "open json:{'driver':nope}",
    "open json:['driver']",
    "open json:",
    "open json:{}{}",
    "open json:{}",
    "open json:{'file':{}}",
    "open json:{'driver':'raw','file':{}}",
    "open json:{'driver':'blkdebug','image':{}}",
    "open json:" + DEBUGGED.format("'inject-error':[{'event':'l2_load'}]"),
    "open json:" + DEBUGGED.format("'inject-error':[{'event':'l2_lode'}]"),
    "open json:" + DEBUGGED.format("'inject-error':[{'errno':1}]"),
    "open json:" + DEBUGGED.format("'inject-error':[{'event':'none','iotype':'flush'}]"),
    "open json:" + DEBUGGED.format("'set-state':[{'event':'none','new':3}]"),
    "open -o driver=null-co,size=64k",
    "open -o driver=null-aio,read-zeroes=on",
    "open null-co://",
    "open -o driver=null-co,read=1",
    "open -o driver=copy-on-read,file.driver=qcow2 q.qcow2",
    "open -r -o driver=copy-on-read,file.driver=qcow2 q.qcow2",
    "open -C q.qcow2",
    "open -C -r q.qcow2",
    "open -o driver=compress,file.driver=raw d.img",
    "open -o driver=compress,file.driver=file,file.filename=d.img",
    "open -o driver=compress,file.driver=qcow2,foo=1 q.qcow2",
    "open -o driver=copy-on-read,file.driver=qcow2,foo=1 q.qcow2",
    "open -o driver=blkdebug,image.driver=qcow2,foo=1 q.qcow2",
    "open -r -o driver=compress,file.driver=qcow2 q.qcow2",
    "open -r -o driver=file,filename=.",
    "open -o driver=file,filename=.",
    "open -o driver=file,filename=/dev/null",
    "open -r -o driver=host_device,filename=d.img",
    "open -r -o driver=host_cdrom,filename=.",
]


@pytest.mark.parametrize("line", OPENED)
def test_opening(tmp_path: Path, line: str) -> None:
    theirs, ours = both(tmp_path, commands(f"{line}\nread 0 1k\nmap"))
    assert ours == theirs


RULES = {
    "a read that fails once": "'inject-error':[{'event':'read_aio','once':true,'errno':28}]",
    "the second write": "'set-state':[{'event':'write_aio','new_state':2}],"
                        "'inject-error':[{'event':'write_aio','state':2,'errno':5}]",
    "a state that is not reached": "'inject-error':[{'event':'write_aio','state':2}]",
    "loading tables": "'inject-error':[{'event':'l2_load','once':'on'}]",
    "a transfer at most": "'align':512,'max-transfer':1024",
    "zeroes in large units": "'opt-write-zero':4096,'max-write-zero':8192,'max-discard':65536",
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_rules(tmp_path: Path, rules: str) -> None:
    theirs, ours = both(tmp_path, commands(f"""
        open json:{DEBUGGED.format(rules)}
        read 0 64k
        write -P 3 4k 1k
        write -P 4 5k 3k
        read -P 3 4k 1k
        write -z 512 3k
        discard 64k 64k
        read 0 256k"""))
    assert ours[1] == theirs[1]


@pytest.mark.parametrize("flag", ["", "-b"])
def test_writethrough_meets_the_errors_of_tables(tmp_path: Path, flag: str) -> None:
    rule = "'inject-error':[{'event':'l2_update','once':true}]"
    theirs, ours = both(tmp_path, commands(f"""
        open -t writethrough json:{DEBUGGED.format(rule)}
        write {flag} 512k 64k
        write {flag} 512k 64k
        read {flag} 512k 64k"""))
    assert ours == theirs


def test_an_error_at_a_sector(tmp_path: Path) -> None:
    rule = "{'event':'none','sector':9,'iotype':'write','immediately':true}"
    theirs, ours = both(tmp_path, commands(f"""
        open json:{{'driver':'raw','file':{{'driver':'blkdebug','image.filename':'d.img',\
            'inject-error':[{rule}]}}}}
        write 4k 512
        read 4k 1k
        write 4k 513
        write 5k 1k""".replace("\\\n            ", "")))
    assert ours == theirs


def test_rules_of_a_file(tmp_path: Path) -> None:
    config = tmp_path / "rules"
    config.write_text('# twice\n[set-state]\nevent = "read_aio"\nstate = "1"\nnew_state = "2"\n'
                      '[inject-error "a"]\n  event = "read_aio"\n  state ="2"\n  once = "on"\n')
    theirs, ours = both(tmp_path, commands(f"""
        open blkdebug:{config}:q.qcow2
        write 0 64k
        read 0 1k
        read 0 1k
        read 0 1k"""))
    assert ours == theirs


def test_requests_stop_at_breakpoints(tmp_path: Path) -> None:
    """Another request that touches the same new cluster waits for the first."""
    theirs, ours = both(tmp_path, commands("""
        open blkdebug::q.qcow2
        break l2_lode A
        break write_aio A
        aio_write -P 10 0x8000 0x2000
        wait_break A
        aio_write -P 11 0x2000 0x2000
        resume B
        resume A
        aio_flush
        read -P 10 0x8000 0x2000
        read -P 11 0x2000 0x2000
        read -P 1 0xa000 0x2000
        remove_break A
        break flush_to_os A
        remove_break A
        flush"""))
    assert ours == theirs


def test_breakpoints_need_a_node(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, [*commands("break none A\nresume A\nremove_break A\nbreak"),
                                   "q.qcow2"])
    assert ours == theirs


@pytest.mark.parametrize("opened", ["-C", "-o driver=copy-on-read,file.driver=qcow2"])
def test_copy_on_read_keeps_whole_clusters(tmp_path: Path, opened: str) -> None:
    theirs, ours = both(tmp_path, commands(f"""
        open {opened} q.qcow2
        write -z 192k 64k
        read -P 1 70k 1k
        read 190k 70k
        read 512k 0
        read -P 0 700k 100k
        close
        open q.qcow2
        map"""))
    assert ours == theirs


def test_small_writes_under_a_large_alignment_keep_their_surroundings(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, commands("""
        open -o driver=raw,file.align=4k blkdebug::d.img
        write -P 7 100 50
        write -P 8 4000 5000
        write -z 4050 100
        read -v 0 200
        read -v 3990 200
        read -v 8990 40"""))
    assert ours == theirs


@pytest.mark.parametrize("once", ["on", "off"])
@pytest.mark.parametrize("event", ["refblock_alloc_hookup", "refblock_alloc_write_blocks",
                                   "refblock_alloc_write_table", "refblock_alloc_switch_table"])
def test_the_old_refcount_table_stays_if_growing_it_fails(tmp_path: Path, event: str, once: str
                                                          ) -> None:
    rule = f"'inject-error':[{{'event':'{event}','once':'{once}','errno':28}}]"
    image = DEBUGGED.format(rule).replace("q.qcow2", "grown.qcow2")
    need("qemu-img")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512",
                    "grown.qcow2", "1G"], cwd=tmp_path, check=True, timeout=60)
    said = run([*OURS, *commands(f"open json:{image}\nwrite 0 9M\nwrite 9M 1M")], tmp_path, None)
    assert "No space left on device" in "".join(said[1:])
    checked = subprocess.run(["qemu-img", "check", "-q", "grown.qcow2"], cwd=tmp_path, timeout=60)
    assert checked.returncode in (0, 3)  # leaks are no harm


def test_errors_at_the_end_name_the_tables(tmp_path: Path) -> None:
    rule = "'inject-error':[{'event':'l2_update','errno':28}]"
    theirs, ours = both(tmp_path, commands(
        f"open json:{DEBUGGED.format(rule)}\nwrite 512k 64k\nflush"))
    assert ours[2] == theirs[2]


@pytest.mark.parametrize(("low", "length"), [(4096, "188k"), (70000, "50k"), (64 << 10, "100k"),
                                             (50000, "60k")])
def test_zero_clusters_are_written_with_their_neighbours(tmp_path: Path, low: int, length: str
                                                         ) -> None:
    """In one request, if they kept their place: the second would fail."""
    rule = ("'set-state':[{'event':'write_aio','new_state':2}],"
            "'inject-error':[{'event':'write_aio','state':2}]")
    theirs, ours = both(tmp_path, commands(f"""
        open q.qcow2
        write -P 4 0 192k
        write -z 64k 64k
        close
        open json:{DEBUGGED.format(rule)}
        write -P 5 {low} {length}
        close
        open q.qcow2
        read -v 0 192k
        map"""))
    assert ours == theirs


def test_discards_are_passed_down_in_fragments(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, commands("""
        open -o driver=blkdebug,image.driver=qcow2,align=4k,opt-discard=256k q.qcow2
        write 0 1M
        discard 65k 900k
        close
        open q.qcow2
        map"""))
    assert ours == theirs


def test_zeroing_what_is_zero_changes_no_table(tmp_path: Path) -> None:
    rule = "'inject-error':[{'event':'l2_update'}]"
    theirs, ours = both(tmp_path, commands(f"""
        open q.qcow2
        write -z 256k 256k
        write -zu 512k 256k
        close
        open json:{DEBUGGED.format(rule)}
        write -z 256k 256k
        write -zu 512k 256k
        close"""))
    assert ours == theirs


def test_the_compress_filter_merges_parts_of_clusters(tmp_path: Path) -> None:
    theirs, ours = both(tmp_path, commands("""
        open -o driver=compress,file.driver=qcow2 q.qcow2
        write -P 7 200k 100k
        write -P 8 330k 100
        write -z 450k 40k
        write -z 520k 100k
        write -P 9 960k 64k
        read -P 8 330k 100
        read -P 7 200k 100k
        read -P 1 0 128k
        discard 980k 44k
        map
        close
        open q.qcow2
        read -P 0 330000 1000
        read -v 337900 40
        map"""))
    assert ours == theirs
