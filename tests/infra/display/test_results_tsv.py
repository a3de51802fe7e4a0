"""results.tsv: karpathy/autoresearch's five columns, and what becomes which row."""

import csv
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from cluster.state import events as ev
from eval.judge import Verdict
from infra.display.results_tsv import ResultsTsv
from tests.infra.study_factory import Study, commit, crashed, eventful, failed, metric, scored
from trainer.trial import Ending, ExperimentId, TrialOutcome


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.tsv"


@pytest.fixture
def study(path: Path) -> Study:
    """A study with its baseline measured, and somebody who writes the file."""
    study = Study()
    study.watch(ResultsTsv(path, metric()))
    study.baseline(0.41)
    return study


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text("utf-8").splitlines()]


def test_the_columns_and_formats_are_those_of_autoresearch(study: Study, path: Path) -> None:
    study.keep("LR 0.1 -> 0.2", 0.3799999)
    study.discard("switch to GeLU", 0.44)
    study.crash("double the width")
    assert path.read_text("utf-8") == (
        "commit\tval_loss\tmemory_gb\tstatus\tdescription\n"
        f"{commit('e0')[:7]}\t0.410000\t44.0\tkeep\tbaseline\n"
        f"{commit('promotion of e1')[:7]}\t0.380000\t44.0\tkeep\tLR 0.1 -> 0.2\n"
        f"{commit('e2')[:7]}\t0.440000\t44.0\tdiscard\tswitch to GeLU\n"
        f"{commit('e3')[:7]}\t0.000000\t0.0\tcrash\tdouble the width\n"
    )


def conflict(study: Study) -> None:
    stale = study.win("stale", 0.3)
    study.keep("first", 0.35)
    study.tell(
        ev.MergeConflicted(experiment=stale, against=ExperimentId("e2"), paths=("train.py",))
    )


def drop(study: Study) -> None:
    stale = study.win("stale", 0.3)
    study.tell(ev.WinnerDropped(experiment=stale, reason="still stale after 3 merges"))


def merge(study: Study) -> None:
    stale = study.win("stale", 0.3)
    study.keep("first", 0.35)
    carrier = study.merge(stale)
    study.measure(carrier, 0.29)
    study.judge(carrier, Verdict.KEEP)
    study.promote(carrier)


def end_with(outcome: TrialOutcome) -> Callable[[Study], None]:
    def end(study: Study) -> None:
        experiment = study.propose("ends badly")
        study.start(experiment)
        study.finish(experiment, outcome)

    return end


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        pytest.param(conflict, ["keep", "discard"], id="a conflicted winner is a discard"),
        pytest.param(drop, ["discard"], id="a dropped winner is a discard"),
        pytest.param(merge, ["keep", "keep"], id="a merged winner's row is its merge's"),
        pytest.param(end_with(crashed()), ["crash"], id="a crash"),
        pytest.param(end_with(failed(Ending.TIMED_OUT)), ["crash"], id="a timeout is a crash"),
        pytest.param(end_with(failed(Ending.CANCELLED)), [], id="a cancelled one has no row"),
        pytest.param(end_with(failed(Ending.LOST)), [], id="a lost one has no row"),
        pytest.param(lambda study: study.win("waits", 0.3), [], id="an open one has none yet"),
    ],
)
def test_each_end_has_its_word(
    study: Study, path: Path, happens: Callable[[Study], None], words: list[str]
) -> None:
    happens(study)
    assert [row[3] for row in rows(path)] == ["status", "keep", *words]


def test_rows_are_appended_and_never_changed(study: Study, path: Path) -> None:
    texts = []
    for event in eventful()[len(study.events) :]:
        study.tell(event)
        texts.append(path.read_text("utf-8"))
    assert all(new.startswith(old) for old, new in pairwise(texts))
    assert len(texts[-1].splitlines()) > 15


def test_a_new_controller_writes_what_the_old_one_wrote(study: Study, path: Path) -> None:
    study.tell(*eventful()[len(study.events) :])
    written = path.read_text("utf-8")
    path.write_text("lost in a crash")
    ResultsTsv(path, metric()).resume(study.state)
    assert path.read_text("utf-8") == written


