"""`incumbent simulate`."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from infra.cli.output import note, print_json
from infra.cli.study_choice import JsonOption, UsageProblem

if TYPE_CHECKING:
    from cluster.policy.study_plan import Policy as ReducerPolicy
    from cluster.simulation.landscape import Landscape
    from eval.ladder import Step
    from infra.simulations.simulations import Policy

T = TypeVar("T", bound=str)

MOST_SLOTS = 4096
MOST_SEEDS = 10_000
PICTURES = (".png", ".svg")


def simulate(
    slots: Annotated[
        str, typer.Option("--slots", help="How many GPUs; several by commas.")
    ] = "1,8",
    judge: Annotated[
        str, typer.Option("--judge", help="Which policies, by commas.")
    ] = "greedy,bayes,sequential",
    reducer: Annotated[
        str, typer.Option("--reducer", help="Which policies for stale winners, by commas.")
    ] = "",
    landscape: Annotated[
        str,
        typer.Option(
            "--landscape", help="published, long_tail, harsh, or a FILE.toml of your own."
        ),
    ] = "published",
    noise: Annotated[
        float | None,
        typer.Option("--noise", help="Standard deviation of a run; default: the landscape's."),
    ] = None,
    seed_share: Annotated[
        float | None,
        typer.Option(
            "--seed-share",
            help="Of that variance, what runs of one seed share; default: the landscape's.",
        ),
    ] = None,
    hours: Annotated[float, typer.Option("--hours", help="How long each study runs.")] = 8.0,
    latency: Annotated[
        float | None,
        typer.Option("--latency", help="Seconds that a proposer takes; default: the landscape's."),
    ] = None,
    max_staleness: Annotated[
        int | None,
        typer.Option(
            "--max-staleness", help="As [reducer] max_staleness; default: the configuration's."
        ),
    ] = None,
    rungs: Annotated[
        str,
        typer.Option(
            "--rungs", help="Try [[rung]]s as well: SECONDS:KEEP, several by commas, e.g. 30:0.33."
        ),
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", help="How many studies of each kind.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="The first seed.")] = 0,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw the curves: FILE.png or FILE.svg.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try judges and reducers on imaginary studies: what would so many GPUs come to."""
    from infra.simulations.simulation_table import render_simulation
    from infra.simulations.simulations import DEFAULT_STALENESS, Question, simulation_facts
    from infra.simulations.simulations import simulate as play

    terrain = _landscape(landscape, noise, seed_share, latency)
    question = Question(
        name=landscape,
        landscape=terrain,
        slots=_slots(slots),
        judges=_judges(judge),
        reducers=_reducers(reducer),
        max_staleness=DEFAULT_STALENESS
        if max_staleness is None
        else int(_within("--max-staleness", max_staleness, 0, 1e6)),
        ladders=((), _rungs(rungs, terrain.runs.seconds)) if rungs else ((),),
        hours=_within("--hours", hours, 0.1, 10_000),
        seeds=tuple(range(seed, seed + int(_within("--seeds", seeds, 1, MOST_SEEDS)))),
    )
    _check_picture(picture)
    answers = play(question, _progress)
    facts = simulation_facts(question, answers)
    if picture:
        from infra.simulations.simulation_drawing import draw_simulation

        draw_simulation(question, answers, picture)
        note(f"picture: {picture}")
    if as_json:
        print_json(facts)
    else:
        render_simulation(facts, about=terrain.about)


def _landscape(
    name: str, noise: float | None, seed_share: float | None, latency_s: float | None
) -> "Landscape":
    from cluster.simulation.landscape import LandscapeProblem, load_landscape

    changes: dict[str, float] = {}
    if noise is not None:
        changes["runs__noise"] = _within("--noise", noise, 0, 1e9)
    if seed_share is not None:
        changes["runs__seed_share"] = _within("--seed-share", seed_share, 0, 1)
    if latency_s is not None:
        changes["surroundings__latency_s"] = _within("--latency", latency_s, 0, 1e6)
    try:
        return load_landscape(name).changed(**changes)
    except LandscapeProblem as problem:
        raise UsageProblem(str(problem)) from problem


def _slots(text: str) -> tuple[int, ...]:
    found = _listed("--slots", text)
    numbers = [int(word) for word in found if word.isascii() and word.isdecimal()]
    if len(numbers) != len(found) or not all(1 <= n <= MOST_SLOTS for n in numbers):
        raise UsageProblem(f"--slots {text!r}: numbers from 1 to {MOST_SLOTS}, e.g. --slots 1,8,64")
    return tuple(dict.fromkeys(numbers))


def _judges(text: str) -> "tuple[Policy, ...]":
    from infra.simulations.simulations import POLICIES

    return _chosen("--judge", text, POLICIES)


def _reducers(text: str) -> "tuple[ReducerPolicy, ...]":
    from infra.simulations.simulations import DEFAULT_REDUCER, REDUCERS

    return _chosen("--reducer", text, REDUCERS) if text else (DEFAULT_REDUCER,)


def _rungs(text: str, full_s: float) -> "tuple[Step, ...]":
    from eval.config import RungConfig

    try:
        pairs = [tuple(map(float, word.split(":"))) for word in _listed("--rungs", text)]
        steps = tuple(RungConfig(budget_s=budget, keep=keep).step() for budget, keep in pairs)
    except ValueError:
        steps = ()
    budgets = [step.budget_s for step in steps]
    if not budgets or budgets != sorted(set(budgets)) or budgets[-1] >= full_s:
        raise UsageProblem(
            f"--rungs {text!r}: SECONDS:KEEP by commas, seconds that rise and stay below a run's "
            f"{full_s:g}, and shares between 0 and 1, e.g. --rungs 30:0.33,100:0.5"
        )
    return steps


def _chosen(option: str, text: str, among: tuple[T, ...]) -> tuple[T, ...]:
    found = _listed(option, text)
    known = {str(policy): policy for policy in among}
    if unknown := [word for word in found if word not in known]:
        raise UsageProblem(f"{option}: there is no {unknown[0]!r}: use {', '.join(among)}")
    return tuple(known[word] for word in dict.fromkeys(found))


def _listed(option: str, text: str) -> Sequence[str]:
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise UsageProblem(f"{option} names nothing")
    return found


def _within(option: str, value: float, least: float, most: float) -> float:
    if not (math.isfinite(value) and least <= value <= most):
        raise UsageProblem(f"{option} {value:g}: must be from {least:g} to {most:g}")
    return value


def _check_picture(path: Path | None) -> None:
    """Refuse before all the work what could not be drawn after it."""
    if path is None:
        return
    if path.suffix not in PICTURES:
        raise UsageProblem(f"--picture {path}: must end in .png or .svg")
    if not path.absolute().parent.is_dir():
        raise UsageProblem(f"--picture {path}: there is no folder {path.absolute().parent}")


def _progress(done: int, of: int) -> None:
    """Say how far it is: on one line of a terminal, and in tenths elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {of} studies" + ("\r\033[K" if done == of else ""))
        sys.stderr.flush()
    elif done == of or done * 10 // of > (done - 1) * 10 // of:
        note(f"{done} of {of} studies")
