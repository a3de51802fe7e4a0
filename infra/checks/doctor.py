"""The report of `incumbent doctor`: this machine, the studies that run on it, and what listens.

Knows how checks are made and told; what is checked is in `machine_checks`. Never raises: a check
that fails in a way nobody thought of is a failure with its reason, and one that hangs (a wedged
driver, a network disk that is gone) is left behind with a warning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import TextWrapper
from threading import Thread
from time import monotonic

from cluster.nodes.ray_ports import RayPorts
from cluster.nodes.reach import address_towards, split
from infra.checks.listeners import (
    JoinedStudy,
    Listener,
    RunningStudy,
    firewall_advice,
    joined_studies,
    outside_interfaces,
    running_studies,
    subnet_of,
)
from infra.checks.machine_checks import CHECKS, Finding, Level, embedded_server
from infra.checks.ports import Firewall, Guard, firewall, role_of
from infra.facts.plain_text import one_line

PATIENCE_S = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was found."""

    checks: Mapping[str, Finding]
    studies: Sequence[RunningStudy]
    advice: Sequence[str]
    joined: Sequence[JoinedStudy] = ()

    @property
    def has_failures(self) -> bool:
        """Say whether something keeps studies from running."""
        return any(finding.level is Level.FAILURE for finding in self.checks.values())

    def lines(self, columns: int = 0) -> list[str]:
        """Return the report for people, in so many columns if that is given.

        What is there to be copied, rules of a firewall, is not folded.
        """
        checks = self._check_lines(columns)
        return [*checks, "", *self._study_lines(columns), "", *self.advice]

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
            "joined": [_joined_facts(joined) for joined in self.joined],
            "advice": list(self.advice),
        }

    def _check_lines(self, columns: int) -> list[str]:
        lines = []
        width = max(map(len, self.checks), default=0)
        indent = " " * (width + 11)
        for name, finding in self.checks.items():
            first, *more = finding.found.splitlines() or [""]
            lines.append(f"{finding.level:<7}  {name:<{width}}  {one_line(first)}")
            lines += [indent + one_line(line) for line in more]
            if finding.cure:
                lines.append(f"{indent}cure: {one_line(finding.cure)}")
        return [part for line in lines for part in _folded(line, columns, len(indent))]

    def _study_lines(self, columns: int) -> list[str]:
        lines = []
        for study in self.studies:
            pid = study.controller.pid if study.controller else 0
            who = f"controller {pid}" if pid else "without a controller (`incumbent stop` ends it)"
            lines.append(f"study {study.home.id} of {one_line(str(study.home.repository))}, {who}")
            lines += _listener_lines(study.listeners, columns)
            lines += _firewall_lines(_firewall(study))
        lines = lines or ["no study runs on this machine"]
        for joined in self.joined:
            lines.append(
                f"joined to {joined.head} as {one_line(joined.node)}, process {joined.pid}"
            )
            lines += _listener_lines(joined.listeners, columns)
            lines += _firewall_lines(_firewall(joined))
        return lines


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
    joined: list[JoinedStudy] = []

    def listening() -> Finding:
        running.extend(running_studies())
        joined.extend(joined_studies())
        return _exposure([*running, *joined])

    found["listening sockets"] = _answer(listening)
    advice: list[str] = []

    def advise() -> Finding:
        interfaces = outside_interfaces()
        advice.extend(firewall_advice(interfaces))
        return Finding(Level.OK, ", ".join(f"{n} {a}" for n, a in interfaces.items()) or "none")

    found["ways in"] = _answer(advise)
    return Report(checks=found, studies=running, advice=advice, joined=joined)


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


def _exposure(running: Sequence[RunningStudy | JoinedStudy]) -> Finding:
    listeners = [listener for study in running for listener in study.listeners]
    reachable = [listener for listener in listeners if listener.is_reachable]
    if reachable:
        open_to_all = sum(role_of(listener).guard is not Guard.TOKEN for listener in reachable)
        found = (
            f"{len(reachable)} of {len(listeners)} can be reached from other machines, "
            f"{open_to_all} of them without a token"
        )
        return Finding(Level.WARNING, found, "a firewall, as below")
    return Finding(Level.OK, f"{len(listeners)} of running studies, none reachable from outside")


def _folded(line: str, columns: int, indent: int) -> list[str]:
    """Return the lines that one takes up, the others indented; words stay as they are."""
    if not columns:
        return [line]
    fold = TextWrapper(
        columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return fold.wrap(line) or [""]


def _listener_lines(listeners: Sequence[Listener], columns: int) -> list[str]:
    lines = map(_listener_line, listeners)
    return [part for line in lines for part in _folded(line, columns, 6)]


def _listener_line(listener: Listener) -> str:
    place = f"{listener.address}:{listener.port}" if listener.port else listener.address
    who = one_line(listener.process, most=24)
    line = f"  {who:<24} {listener.pid:>7}  {one_line(place):<21}  "
    if not listener.is_reachable:
        return f"{line}this machine only"
    role = role_of(listener)
    return f"{line}REACHABLE from other machines, guard: {role.guard} ({role.what})"


def _firewall(study: RunningStudy | JoinedStudy) -> Firewall | None:
    """Return the rules for a study that listens to a network; None for others."""
    if isinstance(study, RunningStudy):
        own, _, _ = study.place.rpartition(":")
        folder, role = study.home.directory, "head"
    else:
        own = address_towards(*split(study.head))
        folder, role = study.directory, "node"
    if not own:
        return None
    return firewall(
        study.listeners,
        subnet_of(own),
        table=f"incumbent-{role}-{folder.name}",
        ports=RayPorts.kept_in(folder),
    )


def _firewall_lines(rules: Firewall | None) -> list[str]:
    return [f"  {line}" for line in rules.lines()] if rules else []


def _study_facts(study: RunningStudy) -> dict[str, object]:
    return {
        "study": study.home.id,
        "name": study.home.name,
        "repository": str(study.home.repository),
        "controller": asdict(study.controller) if study.controller else None,
        "ray": asdict(study.ray) if study.ray else None,
        "listen": study.place,
        **_port_facts(study),
    }


def _joined_facts(joined: JoinedStudy) -> dict[str, object]:
    known = {"head": joined.head, "node": joined.node, "pid": joined.pid}
    return {**known, **_port_facts(joined)}


def _port_facts(study: RunningStudy | JoinedStudy) -> dict[str, object]:
    rules = _firewall(study)
    return {
        "listeners": [
            {
                **asdict(listener),
                "is_reachable": listener.is_reachable,
                "guard": role_of(listener).guard,
                "what": role_of(listener).what,
                "is_for_nodes": role_of(listener).is_for_nodes,
            }
            for listener in study.listeners
        ],
        "firewall": rules.facts() if rules else None,
    }
