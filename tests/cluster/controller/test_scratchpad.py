"""The scratchpad: proposers' notes and people's lines in one bounded, versioned file."""

from pathlib import Path

import pytest

from cluster.controller.scratchpad import MOST_BYTES, Scratchpad


@pytest.fixture
def make_pad(study, tmp_path: Path):
    def make(limit: int = 12_000) -> Scratchpad:
        path = tmp_path / "scratchpad.md"
        return Scratchpad(path, study.repository, limit, clock=lambda: 1e9)

    return make


def test_a_note_is_one_dated_printable_line_and_a_version_in_git(make_pad, study) -> None:
    pad = make_pad()
    pad.add("claude", "\x1b[31mwarmup\x1b[0m\nhelps\x07")
    assert pad.read() == "- 2001-09-09 01:46 [claude] warmup helps"
    pad.add("claude", "again")
    shown = study.git("show", "refs/incumbent/mar5/scratchpad:scratchpad.md")
    assert shown.splitlines() == pad.read().splitlines()
    assert study.git("rev-list", "--count", "refs/incumbent/mar5/scratchpad") == "2"


def test_old_notes_fold_into_one_line_and_peoples_lines_stay(make_pad, tmp_path: Path) -> None:
    path, line = tmp_path / "scratchpad.md", "Never touch\x0c the tokenizer.\r\n"
    path.write_bytes(line.encode())
    pad = make_pad(600)
    for number in range(40):
        pad.add("claude", f"note number {number}")
    text = pad.read()
    assert len(text) <= 600
    assert path.read_bytes().startswith(line.encode())
    assert text.count("older notes of proposers are in version") == 1
    assert "note number 39" in text


@pytest.mark.parametrize("kind", ["link", "huge"])
def test_what_is_no_small_regular_file_is_neither_read_nor_replaced(
    make_pad, tmp_path: Path, kind: str
) -> None:
    path, secret = tmp_path / "scratchpad.md", tmp_path / "secret"
    secret.write_text("secret")
    if kind == "link":
        path.symlink_to(secret)
    else:
        path.write_bytes(b"x" * (MOST_BYTES + 1))
    pad = make_pad()
    pad.add("claude", "a note")
    assert pad.read() == ""
    assert path.is_symlink() == (kind == "link")
    assert secret.read_text() == "secret"
