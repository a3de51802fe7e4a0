"""The tuner as a proposer, over a train.py in the manner of autoresearch."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from eval.metric import Goal
from proposer.config import SpaceConfig, TunerConfig
from proposer.constants import read_constants
from proposer.proposal import Proposal, Result, Scalar
from proposer.tuner import Tuner
from trainer.trial import ExperimentId

NewGame = Callable[..., Any]
TRAIN = '''\
"""Trains a small model."""

import os

# Model architecture
ASPECT_RATIO = 64       # model_dim = depth * ASPECT_RATIO
HEAD_DIM = 128          # target head dimension for attention
WINDOW_PATTERN = "SSSL"  # choices: SSSL, SSSS, L

# Optimization
TOTAL_BATCH_SIZE = 2**19  # ~524K tokens per step
EMBEDDING_LR = 0.6
MATRIX_LR = 4e-2
ADAM_BETAS = (0.8, 0.95)
WARMUP_RATIO = 0.0
USE_MUON = True
SEED = 42
TIME_BUDGET = 300

def main():
    print(f"val_bpb: {train():.6f}")

if __name__ == "__main__":
    DEPTH = 8
    main()
'''
TURNED = {
    "ASPECT_RATIO",
    "HEAD_DIM",
    "WINDOW_PATTERN",
    "TOTAL_BATCH_SIZE",
    "EMBEDDING_LR",
    "MATRIX_LR",
    "ADAM_BETAS[0]",
    "ADAM_BETAS[1]",
    "WARMUP_RATIO",
    "USE_MUON",
}

SMALL = "LR = 3e-3\nWEIGHT_DECAY = 0.3\n"


def bowl(parameters: Mapping[str, Scalar]) -> float:
    """A quadratic in the logarithms of SMALL's two rates; 0 at 1e-2 and 1e-1."""
    return sum(
        (math.log10(float(parameters[name])) - best) ** 2
        for name, best in (("LR", -2), ("WEIGHT_DECAY", -1))
    )


def values(text: str) -> dict[str, Scalar]:
    return {name: knob.value for name, knob in read_constants({"train.py": text}).items()}


def key(proposal: Proposal) -> tuple[tuple[str, Scalar], ...]:
    return tuple(sorted(proposal.parameters.items()))


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Two threads on shared cores make the Gaussian process many times slower, not faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("sampler", "count"),
    [
        ("tpe", 30),
        ("random", 30),
        ("grid", 5 * 5 - 1),
        ("cmaes", 30),
        ("evolution", 30),
        ("gp", 30),
    ],
)
def test_proposals_in_batches_of_four_improve_on_the_baseline(
    new_game: NewGame, sampler: str, count: int
) -> None:
    game = new_game(SMALL, bowl, config=TunerConfig.model_validate({"sampler": sampler}))
    baseline = game.best
    proposals = list(game.play(count))
    assert len(proposals) == count
    assert len({key(proposal) for proposal in proposals}) == count
    assert game.best < baseline / 2


def test_a_maximised_metric_grows(new_game: NewGame) -> None:
    game = new_game(SMALL, lambda parameters: -bowl(parameters), goal=Goal.MAXIMIZE)
    baseline = game.best
    assert len(list(game.play(30))) == 30
    assert game.best > baseline / 2


def test_it_learns_where_random_search_only_tries(new_game: NewGame) -> None:
    def after(sampler: str) -> float:
        games = [
            new_game(
                SMALL, bowl, config=TunerConfig.model_validate({"sampler": sampler}), seed=seed
            )
            for seed in range(5)
        ]
        for game in games:
            list(game.play(40))
        return sorted(game.best for game in games)[2]

    assert after("tpe") < after("random")


def test_each_proposal_changes_one_to_four_constants_and_says_so(new_game: NewGame) -> None:
    game = new_game(TRAIN)
    counts = set()
    for proposal in game.play(40):
        new, old = values(proposal.edits["train.py"]), values(TRAIN)
        changed = [name for name in old if new[name] != old[name]]
        assert set(changed) <= TURNED
        assert set(proposal.parameters) == TURNED
        assert all(new[name] == value for name, value in proposal.parameters.items())
        assert proposal.hypothesis.count(" -> ") == len(changed)
        assert all(name in proposal.hypothesis for name in changed)
        counts.add(len(changed))
    assert counts == {1, 2, 3, 4}


