#!/usr/bin/env bash
# Writes requirements/*.txt anew: every version pinned, every file by its hash, no address of any registry.
# Wants `uv` on the path or in UV. Run it after a change of the dependencies in pyproject.toml.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
uv=${UV:-uv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src/anchovies"
cp "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$work"
cp "$root/src/anchovies/__init__.py" "$work/src/anchovies/"
cd "$work"
"$uv" lock --quiet

export_to() { # file, uv's options
    local out=$root/requirements/$1
    shift
    {
        echo "# Made by tools/lock.sh; do not edit."
        "$uv" export --quiet --frozen --no-emit-project --no-header --no-annotate "$@"
    } >"$out"
}
export_to demo.txt --no-dev --extra demo --group build
export_to ci.txt --all-extras --group dev
export_to bench.txt --all-extras --group dev --group bench

if grep -nE '://|--index-url|--find-links' "$root"/requirements/{demo,ci,bench}.txt; then
    echo "an address got into the locked requirements" >&2
    exit 1
fi
