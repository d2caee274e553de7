"""What a model id asks for: a language model alone, or an answer from the documents.

cloister                    an answer from all collections, by the default model
cloister/handbook           from one collection
cloister/handbook@qwen      from one collection, by another of the configured models; also cloister@qwen
qwen                        that language model alone
"""

from collections.abc import Sequence
from typing import NamedTuple

from index.errors import CollectionNotFound
from server.errors import UnknownModel
from server.services import Services
from server.settings.settings import GROUNDED


class Target(NamedTuple):
    """`model` is the language model's name. `collections` None: all of them; only meaningful when grounded."""

    model: str
    is_grounded: bool
    collections: Sequence[str] | None = None


def model_ids(services: Services) -> list[str]:
    """The ids clients are shown, the default first. To any grounded one a model may be added, with @."""
    grounded = [f"{GROUNDED}/{collection.name}" for collection in services.collections]
    names = [*(model.name for model in services.pool), *services.pool.missing]
    further = [f"{GROUNDED}@{name}" for name in names if name != services.pool.default.name]
    return [GROUNDED, *grounded, *further, *names]


def untagged(name: str) -> str:
    """As the server calls it; the tag is Ollama's clients' own."""
    return name.removesuffix(":latest")


def target_of(id: str | None, services: Services, collections: Sequence[str] | None = None) -> Target:
    """No id, or an empty one, is the default's. `collections` take the place of the id's own; they mean nothing to a
    language model alone. A tag `:latest` is Ollama's clients' own. Raises `UnknownModel`, `CollectionNotFound`."""
    if id and id not in services.pool:
        id = untagged(id)
    if id and id in services.pool:
        return Target(id, is_grounded=False)
    asked, _, model = (id or GROUNDED).partition("@")
    family, slash, collection = asked.partition("/")
    known = [each.name for each in services.collections]
    is_known = not slash or collection in known
    if family != GROUNDED or not is_known or (model and model not in services.pool):
        raise UnknownModel(id or GROUNDED, model_ids(services))
    if unknown := next((name for name in collections or () if name not in known), None):
        raise CollectionNotFound(unknown, known)
    return Target(model or services.pool.default.name, True, collections or ([collection] if slash else None))
