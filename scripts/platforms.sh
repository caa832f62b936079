#!/usr/bin/env bash
# scripts/platforms.sh [STEP...]: every platform that a Debian 12 machine can try, by hand before a release; slow.
#
#   windows   DLL and C programs, shared and static, and the test-suite, run under wine
#   apple     static libraries for macOS and iOS: compile, and their exported names
#   darwin    a macOS .dylib, linked by zig: install name and exported names
#   android   static library for aarch64: compiled, pre-linked, exactly tern_* global
#   msvc      cargo check for x86_64-pc-windows-msvc
#   arm64     a C program on ARM64 Linux, shared and static, under emulation at four CPU models
#   ggml      the static library beside the real ggml in one program
#
# Without arguments: all of them. Each step builds the standard library for its target and takes minutes. What a step
# needs it installs. docs/platforms.md says what each proves and what was never run.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
model=$root/$(cat examples/models/default.txt)
tools=${TERN_TOOLS:-/var/cache/tern-tools}
# The distribution's compiler, beside rustup's: its sources of the standard library are in the distribution too.
cargo=/usr/bin/cargo
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$root/target/platforms CARGO_PROFILE_RELEASE_STRIP=none
build_std=(-Z "build-std=std,panic_unwind")
export WINEDEBUG=-all WINEPREFIX=${WINEPREFIX:-$root/target/platforms/wine} WINEDLLOVERRIDES="mscoree,mshtml="
say() { printf 'platforms: %s\n' "$*"; }

need() {
  local missing=() package
  for package; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ "${#missing[@]}" -eq 0 ] && return
  say "installing ${missing[*]}"
  apt-get -o DPkg::Lock::Timeout=600 update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}" < /dev/null > /dev/null
}

# staticlib TARGET: builds it and says where it is.
staticlib() {
  need rustc-web cargo-web rust-web-src
  "$cargo" rustc --release --lib --crate-type staticlib "${build_std[@]}" --target "$1" >&2
  echo "$CARGO_TARGET_DIR/$1/release/libtern.a"
}

# c_names NM ARCHIVE PREFIX: the global C names of an archive, without those that start with an underscore, which belong
# to the languages, and without the standard library's rust_* ; PREFIX is what the object format puts before every name.
c_names() {
  "$1" --defined-only --extern-only "$2" 2> /dev/null | awk -v p="$3" 'NF == 3 { sub("^" p, "", $3); print $3 }' |
    grep -vE '^(_|rust_|memcpy$|memmove$|memset$|memcmp$|bcmp$|strlen$)' | sort -u
}

step_windows() {
  need rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64-win32 mingw-w64-x86-64-dev wine64 wine
  local target=x86_64-pc-windows-gnu out=$CARGO_TARGET_DIR/windows
  export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine
  mkdir -p "$out"
  "$cargo" rustc --release --lib --crate-type cdylib "${build_std[@]}" --target $target
  local dll=$CARGO_TARGET_DIR/$target/release/tern.dll
  x86_64-w64-mingw32-objdump -p "$dll" | sed -n '/\[Ordinal\/Name Pointer\] Table/,/^$/p' | grep -oE '[A-Za-z_][A-Za-z0-9_]*$' |
    grep -v '^Table$' > "$out/names"
  packaging/symbols.sh check "$out/names" tern.dll
  local imports
  imports=$(x86_64-w64-mingw32-objdump -p "$dll" | sed -n 's/.*DLL Name: //p' | sort | paste -sd' ' -)
  say "tern.dll needs $imports"
  x86_64-w64-mingw32-gcc -O1 -DTERN_DLL -I include bindings/cpp/tests/consumer/main.c "$CARGO_TARGET_DIR/$target/release/libtern.dll.a" -o "$out/shared.exe"
  cp "$dll" "$out/"
  (cd "$out" && wine shared.exe "$(wine winepath -w "$model" | tr -d '\r')")

  staticlib $target > /dev/null
  x86_64-w64-mingw32-gcc -O1 -I include bindings/cpp/tests/consumer/main.c "$CARGO_TARGET_DIR/$target/release/libtern.a" \
    -lws2_32 -lntdll -luserenv -lbcrypt -o "$out/static.exe"
  (cd "$out" && wine static.exe "$(wine winepath -w "$model" | tr -d '\r')")
  # Tests that read the shared library or drive a C compiler are Linux's own; the rest is the crate's.
  "$cargo" test --release --lib "${build_std[@]}" --target $target
}

step_apple() {
  need llvm-16
  local target archive
  for target in aarch64-apple-darwin aarch64-apple-ios; do
    archive=$(staticlib $target)
    c_names llvm-nm-16 "$archive" _ > "$CARGO_TARGET_DIR/names.$target"
    packaging/symbols.sh check "$CARGO_TARGET_DIR/names.$target" "libtern.a for $target"
  done
}

