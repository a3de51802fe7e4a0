"""Preflight: what can only fail is told so before it costs a slot.

Knows the rules, which are few: each holds for certain, or as nearly as text can tell, and speaks
only of what is new against the base, which has run. A false alarm loses a good idea for nothing, a
miss costs the first seconds of a trial: so whatever is in doubt passes, and so does everything when
a check itself fails. Candidates are read and never run.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.metric import Metric
from trainer.git_command import GitCommand, GitError
from trainer.preflight_base import PreflightBase, module_names
from trainer.source_checks import (
    SYNTAX,
    Answer,
    CheckFailed,
    Finding,
    SourceFacts,
    ask_interpreter,
    ask_ruff,
    our_interpreter,
)
from trainer.trial import CommitId

_log = logging.getLogger("incumbent")

_UNDEFINED = re.compile(r"Undefined name `(.+)`")
_NUMBER = re.compile(r"(?<![\w.])(?:0|[1-9]\d*(?:_\d+)*)(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.])")
_NO_PLACEHOLDER = "0 placeholder(s)"
"""What is formatted may be a mapping then, or anything that is like one: `"text" % locals()`."""
_OWN_DEPENDENCIES = "# /// script"
"""With this line a script asks `uv run` for an environment of its own."""
_BASES = 4
_MOST_PROBLEMS = 3


class Preflight:
    """Checks the candidates of one study. Not thread safe.

    Args:
        repository: a bare repository that holds the bases, for what else is in their trees.
        metric: what the candidates have to print, unless `prints_metric` says that they need not.
        python: the trials' interpreter; None if nobody knows which it is. Then no module is said
            to be missing, and a syntax error has to be one in the newest Python too.
    """

    def __init__(
        self, *, repository: Path, metric: Metric, python: Path | None, prints_metric: bool = True
    ) -> None:
        self._git = GitCommand(repository)
        self._prints_metric = prints_metric
        self._metric = metric
        self._python = python
        self._bases: OrderedDict[tuple[CommitId, Path | None], PreflightBase] = OrderedDict()

    def problem(
        self, *, base: CommitId, before: Mapping[str, str], after: Mapping[str, str]
    ) -> str:
        """Return why a candidate can only fail, in one line; empty if nothing says so.

        Args:
            base: the commit that the candidate is a patch on; it has run.
            before: all editable files of `base`, by path.
            after: the same files of the candidate.
        """
        changed = {
            path: text
            for path, text in after.items()
            if path.endswith(".py") and not is_same_but_numbers(before.get(path, ""), text)
        }
        if not changed:
            return ""
        try:
            problems = self._problems(base, before, after, changed)
        except (CheckFailed, GitError) as error:
            _log.warning("preflight could not look at a candidate of %s: %s", base[:10], error)
            return ""
        rest = len(problems) - _MOST_PROBLEMS
        return "; ".join(problems[:_MOST_PROBLEMS]) + (f" (and {rest} more)" if rest > 0 else "")

    def _problems(
        self,
        commit: CommitId,
        before: Mapping[str, str],
        after: Mapping[str, str],
        changed: Mapping[str, str],
    ) -> list[str]:
        has_own = any(_OWN_DEPENDENCIES in text for text in (*before.values(), *after.values()))
        python = None if has_own else self._python
        base = self._base(commit, before, python)
        known = base.known_modules | module_names(after)
        new = ask_interpreter(python or our_interpreter(), changed, known)
        check = _Check(base=base, changed=changed, new=new, is_exact=python is not None)
        problems = [*check.wrong(), *(check.missing() if python else ())]
        # Of files that are no Python, nothing is known to have been lost.
        return problems or (list(check.lost_metric()) if self._prints_metric else [])

    def _base(
        self, commit: CommitId, before: Mapping[str, str], python: Path | None
    ) -> PreflightBase:
        key = commit, python
        if key not in self._bases:
            self._bases[key] = PreflightBase(
                git=self._git, commit=commit, files=before, metric=self._metric, python=python
            )
            if len(self._bases) > _BASES:
                self._bases.popitem(last=False)
        self._bases.move_to_end(key)
        return self._bases[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One candidate and what its base says."""

    base: PreflightBase
    changed: Mapping[str, str]
    """Texts of the Python files that are not as they were, by path."""
    new: Answer
    """Of the changed files."""
    is_exact: bool
    """Whether it is the trials' own interpreter that answered."""

    def wrong(self) -> Iterator[str]:
        """Yield what is no Python, and what is bound to raise where it is run."""
        for path, text in self.changed.items():
            facts = self.new.files.get(path)
            if facts is None or not self.base.is_python(path):
                continue
            findings = ask_ruff(text, self.new.version if self.is_exact else None)
            if facts.error is None:
                yield from self._raises(path, facts, findings)
            elif self.is_exact or any(finding.code == SYNTAX for finding in findings):
                line, message = facts.error
                yield f"{path}:{line}: syntax error: {message}"

    def _raises(self, path: str, facts: SourceFacts, findings: list[Finding]) -> Iterator[str]:
        told = set(self.base.findings(path))
        for finding in findings:
            what = finding.code, finding.message
            if what not in told and _is_sure(finding, facts):
                told.add(what)
                yield f"{path}:{finding.line}: {_words(finding)}"

    def missing(self) -> Iterator[str]:
        """Yield the modules that the candidate newly needs and that are not there."""
        if self.base.finds_modules or any(f.finds_modules for f in self.new.files.values()):
            return
        for path, facts in self.new.files.items():
            for module, line in facts.imports.items():
                if module in self.new.missing:
                    yield f"{path}:{line}: needs {module}, which is not in the environment"

    def lost_metric(self) -> Iterator[str]:
        """Yield that nothing is left of what prints the metric."""
        files = {**self.base.facts, **self.new.files}
        is_known = all(facts.error is None and not facts.is_dynamic for facts in files.values())
        if is_known and self.base.metric.is_lost(facts.strings for facts in files.values()):
            yield f"{', '.join(self.changed)}: no longer prints {self.base.metric.name}"


def is_same_but_numbers(old: str, new: str) -> bool:
    """Say whether two texts differ at most in numbers, as where a tuner has turned constants.

    Then what held of the one holds of the other, and nobody needs to be asked.
    """
    if old == new:
        return True
    pairs = list(zip(before := old.split("\n"), after := new.split("\n"), strict=False))
    return len(before) == len(after) and all(
        one == other or _NUMBER.sub("0", one) == _NUMBER.sub("0", other) for one, other in pairs
    )


def _is_sure(finding: Finding, facts: SourceFacts) -> bool:
    """Say whether the interpreter bears ruff out, as far as it can be asked."""
    if finding.code == SYNTAX or facts.is_doubtful(finding.line):
        return False  # it has compiled the file, or what fails there need not end the run
    found = _UNDEFINED.fullmatch(finding.message)
    if found is None:
        return _NO_PLACEHOLDER not in finding.message
    return not facts.is_dynamic and (finding.line, found[1]) in facts.loads


def _words(finding: Finding) -> str:
    found = _UNDEFINED.fullmatch(finding.message)
    return f"undefined name '{found[1]}'" if found else finding.message.replace("`", "'")
