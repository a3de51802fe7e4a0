"""Tables for people: complete, within 80 columns, and safe to print."""

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from eval.judge import Verdict
from infra.display import tables
from infra.facts.facts import log_facts, show_facts, status_facts
from tests.infra.study_factory import (
    Study,
    believed,
    control,
    crashed,
    eventful,
    measured,
    rebased,
    scored,
)
from trainer.ports import Progress
from trainer.run_start import Start
from trainer.trial import CrashKind, ExperimentId

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
        paths={
            "study": "/home/ada/mar5",
            "results": "/home/ada/results.tsv",
            "picture": "/home/ada/progress.png",
        },
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


def test_a_status_shows_how_many_are_judged_an_hour(study: Study, narrow: io.StringIO) -> None:
    facts = status(study) | {"rate_per_hour": 42.0}
    for text in (shown_live(facts), rendered(facts, narrow)):
        assert "3 of 24, 1 promoted, 42 an hour" in text
    assert "an hour" not in shown_live(facts | {"rate_per_hour": 0.0})


def shown_live(facts: dict) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(tables.status_view(facts, most_slots=4))
    return console.file.getvalue()


def rendered(facts: dict, stream: io.StringIO) -> str:
    tables.render_status(facts, file=stream)
    return stream.getvalue()


def test_a_best_that_is_worse_than_the_start_is_said_to_be_worse(narrow: io.StringIO) -> None:
    """As after a revert, or for fewer lines at a loss within noise."""
    study = Study()
    study.baseline(0.41)
    study.keep("fewer lines", 0.4141)
    tables.render_status(status(study), file=narrow)
    assert "  1 % worse than 0.41" in narrow.getvalue()


def test_a_status_names_the_folder_of_the_study(study: Study, narrow: io.StringIO) -> None:
    tables.render_status(status(study), file=narrow)
    assert re.search(r"^folder +/home/ada/mar5$", narrow.getvalue(), re.MULTILINE)


def test_a_status_shows_noise_and_what_the_best_is_believed_to_score(narrow: io.StringIO) -> None:
    study = believed()
    facts = status_facts(study.state, now=study.now, is_running=True, progress={})
    tables.render_status(facts, file=narrow)
    assert "believed  0.31 ± 0.01" in narrow.getvalue()
    assert "0.04 a run, known within 50 %, from 3 runs of e0" in narrow.getvalue()


def test_a_status_says_from_which_repeats_the_noise_is_known(narrow: io.StringIO) -> None:
    """Those of what differs by far more than all others are not counted."""
    study = believed()
    for values in ((0.5, 0.52), (0.5, 9.0), (0.51, 0.49, 0.5)):
        again = study.propose("WD 0 -> 0.1")
        for number, value in enumerate(values, start=1):
            study.measure(again, value)
            is_last = number == len(values)
            study.judge(again, Verdict.DISCARD if is_last else Verdict.REPLICATE)
    control(study, "cpu-1", 0.01)
    facts = status_facts(study.state, now=study.now, is_running=True, progress={})
    assert facts["noise"]["runs"] == {"e0": 3, "e1": 2, "e2": 2, "e4": 3}
    assert facts["noise"]["dof"] == 2 + 1 + 1 + 2
    tables.render_status(facts, file=narrow)
    said = " ".join(narrow.getvalue().split())
    assert (
        "known within 29 %, from 10 runs of 4 experiments, 3 of e0, 2 of e1, one outlier left"
        in said
    )


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


@pytest.mark.parametrize("columns", [40, 52, 72])
@pytest.mark.parametrize("metric", ["val_loss", "time"])
def test_on_a_narrow_screen_a_log_does_without_what_is_needed_least(
    study: Study, narrow: io.StringIO, monkeypatch: pytest.MonkeyPatch, columns: int, metric: str
) -> None:
    monkeypatch.setattr(tables, "WIDTH_OF_A_PIPE", columns)
    tables.render_log(log_facts(study.state), metric=metric, file=narrow)
    lines = narrow.getvalue().splitlines()
    assert lines[0].split()[:3] == ["id", "status", metric]
    assert lines[0].split()[-1] == "hypothesis"
    assert [line.split()[0] for line in lines[1:]] == ["e0", "e1", "e2", "e3", "e4"]
    assert lines[2].split()[:3] == ["e1", "kept", "0.38"]
    assert "LR 0.1 ->" in lines[2]
    assert ("proposer" in lines[0]) == (columns == 72)
    assert fits(narrow.getvalue(), columns)


