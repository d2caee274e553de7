"""The spine of a grounded chat: the files that one request passes through, from the route to the reply's events.

The request is real, up to a scripted engine and a scripted index. All other code that runs serves one of these files.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, NamedTuple, cast

from index.types import Passage
from models.llm.engine.client import EngineClient
from models.llm.engine.messages import Delta
from models.llm.engine.sequence import FinishReason
from models.llm.local import LocalChatModel
from tests.models.conftest import BUILTIN
from tests.server.fakes import FakeIndex, frames, serving

ROOT = Path(__file__).parents[2]
PACKAGES = ("server/", "models/", "index/")
MAX_FILES = 9


class Step(NamedTuple):
    file: str
    function: str


# In the order in which a request reaches them. docs/architecture.md has the same files.
SPINE = (
    Step("server/api/chat/routes.py", "create"),
    Step("server/api/chat/request.py", "generation_request"),
    Step("server/generation/generate.py", "generate"),
    Step("server/rag/pipeline.py", "ground"),
    Step("server/resources/search.py", "search"),
    Step("server/rag/context.py", "fit"),
    Step("models/llm/local.py", "prompt"),
    Step("server/generation/stream.py", "start"),
    Step("models/llm/local.py", "generate"),
    Step("server/api/chat/reply.py", "__init__"),
    Step("server/generation/stream.py", "events"),
)


class ScriptedEngine:
    """Generates the tokens of a text."""

    ready = SimpleNamespace(n_ctx=4096)

    def __init__(self) -> None:
        self.tokens: list[int] = []

    async def generate(self, prompt: list[int], *_: object, **__: object) -> AsyncGenerator[Delta, None]:
        for at, token in enumerate(self.tokens):
            await asyncio.sleep(0)
            is_last = at == len(self.tokens) - 1
            yield Delta(1, [token], finish_reason=FinishReason.STOP if is_last else None)


class Calls:
    """The first call of each spine function, with the files of the product that its callers lie in."""

    def __init__(self) -> None:
        self.order: list[Step] = []
        self.callers: dict[Step, str | None] = {}
        self._paths: dict[CodeType, str | None] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        path = self._path(frame.f_code) if event == "call" else None
        if path is None:
            return
        step = Step(path, frame.f_code.co_name)
        if step in SPINE and step not in self.callers:
            self.order.append(step)
            self.callers[step] = self._caller(frame)

    def _caller(self, frame: FrameType) -> str | None:
        """Return the nearest file that is no transport; None where a task of its own began."""
        outer = frame.f_back
        while outer is not None:
            path = self._path(outer.f_code)
            if path is not None and not path.startswith("server/http/"):
                return path
            outer = outer.f_back
        return None

    def _path(self, code: CodeType) -> str | None:
        if code not in self._paths:
            path = code.co_filename.removeprefix(f"{ROOT}/")
            self._paths[code] = path if path.startswith(PACKAGES) else None
        return self._paths[code]


@contextmanager
def profile(function: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    """Call `function` for every call in the threads that begin meanwhile, the server's among them."""
    threading.setprofile(function)
    try:
        yield
    finally:
        threading.setprofile(cast(Any, None))


def test_a_grounded_chat_calls_only_from_file_to_file_of_its_spine(tmp_path: Path) -> None:
    passage = Passage(7, 3, "handbook", "leave.md", (), "Leave is sixteen weeks.", 1, 1, 0.9)
    calls, engine = Calls(), ScriptedEngine()
    with LocalChatModel("reader", BUILTIN, lambda: cast(EngineClient, engine)) as model:
        engine.tokens = model.tokenizer.tokenize("Leave is sixteen weeks [1].", parse_special=False)
        with profile(calls), serving(tmp_path, cast(Any, model), FakeIndex([passage])) as client:
            body = {"messages": [{"role": "user", "content": "How long is leave?"}], "stream": True}
            chunks = frames(client.post("/v1/chat/completions", json=body).text)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == "Leave is sixteen weeks [1]."
    assert [delta["annotations"][0]["url_citation"]["path"] for delta in deltas if "annotations" in delta] == [
        "leave.md"
    ]
    assert tuple(calls.order) == SPINE
    files = {step.file for step in SPINE}
    assert len(files) <= MAX_FILES
    _, *others = SPINE
    for step in others:
        assert calls.callers[step] in {*files, None}, f"{step} is called through {calls.callers[step]}"
