#!/bin/sh
# Verifies this bundle and installs Cloister from it, without a network:
#   sh install.sh [--to DIR] [--signers FILE --identity NAME] [--verify]
# --to         where it goes (default: ~/cloister)
# --signers    a file of allowed signers, as ssh-keygen(1) has it, that came by another way than the bundle
# --verify     only verifies
# PYTHON=/path/to/python chooses the Python.
set -eu
unset CDPATH PYTHONPATH PYTHONHOME
here=$(cd -- "$(dirname -- "$0")" && pwd)
to="${HOME:-}/cloister" signers="" identity="" only_verify=""
fail() { printf 'cloister: %s\n' "$1" >&2; exit 1; }
while [ $# -gt 0 ]; do
    case "$1" in
        --to) to="${2:?--to needs a folder}"; shift ;;
        --signers) signers="${2:?--signers needs a file}"; shift ;;
        --identity) identity="${2:?--identity needs a name}"; shift ;;
        --verify) only_verify=yes ;;
        *) fail "unknown: $1; see the first lines of install.sh" ;;
    esac
    shift
done
if [ -n "$signers" ]; then signers=$(cd -- "$(dirname -- "$signers")" && pwd)/$(basename -- "$signers"); fi
cd "$here"

sums() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }
if [ -n "$signers" ]; then
    [ -f SHA256SUMS.sig ] || fail "this bundle is not signed"
    ssh-keygen -Y verify -q -n cloister-bundle -f "$signers" -I "$identity" -s SHA256SUMS.sig <SHA256SUMS >/dev/null 2>&1 ||
        fail "the signature is not one of $identity"
fi
[ -f SHA256SUMS ] || fail "SHA256SUMS is missing"
sums -c SHA256SUMS >/dev/null 2>&1 || fail "a file was altered or is missing: sha256sum -c SHA256SUMS says which"
listed=$(wc -l <SHA256SUMS)
there=$(find . ! -type d ! -name SHA256SUMS ! -name SHA256SUMS.sig | wc -l)
[ "$listed" -eq "$there" ] || fail "there are $there files, and $listed in SHA256SUMS: something was added"
echo "Verified: $((listed)) files${signers:+, signed by $identity}"
[ -z "$only_verify" ] || exit 0

wanted=$(sed -n 's/.*"python": "\([0-9]*\.[0-9]*\)\..*/\1/p' bundle.json)
python=""
for each in "${PYTHON:-}" "python$wanted" python3 python; do
    [ -n "$each" ] || continue
    if "$each" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$wanted')" >/dev/null 2>&1; then python=$each; break; fi
done
[ -n "$python" ] || fail "this bundle is for Python $wanted, which was not found; name it: PYTHON=/path/to/python"
[ ! -e "$to" ] || fail "$to is there already; move it away, or name another: --to DIR"

mkdir -p "$to"
cp -R cloister/. "$to/"
"$python" -m venv --without-pip "$to/.venv"
pip() { "$to/.venv/bin/python" "$(echo "$here"/wheels/pip-*.whl)/pip" --isolated --disable-pip-version-check -q install --no-index --no-deps "$@"; }
echo "Installing into $to"
pip --require-hashes --find-links wheels -r requirements.txt || fail "pip could not install the packages"
pip --no-build-isolation -e "$to" || fail "pip could not install Cloister itself"
for model in models/*.gguf; do
    [ ! -f "$model" ] || "$to/.venv/bin/cloister" models import "$model" || fail "a model could not be imported"
done
"$to/.venv/bin/cloister" doctor || echo "Something is missing, see above; after that:"
echo "Start it: $to/.venv/bin/cloister serve --docs /path/to/folder"
