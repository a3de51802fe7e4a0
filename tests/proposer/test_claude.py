"""A model over real HTTP, with the real SDK: what it proposes, what it repairs, what it costs."""

import json
import time
from dataclasses import replace

import pytest

from proposer.proposal import ProposerDone, ProposerTroubled, Task, TaskKind
from proposer.purse import CallId, CallPlan, OverLimit, RecordedReply
from tests.proposer.claude_table import DEEPER, KEY, LOWER, Table, table
from tests.proposer.messages_server import (
    Move,
    drip,
    end,
    experiment,
    overloaded,
    question,
    refuses,
    reset,
    shown,
)
from tests.proposer.study import COMMIT, TRAIN, FakePurse, context, past
from trainer.trial import CommitId, ExperimentId

__all__ = ["table"]  # the fixture


def test_several_proposals_of_one_answer_are_applied_and_paid_for_once(table: Table) -> None:
    claude = table.claude([Move(experiments=[LOWER, DEEPER], notes="try both", hints=["h"])])
    one, two = claude.propose(context(), 4)
    assert one.edits == {"train.py": TRAIN.replace("LR = 0.1", "LR = 0.05")}
    assert (one.hypothesis, one.category, one.origin) == ("LR 0.1 -> 0.05", "test", "c1/0")
    assert (one.notes, one.hints, two.notes, two.hints) == ("try both", ("h",), "", ())
    assert two.edits["train.py"].count("DEPTH = 8") == 1
    assert list(table.purse.settled) == ["c1"]
    done = table.purse.settled[CallId("c1")]
    assert (done.usage.input, done.usage.output, done.proposals) == (100, 50, 2)
    assert done.usd == pytest.approx((100 * 4 + 50 * 20) / 1e6)


def test_the_scripted_model_edits_the_source_that_it_was_shown(table: Table) -> None:
    def model(request: dict) -> Move:
        text = shown(request).replace("return LR * DEPTH", "return LR * DEPTH / 2")
        return Move(experiments=[experiment("halve", {"content": text})])

    (proposal,) = table.claude(model).propose(context(), 1)
    assert proposal.edits == {"train.py": TRAIN.replace("LR * DEPTH", "LR * DEPTH / 2")}
    assert proposal.parameters == {}, "more than constants has changed"


def test_what_changes_constants_alone_says_their_values(table: Table) -> None:
    lower, deeper = table.claude([Move(experiments=[LOWER, DEEPER])]).propose(context(), 2)
    assert lower.parameters == {"LR": 0.05, "DEPTH": 4}
    assert deeper.parameters == {"LR": 0.1, "DEPTH": 8}


@pytest.mark.parametrize("status", [401, 429])
def test_a_server_that_quotes_the_key_has_it_in_no_reason(table: Table, status: int) -> None:
    quoting = Move(status=status, message=f"Received API Key = {KEY}, \ud800\x1b[2J not known")
    claude = table.claude([quoting] * 5)
    with pytest.raises((ProposerDone, ProposerTroubled)) as told:
        claude.propose(context(), 1)
    for said in (str(told.value), *table.purse.problems.values()):
        assert "Received API Key = [...]," in said
        assert said.isprintable()


@pytest.mark.parametrize("after", ["inf", "nan", "1e300", "-5", "Wed, 21 Oct"])
def test_an_odd_word_on_when_to_come_back_is_no_time_without_end(table: Table, after: str) -> None:
    claude = table.claude([Move(status=429, headers={"retry-after": after})] * 5)
    with pytest.raises(ProposerTroubled) as told:
        claude.propose(context(), 1)
    assert 0 <= told.value.retry_after_s <= 86_400


@pytest.mark.parametrize(
    "usage", [{}, {"output_tokens": 0}, {"input_tokens": -9, "output_tokens": -9}]
)
def test_an_answer_of_which_nobody_counts_the_tokens_counts_as_what_was_reserved(
    table: Table, usage: dict[str, int]
) -> None:
    table.claude([Move(experiments=[LOWER], usage=usage)]).propose(context(), 1)
    call = CallId("c1")
    done, plan = table.purse.settled[call], table.purse.plans[call]
    assert (done.usd, done.usage.total, done.proposals) == (plan.usd, plan.tokens, 1)


