"""What is read from a run folder's files, whole or half-written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.core.errors import UsageError
from harness.localize.base.op_record import OpRecord
from harness.report.tables import OPS_COLUMNS, LogTail, Ops, read_log, read_ops, read_samples
from harness.report.timings import timings

if TYPE_CHECKING:
    from tests.report.conftest import Make, Samples

HEADER = ",".join(OPS_COLUMNS)
LINE = "2,1,ADD,t,4x8,float32,fine,copy,0.5,0.1,0.25,0.1,2.0,0,0.999,0.75,-1.0,inf"


def test_the_columns_are_those_that_a_localization_writes() -> None:
    assert OPS_COLUMNS == OpRecord.HEADER


def test_a_line_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    swapped = ",".join(reversed(OPS_COLUMNS)), ",".join(reversed(LINE.split(",")))
    path.write_text("\n".join(swapped) + "\n")
    (row,) = read_ops(path).rows
    assert (row.number, row.op, row.shape, row.local_max, row.ratio) == ("1–2", "ADD", "4×8", 0.5, 2.0)
    assert row.device_range == (-1.0, float("inf"))


def test_no_file_is_told_from_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    assert read_ops(path) == Ops(there=False)
    path.write_text("")
    assert read_ops(path) == Ops(there=True)


@pytest.mark.parametrize("cut", range(1, len(LINE) + 1))
def test_a_last_line_that_was_cut_off_anywhere_is_left_out_and_counted(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    path.write_text(f"{HEADER}\n{LINE}\n{LINE[:cut]}")
    ops = read_ops(path)
    assert (len(ops.rows), ops.incomplete) == (1, 1)


def test_a_name_with_commas_quotes_and_line_breaks_is_read_back(make: Make, samples: Samples) -> None:
    name = 'a,"b"\nc\r\nd'
    (row,) = read_ops(make(ops=[samples.op(0, output=name)]) / "ops.csv").rows
    assert row.output == name


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (LINE.replace("fine", "splendid"), "splendid"),
        (LINE.replace("0.25", "low"), "low"),
        (LINE.replace("2,1,", "1,2,", 1), "ops 2 to 1"),
        (LINE.replace(",0,0.999", ",inf,0.999"), "line 2"),
    ],
)
def test_nonsense_is_misuse_that_names_the_line(line: str, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(UsageError, match=wrong) as caught:
        read_ops(path)
    assert "line 2" in str(caught.value)


def test_a_missing_column_is_misuse_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    path.write_text(f"{HEADER.replace('ratio', 'quotient')}\n{LINE}\n")
    with pytest.raises(UsageError, match="no column 'ratio'"):
        read_ops(path)


def test_a_file_that_cannot_be_opened_is_misuse(tmp_path: Path) -> None:
    for reader in (read_ops, read_samples, read_log):
        with pytest.raises(UsageError, match="cannot be read"):
            reader(tmp_path)


def test_samples_tell_the_first_run_from_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    runs = "".join(f"run,{i},1000,{2000 + i},{90_000 if i == 0 else 3000}\n" for i in range(4))
    path.write_text(f"phase,iteration,write_ns,run_ns,read_ns\n{runs}run,4,1000,20")
    first, later = timings(read_samples(path))
    assert (first.what, first.count, first.total) == ("First run", 1, 92_000)
    assert (later.what, later.count, later.total, later.least, later.most) == ("Later runs", 3, 5002, 5001, 5003)


def test_one_sample_is_a_first_run_and_none_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    assert timings(read_samples(path)) == ()
    path.write_text("phase,iteration,write_ns,run_ns,read_ns\nfirst,0,1,2,3\n")
    assert [t.what for t in timings(read_samples(path))] == ["First run"]


def test_the_log_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert read_log(path) == LogTail()
    path.write_text("one\ntwo\n")
    assert read_log(path) == LogTail("one\ntwo", cut=False)
    path.write_text("".join(f"line {i} {'é' * 200}\n" for i in range(5000)))
    tail = read_log(path)
    assert tail.cut
    assert tail.text.splitlines()[-1].startswith("line 4999 ")
    assert all(line.startswith("line ") for line in tail.text.splitlines())


@pytest.mark.parametrize("times", ["-1,2,3", "1,nan,3", "1,2,inf", "1,2," + "9" * 400])
def test_a_time_that_cannot_be_is_told(times: str, tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(f"phase,iteration,write_ns,run_ns,read_ns\nfirst,0,{times}\n")
    with pytest.raises(UsageError, match=r"line 2: a time of .* cannot be"):
        read_samples(path)
