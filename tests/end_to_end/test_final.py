"""`incumbent final` on a study whose search is over: real processes, git, server and sandbox."""

import json
import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cluster.config_file import load_config
from cluster.git.code_outcomes import Candidate
from cluster.git.source_repository import SourceRepository
from cluster.git.study_repository import StudyRepository
from cluster.state import events as ev
from cluster.state.experiment import Kind
from eval.judge import Verdict
from infra.local.final_process import find_final
from infra.processes.launch import prepare_study
from tests.end_to_end.conftest import BY_HAND, CONFIG, MakeStudy, Study
from trainer.trial import CommitId, Ending, ExperimentId, SlotId, TrialId, TrialOutcome

pytestmark = pytest.mark.slow

SCRIPT = """
import os, sys, time
import numpy as np
out, seed = os.environ["INCUMBENT_OUT"], int(os.environ["INCUMBENT_SEED"])
print("step: 1", flush=True)
if os.path.exists(os.path.expanduser("~/signals/wait")) and seed == 2:
    time.sleep(60)
if len(sys.argv) == 2:  # a full run
    np.save(f"{out}/test.npy", (np.arange(10) > 4 - seed).astype(int))
np.save(f"{out}/predictions.npy", (np.arange(10) > 6).astype(int))
print("budget:", os.environ["INCUMBENT_BUDGET_S"])
"""
FILES = {"train.py": SCRIPT}
FINAL = """
[final]
command = "python train.py full"
budget_s = 2
seeds = 2
labels = "{labels}"
data = ["~/signals"]
"""


@pytest.fixture
def labels(tmp_path: Path) -> dict[str, Path]:
    """The labels of validation, and of the test."""
    folder = tmp_path / "secret"
    folder.mkdir()
    for name in ("val", "test"):
        np.save(folder / f"{name}.npy", (np.arange(10) > 4).astype(int))
        (folder / f"{name}.npy").chmod(0o644)
    return {name: folder / f"{name}.npy" for name in ("val", "test")}


def searched(
    make_study: MakeStudy,
    more: str,
    labels: Path,
    files: Mapping[str, str] = FILES,
    tried: str = "",
) -> Study:
    """A study whose baseline was measured, and a script that was `tried` and discarded, if any."""
    text = (
        CONFIG.replace("bench.sh", "train.py")
        .replace("./train.py", "python train.py")
        .replace('name = "loss"\ngoal = "minimize"\n', 'name = "accuracy"\ngoal = "maximize"\n')
        .replace("pattern = '^METRIC loss=(\\S+)'", 'source = "predictions"')
    )
    score = f'[score]\nlabels = "{labels}"\nmetric = "accuracy"\n'
    study = make_study(files, config=BY_HAND + text + score + more)
    config = load_config(study.repository / "incumbent.toml")
    prepared = prepare_study(SourceRepository.find(study.repository), config).study
    try:
        home, base = prepared.home, prepared.state().base_commit
        repository = StudyRepository.open(home.git, study="study")
        repository.start_branch(base)
        events = baseline(base, repository.tree_of(base))
        if tried:
            events += discarded(repository, base, tried)
        prepared.ledger.append(
            [
                ev.Draft(id=f"{index}", at=datetime.now(UTC), event=event)
                for index, event in enumerate(events)
            ]
        )
    finally:
        prepared.server.release(prepared.client)
    return study


def baseline(commit: CommitId, tree: str) -> list[ev.Event]:
    return measured("e0", commit, tree, base_commit=commit, value=0.8)


def discarded(repository: StudyRepository, base: CommitId, script: str) -> list[ev.Event]:
    found = repository.commit_edits(
        base=base,
        edits={"train.py": script},
        editable=("train.py",),
        message="Another threshold",
        author="user",
    )
    assert isinstance(found, Candidate)
    repository.keep_ref(ExperimentId("e1"), found.commit)
    return measured("e1", found.commit, found.tree, base_commit=base, value=0.7)


def measured(
    experiment: str, commit: CommitId, tree: str, *, base_commit: CommitId, value: float
) -> list[ev.Event]:
    """What is on record of one that was run once: the baseline is kept, all others discarded."""
    name, trial, base = ExperimentId(experiment), TrialId(f"{experiment}.1"), ExperimentId("e0")
    outcome = TrialOutcome(ending=Ending.SCORED, value=value)
    is_first = name == base
    return [
        ev.ExperimentProposed(
            experiment=name,
            kind=Kind.BASELINE if is_first else Kind.PROPOSAL,
            commit=commit,
            tree=tree,
            base=base,
            base_commit=base_commit,
            lines=1,
            proposer="baseline" if is_first else "user",
            hypothesis="baseline" if is_first else "another threshold",
        ),
        ev.TrialQueued(trial=trial, experiment=name, attempt=1, seed=1),
        ev.TrialStarted(trial=trial, experiment=name, attempt=1, slot=SlotId("cpu-0"), node="box"),
        ev.TrialFinished(trial=trial, experiment=name, attempt=1, outcome=outcome),
        ev.ExperimentJudged(
            experiment=name,
            verdict=Verdict.KEEP if is_first else Verdict.DISCARD,
            delta=0.0,
            reason="",
            reference=base,
        ),
    ]


