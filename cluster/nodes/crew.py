"""The workers of one node: a detached actor for each slot, made, run again, and ended here.

Knows Ray's actors. Does not know where the node is: the head's fleet has a crew, and so has each
node that joined.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.ledger.codec import to_json
from cluster.nodes.ray_cluster import RayFailed
from cluster.nodes.relapses import FIRST_PAUSE_S, Relapses, is_told, pause_s, times
from cluster.nodes.worker_actor import WorkerActor
from cluster.queue.brief import Terms, Versions
from trainer.config import KeepConfig, ScoreConfig, TrialConfig
from trainer.paths import WorkerPaths
from trainer.slot_parts import WorkerSettings
from trainer.trial import CommitId

MOST_FAILURES = 5
WINDOW_S = 120.0
"""A worker that says `MOST_FAILURES` times within this many seconds that it cannot work is reported
as fatal. One that dies is not: candidates and people can kill it, and it is made anew, if ever
later."""

Say = Callable[[str, str], None]
"""Takes what there is to report: `problem` or `fatal`, and a line."""


class CrewFailed(RuntimeError):
    """There can be no workers here, and trying again would not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Where a crew works, and for whom."""

    study: str
    node: str
    """What its slots are called for: a node's name; empty on the head."""
    paths: WorkerPaths
    slots: int
    """CPU slots, or at most so many GPU slots; 0: as many as there are GPUs for."""


class Crew:
    """The workers of the node that this process is a driver on."""

    def __init__(self, terms: Terms, post: Post, say: Say) -> None:
        self._terms = terms
        self._post = post
        self._say = say
        self._trial = TrialConfig.model_validate_json(json.dumps(dict(terms.trial)))
        self._settings = WorkerSettings(
            study=post.study,
            base=CommitId(terms.base),
            paths=post.paths,
            trial=self._trial,
            metric=terms.metric,
            slots=1,
            gpu_busy_mb=terms.gpu_busy_mb,
            editable=terms.editable,
            score=_score(terms.score) if terms.score is not None else None,
            further={section: _score(score) for section, score in terms.further.items()},
            node=post.node,
            keep=KeepConfig.model_validate_json(json.dumps(dict(terms.keep))),
            needed=terms.needed,
        )
        self._workers: dict[str, Any] = {}
        self._runs: dict[Any, str] = {}
        self._failures: dict[str, list[float]] = {}
        self._relapses = Relapses()
        self._due: dict[str, float] = {}

    @property
    def is_home(self) -> bool:
        """Say whether no worker is at work, as when all were told to leave."""
        return not self._runs

    @property
    def settings(self) -> WorkerSettings:
        """What its workers are told, but for their number."""
        return self._settings

    def populate(self) -> int:
        """Find or make a worker per slot; return how many slots there are. Raises CrewFailed."""
        slots = self.count_slots()
        wanted = replace(self._settings, slots=slots)
        # Workers of an earlier controller are adopted if they would do the same.
        key = duties(self._terms, Versions.ours(), slots)
        prefix = self._prefix
        names = [f"{prefix}{number}-{key}" for number in range(slots)]
        end_actors(name for name in actors() if name.startswith(prefix) and name not in names)
        gpus = {"num_gpus": self._trial.gpus} if self._trial.gpus else {}
        for number, name in enumerate(names):
            actor = ray.remote(WorkerActor).options(name=name, **here(), **gpus)
            self._workers[name] = actor.remote(replace(wanted, number=number))
            self._run(name)
        return slots

    @property
    def _prefix(self) -> str:
        return f"worker/{self._post.node}/"

    def count_slots(self) -> int:
        """Return how many slots there can be here; raises CrewFailed if there are none."""
        asked = self._post.slots
        if not self._trial.gpus:
            return asked
        own = ray.get_runtime_context().get_node_id()
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        gpus = sum(node["Resources"].get("GPU", 0.0) for node in nodes if node["NodeID"] == own)
        found = int(gpus // self._trial.gpus)
        if not found:
            raise CrewFailed(
                f"a trial needs {self._trial.gpus:g} GPU, and Ray sees {gpus:g} on this machine "
                "(set [trial] gpus = 0 to run on CPU slots)"
            )
        return min(found, asked) if asked else found

    def _run(self, name: str) -> None:
        self._relapses.begin(name, time.monotonic())
        self._runs[self._workers[name].run.remote()] = name

    def tend(self, *, is_leaving: bool = False) -> None:
        """See which workers have ended, and run them again unless all of them are to leave."""
        now = time.monotonic()
        if not is_leaving:
            for name in [name for name, due in self._due.items() if due <= now]:
                del self._due[name]
                self._run(name)
        done, _ = ray.wait(list(self._runs), timeout=0) if self._runs else ([], [])
        for run in done:
            self._see(self._runs.pop(run), run)

    def _see(self, name: str, run: Any) -> None:  # noqa: ANN401 - Ray's own reference
        """Look at a run that has ended: drained, or ended badly and to be run again."""
        now = time.monotonic()
        self._due[name] = now + FIRST_PAUSE_S
        try:
            ray.get(run)
        except ray.exceptions.RayActorError:
            died = self._relapses.count(name, now)
            self._due[name] = now + pause_s(died)
            if is_told(died):
                self._say("problem", f"{name} died{times(died)}; it is started again")
        except Exception as error:  # noqa: BLE001 - whatever ended it, the study is to go on
            recent = [at for at in self._failures.get(name, []) if now - at < WINDOW_S]
            self._failures[name] = [*recent, now]
            is_hopeless = len(recent) + 1 >= MOST_FAILURES
            failed = self._relapses.count(name, now)
            if is_hopeless or is_told(failed):
                words = f"{name} failed{times(failed)}: {cause(error)}"
                self._say("fatal" if is_hopeless else "problem", words)
        else:
            self._relapses.forget(name)

    def end(self) -> None:
        """End the workers of this node for good."""
        end_actors(name for name in actors() if name.startswith(self._prefix))


def duties(terms: Terms, versions: Versions, slots: int) -> str:
    """Return a short hash of all that decides what a worker does."""
    return hashlib.sha256(to_json((terms, versions, slots))).hexdigest()[:8]


def here() -> dict[str, Any]:
    """Return the options of an actor that lives on this node until it is ended."""
    node = ray.get_runtime_context().get_node_id()
    return {
        "lifetime": "detached",
        "get_if_exists": True,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        "num_cpus": 0,
        "max_restarts": -1,
    }


def actors() -> Sequence[str]:
    """Return the names of all of the study's actors, whoever made them."""
    return [str(name) for name in ray.util.list_named_actors()]


def end_actors(names: Iterable[str]) -> None:
    """End actors for good, by name."""
    for name in names:
        with suppress(ValueError):  # it has ended meanwhile
            ray.kill(ray.get_actor(name), no_restart=True)


def cause(error: Exception) -> str:
    """Return the first line of what lies behind an error of Ray's."""
    found = getattr(error, "cause", None) or error
    if isinstance(found, RayFailed):  # our own words
        return str(found)
    return f"{type(found).__name__}: {found}".splitlines()[0][:500]


def _score(section: object) -> ScoreConfig:
    return ScoreConfig.model_validate_json(json.dumps(section))
