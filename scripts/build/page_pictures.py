"""Takes the pictures of the page for the README: a server with a few documents, its three views in light, dark and at a
phone's width, into docs/images/. Needs chromium, node and `npm --prefix tests/web ci`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

from running import serving, write_handbook  # noqa: E402


def main() -> None:
    browser, pictures = shutil.which("chromium"), ROOT / "docs" / "images"
    if browser is None:
        sys.exit("chromium is not installed.")
    pictures.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        docs = write_handbook(Path(folder) / "handbook")
        (docs / "scan.pdf").write_text("a picture of a letter")
        with serving(Path(folder), docs) as server:
            driver = ROOT / "tests" / "web" / "pictures.mjs"
            subprocess.run(["node", driver, server.url, browser, pictures], check=True)


if __name__ == "__main__":
    main()
