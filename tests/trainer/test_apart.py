"""Questions that a process may die of."""

import os
import time

import pytest

from trainer.apart import Unanswered, ask

HERE = "tests.trainer.test_apart"


def twice(question):
    return 2 * question


def die(_):
    os.kill(os.getpid(), 11)


def hang(_):
    time.sleep(60)


def fill(_):
    return len(bytes(1 << 30))


def babble(_):
    return "x" * (17 << 20)


def test_an_answer_comes_back() -> None:
    assert ask(f"{HERE}:twice", [1, "a"], timeout_s=30, with_packages=True) == [1, "a", 1, "a"]


@pytest.mark.parametrize(
    ("function", "timeout_s", "words"),
    [
        ("die", 30, "it died of signal 11"),
        ("hang", 0.5, "it took more than 0.5 s"),
        ("fill", 30, "it took too much memory, or failed"),
        ("babble", 30, "it took too much memory, or failed"),
        ("nobody", 30, "it took too much memory, or failed"),
    ],
)
def test_what_becomes_of_the_process_is_all_that_happens(function, timeout_s, words) -> None:
    with pytest.raises(Unanswered, match=words):
        ask(
            f"{HERE}:{function}",
            0,
            timeout_s=timeout_s,
            memory_bytes=512 << 20,
            with_packages=True,
        )
