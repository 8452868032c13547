"""The guest programs: what a console says, the table, and the programs themselves on the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.engines import EngineError
from bench.guests import build, machines, report
from bench.guests.__main__ import arguments, emulators, main
from bench.guests.machines import Result
from bench.process import OURS

SUM = "00000000000000aa"
OTHER = "00000000000000bb"
FOUND = {
    "pytcg": {"fib": [Result(SUM, 2.0), Result(SUM, 4.0), Result(SUM, 2.0)], "sieve": []},
    "QEMU": {"fib": [Result(SUM, 1.0)], "sieve": [Result(OTHER, 1.0)]},
    "host": {"fib": [Result(SUM, 0.5)], "sieve": [Result(SUM, 0.5)]},
}


def test_results_are_found_among_what_firmware_and_kernel_print() -> None:
    text = f"\x1b[2Jresult fib {SUM} 1500000000\r\n[ 1.0] a message\r\nresult sieve {OTHER} 2\r\n"
    assert machines.parse(text) == {"fib": Result(SUM, 1.5), "sieve": Result(OTHER, 2e-9)}


def test_a_run_that_ends_well_has_no_complaint() -> None:
    assert machines.complaint("result …\nreboot: Power down\n", "") == ""
    assert machines.complaint("a\nfailed fib 139\nb\n", "") == "failed fib 139; b"
    assert machines.complaint("panic: x\n\n", "exit status 1") == "exit status 1; panic: x"


def test_rows_have_medians_and_ratios_and_see_wrong_answers() -> None:
    rows = {(row.program, row.engine): row for row in report.rows(["fib", "sieve"], FOUND)}
    assert rows["fib", "pytcg"] == report.Row("fib", "pytcg", 2.0, True, 0.5, 0.25)
    assert not rows["sieve", "QEMU"].correct
    assert rows["sieve", "pytcg"].seconds is None


def test_the_table_shows_what_is_wrong_and_no_mean_of_a_part() -> None:
    rows = report.rows(["fib", "sieve"], FOUND)
    lines = [line.split() for line in report.table(["fib", "sieve"], rows, 3).splitlines()[1:]]
    assert lines[1] == ["fib", "2.000", "1.000", "0.500", "0.50", "0.25"]
    assert lines[2] == ["sieve", "-", "WRONG", "0.500", "-", "-"]
    assert lines[3] == ["geometric", "mean", "-", "-"]
    rows = report.rows(["fib"], FOUND)
    assert report.table(["fib"], rows, 3).splitlines()[-1].split() == ["geometric", "mean", "0.50",
                                                                       "0.25"]  # fmt: skip
    assert json.dumps(report.document(rows, 3))


def test_each_engine_is_a_column_of_its_own() -> None:
    options = arguments(["--engine", "-accel tcg,tb-size=64", "--engine", "", "--no-qemu"])
    found = emulators(options)
    assert [one.name for one in found] == ["pytcg -accel tcg,tb-size=64", "pytcg"]
    assert found[0].command == OURS and found[0].options == ["-accel", "tcg,tb-size=64"]


def test_bad_values_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--only", "nonsense"], ["-n", "0"]):
        with pytest.raises(SystemExit):
            main(words)
        assert words[0] in capsys.readouterr().err


def test_a_program_runs_on_the_host_and_is_compiled_once(tmp_path: Path) -> None:
    made = build.compile_program("matmul", tmp_path)
    when = made.stat().st_mtime_ns
    assert build.compile_program("matmul", tmp_path).stat().st_mtime_ns == when
    found = machines.on_host({"matmul": [str(made)]})
    assert found["matmul"].checksum != "0" * 16 and found["matmul"].seconds > 0


def test_a_compiler_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineError, match=r"no-such-compiler: No such file"):
        build.compile_with(["no-such-compiler"])
