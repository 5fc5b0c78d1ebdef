#!/usr/bin/env bash
# Test the runtime packages on each Python from 3.10 to 3.13 that is installed (also by pyenv).
set -euo pipefail
cd "$(dirname "$0")/.."
tested=0
for version in 3.10 3.11 3.12 3.13; do
  python=""
  for candidate in "$(command -v "python$version" || true)" "$HOME/.pyenv/versions/$version".*/bin/python; do
    if [ -x "$candidate" ] && "$candidate" -c "" 2>/dev/null; then python=$candidate; fi
  done
  if [ -z "$python" ]; then
    echo "Python $version: not installed, not tested"
    continue
  fi
  room="build/pythons/$version"
  "$python" -m venv "$room"
  # shellcheck disable=SC2086
  "$room/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt ${PIP_ARGS:-} \
    -e '.[onnx,sign]' hypothesis jsonschema onnx pytest
  echo "Python $version:"
  "$room/bin/python" -m pytest -q tests/geofix tests/geofix_index
  tested=$((tested + 1))
done
[ "$tested" -gt 0 ] || { echo "no Python from 3.10 to 3.13 found" >&2; exit 1; }
