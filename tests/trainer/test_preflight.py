"""What preflight holds a candidate against, whom it asks, and what it does without an answer."""

import sys
from pathlib import Path

import pytest

from eval.metric import Goal, Metric
from tests.infra.autoresearch_repository import create_autoresearch_repository
from tests.trainer.conftest import Research, git
from tests.trainer.preflights import BASE, HERE, METRIC, TREE, check, patched
from trainer import source_checks
from trainer.preflight import Preflight, is_same_but_numbers
from trainer.source_checks import ask_ruff
from trainer.trial import CommitId


def test_what_the_base_has_is_no_problem_of_the_candidate(research: Research) -> None:
    odd = BASE + "def never():\n    import gone_package\n    return made + '%d %d' % (1,)\n"
    tree = {**TREE, "train.py": odd}
    assert check(research, odd + "made\nimport gone_package\n", tree=tree) == ""
    assert check(research, odd + "other\n", tree=tree) == "train.py:17: undefined name 'other'"


def test_the_metric_may_be_printed_by_a_frozen_file(research: Research) -> None:
    lost = patched('print(f"val_loss: {value}")', "import helper\nhelper.report(value)")
    assert check(research, lost) == "train.py: no longer prints val_loss"
    tree = {**TREE, "helper.py": "def report(x):\n    print(f'val_loss: {x}')\n"}
    assert check(research, lost, tree=tree) == ""


def test_a_base_that_changes_where_modules_are_found_lets_any_module_pass(
    research: Research,
) -> None:
    wants = patched("import math", "import math, no_such_package")
    tree = {**TREE, "helper.py": "import sys\nsys.path.append('lib')\n"}
    assert check(research, wants, tree=tree) == ""


def test_a_script_that_brings_its_own_dependencies_may_import_them(research: Research) -> None:
    head = "# /// script\n# dependencies = ['no_such_package']\n# ///\n"
    wants = head + patched("import math", "import math, no_such_package")
    assert check(research, wants) == ""


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("run.sh", "python train.py\n", "python train.py $((\n"),
        ("notes.ipynb", "{}", "{"),
        ("train.py", "print 'python 2'\n", "print 'val_loss', (\n"),
        ("train.py", "%matplotlib inline\n", "%matplotlib inline\nmade(\n"),
    ],
)
def test_what_was_never_python_passes(
    research: Research, path: str, before: str, after: str
) -> None:
    assert check(research, after, tree={**TREE, path: before}, path=path) == ""


def test_a_source_that_cannot_be_read_passes(research: Research) -> None:
    assert check(research, BASE + "x = " + "-" * 200_000 + "1\n") == ""
    assert check(research, BASE + "x = " + "[" * 90 + "]" * 90 + "\n") == ""


def test_a_new_file_is_looked_at_too(research: Research) -> None:
    base = CommitId(research.commit(TREE))
    preflight = Preflight(repository=research.bare, metric=METRIC, python=HERE)
    after = {"train.py": BASE, "model.py": "WIDTH = HEIGHT\n"}
    reason = preflight.problem(base=base, before={"train.py": BASE}, after=after)
    assert reason == "model.py:1: undefined name 'HEIGHT'"
    moved = {"train.py": "import model\n", "model.py": BASE + "x = 1\n"}
    assert preflight.problem(base=base, before={"train.py": BASE}, after=moved) == ""


# --- the interpreter ------------------------------------------------------------------------------


def test_without_a_known_interpreter_no_module_is_missing(research: Research) -> None:
    wants = patched("import math", "import math, no_such_package")
    assert check(research, wants, python=None) == ""
    assert check(research, BASE + "made\n", python=None) == "train.py:14: undefined name 'made'"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="needs syntax newer than this Python")
def test_without_a_known_interpreter_newer_syntax_passes(research: Research) -> None:
    newer = BASE + "type Number = int | float\n"
    assert check(research, newer, python=None) == ""
    assert check(research, newer) == "train.py:14: syntax error: invalid syntax"
    broken = "train.py:14: syntax error: '(' was never closed"
    assert check(research, BASE + "(\n", python=None) == broken