def test_a_broken_answer_whose_prompt_nobody_counted_counts_as_what_was_reserved(
    table: Table,
) -> None:
    claude = table.claude([Move(experiments=[LOWER], usage={}, cut_after=3)] * 2)
    with pytest.raises(ProposerTroubled):
        claude.propose(context(), 1)
    assert table.purse.settled[CallId("c1")].usd == table.purse.plans[CallId("c1")].usd


def test_what_is_reserved_covers_text_of_which_each_character_is_several_tokens(
    table: Table,
) -> None:
    chinese = "\u5b66\u4e60\u7387" * 5000
    files = {"train.py": f"{TRAIN}# {chinese}\n"}
    table.claude([Move(experiments=[LOWER])]).propose(context(files=files), 1)
    assert table.purse.plans[CallId("c1")].tokens >= len(chinese.encode())


def test_odd_words_of_a_model_are_made_fit_for_a_ledger(table: Table) -> None:
    odd = {
        **LOWER,
        "hypothesis": "\u200b\n",
        "category": "a\x1b[2J\nb" * 20,
        "expected_effect": float("inf"),
    }
    answer = Move(experiments=[odd], hints=["try LR=1\x07", "\n"])
    (proposal,) = table.claude([answer]).propose(context(), 1)
    assert proposal.hypothesis == "change train.py"
    assert proposal.category.startswith("a b")
    assert len(proposal.category) <= 40
    assert (proposal.expected_effect, proposal.hints) == (None, ("try LR=1",))


def test_the_call_is_forced_strict_cached_and_holds_no_key(table: Table) -> None:
    claude = table.claude([Move(experiments=[LOWER])] * 2)
    claude.propose(context(), 1)
    claude.propose(context(history=[past(1)]), 1)
    first, second = table.server.requests
    assert first["tool_choice"] == {
        "type": "tool",
        "name": "submit_experiments",
        "disable_parallel_tool_use": True,
    }
    assert first["tools"][0]["strict"] is True
    assert first["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert json.dumps([first["system"], first["tools"]]) == json.dumps(
        [second["system"], second["tools"]]
    )
    assert KEY not in json.dumps(table.server.requests)
    assert table.server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert "temperature" not in first


def test_effort_lets_it_think_and_temperature_is_sent_where_it_is_asked_for(table: Table) -> None:
    moves = [Move(text="thinking aloud"), Move(experiments=[LOWER])]
    claude = table.claude(moves, effort="high", temperature=0.3)
    assert len(claude.propose(context(), 1)) == 1
    first, second = table.server.requests
    assert first["output_config"] == {"effort": "high"}
    assert first["thinking"] == {"type": "adaptive"}
    assert first["tool_choice"]["type"] == "auto"
    assert first["temperature"] == 0.3
    assert "the tool was not called" in json.dumps(second["messages"][-1])


