"""Real scorers in their sandboxes, on what honest and other candidates leave."""

import errno
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.metric import Goal, Metric
from trainer.arrange_scorer import arrange_scorer
from trainer.config import ScoreConfig
from trainer.environment import Environment, EnvironmentFailed
from trainer.paths import WorkerPaths
from trainer.removal import remove_tree
from trainer.run_records import Limits
from trainer.sandbox.arrange import arrange
from trainer.sandbox.bubblewrap import CACHE
from trainer.sandbox.none import NoneSandbox
from trainer.sandbox.port import Sandbox
from trainer.score_report import ScoreReport
from trainer.scorer import PredictionScorer
from trainer.slot_place import SlotPlace
from trainer.trial import CommitId, ExperimentId, SlotId, TrialId, TrialSpec

LABELS = np.array([1, 0, 2, 2, 1, 0, 1, 2])
SPEC = TrialSpec(
    trial=TrialId("e1.1"),
    experiment=ExperimentId("e1"),
    attempt=1,
    commit=CommitId("0" * 40),
    seed=1,
    budget_s=1.0,
    timeout_s=60.0,
)
METRIC = Metric(name="hits", goal=Goal.MAXIMIZE, pattern=r"^hits:\s+(\S+)")
VARIABLES = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin", "HOME": "/home/ada"}
LIMITS = Limits(pids=64, open_files=256, disk_bytes=10**8)


@dataclass
class Desk:
    """A node with labels, a trial's output, and the scorers that were made."""

    folder: Path
    base: CommitId
    made: list[PredictionScorer]

    @property
    def paths(self) -> WorkerPaths:
        return WorkerPaths(study=self.folder / "study", environments=self.folder / "environments")

    @property
    def labels(self) -> Path:
        return self.folder / "secret" / "labels.npy"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def predictions(self) -> Path:
        return self.out / "predictions.npy"

    def sandbox(self, *data: str) -> Sandbox:
        environment = Environment(argv=("python", "train.py"), variables=VARIABLES)
        return arrange("bubblewrap", environment=environment, data=data, paths=self.paths)

    def scorer(self, *, sandbox: Sandbox | None = None, **section: Any) -> PredictionScorer:
        if "command" not in section:
            section.setdefault("metric", "accuracy")
        config = ScoreConfig(labels=os.fspath(self.labels), **section)
        made = arrange_scorer(
            config,
            metric=METRIC,
            environment=Environment(argv=("python", "train.py"), variables=VARIABLES),
            trial_sandbox=sandbox or self.sandbox(),
            limits=LIMITS,
            place=SlotPlace(
                study=f"study-{self.folder.name}",
                slot=SlotId("cpu-0"),
                base=self.base,
                paths=self.paths,
            ),
        )
        self.made.append(made)
        return made

    def score(self, **section: Any) -> ScoreReport:
        """Score what lies in the output folder, once."""
        return self.tell(self.scorer(**section))

    def tell(self, scorer: PredictionScorer) -> ScoreReport:
        report = scorer.begin(SPEC, self.out)
        while report is None:
            report = scorer.poll(60.0)
        return report


@contextmanager
def a_desk(folder: Path, bare: Path | None = None, base: str = "") -> Iterator[Desk]:
    made = Desk(folder=folder, base=CommitId(base), made=[])
    made.paths.study.mkdir(parents=True)
    if bare is not None:
        made.paths.repository.symlink_to(bare)
    made.labels.parent.mkdir()
    np.save(made.labels, LABELS)
    made.labels.chmod(0o644)
    made.out.mkdir()
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
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, PredictionScorer]]:
    with a_desk(tmp_path_factory.mktemp("scorer")) as made:
        yield made, made.scorer(memory_gb=0.2)


@pytest.fixture
def scored(_shared: tuple[Desk, PredictionScorer]) -> Iterator[tuple[Desk, PredictionScorer]]:
    """A scorer that serves one test after the other, as it does one trial after the other."""
    yield _shared
    remove_tree(_shared[0].out)
    _shared[0].out.mkdir()


SCRIPT = """
import os, pathlib, socket, sys
import numpy as np
labels = np.load(os.environ["INCUMBENT_LABELS"])
predictions = np.load(os.environ["INCUMBENT_PREDICTIONS"])
assert "train.py" in os.listdir("."), "it runs in the base commit"
assert predictions.max() > 0, "only negative predictions"
try:
    socket.create_connection(("169.254.169.254", 80), 1)
except OSError as error:
    print(f"network: {error.errno}")
print(f"rows: {len(labels)}")
print(f"hits: {(labels == predictions).sum()}")
"""


