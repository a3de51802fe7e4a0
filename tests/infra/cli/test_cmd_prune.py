"""`incumbent prune --dry-run` on a study's own curves, over a real server."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config_file import load_config
from cluster.state import events as ev
from eval.judge import Verdict
from infra.cli.cmd_prune import prune
from infra.cli.study_choice import UsageProblem
from infra.local.settings import save_settings
from infra.local.study import opened
from tests.infra.study_factory import Study, failed, scored
from tests.infra.user import CONFIG, FAILURE, TRAIN, USAGE, User
from trainer.ports import Progress
from trainer.trial import CommitId, Ending, TrialId, TrialSpec

BUDGET_S = 10.0
BROKEN_OFF = (Ending.PRUNED, Ending.CANCELLED)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user with a study that has run, of which no curve is known yet."""
    user = User.at(tmp_path)
    monkeypatch.setenv("INCUMBENT_HOME", user.variables["INCUMBENT_HOME"])
    monkeypatch.chdir(user.folder)
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": f"{CONFIG}budget_s = {BUDGET_S}\n[pruner]\nleast = 3\n"})
    user.done("submit", "--set", "LR=0.3")
    save_settings(user.home, load_config(user.folder / "incumbent.toml"))
    return user


def told(
    user: User, losses: dict[str, float], more: Callable[[Study], object] = lambda _: None
) -> None:
    """Let the user's study have run: e4 is far behind and ends so, e5 wins from far behind."""
    study = Study(slots=1)
    study.baseline(2.0)
    for value in (2.1, 2.2, 2.3, 9.0):
        study.run(value)
    late = study.propose("late bloomer")
    study.start(late)
    study.finish(late, scored(1.0), seconds=30.0)
    study.judge(late, Verdict.KEEP)
    study.promote(late)
    more(study)
    with opened(user.home) as found:
        found.ledger.append(
            ev.Draft(id=f"told-{recorded.seq}", at=recorded.at, event=recorded.event)
            for recorded in study.events[1:]
        )
        for name, loss in losses.items():
            for step in range(21):
                progress = Progress(elapsed_s=step * BUDGET_S / 20, points={"loss": loss})
                found.progress.record(spec(name), progress)


def spec(experiment: str) -> TrialSpec:
    return TrialSpec(
        trial=TrialId(f"{experiment}.1"),
        experiment=experiment,  # type: ignore[arg-type]
        attempt=1,
        commit=CommitId("c" * 40),
        seed=1,
        budget_s=BUDGET_S,
        timeout_s=60.0,
    )


LOSSES = {"e0": 2.0, "e1": 2.1, "e2": 2.2, "e3": 2.3, "e4": 9.0, "e5": 8.0}


def test_each_kind_tells_what_it_would_have_saved_and_lost(user: User) -> None:
    told(user, LOSSES)
    facts = json.loads(user.done("prune", "--dry-run", "--json"))
    assert [each["kind"] for each in facts["kinds"]] == [
        "median", "percentile", "patient", "wilcoxon", "flat",
    ]  # fmt: skip
    assert (facts["trials"], facts["might_be_stopped"], facts["winners"]) == (6, 5, 1)
    median = facts["kinds"][0]
    # e3 is behind the median of e0 to e2; e4 stops after 3 s of 10, e5 after 3 s of 30.
    assert [(stop["trial"], stop["percent"]) for stop in median["stopped"]] == [
        ("e3.1", 30), ("e4.1", 30), ("e5.1", 30),
    ]  # fmt: skip
    assert median["winners_lost"] == ["e5"]
    assert median["saved_s"] == pytest.approx(7 + 7 + 27)
    assert median["saved_percent"] == pytest.approx(100 * 41 / 80)
    table = user.done("prune", "--dry-run", "--kind", "median").splitlines()
    assert table[0] == "curves of loss: 6 trials; 5 might be stopped, 1 of them winners"
    assert table[2].split() == ["median", "3", "41s", "51", "%", "e5"]


