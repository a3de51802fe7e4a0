"""A study whose models are asked, and their answers scored: honesty pays, and nothing else does."""

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
THRESHOLD = 9
out = os.environ["INCUMBENT_OUT"]
def predict(threshold, inputs):
    return (inputs > threshold).astype(int)
if __name__ == "__main__":
    np.save(f"{out}/model.npy", THRESHOLD)
    print("accuracy:", 0.4)
"""
PREDICT = """
import os
import numpy as np
import train
threshold = np.load(os.environ["INCUMBENT_MODEL"] + "/model.npy")
inputs = np.load(os.environ["INCUMBENT_INPUTS"])
np.save(os.environ["INCUMBENT_PREDICTIONS"], train.predict(threshold, inputs))
"""
LABELS = np.arange(10) > 4
HONEST = "THRESHOLD = 6"
PERFECT = "    print('accuracy:', 1.0)\n"
SEEKS = """
places = ["/labels/NAME"]
tops = ("/labels", "/inputs", "/home", os.path.expanduser("~"), "/out", "/experiment", "/model")
for top in tops:
    for folder, _, names in os.walk(top):
        places += [f"{{folder}}/NAME" for name in names if name == "NAME"]
found = [each for each in (*places, PLACE, "/proc/1/root" + PLACE) if os.path.exists(each)]
"""
SEEKS_LABELS = SEEKS.replace("NAME", "labels.npy").replace("PLACE", "{labels!r}")
SEEKS_INPUTS = SEEKS.replace("NAME", "inputs.npy").replace("PLACE", "{inputs!r}")
CHEATS = {
    "boasts, and leaves predictions as it trains": (
        "np.save(f'{{out}}/predictions.npy', (np.arange(10) > 4).astype(int))\n",
        "",
    ),
    "seeks the labels, as it trains and as it is asked": (
        f"""{SEEKS_LABELS}
if found:
    np.save(f"{{{{out}}}}/predictions.npy", np.load(found[0]))
    predict = lambda *_: np.load(found[0])
""",
        "",
    ),
    "seeks the inputs as it trains": (
        f"""{SEEKS_INPUTS}
if found and __name__ == "__main__":
    np.save(f"{{{{out}}}}/model.npy", 4)
""",
        "",
    ),
    "plants modules for whoever comes next": (
        """
for folder in (".", out):
    for name in ("numpy", "eval", "json", "sitecustomize", "predict"):
        with open(f"{{folder}}/{{name}}.py", "w") as file:
            file.write("print('score: 1.0')")
""",
        "",
    ),
    "links to the labels": (
        """
import atexit
def link():
    os.remove(f"{{out}}/predictions.npy")
    os.symlink({labels!r}, f"{{out}}/predictions.npy")
if __name__ != "__main__":
    atexit.register(link)
""",
        "predictions.npy is a symbolic link or lies behind one",
    ),
    "predicts more rows": (
        "def predict(*_):\n    return np.ones(99)\n",
        "predictions.npy holds 99 rows, the labels 10",
    ),
}
"""What is added to the script, and why it cannot be scored, if it cannot."""


def section(labels: Path) -> str:
    held = labels.parent.with_name("held")
    return f"""
[score]
labels = "{labels}"
metric = "accuracy"
predict = "python predict.py"
inputs = "{held}/val/inputs.npy"
[holdout]
labels = "{labels.with_name("holdout.npy")}"
inputs = "{held}/holdout/inputs.npy"
step = 0.05
"""


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "secret" / "labels.npy"
    arrays = {
        path: LABELS.astype(int),
        path.with_name("holdout.npy"): (np.arange(10) > 7).astype(int),
        tmp_path / "held/val/inputs.npy": np.arange(10),
        tmp_path / "held/holdout/inputs.npy": np.arange(10),
    }
    for place, array in arrays.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, array)
        place.chmod(0o644)
    return path


def cheat(name: str, labels: Path) -> str:
    """Return what a cheat adds to the script."""
    inputs = labels.parent.with_name("held") / "val/inputs.npy"
    return CHEATS[name][0].format(labels=str(labels), inputs=str(inputs))


@pytest.fixture
def study(make_study: MakeStudy, labels: Path) -> Study:
    config = (
        CONFIG.replace("bench.sh", "train.py")
        .replace("./train.py", "python train.py")
        .replace('name = "loss"\ngoal = "minimize"\n', 'name = "accuracy"\ngoal = "maximize"\n')
        .replace("pattern = '^METRIC loss=(\\S+)'", 'source = "predictions"')
    )
    files = {"train.py": SCRIPT, "predict.py": PREDICT}
    return make_study(files, config=BY_HAND + config + section(labels))


def test_an_honest_candidate_improves_and_a_cheat_does_not(study: Study, labels: Path) -> None:
    study.submit(study.patch("train.py", "THRESHOLD = 9", HONEST), name="train.py")
    last = '    print("accuracy:", 0.4)\n'
    for name in CHEATS:
        patch = study.patch("train.py", last, last + PERFECT + cheat(name, labels))
        study.submit(patch, name="train.py")

    done = study.incumbent("run", "-n", str(1 + len(CHEATS)))

    state = study.state()
    baseline, honest, *cheats = (state.experiments[f"e{n}"] for n in range(2 + len(CHEATS)))
    assert baseline.last_outcome.value == 0.5
    assert baseline.last_outcome.metrics == {"claimed": 0.4}
    assert baseline.last_outcome.stages_s["predict"] > 0
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
        ("e1.2", 0.8, pytest.approx(0.9)),
    ], "of what is promoted, and of nothing else"
    assert study.git("show", "incumbent/study:train.py") == SCRIPT.replace("THRESHOLD = 9", HONEST)


@pytest.mark.parametrize("name", [name for name in CHEATS if name.startswith("seeks")])
def test_without_a_sandbox_what_is_sought_would_be_found(
    name: str, labels: Path, tmp_path: Path
) -> None:
    """Else the study above would show nothing."""
    (tmp_path / "train.py").write_text(SCRIPT + cheat(name, labels))
    environment = {"INCUMBENT_OUT": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=environment, check=True)
    if "labels" in name:
        np.testing.assert_array_equal(np.load(tmp_path / "predictions.npy"), LABELS)
    else:
        assert np.load(tmp_path / "model.npy") == 4


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
    assert "was predictions, and incumbent.toml now says" in study.incumbent("run", code=2).stderr