def test_the_hypothesis_spells_values_as_the_source_does(new_game: NewGame) -> None:
    game = new_game("BATCH = 2**10\n")
    assert {proposal.hypothesis for proposal in game.play(2)} <= {
        f"BATCH 2**10 -> 2**{exponent}" for exponent in (8, 9, 11, 12)
    }


def test_everything_but_the_changed_literals_stays(new_game: NewGame) -> None:
    (proposal,) = new_game(TRAIN, config=TunerConfig(most_changes=1)).ask(1)
    old, new = TRAIN.splitlines(), proposal.edits["train.py"].splitlines()
    assert sum(before != after for before, after in zip(old, new, strict=True)) == 1


def test_most_changes_holds(new_game: NewGame) -> None:
    game = new_game(TRAIN, config=TunerConfig(most_changes=1))
    assert all(proposal.hypothesis.count("->") == 1 for proposal in game.play(20))


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "cmaes", "evolution"])
def test_a_small_space_is_used_up_without_a_repetition(new_game: NewGame, sampler: str) -> None:
    text = 'A = True\nB = "x"  # choices: x, y, z\nC = 4  # choices: 4, 8\n'
    game = new_game(text, config=TunerConfig.model_validate({"sampler": sampler}))
    proposals = list(game.play(100))
    assert len({key(proposal) for proposal in proposals}) == len(proposals) == 2 * 3 * 2 - 1
    assert game.ask(1) == []


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "evolution"])
def test_the_same_story_gives_the_same_proposals(new_game: NewGame, sampler: str) -> None:
    config = TunerConfig.model_validate({"sampler": sampler})
    games = (
        new_game(SMALL, bowl, config=config, seed=5),
        new_game(SMALL, bowl, config=config, seed=5),
    )
    first, second = ([p.hypothesis for p in game.play(16)] for game in games)
    assert first == second
    assert first != [p.hypothesis for p in new_game(SMALL, bowl, config=config, seed=6).play(16)]


def test_a_candidate_starts_from_the_new_incumbent(new_game: NewGame) -> None:
    game = new_game(TRAIN)
    list(game.play(4))
    game.text = TRAIN.replace("HEAD_DIM = 128 ", "HEAD_DIM = 64 ").replace("Trains", "Drives")
    for proposal in game.ask(4):
        text = proposal.edits["train.py"]
        assert "Drives" in text
        assert "HEAD_DIM = 64 " in text or "HEAD_DIM 64 -> " in proposal.hypothesis


def test_a_constant_that_vanishes_is_forgotten_and_a_new_one_is_found(new_game: NewGame) -> None:
    game = new_game(TRAIN)
    list(game.play(12))
    game.text = TRAIN.replace("USE_MUON = True", "GRAD_CLIP = 1.5")
    proposals = list(game.play(12))
    assert len(proposals) == 12
    for proposal in proposals:
        assert set(proposal.parameters) == TURNED - {"USE_MUON"} | {"GRAD_CLIP"}
    assert any("GRAD_CLIP" in proposal.hypothesis for proposal in proposals)


def test_an_incumbent_outside_the_first_range_gets_a_range_around_it(new_game: NewGame) -> None:
    game = new_game("LR = 1e-3\n")
    list(game.play(4))
    game.text = "LR = 5.0\n"
    assert all(0.5 <= float(p.parameters["LR"]) <= 50 for p in game.ask(8))


def test_an_incumbent_without_constants_leaves_nothing_to_propose(new_game: NewGame) -> None:
    game = new_game(SMALL)
    list(game.play(4))
    game.text = "print('val: 1')\n"
    assert game.ask(2) == []


