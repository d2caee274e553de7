"""The reports of the indexer's progress."""

import pytest

from index.ingest.progress import Progress, ProgressReporter


def test_rates_and_lag_are_reported_a_few_times_a_second() -> None:
    now = 100.0
    told: list[Progress] = []
    pace = ProgressReporter(told.append, lambda: now)
    pace.report("idle")
    assert told == []
    pace.note_backlog(True)
    for number in range(100):
        now += 0.1
        pace.report("indexing", "notes", f"{number}.md")
        pace.count_file(1000)
    assert 20 <= len(told) <= 50
    assert told[-1].files_per_s == pytest.approx(10, rel=0.2)
    assert told[-1].bytes_per_s == pytest.approx(10_000, rel=0.2)
    assert told[-1].lag_s == pytest.approx(10, abs=1)
    now += 60
    pace.note_backlog(False)
    pace.report("idle")
    assert told[-1] == Progress("idle")
