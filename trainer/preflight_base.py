"""What preflight holds against the base: all that it has, a candidate may have too.

Knows the base's editable files and the rest of its tree. Everything is found out when it is first
needed, and kept for the other candidates on that base.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from eval.metric import Metric
from trainer.git_command import GitCommand
from trainer.source_checks import Answer, SourceFacts, ask_interpreter, ask_ruff, our_interpreter
from trainer.trial import CommitId

_WORD = re.compile(r"[A-Za-z_]\w{2,}")
_ESCAPE = re.compile(r"\\[A-Za-z]|\[[^\]]*\]|\(\?\w+")
"""Of a regular expression: what stands for other characters than its own."""
_NOT_RUN = (".csv", ".html", ".ipynb", ".json", ".log", ".md", ".rst", ".svg", ".tsv", ".txt")


class MetricLine:
    """The words by which the printed metric is known in source text, if they tell anything.

    Args:
        metric: name and pattern.
        before: strings of the base's editable files, one set for each file.
        is_elsewhere: whether other code that a trial could run speaks of the metric.
    """

    def __init__(
        self, metric: Metric, before: Iterable[frozenset[str]], *, is_elsewhere: bool
    ) -> None:
        self.name = metric.name
        self._words = metric_words(metric)
        self._tells = not is_elsewhere and self._has_word(frozenset().union(*before))

    def is_lost(self, after: Iterable[frozenset[str]]) -> bool:
        """Say whether the strings of all files together cannot make up the metric's line."""
        strings = frozenset().union(*after)
        return self._tells and not self._has_word(strings) and not self._has_parts(strings)

    def _has_word(self, strings: frozenset[str]) -> bool:
        return any(word in text for text in strings for word in self._words)

    def _has_parts(self, strings: frozenset[str]) -> bool:
        """Say whether a word could be put together, as in `f"val_{kind}"`."""
        return any(
            all(any(part in text for text in strings) for part in re.findall(r"[^\W_]+", word))
            for word in self._words
        )


def metric_words(metric: Metric) -> frozenset[str]:
    """Return the words of the metric's pattern, its name where the pattern has none."""
    return frozenset(_WORD.findall(_ESCAPE.sub(" ", metric.pattern)) or [metric.name])


def module_names(paths: Iterable[str]) -> frozenset[str]:
    """Return the names of all files and folders on these paths, as one would import them."""
    parts = (part for path in paths for part in PurePosixPath(path).parts)
    return frozenset(part.partition(".")[0] for part in parts)


class PreflightBase:
    """One base commit and its editable `files`, by path. Methods raise CheckFailed, GitError."""

    def __init__(
        self,
        *,
        git: GitCommand,
        commit: CommitId,
        files: Mapping[str, str],
        metric: Metric,
        python: Path | None,
    ) -> None:
        self._git = git
        self._commit = commit
        self._files = files
        self._metric = metric
        self._python = python
        self._sources = {path: text for path, text in files.items() if path.endswith(".py")}
        self._findings: dict[str, frozenset[tuple[str, str]]] = {}

    @cached_property
    def facts(self) -> Mapping[str, SourceFacts]:
        """What the Python files among the editable ones say of themselves."""
        return self._answer.files

    @cached_property
    def known_modules(self) -> frozenset[str]:
        """Top-level modules that there must be: what the base imports, and what its tree holds."""
        listed = self._git.run("ls-tree", "-r", "-z", "--name-only", self._commit).stdout
        paths = listed.decode("utf-8", "replace").split("\0")
        return module_names(paths).union(*(facts.mentions for facts in self.facts.values()))

    @cached_property
    def finds_modules(self) -> bool:
        """Whether anything in the tree changes where modules are looked for."""
        return bool(self._mentions("sys.path", "*.py"))

    @cached_property
    def metric(self) -> MetricLine:
        """What the base's way of printing the metric tells."""
        words = metric_words(self._metric)
        speaking = [path for word in words for path in self._mentions(word)]
        elsewhere = [
            path
            for path in speaking
            if path not in self._sources and not path.lower().endswith(_NOT_RUN)
        ]
        strings = [facts.strings for facts in self.facts.values()]
        return MetricLine(self._metric, strings, is_elsewhere=bool(elsewhere))

    def is_python(self, path: str) -> bool:
        """Say whether a file was fine, or was not there."""
        if path not in self._sources:
            return True
        facts = self.facts.get(path)
        return facts is not None and facts.error is None

    def findings(self, path: str) -> frozenset[tuple[str, str]]:
        """Return code and message of all that ruff finds in a file as it was."""
        if path not in self._findings:
            version = self._answer.version if self._python else None
            found = ask_ruff(self._sources.get(path, ""), version)
            self._findings[path] = frozenset((one.code, one.message) for one in found)
        return self._findings[path]

    @cached_property
    def _answer(self) -> Answer:
        python = self._python or our_interpreter()
        # Everything it imports is there: it has run.
        return ask_interpreter(python, self._sources, None)

    def _mentions(self, text: str, *where: str) -> list[str]:
        """Return the files of the tree that hold a text."""
        options = ("-l", "-z", "-I", "--fixed-strings", "-e", text)
        found = self._git.run("grep", *options, self._commit, "--", *where, check=False)
        names = found.stdout.decode("utf-8", "replace").split("\0")[:-1]
        return [name.partition(":")[2] for name in names]
