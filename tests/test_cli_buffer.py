"""``smok-fast buffer``: looking into a device's samples, while it runs or later."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from smok_fast import minijson
from smok_fast._core import Buffer
from smok_fast.cli.app import app
from smok_fast.exceptions import OperationFailedError, OperationFailedReason
from smok_fast.extras.quarantine import Quarantine

#: Longer than anything here takes, seconds; reached only when something hangs.
LONG = 60

#: 2026-01-02 03:04:05.006 UTC
START = 1_767_323_045_006

#: Samples of W1r1, and how many are in a frame.
COUNT = 3000
FRAME = 200

#: All samples.
SAMPLES = COUNT + COUNT // 10 + 2

TIMEOUT = OperationFailedError(OperationFailedReason.TIMEOUT)

TEXT = 'he said "no",\nthen żółw, and\r\n= 1'


def run(*arguments: object, stdin: str = "") -> Result:
    """Run ``smok-fast buffer`` in this process."""
    strings = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, ["buffer", *strings], input=stdin, env={"COLUMNS": "120"})


def output(*arguments: object) -> str:
    """What a command prints that succeeds and has nothing to say on standard error."""
    done = run(*arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout_bytes.decode()


def refusal(*arguments: object) -> str:
    """The one line with which a command is refused."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("smok-fast: ")
    return line.removeprefix("smok-fast: ")


def exported(*arguments: object) -> list[list[str]]:
    """The rows of an export as CSV, without its header."""
    header, *rows = csv.reader(io.StringIO(output("export", *arguments), newline=""))
    assert header == ["pathpoint", "timestamp", "time", "value", "error"]
    return rows


def value(number: int) -> int:
    """The value of a sample of W1r1."""
    return number * 7919 % 65_521


