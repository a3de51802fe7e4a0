"""The controller: reads the ledger, decides, performs, and reads again, until the study ends.

All it knows is in the ledger, git and the queue; killed at any point, the next one carries on. It
is single threaded: proposers answer from threads of their own, and a waker thread waits for events.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue

from cluster.controller.controller_parts import Parts
from cluster.controller.ports import Observer
from cluster.controller.proposer_desk import Answer, ProposerDesk, news
from cluster.git.mirror import Standing
from cluster.git.room import with_room
from cluster.ledger.ledger import PAGE, LedgerAway, following
from cluster.ledger.patience import patiently
from cluster.policy import commands as cmd
from cluster.policy import trial_planning
from cluster.policy.decisions import decide, stop_is_complete
from cluster.policy.proposal_planning import retry_at, room
from cluster.policy.study_plan import Circumstances
from cluster.queue import nodes
from cluster.queue.lease_watch import LeaseWatch
from cluster.queue.queue_mode import QueueMode
from cluster.state import events as ev
from cluster.state.experiment import Status
from cluster.state.state import StudyState
from cluster.state.transitions import apply
from proposer.proposal import Task
from proposer.purse import CallPlan, call_number
from trainer.trial import CommitId, TrialId

log = logging.getLogger("incumbent")
_CURE = "proposers need text, so make it that by hand and `incumbent submit --branch` it"

MIRROR_S = 3.0
"""How often new refs are brought into the user's repository."""
SNAPSHOT_EVENTS = 500
"""A snapshot is taken after this many events, or a twentieth of all, whichever is more: so that
neither readers replay much nor snapshots cost more as a study grows."""
TICK_S = 0.5


