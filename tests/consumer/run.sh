#!/usr/bin/env bash
# usage: run.sh BUILD_DIR: installs into a scratch prefix, hides the source tree's paths, builds and runs the consumer.
set -euo pipefail
build=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cmake --install "$build" --prefix "$scratch/prefix" >/dev/null
cmake -S "$(dirname "$0")" -B "$scratch/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER=clang++-19 \
  -DCMAKE_PREFIX_PATH="$scratch/prefix" >/dev/null
cmake --build "$scratch/build"
PRETRAINED_CODE_CACHE=$scratch/cache PRETRAINED_TRUST_FILE=$scratch/trust.json "$scratch/build/consumer" "$scratch/model"
test -f "$scratch/model/tiny_model.h"
"$scratch/prefix/bin/pretrained" inspect "$scratch/model"
