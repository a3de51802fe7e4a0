import fcntl
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metric import Goal, Metric, MetricReader
from trainer.log_capture import (
    HEAD_BYTES,
    TAIL_BYTES,
    LogCapture,
    LogFile,
    OutputScanner,
    as_shown,
    is_open_log,
    parse_points,
    printable,
    required_text,
)

METRIC = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)")
KARPATHY = (
    "step 00953 (100.0%) | loss: 2.345678 | lrm: 0.01 | dt: 325ms | tok/sec: 1,612,345 | "
    "mfu: 39.8% | epoch: 1 | remaining: 0s    "
)


def capture(path, *chunks, metric=METRIC):
    log = LogCapture(str(path), metric)
    for chunk in chunks:
        log.feed(chunk)
    log.close()
    return log


# The file


def test_a_file_below_the_cap_holds_everything_at_once(tmp_path):
    log = LogFile(str(tmp_path / "log"), head_bytes=4, tail_bytes=4)
    log.write(b"abc")
    assert (tmp_path / "log").read_bytes() == b"abc"
    log.write(b"defgh")
    assert (tmp_path / "log").read_bytes() == b"abcdefgh"
    assert log.dropped == 0
    log.close()
    assert (tmp_path / "log").read_bytes() == b"abcdefgh"


def test_a_file_above_the_cap_holds_head_count_and_tail(tmp_path):
    log = LogFile(str(tmp_path / "log"), head_bytes=4, tail_bytes=4)
    for chunk in (b"ab", b"cdefg", b"hijklmnopqrstuvwx", b"yz"):
        log.write(chunk)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"abcd\n[... 18 bytes dropped ...]\nwxyz"
    assert (log.total, log.dropped) == (26, 18)


def test_a_flush_shows_the_tail_while_the_trial_runs(tmp_path):
    log = LogFile(str(tmp_path / "log"), head_bytes=2, tail_bytes=3)
    log.write(b"abcdef")
    log.flush()
    assert (tmp_path / "log").read_bytes() == b"ab\n[... 1 bytes dropped ...]\ndef"
    log.write(b"g" * 100_000)
    log.flush()
    assert (tmp_path / "log").read_bytes() == b"ab\n[... 100001 bytes dropped ...]\nggg"
    log.close()


@given(st.lists(st.binary(max_size=20)), st.integers(1, 9), st.integers(1, 9))
def test_head_and_tail_are_exact_however_the_stream_is_cut(tmp_path_factory, chunks, head, tail):
    path = tmp_path_factory.mktemp("log") / "log"
    log = LogFile(str(path), head_bytes=head, tail_bytes=tail)
    for chunk in chunks:
        log.write(chunk)
    log.close()
    whole = b"".join(chunks)
    dropped = len(whole) - head - tail
    if dropped > 0:
        gap = b"\n[... %d bytes dropped ...]\n" % dropped
        assert path.read_bytes() == whole[:head] + gap + whole[-tail:]
    else:
        assert path.read_bytes() == whole


def test_an_existing_log_is_replaced_but_a_link_is_not_followed(tmp_path):
    (tmp_path / "log").write_text("old")
    LogFile(str(tmp_path / "log")).close()
    assert (tmp_path / "log").read_bytes() == b""
    (tmp_path / "link").symlink_to("log")
    with pytest.raises(OSError, match="symbolic links"):
        LogFile(str(tmp_path / "link"))