def test_on_a_narrow_screen_a_story_does_without_its_times(
    study: Study, narrow: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "WIDTH_OF_A_PIPE", 40)
    facts = show_facts(study.state, ExperimentId("e1"), study.events)
    tables.render_show(facts, metric="val_loss", file=narrow)
    assert "proposed e1 by tuner: LR" in narrow.getvalue()
    assert fits(narrow.getvalue(), 40)


def test_a_winner_that_could_not_be_merged_is_told_as_one(narrow: io.StringIO) -> None:
    study = Study(slots=0)
    study.tell(*eventful()[2:])
    rows = [row for row in log_facts(study.state) if row["status"] in {"conflicted", "dropped"}]
    tables.render_log(rows, metric="val_loss", file=narrow)
    conflicted, dropped = narrow.getvalue().splitlines()[1:]
    assert "won, but conflicts wit" in conflicted
    assert "won, but merged as e15" in dropped


@pytest.mark.usefixtures("in_tokyo")
def test_a_story_has_the_times_of_where_it_is_read(study: Study, narrow: io.StringIO) -> None:
    facts = show_facts(study.state, ExperimentId("e1"), study.events)
    tables.render_show(facts, metric="val_loss", file=narrow)
    begun = study.state.experiments[ExperimentId("e1")].proposed_at.astimezone()
    assert f"{begun:%Y-%m-%d %H:%M:%S}" in narrow.getvalue()


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


def test_a_rebase_is_told_with_the_base_before_and_what_went_back_with_its_reason(
    narrow: io.StringIO,
) -> None:
    study = rebased()
    tables.render_show(
        show_facts(study.state, ExperimentId("e2"), study.events), metric="m", file=narrow
    )
    assert "e1 at" in narrow.getvalue()
    assert ", rebased from e0" in narrow.getvalue()
    tables.render_log(log_facts(study.state), metric="m", file=narrow)
    (row,) = [line for line in narrow.getvalue().splitlines() if line.startswith("e4")]
    assert row.split()[1] == "cancelled"
    assert "stale: conflicts with e1" in row


def test_a_failure_is_shown_with_the_end_of_its_log(study: Study, narrow: io.StringIO) -> None:
    facts = show_facts(study.state, ExperimentId("e3"), study.events)
    tables.render_show(facts, file=narrow)
    ends = [line.rstrip() for line in narrow.getvalue().splitlines()[-2:]]
    assert ends == ['    File "train.py", line 3', "  ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (CrashKind.OUT_OF_MEMORY, "out of memory"),
        (CrashKind.NO_METRIC, "no metric"),
        (CrashKind.EXCEPTION, "crashed"),
        (CrashKind.SIGNAL, "crashed"),
    ],
)
def test_a_list_says_how_a_trial_failed_and_why(
    kind: CrashKind, words: str, narrow: io.StringIO
) -> None:
    study = Study(slots=1)
    study.baseline(0.4)
    study.start(study.propose("DEPTH 2 -> 99"))
    study.finish("e1", replace(crashed(), crash=kind, reason="why \x1b[2J " + "so " * 40))
    study.reject("a typo", "train.py:4: 'modle'")
    for render in (
        lambda: tables.render_log(log_facts(study.state), file=narrow),
        lambda: tables.render_status(status(study), file=narrow),
    ):
        narrow.truncate(0)
        render()
        lines = [" ".join(line.split()) for line in narrow.getvalue().splitlines()]
        (found,) = (line for line in lines if line.startswith("e1"))
        assert found.startswith(f"e1 {words} - - 10s tuner why so so")
        assert "e2 rejected - - tuner train.py:4: 'modle' (a typo)" in lines
        assert fits(narrow.getvalue())


