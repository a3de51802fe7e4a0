"""The words for events, which scripts may search for."""

import re
from dataclasses import replace

from cluster.state.events import EVENT_TYPES
from infra.facts.event_lines import event_line
from tests.infra.study_factory import Study, chained, eventful, final_begun, rebased

WORDS = """\
study mar5: minimize val_loss, from COMMIT
controller started: process 4711 on box, epoch 1
slot cpu-0 on box: cpu
proposed e0 by baseline: baseline
queued e0.1, seed 1
started e0.1 on cpu-0: baseline
scored e0.1: val_loss 0.41
baseline e0
winner e1: better (+0.1 against e0)
kept e1: val_loss 0.38, replaces e0, as COMMIT: LR 0.1 -> 0.2
discarded e2: worse (-0.1 against e1)
crashed e3.1: ZeroDivisionError: division by zero
timed_out e4.1: it was timed_out
cancel e5
lost e6.1: the lease ran out
queued e6.1, attempt 2, seed 1
started e6.1 on cpu-0, attempt 2: WIDTH 8 -> 16
merging e7 onto e11 as e12
conflicted e8: with e14 in train.py
merged e9: already in e14
requeued e5: not brought, believed to be worth +0.005
chain e6: e6, e7, e8, e9 measured, best is e8
kept e8 above e6, e7: val_loss 0.33, replaces e1, as COMMIT: patch 2
dropped e10: merged as e15, which crashed
kept e16: val_loss 0.25, replaces e14, which leaves behind e11, e13, e14, \
as COMMIT: a better start
retry e3
control e3.4, seed 1, on cpu-0
checked cpu-0 by e3.3: as expected
shifted cpu-0: -0.2 in e3.4; judged again: e5
submitted s1: mine
rejected s1: mine: the same tree as e1
rejected tuner: LR 0.2 -> 0.1: known
rebased e2 onto e1, from e0
not rebased e3: conflicts with e1 in train.py, so it is run on its own base
returned e4: stale: conflicts with e1 in train.py
rejected e22: train.py:4: undefined name 'modle'
exhausted tuner: every point of the grid was tried
pause
resume
call c1: claude asks claude-opus-5-5 to propose, at most $0.50
answered c1: 2 proposals (3600 tokens, $0.25)
failed c2: 529 overloaded (3600 tokens, $0.05)
lost c3: its process died, so it counts as what was reserved (3600 tokens, $0.50)
used c1
no call of claude: $0.50 or 9000 tokens could be more than the limit leaves
gave up claude, to mend e3: nothing came of it
told all proposers: leave the seed alone
approve e1
reject e2: tried in May
queued e26.1, seed 1, on the rung of 30 s
short e26.1: val_loss 0.3 on the rung of 30 s
passed e26: rung of 30 s: place 1 of 5, of which the best 2 go on
pruned e27: rung of 30 s: place 5 of 5, of which the best 2 go on
passed e27: rung of 30 s: place 1 of 5, of which the best 2 go on
suspect e18: prepare.py was changed while the trial ran; it took 0.1 s (+0.3 against e3)
accept e19
given back e21.1: the lease ran out
refused beta at 10.0.0.2: Ray 2.9.0, the study has 2.51.1
joined beta at 10.0.0.2: 64 CPUs, 256 GB, NVIDIA H200, NVIDIA H200; prepared in 12 s
quarantined beta: e3.1, e5.1, e6.1 failed there alone; run again: e30
released beta
drain beta
left beta: drained
finished: nothing more to try
closed cpu-1: its worker died
stop now
controller stopped: stopped
"""


def test_each_event_has_its_words() -> None:
    study, lines = Study(slots=0), []
    events = eventful()
    of_chain = [recorded.event for recorded in chained().events]
    lines += [event_line(event, chained().state) for event in of_chain]
    of_rebases = [recorded.event for recorded in rebased().events]
    lines += [event_line(event, rebased().state) for event in of_rebases]
    lines = [re.sub(r"\b[0-9a-f]{7}\b", "COMMIT", line) for line in lines]
    assert {type(event) for event in (*events, *of_chain, *of_rebases)} == set(EVENT_TYPES.values())
    for index, event in enumerate(events):
        if index >= 2:
            study.tell(event)
        lines.append(re.sub(r"\b[0-9a-f]{7}\b", "COMMIT", event_line(event, study.state)))
    assert [line for line in WORDS.splitlines() if line not in lines] == []
    assert any(line.startswith("in trouble claude: 529 overloaded; asked again") for line in lines)


def test_the_words_are_the_same_later() -> None:
    study = Study(slots=0)
    at_once = []
    for event in eventful()[2:]:
        study.tell(event)
        at_once.append(event_line(event, study.state))
    assert [event_line(recorded.event, study.state) for recorded in study.events[2:]] == at_once


def test_a_line_is_one_line_whatever_a_hypothesis_holds() -> None:
    study = Study()
    study.propose("a\nkept e99: \x1b[2Jb")
    assert event_line(study.events[-1].event, study.state) == "proposed e0 by tuner: a kept e99: b"


def test_of_a_final_run_that_was_rebuilt_nobody_says_how_many_runs_it_had() -> None:
    study = Study()
    study.baseline(0.41)
    begun = final_begun(study)
    assert event_line(begun, study.state).endswith(": 2 runs")
    assert event_line(replace(begun, seeds=()), study.state).endswith(": known from its tag")
