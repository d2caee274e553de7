"""The route of POST /v1/rerank, under every name that clients use."""

from typing import Any

from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from server.access.keys import Role
from server.api.rerank.reply import document_texts, rerank_reply, tei_reply
from server.api.rerank.wire import RerankReply, RerankRequest, TeiRank
from server.http.disconnect import cancel_on_disconnect
from server.services import Services


class RerankController(Controller):
    @post(
        ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking", "/reranking"],
        status_code=200,
        operation_id="rerank",
        opt={"role": Role.READ},
    )
    async def rerank(
        self, request: Request[Any, Any, Any], data: JSONBody[RerankRequest], services: NamedDependency[Services]
    ) -> RerankReply | list[TeiRank]:
        """Rank documents by a query. A request in TEI's form gets a reply in that form."""
        texts = document_texts(data)
        scores = await cancel_on_disconnect(request, services.reranking.score(data.query, texts, data.model))
        return tei_reply(data, texts, scores) if data.documents is None else rerank_reply(data, texts, scores)
