"""The table, its JSON, and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import boot, startup
from bench.__main__ import NAMES, main
from bench.engines import EngineError
from bench.process import Console, environment, seconds_of
from bench.results import Measurement, document, machine, speed, table
from pytcg.machine.linux import STARTUP_64, parse_kernel

ROWS = [
    Measurement("integer", "pytcg threaded", 2.0, 100, 800_000_000),
    Measurement("integer", "pytcg python", 4.0, 1, 8_000),
    Measurement("integer", "QEMU 7.2 TCG", 1.0, 100, 800_000_000),
    Measurement("integer", "host CPU", 0.25, 100, 800_000_000),
    Measurement("boot", "pytcg threaded, warm cache", 8.0, 1, 900_000_000, 6.0, 300 << 20),
    Measurement("boot", "QEMU 7.2 TCG", 2.0, memory=100 << 20),
]


def test_speed_is_the_peers_time_for_the_same_work_by_ours() -> None:
    assert speed(ROWS[0], ROWS[2]) == 0.5
    assert speed(ROWS[1], ROWS[2]) == 0.0025  # a hundredth of the work in four times the time
    assert speed(ROWS[0], None) is None
    assert speed(ROWS[0], Measurement("integer", "QEMU", 0.0)) is None


def test_mips_leave_out_the_guests_sleep() -> None:
    assert ROWS[4].mips == 150
    assert ROWS[0].mips == 400
    assert ROWS[5].mips is None


def test_the_table_has_ratios_first() -> None:
    lines = table(ROWS, 3).splitlines()
    assert lines[0] == f"measured on {machine()}; medians of 3 runs"
    assert lines[1].split("  ")[0] == "program"
    cells = [line.split() for line in lines[2:]]
    assert cells[0] == ["integer", "pytcg", "threaded", "0.500", "0.125", "400", "2.00", "100", "-"]
    assert cells[1][3:6] == ["0.00250", "0.000625", "0.00200"]
    assert cells[3] == ["integer", "host", "CPU", "4.00", "1.00", "3200", "0.250", "100", "-"]
    assert cells[4][5:] == ["0.250", "-", "150", "8.00", "1", "300"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_json_says_of_each_row_what_it_was_measured_on() -> None:
    found = json.loads(json.dumps(document(ROWS, 3)))
    assert found["runs"] == 3
    first, *_, last = found["results"]
    assert (first["times_qemu"], first["times_host"], first["mips"]) == (0.5, 0.125, 400)
    assert last["memory"] == 100 << 20
    assert all(row["measured_on"] == machine() for row in found["results"])


def test_help_names_every_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name:<10}" in text for name in NAMES)


@pytest.mark.parametrize("words", [["-n", "0"], ["--only", "nonsense"], ["--scale", "0"]])
def test_bad_values_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert words[0] in capsys.readouterr().err


def test_the_command_prints_json() -> None:
    command = [sys.executable, "-m", "bench", "-n", "1", "--only", "calls", "--scale", "0.0001",
               "--json"]  # fmt: skip
    result = subprocess.run(command, capture_output=True, check=True, env=environment(),
                            cwd=Path(__file__).parents[2])  # fmt: skip
    rows = json.loads(result.stdout)["results"]
    assert {"pytcg threaded", "pytcg python"} <= {row["engine"] for row in rows}
    assert all(row["program"] == "calls" for row in rows)


def test_the_smallest_kernel_is_a_kernel() -> None:
    parsed = parse_kernel("smallest", startup.kernel())
    assert parsed.is_64_bit and parsed.relocatable
    assert parsed.payload[STARTUP_64 :].startswith(b"\x66\xba")  # mov dx, …


@pytest.mark.slow
def test_startup_measures_our_own_program() -> None:
    rows = startup.measure(1)
    assert {row.program for row in rows} == {
        "-version", "-h", "-M help", "-device help", "first insn"}  # fmt: skip
    assert rows[0].engine.startswith("pytcg")


def test_a_process_that_fails_is_named() -> None:
    with pytest.raises(EngineError, match="exit status 3: oh"):
        seconds_of([sys.executable, "-c", "import sys; print('oh', file=sys.stderr); sys.exit(3)"])


def test_a_console_waits_for_the_prompt_and_tells_the_memory() -> None:
    console = Console([sys.executable, "-c", "import time; print('# x'); print('~ # ', end='', "
                       "flush=True); time.sleep(60)"])  # fmt: skip
    try:
        assert console.wait_for_prompt() > 0
        assert console.terminate() > 1 << 20
    finally:
        console.close()


def test_a_console_without_a_prompt_shows_what_came() -> None:
    console = Console([sys.executable, "-c", "print('panic')"])
    try:
        with pytest.raises(EngineError, match="not what was waited for: 'panic"):
            console.wait_for_prompt()
    finally:
        console.close()


def test_a_boots_row_is_that_of_the_median() -> None:
    boots = [boot.Boot(3.0, 5, 30, 2.0), boot.Boot(1.0, 9, 10, 0.5), boot.Boot(2.0, 7, 20, 1.5)]
    row = boot.row("pytcg", boots)
    assert (row.seconds, row.instructions, row.guest_seconds, row.memory) == (2.0, 20, 1.5, 9)
