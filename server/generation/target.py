"""Resolves model ids: a chat model alone, or an answer from the documents.

cloister                    an answer from all collections, by the default model
cloister/handbook           from one collection
cloister/handbook@qwen      from one collection, by another of the configured models; also cloister@qwen
qwen                        that chat model alone
"""

from collections.abc import Sequence
from typing import NamedTuple

from index.errors import CollectionNotFound
from models.llm.base import CompletionModel
from server.errors import NoBarePrompts, UnknownModel
from server.resources.model_source import ModelSource
from server.services import Services
from server.settings.settings import GROUNDED


class Target(NamedTuple):
    """A chat model by its name, and the collections to answer from: None for all of them. Without grounding they mean
    nothing."""

    model: str
    is_grounded: bool
    collections: Sequence[str] | None = None


def require_completion_model(model: ModelSource) -> CompletionModel:
    """Return the model for bare prompts and single tokens. Raises `NoBarePrompts`."""
    if model.completion_model is None:
        raise NoBarePrompts(model.name)
    return model.completion_model


def model_ids(services: Services) -> list[str]:
    """Return the ids that clients are shown, the default first. A model can be added to any grounded id, with @."""
    grounded = [f"{GROUNDED}/{collection.name}" for collection in services.collections]
    names = [*(model.name for model in services.pool), *services.pool.missing]
    further = [f"{GROUNDED}@{name}" for name in names if name != services.pool.default.name]
    return [GROUNDED, *grounded, *further, *names]


def without_tag(name: str) -> str:
    """Return the model's name without the tag `:latest`, which only Ollama's clients add."""
    return name.removesuffix(":latest")


def resolve_target(id: str | None, services: Services, collections: Sequence[str] | None = None) -> Target:
    """Return what a model id stands for; no id, or an empty one, is the default.

    `collections` override the id's own; a chat model alone ignores them. Raises `UnknownModel`, `CollectionNotFound`.
    """
    if id and id not in services.pool:
        id = without_tag(id)
    if id and id in services.pool:
        return Target(id, is_grounded=False)
    grounded_id, _, model = (id or GROUNDED).partition("@")
    family, slash, collection = grounded_id.partition("/")
    known = [each.name for each in services.collections]
    is_known = not slash or collection in known
    if family != GROUNDED or not is_known or (model and model not in services.pool):
        raise UnknownModel(id or GROUNDED, model_ids(services))
    if unknown := next((name for name in collections or () if name not in known), None):
        raise CollectionNotFound(unknown, known)
    return Target(model or services.pool.default.name, True, collections or ([collection] if slash else None))
