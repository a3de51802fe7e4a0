"""Bad input ends well: a short message with the cure, an exit code, no traceback, nothing harmed.

Through the real command line, in processes of its own. 2 is the exit code for what the user has to
put right in what was typed or written, 1 for what failed.
"""

import json
import os
import shutil
import signal
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.codec import SCHEMA_VERSION
from infra.controller_process import find_controller
from infra.embedded_server import EmbeddedServer
from infra.study import opened
from tests.infra.user import CONFIG, FAILURE, PROGRAM, TRAIN, USAGE, User

PATCH = """\
--- a/train.py
+++ b/train.py
@@ -1,3 +1,3 @@
-LR = 0.1
+LR = 0.2
 DEPTH = 2
 print(f"loss: {LR * DEPTH}")
"""


@pytest.fixture
def user(tmp_path: Path) -> User:
    """A user in an empty folder."""
    return User.at(tmp_path)


@pytest.fixture
def researcher(user: User) -> User:
    """A user in a repository that can be studied."""
    user.commit({"train.py": TRAIN, "prepare.py": "DATA = 1\n"})
    user.write({"incumbent.toml": CONFIG})
    return user


@pytest.fixture
def studied(researcher: User) -> User:
    """A user whose study has one submission, and was never run."""
    researcher.done("submit", "--set", "LR=0.3")
    return researcher


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """The same, shared by tests of what is refused, which changes nothing."""
    user = User.at(tmp_path_factory.mktemp("refusals"))
    user.commit({"train.py": TRAIN, "prepare.py": "DATA = 1\n"})
    user.write({"incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    with opened(user.home) as study:
        before = study.state(), user.git("status", "--porcelain")
        yield user
        assert (study.state(), user.git("status", "--porcelain")) == before


# --- the repository -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["init", "run"])
def test_a_folder_that_is_no_git_repository(user: User, verb: str) -> None:
    user.write({"train.py": TRAIN, "incumbent.toml": CONFIG})
    said = user.refused(USAGE, verb)
    assert "is not in a git repository: run git init" in said
    assert not user.has_study()


@pytest.mark.parametrize("verb", ["init", "run"])
def test_a_repository_without_a_commit(user: User, verb: str) -> None:
    user.write({"train.py": TRAIN, "incumbent.toml": CONFIG})
    user.git("init", "--quiet")
    assert "has no commit yet" in user.refused(USAGE, verb)
    assert not user.has_study()


def test_the_first_commit_that_is_advised_is_of_files_that_are_there(user: User) -> None:
    assert "git add YOUR-FILES && git commit" in user.refused(USAGE, "init")
    user.git("init", "--quiet")
    assert "git add YOUR-FILES && git commit" in user.refused(USAGE, "init")
    user.write({"train.py": TRAIN})
    assert "git add train.py && git commit" in user.refused(USAGE, "init")


def test_a_bare_repository(user: User) -> None:
    user.git("init", "--quiet", "--bare")
    assert "is a bare repository" in user.refused(USAGE, "run")


def test_a_path_that_does_not_exist(user: User) -> None:
    assert "nowhere does not exist" in user.refused(USAGE, "run", "nowhere")


def test_a_git_that_is_too_old(researcher: User, tmp_path: Path) -> None:
    real = shutil.which("git")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo git version 2.30.0;; '
        f'*) exec {real} "$@";; esac\n'
    )
    (folder / "git").chmod(0o755)
    path = f"{folder}{os.pathsep}{researcher.variables['PATH']}"
    for verb in ("init", "run"):
        said = researcher.refused(FAILURE, verb, PATH=path)
        assert "git 2.30.0 is too old" in said
        assert "2.38 or newer" in said
    assert not researcher.has_study()


def test_init_without_train_py_asks_what_it_cannot_find_out(user: User) -> None:
    user.commit({"README.md": "nothing here\n"})
    done = user.run(PROGRAM, "init")
    assert done.returncode == FAILURE
    assert "there is no train.py" in done.stdout
    assert "[trial] command" in done.stdout
    said = user.refused(USAGE, "run")  # with the questions unanswered
    assert "[trial] command" in said


def test_init_does_not_overwrite(researcher: User) -> None:
    said = researcher.refused(USAGE, "init")
    assert "exists already" in said
    assert "--force" in said
    assert (researcher.folder / "incumbent.toml").read_text() == CONFIG


@pytest.mark.parametrize(
    ("key", "line"),
    [("editable", 'editable = ["modle.py"]'), ("instructions", 'instructions = "modle.py"')],
)
def test_a_file_that_is_not_in_the_commit(researcher: User, key: str, line: str) -> None:
    text = CONFIG.replace("[metric]", f"{line}\n[metric]")
    researcher.write({"incumbent.toml": text})
    said = researcher.refused(USAGE, "run")
    assert "there is no modle.py in commit" in said
    assert f"[study] {key}" in said
    assert not researcher.has_study()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("link.py", "link.py is a symbolic link"),
        ("folder", "folder is a directory"),
        ("latin.py", "latin.py is not UTF-8 text"),
    ],
)
def test_an_editable_file_that_is_no_text_file(user: User, path: str, words: str) -> None:
    (user.folder / "folder").mkdir()
    user.write({"train.py": TRAIN, "folder/inside.py": TRAIN})
    (user.folder / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\n# caf\xe9\n")
    (user.folder / "link.py").symlink_to("train.py")
    user.git("init", "--quiet")
    user.git("add", ".")
    user.git("commit", "--quiet", "--message=Baseline")
    user.write({"incumbent.toml": CONFIG.replace("[metric]", f'editable = ["{path}"]\n[metric]')})
    for verb in (["run"], ["submit", "--set", "LR=0.3"]):
        said = user.refused(USAGE, *verb)
        assert words in said
        assert "[study] editable" in said
    assert not user.has_study()


def test_a_base_that_is_no_commit(researcher: User) -> None:
    text = CONFIG.replace("[metric]", 'base = "v9"\n[metric]')
    researcher.write({"incumbent.toml": text})
    assert "no commit called 'v9'" in researcher.refused(USAGE, "run")


def test_a_path_with_blanks_and_letters_that_are_not_ascii(tmp_path: Path) -> None:
    user = User.at(tmp_path, folder="mein Ordner mit ünïcode")
    user.commit({"train.py": TRAIN, "incumbent.toml": CONFIG})
    user.done("submit", "--set", "LR=0.3")
    assert json.loads(user.done("status", "--json"))["paths"]["repository"] == str(user.folder)
    assert "there is no experiment e1" in user.refused(USAGE, "show", "e1")


# --- the configuration ----------------------------------------------------------------------------


def test_run_without_a_configuration(researcher: User) -> None:
    (researcher.folder / "incumbent.toml").unlink()
    for verb in ("run", "submit"):
        said = researcher.refused(USAGE, verb)
        assert "there is no incumbent.toml" in said
        assert "`incumbent init`" in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gpus = 0", "gpu = 0", ["[trial] gpu: unknown key", "did you mean gpus?"]),
        ("[metric]", "[metrics]", ["[metrics]: unknown section", "did you mean [metric]?"]),
        ('"minimize"', '"minimise"', ['"minimize" or "maximize"']),
        ('"mar5"', '"mar 5"', ["[study] name", "is not possible"]),
        ("gpus = 0", "gpus = 0\ntimeout_s = 1", ["timeout_s (1) must be at least budget_s"]),
        ('"python train.py"', "python train.py", ["incumbent.toml:7: is not valid TOML"]),
        ("gpus = 0", 'gpus = 0\nsandbox = "jail"', ['must be "bubblewrap" or "none"']),
    ],
)
def test_a_configuration_that_is_misspelt_or_broken(
    researcher: User, old: str, new: str, words: list[str]
) -> None:
    researcher.write({"incumbent.toml": CONFIG.replace(old, new, 1)})
    said = researcher.refused(USAGE, "run")
    for word in [*words, str(researcher.folder / "incumbent.toml")]:
        assert word in said
    assert not researcher.has_study()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--sandbox", "jail"], "--sandbox jail: the choices are bubblewrap and none"),
        (["run", "--slots", "0"], "--slots"),
        (["run", "--experiments", "many"], "--experiments"),
        (["rnu"], "rnu"),
    ],
)
def test_options_that_cannot_be_meant(researcher: User, arguments: list[str], words: str) -> None:
    assert words in researcher.refused(USAGE, *arguments)
    assert not researcher.has_study()


