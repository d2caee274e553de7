"""Write docs/settings.md from the types of the settings; with --check, exit with 1 if it is out of date."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from server.settings.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"

HEAD = """# Settings

This page lists every setting of Cloister; the server also runs without any. A setting is read from four places, each of
which overrides the one before: the default, the file `cloister.toml` in the folder from which the server is started (or
the file that `--config` names), the environment, and the command line. If a setting does not exist or is out of range,
the server does not start, and the error names the setting.

In the file, the part before the dot is a table: `engine.n_ctx` is `n_ctx` under `[engine]`. In the environment the same
setting is `CLOISTER_ENGINE__N_CTX=8192`: the prefix `CLOISTER_`, and two underscores for each dot.

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

Each further chat model is a table `[models.NAME]`. Clients select the model by NAME.

| setting | default | meaning |
| --- | --- | --- |
"""


def rows(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Yield a table row for each field, those of nested structs included."""
    info = cast("msgspec.inspect.StructType", msgspec.inspect.type_info(struct))
    for field, kind in zip(msgspec.structs.fields(struct), info.fields, strict=True):
        name = f"{prefix}{field.name}"
        if isinstance(field.default, msgspec.Struct):
            yield from rows(type(field.default), f"{name}.")
            continue
        yield f"| `{name}` | {default_of(field)} | {description(kind.type, name)} |"
        if table := value_struct(kind.type):
            yield from rows(table, f"{name}.NAME.")


def value_struct(kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct of a table's values; None if the setting is not a table of tables."""
    kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    values = kind.value_type if isinstance(kind, msgspec.inspect.DictType) else None
    return values.cls if isinstance(values, msgspec.inspect.StructType) else None


def default_of(field: Any) -> str:
    if field.required:
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "–" if default in (None, {}) else f"`{default}`"


def description(kind: Any, name: str) -> str:
    if isinstance(kind, msgspec.inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description") or description(kind.type, name))
    raise SystemExit(f"give the setting {name} a description")


def main() -> int:
    page = HEAD + "\n".join(rows(Settings)) + "\n"
    if "--check" in sys.argv:
        return PAGE.read_text() != page
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