def open_buffer(folder: Path, segment_bytes: int = 256 << 10, max_bytes: int = 1 << 30) -> Buffer:
    return Buffer.open(
        folder,
        durability=3600.0,
        segment_bytes=segment_bytes,
        max_bytes=max_bytes,
        reserve_bytes=0,
        trend_for=10 * 365 * 24 * 3600.0,
        memory_bytes=32 << 20,
        oldest_first=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A buffer beside its state file: several segments, of which the server has the first samples,
    and three samples that it has rejected.
    """
    folder = tmp_path / "state.buffer"
    buffer = open_buffer(folder, segment_bytes=1500)
    for number in range(COUNT):
        buffer.record("W1r1", START + number, value(number))
        if number % 10 == 0:
            buffer.record("d2", START + number, number / 7)
        if number % FRAME == FRAME - 1:
            buffer.flush()
    buffer.record("u3", START + 4000, TEXT)
    buffer.record("w4", START + 5000, TIMEOUT)
    body, token, samples, _ = buffer.next_upload(1000) or (b"", 0, 0, False)
    assert samples == sum(len(entry["values"]) for entry in minijson.loads(body)) > 10
    buffer.acknowledge(token)
    buffer.close()
    quarantine = Quarantine(folder / "quarantine.sqlite", clock=lambda: START / 1000)
    quarantine.add(
        [
            {"path": "W9", "values": [[START, 5], [False, START + 1, "timeout"]]},
            {"path": "u8", "values": [[START, TEXT]]},
        ],
        "no such pathpoint",
    )
    quarantine.close()
    return folder


def segments(folder: Path) -> list[Path]:
    """The segments, oldest first."""
    return sorted(folder.glob("trend-*.segment"))


def change_a_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def cut_off(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_program(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


# --- The folder -----------------------------------------------------------------------------------

COMMANDS = [
    ("stat",),
    ("verify",),
    ("export",),
    ("quarantine",),
    ("quarantine", "list"),
    ("quarantine", "export"),
    ("quarantine", "retry"),
    ("quarantine", "delete"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_where_there_is_no_buffer_that_is_one_line_of_error(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    missing = tmp_path / "state"
    assert refusal(*command, missing).endswith(
        "state: there is no such folder, nor a folder state.buffer beside it"
    )
    missing.write_bytes(b"a state file without a buffer")
    assert "there is no such folder" in refusal(*command, missing)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refusal(*command, empty) == f"{empty}: there is no buffer in this folder"
    (empty / "notes.txt").write_text("of somebody else")
    assert "there is no buffer in this folder" in refusal(*command, empty)
    assert [path.name for path in empty.iterdir()] == ["notes.txt"]


def test_the_state_file_stands_for_the_buffer_beside_it(folder: Path) -> None:
    state = folder.with_name("state")
    by_name = output("stat", state, "--json")
    state.write_bytes(b"")
    assert by_name == output("stat", folder, "--json") == output("stat", state, "--json")


def test_a_buffer_without_samples_is_none_the_less_one(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    open_buffer(folder).close()
    figures = json.loads(output("stat", folder, "--json"))
    assert figures["samples"] == figures["segments"] == 0
    assert figures["oldest"] is figures["newest"] is figures["bytes_per_sample"] is None
    assert figures["pathpoints"] == []
    assert "oldest            -" in output("stat", folder)
    assert "There is no damage." in output("verify", folder)
    assert exported(folder) == []
    assert "The server has rejected nothing." in output("quarantine", folder)


def test_nothing_in_the_folder_is_changed(folder: Path) -> None:
    change_a_byte(segments(folder)[1], 1000)
    cut_off(segments(folder)[-1], 3)
    before = snapshot(folder)
    for command in (("stat",), ("verify",), ("export",), ("quarantine",), ("quarantine", "export")):
        run(*command, folder)
    assert snapshot(folder) == before


# --- stat -----------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_buffer(folder: Path) -> None:
    (folder / "trend-1-2.damaged").write_bytes(bytes(77))
    figures = json.loads(output("stat", folder, "--json"))
    pathpoints = figures.pop("pathpoints")
    pending = figures.pop("pending")
    size = sum(path.stat().st_size for path in segments(folder))
    assert figures == {
        "folder": str(folder),
        "segments": len(segments(folder)),
        "bytes": size,
        "samples": SAMPLES,
        "bytes_per_sample": round(size / SAMPLES, 3),
        "oldest": START,
        "newest": START + 5000,
        "quarantined": 3,
        "damaged_files": 1,
        "damaged_bytes": 77,
    }
    assert len(segments(folder)) > 2
    assert [tuple(row.values()) for row in pathpoints] == [
        ("W1r1", COUNT, pathpoints[0]["pending"], START, START + COUNT - 1),
        ("d2", COUNT // 10, pathpoints[1]["pending"], START, START + COUNT - 10),
        ("u3", 1, 1, START + 4000, START + 4000),
        ("w4", 1, 1, START + 5000, START + 5000),
    ]
    assert sum(row["pending"] for row in pathpoints) == pending
    reader = Buffer.look_at(folder)
    assert reader.statistics()["pending"] == pending < SAMPLES - 10


def test_figures_are_shown_to_people(folder: Path) -> None:
    shown = output("stat", folder)
    rows = {line[:18].strip(): line[18:].split() for line in shown.splitlines()}
    assert rows["samples"] == ["3,302"]
    assert rows["oldest"] == ["2026-01-02", "03:04:05"]
    assert rows["newest"] == ["2026-01-02", "03:04:10"]
    assert rows["quarantined"] == ["3", "samples"]
    table = shown.splitlines()[-5:]
    assert table[0].split() == ["pathpoint", "samples", "pending", "first", "last"]
    assert [row.split()[:2] for row in table[1:]] == [
        ["W1r1", "3,000"], ["d2", "300"], ["u3", "1"], ["w4", "1"]
    ]  # fmt: skip


def test_a_limit_bounds_the_table_but_not_json(folder: Path) -> None:
    shown = output("stat", folder, "--limit", 1).splitlines()
    assert shown[-2].split()[0] == "W1r1"
    assert shown[-1] == "and 3 more pathpoints (--limit)"
    assert "pathpoint" not in output("stat", folder, "--limit", 0)
    assert len(json.loads(output("stat", folder, "--limit", 1, "--json"))["pathpoints"]) == 4


def test_a_quarantine_that_cannot_be_read_is_said_to_be(folder: Path) -> None:
    (folder / "quarantine.sqlite").write_bytes(b"this is no database at all" * 100)
    done = run("stat", folder)
    assert done.exit_code == 0
    assert "quarantine.sqlite: file is not a database" in done.stderr
    assert "unreadable" in done.stdout
    assert "3,302" in done.stdout
    assert [path.name for path in folder.glob("quarantine*")] == ["quarantine.sqlite"]


def test_controls_for_the_terminal_are_not_passed_on(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    buffer = open_buffer(folder)
    buffer.record("u\x1b[2J", START, "x")
    buffer.close()
    assert "\x1b" not in output("stat", folder)
    assert exported(folder)[0][0] == "u\x1b[2J"


# --- verify ---------------------------------------------------------------------------------------


def test_a_sound_buffer_is_said_to_be(folder: Path) -> None:
    *_, summary, verdict = output("verify", folder).splitlines()
    files = [folder / "cursor", *segments(folder)]
    size = sum(path.stat().st_size for path in files)
    assert summary.startswith(f"Read {size:,} bytes in {len(files)} files: ")
    assert summary.endswith(" frames, 3,302 samples.")
    assert verdict == "There is no damage."


def test_damage_is_said_to_be_where_it_is(folder: Path) -> None:
    second, third = segments(folder)[1:3]
    change_a_byte(second, 1000)
    change_a_byte(third, 500)
    cut_off(third, 300)  # its index and more
    done = run("verify", folder)
    assert (done.exit_code, done.stderr) == (1, "")
    *findings, summary, verdict = done.stdout.splitlines()
    assert verdict == "There is damage in 2 files."
    assert summary.startswith("Read ")
    of_second = [line for line in findings if line.startswith(f"{second.name}: ")]
    of_third = [line for line in findings if line.startswith(f"{third.name}: ")]
    assert sorted(of_second + of_third) == sorted(findings)
    damage, lost = of_second
    length, start = (int(word.replace(",", "")) for word in damage.split() if word[0].isdigit())
    assert damage.endswith("on are damaged")
    assert start <= 1000 < start + length
    assert lost.split()[2:] == ["samples", "are", "lost"]
    assert all(line.endswith("are damaged") for line in of_third)


def test_a_torn_end_is_no_damage(folder: Path) -> None:
    cut_off(segments(folder)[-1], 3)
    finding, summary, verdict = output("verify", folder).splitlines()
    assert finding.startswith(f"{segments(folder)[-1].name}: a torn end of ")
    assert finding.endswith(" bytes, which is no damage")
    assert "3,302" not in summary
    assert verdict == "There is no damage."
    with (folder / "cursor").open("ab") as cursor:
        cursor.write(b"SMKC and then the power went")
    assert "cursor: a torn end of 28 bytes, which is no damage" in output("verify", folder)


def test_a_name_that_is_lost_is_damage(folder: Path) -> None:
    for path in segments(folder)[1:]:
        path.unlink()
    path = segments(folder)[0]
    content = path.read_bytes()
    end = content.rindex(b"SMKI")  # without its index, nothing else has the names
    path.write_bytes(content[:end])
    change_a_byte(path, content.index(b"W1r1"))
    done = run("verify", folder)
    assert done.exit_code == 1
    assert "the pathpoint's name is lost" in done.stdout
    assert run("export", folder).exit_code == 1


def test_many_damaged_ranges_are_not_all_shown(folder: Path) -> None:
    buffer = open_buffer(folder)
    for number in range(40):
        buffer.record("W5", START + number, number)
        buffer.flush()
    buffer.close()
    last = segments(folder)[-1]
    content = bytearray(last.read_bytes())
    frames = [at for at in range(len(content)) if content[at : at + 4] == b"SMKD"]
    for at in frames[1:-1:2]:
        content[at + 20] ^= 1
    last.write_bytes(content)
    shown = run("verify", folder).stdout
    assert shown.count("on are damaged") == 10
    assert f"{len(frames[1:-1:2]) - 10} more ranges of bytes are damaged" in shown


AS_NOBODY = """
import os, sys
from smok_fast.cli.app import app
from typer.testing import CliRunner

os.chdir(sys.argv[1])
CliRunner().invoke(app, ["buffer", sys.argv[2], "."])  # imports what nobody may not
if os.getuid() == 0:  # who may read everything
    os.setuid(65534)
app(["buffer", sys.argv[2], "."])
"""


def test_a_file_that_cannot_be_read_is_no_reason_to_stop(folder: Path) -> None:
    (folder / "quarantine.sqlite").unlink()
    for path in folder.iterdir():
        path.chmod(0o644)
    second = segments(folder)[1]
    second.chmod(0)
    complaint = "Permission denied (os error 13)"
    done = run_program(AS_NOBODY, folder, "verify")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{second.name}: cannot be read: {complaint}\n" in done.stdout
    assert done.stdout.endswith("There is damage in 1 file.\n")
    for command, status in (("stat", 0), ("export", 1)):
        done = run_program(AS_NOBODY, folder, command)
        assert (done.returncode, done.stderr) == (
            status, f"smok-fast: {second.name}: {complaint}\n"
        )  # fmt: skip
        assert done.stdout.count("W1r1") > 0


# --- export ---------------------------------------------------------------------------------------


def test_csv_has_every_sample_in_the_order_of_recording(folder: Path) -> None:
    rows = exported(folder)
    expected: list[list[str]] = []
    for first in range(0, COUNT, FRAME):
        frame = range(first, first + FRAME)
        expected += [["W1r1", str(START + number), str(value(number)), ""] for number in frame]
        expected += [["d2", str(START + number), repr(number / 7), ""] for number in frame[::10]]
    expected += [["u3", str(START + 4000), TEXT, ""], ["w4", str(START + 5000), "", "timeout"]]
    assert [[row[0], row[1], row[3], row[4]] for row in rows] == expected
    assert rows[0][2] == "2026-01-02T03:04:05.006Z"
    assert rows[-1][2] == "2026-01-02T03:04:10.006Z"


def test_json_lines_have_the_same(folder: Path) -> None:
    lines = output("export", folder, "--format", "jsonl").splitlines()
    samples = [json.loads(line) for line in lines]
    assert len(samples) == SAMPLES
    assert samples[0] == {
        "pathpoint": "W1r1",
        "timestamp": START,
        "time": "2026-01-02T03:04:05.006Z",
        "value": 0,
        "error": None,
    }
    assert (samples[-2]["value"], samples[-2]["error"]) == (TEXT, None)
    assert (samples[-1]["value"], samples[-1]["error"]) == (None, "timeout")
    assert [str(sample["timestamp"]) for sample in samples] == [row[1] for row in exported(folder)]


def test_parquet_has_typed_columns(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "samples.parquet"
    assert output("export", folder, "--format", "parquet", "--output", path) == ""
    table = parquet.read_table(path)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "pathpoint": "string",
        "timestamp": "int64",
        "time": "timestamp[ms, tz=UTC]",
        "value": "double",
        "text": "string",
        "error": "string",
    }
    rows = table.to_pylist()
    assert [str(row["timestamp"]) for row in rows] == [row[1] for row in exported(folder)]
    assert [row["time"].timestamp() * 1000 for row in rows[:3]] == [START, START + 1, START + 2]
    contents = [(row["value"], row["text"], row["error"]) for row in rows]
    assert contents[1] == (7919.0, None, None)
    assert contents[-2:] == [(None, TEXT, None), (None, None, "timeout")]


def test_parquet_without_pyarrow_is_one_line_of_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "samples.parquet"
    assert refusal("export", folder, "--format", "parquet", "--output", path) == (
        "pyarrow is not installed; run: pip install 'smok-fast[parquet]'"
    )
    assert not path.exists()


def test_patterns_choose_pathpoints(folder: Path) -> None:
    assert {row[0] for row in exported(folder, "--pathpoint", "[uw]*")} == {"u3", "w4"}
    chosen = exported(folder, "--pathpoint", "w4", "--pathpoint", "d?")
    assert [row[0] for row in chosen] == ["d2"] * (COUNT // 10) + ["w4"]
    assert refusal("export", folder, "--pathpoint", "d2", "--pathpoint", "W1") == (
        "no pathpoint of the buffer matches W1"
    )


def test_a_name_that_looks_like_a_pattern_stands_for_itself(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    buffer = open_buffer(folder)
    for name in ("ru{u1}[::-1]", "ru{u1}:", "rW{W1}*2"):
        buffer.record(name, START, "x" if name[1] == "u" else 1)
    buffer.close()
    assert [row[0] for row in exported(folder, "--pathpoint", "ru{u1}[::-1]")] == ["ru{u1}[::-1]"]
    assert [row[0] for row in exported(folder, "--pathpoint", "rW{W1}*2")] == ["rW{W1}*2"]


@pytest.mark.parametrize(
    ("bounds", "first", "last"),
    [
        (("--from", START + 10, "--to", START + 20), 10, 20),
        (("--from", "2026-01-02T03:04:05.500Z"), 494, COUNT - 1),
        (("--from", "2026-01-02 04:04:05.500+01:00", "--to", "2026-01-02T03:04:05.501"), 494, 495),
        (("--to", "2026-01-02T03:04:05.006"), 0, 0),
        (("--from", "2026-01-02", "--to", "20260103T000000Z"), 0, COUNT - 1),
    ],
    ids=repr,
)
def test_times_bound_an_export_both_included(
    folder: Path, bounds: tuple[Any, ...], first: int, last: int
) -> None:
    rows = exported(folder, "--pathpoint", "W1r1", *bounds)
    assert [int(row[1]) for row in rows] == list(range(START + first, START + last + 1))


def test_what_is_no_time_is_refused(folder: Path) -> None:
    done = run("export", folder, "--from", "yesterday")
    assert done.exit_code == 2
    assert "yesterday is neither ISO 8601 nor milliseconds" in done.stderr
    done = run("export", folder, "--to", 10**18)
    assert done.exit_code == 1
    assert done.stderr == f"smok-fast: {10**18} is no time in milliseconds\n"


def test_times_beyond_the_calendar_have_no_iso_form(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    buffer = open_buffer(folder)
    buffer.record("W1", -(10**15), 1)
    buffer.record("W1", 10**15, 2)
    buffer.close()
    assert [row[1:] for row in exported(folder)] == [
        [str(-(10**15)), "", "1", ""], [str(10**15), "", "2", ""]
    ]  # fmt: skip
    assert f"{10**15} ms" in output("stat", folder)


def test_a_file_is_written_with_what_it_should_have(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "samples.csv"
    target.write_text("from before")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert output("export", folder, "--output", link) == ""
    assert target.read_bytes().decode() == output("export", folder)
    assert link.is_symlink()
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "link", "samples.csv", "state.buffer"
    ]  # fmt: skip


def test_what_cannot_be_written_is_one_line_of_error(folder: Path, tmp_path: Path) -> None:
    assert "No such file or directory" in refusal("export", folder, "--output", tmp_path / "a/b")
    assert "it is no file" in refusal("export", folder, "--output", "/dev/null")


INTERRUPTED = """
import os, signal, sys
from smok_fast.cli import app, buffer_export

def rows(name, samples, rows=buffer_export._rows):
    for count, row in enumerate(rows(name, samples)):
        if count == 50:
            os.kill(os.getpid(), signal.SIGINT)
        yield row

buffer_export._rows = rows
app.app(["buffer", "export", *sys.argv[1:]])
"""


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
def test_ctrl_c_leaves_what_was_there_before(folder: Path, tmp_path: Path, format_: str) -> None:
    if format_ == "parquet":
        pytest.importorskip("pyarrow")
    target = tmp_path / "samples"
    for before in (None, b"from before"):
        if before is not None:
            target.write_bytes(before)
        done = run_program(INTERRUPTED, folder, "--format", format_, "--output", target)
        assert (done.returncode, done.stdout) == (130, "")
        assert "Traceback" not in done.stderr
        assert [path.name for path in tmp_path.glob(".*")] == []
        assert (target.read_bytes() if target.exists() else None) == before


FULL = """
import resource, sys
from smok_fast.cli.app import app

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
app(["buffer", "export", *sys.argv[1:]])
"""


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
def test_a_full_disk_leaves_what_was_there_before(
    folder: Path, tmp_path: Path, format_: str
) -> None:
    if format_ == "parquet":
        pytest.importorskip("pyarrow")
    target = tmp_path / "samples"
    target.write_bytes(b"from before")
    done = run_program(FULL, folder, "--format", format_, "--output", target)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "smok-fast: File too large\n"
    assert target.read_bytes() == b"from before"
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_who_reads_may_stop_reading(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    fill(folder, 20_000)
    command = [sys.executable, "-m", "smok_fast", "buffer", "export", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"pathpoint,timestamp,time,value,error\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(LONG) == 1


def fill(folder: Path, count: int) -> None:
    """Record samples of one pathpoint, a thousand in a frame."""
    buffer = open_buffer(folder)
    for number in range(count):
        buffer.record("W1", START + number, number % 1000)
        if number % 1000 == 999:
            buffer.flush()
    buffer.close()


def test_many_samples_stream_through_little_memory(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    fill(folder, 100_000)
    target = tmp_path / "samples.csv"
    tracemalloc.start()
    try:
        assert output("export", folder, "--output", target) == ""
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20  # all of them would take 20 MiB
    with target.open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        numbers = [(int(row[1]) - START, int(row[3])) for row in rows]
    assert numbers == [(number, number % 1000) for number in range(100_000)]


def test_what_is_damaged_is_left_out_and_said_to_be(folder: Path, tmp_path: Path) -> None:
    change_a_byte(segments(folder)[1], 1000)
    target = tmp_path / "samples.csv"
    done = run("export", folder, "--output", target)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith(" bytes are damaged and were left out")
    rows = list(csv.reader(io.StringIO(target.read_bytes().decode(), newline="")))
    assert SAMPLES - 1000 < len(rows) < SAMPLES


def test_damage_in_what_is_not_wanted_is_no_matter(folder: Path) -> None:
    cut_off(segments(folder)[-1], 3)
    assert len(exported(folder, "--pathpoint", "W1r1")) == COUNT


# --- quarantine -----------------------------------------------------------------------------------


def test_rejected_samples_and_damaged_files_are_listed(folder: Path) -> None:
    (folder / "trend-1-2.damaged").write_bytes(bytes(77))
    shown = output("quarantine", folder)
    assert shown == output("quarantine", "list", folder)
    header, *rows, damaged = shown.splitlines()
    assert header.split() == ["pathpoint", "time", "value", "reason"]
    assert [row.split()[:4] for row in rows[:2]] == [
        ["W9", "2026-01-02", "03:04:05", "5"], ["W9", "2026-01-02", "03:04:05", "timeout"]
    ]  # fmt: skip
    assert rows[0].rstrip().endswith("no such pathpoint")
    assert rows[2].split()[0] == "u8"
    assert damaged == "damaged: trend-1-2.damaged, 77 bytes"


def test_a_limit_bounds_the_list(folder: Path) -> None:
    *_, last = output("quarantine", folder, "--limit", 1).splitlines()
    assert last == "and 2 more samples (--limit, or export them)"


REJECTED = [
    ("W9", START, "2026-01-02T03:04:05.006Z", 5, None),
    ("W9", START + 1, "2026-01-02T03:04:05.007Z", None, "timeout"),
    ("u8", START, "2026-01-02T03:04:05.006Z", TEXT, None),
]


def test_rejected_samples_as_json(folder: Path) -> None:
    (folder / "trend-1-2.damaged").write_bytes(bytes(77))
    found = json.loads(output("quarantine", folder, "--json"))
    assert found["damaged_files"] == [{"name": "trend-1-2.damaged", "bytes": 77}]
    names = ("pathpoint", "timestamp", "time", "value", "error")
    rest = {
        "reason": "no such pathpoint",
        "rejected_at": "2026-01-02T03:04:05.006Z",
        "is_wanted": False,
    }
    assert found["samples"] == [{**dict(zip(names, row, strict=True)), **rest} for row in REJECTED]


def test_rejected_samples_are_exported(folder: Path, tmp_path: Path) -> None:
    lines = output("quarantine", "export", folder).splitlines()
    assert [tuple(json.loads(line).values())[:5] for line in lines] == REJECTED
    target = tmp_path / "rejected.csv"
    output("quarantine", "export", folder, "--format", "csv", "--output", target)
    header, *rows = csv.reader(io.StringIO(target.read_bytes().decode(), newline=""))
    assert header == [
        "pathpoint", "timestamp", "time", "value", "error", "reason", "rejected_at"
    ]  # fmt: skip
    assert [tuple(row[:5]) for row in rows] == [
        tuple("" if cell is None else str(cell) for cell in row) for row in REJECTED
    ]


def test_more_than_a_page_of_rejected_samples_is_exported(folder: Path) -> None:
    device = Quarantine(folder / "quarantine.sqlite")
    device.add([{"path": "W7", "values": [[number, 1] for number in range(2500)]}], "too many")
    lines = output("quarantine", "export", folder).splitlines()
    stamps = [json.loads(line)["timestamp"] for line in lines]
    assert stamps[:2500] == list(range(2500))
    assert len(stamps) == 2503


def test_a_running_device_tries_again_what_it_is_told_to(folder: Path) -> None:
    device = Quarantine(folder / "quarantine.sqlite")
    assert device.next_upload() is None
    assert output("quarantine", "retry", folder, "--pathpoint", "W9") == (
        "2 samples will be uploaded again.\n"
    )
    device.refresh()
    upload = device.next_upload()
    assert upload is not None
    assert upload.to_json() == [
        {"path": "W9", "values": [[START, 5], [False, START + 1, "timeout"]]}
    ]
    assert output("quarantine", folder).count("(to be tried again)") == 2
    upload.acknowledge()
    assert output("quarantine", "retry", folder) == "1 sample will be uploaded again.\n"
    device.refresh()
    upload = device.next_upload()
    assert upload is not None
    upload.acknowledge()
    assert refusal("quarantine", "retry", folder) == "the quarantine is empty"


def test_an_unknown_pathpoint_has_nothing_to_retry_or_delete(folder: Path) -> None:
    assert refusal("quarantine", "retry", folder, "--pathpoint", "W1") == (
        "no sample of W1 is in the quarantine"
    )
    assert refusal("quarantine", "delete", folder, "--pathpoint", "W1", "--yes") == (
        "there is nothing to delete"
    )


def test_deleting_asks_first(folder: Path) -> None:
    for answer in ("n\n", ""):
        done = run("quarantine", "delete", folder, stdin=answer)
        assert done.exit_code == 1
        assert "Deleted" not in done.stdout
        assert done.stderr.startswith("Delete 3 samples that the server does not have? [y/N]:")
        assert len(Quarantine(folder / "quarantine.sqlite")) == 3
    done = run("quarantine", "delete", folder, "--pathpoint", "W9", stdin="y\n")
    assert done.exit_code == 0
    assert done.stdout.endswith("Deleted 2 samples.\n")
    assert output("quarantine", "delete", folder, "--yes") == "Deleted 1 sample.\n"
    assert len(Quarantine(folder / "quarantine.sqlite")) == 0


@pytest.mark.parametrize("command", [(), ("export",), ("retry",), ("delete", "--yes")], ids=repr)
def test_a_damaged_quarantine_is_one_line_of_error_and_left_alone(
    folder: Path, command: tuple[str, ...]
) -> None:
    path = folder / "quarantine.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    before = snapshot(folder)
    assert "file is not a database" in refusal("quarantine", *command, folder)
    assert snapshot(folder) == before


# --- A device that is running ---------------------------------------------------------------------

WRITER = f"""
import sys, threading
from smok_fast._core import Buffer

buffer = Buffer.open(
    sys.argv[1], durability=0.001, segment_bytes=3000, max_bytes=60_000, reserve_bytes=0,
    trend_for=1e9, memory_bytes=1 << 20, oldest_first=True,
)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
number = 0
while not stop.is_set():
    for number in range(number, number + 50):
        buffer.record("W1", {START} + number, number * 7919 % 65_521)
        buffer.record("d2", {START} + number, number / 7)
    number += 1
    if number % 1000 == 0:
        buffer.flush()
        upload = buffer.next_upload(10_000)
        buffer.acknowledge(upload[1])
    if number == 20_000:
        print("many segments have come and gone", flush=True)
buffer.close()
"""


@contextlib.contextmanager
def running_writer(folder: Path) -> Iterator[None]:
    """Another process that records, commits, uploads and forgets all the time."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith(b"many segments")
            yield
        finally:
            process.stdin.close()
            process.wait(LONG)
    assert process.returncode == 0


def test_a_buffer_that_is_being_written_is_looked_at_in_peace(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    with running_writer(folder):
        newest = 0
        for _ in range(20):
            assert "There is no damage." in output("verify", folder)
            figures = json.loads(output("stat", folder, "--json"))
            assert figures["newest"] >= newest
            newest = figures["newest"]
            assert figures["samples"] > 1000
            rows = exported(folder, "--pathpoint", "W1")
            stamps = [int(row[1]) - START for row in rows]
            assert stamps == sorted(set(stamps))
            assert [int(row[3]) for row in rows] == [value(stamp) for stamp in stamps]
            assert stamps[-1] >= 20_000 - 2000
    assert "There is no damage." in output("verify", folder)
    device = open_buffer(folder)
    assert device.report()["problems"] == []
    device.close()


# --- Progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "what"), [(["verify"], "Reading"), (["export", "--output"], "Exporting")]
)
def test_long_work_shows_how_far_it_is_to_who_watches(
    folder: Path, tmp_path: Path, command: list[str], what: str
) -> None:
    arguments = [command[0], str(folder), *command[1:]]
    if "--output" in command:
        arguments.append(str(tmp_path / "samples.csv"))
    watcher, terminal = pty.openpty()
    with os.fdopen(watcher, "rb", buffering=0) as screen:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "smok_fast", "buffer", *arguments],
                stdout=subprocess.PIPE,
                stderr=terminal,
                timeout=LONG,
                check=False,
                env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
            )
        finally:
            os.close(terminal)
        assert done.returncode == 0
        shown = b""
        with contextlib.suppress(OSError):  # what a terminal gives when nobody writes to it
            while piece := screen.read(4096):
                shown += piece
    assert what.encode() in shown
    assert b"\x1b" not in done.stdout
