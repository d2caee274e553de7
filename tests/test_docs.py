"""The documentation names files, links, settings and request fields that exist, and every request field."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from server.api.anthropic.wire import AnthropicRequest
from server.api.batches.wire import CreateBatch
from server.api.chat.wire import ChatRequest
from server.api.cloister.index.wire import RescanRequest
from server.api.cloister.search.wire import SearchRequest
from server.api.completions.wire import CompletionRequest, FimRequest
from server.api.embeddings.wire import EmbeddingRequest
from server.api.llamacpp.wire import DetokenizeRequest, LlamaCppInfillRequest, TokenizeRequest
from server.api.mcp.wire import FetchArguments, SearchArguments
from server.api.ollama.wire import OllamaChatRequest, OllamaGenerateRequest, OllamaOptions
from server.api.rerank.wire import RerankRequest
from server.api.responses.wire import ResponseRequest
from server.api.shared.rag_wire import RagFilters, RagRequest
from server.settings.settings import Settings

ROOT = Path(__file__).parents[1]
MANUAL = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md"))]
PAGES = [*MANUAL, "README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/builtin/README.md"]
TOPS = ("server", "models", "index")
# A path in a code span, on its own or at the beginning of a command. Upper-case parts are placeholders.
PATH = re.compile(r"`((?:server|models|index|tests|scripts|docs|requirements)/[a-z_/.0-9-]+)(?=[ `])")
SCRIPT = re.compile(r"(?<![\w/.])scripts/[a-z_/.0-9-]*[a-z0-9]")
LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]+`")


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def setting_names(struct: type[msgspec.Struct] = Settings, prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        yield f"{prefix}{field.name}"
        if isinstance(field.default, msgspec.Struct):
            yield from setting_names(type(field.default), f"{prefix}{field.name}.")


SETTINGS = frozenset(setting_names())
GROUPS = sorted({name.partition(".")[0] for name in SETTINGS if "." in name})
SETTING = re.compile(rf"`((?:{'|'.join(GROUPS)})\.\w+)`")


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_each_path_that_a_page_names_exists(page: str) -> None:
    assert [path for path in sorted(set(PATH.findall(text_of(page)))) if not (ROOT / path).exists()] == []


def test_paths_are_found_in_code_spans() -> None:
    found = PATH.findall("`server/app.py`, `scripts/eval/reader_model.py --papers FOLDER` and `server/api/NAME/`")
    assert found == ["server/app.py", "scripts/eval/reader_model.py"]


@pytest.mark.parametrize("page", PAGES)
def test_each_script_that_a_page_names_exists(page: str) -> None:
    assert [path for path in sorted(set(SCRIPT.findall(text_of(page)))) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_each_link_leads_to_a_file_and_a_heading(page: str) -> None:
    for link in LINK.findall(CODE_SPAN.sub("", FENCE.sub("", text_of(page)))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])  # which has former names too
def test_each_setting_that_a_page_names_exists(page: str) -> None:
    assert sorted(set(SETTING.findall(text_of(page))) - SETTINGS) == []


def test_the_settings_of_all_groups_are_found() -> None:
    assert {"engine.n_ctx", "encoder.runtime", "rag.top_k", "files.max_bytes", "indexing.watch"} <= SETTINGS
    assert SETTING.findall("`rag.brief`, `rag.top_k`, `server.x`") == ["rag.brief", "rag.top_k"]


@pytest.mark.parametrize("page", MANUAL)
def test_each_page_of_the_manual_begins_with_its_title_and_what_it_is_for(page: str) -> None:
    title, _, first = text_of(page).partition("\n\n")
    assert re.fullmatch(r"# \S.*", title)
    assert re.match(r"[A-Z]\w", first), first[:80]


def test_the_map_names_every_folder_of_the_code() -> None:
    page = text_of("docs/architecture.md")
    folders = {path.parent.relative_to(ROOT).as_posix() for top in TOPS for path in ROOT.glob(f"{top}/*/*.py")}
    assert [folder for folder in sorted(folders) if f"`{folder}" not in page] == []


# The sections of docs/api.md, and the requests whose fields they describe.
REQUESTS: list[tuple[str, list[type[msgspec.Struct]]]] = [
    ("POST /v1/chat/completions", [ChatRequest, RagRequest, RagFilters]),
    ("Ollama's API", [OllamaChatRequest, OllamaGenerateRequest, OllamaOptions]),
    ("Anthropic's API", [AnthropicRequest]),
    ("POST /v1/search", [SearchRequest]),
    ("POST /v1/completions", [CompletionRequest, FimRequest]),
    ("POST /v1/embeddings", [EmbeddingRequest]),
    ("POST /v1/rerank", [RerankRequest]),
    ("POST /mcp", [SearchArguments, FetchArguments]),
    ("GET /v1/index/status", [RescanRequest]),
    ("Responses", [ResponseRequest]),
    ("Batches", [CreateBatch]),
]


def section_names(heading: str) -> set[str]:
    """Return the words in the code spans of a section of docs/api.md, with its subsections."""
    _, begin, rest = text_of("docs/api.md").partition(f"\n## {heading}\n")
    assert begin, heading
    return {
        word
        for span in re.findall(r"`([^`]+)`", FENCE.sub("", rest.partition("\n## ")[0]))
        for word in re.findall(r"\w+", span)
    }


@pytest.mark.parametrize(("heading", "requests"), REQUESTS, ids=[heading for heading, _ in REQUESTS])
def test_each_field_of_a_request_is_described(heading: str, requests: list[type[msgspec.Struct]]) -> None:
    fields = {name for request in requests for name in request.__struct_fields__}
    assert sorted(fields - section_names(heading)) == []


def test_each_field_of_llama_cpps_requests_is_described() -> None:
    """Those that its completions share with `/v1/completions` are described there."""
    own = set(LlamaCppInfillRequest.__struct_fields__) - set(CompletionRequest.__struct_fields__)
    fields = own.union(TokenizeRequest.__struct_fields__, DetokenizeRequest.__struct_fields__)
    assert sorted(fields - section_names("llama.cpp's routes")) == []
