"""The capabilities of a chat model in Ollama's words, which the lists of models of several APIs show."""

from models.llm.base import Capabilities


def capability_names(capabilities: Capabilities, *, is_grounded: bool) -> tuple[str, ...]:
    available = {
        "completion": True,
        "tools": capabilities.tools,
        "insert": capabilities.infill and not is_grounded,
        "thinking": capabilities.reasoning,
    }
    return tuple(name for name, is_available in available.items() if is_available)