def test_what_cannot_be_applied_is_mended_in_one_round_and_the_rest_is_taken(table: Table) -> None:
    wrong = experiment("wrong", {"search": "LR = 0.2", "replace": "LR = 0.3"})
    right = experiment("right", {"search": "LR = 0.1\n", "replace": "LR = 0.3\n"})
    claude = table.claude([Move(experiments=[wrong, DEEPER]), Move(experiments=[right])])
    deeper, mended = claude.propose(context(), 2)
    assert (deeper.origin, mended.origin) == ("c1/1", "c2/0")
    assert mended.hypothesis == "right"
    told = table.server.requests[1]["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "user"]
    assert "the text 'LR = 0.2' is not there" in told[2]["content"][0]["content"]
    assert [plan.purpose for plan in table.purse.plans.values()] == ["propose", "repair"]


def test_an_outage_in_the_repair_loses_nothing_of_what_was_good(table: Table) -> None:
    wrong = experiment("wrong", {"search": "LR = 0.2", "replace": "LR = 0.3"})
    claude = table.claude([Move(experiments=[wrong, DEEPER]), *[Move(status=529)] * 9])
    (deeper,) = claude.propose(context(), 2)
    assert deeper.origin == "c1/1"
    claude = table.claude([Move(experiments=[wrong, DEEPER])])
    first = table.purse.reserve
    table.purse.reserve = lambda plan: first(plan) if plan.purpose == "propose" else over(plan)
    assert [each.hypothesis for each in claude.propose(context(), 2)] == ["deeper"]


def over(plan: CallPlan) -> CallId:
    raise OverLimit(f"${plan.usd}")


def test_a_second_failure_is_the_end_of_it_and_says_why(table: Table) -> None:
    wrong = experiment("wrong", {"search": "LR = 0.2", "replace": "LR = 0.3"})
    claude = table.claude([Move(experiments=[wrong])] * 2)
    with pytest.raises(ProposerTroubled, match="nothing of use came back: experiment 1"):
        claude.propose(context(), 1)
    assert len(table.purse.settled) == 2


def test_an_empty_answer_is_trouble_where_ideas_were_asked_for_and_gives_a_task_up(
    table: Table,
) -> None:
    claude = table.claude([Move(experiments=[])] * 2)
    with pytest.raises(ProposerTroubled, match="no experiment was handed in"):
        claude.propose(context(), 1)
    task = Task(
        kind=TaskKind.COMPOSE,
        experiment=ExperimentId("e4"),
        hypothesis="h",
        problem="train.py",
        files={"train.py": TRAIN},
    )
    assert claude.propose(context(task=task), 1) == []


@pytest.mark.parametrize(
    "raw",
    [
        {"experiments": "many"},
        {"experiments": [{"hypothesis": "x"}], "notes": "", "hints": []},
        [1, 2],
        {"experiments": [experiment("x", {"content": "y = 1\n"})], "shell": "rm -rf ."},
    ],
    ids=["no list", "keys missing", "no object", "a key too many"],
)
def test_a_malformed_input_goes_back_once(table: Table, raw: object) -> None:
    claude = table.claude([Move(raw=raw), Move(experiments=[LOWER])])
    assert len(claude.propose(context(), 1)) == 1
    assert "malformed" in json.dumps(table.server.requests[1]["messages"][-1])


def test_a_twin_of_the_history_goes_back_once_with_what_came_of_it(table: Table) -> None:
    patch = "--- a/train.py\n+++ b/train.py\n-LR = 0.1\n+LR = 0.05\n"
    known = past(7, hypothesis="LR 0.1 -> 0.05", patch=patch, reason="0.2 worse than e0")
    claude = table.claude([Move(experiments=[LOWER]), Move(experiments=[LOWER])])
    (insisted,) = claude.propose(context(history=[past(3), known]), 1)
    assert insisted.hypothesis == "LR 0.1 -> 0.05"
    told = json.dumps(table.server.requests[1]["messages"][-1])
    assert "much like e7, which was discarded" in told
    assert "0.2 worse than e0" in told


TWIN = past(
    7, hypothesis="LR 0.1 -> 0.05", patch="--- a/train.py\n+++ b/train.py\n-LR = 0.1\n+LR = 0.05\n"
)


@pytest.mark.parametrize(
    "second",
    [[Move(status=529)] * 9, [Move(raw={"experiments": "many"})]],
    ids=["out", "malformed"],
)
def test_a_twin_is_taken_where_nothing_comes_of_the_second_question(
    table: Table, second: list[Move]
) -> None:
    claude = table.claude([Move(experiments=[LOWER, LOWER], notes="n", hints=["h"]), *second])
    (twin,) = claude.propose(context(history=[TWIN]), 2)
    assert (twin.hypothesis, twin.origin) == ("LR 0.1 -> 0.05", "c1/0")
    assert (twin.notes, twin.hints) == ("n", ("h",))


def test_a_twin_is_taken_where_a_second_question_could_cost_too_much(table: Table) -> None:
    claude = table.claude([Move(experiments=[LOWER])])
    first = table.purse.reserve
    table.purse.reserve = lambda plan: first(plan) if plan.purpose == "propose" else over(plan)
    assert [each.origin for each in claude.propose(context(history=[TWIN]), 1)] == ["c1/0"]


def test_a_twin_is_left_where_something_else_is_good_or_it_is_withdrawn(table: Table) -> None:
    claude = table.claude([Move(experiments=[LOWER, DEEPER]), *[Move(status=529)] * 9])
    (deeper,) = claude.propose(context(history=[TWIN]), 2)
    assert deeper.hypothesis == "deeper"
    claude = table.claude([Move(experiments=[LOWER]), Move(experiments=[])])
    with pytest.raises(ProposerTroubled, match="no experiment was handed in"):
        claude.propose(context(history=[TWIN]), 1)


# --- trouble -------------------------------------------------------------------------------------


def test_overload_and_limits_are_waited_for_as_long_as_the_server_says(table: Table) -> None:
    moves = [
        Move(status=429, headers={"retry-after": "7"}),
        Move(status=529),
        Move(experiments=[LOWER]),
    ]
    assert len(table.claude(moves).propose(context(), 1)) == 1
    assert len(table.server.requests) == 3
    assert table.waits[0] == 7.0
    assert all(0.5 <= wait <= 60 for wait in table.waits[1:])
    assert list(table.purse.settled) == ["c1"], "they are one call"


def test_an_outage_ends_the_question_with_a_reason_and_costs_nothing(table: Table) -> None:
    claude = table.claude([Move(status=529, message="Overloaded")] * 5)
    with pytest.raises(ProposerTroubled, match="HTTP 529: Overloaded"):
        claude.propose(context(), 1)
    assert table.purse.settled[CallId("c1")].usd == 0


LOST = {
    "ended": Move(experiments=[DEEPER], cut_after=3, cut=end),
    "reset": Move(experiments=[DEEPER], cut_after=3, cut=reset),
    "overloaded in the middle": Move(experiments=[DEEPER], cut_after=3, cut=overloaded),
    "no JSON": Move(experiments=[DEEPER], broken_json=True),
}


@pytest.mark.parametrize("move", LOST.values(), ids=LOST.keys())
def test_a_lost_answer_is_asked_for_again_by_a_call_of_its_own(table: Table, move: Move) -> None:
    (lower,) = table.claude([move, Move(experiments=[LOWER])]).propose(context(), 1)
    assert lower.origin == "c2/0"
    lost = table.purse.settled[CallId("c1")]
    assert (lost.usage.input, lost.usage.output) == (100, 2000), "its prompt, and all it may write"
    assert lost.usd == pytest.approx((100 * 4 + 2000 * 20) / 1e6)
    assert lost.problem
    assert len(table.waits) == 1


@pytest.mark.parametrize("move", LOST.values(), ids=LOST.keys())
def test_an_answer_lost_twice_is_trouble_and_no_more_than_two_calls(
    table: Table, move: Move
) -> None:
    with pytest.raises(ProposerTroubled):
        table.claude([move] * 3).propose(context(), 1)
    assert list(table.purse.settled) == ["c1", "c2"]
    assert len(table.server.requests) == 2


def test_a_call_of_which_nothing_came_back_counts_as_all_that_was_reserved(table: Table) -> None:
    with pytest.raises(ProposerTroubled):
        table.claude([Move(experiments=[LOWER], cut_after=0)] * 2).propose(context(), 1)
    plan, done = table.purse.plans[CallId("c1")], table.purse.settled[CallId("c1")]
    assert done.usd == plan.usd > 0
    assert done.usage.total == plan.tokens


def test_a_second_call_after_a_lost_one_stays_within_the_limit(table: Table) -> None:
    claude = table.claude([LOST["reset"], Move(experiments=[LOWER])])
    table.purse.left = 0.06  # enough for the first: up to 2,000 tokens at $20 a million, and more
    with pytest.raises(OverLimit):
        claude.propose(context(), 1)
    assert list(table.purse.settled) == ["c1"]
    assert len(table.server.requests) == 1


def test_a_server_that_is_not_there_costs_nothing(table: Table) -> None:
    claude = table.claude([])
    table.server.close()
    table.servers.clear()
    with pytest.raises(ProposerTroubled, match="refused"):
        claude.propose(context(), 1)
    assert len(table.waits) == 4
    assert table.purse.settled[CallId("c1")].usd == 0


def test_bytes_that_drip_in_and_make_no_event_do_not_outlast_the_deadline(table: Table) -> None:
    claude = table.claude([Move(experiments=[LOWER], cut_after=2, cut=drip)], timeout_s=1.0)
    claude._model.clock = time.monotonic
    begun = time.monotonic()
    with pytest.raises(ProposerTroubled, match="no whole answer within 1 s"):
        claude.propose(context(), 1)
    assert time.monotonic() - begun < 10, "it drips for twice as long"


@pytest.mark.parametrize("word", ["tool_choice", "strict"])
def test_what_a_model_will_not_take_is_left_out_from_then_on(table: Table, word: str) -> None:
    """The newest models take no forced call, and say so by a 400."""
    claude = table.claude(refuses(word, Move(experiments=[LOWER])))
    assert len(claude.propose(context(), 1)) == 1
    assert len(claude.propose(context(), 1)) == 1
    assert len(table.server.requests) == 3, "it is tried once"
    assert list(table.purse.settled) == ["c1", "c2"]
    assert not table.waits


def test_a_model_that_cannot_think_when_told_to_is_asked_with_effort_alone(table: Table) -> None:
    claude = table.claude(refuses("thinking", Move(experiments=[LOWER])), effort="low")
    assert len(claude.propose(context(), 1)) == 1
    assert "thinking" not in table.server.requests[1]
    assert table.server.requests[1]["output_config"] == {"effort": "low"}


def test_a_temperature_that_is_not_taken_is_given_up_with_the_cure(table: Table) -> None:
    claude = table.claude(refuses("temperature", Move()), temperature=0.5)
    with pytest.raises(ProposerDone, match=r"take temperature out of this \[\[proposer\]\]"):
        claude.propose(context(), 1)


def test_thinking_goes_back_as_it_came_and_every_call_is_answered(table: Table) -> None:
    wrong = experiment("wrong", {"search": "LR = 0.2", "replace": "LR = 0.3"})
    first = Move(experiments=[wrong], thinking="c2lnbmVk", call_twice=True)
    claude = table.claude([first, Move(experiments=[LOWER])])
    assert len(claude.propose(context(), 1)) == 1
    _, said, told = table.server.requests[1]["messages"]
    assert said["content"][0] == {"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}
    answered = [block["tool_use_id"] for block in told["content"]]
    assert answered == [block["id"] for block in said["content"][1:]] == ["toolu_1", "toolu_2"]


def test_an_answer_that_comes_slowly_ends_at_the_deadline(table: Table) -> None:
    ticks = iter(range(0, 10_000, 30))
    claude = table.claude([Move(experiments=[LOWER])], timeout_s=100.0)
    claude._model.clock = lambda: next(ticks)
    with pytest.raises(ProposerTroubled, match="no whole answer within 100 s"):
        claude.propose(context(), 1)
    assert table.purse.settled[CallId("c1")].usage.input == 100


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        (Move(stop="refusal", text="no"), "refused"),
        (Move(experiments=[LOWER], stop="max_tokens"), "raise max_tokens"),
    ],
    ids=["refusal", "truncation"],
)
def test_an_answer_of_no_use_is_paid_for_and_told(table: Table, move: Move, reason: str) -> None:
    with pytest.raises(ProposerTroubled, match=reason):
        table.claude([move]).propose(context(), 1)
    done = table.purse.settled[CallId("c1")]
    assert done.usd > 0
    assert reason in done.problem


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "is the key in ANTHROPIC_API_KEY right"),
        (403, "may the key in ANTHROPIC_API_KEY use claude-opus-5-5"),
        (404, "does the server know the model"),
    ],
)
def test_what_will_not_get_better_is_given_up_with_the_cure(
    table: Table, status: int, words: str
) -> None:
    with pytest.raises(ProposerDone, match=words):
        table.claude([Move(status=status)]).propose(context(), 1)
    assert not table.waits