def test_an_editable_file_that_a_study_that_was_begun_does_not_have(studied: User) -> None:
    studied.write(
        {"incumbent.toml": CONFIG.replace("[metric]", 'editable = ["modle.py"]\n[metric]')}
    )
    for verb in (["run"], ["submit", "--set", "LR=0.4"]):
        assert "there is no modle.py in commit" in studied.refused(USAGE, *verb)
    assert find_controller(studied.home) is None


def test_another_metric_for_a_study_that_was_begun(studied: User) -> None:
    studied.write({"incumbent.toml": CONFIG.replace('"loss"', '"accuracy"')})
    said = studied.refused(FAILURE, "run")
    assert "was begun to minimize loss" in said
    assert "give [study] name another name" in said


# --- the sandbox ----------------------------------------------------------------------------------


def test_a_machine_that_makes_no_sandbox_runs_nothing_until_told_to(researcher: User) -> None:
    # Root of a user namespace that has no other user, as whom trials could run.
    without = ("unshare", "--user", "--map-root-user", str(PROGRAM))
    done = researcher.run(*without, "run")
    assert done.returncode == FAILURE, done.stderr
    first, cure, words = done.stderr.splitlines()
    assert first.startswith("error: no sandbox can be made: Incumbent runs as root of a user name")
    assert cure.startswith("cure: run Incumbent as a plain user")
    assert words.endswith("incumbent run --sandbox none")
    assert not researcher.has_study()
    doctor = researcher.run(*without, "doctor")
    assert doctor.returncode == FAILURE
    assert "failure  sandbox" in doctor.stdout
    assert "incumbent run --sandbox none" in doctor.stdout


