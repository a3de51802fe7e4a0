"""How much of everything is measured: the only difference between a quick run and a full one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Repetitions and lengths of the measurements."""

    repeats: int
    """Of everything that takes long."""
    command_repeats: int
    slots: int = 8
    experiments: int
    """In a study whose rate is measured."""
    samples_at: tuple[int, ...]
    """Numbers of experiments between which the controller's CPU is measured; the last one is how
    long that study is."""
    slept: int
    """Experiments of one second in a study whose utilisation is measured."""
    waited: tuple[tuple[float, int], ...]
    """Lengths of imaginary trials, in seconds, and how many of each, with a slow proposer."""
    turns: int
    """Pauses between experiments that are measured."""
    known: int
    """Experiments that a study has when `incumbent status` is asked about it."""
    rounds: int
    """Of a sequential loop."""
    repository_mb: int
    """Of a repository whose candidates are brought to a node."""
    candidates: int
    ray_tasks: int
    optuna_trials: int
    seeds: int
    """Simulated studies of each kind on 8 slots."""
    seeds_of_many_slots: int
    """The same on 64, each of which takes as long as ten of those."""
    seeds_of_variations: int
    """The same for each variation of the judge."""
    fleets: tuple[tuple[int, int], ...]
    """Numbers of imaginary workers, and of experiments that they do without waiting. The last is
    the study of which the controller's cost is told, at `samples_at` and its end."""
    ray_fleets: tuple[tuple[int, int], ...]
    """The same with workers that are Ray's actors."""
    paced: tuple[tuple[int, float, int], ...]
    """Imaginary workers, how long each of their trials takes, and how many."""
    leases: tuple[int, ...]
    """How many are held when the queue's calls are timed."""


FULL = Sizes(
    repeats=3,
    command_repeats=7,
    experiments=1000,
    samples_at=(1, 100, 1000, 9000, 10_000),
    slept=240,
    waited=((1.0, 900), (8.0, 160)),
    turns=30,
    known=10_000,
    rounds=100,
    repository_mb=100,
    candidates=50,
    ray_tasks=24,
    optuna_trials=1000,
    seeds=100,
    seeds_of_many_slots=10,
    seeds_of_variations=8,
    fleets=((8, 2000), (64, 2000), (256, 10_000)),
    ray_fleets=((8, 600), (64, 600)),
    paced=((8, 0.625, 800), (64, 5.0, 900), (256, 20.0, 1280)),
    leases=(256, 1000, 2000),
)
QUICK = Sizes(
    repeats=1,
    command_repeats=3,
    experiments=600,
    samples_at=(1, 100, 1000, 2000),
    slept=80,
    waited=((1.0, 700),),
    turns=6,
    known=10_000,
    rounds=20,
    repository_mb=100,
    candidates=10,
    ray_tasks=8,
    optuna_trials=200,
    seeds=4,
    seeds_of_many_slots=0,
    seeds_of_variations=2,
    fleets=((8, 500), (256, 2000)),
    ray_fleets=((8, 200),),
    paced=((64, 5.0, 450),),
    leases=(256,),
)
