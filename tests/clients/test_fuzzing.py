"""Some hundred generated requests; scripts/prove/fuzz.py sends 20,000."""

import pytest
from real_server import Server

pytest.importorskip("schemathesis")

from fuzzing import fuzz, operations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_generated_requests_are_answered_as_documented(server: Server) -> None:
    all_operations = list(operations(server.url))
    counts = fuzz(all_operations, 8, number=1)
    assert counts.total() > 100
    assert {reply.rsplit(" ", 1)[0] for reply in counts} == {
        f"{each.method.upper()} {each.path}" for each in all_operations
    }
    assert server.is_healthy()
