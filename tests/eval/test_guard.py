import pytest

from eval.guard import Guard


@pytest.mark.parametrize("value", [10.0, 15.0, 20.0])
def test_both_bounds_are_allowed_values(value: float) -> None:
    assert Guard(name="vram", low=10.0, high=20.0).breach({"vram": value}) == ""


@pytest.mark.parametrize(
    ("guard", "value", "words"),
    [
        (Guard(name="vram", high=20.0), 20.5, "vram 20.5 is above its guard's max of 20"),
        (Guard(name="mfu", low=0.3), 0.25, "mfu 0.25 is below its guard's min of 0.3"),
    ],
)
def test_a_breach_says_the_number_and_the_bound(guard: Guard, value: float, words: str) -> None:
    assert guard.breach({guard.name: value}) == words


def test_nothing_is_gained_by_silence() -> None:
    guard = Guard(name="vram", high=20.0)

    assert guard.breach({"loss": 1.0}) == "it did not print vram, which a guard is set on"
