"""The report of `incumbent doctor`: this machine, the studies that run on it, and what listens.

Knows how checks are made and told; what is checked is in `machine_checks`. Never raises: a check
that fails in a way nobody thought of is a failure with its reason, and one that hangs (a wedged
driver, a network disk that is gone) is left behind with a warning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Thread
from time import monotonic

from infra.listeners import (
    Listener,
    RunningStudy,
    firewall_advice,
    outside_interfaces,
    running_studies,
)
from infra.machine_checks import CHECKS, Finding, Level, embedded_server
from infra.plain_text import one_line

PATIENCE_S = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was found."""

    checks: Mapping[str, Finding]
    studies: Sequence[RunningStudy]
    advice: Sequence[str]

    @property
    def has_failures(self) -> bool:
        """Say whether something keeps studies from running."""
        return any(finding.level is Level.FAILURE for finding in self.checks.values())

    def lines(self) -> list[str]:
        """Return the report for people."""
        return [*self._check_lines(), "", *self._study_lines(), "", *self.advice]

    def facts(self) -> dict[str, object]:
        """Return the report for programs."""
        return {
            "ok": not self.has_failures,
            "checks": [
                {
                    "name": name,
                    "status": finding.level,
                    "found": finding.found,
                    "cure": finding.cure,
                }
                for name, finding in self.checks.items()
            ],
            "studies": [_study_facts(study) for study in self.studies],
            "advice": list(self.advice),
        }

    def _check_lines(self) -> list[str]:
        lines = []
        width = max(map(len, self.checks), default=0)
        indent = " " * (width + 11)
        for name, finding in self.checks.items():
            first, *more = finding.found.splitlines() or [""]
            lines.append(f"{finding.level:<7}  {name:<{width}}  {one_line(first)}")
            lines += [indent + one_line(line) for line in more]
            if finding.cure:
                lines.append(f"{indent}cure: {one_line(finding.cure)}")
        return lines

    def _study_lines(self) -> list[str]:
        lines = []
        for study in self.studies:
            pid = study.controller.pid if study.controller else 0
            who = f"controller {pid}" if pid else "without a controller (`incumbent stop` ends it)"
            lines.append(f"study {study.home.id} of {one_line(str(study.home.repository))}, {who}")
            lines += map(_listener_line, study.listeners)
        return lines or ["no study runs on this machine"]


def examine(
    checks: Mapping[str, Callable[[], Finding]] = CHECKS, *, patience_s: float = PATIENCE_S
) -> Report:
    """Look at this machine; takes about a second, three at most.

    Those of `checks` that have not answered after `patience_s` seconds are warned of.
    """
    found = _ask(checks, patience_s)
    # Not one of `checks`: left behind, it would leave a server behind.
    found["embedded server"] = _answer(embedded_server)
    running: list[RunningStudy] = []

    def listening() -> Finding:
        running.extend(running_studies())
        return _exposure(running)

    found["listening sockets"] = _answer(listening)
    advice: list[str] = []

    def advise() -> Finding:
        interfaces = outside_interfaces()
        advice.extend(firewall_advice(interfaces))
        return Finding(Level.OK, ", ".join(f"{n} {a}" for n, a in interfaces.items()) or "none")

    found["ways in"] = _answer(advise)
    return Report(checks=found, studies=running, advice=advice)


def _ask(checks: Mapping[str, Callable[[], Finding]], patience_s: float) -> dict[str, Finding]:
    """Make all checks at the same time."""
    answers: dict[str, Finding] = {}

    def ask(name: str) -> None:
        answers[name] = _answer(checks[name])

    # Daemons: a check that hangs keeps nobody waiting, the end of this program neither.
    threads = [Thread(target=ask, args=(name,), daemon=True) for name in checks]
    deadline = monotonic() + patience_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    late = Finding(Level.WARNING, f"no answer within {patience_s:g} s", "try once more")
    return {name: answers.get(name, late) for name in checks}


def _answer(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever ails the machine, it is to be told
        return Finding(Level.FAILURE, f"{type(error).__name__}: {error}")


def _exposure(running: Sequence[RunningStudy]) -> Finding:
    listeners = [listener for study in running for listener in study.listeners]
    reachable = sum(listener.is_reachable for listener in listeners)
    if reachable:
        found = f"{reachable} of {len(listeners)} can be reached from other machines"
        return Finding(Level.WARNING, found, "a firewall, as below")
    return Finding(Level.OK, f"{len(listeners)} of running studies, none reachable from outside")


def _listener_line(listener: Listener) -> str:
    place = f"{listener.address}:{listener.port}" if listener.port else listener.address
    reach = "REACHABLE from other machines" if listener.is_reachable else "this machine only"
    who = one_line(listener.process, most=24)
    return f"  {who:<24} {listener.pid:>7}  {one_line(place):<21}  {reach}"


def _study_facts(study: RunningStudy) -> dict[str, object]:
    return {
        "study": study.home.id,
        "name": study.home.name,
        "repository": str(study.home.repository),
        "controller": asdict(study.controller) if study.controller else None,
        "ray": asdict(study.ray) if study.ray else None,
        "listeners": [
            {**asdict(listener), "is_reachable": listener.is_reachable}
            for listener in study.listeners
        ],
    }
