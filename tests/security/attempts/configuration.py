"""Attempts to leave configuration that git, Python's tools or a shell obey when they find it."""

import os
import subprocess

from tests.security.attempt import Aftermath, Attempt, Category, Control, Judge
from tests.security.attempts.evaluator import new_file
from trainer.git_command import GitCommand

_IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@localhost")

_REPOSITORY = """
trap = out + "/trap"
Path(trap).write_text("#!/bin/sh\\ntouch " + host["sprung"] + "\\ncat\\n")
os.chmod(trap, 0o755)
TRAP = host["out"] + "/trap"
def plant(at, config=""):
    for name in ("objects", "refs/heads", "hooks", "info"): os.makedirs(f"{at}/{name}")
    Path(at, "HEAD").write_text("ref: refs/heads/main\\n")
    core = "[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n"
    Path(at, "config").write_text(core + config)
"""


def springs(*git: str, is_trusted: bool) -> Judge:
    """Return a judge that runs git where the candidate ran, and sees whether the trap sprang.

    The trusted side never does so; its git would not run the trap either.
    """

    def judge(aftermath: Aftermath) -> str:
        sprung = aftermath.source.parent / "sprung"
        if is_trusted:
            GitCommand(aftermath.source).run(*_IDENTITY, *git, check=False)
        else:
            env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
            command = ("git", "-c", "safe.directory=*", *_IDENTITY, *git)
            subprocess.run(command, cwd=aftermath.source, env=env, capture_output=True, check=False)
        was_sprung = sprung.exists()
        sprung.unlink(missing_ok=True)
        return "the program ran" if was_sprung else ""

    return judge


def _trap(name: str, aim: str, script: str, *git: str) -> Attempt:
    return Attempt(
        name=name,
        category=Category.CONFIGURATION,
        aim=aim,
        script=_REPOSITORY + script,
        judge=springs(*git, is_trusted=True),
        control=Control.CARELESS,
        careless=springs(*git, is_trusted=False),
        why="no git runs where a candidate did, and ours would not obey; the control's does",
    )


ATTEMPTS = (
    _trap(
        "git_file_monitor",
        "a program that `git status` starts, by core.fsmonitor",
        """
plant(".git", f"\\tfsmonitor = {TRAP}\\n")
""",
        "status",
    ),
    _trap(
        "git_hook",
        "a program that `git commit` starts, by a hook",
        """
plant(".git")
os.symlink(TRAP, ".git/hooks/pre-commit")
""",
        "commit",
        "--allow-empty",
        "-m",
        "x",
    ),
    _trap(
        "git_folder_elsewhere",
        "the same by a .git file that leads to its output",
        """
source = os.path.dirname(host["out"]) + "/src"
plant(out + "/planted", f"\\tfsmonitor = {TRAP}\\n\\tworktree = {source}\\n")
Path(".git").write_text(f"gitdir: {host['out']}/planted\\n")
""",
        "status",
    ),
    *(
        new_file(name, Category.CONFIGURATION, aim, place)
        for name, aim, place in (
            (
                "hook_in_the_users_repository",
                "a hook in the repository that the study belongs to",
                "repository/.git/hooks/post-commit",
            ),
            (
                "attributes_in_the_users_repository",
                "filters in the repository that the study belongs to",
                "repository/.git/info/attributes",
            ),
            ("git_settings", "the user's settings of git", "home/.gitconfig"),
            (
                "ssh_authorised_key",
                "a key that opens the user's account",
                "home/.ssh/authorized_keys",
            ),
            ("pip_settings", "another package index for pip", "home/.config/pip/pip.conf"),
            ("uv_settings", "another package index for uv", "home/.config/uv/uv.toml"),
            ("shell_settings", "commands for the next login", "home/.bash_profile"),
            (
                "model_cache",
                "a model that later runs load",
                "home/.cache/huggingface/hub/model.bin",
            ),
        )
    ),
)
