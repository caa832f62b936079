#!/usr/bin/env bash
# scripts/platforms.sh [STEP...]: every platform that a Debian 12 machine can try, by hand before a release; slow.
#
#   windows   DLL, C programs shared and static, C++ binding and the test-suite, run under wine
#   apple     static libraries for macOS and iOS: compile, and their C names
#   darwin    a macOS .dylib and a C program, linked by LLVM's linker and zig: install name and exported names
#   android   static library for aarch64: compiled, pre-linked, exactly tern_* global
#   msvc      cargo check for x86_64-pc-windows-msvc
#   arm64     a C program on ARM64 Linux, shared and static, under emulation at four CPU models
#   cargoc    `cargo cinstall`: the layout of cargo-c, a C program by its pkg-config file
#   ggml      the static library beside the real ggml in one program
#   package   what is shipped for Windows, a ZIP file in dist/: built as `make dist` builds Linux's, unpacked and used
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
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$root/target/platforms CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_DIST_STRIP=none
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

# staticlib TARGET [PROFILE]: builds it and says where it is.
staticlib() {
  need rustc-web cargo-web rust-web-src >&2
  # llguidance is a shared library too, of which nothing is used: it need not link where no linker knows the target.
  local linker=CARGO_TARGET_${1^^}_LINKER
  linker=${linker//-/_}
  [ -n "${!linker:-}" ] || export "$linker=true"
  "$cargo" rustc --profile "${2:-release}" --lib --crate-type staticlib "${build_std[@]}" --target "$1" >&2
  echo "$CARGO_TARGET_DIR/$1/${2:-release}/libtern.a"
}

# c_names NM ARCHIVE PREFIX: the global C names of an archive, without those that start with an underscore, which belong
# to the languages, the standard library's rust_*, LLVM's own, which have a dot, and the arithmetic of compiler_builtins.
# PREFIX is what the object format puts before every name.
c_names() {
  "$1" -A --defined-only --extern-only "$2" 2> /dev/null | grep -v 'compiler_builtins' | awk -v p="$3" 'NF == 4 { sub("^" p, "", $4); print $4 }' |
    grep -vE '^(_|rust_|memcpy$|memmove$|memset$|memcmp$|bcmp$|strlen$)|[.]' | sort -u
}

# Windows has had bcryptprimitives.dll since its version 7, and Rust takes its hash keys from there; wine 8 of Debian 12 lacks
# it. Where that is so a stand-in of one function goes into the prefix.
wine_with_random_bytes() {
  local system=$WINEPREFIX/drive_c/windows/system32
  wineboot --init 2> /dev/null || wine wineboot --init 2> /dev/null
  wineserver -w 2> /dev/null || true
  [ ! -e "$system/bcryptprimitives.dll" ] || return 0
  say "this wine has no bcryptprimitives.dll: a stand-in is made"
  cat > "$WINEPREFIX/random.c" << 'C'
#include <stddef.h>
#include <stdint.h>
__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *buffer, uint32_t len);
__declspec(dllexport) int __stdcall ProcessPrng(void *buffer, size_t len) {
  for (uint8_t *at = buffer; len; at += len > 4096 ? 4096 : len, len -= len > 4096 ? 4096 : len)
    if (!SystemFunction036(at, (uint32_t)(len > 4096 ? 4096 : len))) return 0;
  return 1;
}
C
  x86_64-w64-mingw32-gcc -shared -O1 -o "$system/bcryptprimitives.dll" "$WINEPREFIX/random.c" -ladvapi32
}

