"""What to do about a failure: the line names the key, and nothing is said where nobody knows."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cluster.state import events as ev
from cluster.state.experiment import Kind
from infra.display import tables
from infra.display.attach import Left
from infra.display.closing import last_words
from infra.facts.facts import show_facts
from infra.facts.hints import Known, hint
from infra.local.home import StudyHome
from infra.local.study import OpenStudy
from tests.infra.study_factory import Study
from trainer.trial import CrashKind, Ending, ExperimentId, TrialOutcome


def crash(
    reason: str,
    *,
    kind: CrashKind = CrashKind.EXCEPTION,
    tail: str = "",
    sandbox: str = "bubblewrap",
) -> TrialOutcome:
    return TrialOutcome(
        ending=Ending.CRASHED, crash=kind, reason=reason, tail=tail, sandbox=sandbox
    )


@pytest.fixture
def known(tmp_path: Path) -> Known:
    """A machine with data in the user's home and in a checkout."""
    home = tmp_path / "home"
    for path in ("data2/set.npz", "loose.npz", "research/data/train.bin", "research/mylib.py"):
        file = home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    real = Known.of(None, home / "research")
    return Known(
        pattern=r"^val_loss:\s+(\S+)",
        repository=real.repository,
        home=home,
        is_there=real.is_there,
        is_folder=real.is_folder,
    )


NO_FILE = "FileNotFoundError: [Errno 2] No such file or directory: "


@pytest.mark.parametrize(
    ("reason", "place"),
    [
        (f"{NO_FILE}'HOME/data2/set.npz'", "~/data2"),
        (f"{NO_FILE}'HOME/data2'", "~/data2"),
        (f"{NO_FILE}'HOME/loose.npz'", "~/loose.npz"),  # and not all of the home
        ("FileNotFoundError: HOME/data2/set.npz not found.", "~/data2"),
        ("exit code 1: cat: HOME/data2/set.npz: No such file or directory", "~/data2"),
    ],
)
def test_a_file_that_only_the_sandbox_hides(reason: str, place: str, known: Known) -> None:
    reason = reason.replace("HOME", str(known.home))
    cure = "it is there, but not in the sandbox: if trials are to read it, [trial] data = "
    assert hint(crash(reason), known) == f'{cure}["{place}"]'
    assert hint(crash(reason, sandbox="none"), known) == ""


@pytest.mark.parametrize(
    "path",
    [
        "HOME/data9/set.npz",
        "HOME/ckpt.pt",
        "/etc/shadow",
        "/home/../etc/shadow",
        "/",
        "/\0",
        "a/" * 3000,
        "..",
        "",
    ],
)
def test_of_a_file_that_is_nowhere_or_the_systems_there_is_no_word(path: str, known: Known) -> None:
    assert hint(crash(f"{NO_FILE}'{path.replace('HOME', str(known.home))}'"), known) == ""


@pytest.mark.parametrize("path", ["data/train.bin", "/experiment/data/train.bin"])
def test_a_file_that_is_not_committed(path: str, known: Known) -> None:
    cure = hint(crash(f"{NO_FILE}'{path}'"), known)
    assert cure.startswith(f"{path} is in your checkout; trials get what is committed; ")
    assert "full path in [trial] data" in cure


@pytest.mark.parametrize(
    "reason",
    [
        f"{NO_FILE}'HOME/data2/ckpt.pt'",
        "RuntimeError: Parent directory /home/ada/runs does not exist.",
        "OSError: Cannot save file into a non-existent directory: 'runs'",
        "PermissionError: [Errno 13] Permission denied: '/data/x'",
        "OSError: [Errno 30] Read-only file system: '/data/x'",
    ],
)
def test_what_cannot_be_written(reason: str, known: Known) -> None:
    reason = reason.replace("HOME", str(known.home))
    assert "INCUMBENT_OUT" in hint(crash(reason), known)
    assert hint(crash(reason, sandbox="none"), known) == ""


@pytest.mark.parametrize(
    ("reason", "tail"),
    [
        ("URLError: <urlopen error [Errno -3] Temporary failure in name resolution>", ""),
        ("OSError: [Errno 101] Network is unreachable", ""),
        ("exit code 6: gave up", "curl: (6) Could not resolve host: example.org\ngave up"),
    ],
)
def test_a_network_that_is_not_there(reason: str, tail: str, known: Known) -> None:
    said = hint(crash(reason, tail=tail), known)
    assert said.startswith("trials have no network: let [trial] setup fetch")
    assert hint(crash(reason, tail=tail, sandbox="none"), known) == ""


