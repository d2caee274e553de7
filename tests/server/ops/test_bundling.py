"""A bundle lists its content and installs nothing that was altered. The wheels are small fakes; scripts/prove/bundle.py
builds and installs a whole bundle."""

import json
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from models.catalog import resolve_chat
from server.cli.main import main
from server.ops import bundling, wheels
from server.ops.bundle_files import CHECKSUMS_FILE, bundle_files, checksums
from server.ops.bundling import bundle_name
from server.ops.wheels import read_wheel

BUILTIN = resolve_chat("reader-v1").path
_NATIVE_HASH = sha256(b"native code").hexdigest()


def wheel(folder: Path, name: str, version: str, *fields: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        metadata = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *fields, "", ""])
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA"), metadata)
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/licenses/LICENSE.txt"), "Do as you like.")
        archive.writestr(zipfile.ZipInfo(f"{name}.libs/libfast-1.so.2.1"), "native code")
    return path


def fake_wheels(folder: Path, compiled: Path) -> list[Path]:
    return [wheel(folder, "alpha", "1.0", "License-Expression: MIT"), wheel(folder, "beta", "2.0", "License: BSD")]


@pytest.fixture
def key(tmp_path: Path) -> Iterator[Path]:
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not here")
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    yield path


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes and unpacks a bundle and returns its folder."""
    monkeypatch.setattr(bundling, "fetch_wheels", fake_wheels)

    def make(*arguments: str, name: str = "one") -> Path:
        out = tmp_path / f"{name}.tar"
        assert main(["bundle", f"--out={out}", f"--data={tmp_path / 'data'}", *arguments]) == 0
        with tarfile.open(out) as archive:
            archive.extractall(tmp_path / name, filter="data")
        return tmp_path / name / bundle_name()

    return make


def verify(root: Path, *arguments: str) -> tuple[int, str]:
    result = subprocess.run(
        ["sh", root / "install.sh", "--verify", *arguments], capture_output=True, text=True, check=False
    )
    return result.returncode, result.stdout + result.stderr


def test_the_bill_of_materials_lists_every_file_with_hash_and_licence(bundle: Any) -> None:
    root = bundle("--model=reader-v1")
    bill = json.loads((root / "sbom.cdx.json").read_text())
    components = {each["bom-ref"]: each for each in bill["components"]}
    places = set(bundle_files(root)) - {CHECKSUMS_FILE, "sbom.cdx.json"}
    assert components.keys() == places
    alpha = components["wheels/alpha-1.0-py3-none-any.whl"]
    assert (alpha["purl"], alpha["licenses"][0]["license"]["name"]) == ("pkg:pypi/alpha@1.0", "MIT")
    (native,) = alpha["components"]
    assert (native["name"], native["hashes"][0]["content"]) == ("alpha.libs/libfast-1.so.2.1", _NATIVE_HASH)
    assert components[f"models/{BUILTIN.name}"]["type"] == "machine-learning-model"
    assert (root / "licences" / "beta" / "licenses_LICENSE.txt").read_text() == "Do as you like."
    assert "alpha==1.0 --hash=sha256:" in (root / "requirements.txt").read_text()
    assert {"cloister/server/cli/main.py", "cloister/docs/folders.md", "cloister/models/catalog.toml"} <= places
    assert not [place for place in places if "__pycache__" in place or "/tests/" in place]
    assert verify(root)[0] == 0


def test_wheels_compiled_for_this_processor_alone_are_not_bundled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(wheels, "_pip", lambda *arguments: calls.append(arguments))
    wheels.fetch_wheels(tmp_path / "wheels", tmp_path / "portable")
    of_llama = [call for call in calls if any(each.startswith("llama-cpp-python==") for each in call)]
    assert len(of_llama) == 1
    assert f"--cache-dir={tmp_path / 'portable'}" in of_llama[0]
    others = [each for call in calls if call not in of_llama for each in call]
    assert len([each for each in others if each.startswith("torch==")]) == 1
    assert {"pip", "setuptools", "numpy", "litestar"} <= {each.partition("==")[0] for each in others}


def test_equal_files_make_equal_archives(tmp_path: Path, bundle: Any) -> None:
    bundle(name="one"), bundle(name="two")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_verify_finds_an_altered_byte_in_any_of_fifty_files(bundle: Any) -> None:
    root, rng = bundle(), Random(1)
    places = [path for place, path in bundle_files(root).items() if place != "install.sh" and path.stat().st_size]
    for path in rng.sample(places, 50):
        sound = path.read_bytes()
        altered = bytearray(sound)
        altered[rng.randrange(len(sound))] ^= 1
        path.write_bytes(altered)
        code, output = verify(root)
        assert (code, "altered or is missing" in output) == (1, True), output
        path.write_bytes(sound)
    assert verify(root)[0] == 0


def test_verify_finds_missing_and_added_files(bundle: Any) -> None:
    root = bundle()
    (root / "wheels" / "gamma-1.0-py3-none-any.whl").write_bytes(b"x")
    assert "something was added" in verify(root)[1]
    (root / "wheels" / "gamma-1.0-py3-none-any.whl").unlink()
    (root / "cloister" / "numpy").symlink_to("/tmp")
    assert "something was added" in verify(root)[1]
    (root / "cloister" / "numpy").unlink()
    (root / "wheels" / "alpha-1.0-py3-none-any.whl").unlink()
    assert verify(root)[0] == 1


def test_a_signature_is_verified_against_the_named_signer(tmp_path: Path, bundle: Any, key: Path) -> None:
    root = bundle(f"--sign={key}")
    signers = tmp_path / "signers"
    signers.write_text(f"us@example.org {key.with_suffix('.pub').read_text()}")
    code, output = verify(root, "--signers", str(signers), "--identity", "us@example.org")
    assert (code, "signed by us@example.org" in output) == (0, True), output
    assert verify(root, "--signers", str(signers), "--identity", "them@example.org")[0] == 1
    (root / "wheels" / "alpha-1.0-py3-none-any.whl").write_bytes(b"x")
    (root / CHECKSUMS_FILE).write_text(
        checksums(root).replace(f"{CHECKSUMS_FILE}.sig", "x")
    )  # by somebody who cannot sign
    code, output = verify(root, "--signers", str(signers), "--identity", "us@example.org")
    assert (code, "the signature is not one of us@example.org" in output) == (1, True)


def test_verify_refuses_a_named_signer_without_a_signature(tmp_path: Path, bundle: Any) -> None:
    (tmp_path / "signers").write_text("")
    code, output = verify(bundle(), "--signers", str(tmp_path / "signers"), "--identity", "us@example.org")
    assert (code, "not signed" in output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model=qwen3-4b"], "cloister models pull qwen3-4b"),
        (["--sign=/nowhere/key"], "there is no key"),
        (["--out=/nowhere/at/all.tar"], "there is no folder"),
    ],
)
def test_an_error_of_bundle_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", f"--out={tmp_path / 'x.tar'}", f"--data={tmp_path}", *arguments]) == 1
    output = capsys.readouterr().err
    assert says in output
    assert output.count("\n") == 1
    assert not list(tmp_path.glob("*x.tar*"))


def test_licences_are_read_from_every_metadata_field(tmp_path: Path) -> None:
    licences = [
        read_wheel(wheel(tmp_path, name, "1.0", *fields)).licence
        for name, fields in {
            "a": ["License-Expression: MIT", "License: something else"],
            "b": ["License: BSD 3-Clause\n        and all its text"],
            "c": ["Classifier: Programming Language :: Python", "Classifier: License :: OSI Approved :: MIT License"],
            "d": [],
            "e": ["License: Copyright (c) 2001", "Classifier: License :: OSI Approved :: BSD License"],
            "f": ["License: MIT", "Classifier: License :: OSI Approved"],
        }.items()
    ]
    assert licences == ["MIT", "BSD 3-Clause", "MIT License", "not stated", "BSD License", "MIT"]
