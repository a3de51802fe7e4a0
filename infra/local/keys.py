"""API keys: read where somebody starts a study, and handed to its controller through a pipe.

A key is never in an argument, a variable, a file of the study or a log of ours: children inherit
the first two, and people share the others. A controller that nobody hands keys reads the key file.
Knows nothing of who uses them.
"""

import json
import os
import stat
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.config import StudyConfig
from infra.local.home import StudyProblem, config_directory
from proposer.config import AgentSource, ClaudeSource, names_of

MOST_BYTES = 32_768
"""Of all keys together: a pipe holds 64 KiB before anybody reads."""
_PLACE_OF_DESCRIPTOR = 2
"""Which argument of the controller says where its keys come from."""


def key_file() -> Path:
    """Return where keys may lie: NAME = "VALUE", in TOML, readable by nobody else."""
    return config_directory() / "keys.toml"


def key_names(config: StudyConfig) -> tuple[str, ...]:
    """Return the names of the variables that a study's proposers need, in order."""
    names: list[str] = []
    for source in config.proposer:
        if isinstance(source, ClaudeSource) and source.key:
            names.append(source.key)
        elif isinstance(source, AgentSource):
            names += source.environment
    return tuple(dict.fromkeys(names))


def needs_models(config: StudyConfig) -> bool:
    """Say whether a study asks language models."""
    return any(isinstance(source, ClaudeSource | AgentSource) for source in config.proposer)


def collect_keys(
    names: Sequence[str], environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return those of `names` that the environment or the key file holds; the former first.

    Raises StudyProblem for a key file that others could read, or that is none.
    """
    given = os.environ if environment is None else environment
    found = {name: given[name] for name in names if given.get(name)}
    if len(found) < len(names):
        kept = _read_key_file()
        found |= {name: kept[name] for name in names if name not in found and name in kept}
    if len(json.dumps(found)) > MOST_BYTES:
        raise StudyProblem(f"the keys {', '.join(found)} are too long: {MOST_BYTES} bytes at most")
    return found


@contextmanager
def keys_pipe(keys: Mapping[str, str]) -> Iterator[int]:
    """Yield a descriptor that a child may inherit and from which it reads the keys, once."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(json.dumps(dict(keys)).encode())
        yield reader
    finally:
        os.close(reader)


def read_keys(names: Sequence[str], arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Return the keys that this controller was handed, else those of the key file.

    To be called once, before the controller starts any process. `arguments` are those of the
    process; the descriptor that they name is closed. Raises StudyProblem as collect_keys does.
    """
    given = list(sys.argv if arguments is None else arguments)[_PLACE_OF_DESCRIPTOR:]
    handed: dict[str, str] = {}
    if given:
        with os.fdopen(int(given[0]), "rb") as file:
            handed = json.loads(file.read(MOST_BYTES + 1) or b"{}")
    return collect_keys(names, handed)


def api_key(source: ClaudeSource, keys: Mapping[str, str]) -> str:
    """Return the key of a `[[proposer]]`, without the line end that files and pipes leave."""
    return keys.get(source.key, "").strip()


def check_keys(config: StudyConfig, keys: Mapping[str, str]) -> None:
    """Raise StudyProblem for a key that no request could carry, without quoting it.

    The library that sends requests would quote it, whole.
    """
    for source in config.proposer:
        if not isinstance(source, ClaudeSource):
            continue
        key = api_key(source, keys)
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise StudyProblem(
                f"{source.key} holds a blank, a line end or a character beyond ASCII, as no API "
                "key does: set it again"
            )


def keyless(config: StudyConfig, keys: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the proposers whose API key nobody has."""
    return tuple(
        name
        for name, source in zip(names_of(config.proposer), config.proposer, strict=True)
        if isinstance(source, ClaudeSource) and source.key and not api_key(source, keys)
    )


def keyless_words(config: StudyConfig, keys: Mapping[str, str]) -> str:
    """Say which proposers have no key, what goes on without them, and how to add one."""
    without = keyless(config, keys)
    if not without:
        return ""
    rest = [name for name in names_of(config.proposer) if name not in without]
    missing = {
        source.key
        for source in config.proposer
        if isinstance(source, ClaudeSource) and source.key and not api_key(source, keys)
    }
    goes_on = f"{' and '.join(rest)} alone" if rest else "what is submitted alone"
    return (
        f"no key for {' and '.join(without)}: it goes on with {goes_on}; export "
        f"{' and '.join(sorted(missing))}, or write it to {key_file()} (mode 0600), and run again"
    )


def _read_key_file() -> dict[str, str]:
    path = key_file()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StudyProblem(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise StudyProblem(f"{path} is no file")
        if about.st_mode & 0o077 or about.st_uid != os.getuid():
            raise StudyProblem(f"others could read {path}: chmod 600 {path}, as its owner")
        text = file.read(MOST_BYTES + 1)
    try:
        found = tomllib.loads(text.decode("utf-8"))
    except ValueError:  # whose message would quote from it
        raise StudyProblem(f'{path} is not TOML of lines NAME = "KEY"') from None
    if not all(isinstance(value, str) for value in found.values()):
        raise StudyProblem(f'{path} must hold lines NAME = "KEY" alone')
    return found