def test_an_honest_candidate_has_its_score_whatever_it_printed(
    scored: tuple[Desk, PredictionScorer],
) -> None:
    desk, scorer = scored
    np.save(desk.predictions, np.where(np.arange(8) < 6, LABELS, 9))
    report = desk.tell(scorer)
    assert (report.value, report.reason, report.is_ours) == (0.75, "", False)
    assert report.wall_s > 0
    assert not desk.paths.scoring(SlotId("cpu-0")).joinpath("out").exists()


def test_what_one_trial_left_is_not_there_for_the_next(
    scored: tuple[Desk, PredictionScorer],
) -> None:
    desk, scorer = scored
    np.save(desk.predictions, LABELS)
    assert desk.tell(scorer).value == 1.0
    desk.predictions.unlink()
    assert desk.tell(scorer).reason == "it left no predictions.npy in $INCUMBENT_OUT"


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.fspath(self.path),)


def hostile_header(shape: str) -> bytes:
    text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


CHEATS: dict[str, tuple[Callable[[Desk], object], str]] = {
    "nothing": (lambda _: None, "it left no predictions.npy in $INCUMBENT_OUT"),
    "a link to the labels": (
        lambda desk: desk.predictions.symlink_to(desk.labels),
        "predictions.npy is a symbolic link or lies behind one",
    ),
    "the labels by another name": (
        lambda desk: os.link(desk.labels, desk.predictions),
        "predictions.npy has 2 names (hard links)",
    ),
    "a link to where the scorer has its labels": (
        lambda desk: desk.predictions.symlink_to("/labels/labels.npy"),
        "predictions.npy is a symbolic link or lies behind one",
    ),
    "a pipe": (lambda desk: os.mkfifo(desk.predictions), "predictions.npy is a pipe"),
    "a folder": (lambda desk: desk.predictions.mkdir(), "predictions.npy is a folder"),
    "a pickle": (
        lambda desk: desk.predictions.write_bytes(pickle.dumps(Touch(desk.folder / "touched"))),
        "predictions.npy is no npy file",
    ),
    "objects": (
        lambda desk: np.save(desk.predictions, np.array([Touch(desk.folder / "touched")] * 8)),
        "predictions.npy is of type '|O': only integers and floats are read",
    ),
    "a header that claims a petabyte": (
        lambda desk: desk.predictions.write_bytes(hostile_header(f"({1 << 47},)")),
        "predictions.npy claims 1125899906842624 bytes of numbers and holds 0",
    ),
    "not a number": (
        lambda desk: np.save(desk.predictions, np.where(LABELS == 0, np.nan, LABELS)),
        "predictions.npy holds NaN or infinity in row 1 and 1 more",
    ),
    "the right values in another shape": (
        lambda desk: np.save(desk.predictions, LABELS[None]),
        "predictions.npy holds 1 rows, the labels 8",
    ),
    "too few rows": (
        lambda desk: np.save(desk.predictions, LABELS[:5]),
        "predictions.npy holds 5 rows, the labels 8",
    ),
    "a score of its own": (
        lambda desk: desk.predictions.write_bytes(b"score: 1.0\n"),
        "predictions.npy is no npy file",
    ),
    "too large a file": (
        lambda desk: np.save(desk.predictions, np.zeros(60_000_000, np.int8)),
        "predictions.npy has 60000128 bytes, more than 50000000",
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_gains_nothing_and_is_told_why(
    scored: tuple[Desk, PredictionScorer], cheat: str
) -> None:
    desk, scorer = scored
    leave, reason = CHEATS[cheat]
    leave(desk)
    report = desk.tell(scorer)
    assert report == ScoreReport(reason=reason, wall_s=report.wall_s)
    assert not (desk.folder / "touched").exists()


def test_a_link_may_lead_to_the_labels(desk: Desk) -> None:
    really = desk.folder / "store" / "3f2a"
    really.parent.mkdir()
    desk.labels.rename(really)
    desk.labels.symlink_to(really)
    np.save(desk.predictions, LABELS)
    assert desk.score().value == 1.0


def test_labels_that_were_spoilt_meanwhile_are_no_fault_of_the_candidate(desk: Desk) -> None:
    scorer = desk.scorer()
    desk.labels.write_bytes(b"")
    np.save(desk.predictions, LABELS)
    report = desk.tell(scorer)
    assert (report.value, report.is_ours) == (None, True)
    assert report.reason == "[score] labels: labels.npy is no npy file"


# --- where labels must not be --------------------------------------------------------------------


def test_labels_within_data_are_refused(desk: Desk) -> None:
    sandbox = desk.sandbox(os.fspath(desk.labels.parent))
    with pytest.raises(EnvironmentFailed, match=r"lies within .*secret, which trials see"):
        desk.scorer(sandbox=sandbox)


def test_labels_that_have_another_name_are_refused(desk: Desk) -> None:
    os.link(desk.labels, desk.folder / "another")
    with pytest.raises(EnvironmentFailed, match=r"has 2 names \(hard links\)"):
        desk.scorer()


def test_labels_are_refused_where_there_is_no_sandbox(desk: Desk) -> None:
    with pytest.raises(EnvironmentFailed, match="without one a trial runs as you"):
        desk.scorer(sandbox=NoneSandbox())


def test_labels_that_are_missing(desk: Desk) -> None:
    desk.labels.unlink()
    with pytest.raises(EnvironmentFailed, match=r"there is no file .*labels.npy on this node"):
        desk.scorer()


def test_labels_that_are_of_no_use_are_told_before_any_trial(desk: Desk) -> None:
    np.save(desk.labels, LABELS - 5)
    with pytest.raises(EnvironmentFailed, match=r"^\[score\] labels: labels.npy must be classes"):
        desk.scorer()


@pytest.mark.skipif(os.geteuid() != 0, reason="another's labels are read by root alone")
def test_labels_that_the_scorer_could_not_read(desk: Desk) -> None:
    desk.labels.chmod(0o600)
    with pytest.raises(EnvironmentFailed, match="chmod o\\+r"):
        desk.scorer()


# --- the user's own scorer -----------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, research: Any) -> Iterator[Desk]:
    """A desk whose repository has a scorer."""
    base = research.commit({"score.py": SCRIPT, "train.py": "pass\n"})
    with a_desk(tmp_path, research.bare, base) as made:
        yield made


def test_the_users_scorer_has_the_last_word(own: Desk) -> None:
    np.save(own.predictions, LABELS)
    scorer = own.scorer(command="python score.py", timeout_s=30.0)
    report = own.tell(scorer)
    assert (report.value, report.reason) == (8.0, "")
    assert report.summary == {"network": float(errno.ENETUNREACH), "rows": 8.0}
    np.save(own.predictions, -LABELS)
    assert own.tell(scorer).reason == (
        "python score.py ended with 1: AssertionError: only negative predictions"
    )


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (
            {"command": "sleep 600", "timeout_s": 0.3},
            "sleep 600 took longer than [score] timeout_s = 0.3",
        ),
        ({"command": "true"}, "true: hits is missing"),
        ({"command": "echo 'hits: nan'"}, "echo 'hits: nan': hits is not finite: nan"),
        ({"command": "sh -c 'kill -9 $$'"}, "sh -c 'kill -9 $$' ended with 137"),
        (
            {"command": "no-such-scorer"},
            "no-such-scorer: no-such-scorer: No such file or directory",
        ),
    ],
)
def test_a_scorer_that_does_not_score(own: Desk, section: dict[str, Any], reason: str) -> None:
    np.save(own.predictions, LABELS)
    report = own.score(**section)
    assert (report.value, report.reason) == (None, reason)


def test_predictions_that_take_too_much_memory(own: Desk) -> None:
    np.save(own.predictions, LABELS)
    hungry = "python -c \"import time; x = b'x' * 10**9; time.sleep(60)\""
    report = own.score(command=hungry, memory_gb=0.2)
    assert report.value is None
    assert report.reason.endswith(("took more memory than [score] memory_gb", "MemoryError"))


def test_what_a_scorer_writes_to_its_cache_counts_as_well(own: Desk) -> None:
    np.save(own.predictions, LABELS)
    write = f"open('{CACHE}/large', 'wb').write(bytes(2 * 10**8))"
    report = own.score(command=f'python -c "import time; {write}; time.sleep(60)"', timeout_s=30.0)
    assert report.value is None
    assert "disk" in report.reason


def test_a_scorer_that_was_lost_says_nothing_of_the_predictions(own: Desk) -> None:
    np.save(own.predictions, LABELS)
    scorer = own.scorer(command="sleep 600")
    assert scorer.begin(SPEC, own.out) is None
    own.labels.unlink()
    scorer.close()
    assert own.tell(scorer).is_ours
