"""Memory of processes, counted while they are there: bare children, without a sandbox."""

import math
import subprocess
import sys
from collections.abc import Iterator

import pytest

from trainer.process_use import ProcessUse, SharedOnce, kept_for_files, look

_MB = 1 << 20
_HOLD = """
import sys, mmap
PRIVATE_ANONYMOUS_NORESERVE, NO_HUGE_PAGES, PROT_READ = 0x4022, 15, 1
held = b"x" * (20 << 20)
mapped = mmap.mmap(-1, 16 << 30, flags=PRIVATE_ANONYMOUS_NORESERVE, prot=PROT_READ)
mapped.madvise(NO_HUGE_PAGES)
for at in range(0, 16 << 30, 2 << 20): mapped[at]
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def children() -> Iterator[tuple[int, ...]]:
    """Two processes that hold 20 MiB each, and page tables of 32 MiB of which nothing is in use."""
    started = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            assert each.stdout.readline() == b"ready\n"
        yield tuple(each.pid for each in started)
    finally:
        for each in started:
            each.communicate(b"")


def test_page_tables_count_apart_from_what_is_in_them(children: tuple[int, ...]) -> None:
    use = look(None)
    assert set(children) <= set(use.pids)
    assert use.page_table_bytes > 2 * 32 * _MB
    assert 2 * 20 * _MB < use.resident_bytes < 2 * 60 * _MB


def test_what_is_shared_is_counted_one_process_after_the_other(children: tuple[int, ...]) -> None:
    use = ProcessUse(pids=children, tasks=2, resident_bytes=0, page_table_bytes=_MB)
    count = SharedOnce(use)
    assert not count.look(0.0, math.inf)
    assert 20 * _MB < count.bytes < 40 * _MB
    assert count.look(0.0, math.inf)
    assert 40 * _MB < count.bytes < 80 * _MB


def test_counting_ends_once_it_is_too_much(children: tuple[int, ...]) -> None:
    use = ProcessUse(pids=children, tasks=2, resident_bytes=0, page_table_bytes=2 * _MB)
    count = SharedOnce(use)
    assert count.look(0.0, _MB)
    assert count.bytes == 2 * _MB


def test_files_of_our_own_user_namespace_are_nobodys(children: tuple[int, ...]) -> None:
    assert kept_for_files(children) == 0
