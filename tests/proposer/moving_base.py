"""A study on a made-up landscape in which somebody else's code wins now and then.

What a win is worth is known, so is the best that constants can do: the regret is exact. Run as a
module, it prints the figures of docs/decisions/026-tuner.md.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from eval.metric import Goal, Metric
from proposer.config import TunerConfig
from proposer.proposal import Context, Past, Proposal, Result, Scalar
from proposer.tuner import Tuner
from trainer.trial import CommitId, ExperimentId

START = "LR = 1e-3\nWEIGHT_DECAY = 0.3\nDROPOUT = 0.1\nSOFTCAP = 10.0\n"
NAMED = "GRAD_CLIP = 1.0\n"
"""What a win of code brings in; before, its value was written out."""
TRUTH = "suggest LR in [5e-3, 1e-2]; suggest WEIGHT_DECAY in [0.05, 0.2]; try LR=7e-3"


@dataclass(kw_only=True)
class Study:
    """`mode` is how the tuner is told of bases: levels, raw, every-base or forget."""

    seed: int
    mode: str = "levels"
    count: int = 48
    wins: Sequence[int] = (12, 24, 36)
    win: float = 0.5
    noise: float = 0.02
    sampler: str = "tpe"
    hints: Sequence[str] = ()
    results: list[Result] = field(default_factory=list)
    history: list[Past] = field(default_factory=list)

    def play(self) -> float:
        """Return by how much the last incumbent's constants are worse than the best ones."""
        self.random = random.Random(self.seed)
        self.code, self.extra = 0, ""
        self.at: dict[str, Scalar] = {
            "LR": 1e-3, "WEIGHT_DECAY": 0.3, "DROPOUT": 0.1, "SOFTCAP": 10.0
        }  # fmt: skip
        self.text = START
        self.incumbent, self.best = ExperimentId("e0"), self.measure(self.at)
        self.keep(Proposal(edits={}, hypothesis="", parameters={}), "", self.best)
        self.tuner, self.shown = self.new_tuner(), 0
        while len(self.history) < self.count:
            if self.code < len(self.wins) and len(self.history) >= self.wins[self.code]:
                self.code_wins()
            for proposal in self.tuner.propose(self.context(), 4):
                self.keep(proposal, "tuner", self.measure(proposal.parameters))
        return self.excess(self.at)

    def new_tuner(self) -> Tuner:
        config = TunerConfig.model_validate({"sampler": self.sampler})
        return Tuner(config, {"train.py": START}, self.seed)

    def excess(self, at: Mapping[str, Scalar]) -> float:
        """Return the loss over the best constants' at the present code, which moves them a bit."""
        shift = 0.1 * self.code
        off = [
            math.log10(float(at["LR"])) + 2.2 + shift,
            math.log10(float(at["WEIGHT_DECAY"])) + 1 - shift,
            2 * (float(at["DROPOUT"]) - 0.3),
            (float(at["SOFTCAP"]) - 15 - 2 * shift) / 10,
            math.log2(float(at.get("GRAD_CLIP", 1.0))) / 4 - 0.2 if "GRAD_CLIP" in at else 0,
        ]
        return sum(one * one for one in off) + 0.5 * off[0] * off[1]

    def measure(self, at: Mapping[str, Scalar]) -> float:
        level = 3 - self.win * self.code
        return level + self.excess(at) + self.random.gauss(0, self.noise)

    def code_wins(self) -> None:
        self.code += 1
        if self.code == 1:
            self.text, self.at = self.text + NAMED, {**self.at, "GRAD_CLIP": 1.0}
        name, base, before = ExperimentId(f"e{len(self.history)}"), self.incumbent, self.best
        self.incumbent, self.best = name, self.measure(self.at)
        self.past(name, base, {}, self.best, before - self.best)
        if self.mode == "forget":
            self.tuner, self.results, self.shown = self.new_tuner(), [], 0

    def keep(self, proposal: Proposal, proposer: str, value: float) -> None:
        name = ExperimentId(f"e{len(self.history)}")
        self.past(name, self.incumbent, proposal.parameters, value, self.best - value)
        if not proposer:
            return
        self.results.append(
            Result(
                experiment=name,
                parameters=proposal.parameters,
                proposer=proposer,
                hypothesis=proposal.hypothesis,
                status="discarded",
                value=value,
            )
        )
        if value < self.best:
            self.incumbent, self.best = name, value
            self.text, self.at = proposal.edits["train.py"], dict(proposal.parameters)

    def past(
        self,
        name: ExperimentId,
        base: ExperimentId,
        parameters: Mapping[str, Scalar],
        value: float,
        effect: float,
    ) -> None:
        told = {} if self.mode == "every-base" else parameters
        self.history.append(
            Past(
                experiment=name, base=base, proposer="", hypothesis="", category="", status="",
                value=value, effect=effect, effect_sd=None, reason="", parameters=told,
            )
        )  # fmt: skip

    def context(self) -> Context:
        shown, self.shown = self.shown, len(self.results)
        return Context(
            metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern="(x)"),
            incumbent=self.incumbent,
            incumbent_value=self.best,
            commit=CommitId(f"{len(self.history):040x}"),
            files={"train.py": self.text},
            results=self.results[shown:],
            history=() if self.mode in {"raw", "forget"} else tuple(self.history),
            hints=self.hints,
        )


def main() -> None:
    """Print regrets: median and mean over seeds."""
    from proposer import constants  # noqa: PLC0415
    from proposer.python_knobs import read_python  # noqa: PLC0415

    constants.read_python_apart = read_python
    for mode in ("levels", "raw", "every-base", "forget"):
        found = [Study(seed=seed, mode=mode).play() for seed in range(16)]
        print(f"{mode:12} median {median(found):.4f} mean {mean(found):.4f}", flush=True)
    for hints in ((), (TRUTH,)):
        for sampler in ("tpe", "evolution", "cmaes"):
            found = [
                Study(seed=seed, wins=(), count=32, sampler=sampler, hints=hints).play()
                for seed in range(10)
            ]
            said = "hints" if hints else "no hints"
            print(f"{sampler:10} {said:9} {median(found):.4f} mean {mean(found):.4f}", flush=True)


if __name__ == "__main__":
    main()
