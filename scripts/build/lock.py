"""Write requirements/*.txt: the packages that pyproject.toml names and their dependencies, as installed in .venv.

Run with .venv/bin/python after changing a version in pyproject.toml and installing it.
"""

import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def closure(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of requirements and their dependencies on this platform, by canonical name."""
    versions: dict[str, str] = {}
    pending = [(Requirement(name), "") for name in names]
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name in versions and not requirement.extras:
            continue
        installed = distribution(name)
        versions[name] = installed.version.partition("+")[0]
        for dependency in installed.requires or ():
            pending += [(Requirement(dependency), extra) for extra in ("", *requirement.extras)]
    return versions


def write(name: str, pins: dict[str, str]) -> None:
    lines = [f"{package}=={version}" for package, version in sorted(pins.items())]
    path = ROOT / "requirements" / f"{name}.txt"
    path.write_text("\n".join(["# Made by scripts/build/lock.py; versions are chosen in pyproject.toml.", *lines, ""]))
    print(f"{path.relative_to(ROOT)}: {len(lines)} packages")


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = closure(project["dependencies"])
    write("runtime", runtime)
    locked = dict(runtime)
    for group in ("develop", "clients"):
        pins = closure(project["optional-dependencies"][group])
        write(group, {name: version for name, version in pins.items() if name not in locked})
        locked |= pins


if __name__ == "__main__":
    main()