def test_what_a_trial_planted_for_the_next_log_is_neither_waited_for_nor_emptied(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        LogFile(str(tmp_path / "pipe"))
    (tmp_path / "thesis").write_text("years of work")
    os.link(tmp_path / "thesis", tmp_path / "log")
    with pytest.raises(OSError, match="second name"):
        LogFile(str(tmp_path / "log"))
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_a_log_is_known_to_be_open_until_it_is_closed(tmp_path):
    path = tmp_path / "e1.1.log"
    assert not is_open_log(path)
    file = LogFile(str(path))
    assert is_open_log(path)
    file.close()
    assert not is_open_log(path)


def test_a_lock_of_a_stranger_on_a_log_keeps_nobody_from_writing(tmp_path):
    path = tmp_path / "e1.1.log"
    with path.open("w") as planted:
        fcntl.flock(planted, fcntl.LOCK_EX)
        file = LogFile(str(path))
        file.write(b"loss: 1\n")
        file.close()
    assert path.read_bytes() == b"loss: 1\n"


def test_numbers_are_kept_only_if_they_can_be_written_down_and_subtracted(tmp_path):
    log = capture(tmp_path / "log", b"a: 1e999\nb: -1e101\nc: 1e100\na: 2\na: 1e999\n")
    assert log.reader.summary == {"c": 1e100, "a": 2.0}


def test_a_full_disk_is_remembered_and_reading_goes_on():
    log = capture("/dev/full", b"hello\n", b"val_bpb: 0.5\n")
    assert "No space left" in str(log.file.problem)
    assert log.reader.text == "0.5"
    assert log.file.total == len(b"hello\nval_bpb: 0.5\n")


# Metric and summary


def test_the_last_metric_counts(tmp_path):
    log = capture(tmp_path / "log", b"val_bpb: 0.9\nval_bpb: 0.8\n")
    assert (log.reader.text, log.reader.count) == ("0.8", 2)


def test_a_metric_without_a_line_end_counts(tmp_path):
    assert capture(tmp_path / "log", b"val_bpb: ", b"0.7").reader.text == "0.7"


def test_a_carriage_return_ends_a_line(tmp_path):
    log = capture(tmp_path / "log", b"\rstep 1\rstep 2\rval_bpb: 0.6\r\npeak_vram_mb: 12.5\r\n")
    assert log.reader.text == "0.6"
    assert log.reader.summary == {"peak_vram_mb": 12.5}


def test_undecodable_bytes_hurt_nobody(tmp_path):
    log = capture(tmp_path / "log", b"\xff\xfe\x00\n\xc3", b"\nval_bpb: 0.5\n\xed\xa0\x80")
    assert log.reader.text == "0.5"
    assert log.tail().isprintable() is False  # it keeps its line ends
    assert printable(log.tail()).isprintable()


@pytest.mark.parametrize("pattern", [r"^val_bpb:\s+(\S+)", r"(?i)^VAL_bpb:\s+(\S+)"])
def test_the_metric_is_found_in_the_dropped_middle_across_chunks(tmp_path, pattern):
    metric = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=pattern)
    filler = b"x" * 79 + b"\n"
    block = filler * (HEAD_BYTES // len(filler))
    log = capture(
        tmp_path / "log",
        block,
        block + b"val_b",
        b"pb: 0.123\n" + block,
        block,
        b"note: 1\n" + block,
        block + b"total_tokens_M: 499.6\n",
        metric=metric,
    )
    assert log.file.dropped > 0
    assert (log.reader.text, log.reader.count) == ("0.123", 1)
    assert log.reader.summary["total_tokens_M"] == 499.6
    assert b"val_bpb" not in (tmp_path / "log").read_bytes()
    size = (tmp_path / "log").stat().st_size
    assert HEAD_BYTES + TAIL_BYTES < size < HEAD_BYTES + TAIL_BYTES + 100


def test_only_the_first_4_kib_of_a_line_are_searched(tmp_path):
    metric = Metric(name="m", goal=Goal.MINIMIZE, pattern=r"m=(\d)")
    seen = capture(tmp_path / "log", b"x" * 4000 + b"m=1" + b"y" * 9000 + b"m=2\n", metric=metric)
    assert (seen.reader.text, seen.reader.count) == ("1", 1)
    unseen = capture(tmp_path / "log", b"x" * 5000, b"x" * 200_000, b"m=3\nm=4", metric=metric)
    assert (unseen.reader.text, unseen.reader.count) == ("4", 1)


@given(
    st.text(st.sampled_from("vm=: 1.\r\nxé|")).map(lambda text: text.replace("v", "val=1")),
    st.integers(1, 7),
    st.sampled_from([r"val=(\d)", r"^val=(\d)$", r"(?i)VAL=(\d)", r"m(=)|(1)", r"x*m+\s?(=)"]),
)
def test_skipping_lines_loses_no_metric(text, size, pattern):
    metric = Metric(name="m", goal=Goal.MINIMIZE, pattern=pattern)
    expected = MetricReader(metric)
    for line in re.split(r"[\r\n]", text):
        expected.feed(line)
    scanner = OutputScanner(metric, careful_bytes=0)
    raw = text.encode()
    for at in range(0, len(raw), size):
        scanner.feed(raw[at : at + size])
    scanner.finish()
    assert (scanner.reader.text, scanner.reader.count) == (expected.text, expected.count)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^val_bpb:\s+(\S+)", "val_bpb:"),
        (r"^val loss = (\d+)", "val loss = "),
        (r">>> val_metric \(.*\): (\S+)", ">>> val_metric ("),
        (r"\bacc\b\s*:\s*([\d.]+)%", "acc"),
        (r"ab*c?d+ef(\d)", "ef"),
        (r"x{3}long(\d)", ""),
        (r"(?i)val: (\d)", ""),
        (r"val: (\d)|other", ""),
        (r"(?x) v a l (\d)", ""),
        (r"(\d+)$", ""),
        (r"\x41bcdef(\d)", ""),
        (r"né: (\d)", ""),
        ("a\nb(.)", ""),
    ],
)
def test_the_text_that_a_pattern_requires(pattern, text):
    assert required_text(pattern) == text


