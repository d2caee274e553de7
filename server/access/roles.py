"""What each route asks of a key. What is not named here needs the highest role: nothing is open by oversight."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from server.access.keys import Role
from server.errors import AccessDenied

# By operation; those that only look, GET, need no more than to read.
ROLES = {
    "applyTemplate": Role.READ,
    "cancelResponse": Role.READ,
    "countInputTokens": Role.READ,
    "countTokens": Role.READ,
    "createChatCompletion": Role.READ,
    "createCompletion": Role.READ,
    "createEmbedding": Role.READ,
    "createFimCompletion": Role.READ,
    "createMessage": Role.READ,
    "createNativeCompletion": Role.READ,
    "createNativeEmbedding": Role.READ,
    "detokenize": Role.READ,
    "infill": Role.READ,
    "createResponse": Role.READ,
    "deleteResponse": Role.READ,
    "ollamaChat": Role.READ,
    "ollamaEmbed": Role.READ,
    "ollamaEmbedOne": Role.READ,
    "ollamaGenerate": Role.READ,
    "ollamaShow": Role.READ,
    "rerank": Role.READ,
    "search": Role.READ,
    "searchVectorStore": Role.READ,
    "speakMcp": Role.READ,
    "tokenize": Role.READ,
    "deleteModel": Role.ADMIN,
    "reloadCollections": Role.ADMIN,
    "ollamaChange": Role.ADMIN,
    "ollamaDelete": Role.ADMIN,
    "ollamaUpload": Role.ADMIN,
    "cancelVectorStoreFileBatch": Role.WRITE,
    "createVectorStore": Role.WRITE,
    "createVectorStoreFile": Role.WRITE,
    "createVectorStoreFileBatch": Role.WRITE,
    "deleteFile": Role.WRITE,
    "deleteVectorStore": Role.WRITE,
    "deleteVectorStoreFile": Role.WRITE,
    "modifyVectorStore": Role.WRITE,
    "modifyVectorStoreFile": Role.WRITE,
    "pauseIndexing": Role.WRITE,
    "rescan": Role.WRITE,
    "resumeIndexing": Role.WRITE,
    "cancelBatch": Role.WRITE,
    "createBatch": Role.WRITE,
    "uploadFile": Role.WRITE,
}

_KEPT = frozenset({"cancelResponse", "deleteResponse"})  # of whoever may read, of their own


def operation_of(handler: BaseRouteHandler) -> str:
    """Its name, whatever paths it has; "" for one that has none."""
    told = getattr(handler, "operation_id", None)
    return str(getattr(told, "name", told) or "")


def changes(handler: BaseRouteHandler) -> bool:
    """Whether it makes, changes or removes something that others see or that is kept."""
    return ROLES.get(operation_of(handler), Role.READ) > Role.READ or operation_of(handler) in _KEPT


def role_for(handler: BaseRouteHandler) -> Role:
    only_looks = getattr(handler, "http_methods", {"POST"}) <= {"GET", "HEAD", "OPTIONS"}
    return ROLES.get(operation_of(handler), Role.READ if only_looks else Role.ADMIN)


def check_role(connection: "ASGIConnection[Any, Any, Any, Any]", handler: BaseRouteHandler) -> None:
    principal, needed = connection.scope["user"], role_for(handler)
    if principal.role < needed:
        raise AccessDenied(
            403,
            f"The key {principal.name!r} has the role {principal.role.name.lower()}; this needs {needed.name.lower()}.",
            "insufficient_role",
        )
