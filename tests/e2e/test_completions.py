"""Raw completions and infills, as OpenAI's client and editors request them, with a fill-in-the-middle model."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from real_server import Server, serving, wait_until, write_handbook

from tests.models.gguf_files import write_fim_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CODE = "".join(f"def function_{i}(a, b):\n    return a + {i} * b\n\n\n" for i in range(40))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("completions")
    model = write_fim_model(folder / "fim.gguf")
    (folder / "cloister.toml").write_text(f'[models.filler]\npath = "{model}"\n')
    with serving(folder, write_handbook(folder / "handbook")) as running:
        yield running


def post(server: Server, path: str, **body: Any) -> Any:
    with server.client() as http:
        response = http.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()


def connect(server: Server, *, is_strict: bool = True) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=is_strict
    )


def test_a_streamed_completion_equals_the_whole_one(server: Server) -> None:
    # The client's own type knows no chunk without a finish reason, which all but the last are.
    with connect(server, is_strict=False) as client:
        request: Any = {"model": "reader-v1", "prompt": "How long is", "max_tokens": 12, "temperature": 0}
        whole = client.completions.create(**request)
        chunks = list(client.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks[:-1]) != ""
    assert whole.choices[0].finish_reason == chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage
    assert whole.usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 12
    assert chunks[-1].choices == []


def test_several_prompts_of_text_and_tokens_are_completed(server: Server) -> None:
    with connect(server) as client:
        tokens = [post(server, "/tokenize", content=text)["tokens"] for text in ("One day", "Two days")]
        request: Any = {"model": "reader-v1", "max_tokens": 5, "temperature": 0, "echo": True}
        texts = client.completions.create(prompt=["One day", "Two days"], n=2, **request)
        ids = client.completions.create(prompt=tokens, n=2, **request)
    assert [choice.index for choice in texts.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in texts.choices] == [choice.text for choice in ids.choices]
    assert [choice.text[:3] for choice in texts.choices] == ["One", "One", "Two", "Two"]


def test_log_probabilities_belong_to_the_tokens_of_the_text(server: Server) -> None:
    with connect(server) as client:
        choice = client.completions.create(model="reader-v1", prompt="a", max_tokens=6, logprobs=3).choices[0]
    logprobs = choice.logprobs
    assert logprobs
    assert logprobs.tokens
    assert logprobs.text_offset
    assert "".join(logprobs.tokens) == choice.text
    assert [choice.text[at:].startswith(token) for at, token in zip(logprobs.text_offset, logprobs.tokens, strict=True)]
    assert logprobs.top_logprobs
    assert {len(top) for top in logprobs.top_logprobs} == {3}


def test_best_of_returns_the_likeliest_answer(server: Server) -> None:
    with connect(server) as client:
        completion = client.completions.create(
            model="reader-v1", prompt="a", max_tokens=4, best_of=4, n=2, temperature=1
        )
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.usage
    assert completion.usage.completion_tokens > 8


def test_a_gap_is_filled_by_the_model_that_can(server: Server) -> None:
    body: dict[str, Any] = {"prompt": "def add(", "suffix": "):\n", "max_tokens": 4, "temperature": 0}
    text = post(server, "/v1/completions", model="filler", **body)["choices"][0]["text"]
    assert text
    assert post(server, "/v1/completions", **body)["choices"][0]["text"] == text
    fim = post(server, "/v1/fim/completions", **body)["choices"][0]["message"]["content"]
    assert fim == text
    infill_reply = post(
        server, "/infill", input_prefix="def ", prompt="add(", input_suffix="):\n", n_predict=4, top_k=1
    )
    assert infill_reply["content"] == text
    body = {"model": "filler", "prompt": "def add(", "suffix": "):\n", "options": {"num_predict": 4, "temperature": 0}}
    assert post(server, "/api/generate", **body, stream=False)["response"] == text
    with server.client() as http:
        refusal = http.post("/v1/completions", json={"model": "reader-v1", "prompt": "a", "suffix": "b"})
    assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "suffix")


def infill(prefix: str, line: str, **fields: Any) -> bytes:
    """Return a request as llama.vim makes it."""
    return json.dumps(
        {
            "id_slot": 0,
            "input_prefix": prefix,
            "input_suffix": "\n\nprint(function_1(2, 3))\n",
            "input_extra": [{"text": CODE[:800], "time": [1, 2], "filename": "other.py"}],
            "prompt": line,
            "n_predict": 16,
            "stop": [],
            "n_indent": 0,
            "top_k": 40,
            "top_p": 0.9,
            "samplers": ["top_k", "top_p", "infill"],
            "stream": False,
            "cache_prompt": True,
            "t_max_prompt_ms": 5000,
            "t_max_predict_ms": 5000,
            "response_fields": ["content", "timings/prompt_n", "timings/predicted_ms", "truncated", "tokens_cached"],
            "model": "",
            **fields,
        }
    ).encode()


HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer"}


def test_llama_vim_gets_the_fields_that_it_requests(server: Server) -> None:
    with server.client() as http:
        warm = infill("", "", n_predict=0, t_max_prompt_ms=1, t_max_predict_ms=1, response_fields=[""])
        assert http.post("/infill", content=warm, headers=HEADERS).content == b"{}"
        raw = http.post("/infill", content=infill(CODE[:400], "def add("), headers=HEADERS).text
    assert re.search(r'"content"\s*:"', raw)  # as it looks for an answer
    reply = json.loads(raw)
    assert reply.keys() == {"content", "timings/prompt_n", "timings/predicted_ms", "truncated", "tokens_cached"}
    assert isinstance(reply["content"], str)


def test_a_prompt_that_was_read_ahead_is_cached(server: Server) -> None:
    body = {"input_prefix": CODE[:700], "input_suffix": "\n", "prompt": "x", "model": "filler"}
    post(server, "/infill", **body, n_predict=0)
    timings = post(server, "/infill", **body, n_predict=2)["timings"]
    assert timings["prompt_n"] <= 1
    assert timings["cache_n"] > 100


def abandon(server: Server, body: bytes) -> None:
    """Send a request, and disconnect as soon as the server has it."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"POST /infill HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: is_busy(server), 5, "the request is being worked on")


