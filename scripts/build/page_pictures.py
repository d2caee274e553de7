"""Take the README's screenshots of the page: a server with a few documents, in light, in dark and at a phone's width.

They go into docs/images/. Needs chromium, node and `npm --prefix tests/web ci`.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "e2e"))

from real_server import serving, write_handbook

ROOT = Path(__file__).parents[2]


def main() -> None:
    browser, images = shutil.which("chromium"), ROOT / "docs" / "images"
    if browser is None:
        sys.exit("chromium is not installed; install it")
    images.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        docs = write_handbook(Path(folder) / "handbook")
        (docs / "scan.pdf").write_text("a picture of a letter")
        with serving(Path(folder), docs) as server:
            driver = ROOT / "tests" / "web" / "pictures.mjs"
            subprocess.run(["node", driver, server.url, browser, images], check=True)


if __name__ == "__main__":
    main()
