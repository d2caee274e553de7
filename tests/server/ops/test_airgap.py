"""`cloister doctor --air-gap`: its ten statements hold here, and fail for altered packages and attempts to connect."""

import importlib
import sys
from pathlib import Path

import pytest

from server.ops import airgap
from server.ops.airgap import IsolatedRun, num_unrouted, statements
from server.ops.package_checks import pins
from server.ops.trial import Trial
from server.settings.settings import Settings
from tests.e2e.isolation import can_isolate

SOUND = IsolatedRun(Trial("", 1.0), 0, 0)


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.skipif(not can_isolate(), reason="this machine allows no network namespace")
def test_a_trial_run_without_a_network_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airgap, "pins", lambda: [("msgspec", ""), ("litestar", "")])  # all of them take a while
    results = list(statements(Settings()))
    assert [each.name[:2] for each in results] == [f"{number:2}" for number in range(1, 11)]
    assert [each for each in results if each.state == "failure"] == []
    assert all(each.shown_by for each in results)
    assert "0 packets" in results[2].found


@pytest.mark.parametrize(
    ("isolated", "states"),
    [
        (SOUND, "ok ok ok ok"),
        (SOUND._replace(num_unrouted=2), "failure ok ok ok"),
        (SOUND._replace(num_calls=1), "failure ok ok ok"),
        (SOUND._replace(num_calls=None), "ok ok ok ok"),
        (SOUND._replace(trial=Trial("no model", 1.0)), "ok failure failure failure"),
        ("no namespace here", "warning warning warning warning"),
    ],
)
def test_the_result_of_the_trial_run_decides_four_statements(
    monkeypatch: pytest.MonkeyPatch, isolated: IsolatedRun | str, states: str
) -> None:
    monkeypatch.setattr(airgap, "pins", lambda: [])
    monkeypatch.setattr(airgap, "_run_isolated", lambda: isolated)
    results = list(statements(Settings()))
    assert [results[at].state for at in (2, 3, 6, 8)] == states.split()


def test_an_altered_package_fails_its_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "altered-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: altered\nVersion: 1.0\n")
    (info / "RECORD").write_text("altered.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n")  # of nothing
    (tmp_path / "altered.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    monkeypatch.setattr(airgap, "pins", lambda: [("altered", "1.0")])
    monkeypatch.setattr(airgap, "_run_isolated", lambda: SOUND)
    assert list(statements(Settings()))[1].state == "ok"
    (tmp_path / "altered.py").write_text("import socket\n")
    second = list(statements(Settings()))[1]
    assert (second.state, "altered.py" in second.found) == ("failure", True)


def test_num_unrouted_reads_the_kernel_s_counters() -> None:
    counters = "Ip: Forwarding OutNoRoutes ReasmTimeout\nIp: 1 3 0\nIcmp: InMsgs\nIcmp: 0\nIp6OutNoRoutes \t 2\n"
    assert num_unrouted(counters) == 5
    assert num_unrouted("") == 0
    assert len(pins()) > 50
