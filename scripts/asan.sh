#!/bin/sh
# The Rust tests and the C programs under the address sanitizer, on the stable toolchain.
# No part of CI, which sanitizes the C programs alone: this builds every dependency again, instrumented, and no run of
# it to the end is on record.
set -eu
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/asan
cargo test --locked --target "$target" --lib -- --skip the_longest_row
cargo test --locked --target "$target" --test malformed --test lying --test sequences --test session --test determinism
# The C programs instrumented too, against the instrumented library.
TERN_TEST_CFLAGS=-fsanitize=address cargo test --locked --target "$target" --test c_api