def test_what_was_stopped_and_run_again_counts_with_its_whole_run_alone(user: User) -> None:
    def broken_off(study: Study, ending: Ending) -> None:
        experiment = study.propose(f"was {ending}")
        study.start(experiment)
        study.finish(experiment, failed(ending), seconds=3.0)
        study.tell(ev.RetryRequested(experiment=experiment))
        study.measure(experiment, 2.4)
        study.judge(experiment, Verdict.DISCARD)

    losses = {**LOSSES, "e6": 9.0, "e7": 9.0}
    told(user, losses, lambda study: [broken_off(study, each) for each in BROKEN_OFF])
    facts = json.loads(user.done("prune", "--dry-run", "--json"))
    assert (facts["trials"], facts["might_be_stopped"], facts["pruned"]) == (6, 5, 1)
    assert facts["without_curve"] == 2, "the second runs, which told nothing in this test"
    stopped = [stop["trial"] for stop in facts["kinds"][0]["stopped"]]
    assert stopped == ["e3.1", "e4.1", "e5.1"]


def test_rungs_are_tried_where_there_are_some_net_of_what_they_take(user: User) -> None:
    told(user, LOSSES)
    said = user.refused(USAGE, "prune", "--dry-run", "--kind", "rungs")
    assert "has no section [[rung]] to try" in said
    text = (user.folder / "incumbent.toml").read_text()
    user.write({"incumbent.toml": f"{text}[[rung]]\nbudget_s = 2.0\nkeep = 0.2\n"})
    facts = json.loads(user.done("prune", "--dry-run", "--json"))
    rungs = facts["kinds"][-1]
    # Of five candidates the first four go on unasked; e5, of 30 s, is fourth and stays.
    assert (rungs["kind"], rungs["winners_lost"]) == ("rungs", ["e5"])
    assert [(stop["trial"], stop["percent"]) for stop in rungs["stopped"]] == [("e5.1", 20)]
    assert rungs["rungs_s"] == pytest.approx(4 * 2 + 2 + 20)
    assert rungs["saved_s"] == pytest.approx(30 - 30)
    table = user.done("prune", "--dry-run", "--kind", "rungs")
    assert "rungs: as if a run on one reached what the curve" in table


def test_the_keys_that_stand_in_the_file_now_are_tried(user: User) -> None:
    told(user, LOSSES)
    text = (user.folder / "incumbent.toml").read_text()
    user.write({"incumbent.toml": f"{text}warmup = 0.9\n"})
    facts = json.loads(user.done("prune", "--dry-run", "--kind", "median", "--json"))
    assert {stop["percent"] for stop in facts["kinds"][0]["stopped"]} == {90}


def test_the_file_of_the_linked_worktree_that_runs_the_study_is_tried(user: User) -> None:
    told(user, LOSSES)
    text = (user.folder / "incumbent.toml").read_text()
    linked = replace(user, folder=user.folder.parent / "linked")
    user.git("worktree", "add", "--quiet", "--detach", str(linked.folder))
    linked.write({"incumbent.toml": f"{text}warmup = 0.9\n"})
    for each, percent in ((linked, 90), (user, 30)):
        facts = json.loads(each.done("prune", "--dry-run", "--kind", "median", "--json"))
        assert {stop["percent"] for stop in facts["kinds"][0]["stopped"]} == {percent}
    (user.folder / "incumbent.toml").unlink()
    facts = json.loads(user.done("prune", "--dry-run", "--kind", "median", "--json"))
    assert {stop["percent"] for stop in facts["kinds"][0]["stopped"]} == {90}


def test_without_curves_it_says_what_there_is_and_which_key_names_it(user: User) -> None:
    said = user.refused(FAILURE, "prune", "--dry-run")
    assert "no trial of mar5 has ended yet" in said
    told(user, LOSSES)
    text = (user.folder / "incumbent.toml").read_text()
    user.write({"incumbent.toml": f'{text}curve = "val_loss"\n'})
    said = user.refused(FAILURE, "prune", "--dry-run")
    assert "no trial of mar5 has a curve of 'val_loss'" in said
    assert "there are loss ([pruner] curve says which number is compared)" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "only `incumbent prune --dry-run` can be asked for: [pruner] kind in"),
        ({"dry_run": True, "kind": "luck"}, "there is no 'luck': use median, percentile"),
        ({"dry_run": True, "kind": ","}, "--kind names nothing"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_cure(options: dict, words: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        prune(**options)
    assert words in str(caught.value)
