"""The routes of /v1/models."""

from litestar import Controller, delete, get
from litestar.di import NamedDependency
from litestar.exceptions import PermissionDeniedException
from litestar.params import FromPath

from server.access.keys import Role
from server.api.models.reply import list_model_cards, model_card
from server.api.models.wire import ModelCard, ModelList
from server.services import Services

_ONE = ["/v1/models/{model_id:path}", "/models/{model_id:path}"]


class ModelController(Controller):
    @get(["/v1/models", "/models"], operation_id="listModels")
    async def list_models(self, services: NamedDependency[Services]) -> ModelList:
        return ModelList(list_model_cards(services))

    @get(_ONE, operation_id="retrieveModel")
    async def retrieve(self, model_id: FromPath[str], services: NamedDependency[Services]) -> ModelCard:
        return model_card(model_id.removeprefix("/"), services)

    @delete(_ONE, status_code=200, operation_id="deleteModel", opt={"role": Role.ADMIN})
    async def delete(self, model_id: FromPath[str], services: NamedDependency[Services]) -> None:
        """Refused: models are managed in the server's settings."""
        name = model_card(model_id.removeprefix("/"), services).id
        raise PermissionDeniedException(f"The model {name!r} is managed in the server's settings; remove it there.")
