"""The controller process: `python -I -c PROGRAM STUDY_DIRECTORY`."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path

from cluster.config import StudyConfig
from cluster.git.code_outcomes import BranchMoved
from cluster.ledger.ledger import Fenced, LedgerAway, catch_up
from cluster.ledger.redis_ledger import RedisLedger
from cluster.ledger.redis_store import RedisStore, WrongServer, connect
from cluster.ours import assert_ours
from cluster.state import events as ev
from infra.local.artifacts import paths_at
from infra.local.controller_process import ControllerRuns, announce, sole_controller
from infra.local.home import StudyHome, StudyProblem
from infra.local.keys import check_keys, key_names, keyless, read_keys
from infra.local.requests import request
from infra.local.settings import load_settings
from infra.local.study import OpenStudy, Server, join, redis_url
from infra.processes import compose
from infra.processes.holdout_watch import HoldoutWatch
from infra.processes.listening import ray_of
from infra.processes.proposing import call_book
from proposer.proposal import Proposer
from trainer.environment import Environment, EnvironmentFailed, prepare
from trainer.growing_log import keep_short
from trainer.sandbox.arrange import arrange

_FAILURES = (BranchMoved, ControllerRuns, Fenced, LedgerAway, WrongServer)
log = logging.getLogger("incumbent")


def main() -> int:
    """Run the controller of the study in the directory that is the only argument."""
    assert_ours()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    home = StudyHome.read(Path(sys.argv[1]))
    try:
        with sole_controller(home):
            announce(home)
            keep_short(lambda: growing_logs(home))
            code = _run(home)
            logging.shutdown()
            # Under the lock: who waits for it then finds nothing left of this process.
            os._exit(code)
    except (*_FAILURES, StudyProblem) as error:
        log.error("%s", error)  # noqa: TRY400 - an expected failure, told in one line
        return 1


def growing_logs(home: StudyHome) -> list[Path]:
    """Return the logs that are written to for as long as the study runs."""
    paths = paths_at(home)
    own = chain(home.directory.glob("*.log"), home.redis.glob("*.log"))
    return [*own, *paths.preparation_logs, *ray_of(home).logs]


def _run(home: StudyHome) -> int:
    config = load_settings(home)
    # Before any process is started, which would inherit where they come from.
    keys = read_keys(key_names(config))
    check_keys(config, keys)
    server = Server(home, redis_url(home))
    client = server.ensure()
    study = join(home, server, client)
    try:
        study.progress.set_phase("preparing the environment")  # before it counts as running
        epoch = study.ledger.begin_epoch()
        started = ev.ControllerStarted(epoch=epoch, pid=os.getpid(), node=socket.gethostname())
        _record(study, f"controller/{epoch}", started, epoch)
        suggest, problem = _proposers(study, config, epoch, keys)
        environment = None
        if not problem:
            environment, problem = _prepared(study, config)
        watch: HoldoutWatch | None = None
        if not problem:
            watch, problem = _holdout(study, config, epoch)
        if problem:
            failure = ev.StudyFinished(reason=problem, failed=True)
            _record(study, f"finished/{epoch}", failure, epoch)
        signal.signal(signal.SIGTERM, lambda *_: _ask_to_stop(study))
        watching, metrics = compose.observers(study, config)
        announce(home, metrics.address)
        ingredients = compose.Ingredients(
            study=study,
            config=config,
            epoch=epoch,
            fleet=compose.ray_fleet(study, config),
            proposers=suggest,
            observers=watching,
            holdout=watch,
            revive=server.revive,
            preflight=compose.preflight(study, config, environment),
        )
        controller = compose.controller(ingredients, study.state())
        log.info("the controller ends: %s", controller.run())
        study.progress.set_phase("")
        return 1 if controller.state.is_failed else 0
    finally:
        server.release(client)


def _proposers(
    study: OpenStudy, config: StudyConfig, epoch: int, keys: Mapping[str, str]
) -> tuple[list[Proposer], str]:
    """Return the proposers, or why there are none; note which have no key."""
    purse = call_book(study, config, epoch, compose.now)
    for name in keyless(config, keys):
        log.warning("%s has no API key and is left out", name)
        done = ev.ProposerExhausted(proposer=name, reason="no API key")
        _record(study, f"{epoch}/{name}/exhausted", done, epoch)
    try:
        return compose.proposers(study, config, purse, keys), ""
    except (ValueError, KeyError) as error:
        return [], str(error)


def _holdout(study: OpenStudy, config: StudyConfig, epoch: int) -> tuple[HoldoutWatch | None, str]:
    """Return who scores promotions by the holdout, if there is one, or why that cannot be."""
    try:
        return compose.holdout(study, config, epoch), ""
    except EnvironmentFailed as error:
        return None, str(error)


def _record(study: OpenStudy, event_id: str, event: ev.Event, epoch: int | None = None) -> None:
    study.ledger.append([ev.Draft(id=event_id, at=compose.now(), event=event)], epoch=epoch)


def _ask_to_stop(study: OpenStudy) -> None:
    """Stop in good order on SIGTERM, as `incumbent stop` does."""
    with suppress(LedgerAway):
        request(study, ev.StopRequested())


class _Interrupted(Exception):
    """A stop was asked for while trials were not even prepared."""


def _prepared(study: OpenStudy, config: StudyConfig) -> tuple[Environment | None, str]:
    """Make the node ready for trials; return how they are run, or why they cannot be.

    A stop that is asked for meanwhile ends the preparation: it can take minutes.
    """
    done = threading.Event()
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_interrupt_on_stop, args=(study.server, study, done)).start()
    home = study.home
    paths = paths_at(home)
    try:
        environment = prepare(
            config.trial,
            base=study.state().base_commit,
            repository=home.git,
            paths=paths,
            study=home.id,
            show=lambda line: study.progress.set_phase(f"preparing: {line.strip()[:100]}"),
        )
        # Each worker makes its own; what this one is refused, all would be, and wait for.
        trial = config.trial
        arrange(trial.sandbox, environment=environment, data=trial.data, paths=paths)
    except EnvironmentFailed as error:
        return None, str(error)
    except _Interrupted:
        _ask_to_stop(study)
        return None, ""
    finally:
        signal.signal(signal.SIGTERM, lambda *_: _ask_to_stop(study))
        done.set()
    return environment, ""


def _interrupt(*_: object) -> None:
    raise _Interrupted


def _interrupt_on_stop(server: Server, study: OpenStudy, done: threading.Event) -> None:
    ledger = RedisLedger(RedisStore(connect(server.url), study.home.id))
    state = study.state()
    while not done.wait(timeout=0.2):
        with suppress(LedgerAway):
            state = catch_up(ledger, state)
        if state.stopping and not done.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            return
