"""What texts to the tuner mean, and what they make of a constant's space."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposer.config import SpaceConfig, TunerConfig
from proposer.constants import read_constants
from proposer.hinted_space import hinted_space
from proposer.proposal import Scalar
from proposer.ranges import choose_space
from proposer.space import Choices, Interval, Lattice, Mirrored, Powers, Space
from proposer.tuner_hints import MOST_POINTS, WantedChoices, WantedRange, read_hints

TEXT = """\
LR = 3e-4
DEPTH = 8
BATCH = 2**10
BETAS = (0.9, 0.95)
DROPOUT = 0.1
SHIFT = -15.0
MODE = "a"  # choices: a, b, c
FLAG = True
STEPS = 8  # range: 4..16
"""
KNOBS = read_constants({"train.py": TEXT})


@pytest.mark.parametrize(
    "text",
    [
        "suggest LR in [1e-4, 3e-3]",
        "Suggest lr IN [ 0.0001 ,0.003 ]",
        "LR in [1e-4,3e-3].",
        "  lr = [1e-4, 3e-3] ",
    ],
)
def test_a_range_is_read_whatever_its_case_and_spaces(text: str) -> None:
    assert read_hints([text], KNOBS).wanted == {"LR": WantedRange(low=1e-4, high=3e-3)}


def test_choices_and_elements_of_tuples_and_powers_are_read() -> None:
    found = read_hints(
        ["suggest DEPTH in {8, 10,12}; suggest BETAS[1] in [0.9, 0.99] log\nMODE: {'b'}",
         "BATCH in [2**9, 2**12]"], KNOBS)  # fmt: skip
    assert found.problems == ()
    assert found.wanted == {
        "DEPTH": WantedChoices(values=(8, 10, 12)),
        "BETAS[1]": WantedRange(low=0.9, high=0.99, log=True),
        "MODE": WantedChoices(values=("b",)),
        "BATCH": WantedRange(low=512, high=4096),
    }


@pytest.mark.parametrize(
    "text", ["try LR=0.001 DEPTH=10", "Try first: lr = 1e-3, depth=10", "first LR=1e-3,DEPTH = 10"]
)
def test_points_to_try_are_read(text: str) -> None:
    assert read_hints([text], KNOBS).points == ({"LR": 0.001, "DEPTH": 10},)


def test_the_latest_range_wins_and_points_are_bounded() -> None:
    texts = ["LR in [1e-4, 1e-3]", "LR in {1e-3}", *(f"try DEPTH={n}" for n in range(1, 40))]
    found = read_hints(texts, KNOBS)
    assert found.wanted == {"LR": WantedChoices(values=(1e-3,))}
    assert [point["DEPTH"] for point in found.points] == list(range(40 - MOST_POINTS, 40))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("make it better", "not understood; write suggest LR in"),
        ("suggest LRR in [1, 2]", "no constant LRR; did you mean LR"),
        ("suggest LR in [2, 1]", "2 is not below 1"),
        ("suggest LR in [a, 1]", "'a' is not a number"),
        ("suggest LR in [2**99999, 1]", "is not a number"),
        ("suggest LR in [nan, 1]", "'nan' is not a finite number"),
        ("suggest LR in [-1, 1] log", "a logarithmic range starts above 0"),
        ("suggest MODE in [1, 2]", 'MODE is "a", no number; give choices in braces'),
        ("suggest DEPTH in {1.5, x}", "DEPTH is 8 now"),
        ("try LR=fast", "LR is 3e-4 now"),
        ("try LR", "'LR' is not of the form NAME=VALUE"),
        ("try LR=inf", "finite"),
        ("suggest DEPTH in {,}", "no choices"),
        ("x" * 500, "longer than 400"),
    ],
)
def test_what_is_not_understood_gets_a_reason(text: str, reason: str) -> None:
    (problem,) = read_hints([text], KNOBS).problems
    assert reason in problem


def space(text: str, **config: object) -> Space:
    settings = TunerConfig.model_validate(config)
    found = read_hints([text], KNOBS)
    assert found.problems == ()
    ((name, wanted),) = found.wanted.items()
    usual = choose_space(KNOBS[name], settings)
    assert usual is not None
    return hinted_space(KNOBS[name], usual, wanted, settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LR in [1e-4, 3e-3]", Interval(low=1e-4, high=3e-3, log=True)),
        ("LR in [-1, 1]", Interval(low=3e-7, high=0.3, log=True)),
        ("DEPTH in [6, 40]", Lattice(low=6, step=1, count=35)),
        ("DEPTH in {8, 10, 12}", Choices(values=(8, 10, 12))),
        ("DEPTH in {-3, 10}", Choices(values=(10, 8))),
        ("BATCH in [300, 5000]", Powers(low=9, high=12)),
        ("BATCH in [1000, 1500]", Lattice(low=1000, step=1, count=501)),
        ("BETAS[1] in [0.9, 0.99]", Interval(low=0.01, high=0.1, log=True, from_one=True)),
        ("DROPOUT in [0, 7]", Interval(low=0.0, high=1 - 1e-6)),
        ("SHIFT in [-20, -10]", Mirrored(of=Interval(low=10, high=20))),
        ("MODE in {b, z}", Choices(values=("b", "a"))),
        ("STEPS in [6, 99]", Lattice(low=6, step=1, count=11)),  # a person's range holds
    ],
)
def test_a_hint_moves_a_range_within_what_is_sane(text: str, expected: Space) -> None:
    assert space(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("LR in [100, 200]", "LR: stays within 3e-07 and 0.3"),
        ("DEPTH in {-1}", "DEPTH: none of it may be tried beside 8"),
        ("STEPS in [20, 30]", "STEPS: stays within 4 and 16"),
        ("FLAG in {True}", "FLAG: none of it may be tried beside True"),
        ("DEPTH in [8.2, 8.8]", "DEPTH: fewer than two values"),
    ],
)
def test_a_hint_that_leaves_nothing_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        space(text)


def test_a_pin_of_the_configuration_can_only_be_narrowed() -> None:
    pin = {"LR": SpaceConfig(low=1e-4, high=1e-3, log=True)}
    assert space("LR in [1e-5, 5e-4]", space=pin) == Interval(low=1e-4, high=5e-4, log=True)


@pytest.mark.parametrize("value", [2**53 - 1, 2**53, -(2**53)])
def test_the_largest_numbers_that_floats_hold_do_no_harm(value: Scalar) -> None:
    knobs = read_constants({"train.py": f"WIDTH = {value}\n"})
    usual = choose_space(knobs["WIDTH"], TunerConfig())
    assert usual is None or usual.contains(value)


NUMBERS = st.one_of(
    st.floats().map(repr), st.integers(-(10**20), 10**20).map(str), st.sampled_from(["a", "2**9"])
)
CLAUSES = st.one_of(
    st.builds("{} in [{}, {}]".format, st.sampled_from(sorted(KNOBS)), NUMBERS, NUMBERS),
    st.builds("{} in {{{}, {}}}".format, st.sampled_from(sorted(KNOBS)), NUMBERS, NUMBERS),
    st.builds("try {}={}".format, st.sampled_from(sorted(KNOBS)), NUMBERS),
    st.text(alphabet="LR in[]{}=,.;0-19e*tryT \n\t\x00", max_size=40),
)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(CLAUSES, max_size=4))
def test_no_text_does_harm(texts: list[str]) -> None:
    found, config = read_hints(texts, KNOBS), TunerConfig()
    for name, wanted in found.wanted.items():
        usual = choose_space(KNOBS[name], config)
        assert usual is not None
        try:
            hinted = hinted_space(KNOBS[name], usual, wanted, config)
        except ValueError:
            continue
        assert hinted.axis.low < hinted.axis.high
        for at in (hinted.axis.low, hinted.axis.high):
            end = hinted.decode(at)
            assert type(end) is type(KNOBS[name].value)
            KNOBS[name].spell(end)
    for point in found.points:
        for name, value in point.items():
            KNOBS[name].spell(value)
