"""How each fault is done, and undone."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from tests.chaos.losses import Fault
from tests.chaos.machines import Machine, Process
from tests.chaos.schedule import Planned

_KILLED: Mapping[str, tuple[str, ...]] = {
    "controller": ("infra.processes.controller_main",),
    "fleet": ("cluster.nodes.fleet import main",),
    "queue actor": ("ray::QueueActor",),
    "server": ("valkey-server",),
    "worker": ("ray::WorkerActor",),
    "supervisor": ("trainer.supervisor",),
    "raylet": ("/raylet/raylet ",),
    "gcs": ("/gcs/gcs_server ",),
    "node process": ("infra.processes.node_process import main",),
    "node driver": ("cluster.nodes.node import main",),
    "node raylet": ("/raylet/raylet ",),
    "node worker": ("ray::WorkerActor",),
    "node supervisor": ("trainer.supervisor",),
}
"""What the command line of each part holds."""
_THERE_S = 60.0


class NotThere(AssertionError):
    """A part did not come back in time to be killed again."""


def inject(
    planned: Planned,
    machine: Machine,
    *,
    slots: frozenset[str] | None,
    is_over: Callable[[], bool] = lambda: False,
) -> Fault:
    """Do a fault and, if it lasts, undo it; return what was done.

    `slots` are those of the machine, None for all. Raises NotThere if a part that is to be killed
    is not there, or not before it is over.
    """
    fault = Fault(at=_now(), part=planned.part, machine=machine.name, slots=slots)
    if planned.part in _KILLED:
        found = wait_for(machine, *_KILLED[planned.part], is_over=is_over)
        victim = found[int(planned.delay_s * 1000) % len(found)]
        fault = replace(fault, at=_now())
        machine.signal(victim.pid)
        return fault
    begin, end = _LASTING[planned.part]
    begin(machine)
    try:
        time.sleep(planned.lasts_s)
    finally:
        end(machine)
    return replace(fault, until=_now())


_LASTING: Mapping[str, tuple[Callable[[Machine], None], Callable[[Machine], None]]] = {
    "partition": (Machine.cut, Machine.heal),
    "pause": (Machine.pause, Machine.resume),
    "full disk": (Machine.fill_disk, Machine.free_disk),
    "node": (Machine.power_off, Machine.boot),
}


def wait_for(
    machine: Machine, *words: str, is_over: Callable[[], bool] = lambda: False
) -> list[Process]:
    """Return processes by their command lines, once one is there: it may just be coming back."""
    deadline = time.monotonic() + _THERE_S
    while not (found := machine.find(*words)):
        if time.monotonic() > deadline or is_over():
            lines = "\n".join(f"{p.pid} {p.line[:120]}" for p in machine.processes())
            raise NotThere(f"no {words} on {machine.name} for {_THERE_S:g} s:\n{lines}")
        time.sleep(0.05)
    return found


def _now() -> datetime:
    return datetime.now(UTC)