step_windows() {
  need rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64-win32 g++-mingw-w64-x86-64-posix mingw-w64-x86-64-dev wine64 wine
  local target=x86_64-pc-windows-gnu out=$CARGO_TARGET_DIR/windows archive kind windows_model program folder seed flags tests
  local libs=(-lws2_32 -lntdll -luserenv -lbcrypt)
  export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine
  mkdir -p "$out"
  archive=$(staticlib $target)
  packaging/link.sh dll "$archive" "$out/tern.dll"
  x86_64-w64-mingw32-strip --strip-unneeded "$out/tern.dll"
  x86_64-w64-mingw32-objdump -p "$out/tern.dll" > "$out/objdump"
  names_of_dll "$out/tern.dll" > "$out/names"
  packaging/symbols.sh check "$out/names" tern.dll
  say "tern.dll: $(stat -c %s "$out/tern.dll") bytes, needs $(sed -n 's/.*DLL Name: //p' "$out/objdump" | sort -f | paste -sd' ' -)"
  if grep -qiE 'DLL Name: (libgcc|libwinpthread|libstdc)' "$out/objdump"; then echo "tern.dll needs a DLL of the compiler" >&2; return 1; fi

  wine_with_random_bytes
  # A Windows program is told of files by Windows' names.
  windows_model=$(wine winepath -w "$model" 2> /dev/null | tr -d '\r')
  x86_64-w64-mingw32-gcc -O1 -DTERN_DLL -I include bindings/cpp/tests/consumer/main.c "$out/libtern.dll.a" -o "$out/shared.exe"
  x86_64-w64-mingw32-gcc -O1 -I include bindings/cpp/tests/consumer/main.c "$archive" "${libs[@]}" -o "$out/static.exe"
  for kind in shared static; do
    (cd "$out" && wine $kind.exe "$windows_model" | tr -d '\r' > said.$kind)
    say "$kind: $(cat "$out/said.$kind")"
  done
  cmp "$out/said.shared" "$out/said.static"

  # The sizes and offsets of every public struct, as this compiler lays them out.
  { echo '#include "tern.h"' && awk '{
      print "_Static_assert(sizeof(" $1 ") == " $2 ", \"" $1 "\");"
      for (i = 3; i <= NF; i++) {
        split($i, part, /[@+]/)
        print "_Static_assert(__builtin_offsetof(" $1 ", " part[1] ") == " part[2] " && sizeof(((" $1 " *)0)->" part[1] ") == " part[3] ", \"" $1 "." part[1] "\");"
      }
    }' tests/c/abi.txt; } > "$out/abi.c"
  x86_64-w64-mingw32-gcc -std=gnu11 -I include -c "$out/abi.c" -o "$out/abi.o"
  say "layout: $(grep -c _Static_assert "$out/abi.c") sizes and offsets are those of the snapshot"

  # The C programs of the tests; smoke.c calls every function. Threads are the compiler's own, inside the program. leave.c
  # looks for what it left in /proc, which is Linux's.
  mkdir -p "$out/folder"
  folder=$(wine winepath -w "$out/folder" 2> /dev/null | tr -d '\r')
  seed=$(wine winepath -w "$root/examples/models/seed-s.gguf" 2> /dev/null | tr -d '\r')
  for program in smoke errors loading session structure sampler state control memory report threads; do
    flags=(-std=gnu11 -O1 -Wall -Wextra -Werror -I include "tests/c/$program.c")
    x86_64-w64-mingw32-gcc "${flags[@]}" -DTERN_DLL "$out/libtern.dll.a" -static -lpthread -o "$out/$program-shared.exe"
    x86_64-w64-mingw32-gcc "${flags[@]}" "$archive" "${libs[@]}" -static -lpthread -o "$out/$program-static.exe"
    for kind in shared static; do
      (cd "$out" && wine "$program-$kind.exe" "$seed" "$folder") || { echo "tests/c/$program.c, $kind, failed under wine" >&2; return 1; }
    done
    say "tests/c/$program.c: passed, shared and static"
  done

  # The C++ binding, by the compiler whose threads are those of the standard library.
  local cpp=(x86_64-w64-mingw32-g++-posix -std=c++17 -O1 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -DTERN_DLL -I include -I bindings/cpp)
  local of=bindings/cpp/tests golden
  golden=$(wine winepath -w "$root/tests/data/golden" 2> /dev/null | tr -d '\r')
  "${cpp[@]}" $of/{tern,model,context,session}_test.cpp "$out/libtern.dll.a" -static -o "$out/conformance.exe"
  "${cpp[@]}" -fno-exceptions -fno-rtti $of/values_test.cpp "$out/libtern.dll.a" -static -o "$out/values.exe"
  "${cpp[@]}" examples/cpp/generate.cpp "$out/libtern.dll.a" -static -o "$out/generate.exe"
  (cd "$out" && wine conformance.exe "$windows_model" "$golden" 1000 && wine values.exe "$windows_model" "$golden")
  (cd "$out" && wine generate.exe -m "$windows_model" -n 64 "$(cat "$root/tests/data/golden/story-prompt.txt")" | tr -d '\r') | cmp - tests/data/golden/story-greedy.txt
  say "C++: conformance list, without exceptions, and the example's golden text: passed"

  # The crate's tests and those of tests/ that do not drive a tool of Linux.
  tests=(cancel chat_templates golden grammar handle_model join_model lying malformed mutations packed resume sampler screening sequences
    session shipped_models sources synth tokenizer vocabulary)
  "$cargo" test --release --no-fail-fast --lib "${tests[@]/#/--test=}" "${build_std[@]}" --target $target
}

