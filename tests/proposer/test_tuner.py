"""The tuner as a proposer, over a train.py in the manner of autoresearch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch

from eval.metric import Goal, Metric
from proposer.config import SpaceConfig, TunerConfig
from proposer.constants import read_constants
from proposer.proposal import Context, Proposal, Proposer, Result, Scalar
from proposer.tuner import Tuner
from trainer.trial import CommitId, ExperimentId

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
SMALL = "LR = 3e-3\nWEIGHT_DECAY = 0.3\n"
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

Loss = Callable[[Mapping[str, Scalar]], float]


def bowl(parameters: Mapping[str, Scalar]) -> float:
    """A quadratic in the logarithms of SMALL's two rates; 0 at 1e-2 and 1e-1."""
    return sum(
        (math.log10(float(parameters[name])) - best) ** 2
        for name, best in (("LR", -2), ("WEIGHT_DECAY", -1))
    )


def values(text: str) -> dict[str, Scalar]:
    return {name: knob.value for name, knob in read_constants({"train.py": text}).items()}


@dataclass
class Game:
    """A study in miniature: measures proposals, keeps what is better, reports to the tuner."""

    text: str = SMALL
    loss: Loss = bowl
    config: TunerConfig = field(default_factory=TunerConfig)
    goal: Goal = Goal.MINIMIZE
    seed: int = 0
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.base = self.text
        self.best = self.loss(values(self.text))
        self.incumbent = ExperimentId("e0")
        self.restart()

    def restart(self) -> None:
        """A tuner that knows nothing yet, and will be shown everything from the first."""
        self.tuner: Proposer = Tuner(self.config, {"train.py": self.base}, self.seed)
        self.shown = 0

    def context(self, value: float | None = None) -> Context:
        return Context(
            metric=Metric(name="loss", goal=self.goal, pattern="(x)"),
            incumbent=self.incumbent,
            incumbent_value=self.best if value is None else value,
            commit=CommitId(f"{abs(hash(self.text)):040x}"[:40]),
            files={"train.py": self.text},
            results=self.results[self.shown :],
        )

    def ask(self, count: int) -> Sequence[Proposal]:
        proposals = self.tuner.propose(self.context(), count)
        self.shown = len(self.results)
        return proposals

    def measure(self, proposal: Proposal, status: str = "discarded") -> None:
        value = self.loss(proposal.parameters) if status in {"discarded", "kept"} else None
        experiment = ExperimentId(f"e{len(self.results) + 1}")
        result = Result(
            experiment=experiment,
            parameters=proposal.parameters,
            proposer="tuner",
            hypothesis=proposal.hypothesis,
            status=status,
            value=value,
        )
        self.results.append(result)
        sign = 1 if self.goal is Goal.MINIMIZE else -1
        if value is not None and sign * value < sign * self.best:
            self.best, self.incumbent = value, experiment
            self.text = proposal.edits["train.py"]

    def play(self, count: int, batch: int = 4) -> Iterator[Proposal]:
        """Measure `count` proposals in parallel batches, yielding each."""
        asked = 0
        while asked < count and (proposals := self.ask(min(batch, count - asked))):
            asked += len(proposals)
            yield from proposals
            for proposal in proposals:
                self.measure(proposal)


def key(proposal: Proposal) -> tuple[tuple[str, Scalar], ...]:
    return tuple(sorted(proposal.parameters.items()))


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Two threads on shared cores make the Gaussian process many times slower, not faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "cmaes", "gp"])
def test_thirty_proposals_in_batches_of_four_improve_on_the_baseline(sampler: str) -> None:
    game = Game(config=TunerConfig.model_validate({"sampler": sampler}))
    baseline = game.best
    proposals = list(game.play(30))
    assert len(proposals) == 30
    assert len({key(proposal) for proposal in proposals}) == 30
    assert game.best < baseline / 2


def test_a_maximised_metric_grows() -> None:
    game = Game(goal=Goal.MAXIMIZE, loss=lambda parameters: -bowl(parameters))
    baseline = game.best
    assert len(list(game.play(30))) == 30
    assert game.best > baseline / 2


