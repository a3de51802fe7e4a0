"""Models asked by real commands in real sandboxes: of what they are asked, and of nothing else."""

import errno
import os
import pwd
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.metric import Goal, Metric
from tests.trainer.conftest import Research
from tests.trainer.trials import cpu_slot
from trainer.arrange_predictor import TrialPlace, arrange_predictor
from trainer.config import ScoreConfig
from trainer.environment import Environment, EnvironmentFailed
from trainer.local_code import LocalCode
from trainer.paths import WorkerPaths
from trainer.predictor import Predicted, Predictor
from trainer.run_records import Limits
from trainer.sandbox.arrange import arrange
from trainer.sandbox.none import NoneSandbox
from trainer.sandbox.port import Sandbox
from trainer.slot_place import SlotPlace
from trainer.trial import CommitId, ExperimentId, Rung, TrialId, TrialSpec

PREDICT = """
import os
import numpy as np
import train
with open(os.environ["INCUMBENT_MODEL"] + "/slope") as file:
    slope = float(file.read())
inputs = np.load(os.environ["INCUMBENT_INPUTS"])
np.save(os.environ["INCUMBENT_PREDICTIONS"], train.apply(slope, inputs))
"""
HONEST = "def apply(slope, inputs):\n    return slope * inputs\n"
SLOT = cpu_slot()
LIMITS = Limits(pids=64, open_files=256, disk_bytes=10**8)
VARIABLES = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin", "HOME": "/home/ada"}
ENVIRONMENT = Environment(argv=("python", "train.py"), variables=VARIABLES)


@dataclass
class Desk:
    """A node with inputs of two kinds, a run's model, and the predictors that were made."""

    folder: Path
    research: Research
    made: list[Predictor] = field(default_factory=list)
    commits: int = 0

    @property
    def paths(self) -> WorkerPaths:
        return WorkerPaths(study=self.folder / "study", environments=self.folder / "environments")

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def labels(self) -> Path:
        return self.folder / "secret" / "labels.npy"

    def spec(self, train: str = HONEST, **more: Any) -> TrialSpec:
        """A trial of a candidate whose train.py is that."""
        self.commits += 1
        train = f"# {self.commits}\n{train}"
        commit = self.research.commit({"predict.py": PREDICT, "train.py": train})
        spec = TrialSpec(
            trial=TrialId("e1.1"),
            experiment=ExperimentId("e1"),
            attempt=1,
            commit=CommitId(commit),
            seed=1,
            budget_s=1.0,
            timeout_s=60.0,
        )
        return replace(spec, **more)

    def config(self, name: str, **section: Any) -> ScoreConfig:
        values = {
            "predict": "python predict.py",
            "inputs": os.fspath(self.folder / name / "inputs.npy"),
            "labels": os.fspath(self.labels),
            "metric": "mse",
            "memory_gb": 0.02,
            "predictions": f"{name}.npy",
        }
        return ScoreConfig(**{**values, **section})

    def predictor(
        self, sandbox: Sandbox | None = None, limits: Limits = LIMITS, **section: Any
    ) -> Predictor:
        made = arrange_predictor(
            {"[score]": self.config("val", **section), "[holdout]": self.config("holdout")},
            trial=TrialPlace(
                environment=ENVIRONMENT,
                sandbox=sandbox or self.sandbox(),
                limits=limits,
                slot=SLOT,
                threads=1,
                code=LocalCode(self.research.bare, CommitId("HEAD")),
                seed=None,
                metric=Metric(name="loss", goal=Goal.MINIMIZE, pattern=r"^loss: (\S+)"),
            ),
            place=SlotPlace(
                study=f"study-{self.folder.name}",
                slot=SLOT.id,
                base=CommitId("0" * 40),
                paths=self.paths,
            ),
        )
        self.made.append(made)
        return made

    def sandbox(self) -> Sandbox:
        return arrange("bubblewrap", environment=ENVIRONMENT, data=(), paths=self.paths)

    def ask(self, predictor: Predictor, spec: TrialSpec) -> Predicted:
        told = predictor.begin(spec, self.model)
        while told is None:
            told = predictor.poll(60.0)
        return told

    def log(self, spec: TrialSpec, name: str = "") -> str:
        return self.paths.predict_log(spec, name).read_text()


