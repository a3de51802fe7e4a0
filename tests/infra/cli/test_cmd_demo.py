"""What the demo says to its first user when it has ended, and with which code; no study runs."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cluster.state import events as ev
from infra.cli import cmd_run
from infra.cli.main import app
from infra.display import attach
from infra.processes import launch
from tests.infra.study_factory import Study


@pytest.mark.parametrize(("improves", "code"), [(True, 0), (False, 1)])
def test_the_demo_ends_with_what_to_look_at_or_says_that_nothing_improved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, improves: bool, code: int
) -> None:
    study = Study()
    study.baseline(0.41)
    if improves:
        study.keep("LR 0.1 -> 0.2", 0.38)
    study.tell(ev.StudyFinished(reason="1 experiment was judged"))
    released: list[str] = []
    opened = SimpleNamespace(
        state=lambda: study.state,
        server=SimpleNamespace(release=released.append),
        client="client",
    )
    prepared = SimpleNamespace(study=opened, notes=("from COMMIT",))
    monkeypatch.setattr(launch, "require_sandbox", lambda _: None)
    monkeypatch.setattr(launch, "prepare_study", lambda *_: prepared)
    monkeypatch.setattr(cmd_run, "start", lambda *_, **__: 0)
    monkeypatch.setattr(attach, "gather", lambda *_: {"branch": "incumbent/digits"})
    folder = tmp_path / "digits"
    done = CliRunner().invoke(app, ["demo", str(folder)])
    assert done.exit_code == code, done.output
    assert ("nothing improved" in done.stderr) is not improves
    log = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("e")]
    assert (["e1", "kept"] in log) is improves
    assert (f"git -C {folder} log -p incumbent/digits" in done.stdout) is improves
    assert (f"cd {folder}; " in done.stdout) is improves
    assert ("cd YOUR-REPOSITORY; " in done.stdout) is improves
    assert released == ["client"]
