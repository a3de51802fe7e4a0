"""The proposer `agent`: a coding agent that edits the incumbent's files in a folder of its own.

Any command will do: `claude -p`, `codex exec`, a script. One run brings one proposal: what it has
changed of the editable files. Pays for a run before it begins (`proposer.purse`); what it cost is
what the agent says, up to `usd`, or `usd` where it says nothing: nobody can check it, so a limit in
dollars holds as far as `usd` is right, and one in tokens as far as `tokens` is. How many turns it
takes is the command's own affair.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from proposer.agent_files import (
    Answer,
    Claim,
    NotTaken,
    changed_files,
    claim,
    context_files,
    derived,
    kept_answer,
    names,
    new_names,
    not_taken_words,
    words,
)
from proposer.agent_run import AgentRunner, Workspace
from proposer.config import AgentSource
from proposer.constants import turned_constants
from proposer.likeness import told_twin, twin_of
from proposer.plain import cut, plain_line
from proposer.proposal import (
    Context,
    Past,
    Proposal,
    ProposerDone,
    ProposerTroubled,
    TaskGivenUp,
    TaskKind,
)
from proposer.purse import CallId, CallPlan, OverLimit, Purse, RecordedReply, Settlement, Usage
from trainer.environment import EnvironmentFailed
from trainer.git_command import GitError
from trainer.run_records import EndedBy, RunReport
from trainer.safe_read import SafeFolder, Unsafe

_NOT_FOUND = frozenset({126, 127})
"""What a shell ends with where it cannot start the command."""
_SHELLS_SIGNALS = 128
_MOST_SAID = 200
_NEVER_RAN = frozenset({EndedBy.NOT_STARTED, EndedBy.NO_SANDBOX})


@dataclass(slots=True, kw_only=True)
class _Outcome:
    """What is known of a run so far, for its settlement."""

    usd: float
    usage: Usage = field(default_factory=Usage)
    answer: Answer | None = None
    problem: str = ""

    def settlement(self, seconds: float) -> Settlement:
        """Return how the run ended."""
        return Settlement(
            usage=self.usage,
            usd=self.usd,
            seconds=seconds,
            reply=self.answer.model_dump_json() if self.answer else "",
            proposals=1 if self.answer else 0,
            problem=self.problem,
        )


class Agent:
    """See Proposer for the contract.

    Unlike others it may be called from several threads: it makes one run at a time.
    """

    def __init__(
        self,
        config: AgentSource,
        *,
        name: str,
        purse: Purse,
        workspace: Workspace,
        likeness: float = 92.0,
    ) -> None:
        self._config = config
        self._name = name
        self._purse = purse
        self._likeness = likeness
        self._runner = AgentRunner(config, name=name, workspace=workspace)
        self._lock = threading.Lock()
        self._unused: list[RecordedReply] = []

    @property
    def name(self) -> str:
        """See Proposer."""
        return self._name

    @property
    def tasks(self) -> frozenset[TaskKind]:
        """It mends what crashed and composes what conflicts."""
        return frozenset({TaskKind.FIX, TaskKind.COMPOSE})

    @property
    def advice(self) -> str:
        """None: what it has to say stands on the scratchpad and in its hints."""
        return ""

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:  # noqa: ARG002 - one run, one proposal
        """Run the agent, and return what it proposes.

        Of what is much like an earlier proposal it is told, and runs once more; who insists has a
        reason. The first counts where nothing comes of the second.

        Raises:
            ProposerTroubled: it failed, took too long or changed nothing; another run may not.
            TaskGivenUp: the same of a task.
            ProposerDone: it cannot be run here; the message has the cure.
            OverLimit: a run could cost more than what is left.
        """
        with self._lock:
            if found := self._recorded(context):
                return found
            try:
                proposal = self._run(context)
                likely = self._twin(context, proposal)
                return [self._again(context, proposal, likely) if likely else proposal]
            finally:
                self._runner.tidy()

    def _run(self, context: Context, again: str = "") -> Proposal:
        self._make_ready(context, again)
        call = self._purse.reserve(self._plan(context))
        return _proposal(self._paid(call, context), context, call)

    def _again(self, context: Context, twin: Proposal, likely: Past) -> Proposal:
        """Run it once more; what it had is paid for, and better than nothing."""
        try:
            return self._run(context, told_twin(likely))
        except (ProposerTroubled, ProposerDone, OverLimit):
            return twin  # what is wrong shows again with the next question

    def _twin(self, context: Context, proposal: Proposal) -> Past | None:
        if context.task is not None:
            return None  # what mends is like what it mends
        return twin_of(
            context, proposal.edits, hypothesis=proposal.hypothesis, likeness=self._likeness
        )

    def _paid(self, call: CallId, context: Context) -> Answer:
        """Run it; a task of which nothing has come would be paid for anew, again and again."""
        try:
            return self._settled(call, context)
        except ProposerTroubled as trouble:
            if context.task is None:
                raise
            raise TaskGivenUp(str(trouble)) from None

    def _make_ready(self, context: Context, again: str) -> None:
        try:
            self._runner.make_ready(context.commit, context_files(context, again))
        except EnvironmentFailed as error:
            raise ProposerDone(str(error)) from None
        except (GitError, OSError) as error:
            raise ProposerTroubled(f"no folder for the agent could be made: {error}") from None

    def _plan(self, context: Context) -> CallPlan:
        return CallPlan(
            proposer=self._name,
            model=self._name,
            purpose=context.task.kind.value if context.task else "propose",
            task=context.task.key if context.task else "",
            commit=context.commit,
            incumbent=context.incumbent,
            usd=self._config.usd or 0.0,
            tokens=self._config.tokens or 0,
        )

    def _settled(self, call: CallId, context: Context) -> Answer:
        """Run it and settle: each call is settled exactly once, however it ends."""
        begun = time.monotonic()
        outcome = _Outcome(
            usd=self._config.usd or 0.0, usage=Usage(output=self._config.tokens or 0)
        )
        try:
            answer = outcome.answer = self._answered(call, context, outcome)
        except BaseException as error:
            is_told = isinstance(error, ProposerTroubled | ProposerDone)
            outcome.problem = str(error) if is_told else type(error).__name__
            raise
        finally:
            self._purse.settle(call, outcome.settlement(time.monotonic() - begun))
        return answer

    def _answered(self, call: CallId, context: Context, outcome: _Outcome) -> Answer:
        report = self._runner.run(call)
        try:
            if report.ended_by in _NEVER_RAN:
                outcome.usd, outcome.usage = 0.0, Usage()
                self._check(report)
            with SafeFolder(self._runner.folder) as folder:
                self._count(claim(folder, self._runner.last_line(call)), outcome)
                self._check(report)
                return self._taken(folder, context)
        except FileNotFoundError:
            problem = "it removed the folder that it worked in"
        except (NotTaken, Unsafe) as error:
            problem = str(error)
        raise ProposerTroubled(f"{problem}{_said(report)}")

    def _count(self, claimed: Claim, outcome: _Outcome) -> None:
        """Take what it says, up to what was reserved."""
        most_usd, most = self._config.usd, self._config.tokens
        if claimed.usage.total:
            is_within = most is None or claimed.usage.total <= most
            outcome.usage = claimed.usage if is_within else outcome.usage
        if claimed.usd is not None:
            outcome.usd = claimed.usd if most_usd is None else min(claimed.usd, most_usd)

    def _check(self, report: RunReport) -> None:
        """Raise ProposerTroubled or ProposerDone for a run that did not end well."""
        if report.ended_by is EndedBy.EXIT and report.exit_code == 0:
            return
        code, said = report.exit_code or 0, _said(report)
        if report.ended_by is EndedBy.EXIT and code in _NOT_FOUND:
            raise ProposerDone(
                f"`{cut(self._config.command, 80)}` cannot be started{said}. Install it for all "
                "users, or name in [[proposer]] mounts the folder that holds it and its files"
            )
        if report.ended_by is EndedBy.NOT_STARTED:
            raise ProposerDone(f"it cannot be started: {report.problem}")
        if report.ended_by is EndedBy.EXIT:
            # Of what runs in a sandbox bwrap tells as a shell does: 137 is signal 9.
            number = -code if code < 0 else code - _SHELLS_SIGNALS
            how = f"was ended by signal {number}" if number > 0 else f"ended with {code}"
            raise ProposerTroubled(f"it {how}{said}")
        if report.ended_by is EndedBy.TIMEOUT:
            raise ProposerTroubled(
                f"it took longer than timeout_s = {self._config.timeout_s:g}{said}"
            )
        raise ProposerTroubled(f"it {report.problem or report.ended_by.value}{said}")

    def _taken(self, folder: SafeFolder, context: Context) -> Answer:
        """Make an answer of what the agent has left; raises NotTaken."""
        edits = changed_files(folder, context.files)
        beside = not_taken_words(
            self._runner.frozen_changes(context.commit),
            new_names(self._runner.new_from, names(folder)),
        )
        if not edits:
            raise NotTaken(f"it changed none of the editable files. {beside}".strip(". "))
        if name := next(filter(None, map(self._runner.secret_in, edits.values())), ""):
            raise NotTaken(f"its patch holds the value of {name}")
        said = words(folder)
        clean = self._runner.without_secrets
        return Answer(
            edits=edits,
            hypothesis=clean(said.hypothesis) or self._hypothesis(context, edits),
            category=clean(said.category),
            notes=clean("\n".join(filter(None, [said.notes, beside]))),
            expected_effect=said.expected_effect,
            hints=[clean(hint) for hint in said.hints],
        )

    def _hypothesis(self, context: Context, edits: dict[str, str]) -> str:
        if context.task is not None:
            title = plain_line(context.task.hypothesis, _MOST_SAID)
            return f"{context.task.kind} {context.task.experiment}: {title}"
        return derived(self._name, context.files, edits)

    def _recorded(self, context: Context) -> list[Proposal]:
        """Make proposals of runs that were paid for, and of which a crash made nothing.

        Those of a task wait until it is asked for again.
        """
        self._unused += self._purse.unused(self._name)
        task = context.task.key if context.task else ""
        found = []
        for recorded in [each for each in self._unused if each.plan.task == task]:
            self._unused.remove(recorded)
            if recorded.plan.commit != context.commit:
                continue  # a patch on what is no longer the incumbent
            answer = kept_answer(recorded.reply)
            if answer is not None and answer.edits.keys() <= context.files.keys():
                found.append(_proposal(answer, context, recorded.call))
        return found


def _proposal(answer: Answer, context: Context, call: CallId) -> Proposal:
    return Proposal(
        edits=answer.edits,
        hypothesis=answer.hypothesis,
        parameters=turned_constants(context.files, {**context.files, **answer.edits}),
        category=answer.category,
        expected_effect=answer.expected_effect,
        notes=answer.notes,
        hints=tuple(answer.hints),
        origin=f"{call}/0",
    )


def _said(report: RunReport) -> str:
    """Return the last line that the agent printed, to follow a reason; empty if it printed none."""
    last = plain_line(report.tail.strip().rpartition("\n")[2], _MOST_SAID)
    return f": {last}" if last else ""