@contextmanager
def a_desk(folder: Path) -> Iterator[Desk]:
    made = Desk(folder=folder, research=Research.start(folder))
    made.paths.study.mkdir(parents=True)
    made.labels.parent.mkdir()
    np.save(made.labels, np.arange(3))
    made.labels.chmod(0o644)
    for name, inputs in (("val", np.arange(3)), ("holdout", np.arange(3) + 10)):
        (folder / name).mkdir()
        np.save(folder / name / "inputs.npy", inputs)
        (folder / name / "inputs.npy").chmod(0o666)
    made.model.mkdir()
    made.model.chmod(0o755)
    (made.model / "slope").write_text("2\n")
    (made.model / "slope").chmod(0o666)
    try:
        yield made
    finally:
        for each in made.made:
            each.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with a_desk(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Predictor]]:
    with a_desk(tmp_path_factory.mktemp("predictor")) as made:
        yield made, made.predictor(predict_timeout_s=30.0)


@pytest.fixture
def asked(_shared: tuple[Desk, Predictor]) -> tuple[Desk, Predictor]:
    """A predictor that serves one test after the other, as it does one trial after the other."""
    return _shared


def test_a_model_is_asked_of_each_kind_of_inputs_apart(asked: tuple[Desk, Predictor]) -> None:
    desk, predictor = asked
    told = desk.ask(predictor, desk.spec())
    assert told.is_well
    np.testing.assert_array_equal(np.load(told.folder / "val.npy"), [0, 2, 4])
    np.testing.assert_array_equal(np.load(told.folder / "holdout.npy"), [20, 22, 24])
    assert sorted(each.name for each in told.folder.iterdir()) == ["holdout.npy", "val.npy"]
    assert not desk.paths.predicting(SLOT.id).joinpath("out").exists()


SPY = """
import os, socket
def attempt(what, function, *arguments):
    try:
        print(what, function(*arguments), flush=True)
    except OSError as error:
        print(what, f"errno {error.errno}", flush=True)
def found(name):
    tops = ("/home", "/inputs", "/labels", "/model", "/out", "/experiment", "/tmp", "ROOTS_HOME")
    return [f"{top}/{name}" for top in tops for _, _, names in os.walk(top) if name in names]
def apply(slope, inputs):
    print("inputs", [int(each) for each in inputs])
    print("labels", found("labels.npy"))
    print("left by the other", found("mark"))
    for place in ("/tmp/mark", "/experiment/mark", "/out/mark"):
        open(place, "w").close()
    attempt("network", socket.create_connection, ("169.254.169.254", 80), 1)
    attempt("model", open, "/model/slope", "w")
    attempt("inputs", open, "/inputs/inputs.npy", "a")
    return inputs
""".replace("ROOTS_HOME", pwd.getpwuid(0).pw_dir)


def test_who_is_asked_finds_no_labels_no_network_and_nothing_of_the_other_question(
    asked: tuple[Desk, Predictor],
) -> None:
    desk, predictor = asked
    spec = desk.spec(SPY)
    assert desk.ask(predictor, spec).is_well
    for name, inputs in (("", "[0, 1, 2]"), ("holdout", "[10, 11, 12]")):
        assert desk.log(spec, name).splitlines() == [
            f"inputs {inputs}",
            "labels []",
            "left by the other []",
            f"network errno {errno.ENETUNREACH}",
            f"model errno {errno.EROFS}",
            f"inputs errno {errno.EROFS}",
        ]
    assert (desk.model / "slope").read_text() == "2\n"