step_apple() {
  need llvm-19
  local target archive
  for target in aarch64-apple-darwin aarch64-apple-ios; do
    archive=$(staticlib $target)
    c_names llvm-nm-19 "$archive" _ > "$CARGO_TARGET_DIR/names.$target"
    # Of C names: ours, and those of a dependency, which the list of exports keeps out of what is linked from it.
    comm -23 "$CARGO_TARGET_DIR/names.$target" <(grep -v '^#' src/ffi/foreign-symbols.txt | sort -u) > "$CARGO_TARGET_DIR/names.ours"
    packaging/symbols.sh check "$CARGO_TARGET_DIR/names.ours" "libtern.a for $target"
  done
}

# names_of_dll DLL: what it exports.
names_of_dll() {
  x86_64-w64-mingw32-objdump -p "$1" | sed -n '/\[Ordinal\/Name Pointer\] Table/,/^$/p' | awk 'NR > 1 && NF { print $NF }'
}

# What scripts/dist.sh does for Linux. The static library is rustc's own: nothing here can hide names inside COFF.
step_package() {
  need rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64-win32 mingw-w64-x86-64-dev wine64 wine
  local target=x86_64-pc-windows-gnu out=$CARGO_TARGET_DIR/package archive version name windows_model file
  local libs="-lws2_32 -lntdll -luserenv -lbcrypt"
  export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
  name=tern-$version-$target
  rm -rf "$out" "dist/$name" "dist/$name.zip"
  mkdir -p "$out"
  archive=$(staticlib $target dist)
  packaging/link.sh dll "$archive" "$out/tern.dll"
  x86_64-w64-mingw32-strip --strip-unneeded "$out/tern.dll"
  x86_64-w64-mingw32-strip --strip-debug -o "$out/libtern.a" "$archive"
  names_of_dll "$out/tern.dll" > "$out/names"
  packaging/symbols.sh check "$out/names" tern.dll
  packaging/lay_out.sh "$root/dist/$name" $target "$out/tern.dll" "$out/libtern.a" "$libs"
  install -m 644 LICENSE* README.md "dist/$name/"
  "$cargo" metadata --locked --format-version 1 --filter-platform $target | packaging/notices.py > "dist/$name/THIRD-PARTY"
  (cd "dist/$name" && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum > SHA256SUMS)
  (cd dist && python3 -m zipfile -c "$name.zip" "$name" && sha256sum "$name.zip" > "$name.zip.sha256")

  # Unpacked where nothing else is.
  mkdir "$out/empty"
  python3 -m zipfile -e "dist/$name.zip" "$out/empty"
  wine_with_random_bytes
  windows_model=$(wine winepath -w "$model" 2> /dev/null | tr -d '\r')
  (
    cd "$out/empty/$name"
    sha256sum --quiet -c SHA256SUMS
    for file in bin/tern.dll lib/libtern.dll.a lib/libtern.a include/tern.h include/tern.hpp include/tern/session.hpp \
      lib/cmake/tern/ternConfig.cmake lib/pkgconfig/tern.pc LICENSE-MIT LICENSE-APACHE THIRD-PARTY README.md; do
      [ -s "$file" ] || { echo "$file is not in the archive" >&2; exit 1; }
    done
    x86_64-w64-mingw32-gcc -O1 -DTERN_DLL -I include "$root/bindings/cpp/tests/consumer/main.c" lib/libtern.dll.a -o bin/shared.exe
    # shellcheck disable=SC2086
    x86_64-w64-mingw32-gcc -O1 -I include "$root/bindings/cpp/tests/consumer/main.c" lib/libtern.a $libs -o ../static.exe
    wine bin/shared.exe "$windows_model" | tr -d '\r' > ../said.shared
    wine ../static.exe "$windows_model" | tr -d '\r' > ../said.static
    [ -s ../said.shared ] && cmp ../said.shared ../said.static
  )
  say "dist/$name.zip: $(stat -c %s "dist/$name.zip") bytes; tern.dll $(stat -c %s "$out/tern.dll"), libtern.a $(stat -c %s "$out/libtern.a"): $(cat "$out/empty/said.shared")"
}