@pytest.mark.parametrize(
    ("environment", "module", "words"),
    [
        ("current", "sklearn", "Incumbent's own Python: install sklearn there, or set [trial] env"),
        ("/home/ada/venv", "sklearn.svm", "trials run in /home/ada/venv: install sklearn there"),
        ("uv", "sklearn", "add sklearn to pyproject.toml, run `uv lock`"),
        ("current", "mylib", "mylib is in your checkout; trials get what is committed"),
    ],
)
def test_a_package_that_is_missing(environment: str, module: str, words: str, known: Known) -> None:
    there = Known(environment=environment, repository=known.repository, is_there=known.is_there)
    assert words in hint(crash(f"ModuleNotFoundError: No module named '{module}'"), there)


@pytest.mark.parametrize(
    ("kind", "reason", "words"),
    [
        (CrashKind.OUT_OF_MEMORY, "used more than memory_gb = 2", "raise [trial] memory_gb"),
        (CrashKind.OUT_OF_MEMORY, "MemoryError", "raise [trial] memory_gb"),
        (CrashKind.OUT_OF_MEMORY, "killed by the kernel, which had run out", "fewer slots"),
        (CrashKind.DISK_LIMIT, "held more than disk_gb = 20", "[trial] disk_gb set the limit"),
        (CrashKind.DISK_LIMIT, "OSError: File too large", "[trial] disk_gb and [trial] disk_files"),
        (CrashKind.PROCESS_LIMIT, "can't start new thread", "[trial] pids"),
        (CrashKind.OPEN_FILES_LIMIT, "Too many open files", "[trial] open_files"),
        (CrashKind.DISK_FULL, "No space left on device", "/tmp or $HOME"),
        (CrashKind.NO_METRIC, "the metric is missing", r"^val_loss:\s+(\S+) ([metric] pattern)"),
    ],
)
def test_the_key_of_what_was_hit(kind: CrashKind, reason: str, words: str, known: Known) -> None:
    assert words in hint(crash(reason, kind=kind), known)


def test_a_time_out_and_what_needs_no_cure(known: Known) -> None:
    late = TrialOutcome(ending=Ending.TIMED_OUT, reason="stopped at its time limit, after 25.1 s")
    assert "[trial] timeout_s" in hint(late, known)
    traceback = f"{NO_FILE}'{known.home}/data2'\n" + "  File\n" * 12 + "ZeroDivisionError: x"
    assert hint(crash("ZeroDivisionError: x", tail=traceback), known) == ""
    cuda = crash("torch.OutOfMemoryError: CUDA out of memory.", kind=CrashKind.OUT_OF_MEMORY)
    assert hint(cuda, known) == ""


@pytest.fixture
def study(known: Known) -> Study:
    """A study whose baseline reads data that the sandbox hides."""
    study = Study(slots=1)
    study.start(study.propose("unmodified", kind=Kind.BASELINE))
    study.finish("e0", crash(f"{NO_FILE}'{known.home}/data2/set.npz'", tail="its last words"))
    return study


def test_show_says_what_to_do_next(study: Study, known: Known) -> None:
    facts = show_facts(study.state, ExperimentId("e0"), study.events, known)
    assert facts["next"].endswith('[trial] data = ["~/data2"]')
    output = io.StringIO()
    tables.render_show(facts, file=output)
    (line,) = (each for each in output.getvalue().splitlines() if each.startswith("next"))
    assert line.split(maxsplit=1)[1].rstrip() == facts["next"]


def test_the_last_line_of_a_run_whose_baseline_failed_says_what_to_do(
    study: Study, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    study.tell(ev.StudyFinished(reason="the baseline crashed", failed=True))
    home = StudyHome(name="mar5", repository=known.repository, directory=known.home / "study")
    opened = cast("OpenStudy", SimpleNamespace(home=home))
    assert last_words(opened, Left.ENDED, study.state, None) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["failed: the baseline crashed", "its last words"]
    assert said[2].startswith("next: it is there, but not in the sandbox")


def test_an_experiment_that_went_well_needs_nothing(known: Known) -> None:
    study = Study(slots=1)
    study.baseline(0.4)
    study.suspect("too good", 0.01)
    shown = [show_facts(study.state, ExperimentId(name), [], known) for name in ("e0", "e1")]
    assert [facts["next"][:33] for facts in shown] == ["", "look at `incumbent diff e1` and `"]
