#!/usr/bin/env bash
# package.sh PYTHON: builds the wheel for every Python from 3.10 to 3.13 found here, checks its size and contents, and
# installs the running Python's into a clean environment for a smoke test.
set -euo pipefail
python=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
running=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for version in 3.10 3.11 3.12 3.13; do
  found=
  [ "$version" = "$running" ] && found=$("$python" -c 'import sys; print(sys.executable)')
  for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
    [ -z "$found" ] && command -v "$candidate" >/dev/null && "$candidate" -c 'import venv, ensurepip' 2>/dev/null && found=$candidate
  done
  if [ -z "$found" ]; then
    echo "python$version is not here: its wheel is not built"
    continue
  fi
  "$found" -m venv "$out/venv-$version"
  "$out/venv-$version/bin/pip" wheel -q --no-deps -w "$out/wheels" .
done
ls -l "$out/wheels"
for wheel in "$out"/wheels/*.whl; do
  [ "$(stat -c %s "$wheel")" -lt $((5 * 1024 * 1024)) ] || { echo "$wheel is over 5 MB"; exit 1; }
  listing=$("$python" -m zipfile -l "$wheel")
  for needed in dlcore/py.typed dlcore/_core.pyi dlcore/include/kernels/registry.h; do
    grep -q "$needed" <<<"$listing" || { echo "$wheel lacks $needed"; exit 1; }
  done
done
# Each wheel in a clean environment, away from the source tree.
cp tests/smoke.py "$out/smoke.py"
cd "$out"
for venv in "$out"/venv-*; do
  tag=cp$("$venv/bin/python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
  "$venv/bin/pip" install -q "$out"/wheels/*"$tag-$tag"*.whl
  "$venv/bin/python" smoke.py
done
