"""The routes of the index: its state, and commands to the indexer."""

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.response import Stream

from server.access.keys import Role
from server.api.cloister.collections.routes import check_collection
from server.api.cloister.index.status import index_status, status_changes
from server.api.cloister.index.wire import IndexStatus, ReloadReply, RescanRequest
from server.errors import RequestError
from server.http.sse import event_stream
from server.resources.reloading import Reload
from server.services import Services


class IndexController(Controller):
    @get("/v1/index/status", operation_id="indexStatus")
    async def status(self, services: NamedDependency[Services]) -> IndexStatus:
        return await index_status(services)

    @get("/v1/index/events", operation_id="indexEvents")
    async def events(self, services: NamedDependency[Services]) -> Stream:
        """Stream the status, and again whenever it has changed, until the client leaves."""
        statuses = status_changes(services)
        return event_stream(statuses, statuses.aclose)

    @post("/v1/index/pause", status_code=200, operation_id="pauseIndexing", opt={"role": Role.WRITE})
    async def pause(self, services: NamedDependency[Services]) -> IndexStatus:
        """Pause indexing, also after a restart of the server."""
        await services.indexer_control.pause()
        return await index_status(services)

    @post("/v1/index/resume", status_code=200, operation_id="resumeIndexing", opt={"role": Role.WRITE})
    async def resume(self, services: NamedDependency[Services]) -> IndexStatus:
        await services.indexer_control.resume()
        return await index_status(services)

    @post("/v1/index/rescan", status_code=202, operation_id="rescan", opt={"role": Role.WRITE})
    async def rescan(
        self, services: NamedDependency[Services], data: JSONBody[RescanRequest | None] = None
    ) -> IndexStatus:
        """Compare folders with the index now, and retry files that failed."""
        rescan = data or RescanRequest()
        if rescan.collection is not None:
            check_collection(rescan.collection, services)
        elif rescan.path is not None:
            raise RequestError("Name the collection that has the path.", "collection", "missing_required_parameter")
        await services.indexer_control.rescan(rescan.collection, rescan.accept_deletions, rescan.path)
        return await index_status(services)

    @post("/v1/index/reload", status_code=200, operation_id="reloadCollections", opt={"role": Role.ADMIN})
    async def reload(self, reload_folders: NamedDependency[Reload]) -> ReloadReply:
        """Read the settings again, and index the folders that they name now."""
        return ReloadReply([collection.name for collection in await reload_folders()])
