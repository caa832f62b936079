#!/usr/bin/env bash
# scripts/dist.sh [TARGET]: the archive that is shipped, dist/tern-VERSION-TARGET.tar.gz, checked before it is packed.
#
# In it: the shared library with its versioned names, the static one pre-linked so that nothing but tern_* is global, the C
# and C++ headers, CMake and pkg-config files, licences, the notices of third parties and SHA256SUMS. Each library is
# built alone with the `dist` profile. Linux only: scripts/platforms.sh package packs for Windows, scripts/xcframework.sh for Apple.
#
# CARGO and RUSTC name another toolchain, TOOLS is the prefix of another binutils ("aarch64-linux-gnu-"), and RUN what runs
# a program of the target ("qemu-aarch64 -L /").
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cargo=${CARGO:-cargo} rustc=${RUSTC:-rustc} tools=${TOOLS:-} run=${RUN:-}
host=$("$rustc" -vV | sed -n 's/^host: //p')
target=${1:-$host}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
soname=libtern.so.${version%%.*}
largest=$((8 * 1024 * 1024))
case "$target" in
  *-linux-gnu) ;;
  *) echo "dist: no archive is made for $target here; see docs/platforms.md" >&2; exit 1 ;;
esac
say() { printf 'dist: %s\n' "$*"; }
die() { printf 'dist: %s\n' "$*" >&2; exit 1; }
for tool in "${tools}nm" "${tools}objcopy" "${tools}strip" "${tools}readelf" "${tools}gcc" python3 sha256sum; do
  command -v "$tool" > /dev/null || die "$tool is missing (Debian: apt-get install binutils gcc python3)"
done
ls LICENSE* > /dev/null 2>&1 || die "the repository has no LICENSE file to ship"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
built=$root/target/$target/dist
libs_file=$root/target/$target/dist-native-static-libs

say "building for $target"
"$cargo" rustc --locked --profile dist --lib --target "$target" --crate-type cdylib
# The list of system libraries is printed when rustc runs and kept for the runs in which it need not.
mkdir -p "$(dirname "$libs_file")"
"$cargo" rustc --locked --profile dist --lib --target "$target" --crate-type staticlib -- --print "native-static-libs=$libs_file"
[ -s "$libs_file" ] || die "$libs_file is empty: remove $built/libtern.a and try again"
# The C library itself comes with any C compiler.
system_libs=$(tr ' ' '\n' < "$libs_file" | grep -vxE -- '-lc|-lutil|-lrt|' | awk '!seen[$0]++' | paste -sd' ' -)

say "stripping and pre-linking"
cp "$built/libtern.so" "$work/libtern.so"
"${tools}strip" --strip-unneeded "$work/libtern.so"
packaging/prelink.sh "$built/libtern.a" "$work/libtern.a" "$tools"

say "checking the shared library"
"${tools}nm" -D --defined-only "$work/libtern.so" | awk '{ print $3 }' | sed 's/@.*//' > "$work/names"
packaging/symbols.sh check "$work/names" libtern.so
size=$(stat -c %s "$work/libtern.so")
[ "$size" -le "$largest" ] || die "libtern.so has $size bytes, over $largest"
dynamic=$("${tools}readelf" -dW "$work/libtern.so")
grep -q "SONAME.*\[$soname\]" <<< "$dynamic" || die "the SONAME is not $soname"
grep -q NODELETE <<< "$dynamic" || die "the image is not marked NODELETE, and unloading Rust code is not safe"
! grep -q TEXTREL <<< "$dynamic" || die "the library has text relocations"
needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<< "$dynamic" | sort | paste -sd' ' -)
for lib in $needed; do
  case "$lib" in
    libc.so.6 | libm.so.6 | libgcc_s.so.1 | libpthread.so.0 | libdl.so.2 | ld-linux-*) ;;
    *) die "the library needs $lib, which is not part of every system" ;;
  esac