# zig's package carries the list of what macOS's system library has: enough for LLVM's linker to bind every name.
step_darwin() {
  need llvm-19 lld-19 python3-venv
  local target=aarch64-apple-darwin zig=$tools/zig out=$CARGO_TARGET_DIR/darwin archive name stubs
  if [ ! -e "$zig/.done" ]; then
    python3 -m venv "$zig"
    "$zig/bin/pip" install -q ziglang
    touch "$zig/.done"
  fi
  archive=$(staticlib $target)
  mkdir -p "$out/root/usr/lib"
  stubs=$("$zig/bin/python" -c 'import ziglang; print(ziglang.__path__[0])')/lib/libc/darwin
  # Without an architecture that came after this linker.
  sed -E 's/arm64e\.x1-[a-z]+,?//g' "$stubs/libSystem.tbd" > "$out/root/usr/lib/libSystem.tbd"
  LINK=ld64.lld-19 packaging/link.sh dylib "$archive" "$out/libtern.dylib" -arch arm64 -platform_version macos 11.0 11.0 -syslibroot "$out/root"
  name=$(llvm-objdump-19 --macho --dylib-id "$out/libtern.dylib" | tail -1)
  [ "$name" = "@rpath/libtern.dylib" ] || { echo "the install name is $name, not @rpath/libtern.dylib" >&2; return 1; }
  say "libtern.dylib: install name $name, uses $(llvm-objdump-19 --macho --dylibs-used "$out/libtern.dylib" | awk 'NR > 1 { print $1 }' | paste -sd' ' -)"
  llvm-nm-19 --defined-only --extern-only "$out/libtern.dylib" | awk '{ sub("^_", "", $3); print $3 }' > "$out/names"
  packaging/symbols.sh check "$out/names" libtern.dylib
  # A C program that links it.
  "$zig/bin/python" -m ziglang cc -target aarch64-macos -I include bindings/cpp/tests/consumer/main.c "$out/libtern.dylib" -o "$out/program"
  llvm-objdump-19 --macho --dylibs-used "$out/program" | grep -q '@rpath/libtern.dylib'
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
  # Every function, out of the static library.
  aarch64-linux-gnu-gcc -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -Wall -Wextra -Werror -I include tests/c/smoke.c "$out/libtern.a" -lgcc_s -lpthread -ldl -lm -o "$out/smoke"
  mkdir -p "$out/folder"
  for cpu in cortex-a72 cortex-a76 max,sve=off max; do
    qemu-aarch64 -cpu "$cpu" -L / "$out/smoke" "$root/examples/models/seed-s.gguf" "$out/folder"
    for kind in shared static; do
      qemu-aarch64 -cpu "$cpu" -E LD_LIBRARY_PATH="$out" -L / "$out/$kind" "$model" > "$out/said.$kind"
    done
    cmp "$out/said.shared" "$out/said.static"
    [ ! -e "$out/said.first" ] || cmp "$out/said.shared" "$out/said.first"
    cp "$out/said.shared" "$out/said.first"
    say "ARM64 $cpu: smoke.c, static; shared and static: $(cat "$out/said.first")"
  done
  rm -f "$out/said.first"
}

# cargo-c of Debian 13, where it is new enough, with the compiler of this machine.
step_cargoc() {
  local out=$CARGO_TARGET_DIR/cargo-c sysroot
  sysroot=$(env -u RUSTC rustc --print sysroot)
  rm -rf "$out"
  mkdir -p "$HOME/.cargo/registry"
  cargo fetch --locked
  TERN_BIND="$sysroot $HOME/.cargo/registry" scripts/bindings.sh root sh -ec '
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq cargo-c < /dev/null > /dev/null
    unset RUSTC RUSTC_BOOTSTRAP
    PATH=$1/bin:$PATH
    cd /w
    cargo-cinstall cinstall --release --locked --offline --prefix=/usr --libdir=/usr/lib --destdir=/w/target/platforms/cargo-c \
      --target-dir=/w/target/platforms/cargo-c-build' _ "$sysroot"
  find "$out" -type f -o -type l | sed "s|^$out|  |" | sort
  readelf -d "$out/usr/lib/libtern.so" | grep -q 'SONAME.*\[libtern.so.0\]' || { echo "cargo-c: another SONAME than libtern.so.0" >&2; return 1; }
  nm -D --defined-only "$out/usr/lib/libtern.so" | awk '{ print $3 }' | sed 's/@.*//' > "$CARGO_TARGET_DIR/names.cargo-c"
  packaging/symbols.sh check "$CARGO_TARGET_DIR/names.cargo-c" "cargo-c: libtern.so"
  export PKG_CONFIG_SYSROOT_DIR=$out PKG_CONFIG_PATH=$out/usr/lib/pkgconfig
  # shellcheck disable=SC2046
  gcc -O1 bindings/cpp/tests/consumer/main.c $(pkg-config --cflags --libs tern) -o "$CARGO_TARGET_DIR/by-cargo-c"
  LD_LIBRARY_PATH=$out/usr/lib "$CARGO_TARGET_DIR/by-cargo-c" "$model"
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
[ "${#steps[@]}" -gt 0 ] || steps=(msvc apple darwin android windows package arm64 cargoc ggml)
for step in "${steps[@]}"; do
  declare -F "step_$step" > /dev/null || { echo "platforms: no step is called $step" >&2; exit 2; }
  start=$SECONDS
  say "$step"
  # Not under `if`: that would switch `set -e` off inside the step.
  "step_$step"
  say "$step passed in $((SECONDS - start)) s"
done