def test_it_learns_where_random_search_only_tries() -> None:
    def after(sampler: str) -> float:
        games = [
            Game(config=TunerConfig.model_validate({"sampler": sampler}), seed=seed)
            for seed in range(5)
        ]
        for game in games:
            list(game.play(40))
        return sorted(game.best for game in games)[2]

    assert after("tpe") < after("random")


def flat(parameters: Mapping[str, Scalar]) -> float:
    return 1.0


def test_each_proposal_changes_one_to_four_constants_and_says_so() -> None:
    game = Game(text=TRAIN, loss=flat)
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


def test_the_hypothesis_spells_values_as_the_source_does() -> None:
    game = Game(text="BATCH = 2**10\n", loss=flat)
    assert {proposal.hypothesis for proposal in game.play(2)} <= {
        f"BATCH 2**10 -> 2**{exponent}" for exponent in (8, 9, 11, 12)
    }


def test_everything_but_the_changed_literals_stays() -> None:
    (proposal,) = Game(text=TRAIN, loss=flat, config=TunerConfig(most_changes=1)).ask(1)
    old, new = TRAIN.splitlines(), proposal.edits["train.py"].splitlines()
    assert sum(before != after for before, after in zip(old, new, strict=True)) == 1


def test_most_changes_holds() -> None:
    game = Game(text=TRAIN, loss=flat, config=TunerConfig(most_changes=1))
    assert all(proposal.hypothesis.count("->") == 1 for proposal in game.play(20))


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "cmaes"])
def test_a_small_space_is_used_up_without_a_repetition(sampler: str) -> None:
    text = 'A = True\nB = "x"  # choices: x, y, z\nC = 4  # choices: 4, 8\n'
    game = Game(text=text, loss=flat, config=TunerConfig.model_validate({"sampler": sampler}))
    proposals = list(game.play(100))
    assert len({key(proposal) for proposal in proposals}) == len(proposals) == 2 * 3 * 2 - 1
    assert game.ask(1) == []


def test_a_restarted_tuner_repeats_nothing_it_is_shown_and_knows_as_much() -> None:
    game = Game()
    before = {key(proposal) for proposal in game.play(20)}
    game.restart()
    after = {key(proposal) for proposal in game.play(20)}
    assert len(before) == len(after) == 20
    assert not before & after
    assert game.best < 0.1


def test_a_restarted_tuner_avoids_what_is_still_running() -> None:
    game = Game(text="A = 3\n", loss=flat)
    running = game.ask(3)
    for proposal in running:
        game.measure(proposal, "running")
    game.restart()
    rest = game.ask(9)
    assert len(running) + len(rest) == 5  # A is searched from 1 to 6, and is 3 now
    assert not {key(proposal) for proposal in running} & {key(proposal) for proposal in rest}


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_the_same_story_gives_the_same_proposals(sampler: str) -> None:
    config = TunerConfig.model_validate({"sampler": sampler})
    games = Game(config=config, seed=5), Game(config=config, seed=5)
    first, second = ([p.hypothesis for p in game.play(16)] for game in games)
    assert first == second
    assert first != [p.hypothesis for p in Game(config=config, seed=6).play(16)]


def test_crashes_are_avoided() -> None:
    """A rate above 1e-2 crashes; half of the range lies there, on the logarithmic scale."""

    def crash_share(status: str) -> float:
        game = Game(text="LR = 1e-2\n", loss=flat)
        bad = []
        for _ in range(40):
            (proposal,) = game.ask(1)
            is_bad = float(proposal.parameters["LR"]) > 1e-2
            bad.append(is_bad)
            game.measure(proposal, status if is_bad else "discarded")
        return sum(bad[15:]) / 25

    assert crash_share("crashed") < 0.25 < crash_share("cancelled")


def test_a_result_that_is_revised_is_learnt_anew() -> None:
    game = Game()
    list(game.play(4))
    first = game.results[0]
    game.results.append(replace(first, value=-100.0))
    assert game.ask(1)
    game.results.append(replace(first, value=None, status="crashed"))
    assert len(list(game.play(8))) == 8


def test_a_result_shown_twice_changes_nothing() -> None:
    games = Game(), Game()
    for game in games:
        list(game.play(12))
    games[0].shown = 0
    assert [p.edits for p in games[0].ask(3)] == [p.edits for p in games[1].ask(3)]


