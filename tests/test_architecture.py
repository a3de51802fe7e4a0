"""What import-linter's contracts in pyproject.toml rest on, and what a command costs to start."""

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.config_file import load_config
from cluster.git.source_repository import SourceRepository
from cluster.ours import PACKAGES
from cluster.state import events as ev
from cluster.state.experiment import Kind
from eval.judge import Verdict
from infra.demo_study import create_demo_repository
from infra.local.checkout import CONFIG
from infra.local.study import OpenStudy
from infra.processes.launch import prepare_study
from trainer.trial import CommitId, Ending, ExperimentId, SlotId, TrialId, TrialOutcome

ROOT = Path(__file__).parent.parent
E0, E0_1 = ExperimentId("e0"), TrialId("e0.1")
HEAVY = ("libcst", "matplotlib", "optuna", "ray", "scipy", "torch")


@pytest.fixture(scope="module")
def project() -> Mapping[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def contracts(project: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == kind]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "demo_template" not in name:  # a user's script, run in a repository of its own
                yield name, ast.parse(path.read_bytes())


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the top-level name of every import, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "no import is relative"
            yield node.module.partition(".")[0]


def test_every_package_is_a_layer(project: Mapping[str, Any]) -> None:
    linter = project["tool"]["importlinter"]
    (layers,) = contracts(project, "layers")
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(PACKAGES)
    assert packages == set(linter["root_packages"])
    assert packages == set(layers["layers"])
    assert packages == set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages == set(project["tool"]["mypy"]["packages"])


def test_every_third_party_library_is_confined_to_its_edge(project: Mapping[str, Any]) -> None:
    confined = {m for c in contracts(project, "protected") for m in c["protected_modules"]}
    found = {library for _, tree in modules() for library in imports(tree)}
    assert found - set(sys.stdlib_module_names) - set(PACKAGES) == confined


def test_no_module_rebinds_a_builtin_by_importing_one_of_our_packages_whole() -> None:
    for name, tree in modules():
        whole = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not whole & set(PACKAGES), f"{name}: from {PACKAGES} import names, not modules"


# --- processes of our own ------------------------------------------------------------------------


def test_every_python_that_we_start_is_isolated() -> None:
    """Else a `json.py` in its working directory, or PYTHONPATH, is a candidate's way in."""
    found = 0
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.List | ast.Tuple) or len(node.elts) < 2:
                continue
            if ast.unparse(node.elts[0]) in {"sys.executable", "python", "self._python"}:
                found += 1
                assert ast.unparse(node.elts[1]) == "'-I'", f"{name}:{node.lineno}"
    assert found >= 5, "or this test no longer sees how processes are started"


def test_git_is_started_in_one_place() -> None:
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.List | ast.Tuple) and node.elts:
                is_git = ast.unparse(node.elts[0]) == "'git'"
                assert not is_git or name == "trainer/git_command.py", f"{name}:{node.lineno}"


# --- what a command imports ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A research repository with a study whose baseline was measured; its server stays up."""
    directory = tmp_path_factory.mktemp("reading")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INCUMBENT_HOME", str(directory / "state"))
        repository = create_demo_repository(directory / "digits")
        source = SourceRepository.find(repository)
        study = prepare_study(source, load_config(repository / CONFIG)).study
        measure_baseline(study)
        yield repository
        study.server.release(study.client)


def measure_baseline(study: OpenStudy) -> None:
    base = study.state().base_commit
    told = (
        ev.ExperimentProposed(
            experiment=E0,
            kind=Kind.BASELINE,
            commit=CommitId(base),
            tree="a tree",
            base=E0,
            base_commit=base,
            lines=100,
            proposer="",
            hypothesis="baseline",
        ),
        ev.TrialQueued(trial=E0_1, experiment=E0, attempt=1, seed=1),
        ev.TrialStarted(trial=E0_1, experiment=E0, attempt=1, slot=SlotId("cpu-0"), node="box"),
        ev.TrialFinished(
            trial=E0_1,
            experiment=E0,
            attempt=1,
            outcome=TrialOutcome(ending=Ending.SCORED, value=1.5),
        ),
        ev.ExperimentJudged(
            experiment=E0, verdict=Verdict.KEEP, delta=0.0, reason="baseline", reference=E0
        ),
    )
    now = datetime.now(UTC)
    drafts = [ev.Draft(id=type(event).__name__, at=now, event=event) for event in told]
    study.ledger.append(drafts)
    (study.home.logs / f"{E0_1}.log").write_text("val_loss: 1.5\n", "utf-8")


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "status",
        "log",
        "show e0",
        "diff e0 --against e0",
        "logs e0",
        "top",
        "status --json",
    ],
)
def test_a_reading_command_imports_nothing_heavy(command: str, repository: Path) -> None:
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
        "from infra.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split()],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stderr.splitlines()[-1])
    loaded = {name.partition(".")[0] for name in modules}
    assert "typer" in loaded
    assert not loaded & set(HEAVY)
    # What checks configurations takes as long as all else that `status` does.
    assert "status" not in command or "cluster.config" not in modules


def test_the_verbs_are_listed_without_what_they_need() -> None:
    probe = "import sys, infra.cli.main; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True).stdout
    modules = set(printed.decode().split())
    assert "infra.cli.cmd_status" in modules
    assert not modules & {"cluster.state.state", "msgspec", "pydantic", "redis", "rich.console"}
