"""The proposer `claude`: a language model that is shown the study and calls a tool with patches.

Knows the conversation: a question, one round to mend what cannot be applied or repeats something,
and what is made of the answer. Pays for each call before it makes it and writes down what came of
it (`proposer.purse`), so that a crash loses no answer that was paid for. Does not know how the
prompt looks (`proposer.prompt`), nor HTTP (`proposer.anthropic_model`).
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proposer.anthropic_model import (
    AnswerLost,
    AnthropicModel,
    ModelAnswer,
    ModelRefused,
    ModelTroubled,
    Question,
)
from proposer.config import ClaudeSource
from proposer.constants import turned_constants
from proposer.edits import EditProblem, apply_edits
from proposer.likeness import told_twin, twin_of
from proposer.prices import Price
from proposer.prompt import most_tokens, render
from proposer.proposal import (
    Context,
    Proposal,
    ProposerDone,
    ProposerTroubled,
    TaskKind,
)
from proposer.purse import (
    CallId,
    CallPlan,
    OverLimit,
    Purse,
    RecordedReply,
    Settlement,
    Usage,
)
from proposer.reply import BadReply, Reply, read_reply, tool

_MOST_REPAIRS = 1
"""How often an answer is sent back for what cannot be taken of it."""
_MOST_LOST = 1
"""How often a question is asked again whose answer was lost: each loss may have cost the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What one answer came to."""

    proposals: Sequence[Proposal]
    twins: Sequence[Proposal] = ()
    """Those of the others that could run, but are much like something earlier."""
    problems: Sequence[str]
    """What its author has to be told of the others."""


class Claude:
    """See Proposer for the contract. Everything that is asked goes through `purse`."""

    def __init__(
        self,
        config: ClaudeSource,
        *,
        name: str,
        purse: Purse,
        price: Price | None,
        api_key: str,
        likeness: float = 92.0,
        model: AnthropicModel | None = None,
    ) -> None:
        self._config = config
        self._name = name
        self._purse = purse
        self._price = price
        self._likeness = likeness
        self._model = model or AnthropicModel(config, api_key)
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

    def propose(self, context: Context, count: int) -> Sequence[Proposal]:
        """See Proposer; replies that were paid for before a crash come first.

        Raises:
            ProposerTroubled: no answer, or none of use; more may come of the next question.
            ProposerDone: the key or the model is wrong.
            OverLimit: a call could cost more than what is left.
        """
        if found := self._recorded(context):
            return found
        wanted = 1 if context.task else min(count, self._config.batch)
        prompt = render(context, tokens=self._config.context_tokens, count=wanted)
        messages: list[Mapping[str, Any]] = [{"role": "user", "content": prompt.dynamic}]
        purpose = context.task.kind.value if context.task else "propose"
        good: list[Proposal] = []
        twins: Sequence[Proposal] = ()
        problems: Sequence[str] = ()
        for turn in range(_MOST_REPAIRS + 1):
            try:
                call, answer = self._call(prompt.static, messages, context, purpose)
            except (ProposerTroubled, ProposerDone, OverLimit):
                if good or twins:
                    break  # they are paid for; what is wrong shows again with the next question
                raise
            made = self._made(answer, context, call, good, is_first=not turn)
            good += made.proposals
            twins, problems = twins or made.twins, made.problems
            if not problems or turn == _MOST_REPAIRS:
                break
            messages += _again(answer, problems)
            purpose = "repair"
        if not good and problems:
            good += twins  # nobody has withdrawn them
        if not good and context.task is None:
            # Of a task it means that it gives that up; of ideas there may be some next time.
            why = problems[0] if problems else "no experiment was handed in"
            raise ProposerTroubled(f"nothing of use came back: {why}")
        return good

    # --- calls -----------------------------------------------------------------------------------

    def _call(
        self,
        static: str,
        messages: Sequence[Mapping[str, Any]],
        context: Context,
        purpose: str,
    ) -> tuple[CallId, ModelAnswer]:
        """Ask until there is an answer or no time; what was lost is paid for beside what came."""
        plan = self._plan(static, messages, context, purpose)
        question = Question(static=static, messages=messages, tool=tool())
        end = self._model.deadline()
        for attempt in range(_MOST_LOST + 1):
            try:
                return self._paid(plan, question, end)
            except AnswerLost as error:
                if attempt == _MOST_LOST or not self._model.has_waited(attempt, end):
                    raise ProposerTroubled(str(error)) from None
            except ModelTroubled as error:
                raise ProposerTroubled(str(error), retry_after_s=error.retry_after_s) from None
            except ModelRefused as error:
                raise ProposerDone(str(error)) from None
        raise AssertionError("unreachable")

    def _paid(self, plan: CallPlan, question: Question, end: float) -> tuple[CallId, ModelAnswer]:
        """Reserve, ask and settle: each call is settled exactly once, however it ends.

        Of a call whose end nobody knows the provider may have counted everything, so all that was
        reserved for it counts.
        """
        call = self._purse.reserve(plan)
        begun = time.monotonic()
        unknown = Usage(output=plan.tokens)
        try:
            answer = self._model.ask(question, end)
        except ModelTroubled as error:
            usage = error.usage
            usd = plan.usd if usage is None else self._usd(usage)
            self._settle(call, unknown if usage is None else usage, usd, begun, problem=str(error))
            raise
        except ModelRefused as error:
            self._settle(call, Usage(), 0.0, begun, problem=str(error))
            raise
        except BaseException as error:
            self._settle(call, unknown, plan.usd, begun, problem=type(error).__name__)
            raise
        # No answer takes no token: a server that counts none says nothing of what it cost.
        is_counted = answer.usage.output > 0
        usage = answer.usage if is_counted else unknown
        usd = self._usd(usage) if is_counted else plan.usd
        self._settle(call, usage, usd, begun, data=answer.data)
        return call, answer

    def _plan(
        self,
        static: str,
        messages: Sequence[Mapping[str, Any]],
        context: Context,
        purpose: str,
    ) -> CallPlan:
        tokens = most_tokens(static, json.dumps([*messages, tool()], ensure_ascii=False))
        usd = self._price.most_usd(tokens, self._config.max_tokens) if self._price else 0.0
        return CallPlan(
            proposer=self._name,
            model=self._config.model,
            purpose=purpose,
            commit=context.commit,
            incumbent=context.incumbent,
            usd=usd,
            tokens=tokens + self._config.max_tokens,
            task=context.task.key if context.task else "",
        )

    def _usd(self, usage: Usage) -> float:
        return self._price.usd(usage) if self._price else 0.0

    def _settle(
        self,
        call: CallId,
        usage: Usage,
        usd: float,
        begun: float,
        *,
        problem: str = "",
        data: object = None,
    ) -> None:
        try:
            reply = read_reply(data) if data is not None else None
        except BadReply:
            reply = None
        settlement = Settlement(
            usage=usage,
            usd=usd,
            seconds=time.monotonic() - begun,
            reply=json.dumps(data) if data is not None else "",
            proposals=len(reply.experiments) if reply else 0,
            problem=problem,
        )
        self._purse.settle(call, settlement)

    # --- answers ---------------------------------------------------------------------------------

    def _recorded(self, context: Context) -> list[Proposal]:
        """Make proposals of replies that were paid for, and of which a crash made nothing.

        Those to a task wait until it is asked for again.
        """
        self._unused += self._purse.unused(self._name)
        task = context.task.key if context.task else ""
        found: list[Proposal] = []
        for recorded in [each for each in self._unused if each.plan.task == task]:
            self._unused.remove(recorded)
            if recorded.plan.commit != context.commit:
                continue  # they are patches on what is no longer the incumbent
            try:
                reply = read_reply(json.loads(recorded.reply))
            except ValueError:
                continue
            found += self._applied(reply, context, recorded.call, found, knows_twins=True).proposals
        return found

    def _made(
        self,
        answer: ModelAnswer,
        context: Context,
        call: CallId,
        good: Sequence[Proposal],
        *,
        is_first: bool,
    ) -> _Made:
        if answer.data is None:
            return _Made(proposals=(), problems=["the tool was not called; call it"])
        try:
            reply = read_reply(answer.data)
        except BadReply as error:
            return _Made(proposals=(), problems=[f"the tool's input is malformed: {error}"])
        # A twin is sent back once: who insists has a reason. What mends is like what it mends.
        knows_twins = not is_first or context.task is not None
        return self._applied(reply, context, call, good, knows_twins=knows_twins)

    def _applied(
        self,
        reply: Reply,
        context: Context,
        call: CallId,
        good: Sequence[Proposal],
        *,
        knows_twins: bool,
    ) -> _Made:
        proposals: list[Proposal] = []
        twins: list[Proposal] = []
        problems: list[str] = []
        # A task is for one; what came beside it is nobody's answer to it.
        asked_for = reply.experiments[:1] if context.task else reply.experiments
        for place, experiment in enumerate(asked_for):
            label = f"experiment {place + 1} ({experiment.subject[:80]})"
            try:
                edits = apply_edits(context.files, experiment.all_edits())
            except EditProblem as error:
                problems.append(f"{label}: {error}")
                continue
            if edits in (each.edits for each in (*good, *proposals)):
                continue
            likely = (
                None
                if knows_twins
                else twin_of(context, edits, hypothesis=experiment.subject, likeness=self._likeness)
            )
            if likely is not None:
                problems.append(f"{label}: {told_twin(likely)}")
            those = proposals if likely is None else twins
            if edits in (each.edits for each in those):
                continue
            those.append(
                Proposal(
                    edits=edits,
                    hypothesis=experiment.subject,
                    parameters=turned_constants(context.files, {**context.files, **edits}),
                    category=experiment.kind_of_change,
                    expected_effect=experiment.effect,
                    # What goes for the whole answer is written down once.
                    notes="" if those or good else reply.notes,
                    hints=() if those or good else reply.plain_hints,
                    origin=f"{call}/{place}",
                )
            )
        return _Made(proposals=proposals, twins=twins, problems=problems)


def _again(answer: ModelAnswer, problems: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield what goes on the conversation: the answer, and what is wrong with it."""
    told = "\n".join(
        [
            "These could not be taken:",
            *(f"- {problem}" for problem in problems),
            "Call the tool once more with these alone, mended; the others are taken.",
        ]
    )
    yield {"role": "assistant", "content": list(answer.content) or "(nothing)"}
    if answer.tool_uses:
        first = answer.tool_uses[0]
        results = [
            {
                "type": "tool_result",
                "tool_use_id": each,
                "content": told if each == first else "Not read: one call is taken.",
                "is_error": True,
            }
            for each in answer.tool_uses
        ]
        yield {"role": "user", "content": results}
    else:
        yield {"role": "user", "content": told}