class Controller:
    """Runs one study from where its ledger stands to its end, or to a stop."""

    def __init__(self, parts: Parts, state: StudyState) -> None:
        self._parts = parts
        self._state = state
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._has_read = threading.Event()
        self._desk = ProposerDesk(parts.proposers, lambda: self._wakes.put(None))
        self._last: ev.Recorded | None = None
        """The last event that was read here; `state` stands for those before."""
        self._snapshot_seq = state.seq
        self._mirrored = float("-inf")
        self._mirrored_seq = -1
        self._mirror_message = ""
        self._modes: dict[str, QueueMode] = {}
        self._is_over = False
        self._answers: deque[Answer] = deque()
        self._taken = 0
        """How many proposals of the first answer were made experiments, or refused."""
        newest_first = sorted(state.replies.items(), key=lambda reply: -call_number(reply[0]))
        self._paid = {plan.proposer: plan for _, plan in newest_first}
        """Of proposers with replies that were paid for before a crash: what the oldest was on."""
        self._observers = list(parts.observers)
        self._leases = LeaseWatch(parts.queue, now=parts.clock)

    @property
    def state(self) -> StudyState:
        """The state as of the last event read."""
        return self._state

    def run(self) -> str:
        """Work until the study ends; return why it did.

        Raises:
            Fenced: another controller has taken over, or the ledger is not what was read of it any
                more; nothing more was changed.
            LedgerAway: the server stayed away for too long.
            NoRoom: the disk of the study's repository was full for too long.
        """
        self._tell(lambda observer: observer.resume(self._state))
        self._desk.start(self._state)
        if not self._ended():
            self._patiently(self._recover)
            # Workers go home when the queue drains, as the last controller may have left it.
            self._patiently(self._set_mode)
            self._parts.fleet.start()
        waker = threading.Thread(target=self._wake_on_events, daemon=True)
        waker.start()
        try:
            while not self._ended():
                self._patiently(self.step)
                self._wait()
            self._patiently(self._finish)
        finally:
            self._is_over = True
            waker.join()
            self._desk.stop()
            self._tell(lambda observer: observer.close())
        return self._state.finished or "stopped"

    # --- one round -------------------------------------------------------------------------------

    def step(self) -> None:
        """Read, decide and perform until nothing is left to do at this moment."""
        self._catch_up()
        self._leases.look(self._parts.lease_s)
        self._set_mode()
        self._answers.extend(self._desk.answers())
        while self._answers:
            # Kept until it is done: the ledger may go away, or the disk be full meanwhile.
            self._accept(self._answers[0])
            self._answers.popleft()
            self._taken = 0
        self._do_what_is_due()
        self._check_fleet()
        if self._state.stopping or self._state.finished:
            # The queue actor does so too, unless it is among what has died.
            self._leases.expire(self._parts.lease_s)
        self._mirror()
        self._snapshot()

    def _do_what_is_due(self) -> None:
        while commands := self._decide():
            before = self._state.seq
            for command in commands:
                self._perform(command)
            if self._state.seq == before:
                break  # what they lead to is told by others, later: deciding again repeats them

    def _decide(self) -> tuple[cmd.Command, ...]:
        circumstances = Circumstances(
            now=self._parts.clock(),
            asked=self._desk.asked,
            hopeless=self._hopeless(),
        )
        return decide(self._state, self._parts.plan, circumstances)

    def _hopeless(self) -> Mapping[tuple[TrialId, int], str]:
        book = self._parts.curves
        return book.hopeless(self._state, self._parts.clock()) if book else {}

    def _perform(self, command: cmd.Command) -> None:
        if isinstance(command, cmd.Propose):
            self._ask(command.proposer, command.count)
            return
        if isinstance(command, cmd.AskTask):
            self._ask_task(command)
            return
        if isinstance(command, cmd.QueueTrial) and not self._is_wanted(command):
            return
        self._parts.performer.perform(command, self._state)
        self._catch_up()

    def _is_wanted(self, command: cmd.QueueTrial) -> bool:
        """Say whether nobody has cancelled the experiment since the command was decided."""
        status = self._state.experiments[command.experiment.id].status
        return command.is_control or status is Status.PROPOSED

    def _ask(self, proposer: str, count: int, task: Task | None = None) -> None:
        state = self._state
        if state.baseline is None:
            return
        # What was paid for before a crash are patches on what was the incumbent then.
        paid, task = self._asked_before(proposer, task)
        commit = paid.commit if paid else state.incumbent_commit or state.base_commit
        now = self._parts.clock()
        try:
            files = self._parts.performer.files_at(commit)
        except ValueError as error:  # it was promoted by a version that let it pass
            self._put_off(proposer, f"commit {commit[:10]}: {error}: {_CURE}")
            return
        context = self._parts.contexts.context(
            state,
            self._parts.plan,
            commit=commit,
            files=files,
            now=now,
            with_patches=self._parts.plan.seat(proposer).reads_patches,
        )
        if paid:
            context = replace(context, incumbent=paid.incumbent)
        advice = tuple(self._desk.advice)
        self._desk.ask(proposer, replace(context, task=task, advice=advice), count, now=now)

    def _asked_before(
        self, proposer: str, task: Task | None
    ) -> tuple[CallPlan | None, Task | None]:
        """Return what a proposer is asked first: that for which it was paid before a crash."""
        paid = self._paid.pop(proposer, None)
        if paid is None or not paid.task:
            return paid, task if paid is None else None
        is_open = paid.task in self._state.tasks
        again = self._parts.performer.task(self._state, paid.task) if is_open else None
        return (paid, again) if again else (None, task)

    def _ask_task(self, command: cmd.AskTask) -> None:
        task = self._parts.performer.task(self._state, command.task)
        if task is not None:
            self._ask(command.proposer, 1, task)
        else:
            self._close_task(command.task, command.proposer, "there is nothing to do any more")

    def _close_task(self, task: str, proposer: str, reason: str) -> None:
        event = ev.TaskClosed(task=task, proposer=proposer, reason=reason)
        self._record(f"{task}/closed/{self._state.seq}", event)

    def _accept(self, answer: Answer) -> None:
        """Make experiments of an answer; what comes too late is used by the next controller."""
        if self._state.finished or self._state.stopping:
            return
        task, is_held = answer.context.task, self._parts.plan.approve
        for proposal in answer.proposals[self._taken :]:
            if room(self._state, self._parts.plan) <= 0:
                break  # models hand in more than was asked for, and all that is taken is run
            self._parts.performer.propose(
                self._state,
                answer.proposer,
                proposal,
                answer.context,
                task=task.key if task else "",
                is_held=is_held,
            )
            self._taken += 1
            self._catch_up()
            self._queue_trials()  # slots may wait for the first while the last is far
            if proposal.notes:
                self._parts.note(answer.proposer, proposal.notes)
        self._catch_up()
        self._use_up(answer.proposer)
        if not answer.proposals and not answer.is_over_limit:
            self._without_proposals(answer)

    def _queue_trials(self) -> None:
        state = self._state
        if not (state.is_paused or state.stopping or state.finished):
            for command in tuple(trial_planning.due(state, self._parts.plan)):
                self._perform(command)

    def _use_up(self, proposer: str) -> None:
        """Note that all was made of a proposer's replies that can be."""
        calls = tuple(c for c, plan in self._state.replies.items() if plan.proposer == proposer)
        if calls:
            event = ev.AnswerUsed(calls=calls)
            self._record(f"{'+'.join(sorted(calls))}/used", event)

    def _without_proposals(self, answer: Answer) -> None:
        """Note that a proposer is in trouble, gives a task up, or has run dry."""
        task = answer.context.task
        if answer.is_passing:
            self._put_off(
                answer.proposer, answer.problem, answer.retry_after_s, is_idle=answer.is_idle
            )
        elif task is not None and not answer.is_done:
            self._close_task(task.key, answer.proposer, answer.problem or "nothing came of it")
        else:
            reason = answer.problem or "has nothing more to suggest"
            done = ev.ProposerExhausted(proposer=answer.proposer, reason=reason)
            self._record(f"{self._parts.epoch}/{answer.proposer}/exhausted", done)

    def _put_off(
        self, proposer: str, reason: str, at_least_s: float = 0.0, *, is_idle: bool = False
    ) -> None:
        """Note that a proposer cannot answer now; it is asked again later."""
        event = ev.ProposerFailed(
            proposer=proposer,
            reason=reason,
            retry_at=retry_at(self._state, proposer, self._parts.clock(), at_least_s),
            is_idle=is_idle,
        )
        name = f"{self._parts.epoch}/{proposer}/failed/{self._state.seq}"
        self._record(name, event)

    def _record(self, name: str, event: ev.Event) -> None:
        self._parts.performer.record(name, event)
        self._catch_up()

    def _catch_up(self) -> StudyState:
        while True:
            events = self._unread()
            for recorded in events:
                self._state, self._last = apply(self._state, recorded), recorded
                self._note(recorded)
                self._show(recorded)
            if len(events) < PAGE:
                self._has_read.set()
                return self._state

    def _unread(self) -> Sequence[ev.Recorded]:
        if self._last is None:
            return self._parts.ledger.read(self._state.seq)
        return following(self._parts.ledger, self._last)

    def _show(self, recorded: ev.Recorded) -> None:
        self._tell(lambda observer: observer.observe(recorded, self._state))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        """Tell all observers; one that fails is told nothing more, and the study goes on."""
        for observer in tuple(self._observers):
            try:
                tell(observer)
            except Exception:
                log.exception("%s failed and is left out from now on", type(observer).__name__)
                self._observers.remove(observer)

    def _note(self, recorded: ev.Recorded) -> None:
        """Let proposers see verdicts, suspicions and failures."""
        experiment = news(self._state, recorded)
        if experiment is not None:
            self._desk.note(experiment)

    # --- surroundings ----------------------------------------------------------------------------

    def _set_mode(self) -> None:
        queue, epoch = self._parts.queue, self._parts.epoch
        for node, mode in nodes.modes(self._state).items():
            if mode is not self._modes.get(node):
                switch = partial(queue.set_node_mode, node) if node else queue.set_mode
                switch(mode, epoch=epoch)
                self._modes[node] = mode

    def _check_fleet(self) -> None:
        for problem in self._parts.fleet.check():
            log.warning("%s", problem.text)
            if problem.is_fatal and not self._state.finished:
                event = ev.StudyFinished(reason=problem.text, failed=True)
                self._record(f"finished/{self._parts.epoch}", event)

    def _mirror(self, *, is_last: bool = False) -> None:
        if is_last or time.monotonic() - self._mirrored >= MIRROR_S:
            seq = self._state.seq
            found = self._parts.mirror.sync(self._standing, has_news=seq != self._mirrored_seq)
            self._mirrored_seq = seq
            self._catch_up()
            if (message := found.message) != self._mirror_message or is_last:
                self._mirror_message = message
                self._parts.notify(message)
                log.info("mirror: %s", message or "up to date")
            self._mirrored = time.monotonic()

    def _standing(self, tip: CommitId) -> Standing:
        return self._parts.performer.standing(tip, self._state)

    def _snapshot(self, *, is_last: bool = False) -> None:
        behind = self._state.seq - self._snapshot_seq
        if behind >= max(SNAPSHOT_EVENTS, self._state.seq // 20) or (is_last and behind):
            self._parts.ledger.save_snapshot(self._state)
            self._snapshot_seq = self._state.seq

    def _wait(self) -> None:
        """Wait until something has happened, at most a tick."""
        with suppress(Empty):
            self._wakes.get(timeout=TICK_S)
            while True:
                self._wakes.get_nowait()

    def _wake_on_events(self) -> None:
        while not self._is_over:
            self._has_read.clear()
            try:
                if self._parts.waiting_ledger.wait(self._state.seq, TICK_S):
                    self._wakes.put(None)
                    self._has_read.wait(TICK_S)  # the main thread is to read the same events
            except LedgerAway:
                time.sleep(TICK_S)

    def _patiently(self, action: Callable[[], None]) -> None:
        """Run an action, again where the server was away or the disk full, and is not any more."""
        roomy = partial(with_room, action, recover=self._recover)
        patiently(roomy, revive=self._parts.revive, renew=self._renew)

    def _recover(self) -> None:
        self._catch_up()
        self._parts.performer.resume(self._state)

    def _renew(self) -> None:
        self._leases.renew(self._parts.lease_s)
        self._modes.clear()  # a server that went away may have lost what it was told last

    # --- the end ---------------------------------------------------------------------------------

    def _ended(self) -> bool:
        state = self._state
        no_trial = not state.count(Status.RUNNING)
        return stop_is_complete(state) or (bool(state.finished) and no_trial)

    def _finish(self) -> None:
        self._catch_up()
        self._set_mode()
        # The last trial may have ended after the last round had decided.
        self._do_what_is_due()
        self._parts.finish(self._catch_up)
        self._parts.fleet.shutdown()
        self._parts.queue.expire(now=self._parts.clock(), even_live=True)
        reason = self._state.finished or "stopped"
        event = ev.ControllerStopped(epoch=self._parts.epoch, reason=reason)
        self._record(f"stopped/{self._parts.epoch}", event)
        self._mirror(is_last=True)
        self._snapshot(is_last=True)