def test_what_limited_a_trial_is_shown(narrow: io.StringIO) -> None:
    study = Study(slots=1)
    study.baseline(0.4)
    name = study.propose("LR 1 -> 2")
    study.start(name)
    study.finish(name, replace(scored(0.5), limits_by="cgroup v1"))
    tables.render_show(show_facts(study.state, name, study.events), file=narrow)
    (line,) = (each for each in narrow.getvalue().splitlines() if each.startswith("limited by"))
    assert line.split() == ["limited", "by", "cgroup", "v1"]


@pytest.mark.parametrize(
    ("start", "reason", "line"),
    [
        (Start.WARM, "", "ran in bubblewrap, warm start"),
        (Start.GATE, "it is a shell", "ran in bubblewrap, start without imports: it is a shell"),
        (Start.COLD, "\x1b[2Jtoo \nslow", "ran in bubblewrap, cold start: too slow"),
    ],
)
def test_in_what_a_trial_ran_and_how_it_started_is_shown(
    start: Start, reason: str, line: str, narrow: io.StringIO
) -> None:
    study = Study(slots=1)
    study.baseline(0.4)
    study.run(0.5, sandbox="bubblewrap", start=start, cold_reason=reason)
    tables.render_show(show_facts(study.state, ExperimentId("e1"), study.events), file=narrow)
    (shown,) = (each for each in narrow.getvalue().splitlines() if each.startswith("ran in"))
    assert " ".join(shown.split()) == line


def test_a_status_says_why_trials_start_cold_unless_none_does(narrow: io.StringIO) -> None:
    study = Study(slots=1)
    study.baseline(0.4)
    study.run(0.5, sandbox="bubblewrap", start=Start.WARM)
    tables.render_status(status(study), file=narrow)
    assert "starts" not in narrow.getvalue()
    for reason in ("no script", "no script", "too slow"):
        study.run(0.5, sandbox="bubblewrap", start=Start.GATE, cold_reason=reason)
    tables.render_status(status(study), file=narrow)
    (line,) = (each for each in narrow.getvalue().splitlines() if each.startswith("starts"))
    assert " ".join(line.split()) == "starts 1 of 4 warm; 2 not: no script"


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


def test_a_pipe_gets_lines_uncut_and_not_padded() -> None:
    study = Study(slots=1)
    study.discard("long " * 100, 0.44)
    pipe = io.StringIO()
    tables.render_log(log_facts(study.state), file=pipe)
    (line,) = (line for line in pipe.getvalue().splitlines() if "long" in line)
    assert ("long " * 100).strip() in line
    assert len(line) < 600


def test_nothing_is_filled_up_with_blanks_for_a_pipe(study: Study) -> None:
    pipe = io.StringIO()
    tables.render_show(show_facts(study.state, ExperimentId("e3"), study.events), file=pipe)
    tables.render_status(status(study), file=pipe)
    tables.render_log(log_facts(study.state), file=pipe)
    tables.render_summary(status(study), file=pipe)
    assert not [line for line in pipe.getvalue().splitlines() if line != line.rstrip()]
    assert (
        '\n    File "train.py", line 3\n  ZeroDivisionError: division by zero\n' in pipe.getvalue()
    )


def test_where_a_trials_log_and_output_are_is_shown(narrow: io.StringIO) -> None:
    study = Study(slots=1)
    study.baseline(0.4)
    paths = {"log": "/state/logs/e0.1.log", "output": "/state/out/e0.1-1"}
    facts = show_facts(study.state, ExperimentId("e0"), study.events, paths=paths)
    tables.render_show(facts, file=narrow)
    lines = [line.split() for line in narrow.getvalue().splitlines()]
    assert ["log", "/state/logs/e0.1.log"] in lines
    assert ["output", "/state/out/e0.1-1"] in lines


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