def test_a_call_that_could_exceed_the_limit_is_not_made(table: Table) -> None:
    claude = table.claude([Move(experiments=[LOWER])])
    table.purse.left = 0.01
    with pytest.raises(OverLimit):
        claude.propose(context(), 1)
    assert not table.server.requests


# --- tasks and recorded replies ------------------------------------------------------------------


def test_a_crash_comes_back_with_its_traceback_and_its_source(table: Table) -> None:
    broken = TRAIN.replace("LR * DEPTH", "LR * DEPHT")
    task = Task(
        kind=TaskKind.FIX,
        experiment=ExperimentId("e4"),
        hypothesis="depth twice",
        problem="NameError: name 'DEPHT' is not defined\x1b[31m",
        files={"train.py": broken},
    )

    def model(request: dict) -> Move:
        asked = question(request)
        assert "e4 failed" in asked
        assert "<<<DATA\ndepth twice\nNameError: name 'DEPHT' is not defined\n" in asked
        assert broken in asked
        return Move(experiments=[DEEPER])

    (fix,) = table.claude(model).propose(context(task=task), 5)
    assert fix.hypothesis == "deeper"
    assert table.purse.plans[CallId("c1")].task == "fix/e4"


def test_replies_that_were_paid_for_before_a_crash_are_used_without_a_call(table: Table) -> None:
    plan = CallPlan(
        proposer="claude",
        model="m",
        purpose="propose",
        commit=COMMIT,
        incumbent=ExperimentId("e0"),
        usd=1.0,
        tokens=1,
    )
    reply = json.dumps({"experiments": [LOWER, DEEPER], "notes": "", "hints": []})
    stale = replace(plan, commit=CommitId("d" * 40))
    table.purse = FakePurse(
        unused=[
            RecordedReply(call=CallId("c7"), plan=plan, reply=reply),
            RecordedReply(call=CallId("c8"), plan=stale, reply=reply),
        ]
    )
    claude = table.claude([Move(experiments=[DEEPER])])
    assert [each.origin for each in claude.propose(context(), 1)] == ["c7/0", "c7/1"]
    assert not table.server.requests
    assert len(claude.propose(context(), 1)) == 1
    assert len(table.server.requests) == 1