def other(parameters: Mapping[str, Scalar], value: float, name: str = "e900") -> Result:
    return Result(
        experiment=ExperimentId(name),
        parameters=parameters,
        proposer="claude",
        hypothesis="",
        status="discarded",
        value=value,
    )


def test_results_of_others_teach_where_their_constants_can_be_read() -> None:
    game = Game(config=TunerConfig(most_changes=2))
    for index in range(30):
        at = {"LR": 10 ** (-3 + index / 20), "WEIGHT_DECAY": 10 ** (-1.5 + index / 30)}
        game.results.append(other(at, bowl(at), f"e{900 + index}"))
    taught = [bowl(proposal.parameters) for proposal in game.ask(10)]
    ignorant = [bowl(proposal.parameters) for proposal in Game().ask(10)]
    assert sum(taught) < sum(ignorant)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"OTHER": 1}, {"LR": "fast"}, {"LR": 1e9}, {"LR": True, "WEIGHT_DECAY": 0.3}, {"LR": 3}],
)
def test_results_that_do_not_fit_do_no_harm(parameters: dict[str, Scalar]) -> None:
    game = Game()
    game.results.append(other(parameters, 0.5))
    assert len(list(game.play(14))) == 14


def test_the_baselines_value_may_come_late() -> None:
    game = Game()
    context = replace(game.context(), incumbent_value=None)
    assert len(game.tuner.propose(context, 2)) == 2
    assert len(list(game.play(8))) == 8


def test_a_candidate_starts_from_the_new_incumbent() -> None:
    game = Game(text=TRAIN, loss=flat)
    list(game.play(4))
    game.text = TRAIN.replace("HEAD_DIM = 128 ", "HEAD_DIM = 64 ").replace("Trains", "Drives")
    for proposal in game.ask(4):
        text = proposal.edits["train.py"]
        assert "Drives" in text
        assert "HEAD_DIM = 64 " in text or "HEAD_DIM 64 -> " in proposal.hypothesis


def test_a_constant_that_vanishes_is_forgotten_and_a_new_one_is_found() -> None:
    game = Game(text=TRAIN, loss=flat)
    list(game.play(12))
    game.text = TRAIN.replace("USE_MUON = True", "GRAD_CLIP = 1.5")
    proposals = list(game.play(12))
    assert len(proposals) == 12
    for proposal in proposals:
        assert set(proposal.parameters) == TURNED - {"USE_MUON"} | {"GRAD_CLIP"}
    assert any("GRAD_CLIP" in proposal.hypothesis for proposal in proposals)


def test_an_incumbent_outside_the_first_range_gets_a_range_around_it() -> None:
    game = Game(text="LR = 1e-3\n", loss=flat)
    list(game.play(4))
    game.text = "LR = 5.0\n"
    assert all(0.5 <= float(p.parameters["LR"]) <= 50 for p in game.ask(8))


def test_an_incumbent_without_constants_leaves_nothing_to_propose() -> None:
    game = Game(loss=flat)
    list(game.play(4))
    game.text = "print('val: 1')\n"
    assert game.ask(2) == []


def test_an_incumbent_that_is_no_python_is_named() -> None:
    game = Game()
    game.text = "LR = (\n"
    with pytest.raises(ValueError, match=r"train\.py, line 1"):
        game.ask(1)


def test_pins_and_exclusions_hold() -> None:
    config = TunerConfig(
        exclude=("ADAM_BETAS", "ASPECT_RATIO"),
        space={
            "MATRIX_LR": SpaceConfig(low=0.5, high=1.0),  # leaves out the present value
            "HEAD_DIM": SpaceConfig(choices=(64, 128)),
            "SEED": SpaceConfig(low=1, high=3),
        },
    )
    game = Game(text=TRAIN, loss=flat, config=config)
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
def test_files_without_anything_to_tune_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Tuner(TunerConfig(), {"train.py": text}, 0)


def test_a_misspelt_constant_in_the_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match=r"exclude: no constant MATRIXLR; did you mean MATRIX_LR"):
        Tuner(TunerConfig(exclude=("MATRIXLR",)), {"train.py": TRAIN}, 0)


def test_it_is_called_tuner() -> None:
    assert Game().tuner.name == "tuner"
