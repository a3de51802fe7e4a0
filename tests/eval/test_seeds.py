"""Where a script's randomness comes from, and which of its numbers are seeds."""

import pytest

from eval.seeds import (
    MOST_LITERALS,
    Reseed,
    SeedHabit,
    changed_lines,
    find_literals,
    fixes_seed,
    seed_habit,
    sets_seed,
    suggested_pattern,
    with_seed,
)

PATTERN = r"manual_seed\((\d+)\)"


@pytest.mark.parametrize(
    ("text", "habit"),
    [
        ("seed = int(os.environ['INCUMBENT_SEED'])\ntorch.manual_seed(seed)", SeedHabit.TAKEN),
        ("python train.py --seed $INCUMBENT_SEED", SeedHabit.TAKEN),
        ("torch.manual_seed(42)", SeedHabit.FIXED),
        ("torch.cuda.manual_seed_all(SEED)", SeedHabit.FIXED),
        ("np.random.seed(0)", SeedHabit.FIXED),
        ("rng = np.random.default_rng(7)", SeedHabit.FIXED),
        ("split(x, y, random_state=0)", SeedHabit.FIXED),
        ("key = jax.random.PRNGKey(1)", SeedHabit.FIXED),
        ("rng = np.random.default_rng()", SeedHabit.FREE),
        ("# torch.manual_seed(42)", SeedHabit.FREE),
        ("def seed(): ...", SeedHabit.FREE),
    ],
)
def test_the_habit_is_read_off_the_text(text: str, habit: SeedHabit) -> None:
    assert seed_habit([text, "print('loss: 1')"]) is habit


@pytest.mark.parametrize(
    ("text", "found", "habit"),
    [
        ("torch.manual_seed(42)", 1, SeedHabit.WRITTEN),
        ("torch.manual_seed(42)", 0, SeedHabit.FIXED),
        ("rng = Rng(3)", 0, SeedHabit.FIXED),
        ("seed = os.environ['INCUMBENT_SEED']", 0, SeedHabit.TAKEN),
    ],
)
def test_where_a_pattern_finds_seeds_others_are_written(
    text: str, found: int, habit: SeedHabit
) -> None:
    assert seed_habit([text], literals=found) is habit


@pytest.mark.parametrize(
    ("line", "is_fixed"),
    [
        ("torch.manual_seed(1337)", True),
        ("    SEED = 7  # lucky", True),
        ("seed: int = 4", True),
        ("loader = Loader(data, random_seed=3, shuffle=True)", True),
        ("torch.manual_seed(SEED + rank)", False),
        ('SEED = int(os.environ.get("INCUMBENT_SEED", 42))', False),
    ],
)
def test_a_line_that_decides_on_a_seed_is_told_and_whether_by_a_number(
    line: str, is_fixed: bool
) -> None:
    assert sets_seed(line)
    assert fixes_seed(line) is is_fixed


@pytest.mark.parametrize(
    "line", ["LEARNING_RATE = 0.1", "# seed = 3", "if seed == 3:", "proceed = 1"]
)
def test_other_lines_are_left_in_peace(line: str) -> None:
    assert not sets_seed(line)


def test_a_patch_is_the_lines_that_went_and_those_that_came() -> None:
    before = {"a.py": "one\ntwo\ntwo\n", "b.py": "same\n"}
    after = {"a.py": "two\none\nthree\n", "b.py": "same\n"}
    assert changed_lines(before, after) == (("two",), ("three",))


def test_a_seed_is_written_in_the_place_of_the_old_one_and_nowhere_else() -> None:
    text = "x = 42\r\nmanual_seed(42); manual_seed(7)\n\tmanual_seed(x)\nmanual_seed(5)"
    found = find_literals({"train.py": text}, PATTERN)
    new, written = with_seed(text, found, 5)
    assert new == "x = 42\r\nmanual_seed(5); manual_seed(5)\n\tmanual_seed(x)\nmanual_seed(1)"
    assert written == (
        Reseed(path="train.py", line=2, old="42", new="5"),
        Reseed(path="train.py", line=2, old="7", new="5"),
        Reseed(path="train.py", line=4, old="5", new="1"),
    )


@pytest.mark.parametrize("captured", ["x", "-1", "٣", "1_000", "9" * 21])
def test_what_is_no_plain_number_is_no_seed(captured: str) -> None:
    assert find_literals({"a": f"manual_seed({captured})"}, r"manual_seed\((.*)\)") == ()


def test_what_is_found_too_often_is_no_seed() -> None:
    most = "manual_seed(1)\n" * MOST_LITERALS
    assert len(find_literals({"a": most}, PATTERN)) == MOST_LITERALS
    assert find_literals({"a": most, "b": "manual_seed(1)"}, PATTERN) == ()


@pytest.mark.parametrize(
    "line",
    [
        "torch.manual_seed(42)",
        "random.seed( 42 )",
        "SEED = 42",
        "rng = default_rng(42)",
        "f(seed=42,",
    ],
)
def test_a_pattern_is_suggested_that_finds_the_seed(line: str) -> None:
    (found,) = find_literals({"a": line}, suggested_pattern(line))
    assert found.old == "42"


@pytest.mark.parametrize("line", ["torch.manual_seed(SEED)", "DEPTH = 8", "# SEED = 42"])
def test_nothing_is_suggested_for_a_line_without_a_seed_of_its_own(line: str) -> None:
    assert suggested_pattern(line) == ""
