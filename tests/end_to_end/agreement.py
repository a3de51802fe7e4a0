"""What all accounts of a study must agree on: ledger, commands, results.tsv, git and picture."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from cluster.state.invariants import check
from tests.end_to_end.conftest import Study

STATUS_KEYS = {
    "study", "branch", "incumbent", "baseline", "metric", "experiments", "slots", "queue",
    "rate_per_hour",
}  # fmt: skip
LOG_KEYS = {
    "id", "status", "score", "delta", "commit", "base", "proposer", "hypothesis", "seconds", "slot",
    "node",
}  # fmt: skip
TRAILERS = ["Experiment", "Metric", "Trials", "Proposer", "Hypothesis"]
WORDS = {
    "kept": "keep", "crashed": "crash", "timed_out": "crash", "rejected": "crash", "merged": "",
    "cancelled": "",
}  # fmt: skip
"""Statuses in the words of results.tsv; all others that can come up here are a discard."""


def verify(study: Study, log: list[dict[str, Any]], status: dict[str, Any]) -> None:
    """Assert that ledger, `log`, `status`, results.tsv, branch, refs and picture tell one story."""
    state = study.state()
    check(state)
    assert {row["id"]: (row["status"], row["commit"]) for row in log} == {
        e.id: (e.status.value, e.commit) for e in state.experiments.values()
    }
    assert set(log[0]) >= LOG_KEYS
    assert set(status) >= STATUS_KEYS
    assert status["metric"] == {"name": state.metric, "goal": state.goal}
    assert Counter(row["status"] for row in log) == {
        name: count for name, count in status["experiments"].items() if count
    }
    assert status["baseline"]["score"] == log[0]["score"]
    scores = {row["id"]: row["score"] for row in log}
    assert status["incumbent"]["score"] == scores[status["incumbent"]["experiment"]]
    verify_table(study, log, state.metric)
    verify_git(study, log, status)
    verify_picture(study, log, status)


def verify_table(study: Study, log: Iterable[dict[str, Any]], metric: str) -> None:
    """Assert that results.tsv has a row for each verdict."""
    head, *rows = [line.split("\t") for line in study.home.results.read_text().splitlines()]
    assert head == ["commit", metric, "memory_gb", "status", "description"]
    expected = []
    for row in log:
        word = WORDS.get(row["status"], "discard")
        commit = (row["promoted"] or row["commit"])[:7]
        if word:
            expected.append([commit, f"{row['score'] or 0:.6f}", word, row["hypothesis"]])
    assert sorted([row[0], row[1], row[3], row[4]] for row in rows) == sorted(expected)
    assert all(float(row[2]) >= 0.0 for row in rows)


def verify_git(study: Study, log: list[dict[str, Any]], status: dict[str, Any]) -> None:
    """Assert that the branch is the promotions, one upon the other, and that all has a ref."""
    branch = status["branch"]
    assert branch == f"incumbent/{study.name}"
    shown = study.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/incumbent")
    refs = dict(line.split() for line in shown.splitlines() if "/lost/" not in line)
    assert refs == {f"refs/{branch}/{row['id']}": row["commit"] for row in log}
    line = "%H %P%x00%T%x00%s%x00" + "%x00".join(
        f"%(trailers:key={key},valueonly,separator=;)" for key in TRAILERS
    )
    base = status["baseline"]["commit"]
    commits = study.git("log", f"--format={line}", f"{base}..{branch}").splitlines()
    assert commits
    assert commits[0].split()[0] == status["incumbent"]["commit"]
    children = [commit.split("\0") for commit in commits]
    parents = [commit.split()[0] for commit in commits[1:]] + [base]
    experiments = {row["id"]: row for row in log}
    for (hashes, tree, subject, experiment, metric, trials, proposer, hypothesis), parent in zip(
        children, parents, strict=True
    ):
        row = experiments[experiment]
        assert hashes.split() == [row["promoted"], parent]  # one line of history, never rewritten
        assert tree == study.git("rev-parse", f"{row['commit']}^{{tree}}").strip()
        assert metric.startswith(f"{status['metric']['name']} {row['score']:.6g} (was ")
        assert trials.split(", ")[0] == f"{experiment}.1"  # and replicates, if any were asked for
        assert proposer == row["proposer"]
        assert hypothesis == row["hypothesis"]
        assert subject[:40] == hypothesis[:40]
        assert study.git("diff", "--name-only", parent, hashes.split()[0]).split() == ["train.py"]


def verify_picture(study: Study, log: list[dict[str, Any]], status: dict[str, Any]) -> None:
    """Assert that the picture counts what the ledger counts, and labels what was kept."""
    assert study.home.picture("png").read_bytes().startswith(b"\x89PNG")
    drawing = study.home.picture("svg").read_text()
    words = re.findall(r"<!-- (.*?) -->", drawing)  # matplotlib leaves each text beside its paths
    promoted = {row["id"] for row in log if row["promoted"]}
    labels = set(re.findall(r'id="label-(e\d+)"', drawing))
    assert labels <= promoted | {"e0"}
    assert status["incumbent"]["experiment"] in labels
    tried = sum(row["kind"] != "merge" and row["status"] != "cancelled" for row in log) - 1
    (title,) = (text for text in words if re.match(r"\d+ experiments?\b", text))
    assert title.startswith(f"{tried} experiment")
    assert f" {len(promoted)} kept: {status['metric']['name']} " in title
