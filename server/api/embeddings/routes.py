"""The routes of POST /v1/embeddings and llama.cpp's /embedding."""

from typing import Any

from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from server.access.keys import Role
from server.api.embeddings.reply import embed_request, embedding_list, llamacpp_embeddings
from server.api.embeddings.wire import EmbeddingList, EmbeddingRequest, LlamaCppEmbedding
from server.http.disconnect import cancel_on_disconnect
from server.services import Services


class EmbeddingController(Controller):
    @post(["/v1/embeddings", "/embeddings"], status_code=200, operation_id="createEmbedding", opt={"role": Role.READ})
    async def create(
        self, request: Request[Any, Any, Any], data: JSONBody[EmbeddingRequest], services: NamedDependency[Services]
    ) -> EmbeddingList | list[LlamaCppEmbedding]:
        """Embed texts. A request in llama.cpp's form gets a reply in that form."""
        result = await cancel_on_disconnect(request, embed_request(data, services.embeddings))
        if data.input is None:
            return llamacpp_embeddings(result)
        return embedding_list(result, services.embeddings.model.name, data.encoding_format)

    @post("/embedding", status_code=200, operation_id="createNativeEmbedding", opt={"role": Role.READ})
    async def native(
        self, request: Request[Any, Any, Any], data: JSONBody[EmbeddingRequest], services: NamedDependency[Services]
    ) -> list[LlamaCppEmbedding]:
        return llamacpp_embeddings(await cancel_on_disconnect(request, embed_request(data, services.embeddings)))