# --- the server -----------------------------------------------------------------------------------


def with_redis(user: User, url: str) -> None:
    user.write({"incumbent.toml": f'{CONFIG}[cluster]\nredis = "{url}"\n'})


def test_a_redis_that_is_not_there(researcher: User) -> None:
    with_redis(researcher, "redis://127.0.0.1:1/0")
    said = researcher.refused(FAILURE, "run")
    assert "redis://127.0.0.1:1/0 does not answer" in said


def test_a_study_is_still_found_after_its_configuration_named_a_redis_that_is_not_there(
    studied: User,
) -> None:
    with_redis(studied, "redis://127.0.0.1:1/0")
    studied.refused(FAILURE, "run")
    assert "1 submitted" in studied.done("status")


def test_a_redis_address_that_is_no_url(researcher: User) -> None:
    with_redis(researcher, "localhost:6379")
    said = researcher.refused(USAGE, "run")
    assert "[cluster] redis" in said
    assert "redis://host:6379/0" in said


class _OldRedis(socketserver.StreamRequestHandler):
    """Speaks as much of the protocol as it takes to say that it is Redis 5."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                self.rfile.readline()  # the word's length
                words.append(self.rfile.readline().strip().upper())
            if words[0] == b"INFO":
                text = b"# Server\r\nredis_version:5.0.0\r\n"
                self.wfile.write(b"$%d\r\n%s\r\n" % (len(text), text))
            else:
                self.wfile.write(b"+PONG\r\n" if words[0] == b"PING" else b"+OK\r\n")


@contextmanager
def old_redis() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldRedis) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()


def test_a_redis_that_is_too_old(researcher: User) -> None:
    with old_redis() as url:
        with_redis(researcher, url)
        said = researcher.refused(FAILURE, "run")
    assert "is Redis 5.0.0" in said
    assert "needs 6.2 or newer" in said


def test_the_socket_of_a_server_that_was_killed(studied: User) -> None:
    server = EmbeddedServer(studied.home)
    client = server.ensure()
    os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
    client.close()
    assert server.socket.exists()
    facts = json.loads(studied.done("status", "--json"))
    assert facts["study"] == "mar5"
    assert facts["phase"] == "stopped"


# --- what a newer version wrote -------------------------------------------------------------------


def test_a_study_directory_of_a_newer_version(studied: User) -> None:
    path = studied.home.directory / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    said = studied.refused(FAILURE, "run")
    assert "was written by a newer Incumbent (schema 99" in said
    assert "update Incumbent" in said
    assert "newer Incumbent (schema 99" in studied.refused(FAILURE, "status")


@pytest.mark.parametrize("key", ["events", "snapshot"])
def test_a_ledger_of_a_newer_version(studied: User, key: str) -> None:
    payload = json.dumps({"v": SCHEMA_VERSION + 1, "what": "who knows"})
    with opened(studied.home) as study:
        if key == "events":
            study.client.xadd(study.store.key("events"), {"e": payload}, id="1000-0")
        else:
            study.client.set(study.store.key("snapshot"), payload)
    for verb in ("status", "run"):
        said = studied.refused(FAILURE, verb)
        assert f"was written by a newer Incumbent (schema {SCHEMA_VERSION + 1}" in said


# --- submissions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ("", "the patch is refused: the patch is empty"),
        ("print('hello')\n", "the patch is not a unified diff"),
        (PATCH.replace("train.py", "prepare.py"), "prepare.py: is not editable"),
        (PATCH.replace("b/train.py", "b/../train.py"), "two sides name different files"),
        (PATCH.replace("/train.py", "/../train.py"), "../train.py: is not a plain path"),
        (PATCH.replace("@@ -1,3", "@@ -1,9"), "the patch is damaged"),
        (f"{PATCH}\0", "the patch is binary"),
        (
            "diff --git a/train.py b/train.py\nindex 1..2 100644\nGIT binary patch\nliteral 1\nA\n",
            "train.py: is binary",
        ),
        (PATCH.replace("-LR = 0.1", "-LR = 7.7"), "the patch does not apply to"),
    ],
)
def test_a_patch_that_cannot_be_a_candidate(refusals: User, patch: str, words: str) -> None:
    assert words in refusals.refused(USAGE, "submit", "--patch", "-", stdin=patch)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say exactly one of --patch, --branch, --set and --grid"),
        (["--set", "LR=1", "--grid", "DEPTH=1,2"], "say exactly one of"),
        (["--patch", "nowhere.patch"], "cannot read nowhere.patch: No such file"),
        (["--branch", "nowhere"], "there is no branch nowhere in "),
        (["--set", "LRR=1"], "no constant LRR; did you mean LR?"),
        (["--set", "DEPTH=deep"], "DEPTH"),
        (["--set", "LR"], "'LR' is not of the form NAME=VALUE"),
        (["--set", "LR=0.1"], "LR is 0.1"),
        (["--grid", "LR=1,,2"], "an empty or a repeated value"),
    ],
)
def test_a_submission_that_cannot_be_meant(
    refusals: User, arguments: list[str], words: str
) -> None:
    assert words in refusals.refused(USAGE, "submit", *arguments)


def test_only_a_change_that_does_not_fit_is_to_be_rebased(refusals: User) -> None:
    stale = PATCH.replace("-LR = 0.1", "-LR = 7.7")
    said = refusals.refused(USAGE, "submit", "--patch", "-", stdin=stale)
    assert "rebase it onto incumbent/mar5" in said
    assert "rebase" not in refusals.refused(USAGE, "submit", "--branch", "nowhere")
    assert "rebase" not in refusals.refused(USAGE, "submit", "--branch", "main")  # changes nothing


def test_a_submission_to_a_study_that_does_not_run_says_what_is_next(user: User) -> None:
    user.commit({"train.py": TRAIN})
    user.write({"incumbent.toml": CONFIG})
    done = user.run(PROGRAM, "submit", "--set", "LR=0.3")
    assert "the study does not run: next `incumbent run`" in done.stderr
    assert "1 submitted, 0 ready" in user.done("status")


def test_a_train_py_that_is_not_python(user: User) -> None:
    user.commit({"train.py": "LR = 0.1\nDEPTH = = 2\n"})
    done = user.run(PROGRAM, "init")
    assert done.returncode == FAILURE
    assert "train.py is not valid Python" in done.stdout
    user.write({"incumbent.toml": CONFIG})
    assert "train.py, line 2: invalid syntax" in user.refused(USAGE, "submit", "--set", "LR=0.3")


# --- what is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "watch", "stop", "logs e1"])
def test_a_study_that_does_not_exist(researcher: User, command: str) -> None:
    said = researcher.refused(USAGE, *command.split())
    assert "there is no study mar5 yet: `incumbent run` starts it" in said


@pytest.mark.parametrize(
    "command", ["show e7", "diff e7", "logs e7", "cancel e7", "retry e7", "revert e7", "show ../e0"]
)
def test_an_experiment_that_does_not_exist(refusals: User, command: str) -> None:
    verb, name = command.split()
    said = refusals.refused(USAGE, verb, name)
    assert name in said
    assert "`incumbent log`" in said


def test_another_study_than_there_is(refusals: User) -> None:
    assert "no study mar6" in refusals.refused(USAGE, "status", "--study", "mar6")
    assert "does not run" in refusals.refused(USAGE, "watch")


# --- what only the controller finds ---------------------------------------------------------------


def refused_by_the_controller(user: User) -> str:
    """Run a study that cannot begin; it is to end by itself, and leave nothing running."""
    said = user.refused(FAILURE, "run")
    assert "failed: " in said
    assert find_controller(user.home) is None
    with opened(user.home) as study:
        assert study.state().is_failed
    return said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trial", "words"),
    [
        ('environment = "/nowhere/venv"', ["'/nowhere/venv' is no virtual environment"]),
        ('environment = "uv"', ["pyproject.toml and uv.lock", "Run `uv lock`"]),
        ('data = ["~/nowhere"]', ["[trial] data: ~/nowhere does not exist"]),
    ],
)
def test_a_node_that_cannot_run_the_trials(researcher: User, trial: str, words: list[str]) -> None:
    researcher.write({"incumbent.toml": f"{CONFIG}{trial}\n"})
    said = refused_by_the_controller(researcher)
    for word in words:
        assert word in said


@pytest.mark.slow
def test_a_train_py_that_the_tuner_cannot_read(researcher: User) -> None:
    researcher.commit({"train.py": "LR = 0.1\nDEPTH = = 2\n"})
    assert "train.py, line 2: invalid syntax" in refused_by_the_controller(researcher)