def test_a_comment_of_the_incumbent_that_cannot_be_used_ends_nothing(new_game: NewGame) -> None:
    game = new_game("LR = 1e-3\n")
    list(game.play(4))
    game.text = "LR = 1e-3\nGRAD_CLIP = 1  # range: 0.5..2.0\n"
    assert {proposal.parameters["GRAD_CLIP"] for proposal in game.ask(8)} <= {1, 2, 4}


def test_an_incumbent_that_is_no_python_is_named(new_game: NewGame) -> None:
    game = new_game(SMALL, bowl)
    game.text = "LR = (\n"
    with pytest.raises(ValueError, match=r"train\.py, line 1"):
        game.ask(1)


def test_pins_and_exclusions_hold(new_game: NewGame) -> None:
    config = TunerConfig(
        exclude=("ADAM_BETAS", "ASPECT_RATIO"),
        space={
            "MATRIX_LR": SpaceConfig(low=0.5, high=1.0),  # leaves out the present value
            "HEAD_DIM": SpaceConfig(choices=(64, 128)),
            "SEED": SpaceConfig(low=1, high=3),
        },
    )
    game = new_game(TRAIN, config=config)
    for proposal in game.play(30):
        at = proposal.parameters
        assert set(at) == TURNED - {"ADAM_BETAS[0]", "ADAM_BETAS[1]", "ASPECT_RATIO"} | {"SEED"}
        assert at["HEAD_DIM"] in {64, 128}
        assert at["MATRIX_LR"] == 0.04 or 0.5 <= float(at["MATRIX_LR"]) <= 1
        assert at["SEED"] in {42, 1, 2, 3}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import os\n", r"no constant to tune in train\.py: looked for .*LR = 3e-4.*KEY=value"),
        ("SEED = 1\nTIME_BUDGET = 300\n", "found SEED, TIME_BUDGET but no range to search"),
        ("LR = (\n", r"train\.py, line 1: '\(' was never closed"),
    ],
)
def test_files_without_anything_to_tune_are_refused(
    new_game: NewGame, text: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Tuner(TunerConfig(), {"train.py": text}, 0)


def test_a_misspelt_constant_in_the_configuration_is_refused(new_game: NewGame) -> None:
    with pytest.raises(ValueError, match=r"exclude: no constant MATRIXLR; did you mean MATRIX_LR"):
        Tuner(TunerConfig(exclude=("MATRIXLR",)), {"train.py": TRAIN}, 0)


def test_it_is_called_tuner_unless_it_is_given_another_name(new_game: NewGame) -> None:
    assert new_game(SMALL, bowl).tuner.name == "tuner"
    assert Tuner(TunerConfig(), {"train.py": SMALL}, 0, name="tuner-2").name == "tuner-2"


def test_what_was_rebased_is_learnt_as_it_ran_and_what_was_proposed_is_free_again(
    new_game: NewGame,
) -> None:
    """A rebase took over what the incumbent had changed: the point that was asked never ran."""
    game = new_game('A = 1  # choices: 1, 2\nB = "x"  # choices: x, y\n')
    proposals = {key(one): one for one in game.ask(3)}
    asked = proposals[("A", 2), ("B", "x")]
    game.results.append(
        Result(
            experiment=ExperimentId("e1"),
            parameters={"A": 2, "B": "y"},
            never_ran=asked.parameters,
            proposer="tuner",
            hypothesis=asked.hypothesis,
            status="discarded",
            value=0.5,
        )
    )
    (again,) = game.ask(3)
    assert key(again) == key(asked)  # the only one left: nobody knows what it is worth


def test_what_came_back_unmeasured_is_proposed_again(new_game: NewGame) -> None:
    game = new_game("A = 1  # choices: 1, 2\nB = 3  # choices: 3, 4\n")
    first, *others = game.ask(3)
    for proposal in others:
        game.measure(proposal)
    assert game.ask(1) == []
    game.results.append(
        Result(
            experiment=ExperimentId("e9"),
            parameters={},
            never_ran=first.parameters,
            proposer="tuner",
            hypothesis=first.hypothesis,
            status="cancelled",
            value=None,
            reason="stale: conflicts with e5 in train.py",
        )
    )
    assert [key(one) for one in game.ask(2)] == [key(first)]