@pytest.mark.parametrize("words", ["exit 1", "echo nonsense", "sleep 60"])
def test_a_check_that_fails_lets_everything_pass(
    research: Research, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(source_checks, "_TIME_LIMIT_S", 0.5)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {words}\n" if words != "exit 1" else "#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert check(research, BASE + "(\n", python=python) == ""
    assert check(research, BASE + "(\n", python=tmp_path / "none") == ""


def test_without_ruff_everything_passes(
    research: Research, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise FileNotFoundError("ruff")

    assert check(research, BASE + "made\n")
    monkeypatch.setattr(source_checks, "find_ruff_bin", missing)
    assert check(research, BASE + "made\n") == ""


def test_nothing_of_a_candidate_is_run(research: Research, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    spell = f"open({str(trace)!r}, 'w')"
    candidate = f"import helper\n{spell}\n\n@{spell}\ndef f(x={spell}): pass\n{BASE}"
    tree = {**TREE, "helper.py": spell, "sitecustomize.py": spell, "ast.py": spell}
    assert check(research, candidate + "made\n", tree=tree).endswith("undefined name 'made'")
    assert not trace.exists()


@pytest.mark.parametrize("version", [None, (3, 6), (3, 8), (3, 11), (3, 99)])
def test_ruff_is_asked_for_the_nearest_version_that_it_knows(
    version: tuple[int, int] | None,
) -> None:
    assert [finding.code for finding in ask_ruff("made\n", version)] == ["F821"]


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("LR = 3e-4", "LR = 1e-3", True),
        ("LR = 0.5  # half", "LR = 1  # half", True),
        ("N = 2**16", "N = 2**17", True),
        ("N = 524_288", "N = 65_536", True),
        ("B = (0.8, 0.95)", "B = (0.9, 0.95)", True),
        ("N = 1", "N = 01", False),
        ("N = 1", "N = 1x", False),
        ("N = 1", "N = 1e", False),
        ("x1 = 1", "x2 = 1", False),
        ("N = 1", "N = M", False),
        ("N = 1", "N = -1", False),
        ("N = 1", "N = 1\n", False),
        ("a\nb", "a b", False),
        ('N = "1.5"', 'N = "2.5"', True),
    ],
)
def test_only_numbers_make_no_difference(*, old: str, new: str, same: bool) -> None:
    assert is_same_but_numbers(old, new) is same


def test_a_turned_constant_is_not_worth_asking_about(research: Research) -> None:
    assert check(research, patched("1.0", "2.5"), python=Path("/nobody/is/asked")) == ""


# --- repositories like real ones ------------------------------------------------------------------


def test_an_autoresearch_repository_passes(tmp_path: Path) -> None:
    source = create_autoresearch_repository(tmp_path / "source")
    text = (source / "train.py").read_text()
    metric = Metric(name="val_bpb", goal=Goal.MINIMIZE, pattern=r"^val_bpb:\s+(\S+)")
    preflight = Preflight(repository=source / ".git", metric=metric, python=HERE)

    def problem(new: str) -> str:
        base = CommitId(git(source, "rev-parse", "HEAD"))
        return preflight.problem(base=base, before={"train.py": text}, after={"train.py": new})

    assert problem(text + "\n# touched\n") == ""
    assert problem(text.replace("import math", "import math  # kept")) == ""
    lines = text.splitlines(keepends=True)
    lost = "".join(line for line in lines if not line.startswith('print(f"val_bpb'))
    assert problem(lost) == "train.py: no longer prints val_bpb"


ECLIP = '''\
"""Mutable training script. Reports the mean rank."""

import os
import warnings

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
warnings.filterwarnings("ignore", category=FutureWarning)

import some_framework as fw
from prepare import N_FOLDS, build_fold_dataloaders

DEVICE = "cuda" if fw.cuda.is_available() else "cpu"


class Encoder(fw.Module):
    def __init__(self, name: str = "vit", dim: int = 512):
        super().__init__()
        import another_framework

        self.backbone = another_framework.create(name, dim)


def train() -> float:
    ranks = [1.0 for fold in range(N_FOLDS)]
    for i, r in enumerate(ranks):
        print(f"  Fold {i}: mean_rank = {r:.2f}")
    print(f"\\n>>> val_metric (mean_rank, lower is better): {sum(ranks):.4f}")
    return sum(ranks)


if __name__ == "__main__":
    train()
'''
MARKED = Metric(name="mean_rank", goal=Goal.MINIMIZE, pattern=r"^>>> val_metric \([^)]*\):\s+(\S+)")


def test_a_repository_like_eclips_passes(research: Research) -> None:
    """It runs in a container whose Python nobody knows, from a folder below the top."""
    path = "autoresearch/train.py"
    tree = {path: ECLIP, "autoresearch/prepare.py": "N_FOLDS = 3\n", "autoresearch/run.sh": "x\n"}

    def problem(new: str, python: Path | None = None) -> str:
        return check(research, new, python=python, tree=tree, metric=MARKED, path=path)

    touched = ECLIP.replace("dim: int = 512", "dim: int = 256, *rest")
    wants = ECLIP.replace("import warnings", "import warnings\nimport third_framework")
    lost = ECLIP.replace(">>> val_metric (mean_rank, lower is better)", "mean_rank")
    assert [problem(touched), problem(touched, HERE), problem(wants)] == ["", "", ""]
    assert problem(wants, HERE).startswith(f"{path}:5: needs third_framework")
    assert problem(lost) == f"{path}: no longer prints mean_rank"
