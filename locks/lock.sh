#!/usr/bin/env bash
# Write the locks of all environments: `make lock`, or `make lock UPGRADE=1` for newer versions.
# One resolution for all: the environments share the versions of the test lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=$1
options=(
  --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-config --no-annotate
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
  --excludes locks/cuda-libraries.txt --no-emit-package torch --quiet
)

lock() { # OUT [OPTION...]
  local out=locks/$1.txt
  shift
  "$uv" pip compile "${options[@]}" "$@" --output-file "$out" >/dev/null
  if grep -nE '://|^-' "$out"; then
    echo "$out: names an index or a folder; unset UV_* and try again" >&2
    return 1
  fi
}

torch=$(mktemp)
peers=$(mktemp)
trap 'rm -f "$torch" "$peers"' EXIT
sed -n 's/^torch==\([0-9.]*\) .*/torch==\1/p' locks/torch.txt >"$torch"
lock test ${UPGRADE:+--upgrade} --constraints "$torch" --extra dev pyproject.toml locks/build.in
same=(--constraints locks/test.txt --constraints "$torch")
lock run "${same[@]}" --extra cpu pyproject.toml locks/build.in
lock demo "${same[@]}" --extra cpu --extra export pyproject.toml locks/build.in
# fastembed needs an older huggingface-hub than the other environments have.
grep -o '^[a-z0-9-]*==[^ ]*' locks/test.txt | grep -v '^huggingface-hub==' >"$peers"
lock bench ${UPGRADE:+--upgrade} --constraints "$peers" --constraints "$torch" --extra cpu --extra export pyproject.toml locks/build.in benchmarks/requirements.txt
lock tools ${UPGRADE:+--upgrade} locks/tools.in
