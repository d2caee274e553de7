"""GET /v1/models and /v1/models/{id}."""

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from models.errors import ModelUnavailable
from server.addressing import model_ids, target_of
from server.protocol.index import ModelCard, ModelList
from server.services import Services


class ModelController(Controller):
    @get(["/v1/models", "/models"], operation_id="listModels")
    async def list_models(self, services: NamedDependency[Services]) -> ModelList:
        return ModelList([_card(id, services) for id in model_ids(services)])

    @get(["/v1/models/{model_id:path}", "/models/{model_id:path}"], operation_id="retrieveModel")
    async def retrieve(self, model_id: FromPath[str], services: NamedDependency[Services]) -> ModelCard:
        id = model_id.lstrip("/")
        return _card(id, services)


def _card(id: str, services: Services) -> ModelCard:
    """Raises `UnknownModel`."""
    try:
        model = services.shelf[target_of(id, services).model]
    except ModelUnavailable as error:
        return ModelCard(id, services.started_at, "cloister", 0, f"not available: {error.reason}", 0)
    return ModelCard(id, services.started_at, "cloister", model.n_ctx, model.state, model.size)
