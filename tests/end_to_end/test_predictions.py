"""A study whose metric is computed from predictions: honesty pays, and nothing else does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import BY_HAND, CONFIG, MakeStudy, Study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = """
import os
import numpy as np
INPUTS = np.arange(10)
THRESHOLD = 9
out = os.environ["INCUMBENT_OUT"]
np.save(f"{out}/predictions.npy", (INPUTS > THRESHOLD).astype(int))
np.save(f"{out}/holdout.npy", (INPUTS > THRESHOLD).astype(int))
print("accuracy:", 0.4)
"""
LABELS = np.arange(10) > 4
HONEST = "THRESHOLD = 6"
PERFECT = "print('accuracy:', 1.0)\n"
CHEATS = {
    "boasts": ("", ""),
    "seeks the labels": (
        """
places = ["/labels/labels.npy"]
for top in ("/labels", "/home", os.path.expanduser("~"), "/out", "/experiment", "/proc/1/root"):
    for folder, _, names in os.walk(top):
        places += [f"{{folder}}/{{name}}" for name in names if name == "labels.npy"]
for place in (*places, {labels!r}):
    if os.path.exists(place):
        np.save(f"{{out}}/predictions.npy", np.load(place))
""",
        "",
    ),
    "plants modules for the scorer": (
        """
for folder in (".", out):
    for name in ("numpy", "eval", "json", "sitecustomize"):
        with open(f"{{folder}}/{{name}}.py", "w") as file:
            file.write("print('score: 1.0')")
""",
        "",
    ),
    "links to the labels": (
        """
os.remove(f"{{out}}/predictions.npy")
os.symlink({labels!r}, f"{{out}}/predictions.npy")
""",
        "predictions.npy is a symbolic link or lies behind one",
    ),
    "leaves more rows": (
        "np.save(f'{{out}}/predictions.npy', np.ones(99))\n",
        "predictions.npy holds 99 rows, the labels 10",
    ),
}
"""What is added to the script, and why it cannot be scored, if it cannot."""


def section(labels: Path, more: str = "") -> str:
    holdout = f'[holdout]\nlabels = "{labels.with_name("holdout.npy")}"\nstep = 0.05\n'
    return f'[score]\nlabels = "{labels}"\nmetric = "accuracy"\n{more}{holdout}'


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "secret" / "labels.npy"
    path.parent.mkdir()
    np.save(path, LABELS.astype(int))
    np.save(path.with_name("holdout.npy"), (np.arange(10) > 7).astype(int))
    for each in path.parent.iterdir():
        each.chmod(0o644)
    return path


@pytest.fixture
def study(make_study: MakeStudy, labels: Path) -> Study:
    config = (
        CONFIG.replace("bench.sh", "train.py")
        .replace("./train.py", "python train.py")
        .replace('name = "loss"\ngoal = "minimize"\n', 'name = "accuracy"\ngoal = "maximize"\n')
        .replace("pattern = '^METRIC loss=(\\S+)'", 'source = "predictions"')
    )
    return make_study({"train.py": SCRIPT}, config=BY_HAND + config + section(labels))


def test_an_honest_candidate_improves_and_a_cheat_does_not(study: Study, labels: Path) -> None:
    study.submit(study.patch("train.py", "THRESHOLD = 9", HONEST), name="train.py")
    last = 'print("accuracy:", 0.4)\n'
    for more, _ in CHEATS.values():
        cheat = last + more.format(labels=str(labels)) + PERFECT
        study.submit(study.patch("train.py", last, cheat), name="train.py")

    done = study.incumbent("run", "-n", str(1 + len(CHEATS)))

    state = study.state()
    baseline, honest, *cheats = (state.experiments[f"e{n}"] for n in range(2 + len(CHEATS)))
    assert baseline.last_outcome.value == 0.5
    assert baseline.last_outcome.metrics == {"claimed": 0.4}
    assert (honest.last_outcome.value, honest.status) == (0.8, "kept")
    for experiment, (name, (_, reason)) in zip(cheats, CHEATS.items(), strict=True):
        outcome = experiment.last_outcome
        if reason:
            assert (outcome.crash, outcome.reason) == ("predictions", reason), name
        else:
            assert (outcome.value, experiment.status) == (0.5, "discarded"), name
            assert outcome.metrics["claimed"] == 1.0
    assert "kept" in done.stdout
    assert [(look.trial, look.validation, look.reported) for look in state.holdouts] == [
        ("e0.3", 0.5, pytest.approx(0.8)),
        ("e1.1", 0.8, pytest.approx(0.9)),
    ], "of what is promoted, and of nothing else"
    assert study.git("show", "incumbent/study:train.py") == SCRIPT.replace("THRESHOLD = 9", HONEST)


def test_without_a_sandbox_the_labels_would_be_found(labels: Path, tmp_path: Path) -> None:
    """Else the study above would show nothing."""
    more, _ = CHEATS["seeks the labels"]
    (tmp_path / "train.py").write_text(SCRIPT + more.format(labels=str(labels)))
    environment = {"INCUMBENT_OUT": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "predictions.npy"), LABELS)


def test_a_study_is_not_begun_with_labels_that_its_trials_could_see(
    study: Study, labels: Path
) -> None:
    config = study.repository / "incumbent.toml"
    text = config.read_text()
    inside = study.repository / "labels.npy"
    inside.write_bytes(labels.read_bytes())
    for changed, reason in (
        (text.replace(str(labels), str(inside)), "within the repository"),
        (text.replace("gpus = 0", f'gpus = 0\ndata = ["{labels.parent}"]'), "within [trial] data"),
        (text.replace("gpus = 0", 'gpus = 0\nsandbox = "none"'), "needs a sandbox"),
        (text.replace(str(labels), "/nowhere/labels.npy"), "there is no file /nowhere/labels.npy"),
    ):
        config.write_text(changed)
        assert reason in study.incumbent("run", code=1).stderr
    assert not study.home.exists()


def test_what_was_printed_and_what_is_scored_is_never_mixed(study: Study) -> None:
    study.submit(study.patch("train.py", "THRESHOLD = 9", HONEST), name="train.py")
    config = study.repository / "incumbent.toml"
    scored, _, _ = config.read_text().partition("[score]")
    config.write_text(scored.replace('source = "predictions"', ""))
    assert "was predictions, and incumbent.toml now says" in study.incumbent("run", code=1).stderr
