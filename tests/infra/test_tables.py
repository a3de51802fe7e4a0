"""Tables for people: complete, within 80 columns, and safe to print."""

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from infra import tables
from infra.facts import log_facts, show_facts, status_facts
from tests.infra.study_factory import Study, eventful, scored
from trainer.ports import Progress
from trainer.trial import ExperimentId

NASTY = "[red]x[/] :boom: \x1b[2J\x1b]0;title\x07 学習率 [link=x]y[/link] " + "long " * 40


@pytest.fixture
def study() -> Study:
    """A study that is half-way, with nasty words wherever words may come from."""
    study = Study(slots=3)
    study.open_slot("gpu-0", note=NASTY)
    study.baseline(0.41)
    study.keep("LR 0.1 -> 0.2", 0.38)
    study.discard(NASTY, 0.44)
    study.crash("DEPTH 2 -> 0")
    study.start(study.propose(NASTY, proposer=NASTY))
    return study


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A pipe of 80 columns."""
    monkeypatch.setattr(tables, "WIDTH_OF_A_PIPE", 80)
    return io.StringIO()


def status(study: Study) -> dict:
    heard = {study.state.slots["cpu-0"].trial: Progress(elapsed_s=1, last_line=NASTY)}
    return status_facts(
        study.state,
        now=study.now,
        is_running=True,
        progress=heard,
        limits={"experiments": 24},
        paths={"results": "/home/ada/results.tsv", "picture": "/home/ada/progress.png"},
    )


def is_safe(text: str) -> bool:
    return "[red]x[/]" in text and ":boom:" in text and "\x1b" not in text and "\x07" not in text


def fits(text: str, columns: int = 80) -> bool:
    return all(cell_len(line) <= columns for line in text.splitlines())


def test_a_status_shows_best_slots_queue_and_results(study: Study, narrow: io.StringIO) -> None:
    tables.render_status(status(study), file=narrow)
    text = narrow.getvalue()
    for words in (
        "mar5  incumbent/mar5  searching",
        f"val_loss 0.38  e1 at {study.state.incumbent_commit[:7]}  7.32 % better than 0.41",
        "3 of 24, 1 promoted",
        "0 ready, 1 running",
        "cpu-0  e4.1",
        "cpu-1  idle",
        "gpu-0  blocked",
        "e3  crashed",
        "e2  discarded  0.44      -0.1",
    ):
        assert words in text
    assert is_safe(text)
    assert fits(text)


def test_a_log_has_a_line_for_each_experiment(study: Study, narrow: io.StringIO) -> None:
    tables.render_log(log_facts(study.state), metric="val_loss", file=narrow)
    lines = narrow.getvalue().splitlines()
    assert lines[0].split() == [
        "id",
        "status",
        "val_loss",
        "delta",
        "time",
        "proposer",
        "hypothesis",
    ]
    assert [line.split()[0] for line in lines[1:]] == ["e0", "e1", "e2", "e3", "e4"]
    assert lines[2].split()[:6] == ["e1", "kept", "0.38", "+0.1", "10s", "tuner"]
    assert lines[2].rstrip().endswith("LR 0.1 -> 0.2")
    assert fits(narrow.getvalue())


@pytest.mark.parametrize("experiment", [f"e{n}" for n in range(19)])
def test_everything_of_any_experiment_can_be_shown(experiment: str, narrow: io.StringIO) -> None:
    study = Study(slots=0)
    study.tell(*eventful()[2:])
    name = ExperimentId(experiment)
    facts = show_facts(study.state, name, study.events)
    tables.render_show(facts, metric="val_loss", file=narrow)
    text = narrow.getvalue()
    assert text.startswith(f"{experiment}  {facts['status'].replace('_', ' ')}")
    assert all(str(seq) in text for seq, _ in study.state.experiments[name].story)
    assert fits(text)


def test_a_failure_is_shown_with_the_end_of_its_log(study: Study, narrow: io.StringIO) -> None:
    facts = show_facts(study.state, ExperimentId("e3"), study.events)
    tables.render_show(facts, file=narrow)
    ends = [line.rstrip() for line in narrow.getvalue().splitlines()[-2:]]
    assert ends == ['    File "train.py", line 3', "  ZeroDivisionError: division by zero"]


def test_what_a_trial_took_and_what_limited_it_is_shown(narrow: io.StringIO) -> None:
    study = Study(slots=1)
    study.baseline(0.4)
    name = study.propose("LR 1 -> 2")
    study.start(name)
    study.finish(name, replace(scored(0.5), peak_memory_mb=312.4, limits_by="cgroup v1"))
    tables.render_show(show_facts(study.state, name, study.events), file=narrow)
    (line,) = (each for each in narrow.getvalue().splitlines() if each.startswith("memory"))
    assert line.split(maxsplit=1)[1].strip() == "312 MiB at most, limited by cgroup v1"


def test_words_of_a_candidate_are_shown_as_they_are(study: Study, narrow: io.StringIO) -> None:
    facts = show_facts(study.state, ExperimentId("e4"), study.events)
    tables.render_show(facts, file=narrow)
    assert is_safe(narrow.getvalue())


def test_a_summary_says_where_the_results_are(study: Study, narrow: io.StringIO) -> None:
    tables.render_summary(status(study), file=narrow)
    assert [line.split()[0] for line in narrow.getvalue().splitlines()] == [
        "best",
        "LR",
        "judged",
        "branch",
        "results",
        "picture",
    ]
    assert "/home/ada/progress.png" in narrow.getvalue()


def test_a_study_that_has_not_begun_can_be_shown(narrow: io.StringIO) -> None:
    tables.render_status(status(Study(slots=1)), file=narrow)
    assert "no score yet" in narrow.getvalue()


def test_of_many_slots_only_the_first_are_drawn_live() -> None:
    study = Study(slots=12)
    study.start(study.propose("runs"), slot="cpu-11")
    console = Console(file=io.StringIO(), width=80)
    console.print(tables.status_view(status(study), most_slots=4))
    text = console.file.getvalue()
    assert "cpu-3 " in text
    assert "cpu-4 " not in text
    assert "8 more" in text
    assert "1 of them busy" in text
