"""A study in miniature, in which proposers can be tried."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from eval.metric import Goal, Metric
from proposer import constants
from proposer.config import TunerConfig
from proposer.constants import read_constants
from proposer.proposal import Context, Proposal, Proposer, Result, Scalar
from proposer.python_knobs import read_python
from proposer.tuner import Tuner
from trainer.trial import CommitId, ExperimentId

Loss = Callable[[Mapping[str, Scalar]], float]


@pytest.fixture(autouse=True)
def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare thousands of examples a process each; test_knobs_apart reads as a study does."""
    monkeypatch.setattr(constants, "read_python_apart", read_python)


def flat(_: Mapping[str, Scalar]) -> float:
    return 1.0


def values(text: str) -> dict[str, Scalar]:
    return {name: knob.value for name, knob in read_constants({"train.py": text}).items()}


@dataclass
class Game:
    """A study in miniature: measures proposals, keeps what is better, reports to the tuner."""

    text: str
    loss: Loss = flat
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

    def context(self) -> Context:
        return Context(
            metric=Metric(name="loss", goal=self.goal, pattern="(x)"),
            incumbent=self.incumbent,
            incumbent_value=self.best,
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

    def show(
        self, parameters: Mapping[str, Scalar], value: float | None, name: str = "e900"
    ) -> None:
        """Add the result of somebody else's experiment."""
        result = Result(
            experiment=ExperimentId(name),
            parameters=parameters,
            proposer="claude",
            hypothesis="",
            status="crashed" if value is None else "discarded",
            value=value,
        )
        self.results.append(result)


@pytest.fixture
def new_game() -> type[Game]:
    """Begins a study: `new_game(text=..., loss=..., config=..., goal=..., seed=...)`."""
    return Game
