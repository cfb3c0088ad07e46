#!/usr/bin/env bash
# usage: scaffold.sh BUILD_DIR: what `pretrained new` writes is built against an installed package, trains and predicts.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cmake --install "$1" --prefix "$scratch/prefix" >/dev/null
export PRETRAINED_CODE_CACHE=$scratch/cache PRETRAINED_TRUST_FILE=$scratch/trust.json PATH=$scratch/prefix/bin:$PATH
pretrained new "$scratch/my-model" --quiet
cd "$scratch/my-model"
before=$(sha256sum model.safetensors)
cmake -B build -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCMAKE_CXX_COMPILER=clang++-19 >/dev/null
cmake --build build >/dev/null
build/train .
[ "$before" != "$(sha256sum model.safetensors)" ]
pretrained predict . test.png --trust-remote-code --quiet
