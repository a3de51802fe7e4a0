"""Real git repositories in tmp_path.

A person's repository is made by plain git, and what the study's repository holds is read by plain
git: neither shares code with what is tested.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from cluster.git.code_outcomes import Candidate, Conflict, Promotion, Redundant, Rejected
from cluster.git.study_repository import StudyRepository
from trainer.trial import CommitId, ExperimentId


class Repository:
    """A repository as a person uses it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *args: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", *args],
            cwd=self.path,
            input=stdin.encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"git {args}: {done.stderr.decode()}"
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes], subject: str = "Change") -> str:
        self.write(files)
        self.git("add", "--", *files)
        self.git("commit", "--quiet", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def fingerprint(self) -> dict[str, tuple[int, int, str]]:
        """Return mode, time and content of every file of the checkout and of what git keeps of it.

        Left out is what a mirror may add: objects, and its own refs with their reflogs.
        """
        facts = {}
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = Path(folder, name)
                place = path.relative_to(self.path).as_posix()
                if place.startswith(".git/objects/") or "/incumbent/" in place:
                    continue
                about = path.lstat()
                content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                facts[place] = (about.st_mode, about.st_mtime_ns, digest)
        return facts


class Study(Repository):
    """A study's bare repository, with short cuts for the arguments that most tests share."""

    def __init__(self, source: Repository, path: Path, editable: Sequence[str]) -> None:
        super().__init__(path)
        self.source = source
        self.editable = editable
        self.base = CommitId(source.git("rev-parse", "HEAD"))
        self.repository = StudyRepository.create(
            path, study="mar5", source=source.path, base="HEAD", clock=lambda: 1_700_000_000.9
        )

    def read(self, commit: str, path: str = "train.py") -> bytes:
        command = ["git", "cat-file", "blob", f"{commit}:{path}"]
        return subprocess.run(command, cwd=self.path, check=True, capture_output=True).stdout

    def edit(
        self,
        edits: Mapping[str, str],
        base: str = "",
        *,
        message: str = "Try",
        author: str = "tuner",
    ) -> Candidate | Rejected:
        return self.repository.commit_edits(
            base=CommitId(base or self.base),
            edits=edits,
            editable=self.editable,
            message=message,
            author=author,
        )

    def candidate(self, edits: str | Mapping[str, str], base: str = "") -> Candidate:
        made = self.edit({"train.py": edits} if isinstance(edits, str) else edits, base)
        assert isinstance(made, Candidate), made
        return made

    def patch(self, patch: str, base: str = "") -> Candidate | Rejected:
        return self.repository.commit_patch(
            base=CommitId(base or self.base),
            patch=patch,
            editable=self.editable,
            message="Try",
            author="Ada Lovelace <ada@example.org>",
        )

    def submit(self, branch: str, base: str = "", tip: str = "") -> Candidate | Rejected:
        return self.repository.import_branch(
            self.source.path,
            branch,
            tip=CommitId(tip),
            base=CommitId(base or self.base),
            editable=self.editable,
            message="Try",
            author="Ada",
        )

    def promote(
        self,
        candidate: Candidate,
        parent: str = "",
        *,
        experiment: str = "e1",
        subject: str = "LR 1 -> 3",
        trailers: Sequence[tuple[str, str]] = (("Metric", "val_bpb 0.9 (0.99)"),),
    ) -> CommitId:
        if not parent:
            parent = self.repository.start_branch(self.base)
        promotion = Promotion(
            experiment=ExperimentId(experiment),
            tree=candidate.tree,
            subject=subject,
            trailers=trailers,
        )
        return self.repository.promote([promotion], parent=CommitId(parent))[-1]

    def merge(self, incumbent: str, winner: str) -> Candidate | Conflict | Redundant:
        return self.repository.merge(
            incumbent=CommitId(incumbent),
            winner=CommitId(winner),
            message="Merge e2 into e1",
            editable=self.editable,
        )

    def keep(self, experiment: str, commit: str) -> None:
        self.repository.keep_ref(ExperimentId(experiment), CommitId(commit))


MakeRepository = Callable[..., Repository]
MakeStudy = Callable[..., Study]


@pytest.fixture(autouse=True)
def plain_git(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give git a home of its own with an identity, and return it."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\n name = Ada Lovelace\n email = ada@example.org\n[init]\n defaultBranch = main\n"
    )
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    return home


@pytest.fixture
def make_repository(tmp_path: Path) -> MakeRepository:
    """Return a factory of repositories with one commit of the given files."""

    def make(
        files: Mapping[str, str | bytes] | None = None,
        *,
        name: str = "research",
        init: tuple[str, ...] = (),
    ) -> Repository:
        path = tmp_path / name
        path.mkdir(parents=True)
        repository = Repository(path)
        repository.git("init", "--quiet", *init)
        if files is None:
            files = {"train.py": "LR = 1\nDEPTH = 2\n", "prepare.py": "DATA = 3\n"}
        if files:
            repository.commit(files, "Baseline")
        return repository

    return make


@pytest.fixture
def make_study(make_repository: MakeRepository, tmp_path: Path) -> MakeStudy:
    """Return a factory of studies, on a source or on a new one with the given files."""

    def make(
        files: Mapping[str, str | bytes] | None = None,
        *,
        source: Repository | None = None,
        path: Path | None = None,
        editable: Sequence[str] = ("train.py",),
    ) -> Study:
        return Study(source or make_repository(files), path or tmp_path / "mar5.git", editable)

    return make


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    return make_study()