def test_a_recorded_answer_to_a_task_waits_for_the_task_and_is_not_paid_for_again(
    table: Table,
) -> None:
    task = Task(
        kind=TaskKind.FIX,
        experiment=ExperimentId("e4"),
        hypothesis="depth twice",
        problem="NameError",
        files={"train.py": TRAIN},
    )
    plan = CallPlan(
        proposer="claude",
        model="m",
        purpose="fix",
        commit=COMMIT,
        incumbent=ExperimentId("e0"),
        usd=1.0,
        tokens=1,
        task=task.key,
    )
    reply = json.dumps({"experiments": [DEEPER], "notes": "", "hints": []})
    table.purse = FakePurse(unused=[RecordedReply(call=CallId("c7"), plan=plan, reply=reply)])
    claude = table.claude([Move(experiments=[LOWER])])
    (idea,) = claude.propose(context(), 1)
    assert idea.hypothesis == "LR 0.1 -> 0.05"
    (fix,) = claude.propose(context(task=task), 1)
    assert (fix.hypothesis, fix.origin) == ("deeper", "c7/0")
    assert [each.task for each in table.purse.plans.values()] == [""]


def test_what_mends_a_candidate_is_not_sent_back_for_being_like_it(table: Table) -> None:
    patch = "--- a/train.py\n+++ b/train.py\n-DEPTH = 4\n+DEPTH = 8\n"
    crashed = past(4, hypothesis="deeper", patch=patch, status="crashed")
    task = Task(
        kind=TaskKind.FIX,
        experiment=crashed.experiment,
        hypothesis="deeper",
        problem="NameError",
        files={"train.py": TRAIN},
    )
    claude = table.claude([Move(experiments=[DEEPER])])
    (fix,) = claude.propose(context(task=task, history=[crashed]), 1)
    assert fix.hypothesis == "deeper"
    assert table.purse.plans[CallId("c1")].task == task.key