CHEATS: dict[str, tuple[str, str]] = {
    "predicts nothing": (
        "import os\ndef apply(*_): os._exit(0)\n",
        "python predict.py made no val.npy of the model",
    ),
    "fails": (
        "def apply(slope, inputs): return 1 / 0\n",
        "python predict.py: ZeroDivisionError: division by zero",
    ),
    "kills itself": (
        "import os\ndef apply(*_): os.kill(os.getpid(), 11)\n",
        "python predict.py: killed by SIGSEGV",
    ),
    "leaves a link": (
        "import os\nos.symlink('/secret', '/out/val.npy')\ndef apply(*_): os._exit(0)\n",
        "val.npy is a symbolic link or lies behind one",
    ),
    "leaves a pipe": (
        "import os\nos.mkfifo('/out/val.npy')\ndef apply(*_): os._exit(0)\n",
        "val.npy is a pipe",
    ),
    "leaves more than may be": (
        "import os\nopen('/out/val.npy', 'w').truncate(10**7)\ndef apply(*_): os._exit(0)\n",
        "val.npy has 10000000 bytes, more than 5000000",
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_makes_no_predictions_says_why(asked: tuple[Desk, Predictor], cheat: str) -> None:
    desk, predictor = asked
    train, reason = CHEATS[cheat]
    told = desk.ask(predictor, desk.spec(train))
    assert (told.is_well, told.report.reason, told.report.is_ours) == (False, reason, False)
    assert not (told.folder / "val.npy").exists()


def test_the_end_of_its_log_is_told_too(asked: tuple[Desk, Predictor]) -> None:
    desk, predictor = asked
    told = desk.ask(predictor, desk.spec(CHEATS["fails"][0]))
    assert told.report.tail.startswith("Traceback (most recent call last):")


def test_a_holdout_that_cannot_be_predicted_is_no_failure_of_the_trial(
    asked: tuple[Desk, Predictor],
) -> None:
    desk, predictor = asked
    spec = desk.spec("def apply(slope, inputs):\n    assert inputs[0] == 0\n    return inputs\n")
    told = desk.ask(predictor, spec)
    assert told.is_well
    assert [each.name for each in told.folder.iterdir()] == ["val.npy"]
    assert "AssertionError" in desk.log(spec, "holdout")


def test_predictions_of_an_earlier_go_are_not_taken_for_those_of_a_later(
    asked: tuple[Desk, Predictor],
) -> None:
    desk, predictor = asked
    assert desk.ask(predictor, desk.spec()).is_well
    told = desk.ask(predictor, desk.spec(CHEATS["predicts nothing"][0]))
    assert not told.folder.exists()


def test_of_a_smoke_run_the_score_alone_is_asked_and_nothing_is_kept(
    asked: tuple[Desk, Predictor],
) -> None:
    desk, predictor = asked
    spec = desk.spec(trial=TrialId("e7.1"), rung=Rung.SMOKE)
    told = desk.ask(predictor, spec)
    assert told.is_well
    assert not told.folder.exists()
    assert not desk.paths.predict_log(spec, "holdout").exists()
    assert desk.paths.predict_log(spec).name == "e7.1-smoke-predict.log"


def test_a_run_that_left_no_model(asked: tuple[Desk, Predictor], tmp_path: Path) -> None:
    desk, predictor = asked
    told = predictor.begin(desk.spec(), tmp_path)
    assert told is not None
    assert told.report.reason == "it left no model in $INCUMBENT_OUT"


def test_one_that_never_answers_is_ended(desk: Desk) -> None:
    predictor = desk.predictor(predict_timeout_s=0.5)
    told = desk.ask(predictor, desk.spec("import time\ntime.sleep(600)\n"))
    reason = "python predict.py: took longer than [score] predict_timeout_s = 0.5"
    assert told.report.reason == reason


def test_one_that_takes_too_much_memory_is_ended(desk: Desk) -> None:
    predictor = desk.predictor(limits=replace(LIMITS, memory_bytes=2 * 10**8))
    told = desk.ask(predictor, desk.spec("import time\nx = b'x' * 10**9\ntime.sleep(60)\n"))
    assert told.report.reason.endswith(("used more than memory_gb = 0.2", "MemoryError"))


# --- what must not be shown ----------------------------------------------------------------------


REFUSED: dict[str, tuple[Callable[[Desk], dict[str, Any]], str]] = {
    "labels among the inputs": (
        lambda desk: {"inputs": os.fspath(desk.labels.parent)},
        r"\[score\] labels: .*labels.npy lies within .*secret, which trials see",
    ),
    "no inputs": (
        lambda _: {"inputs": "/nowhere/inputs.npy"},
        r"\[score\] inputs: there is no /nowhere/inputs.npy on this node",
    ),
    "a home": (
        lambda _: {"inputs": "/"},
        r"\[score\] inputs: with / a trial would be shown this whole machine",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_that_would_show_too_much_are_refused(desk: Desk, case: str) -> None:
    section, reason = REFUSED[case]
    with pytest.raises(EnvironmentFailed, match=reason):
        desk.predictor(**section(desk))


def test_models_are_not_asked_without_a_sandbox(desk: Desk) -> None:
    with pytest.raises(EnvironmentFailed, match="without one a trial runs as you"):
        desk.predictor(sandbox=NoneSandbox())