def is_busy(server: Server) -> bool:
    with server.client() as http:
        return any(slot["is_processing"] for slot in http.get("/slots?model=filler").json())


def test_twenty_abandoned_keystrokes_do_not_delay_the_next(server: Server) -> None:
    def time_infill() -> float:
        started = time.monotonic()
        httpx.post(f"{server.url}/infill", content=infill(CODE[:900], "last("), headers=HEADERS, trust_env=False)
        return time.monotonic() - started

    time_infill()  # what they share is in memory
    alone = time_infill()
    for number in range(20):
        abandon(server, infill(CODE[: 900 + number], f"x{number}", n_predict=900, t_max_predict_ms=60_000))
    assert time_infill() < alone + 1.5
    wait_until(lambda: not is_busy(server), 5, "all of them are let go")


def test_a_stream_of_llama_cpp_ends_with_stop(server: Server) -> None:
    with server.client() as http:
        text = http.post("/completion", json={"prompt": "How long", "n_predict": 5, "stream": True}).text
    frames = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert [frame["stop"] for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert frames[-1]["content"] == ""
    assert frames[-1]["tokens_predicted"] == 5
    assert frames[-1]["stop_type"] == "limit"
    whole = post(server, "/completion", prompt="How long", n_predict=5, stop=["zzz"])
    assert whole["content"] == "".join(frame["content"] for frame in frames)


def test_several_infill_answers_are_a_list(server: Server) -> None:
    replies = post(server, "/infill", input_prefix="a", input_suffix="b", n_predict=2, n_cmpl=3)
    assert [each["index"] for each in replies] == [0, 1, 2]


def test_tokenize_and_detokenize_are_inverse(server: Server) -> None:
    tokens = post(server, "/tokenize", content="Wörter <|end|>", add_special=False, parse_special=True)["tokens"]
    assert post(server, "/detokenize", tokens=tokens) == {"content": "Wörter <|end|>"}
    plain = post(server, "/tokenize", content="Wörter <|end|>", parse_special=False)["tokens"]
    assert len(plain) > len(tokens)
    pieces = post(server, "/tokenize", content="Wörter", with_pieces=True)["tokens"]
    raw = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces)
    assert raw.decode() == "Wörter"


def test_props_slots_and_adapters_answer_editors(server: Server) -> None:
    with server.client() as http:
        props = http.get("/props", params={"model": "filler", "autoload": "false"}).json()
        assert props["default_generation_settings"]["n_ctx"] == 2048
        assert props["model_path"] == Path(props["model_path"]).name == "fim.gguf"
        assert http.get("/lora-adapters").json() == []
        assert len(http.get("/slots").json()) == props["total_slots"]
        assert http.get("/props", params={"model": "nobody"}).status_code == 404
    prompt = post(server, "/apply-template", messages=[{"role": "user", "content": "hi"}])["prompt"]
    assert prompt == "<|user|>\nhi<|end|>\n<|assistant|>\n"
