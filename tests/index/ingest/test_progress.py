"""The reports of the indexer's progress."""

import pytest

from index.ingest.progress import Progress, ProgressReporter


def test_rates_and_lag_are_reported_a_few_times_a_second() -> None:
    now = 100.0
    reports: list[Progress] = []
    reporter = ProgressReporter(reports.append, lambda: now)
    reporter.report("idle")
    assert reports == []
    reporter.note_backlog(True)
    for number in range(100):
        now += 0.1
        reporter.report("indexing", "notes", f"{number}.md")
        reporter.count_file(1000)
    assert 20 <= len(reports) <= 50
    assert reports[-1].files_per_s == pytest.approx(10, rel=0.2)
    assert reports[-1].bytes_per_s == pytest.approx(10_000, rel=0.2)
    assert reports[-1].lag_s == pytest.approx(10, abs=1)
    now += 60
    reporter.note_backlog(False)
    reporter.report("idle")
    assert reports[-1] == Progress("idle")
