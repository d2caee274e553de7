"""Some hundred made-up requests; scripts/prove/fuzz.py sends 20,000."""

import pytest
from running import Server

pytest.importorskip("schemathesis")

from fuzzing import fuzz, operations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_made_up_requests_are_answered_as_the_document_says(server: Server) -> None:
    found = list(operations(server.url))
    counts = fuzz(found, 8, number=1)
    assert counts.total() > 100
    assert {told.rsplit(" ", 1)[0] for told in counts} == {f"{each.method.upper()} {each.path}" for each in found}
    assert server.is_healthy()
