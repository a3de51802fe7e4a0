"""How far a long transfer is, in words."""

from collections.abc import Callable, Sequence

import pytest

from infra.cli.transfer_progress import EVERY_S, progress


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((0.1, 0.2, 0.3), []),
        ((0.1, EVERY_S, EVERY_S + 0.1), ["read 2 of 3 experiments", "read 3 of 3 experiments"]),
        (
            (EVERY_S, EVERY_S + 1, 2 * EVERY_S),
            ["read 1 of 3 experiments", "read 3 of 3 experiments"],
        ),
    ],
)
def test_what_was_said_to_be_under_way_is_said_to_be_done(
    seconds: Sequence[float],
    said: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    monkeypatch.setattr("infra.cli.transfer_progress.time.monotonic", lambda: now)
    show: Callable[[int, int], None] = progress("read", "experiments")
    for done, at in enumerate(seconds, start=1):
        now = at
        show(done, 3)
    assert capsys.readouterr().err.splitlines() == list(said)
