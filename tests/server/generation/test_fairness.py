"""Every generation, by any API, has the principal who asked for it as its client, so that the scheduler can be fair."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from server.access.hosts import Hosts
from server.access.keys import Role
from server.access.middleware import Access
from server.access.origins import Origins
from server.storage.local.keys import KeyFile
from tests.models.scripted import ScriptedChatModel
from tests.server.fakes import FakeIndex, serving

MESSAGES = [{"role": "user", "content": "Hello"}]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/chat/completions", {"messages": MESSAGES, "model": "played", "n": 2}),
    ("/v1/completions", {"prompt": "Hello"}),
    ("/v1/responses", {"input": "Hello"}),
    ("/v1/messages", {"model": "played", "max_tokens": 5, "messages": MESSAGES}),
    ("/api/chat", {"model": "played", "messages": MESSAGES, "stream": False}),
    ("/api/generate", {"model": "played", "prompt": "Hello", "raw": True, "stream": False}),
    ("/completion", {"prompt": "Hello"}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
]


class TwoKeys:
    """A server with keys for Ann and Bob."""

    def __init__(self, http: TestClient[Any], model: ScriptedChatModel, keys: KeyFile) -> None:
        self.http = http
        self.model = model
        self.ann, self._ann_text = keys.create("ann", Role.ADMIN)
        self.bob, self._bob_text = keys.create("bob", Role.WRITE)

    def post(self, text: str, path: str, **fields: Any) -> Any:
        response = self.http.post(path, headers={"authorization": f"Bearer {text}"}, **fields)
        assert response.status_code < 300, response.text
        return response.json()

    def as_ann(self, path: str, **fields: Any) -> Any:
        return self.post(self._ann_text, path, **fields)

    def as_bob(self, path: str, **fields: Any) -> Any:
        return self.post(self._bob_text, path, **fields)

    @property
    def clients(self) -> list[str]:
        """Return the client of each generation so far."""
        return [request["client"] for request in self.model.requests]

    def wait_until_completed(self, path: str) -> None:
        """Wait until a background response or a batch of Bob's is completed."""
        headers = {"authorization": f"Bearer {self._bob_text}"}
        deadline = time.monotonic() + 10
        while (status := self.http.get(path, headers=headers).json()["status"]) != "completed":
            assert time.monotonic() < deadline, status
            time.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TwoKeys]:
    model, keys = ScriptedChatModel(), KeyFile(tmp_path)
    access = Access(Hosts("127.0.0.1", ["testserver.local"]), Origins([]), keys)
    with serving(tmp_path, model, FakeIndex([]), access) as http:
        yield TwoKeys(http, model, keys)


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_each_key_is_a_client_of_its_own(server: TwoKeys, path: str, body: dict[str, Any]) -> None:
    server.as_ann(path, json=body)
    server.as_bob(path, json=body)
    num_answers = body.get("n", 1)
    assert server.clients == [server.ann.id] * num_answers + [server.bob.id] * num_answers


def test_a_background_response_belongs_to_the_key_that_asked_for_it(server: TwoKeys) -> None:
    response = server.as_bob("/v1/responses", json={"input": "Hello", "background": True})
    server.wait_until_completed(f"/v1/responses/{response['id']}")
    assert server.clients == [server.bob.id]


def test_the_lines_of_a_batch_belong_to_the_key_that_created_it(server: TwoKeys) -> None:
    line = b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}'
    line = line.replace(b"[]", b'[{"role": "user", "content": "Hello"}]')
    file = server.as_bob("/v1/files", files={"file": ("in.jsonl", line)}, data={"purpose": "batch"})
    body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = server.as_bob("/v1/batches", json=body)
    server.wait_until_completed(f"/v1/batches/{batch['id']}")
    assert server.clients == [server.bob.id]
