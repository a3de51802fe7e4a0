"""Ranges: defaults from names and values, comments, and pins of the configuration."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proposer.config import SpaceConfig, TunerConfig
from proposer.constants import read_constants
from proposer.knob import Knob
from proposer.proposal import Scalar
from proposer.ranges import check_names, choose_space, neighbours
from proposer.space import Choices, Interval, Lattice, Mirrored, Powers, Space


def knob(line: str) -> Knob:
    (found,) = read_constants({"train.py": f"{line}\n"}).values()
    return found


def space_of(line: str, **config: object) -> Space | None:
    return choose_space(knob(line), TunerConfig.model_validate(config))


def pinned(line: str, **pin: object) -> Space | None:
    name = line.partition(" ")[0]
    return choose_space(knob(line), TunerConfig(space={name: SpaceConfig.model_validate(pin)}))


def close(low: float, high: float, *, log: bool = False, from_one: bool = False) -> Interval:
    low, high = pytest.approx(low), pytest.approx(high)
    return Interval(low=low, high=high, log=log, from_one=from_one)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # rates: the order of magnitude is in question
        ("EMBEDDING_LR = 0.6", close(0.06, 6, log=True)),
        ("LR = 1.0", close(0.1, 10, log=True)),
        ("WEIGHT_DECAY = 0.2", close(0.02, 2, log=True)),
        ("ADAM_EPS = 1e-10", close(1e-11, 1e-9, log=True)),
        ("INIT_STD = 0.02", close(0.002, 0.2, log=True)),
        # fractions stay in (0, 1)
        ("DROPOUT = 0.1", close(0.025, 0.4)),
        ("WARMDOWN_RATIO = 0.5", close(0.125, 0.875)),
        ("MOMENTUM = 0.5", close(0.125, 0.875)),
        # exponential averages, by their distance to 1
        ("BETA2 = 0.95", close(0.005, 0.5, log=True, from_one=True)),
        ("EMA_DECAY = 0.999", close(0.0001, 0.01, log=True, from_one=True)),
        ("KEEP_PROB = 0.9", close(0.01, 0.5, log=True, from_one=True)),
        # zeros
        ("WARMUP_RATIO = 0.0", close(0, 0.5)),
        ("DROPOUT = 0.0", close(0, 0.5)),
        ("WEIGHT_DECAY = 0.0", close(0, 0.1)),
        # other floats
        ("SOFTCAP = 15.0", close(7.5, 30)),
        ("MLP_RATIO = 4.0", close(2, 8)),
        ("SHIFT = -15.0", Mirrored(of=close(7.5, 30))),
        ("SHIFT = -0.01", Mirrored(of=close(0.001, 0.1, log=True))),
        # integers
        ("TOTAL_BATCH_SIZE = 2**19", Powers(low=17, high=21)),
        ("ACCUMULATION = 1", Powers(low=0, high=2)),
        ("HEADS = 6", Lattice(low=3, step=1, count=10)),
        ("DEPTH = 8", Lattice(low=4, step=1, count=13)),
        ("WIDTH = 768", Lattice(low=384, step=64, count=19)),
        ("OFFSET = -6", Mirrored(of=Lattice(low=3, step=1, count=10))),
        ("OFFSET = -8", Mirrored(of=Powers(low=1, high=5))),
        ("START = 0", None),
        # the rest
        ("USE_BIAS = True", Choices(values=(False, True))),
        ('MODE = "a"', None),
        ('MODE = "a"  # choices: a, b', Choices(values=("a", "b"))),
        ('MODE = "c"  # choices: a, b', Choices(values=("a", "b", "c"))),
        ("LR = 3e-4  # range: 1e-4..1e-2 log", close(1e-4, 1e-2, log=True)),
        ("DEPTH = 8  # range: 6..12", Lattice(low=6, step=1, count=7)),
        ("SEED = 42", None),
        ("SEED = 42  # choices: 1, 2", Choices(values=(1, 2, 42))),
        ("SMALLEST = 5e-324", None),
        ("LARGEST = 1.7e308", None),
    ],
)
def test_a_constant_gets_the_range_that_its_name_and_value_suggest(
    line: str, expected: Space | None
) -> None:
    assert space_of(line) == expected


@pytest.mark.parametrize(
    ("line", "pin", "expected"),
    [
        ("LR = 3e-4", {"low": 1e-5, "high": 1, "log": True}, close(1e-5, 1, log=True)),
        ("LR = 3e-4", {"low": 0, "high": 1, "step": 0.25}, Lattice(low=0.0, step=0.25, count=5)),
        ("LR = 3e-4", {"low": 0.1, "high": 0.4, "step": 0.1}, Lattice(low=0.1, step=0.1, count=4)),
        ("LR = 3e-4", {"choices": (1, 0.5)}, Choices(values=(1.0, 0.5, 3e-4))),
        ("DEPTH = 8", {"low": 2, "high": 16}, Lattice(low=2, step=1, count=15)),
        ("DEPTH = 8", {"low": 2.0, "high": 16.0, "step": 4}, Lattice(low=2, step=4, count=4)),
        ("DEPTH = 8", {"choices": (4, 8.0)}, Choices(values=(4, 8))),
        ("B = True", {"choices": (True, False)}, Choices(values=(True, False))),
        ("SEED = 8", {"low": 1, "high": 9}, Lattice(low=1, step=1, count=9)),
        (
            "STEPS = 8",
            {"low": 1, "high": 1000, "log": True},
            Interval(low=1, high=1000, log=True, is_integer=True),
        ),
    ],
)
def test_a_pin_overrules_the_default(line: str, pin: dict[str, object], expected: Space) -> None:
    assert pinned(line, **pin) == expected


@pytest.mark.parametrize(
    ("line", "pin", "complaint"),
    [
        ("DEPTH = 8", {"low": 0.5, "high": 2}, "8 is a whole number"),
        ("DEPTH = 8", {"low": 1, "high": 2, "step": 0.5}, "8 is a whole number"),
        ("DEPTH = 8", {"choices": (1.5, 2)}, "1.5 is not of the type of 8"),
        ("FLAG = True", {"low": 0, "high": 1}, "True is not a number; give choices"),
        ("FLAG = True", {"choices": (0, 1)}, "0 is not of the type of True"),
        ("LR = 0.1", {"low": 0, "high": 1, "step": -1}, "step must be above 0"),
    ],
)
def test_a_pin_that_does_not_fit_is_refused_by_name(
    line: str, pin: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=rf"\[tuner\.space\.\w+\]: {complaint}"):
        pinned(line, **pin)


def test_a_pinned_choice_that_the_file_cannot_hold_is_refused() -> None:
    (word,) = read_constants({"run.sh": "OPT=adam\n"}).values()
    config = TunerConfig(space={"OPT": SpaceConfig(choices=("adam", "a b"))})
    with pytest.raises(ValueError, match="OPT: 'a b' cannot stand in a shell assignment"):
        choose_space(word, config)


@pytest.mark.parametrize(
    ("path", "line", "bare"),
    [
        ("train.py", "GRAD_CLIP = 1  # range: 0.5..2.0", "GRAD_CLIP = 1"),
        ("train.py", "SEED = 42  # range: 0.5..2.0", "SEED = 42"),
        ("train.py", "SHIFT = 0.5  # range: -1e308..1e308", "SHIFT = 0.5"),
        ("run.sh", "OPT=adam # choices: adam, a b", "OPT=adam"),
        ("run.sh", "DEPTH=8 # range: 0.5..16", "DEPTH=8"),
    ],
)
def test_a_comment_that_cannot_be_used_is_passed_over(path: str, line: str, bare: str) -> None:
    (steered,), (usual,) = (read_constants({path: f"{text}\n"}).values() for text in (line, bare))
    assert choose_space(steered, TunerConfig()) == choose_space(usual, TunerConfig())


def test_a_pin_of_one_value_leaves_nothing_to_turn() -> None:
    assert pinned("DEPTH = 8", choices=(8,)) is None


def test_excluded_constants_are_left_alone_and_a_tuples_name_stands_for_its_elements() -> None:
    assert space_of("LR = 0.1", exclude=("LR",)) is None
    knobs = read_constants({"train.py": "BETAS = (0.8, 0.95)\n"})
    both = TunerConfig(exclude=("BETAS",))
    one = TunerConfig(exclude=("BETAS[0]",))
    assert [choose_space(k, both) for k in knobs.values()] == [None, None]
    assert [choose_space(k, one) is None for k in knobs.values()] == [True, False]


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    knobs = {"LR": knob("LR = 0.1")}
    with pytest.raises(ValueError, match=r"\[tuner\.space\.LRR\]: no constant LRR; .* LR\?"):
        check_names(TunerConfig(space={"LRR": SpaceConfig(low=0, high=1)}), knobs)
    with pytest.raises(ValueError, match=r"\[tuner\] exclude: no constant LRR; .* LR\?"):
        check_names(TunerConfig(exclude=("LRR",)), knobs)
    check_names(TunerConfig(exclude=("LR",), space={"LR": SpaceConfig(low=0, high=1)}), knobs)


NAMES = st.sampled_from(["LR", "DROPOUT", "BETAS", "WIDTH", "DEPTH", "WEIGHT_DECAY", "THING"])


@settings(deadline=None)  # the machine may be busy
@example(name="WIDTH", value=2**53 + 1)
@example(name="WIDTH", value=2**53 - 1)
@example(name="DEPTH", value=-(2**53))
@given(name=NAMES, value=st.one_of(st.integers(-(2**62), 2**62), st.floats(-1e9, 1e9)))
def test_the_default_range_holds_the_present_value_and_keeps_its_sign(
    name: str, value: Scalar
) -> None:
    assert not isinstance(value, str)
    space = space_of(f"{name} = {value!r}")
    if space is None:
        return
    assert space.contains(value)
    for at in (space.axis.low, space.axis.high):
        end = space.decode(at)
        assert type(end) is type(value)
        assert not isinstance(end, str)
        assert end * value >= 0


def test_neighbours_come_with_the_fewest_changes_first_and_each_once() -> None:
    spaces = {"A": Choices(values=("x", "y", "z")), "N": Powers(low=1, high=3)}
    found = list(neighbours({"A": "x", "N": 4}, spaces, most_changes=2, fineness=5))
    assert [tuple(one.values()) for one in found] == [
        ("y", 4),
        ("z", 4),
        ("x", 2),
        ("x", 8),
        ("y", 2),
        ("y", 8),
        ("z", 2),
        ("z", 8),
    ]


def test_neighbours_change_no_more_than_they_may() -> None:
    spaces = {"A": Choices(values=("x", "y", "z")), "N": Powers(low=1, high=3)}
    found = list(neighbours({"A": "x", "N": 4}, spaces, most_changes=1, fineness=5))
    assert len(found) == 4


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (Interval(low=0.0, high=1.0), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (Interval(low=1e-4, high=1.0, log=True), [1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
        (Lattice(low=0, step=1, count=101), [0, 25, 50, 75, 100]),
        (Lattice(low=0, step=1, count=3), [0, 1, 2]),
    ],
)
def test_a_long_axis_is_cut_evenly(space: Space, values: list[Scalar]) -> None:
    found = neighbours({"V": -1}, {"V": space}, most_changes=1, fineness=5)
    assert [one["V"] for one in found] == values
