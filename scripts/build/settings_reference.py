"""Writes docs/settings.md from the settings' own types; with --check, says whether it is up to date."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from server.settings.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"

HEAD = """# Settings

Nothing needs to be set. What is set comes from four places, each stronger than the one before: the default, the file
`cloister.toml` in the folder the server is started from (or the file named by `--config`), the environment, and the
command line. A setting that does not exist, or is out of range, stops the start with its path.

In the file, the part before the dot is a table: `engine.n_ctx` is `n_ctx` under `[engine]`. In the environment it is
`CLOISTER_ENGINE__N_CTX=8192`: the prefix, and two underscores for each dot.

```toml
model = "/models/qwen2.5-7b-instruct-q4_k_m.gguf"

[docs]
handbook = "/srv/handbook"
policies = "/srv/policies"

[engine]
n_ctx = 16384

[models.coder]
path = "/models/qwen2.5-coder-7b-q4_k_m.gguf"
n_ctx = 32768
lora = { "/models/house-style.gguf" = 1.0 }
```

Each further model is a table of its own, `[models.NAME]`; NAME is what clients ask for.

| setting | default | meaning |
| --- | --- | --- |
"""


def rows(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field, kind in zip(msgspec.structs.fields(struct), msgspec.inspect.type_info(struct).fields, strict=True):
        name = f"{prefix}{field.name}"
        if isinstance(field.default, msgspec.Struct):
            yield from rows(type(field.default), f"{name}.")
            continue
        yield f"| `{name}` | {shown(field)} | {description(kind.type, name)} |"
        if table := struct_in(kind.type):
            yield from rows(table, f"{name}.NAME.")


def struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """Of the values of a table by name; None if they are no tables."""
    kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    values = kind.value_type if isinstance(kind, msgspec.inspect.DictType) else None
    return values.cls if isinstance(values, msgspec.inspect.StructType) else None


def shown(field: Any) -> str:
    if field.required:
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "–" if default in (None, {}) else f"`{default}`"


def description(kind: Any, name: str) -> str:
    if isinstance(kind, msgspec.inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description") or description(kind.type, name))
    raise SystemExit(f"{name} has no description")


def main() -> int:
    page = HEAD + "\n".join(rows(Settings)) + "\n"
    if "--check" in sys.argv:
        return PAGE.read_text() != page
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
