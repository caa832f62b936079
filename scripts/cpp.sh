#!/usr/bin/env bash
# scripts/cpp.sh: the C++ binding, its tests, the plugin sample and the packages, built and run.
#
# Installs what it needs on Debian 12 if it may, fails loudly, and can be run again.
#   TERN_LEAK_ROUNDS=1000   rounds of the test that memory stays flat
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
model=$root/$(cat examples/models/default.txt)
build=$root/target/cpp
say() { printf '\n== cpp: %s\n' "$*"; }

missing=()
for tool in cmake:cmake g++:g++ pkg-config:pkg-config make:make; do
  command -v "${tool%%:*}" > /dev/null || missing+=("${tool#*:}")
done
if [ "${#missing[@]}" -gt 0 ]; then
  say "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
run_tests() { (cd "$1" && ctest --output-on-failure -j 1); }

say "library and tests, shared, through cargo"
cmake -S bindings/cpp -B "$build/shared" -DCMAKE_BUILD_TYPE=Release -DTERN_CARGO_TARGET_DIR="$root/target" \
  -DTERN_LEAK_ROUNDS="${TERN_LEAK_ROUNDS:-1000}"
cmake --build "$build/shared" -j 2
run_tests "$build/shared"

say "the same under the address and undefined-behaviour sanitizers, with the static library"
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
cmake -S bindings/cpp -B "$build/sanitized" -DCMAKE_BUILD_TYPE=Debug -DTERN_SHARED=OFF -DTERN_CARGO_TARGET_DIR="$root/target" \
  -DCMAKE_C_FLAGS="$sanitize" -DCMAKE_CXX_FLAGS="$sanitize" -DTERN_LEAK_ROUNDS=50
cmake --build "$build/sanitized" -j 2
run_tests "$build/sanitized"

say "a stranger's project: add_subdirectory"
cmake -S bindings/cpp/tests/consumer -B "$build/source" -DCMAKE_BUILD_TYPE=Release -DCONSUME=source -DTERN_SOURCE="$root" \
  -DTERN_CARGO_TARGET_DIR="$root/target" -DMODEL="$model"
cmake --build "$build/source" -j 2
run_tests "$build/source"

say "a stranger's project: find_package and pkg-config, on a staged package"
rm -rf "$build/stage"
mkdir -p "$build/stage"
packaging/prelink.sh target/release/libtern.a "$build/libtern.a"
packaging/lay_out.sh "$build/stage" "" target/release/libtern.so "$build/libtern.a" "-lgcc_s -lpthread -ldl -lm"
packaging/consume.sh "$build/stage" "$model"

say "all of it passed"
