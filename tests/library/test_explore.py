"""`python -m pytcg.explore`: every instruction is there, with what became of it."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pytcg import Cpu
from pytcg.engines import explore
from pytcg.explore.__main__ import main

LOOP = "4801c8 48890e 48ffc9 75f5 c3"  # 1: add rax, rcx; mov [rsi], rcx; dec rcx; jnz 1b; ret
MNEMONICS = ("addq", "movq", "decq", "jne", "retq")


class Columns(HTMLParser):
    """The rows of a page by heading and instruction; "" for those of none."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, defaultdict[str, list[str]]] = {}
        self.tag, self.title, self.number = "", "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag, self.number = tag, dict(attrs).get("data-i") or ""
        assert not {"src", "href"} & dict(attrs).keys()

    def handle_data(self, data: str) -> None:
        if self.tag == "h2":
            self.title = data
            self.rows[data] = defaultdict(list)
        elif self.tag == "p":
            self.rows[self.title][self.number].append(data)
        self.tag = ""


def test_each_instruction_is_beside_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LOOP.split(), "--width", "190"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("5 instructions at 0x1000, one region, ")
    groups = text.split("\n---")
    for group, mnemonic in zip(groups[1:6], MNEMONICS, strict=True):
        first = group.splitlines()[1]
        assert first.startswith(mnemonic)
        assert "%" in first[38:76] and "%" in first[76:]
    assert "in and out" in groups[6]
    assert max(map(len, text.splitlines())) <= 190


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert main([LOOP, "-o", str(path)]) == 0
    page = Columns()
    page.feed(path.read_text())
    assert list(page.rows) == ["Guest", "IR", "LLVM", "LLVM, optimised", "Host"]
    for number, mnemonic in enumerate(MNEMONICS, 1):
        assert page.rows["Guest"][str(number)][0].split()[0] == mnemonic
        for title, rows in page.rows.items():
            assert rows[str(number)], (title, mnemonic)
    assert any("(%r14," in text for text in page.rows["Host"]["2"])  # the store to guest memory
    assert "http" not in path.read_text()


def test_blocks_on_both_sides_of_branches_and_calls_are_found() -> None:
    cpu = Cpu()
    cpu.map(0x1000, 0x2000)
    cpu.write(0x1FF2, cpu.asm("1: test edi, edi; js 2f; call 3f; dec ecx; jnz 1b; ret;"
                              "2: neg edi; jmp 1b; 3: add eax, edi; ret"))  # fmt: skip
    found = explore(cpu, 0x1FF2)
    assert found.compiled and found.insns == 10
    assert [text.split()[0] for line, text in found.guest if line] == [
        "testl", "js", "callq", "decl", "jne", "retq", "negl", "jmp", "addl", "retq"]  # fmt: skip


def test_code_that_is_in_no_region_shows_handlers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["8907 e2fc f4", "--mode", "16"]) == 0  # a store through a segment
    text = capsys.readouterr().out
    assert text.startswith("3 instructions at 0x1000, no region: a handler for each")
    assert "movw     %ax, (%bx)" in text and "hlt" in text


def test_a_function_of_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, program = tmp_path / "a.c", tmp_path / "a"
    source.write_text("int twice(int x) { return x * 2; }\nint main(void) { return twice(4); }\n")
    subprocess.run(["gcc", "-O1", "-fno-inline", "-o", program, source], check=True)
    assert main([f"{program}:twice"]) == 0
    assert "leal     (%rdi" in (text := capsys.readouterr().out) or "addl     %edi" in text
    raw = tmp_path / "raw"
    raw.write_bytes(bytes.fromhex(LOOP))
    assert main([str(raw), "--base", "0x400000"]) == 0
    assert capsys.readouterr().out.startswith("5 instructions at 0x400000")


@pytest.mark.parametrize("words, message", [
    (["nothing"], "'nothing' is neither hex nor a file"),
    (["nothing", "90"], "'nothing 90' is neither hex nor one file"),
    (["/etc/hostname:f"], "'/etc/hostname' is no program: it has no symbol 'f'"),
    (["/bin/sh:no_such"], "'/bin/sh' has no symbol 'no_such'"),
    (["90", "-o", "/nowhere/x"], "cannot write '/nowhere/x': No such file or directory"),
])  # fmt: skip
def test_what_cannot_be_shown_is_said_in_a_line(
        words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert capsys.readouterr().err == f"pytcg.explore: {message}\n"