@given(st.data())
def test_every_match_holds_the_required_text(data):
    atoms = st.sampled_from(
        ["a", "b", "-", " ", r"\.", r"\s", r"\d", ".", "[ab]", "(?:ab)", "x{2}", r"\b", r"\\"]
    )
    quantified = st.tuples(atoms, st.sampled_from(["", "", "", "?", "*", "+", "*?", "+?", "{2}"]))
    pieces = data.draw(st.lists(quantified.filter(lambda each: each[0] != r"\b" or not each[1])))
    pattern = "".join(atom + quantifier for atom, quantifier in pieces).replace("x{2}", "xx")
    try:
        re.compile(pattern)
    except re.error:
        return
    assert required_text(pattern) in data.draw(st.from_regex(pattern))


# What a person sees


def test_points_of_an_autoresearch_progress_line():
    assert parse_points(KARPATHY) == {
        "step": 953,
        "percent": 100.0,
        "loss": 2.345678,
        "lrm": 0.01,
        "dt": 325,
        "tok/sec": 1612345,
        "mfu": 39.8,
        "epoch": 1,
        "remaining": 0,
    }


@pytest.mark.parametrize(
    ("line", "points"),
    [
        ("loss=1.5 lr=3e-4", {"loss": 1.5, "lr": 3e-4}),
        ("val_bpb:          0.997900", {"val_bpb": 0.9979}),
        (" 45%|####  | 45/100 [00:10<00:12, loss=-.5]", {"percent": 45, "loss": -0.5}),
        ("Epoch 3/10, acc 0.91", {"Epoch": 3, "acc": 0.91}),
        ("iter 250: loss 1.75, lr=0.1", {"iter": 250, "loss": 1.75, "lr": 0.1}),
        ("loss: nan, a: inf, b: 1e999", {}),
        ("commit: 123abcdef took 3 minutes at 12:30", {}),
        ("saved v1.2.3 to /tmp/x", {}),
        ("loss: 1 loss: 2", {"loss": 2}),
        ("", {}),
    ],
)
def test_points_of_other_lines(line, points):
    assert parse_points(line) == points


def test_points_of_a_line_of_digits_are_told_at_once():
    """It took a second of the supervisor's, twenty times a second, with each digit as a start."""
    began = time.thread_time()
    assert parse_points("1" * 4096) == {}
    assert parse_points("a: " + "1" * 4000 + "x") == {}
    assert time.thread_time() - began < 0.1


def test_at_most_16_points_are_read():
    assert len(parse_points(" ".join(f"n{number}={number}" for number in range(50)))) == 16


def test_the_last_line_is_the_last_that_shows_something(tmp_path):
    log = capture(tmp_path / "log", b"first\n\r\x1b[32mstep 2\x1b[0m\x07", b"\r   \r\n\x1b[K\n")
    assert log.last_line() == "step 2"


def test_the_last_line_is_cut_and_may_be_unfinished(tmp_path):
    assert capture(tmp_path / "log", b"a\n" + b"b" * 999).last_line() == "b" * 200


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
        ("a\tb\x00\x08\u202ec\x9b31md", "a bcd"),
        ("\x1b(Bx\x1b=y", "xy"),
    ],
)
def test_nothing_that_steers_a_terminal_gets_through(text, shown):
    assert printable(text) == shown


def test_progress_is_shown_as_its_last_state():
    raw = b"\rstep 1\rstep 2\rstep 3   \ndone\r\n\n\rhalf\r"
    assert as_shown(raw) == "step 3\ndone\n\nhalf"


def test_the_tail_is_text_of_bounded_length(tmp_path):
    lines = b"".join(b"line %06d\n" % number for number in range(9000))
    tail = capture(tmp_path / "log", lines).tail()
    assert len(tail) == 16384
    assert tail.endswith("line 008999\n")


def test_no_descriptor_is_left_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    capture(tmp_path / "log", b"x")
    capture("/dev/full", b"x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
