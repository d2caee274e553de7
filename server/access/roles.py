"""Check the role that a handler declares: `opt={"role": Role.WRITE}`.

Without a declaration, a GET requires READ and any other method ADMIN, so that no handler is open by oversight.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from server.access.keys import Role
from server.errors import AccessDenied

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def operation_of(handler: BaseRouteHandler) -> str:
    """Return the handler's operation id, whatever paths it has; "" for a handler without one."""
    operation = getattr(handler, "operation_id", None)
    return str(getattr(operation, "name", operation) or "")


def role_for(handler: BaseRouteHandler) -> Role:
    """Return the lowest role that may call the handler."""
    is_safe = getattr(handler, "http_methods", {"POST"}) <= _SAFE_METHODS
    role = handler.opt.get("role", Role.READ if is_safe else Role.ADMIN)
    assert isinstance(role, Role)
    return role


def is_change(handler: BaseRouteHandler) -> bool:
    """Return whether the handler changes something that is stored or that others see; the audit log records that.

    A handler that requires only READ says so itself: `opt={"is_change": True}`.
    """
    return role_for(handler) > Role.READ or bool(handler.opt.get("is_change"))


def check_role(connection: "ASGIConnection[Any, Any, Any, Any]", handler: BaseRouteHandler) -> None:
    """Refuse a principal whose role is too low. A guard of the application."""
    principal, required = connection.scope["user"], role_for(handler)
    if principal.role < required:
        role = principal.role.name.lower()
        raise AccessDenied(
            403,
            f"The key {principal.name!r} has the role {role}; this needs {required.name.lower()}.",
            "insufficient_role",
        )