@pytest.fixture
def hot() -> Study:
    """A study whose e1 ran slowly on a hot card, beside a stranger."""
    study = Study()
    study.baseline(0.4)
    study.start(study.propose("LR 0.1 -> 0.2"))
    telemetry = measured(
        steps_per_s=4.567,
        throttled_s=8.0,
        throttle_s={"sw_thermal": 8.0, "power_cap": 9.25},
        stranger_mb=4096.0,
        sm_clock_mhz=1980.0,
        sm_clock_min_mhz=1410.0,
        is_vram_of_card=True,
        temperature_max_c=93.0,
    )
    stages = {"train": 90.0, "start": 1.25, "prepare": 8.0, "steps": 72.0, "evaluate": 9.5}
    study.finish("e1", replace(scored(0.5, telemetry=telemetry), stages_s=stages))
    study.judge("e1", Verdict.DISCARD)
    return study


def test_a_mark_stands_beside_the_result(hot: Study, narrow: io.StringIO) -> None:
    tables.render_log(log_facts(hot.state), file=narrow)
    assert "e1  discarded (throttled, stranger, slow)  0.5" in narrow.getvalue()
    assert "e0  kept       " in narrow.getvalue()
    assert fits(narrow.getvalue())


def test_conditions_are_shown_with_their_units(hot: Study, narrow: io.StringIO) -> None:
    tables.render_show(show_facts(hot.state, ExperimentId("e1"), hot.events), file=narrow)
    text = " ".join(narrow.getvalue().split())
    for words in (
        "conditions e1.1 4.57 steps/s, CPU 9s, memory 2.1 GiB, GPU 97 %, 1980 MHz (least 1410),",
        "all of the card: VRAM 44.0 GiB, 600 W, 93 °C, held back by sw_thermal 8s power_cap 9.2s,",
        "strangers 4.0 GiB, start 1.2s, prepare 8s, steps 1m12s, evaluate 9.5s",
        "(throttled, stranger, slow)",
    ):
        assert words in text
    assert fits(narrow.getvalue())


def test_a_status_shows_how_much_of_the_time_is_training(hot: Study, narrow: io.StringIO) -> None:
    tables.render_status(status(hot), file=narrow)
    text = " ".join(narrow.getvalue().split())
    assert "evaluate 9.5s; 80 % is training (median of 1 trial)" in text


def test_of_conditions_that_were_not_measured_there_is_no_word(
    study: Study, narrow: io.StringIO
) -> None:
    tables.render_show(show_facts(study.state, ExperimentId("e3"), study.events), file=narrow)
    assert "conditions" not in narrow.getvalue()


def test_what_a_script_claimed_stands_beside_what_it_is_worth(narrow: io.StringIO) -> None:
    study = Study(slots=1)
    boaster = study.propose("print what is wanted")
    study.start(boaster)
    study.finish(boaster, scored(0.5, metrics={"claimed": 1.0}))
    facts = show_facts(study.state, boaster, study.events)
    tables.render_show(facts, metric="accuracy", file=narrow)
    lines = [line.split() for line in narrow.getvalue().splitlines()]
    assert ["accuracy", "0.5"] in lines
    assert ["claimed", "1"] in lines


def test_a_status_names_the_slots_that_have_shifted_until_they_read_well_again(
    study: Study, narrow: io.StringIO
) -> None:
    for slot, shift in (("cpu-1", -0.2), ("cpu-2", 0.01)):
        control(study, slot, shift)
    tables.render_status(status(study), file=narrow)
    assert re.search(r"^shifted +cpu-1 by -0\.2$", narrow.getvalue(), re.MULTILINE)
    narrow.truncate(0)
    control(study, "cpu-1", 0.01)
    tables.render_status(status(study), file=narrow)
    assert "shifted" not in narrow.getvalue()


def test_status_says_what_the_time_of_slots_went_into_once_it_was_more_than_search(
    study: Study, narrow: io.StringIO
) -> None:
    tables.render_status(status(study), file=narrow)
    assert "spent on" not in narrow.getvalue()
    winner = study.win("WD 0 -> 0.1", 0.3)
    study.measure(study.merge(winner), 0.2, slot="cpu-1")
    tables.render_status(status(study), file=narrow)
    assert "spent on  search " in narrow.getvalue()
    assert "merges " in narrow.getvalue()