def test_a_final_run_that_is_broken_off_is_carried_on_and_looks_once(
    make_study: MakeStudy, labels: dict[str, Path], environment: dict[str, str]
) -> None:
    study = searched(make_study, FINAL.format(labels=labels["test"]), labels["val"])
    wait = Path(environment["HOME"], "signals", "wait")
    wait.touch()
    prompt = study.start("final")
    study.wait("the first training to end", lambda: "scored final-1.1" in prompt.output)
    process = find_final(study.home)
    assert process is not None
    os.kill(process, signal.SIGKILL)
    assert prompt.wait() == 1
    assert [final.reported for final in study.state().finals] == [None]
    wait.unlink()

    done = study.incumbent("final", "--json")

    facts = json.loads(done.stdout)
    assert "scored final-1.1" not in done.stderr, "it was not trained again"
    assert facts["test"] == {"mean": pytest.approx(0.85), "error": pytest.approx(0.05), "runs": 2}
    assert (facts["validation"]["mean"], facts["search"]["mean"]) == (0.8, 0.8)
    assert (facts["looks"], facts["experiment"]) == (1, "e0")
    message = study.git("tag", "-l", "--format=%(contents)", "incumbent/study/final-1")
    assert "0.85 ± 0.05 (2)" in message
    assert study.git("rev-parse", "incumbent/study/final-1^{commit}").strip() == facts["commit"]

    again = study.incumbent("final", "--seeds", "1")
    assert "the test labels were looked at 2 times" in again.stdout
    assert "0.9 (1)" in again.stdout


def test_another_experiment_than_the_best_is_trained_if_it_is_named(
    make_study: MakeStudy, labels: dict[str, Path]
) -> None:
    """One that was never promoted: its own commit is run, and tagged."""
    study = searched(
        make_study,
        FINAL.format(labels=labels["test"]),
        labels["val"],
        tried=SCRIPT.replace("> 4 - seed", "> 4").replace("> 6", "> 7"),
    )
    (tried,) = [e.commit for e in study.state().experiments.values() if e.id == "e1"]

    facts = json.loads(study.incumbent("final", "-e", "e1", "--seeds", "1", "--json").stdout)

    assert (facts["experiment"], facts["commit"]) == ("e1", tried)
    assert study.git("rev-parse", "incumbent/study/final-1^{commit}").strip() == tried
    told = {name: facts[name]["mean"] for name in ("baseline", "search", "validation", "test")}
    assert told == {"baseline": 0.8, "search": 0.7, "validation": 0.7, "test": 1.0}
    assert study.state().lineage == ("e0",)

    best = json.loads(study.incumbent("final", "--seeds", "1", "--json").stdout)
    assert (best["experiment"], best["test"]["mean"], best["looks"]) == ("e0", 0.9, 2)


MODEL = {
    "train.py": """
import os
import numpy as np
def predict(threshold, inputs):
    return (inputs > threshold).astype(int)
if __name__ == "__main__":
    np.save(os.environ["INCUMBENT_OUT"] + "/model.npy", 6)
""",
    "predict.py": """
import os
import numpy as np
import train
threshold = np.load(os.environ["INCUMBENT_MODEL"] + "/model.npy")
inputs = np.load(os.environ["INCUMBENT_INPUTS"])
np.save(os.environ["INCUMBENT_PREDICTIONS"], train.predict(threshold, inputs))
""",
}
ASKED = """
predict = "python predict.py"
inputs = "{held}/val.npy"
[holdout]
labels = "{labels}"
inputs = "{held}/holdout.npy"
[final]
labels = "{labels}"
inputs = "{held}/test.npy"
"""


def test_the_model_of_a_full_run_is_asked_about_all_that_is_hidden(
    make_study: MakeStudy, labels: dict[str, Path], tmp_path: Path
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    for more, name in enumerate(("val", "holdout", "test")):
        np.save(held / f"{name}.npy", np.arange(10) + more)
        (held / f"{name}.npy").chmod(0o644)
    study = searched(
        make_study, ASKED.format(held=held, labels=labels["test"]), labels["val"], MODEL
    )

    facts = json.loads(study.incumbent("final", "--json").stdout)

    told = [facts[name]["mean"] for name in ("validation", "holdout", "test")]
    assert told == pytest.approx([0.8, 0.9, 1.0])
    kept = (study.home.directory / "predictions" / "final-1.1-1").iterdir()
    assert sorted(each.name for each in kept) == [
        "holdout.npy",
        "predictions.npy",
        "test.npy",
    ]
