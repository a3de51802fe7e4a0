"""Landscapes bring plain greedy search to what was published of the runs they were fitted to."""

import itertools
from pathlib import Path
from statistics import fmean

import pytest

from cluster.simulation.landscape import (
    Landscape,
    LandscapeProblem,
    landscapes,
    load_landscape,
)
from cluster.simulation.setup import Setup
from cluster.simulation.study import METRIC, SimulatedStudy
from eval.judge import GreedyJudge

GREEDY = GreedyJudge(metric=METRIC)
LONG_HOURS = 1000.0


def searched(name: str, *, slots: int, experiments: int, seed: int) -> SimulatedStudy:
    study = SimulatedStudy(
        Setup(
            landscape=load_landscape(name),
            judge=GREEDY,
            slots=slots,
            hours=LONG_HOURS,
            seed=seed,
            most_experiments=experiments,
        )
    )
    study.run()
    return study


def test_one_greedy_slot_repeats_the_published_run() -> None:
    rows = []
    for seed in range(25):
        study = searched("published", slots=1, experiments=125, seed=seed)
        claims = [step.claimed for step in study.steps[:-1]]
        wins = [new - old for old, new in itertools.pairwise(claims)]
        crashes = study.state.counts.get("crashed", 0)
        rows.append((len(wins), sum(w < 0.0005 for w in wins), sum(wins), max(wins), crashes))
    wins, small, gained, largest, crashes = (fmean(column) for column in zip(*rows, strict=True))
    assert wins == pytest.approx(22, abs=3)
    assert small == pytest.approx(12, abs=3)
    assert gained == pytest.approx(0.0282, abs=0.002)
    assert largest == pytest.approx(0.0119, abs=0.004)
    assert crashes == pytest.approx(1, abs=0.6)


@pytest.mark.parametrize(
    ("slots", "experiments", "published"), [(16, 910, 0.029), (16, 512, 0.025), (1, 484, 0.025)]
)
def test_many_greedy_slots_come_to_what_skypilot_did(
    slots: int, experiments: int, published: float
) -> None:
    found = [
        searched("long_tail", slots=slots, experiments=experiments, seed=seed).steps[-1].claimed
        for seed in range(4)
    ]
    assert fmean(found) == pytest.approx(published, abs=0.003)


def test_all_that_come_along_can_be_read() -> None:
    assert landscapes() == ("harsh", "long_tail", "published")
    assert all(load_landscape(name).about for name in landscapes())


def test_every_parameter_is_documented() -> None:
    schema = Landscape.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        for name, field in model["properties"].items():
            assert field.get("description") or "$ref" in field, name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file"),
        ("[runs", "cannot be read: "),
        ("about = 2020-01-01", "cannot be read: "),
        ("about = 'x'", "Field required"),
        ("{}\n[gains]\nshare = 0.9", "add up to at most 1"),
        ("{}\n[runs]\nseconds = -1", "runs.seconds: "),
        ("{}\n[runs]\nspeed = 1", "runs."),
    ],
)
def test_a_landscape_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text.replace("{}", "about = 'x'\nbaseline = 1.0"), "utf-8")
    if text is not None and text.startswith("{}"):
        whole = load_landscape("published").model_dump()
        section, _, line = text.partition("]\n")
        name, _, value = line.partition(" = ")
        whole[section.rpartition("[")[2]][name] = float(value)
        path.write_text(as_toml(whole), "utf-8")
    with pytest.raises(LandscapeProblem) as caught:
        load_landscape(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_there_is_none_of_is_answered_with_those_there_are() -> None:
    with pytest.raises(LandscapeProblem, match="harsh, long_tail, published, or FILE"):
        load_landscape("moon")


def as_toml(whole: dict) -> str:
    lines = [f"{k} = {v!r}" for k, v in whole.items() if not isinstance(v, dict)]
    for section, values in whole.items():
        if isinstance(values, dict):
            lines += [f"[{section}]", *(f"{k} = {v}" for k, v in values.items())]
    return "\n".join(lines)
