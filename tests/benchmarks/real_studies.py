"""The first two studies of docs/judging.md#on-real-runs, anew, on this machine's processors.

`python -m tests.benchmarks.real_studies wave` submits eight changes of one constant each to the
demo's script at once, and prints the log, why the incumbent is what it is, and each winner's story.
`... luck` searches a script whose metric is noisy under greedy and under bayes, and runs what each
takes for its best ten times more. Neither is a benchmark: runs are real, so no two studies are the
same; the simulator is there to tell judges apart.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from eval.score import Score
from infra.demo_study import create_demo_repository
from infra.facts.fact_records import StatusFacts
from tests.benchmarks.research import commit_all
from tests.benchmarks.workshop import Place, place
from trainer.git_command import GitCommand

INCUMBENT = str(Path(sys.executable).with_name("incumbent"))
WAVE = (
    "ACTIVATION=relu",
    "HIDDEN=64",
    "MOMENTUM=0.9",
    "LABEL_SMOOTHING=0",
    "DROPOUT=0.1",
    "STANDARDIZE=True",
    "WEIGHT_DECAY=0",
    "BATCH_SIZE=64",
)
"""Eight changes of the demo's poor start, most of which are gains."""
PROPOSALS, AGAIN = 80, 10
NOISE = 0.05
"""Standard deviation of what a run of the script is off by."""
SCRIPT = f'''\
"""A softmax regression on handwritten digits, whose printed loss is off by chance."""

import numpy as np
from sklearn.datasets import load_digits

LEARNING_RATE = 0.02
MOMENTUM = 0.1
WEIGHT_DECAY = 0.01
STEPS = 40
SCALE = 0.2

digits = load_digits()
images, labels = digits.data / 16 * SCALE, np.eye(10)[digits.target]
split = len(images) * 7 // 10
weights, speed = np.zeros((64, 10)), np.zeros((64, 10))


def probabilities(inputs):
    logits = inputs @ weights
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


for _ in range(STEPS):
    wrong = probabilities(images[:split]) - labels[:split]
    speed = MOMENTUM * speed - LEARNING_RATE * (images[:split].T @ wrong / split)
    weights += speed - LEARNING_RATE * WEIGHT_DECAY * weights
right = (probabilities(images[split:]) * labels[split:]).sum(axis=1)
exact = -np.log(np.maximum(right, 1e-12)).mean()
print(f"exact: {{exact:.6f}}")
print(f"val_loss: {{exact + np.random.default_rng().normal(0, {NOISE}):.6f}}")
'''
_CONFIG = """\
[study]
name = "luck"
editable = ["train.py"]
[metric]
name = "val_loss"
goal = "minimize"
pattern = '^val_loss: (\\S+)'
[trial]
command = "python train.py"
budget_s = 5
timeout_s = 120
gpus = 0
[judge]
policy = "{judge}"
[[proposer]]
kind = "tuner"
[cluster]
slots = 4
metrics_port = -1
"""


def wave() -> None:
    """Let the winners of one wave add up, and print the story of each."""
    with place() as where:
        repository = create_demo_repository(where.folder / "digits")
        config = repository / "incumbent.toml"
        nobody_else = config.read_text("utf-8").partition("[[proposer]]")[0]
        config.write_text(f"{nobody_else}[cluster]\nslots = 8\nmetrics_port = -1\n", "utf-8")
        for setting in WAVE:
            _incumbent(where, repository, "submit", "--set", setting)
        _incumbent(where, repository, "run", "--experiments", str(len(WAVE)))
        facts = json.loads(_incumbent(where, repository, "log", "--json"))
        won = [one["id"] for one in facts if one["status"] in {"kept", "merged"}][1:]
        for told in (["log"], ["why"], *(["show", experiment] for experiment in won)):
            sys.stdout.write(f"$ incumbent {' '.join(told)}\n")
            sys.stdout.write(_incumbent(where, repository, *told) + "\n")


def luck() -> None:
    """Print for two judges what the best is claimed to score, and what it scores."""
    sys.stdout.write("| judge | promoted | claimed | ten further runs | exact |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- |\n")
    for judge in ("greedy", "bayes"):
        with place() as where:
            repository = noisy_repository(where.folder / "luck", judge)
            _incumbent(where, repository, "run", "--experiments", str(PROPOSALS))
            status = json.loads(_incumbent(where, repository, "status", "--json"))
            again = runs(_best(repository, status), AGAIN)
            sys.stdout.write(_row(judge, status, again) + "\n")


def noisy_repository(target: Path, judge: str) -> Path:
    """Make the repository of the noisy script, to be searched under a judge."""
    target.mkdir()
    (target / "train.py").write_text(SCRIPT, "utf-8")
    (target / "incumbent.toml").write_text(_CONFIG.format(judge=judge), "utf-8")
    git = GitCommand(target)
    git.run("init", "--quiet", "--initial-branch=main")
    commit_all(git, "Baseline")
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run of the noisy script printed."""

    exact: float
    printed: float
    """The same with noise, by which it is judged."""


def runs(script: str, count: int) -> list[Run]:
    """Run a script so often, outside of any study."""
    found = []
    for _ in range(count):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
        numbers = dict(re.findall(r"^(\w+): (\S+)$", done.stdout.decode(), re.MULTILINE))
        found.append(Run(exact=float(numbers["exact"]), printed=float(numbers["val_loss"])))
    return found


def _best(repository: Path, status: StatusFacts) -> str:
    """Return the script that a study takes for its best."""
    commit = status["incumbent"]["commit"]
    return GitCommand(repository).run("show", f"{commit}:train.py").stdout.decode()


def _row(judge: str, status: StatusFacts, again: Sequence[Run]) -> str:
    score, belief = status["incumbent"]["score"], status["incumbent"]["belief"]
    claimed = f"{belief['mean']:.3f} ± {belief['sd']:.3f}" if belief else f"{score:.3f}"
    told = Score(values=tuple(run.printed for run in again), device_class="cpu")
    measured = f"{told.mean:.3f} ± {told.standard_error:.3f}"
    exact = fmean(run.exact for run in again)
    return f"| {judge} | {status['promotions']} | {claimed} | {measured} | {exact:.3f} |"


def _incumbent(where: Place, repository: Path, *arguments: str) -> str:
    """Run the program, which says on standard error how far it is, and return what it prints."""
    done = subprocess.run(
        [INCUMBENT, *arguments],
        cwd=repository,
        env=dict(where.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout.decode()


STUDIES = {"wave": wave, "luck": luck}


def main() -> int:
    """Play the study that the only argument names."""
    if len(sys.argv) != 2 or sys.argv[1] not in STUDIES:
        sys.stderr.write(f"usage: python -m tests.benchmarks.real_studies {'|'.join(STUDIES)}\n")
        return 2
    STUDIES[sys.argv[1]]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
