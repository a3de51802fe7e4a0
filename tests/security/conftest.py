"""The attempts that the chosen tests are about, made in several worlds at once."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.security.campaign import Campaign, Case


@pytest.fixture(scope="session")
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """All cases of this session, in the order of their tests."""
    found = (getattr(item, "callspec", None) for item in request.session.items)
    cases = [spec.params["case"] for spec in found if spec and "case" in spec.params]
    with closing(Campaign(each for each in cases if isinstance(each, Case))) as made:
        yield made
