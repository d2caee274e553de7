"""POST /v1/search."""

from typing import Any

from litestar import Controller, Request, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from server.access.keys import Role
from server.api.cloister.search.service import search
from server.api.cloister.search.wire import SearchRequest, SearchResults
from server.http.disconnect import cancel_on_disconnect
from server.services import Services


class SearchController(Controller):
    @post("/v1/search", status_code=200, operation_id="search", opt={"role": Role.READ})
    async def search(
        self, request: Request[Any, Any, Any], data: JSONBody[SearchRequest], services: NamedDependency[Services]
    ) -> SearchResults:
        """Search for the best passages. With `explain`, the reply also says what became of an expected file."""
        return await cancel_on_disconnect(request, search(data, services, str(request.base_url)))