def test_a_retried_experiment_gets_a_further_row(study: Study, path: Path) -> None:
    experiment = study.crash("try again")
    study.tell(ev.RetryRequested(experiment=experiment))
    study.measure(experiment, 0.3)
    study.judge(experiment, Verdict.KEEP)
    study.promote(experiment)
    assert [(row[1], row[3]) for row in rows(path)[2:]] == [
        ("0.000000", "crash"),
        ("0.300000", "keep"),
    ]


def test_a_hypothesis_stays_in_its_column(study: Study, path: Path) -> None:
    study.discard('"a\tb"\r\n\x1b[31mc\x00 \u2028d', 0.5)
    assert rows(path)[-1][4] == "'a b' c d"


@pytest.mark.parametrize(
    ("printed", "memory"),
    [
        ({"peak_vram_mb": 1536.0}, "1.5"),
        ({"peak_memory_gb": 7.25}, "7.2"),
        ({}, "0.0"),
        ({"peak_vram_mb": float("inf")}, "0.0"),
    ],
)
def test_memory_is_what_the_script_printed(
    study: Study, path: Path, printed: dict[str, float], memory: str
) -> None:
    experiment = study.propose("x")
    study.start(experiment)
    study.finish(experiment, scored(0.5, printed))
    study.judge(experiment, Verdict.DISCARD)
    assert rows(path)[-1][2] == memory


def test_a_disk_that_fails_for_a_while_costs_no_row(tmp_path: Path) -> None:
    path = tmp_path / "away" / "results.tsv"
    study = Study()
    writer = study.watch(ResultsTsv(path, metric()))
    study.baseline(0.41)
    path.parent.mkdir()
    writer.close()
    assert [row[3] for row in rows(path)] == ["status", "keep"]


def test_a_deleted_file_comes_back_whole(study: Study, path: Path) -> None:
    path.unlink()
    study.discard("x", 0.5)
    assert [row[3] for row in rows(path)] == ["status", "keep", "discard"]


def test_the_analysis_notebook_of_autoresearch_can_read_it(path: Path) -> None:
    """What its cells compute, one after another; without pandas, which no one else here needs."""
    study = Study()
    study.watch(ResultsTsv(path, metric(name="val_bpb")))
    study.baseline(0.41)
    study.discard('an "unfinished quotation', 0.5)
    study.keep('"LR" up', 0.38)
    study.crash("NaN")
    study.keep("DEPTH 2 -> 3", 0.28)
    study.discard("close", 0.4)
    # It is loaded; numbers are numbers, and statuses are stripped and in capitals.
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert list(table[0]) == ["commit", "val_bpb", "memory_gb", "status", "description"]
    bpb = [float(row["val_bpb"]) for row in table]
    assert [float(row["memory_gb"]) for row in table] == [44.0, 44.0, 44.0, 0.0, 44.0, 44.0]
    words = [row["status"].strip().upper() for row in table]
    # Outcomes are counted, and the rate of those that are kept.
    assert Counter(words) == {"KEEP": 3, "DISCARD": 2, "CRASH": 1}
    kept = [at for at, word in enumerate(words) if word == "KEEP"]
    assert [table[at]["description"] for at in kept] == ["baseline", "'LR' up", "DEPTH 2 -> 3"]
    # The picture: without crashes, those at or below the first; and the least so far.
    valid = [at for at, word in enumerate(words) if word != "CRASH"]
    below = [at for at in valid if bpb[at] <= bpb[valid[0]] + 0.0005]
    assert [at for at in below if words[at] == "DISCARD"] == [5]
    assert [at for at in below if words[at] == "KEEP"] == kept
    assert list(accumulate((bpb[at] for at in kept), min)) == [0.41, 0.38, 0.28]
    # Totals, and what each that was kept brought against the one before it.
    best = min(kept, key=lambda at: bpb[at])
    assert (bpb[0], bpb[best], table[best]["description"]) == (0.41, 0.28, "DEPTH 2 -> 3")
    gains = {table[at]["description"]: bpb[last] - bpb[at] for last, at in pairwise(kept)}
    assert sorted(gains, key=gains.__getitem__, reverse=True) == ["DEPTH 2 -> 3", "'LR' up"]
    assert sum(gains.values()) == pytest.approx(bpb[0] - bpb[best])
