"""Labels of all three kinds have to be out of sight before anything begins."""

from pathlib import Path

import pytest

from cluster.config import StudyConfig
from infra.checks.label_checks import require_hidden_labels
from infra.local.home import StudyProblem


def config(folder: Path, *, data: Path | None = None, sandbox: str = "bubblewrap") -> StudyConfig:
    return StudyConfig.model_validate_json(
        f"""{{
        "study": {{"name": "s"}},
        "metric": {{"name": "m", "goal": "maximize", "source": "predictions"}},
        "trial": {{"command": "true", "sandbox": "{sandbox}"}},
        "score": {{"labels": "{folder}/val.npy", "metric": "accuracy"}},
        "holdout": {{"labels": "{folder}/holdout.npy"}},
        "final": {{"labels": "{folder}/test.npy", "data": ["{data or "/nowhere"}"]}}
        }}"""
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("val", "holdout"):
        (secret / f"{name}.npy").touch()
    return secret


def test_test_labels_may_come_later_but_not_too_late(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    require_hidden_labels(config(folder), repository)
    with pytest.raises(StudyProblem, match=r"\[final\] labels: there is no file .*test.npy"):
        require_hidden_labels(config(folder), repository, is_final=True)
    (folder / "test.npy").touch()
    require_hidden_labels(config(folder), repository, is_final=True)


def test_each_kind_is_refused_where_it_could_be_seen(folder: Path, tmp_path: Path) -> None:
    (folder / "test.npy").touch()
    with pytest.raises(StudyProblem, match=r"\[score\] labels: .* within the repository"):
        require_hidden_labels(config(folder), folder)
    (folder / "holdout.npy").unlink()
    with pytest.raises(StudyProblem, match=r"\[holdout\] labels: there is no file"):
        require_hidden_labels(config(folder), tmp_path / "repository")
    (folder / "holdout.npy").touch()
    with pytest.raises(StudyProblem, match=r"within \[final\] data"):
        require_hidden_labels(config(folder, data=folder), tmp_path / "repository")


def test_paths_that_nobody_can_resolve_are_told_with_what_names_them(
    folder: Path, tmp_path: Path
) -> None:
    nobody = Path("~nobody-of-this-name/x")
    for found, key in (
        (config(nobody), r"\[score\] labels"),
        (config(folder, data=nobody), r"\[final\] data"),
        (asked(folder, nobody), r"\[score\] inputs"),
        (asked(folder, folder, str(nobody)), r"\[final\] inputs"),
    ):
        with pytest.raises(StudyProblem, match=f"^{key}: {nobody}.* begins with a home"):
            require_hidden_labels(found, tmp_path / "repository")
    with pytest.raises(StudyProblem, match=r"^\[score\] labels: .* cannot be looked at"):
        require_hidden_labels(config(folder / ("x" * 300)), tmp_path / "repository")


def test_links_that_go_in_a_circle_are_told_with_what_names_them(
    folder: Path, tmp_path: Path
) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for found, key in (
        (config(circle), r"\[score\] labels"),
        (config(folder, data=circle), r"\[final\] data"),
        (asked(folder, circle / "x"), r"\[score\] inputs"),
    ):
        with pytest.raises(StudyProblem, match=f"^{key}: {circle}.* cannot be looked at .*links"):
            require_hidden_labels(found, tmp_path / "repository")


def test_without_a_sandbox_nothing_is_hidden(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyProblem, match="needs a sandbox"):
        require_hidden_labels(config(folder, sandbox="none"), tmp_path)


def asked(folder: Path, inputs: Path, test: str = "") -> StudyConfig:
    final = f', "final": {{"labels": "{folder}/test.npy", "inputs": "{test}"}}' if test else ""
    return StudyConfig.model_validate_json(
        f"""{{
        "study": {{"name": "s"}},
        "metric": {{"name": "m", "goal": "maximize", "source": "predictions"}},
        "trial": {{"command": "true"}},
        "score": {{"labels": "{folder}/val.npy", "metric": "accuracy",
                   "predict": "python predict.py", "inputs": "{inputs}"}}{final}
        }}"""
    )


def test_inputs_hold_no_labels_of_any_kind_and_are_there(folder: Path, tmp_path: Path) -> None:
    repository, inputs = tmp_path / "repository", tmp_path / "inputs"
    with pytest.raises(StudyProblem, match=r"\[score\] inputs: there is no .*inputs. Put it there"):
        require_hidden_labels(asked(folder, inputs), repository)
    inputs.mkdir()
    require_hidden_labels(asked(folder, inputs), repository)
    with pytest.raises(StudyProblem, match=r"\[score\] labels: .* within \[score\] inputs"):
        require_hidden_labels(asked(folder, folder), repository)
    (folder / "test.npy").touch()
    with pytest.raises(StudyProblem, match=r"\[score\] labels: .* within \[final\] inputs"):
        require_hidden_labels(asked(folder, inputs, str(folder)), repository)
    later = asked(folder, inputs, "/nowhere")
    require_hidden_labels(later, repository)
    with pytest.raises(StudyProblem, match=r"\[final\] inputs: there is no /nowhere"):
        require_hidden_labels(later, repository, is_final=True)