step_darwin() {
  need llvm-16 rustc-web cargo-web rust-web-src python3-venv
  local target=aarch64-apple-darwin zig=$tools/zig
  [ -x "$zig/bin/python" ] || python3 -m venv "$zig"
  "$zig/bin/pip" install -q ziglang
  printf '#!/bin/sh\nexec %s -m ziglang cc -target aarch64-macos "$@"\n' "$zig/bin/python" > "$zig/cc-macos"
  chmod +x "$zig/cc-macos"
  CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER=$zig/cc-macos \
    "$cargo" rustc --release --lib --crate-type cdylib "${build_std[@]}" --target $target
  local dylib=$CARGO_TARGET_DIR/$target/release/libtern.dylib name
  name=$(llvm-objdump-16 --macho --dylib-id "$dylib" | tail -1)
  [ "$name" = "@rpath/libtern.dylib" ] || { echo "the install name is $name, not @rpath/libtern.dylib" >&2; return 1; }
  say "libtern.dylib: install name $name, uses $(llvm-objdump-16 --macho --dylibs-used "$dylib" | awk 'NR > 1 { print $1 }' | paste -sd' ' -)"
  llvm-nm-16 --defined-only --extern-only "$dylib" | awk '{ sub("^_", "", $3); print $3 }' > "$CARGO_TARGET_DIR/names.dylib"
  packaging/symbols.sh check "$CARGO_TARGET_DIR/names.dylib" libtern.dylib
}

step_android() {
  need binutils-aarch64-linux-gnu
  local archive
  archive=$(staticlib aarch64-linux-android)
  packaging/prelink.sh "$archive" "$CARGO_TARGET_DIR/libtern-android.a" aarch64-linux-gnu-
}

step_msvc() {
  need rustc-web cargo-web rust-web-src
  "$cargo" check --lib "${build_std[@]}" --target x86_64-pc-windows-msvc
}

step_arm64() {
  need rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
  local target=aarch64-unknown-linux-gnu out=$CARGO_TARGET_DIR/arm64 cpu kind
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  mkdir -p "$out"
  "$cargo" rustc --release --lib --crate-type cdylib --target $target
  "$cargo" rustc --release --lib --crate-type staticlib --target $target
  local built=$CARGO_TARGET_DIR/$target/release
  packaging/prelink.sh "$built/libtern.a" "$out/libtern.a" aarch64-linux-gnu-
  cp "$built/libtern.so" "$out/"
  ln -sf libtern.so "$out/libtern.so.0"
  aarch64-linux-gnu-gcc -O1 -I include bindings/cpp/tests/consumer/main.c -L "$out" -l:libtern.so -o "$out/shared"
  aarch64-linux-gnu-gcc -O1 -I include bindings/cpp/tests/consumer/main.c "$out/libtern.a" -lgcc_s -lpthread -ldl -lm -o "$out/static"
  for cpu in cortex-a72 cortex-a76 max,sve=off max; do
    for kind in shared static; do
      qemu-aarch64 -cpu "$cpu" -E LD_LIBRARY_PATH="$out" -L / "$out/$kind" "$model" > "$out/said.$kind"
    done
    cmp "$out/said.shared" "$out/said.static"
    [ ! -e "$out/said.first" ] || cmp "$out/said.shared" "$out/said.first"
    cp "$out/said.shared" "$out/said.first"
    say "ARM64 $cpu: $(cat "$out/said.first")"
  done
  rm -f "$out/said.first"
}

step_ggml() {
  local venv=$tools/ggml source
  if [ ! -d "$venv/source" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q scikit-build-core
    (cd "$venv" && bin/pip download -q --no-binary llama-cpp-python --no-deps --no-build-isolation llama-cpp-python==0.3.36)
    mkdir -p "$venv/part"
    tar -xzf "$venv"/llama_cpp_python-*.tar.gz -C "$venv/part" --strip-components=1
    mv "$venv/part" "$venv/source"
  fi
  source=$venv/source/vendor/llama.cpp/ggml
  (unset RUSTC RUSTC_BOOTSTRAP CARGO_TARGET_DIR && cargo build --release --lib)
  packaging/prelink.sh target/release/libtern.a "$CARGO_TARGET_DIR/libtern-local.a"
  packaging/lay_out.sh "$CARGO_TARGET_DIR/ggml" x86_64-unknown-linux-gnu "" "$CARGO_TARGET_DIR/libtern-local.a" "-lgcc_s -lpthread -ldl -lm"
  packaging/beside/ggml.sh "$CARGO_TARGET_DIR/ggml" "$model" "$source"
}

mkdir -p "$CARGO_TARGET_DIR" "$tools"
steps=("$@")
[ "${#steps[@]}" -gt 0 ] || steps=(msvc apple darwin android windows arm64 ggml)
for step in "${steps[@]}"; do
  declare -F "step_$step" > /dev/null || { echo "platforms: no step is called $step" >&2; exit 2; }
  start=$SECONDS
  say "$step"
  # Not under `if`: that would switch `set -e` off inside the step.
  "step_$step"
  say "$step passed in $((SECONDS - start)) s"
done