done
glibc=$("${tools}objdump" -T "$work/libtern.so" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -1)
say "libtern.so: $size bytes, needs $needed, at least $glibc"
say "libtern.a: $(stat -c %s "$work/libtern.a") bytes, wants $system_libs"

name=tern-$version-$target
prefix=$root/dist/$name
rm -rf "$prefix" "$prefix.tar.gz"
packaging/lay_out.sh "$prefix" "$target" "$work/libtern.so" "$work/libtern.a" "$system_libs"
install -m 644 LICENSE* README.md "$prefix/"
"$cargo" metadata --locked --format-version 1 --filter-platform "$target" | packaging/notices.py > "$prefix/THIRD-PARTY"

say "linking against the package"
model=$root/$(cat examples/models/default.txt)
"${tools}gcc" -O1 -Wall -Werror -I "$prefix/include" bindings/cpp/tests/consumer/main.c -L "$prefix/lib" -ltern -o "$work/shared"
"${tools}readelf" -dW "$work/shared" | grep -q "NEEDED.*\[$soname\]" || die "a program asks for another name than $soname"
LD_LIBRARY_PATH=$prefix/lib $run "$work/shared" "$model" > "$work/said.shared"
# shellcheck disable=SC2086
"${tools}gcc" -O1 -I "$prefix/include" bindings/cpp/tests/consumer/main.c "$prefix/lib/libtern.a" $system_libs -o "$work/static"
$run "$work/static" "$model" > "$work/said.static"
cmp "$work/said.shared" "$work/said.static" || die "the two libraries say different things"

say "linking the static library beside another Rust library and a C library of the same names"
"$rustc" --edition 2024 --target "$target" --crate-type staticlib -C opt-level=1 ${tools:+-C linker="${tools}gcc"} \
  -o "$work/libother.a" packaging/beside/other.rs
"${tools}gcc" -O1 -c packaging/beside/neighbour.c -o "$work/neighbour.o"
# Whole archives: a linker that takes members as needed would hide a collision behind the order of its arguments.
beside() {
  # shellcheck disable=SC2086
  "${tools}gcc" -O1 -I "$prefix/include" packaging/beside/main.c "$work/neighbour.o" -Wl,--whole-archive "$1" "$work/libother.a" \
    -Wl,--no-whole-archive,--gc-sections $system_libs -o "$work/beside"
}
beside "$prefix/lib/libtern.a"
$run "$work/beside" "$model"
if beside "$built/libtern.a" 2> "$work/collisions"; then
  die "the archive as rustc makes it links too, so this test shows nothing"
fi
say "rustc's own archive collides in $(grep -c 'multiple definition' "$work/collisions") symbols there; the shipped one in none"

if [ "$target" = "$host" ]; then
  packaging/consume.sh "$prefix" "$model"
else
  say "CMake and pkg-config are tried on the host's own target only"
fi

say "packing"
(cd "$prefix" && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum > SHA256SUMS)
# The same files give the same archive.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || echo 0)}
tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -C dist -cf - "$name" | gzip -n9 > "$prefix.tar.gz"
(cd dist && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256")

say "unpacking it where nothing else is"
mkdir "$work/empty"
tar -xzf "$prefix.tar.gz" -C "$work/empty"
(
  cd "$work/empty/$name"
  sha256sum --quiet -c SHA256SUMS
  for file in include/tern.h include/tern.hpp include/tern/session.hpp lib/libtern.so lib/libtern.a lib/pkgconfig/tern.pc \
    lib/cmake/tern/ternConfig.cmake LICENSE-MIT LICENSE-APACHE THIRD-PARTY README.md; do
    [ -s "$file" ] || die "$file is not in the archive"
  done
  cp "$root/bindings/cpp/tests/consumer/main.c" ..
  "${tools}gcc" -O1 -I include ../main.c -L lib -ltern -o ../program
  LD_LIBRARY_PATH=lib $run ../program "$model" | cmp - "$work/said.shared"
)
say "dist/$name.tar.gz: $(stat -c %s "$prefix.tar.gz") bytes"
