"""What a model id asks for: the language model alone, or an answer from the documents."""

from collections.abc import Sequence
from typing import NamedTuple

from server.exceptions import UnknownModel
from server.services import Services

GROUNDED = "cloister"


class Target(NamedTuple):
    """`collections` None: all of them. Only meaningful when grounded."""

    is_grounded: bool
    collections: Sequence[str] | None = None


def model_ids(services: Services) -> list[str]:
    """Every id a client may ask for, the default one first."""
    grounded = [f"{GROUNDED}/{collection.name}" for collection in services.collections]
    return [GROUNDED, *grounded, services.language_model.name]


def target_of(model: str | None, services: Services) -> Target:
    """No id, or an empty one, is the default's. Raises `UnknownModel`."""
    if not model or model == GROUNDED:
        return Target(is_grounded=True)
    if model == services.language_model.name:
        return Target(is_grounded=False)
    family, _, collection = model.partition("/")
    if family == GROUNDED and collection in {c.name for c in services.collections}:
        return Target(is_grounded=True, collections=[collection])
    raise UnknownModel(model, model_ids(services))
