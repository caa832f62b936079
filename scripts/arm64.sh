#!/usr/bin/env bash
# Builds the tests for aarch64 Linux and runs them under emulation, once for each kind of core that has a kernel table
# of its own. Emulation shows that results are right; it says nothing about speed.
#
# Debian or Ubuntu, as root or with sudo; installs what is missing. The compiler is the distribution's web one: unlike a
# rustup toolchain it comes with the standard library for another architecture as a package.
set -euo pipefail
cd "$(dirname "$0")/.."

# The emulator's CPU, and the tables it must have.
cpus=(
    "cortex-a72|scalar neon"
    "cortex-a76|scalar neon dotprod"
    "max,sve=off|scalar neon dotprod i8mm"
    "max|scalar neon dotprod i8mm"
)
# Suites beside the library's own: for every CPU, and for the last one alone. Then the C programs of tests/c, which the
# cross compiler links to the shared library: likewise. The rest of tests/ is no business of an instruction set.
# `arm64.sh all` runs the slow ones too: whole sessions take minutes under emulation.
each=(golden)
once=()
c_each=(smoke.c)
c_once=()
if [ "${1:-}" = all ]; then
    once=(session determinism)
    c_once=(errors.c)
fi

packages=(rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross libc6:arm64 qemu-user)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" dpkg --add-architecture arm64
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# A separate target folder: the compiler is another one than the tree's own.
export RUSTC=/usr/bin/rustc CARGO_TARGET_DIR=$PWD/target/arm64
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
unset RUSTFLAGS RUSTUP_TOOLCHAIN

select=(--lib)
for suite in "${each[@]}" "${once[@]}"; do
    select+=(--test "$suite")
done
messages=$CARGO_TARGET_DIR/messages.json
mkdir -p "$CARGO_TARGET_DIR"
/usr/bin/cargo test --locked --target aarch64-unknown-linux-gnu "${select[@]}" --no-run --message-format=json >"$messages"
binaries=$(python3 - "$messages" <<'PY'
import json, sys
for line in open(sys.argv[1]):
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
        print(message["target"]["name"], message["executable"])
PY
)
wanted=$((1 + ${#each[@]} + ${#once[@]}))
if [ "$(wc -l <<<"$binaries")" != "$wanted" ]; then
    printf 'arm64: %s test programs were to be built, and these were:\n%s\n' "$wanted" "$binaries" >&2
    exit 1
fi

# Runs a test program of the current CPU; an empty selection of tests is a failure too.
emulate() {
    local log=$CARGO_TARGET_DIR/emulate.log
    if ! timeout 900 qemu-aarch64 -cpu "$cpu" -L / "$@" </dev/null >"$log" 2>&1 || grep -q '^running 0 tests' "$log"; then
        cat "$log" >&2
        echo "arm64: failed under $cpu: $*" >&2
        exit 1
    fi
    grep -h -E '^test result|^NOT TESTED' "$log" | sed "s|^|  $(basename "${1%-*}"): |"
}

# The shared library of the same build, by the name it is loaded by.
model=$PWD/$(cat examples/models/default.txt)
stage=$CARGO_TARGET_DIR/c
library=$CARGO_TARGET_DIR/aarch64-unknown-linux-gnu/debug/deps/libtern.so
[ -e "$library" ] || library=$CARGO_TARGET_DIR/aarch64-unknown-linux-gnu/debug/libtern.so
rm -rf "$stage"
mkdir -p "$stage/folder"
ln -s "$library" "$stage/libtern.so"
ln -s "$library" "$stage/libtern.so.0"
aarch64-linux-gnu-nm -D --defined-only "$library" | awk '{ print $3 }' | sed 's/@.*//' >"$stage/names"
packaging/symbols.sh check "$stage/names" "libtern.so for aarch64"
for source in "${c_each[@]}" "${c_once[@]}"; do
    aarch64-linux-gnu-gcc -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -Wall -Wextra -Werror -pthread -I include "tests/c/$source" \
        -L "$stage" -Wl,--as-needed -ltern -lm -ldl -o "$stage/${source%.c}"
done

# Runs a C program of the current CPU.
emulate_c() {
    if ! LD_LIBRARY_PATH= timeout 900 qemu-aarch64 -cpu "$cpu" -L / -E LD_LIBRARY_PATH="$stage" "$stage/${1%.c}" "$model" "$stage/folder" \
        </dev/null >"$stage/log" 2>&1; then
        cat "$stage/log" >&2
        echo "arm64: failed under $cpu: tests/c/$1" >&2
        exit 1
    fi
    echo "  tests/c/$1: ok"
}

# `-L /`: the cross compiler's own C library, under /usr/aarch64-linux-gnu, hangs programs with threads.
for entry in "${cpus[@]}"; do
    IFS='|' read -r cpu tables <<<"$entry"
    echo "== $cpu: $tables"
    export TERN_EXPECT_TABLES=$tables
    while read -r name program; do
        if [ "$name" = tern ]; then
            emulate "$program" -q the_expected_tables_are_there
            # That test starts itself again, which an emulated program cannot.
            emulate "$program" -q --skip a_caught_panic_prints_nothing
        elif [ "$entry" = "${cpus[-1]}" ] || [[ " ${each[*]} " == *" $name "* ]]; then
            # That test starts itself again, which an emulated program cannot.
            emulate "$program" -q --skip a_caught_panic_prints_nothing
        fi
    done <<<"$binaries"
    for source in "${c_each[@]}"; do emulate_c "$source"; done
    [ "$entry" != "${cpus[-1]}" ] || for source in "${c_once[@]}"; do emulate_c "$source"; done
done
echo "arm64: all passed"
