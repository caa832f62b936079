#!/usr/bin/env bash
# packaging/lay_out.sh PREFIX TARGET SHARED STATIC "SYSTEM LIBS": include, lib, pkg-config and CMake files under PREFIX.
#
# SHARED and STATIC are the built libraries, either may be empty. SYSTEM LIBS is what a program that links STATIC needs
# besides, as linker flags. `make dist` packs the result; a checkout can stage one to build against:
#
#   cargo build --release && packaging/lay_out.sh stage "" target/release/libtern.so target/release/libtern.a "-lpthread -ldl -lm"
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
prefix=$1 target=$2 shared=$3 static=$4 system_libs=$5
target=${target:-$(rustc -vV | sed -n 's/^host: //p')}
field() { sed -n "s/^$1 = \"\(.*\)\"/\1/p" "$root/Cargo.toml" | head -1; }
version=$(field version)
major=${version%%.*}

mkdir -p "$prefix/include/tern" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/tern"
install -m 644 "$root/include/tern.h" "$root/bindings/cpp/tern.hpp" "$prefix/include/"
install -m 644 "$root"/bindings/cpp/tern/*.hpp "$prefix/include/tern/"

shared_file="" soname="" implib_file="" static_file=""
if [ -n "$shared" ]; then
  case "$target" in
    *linux*)
      soname=libtern.so.$major
      shared_file=lib/libtern.so.$version
      install -m 755 "$shared" "$prefix/$shared_file"
      ln -sf "libtern.so.$version" "$prefix/lib/$soname"
      ln -sf "$soname" "$prefix/lib/libtern.so"
      ;;
    *apple*)
      shared_file=lib/libtern.dylib
      install -m 755 "$shared" "$prefix/$shared_file"
      ;;
    *windows*)
      shared_file=bin/tern.dll implib_file=lib/lib$(basename "$shared").a
      mkdir -p "$prefix/bin"
      install -m 755 "$shared" "$prefix/$shared_file"
      install -m 644 "$(dirname "$shared")/lib$(basename "$shared").a" "$prefix/$implib_file"
      ;;
    *) echo "no layout is known for a shared library of $target" >&2; exit 1 ;;
  esac
fi
if [ -n "$static" ]; then
  static_file=lib/libtern.a
  install -m 644 "$static" "$prefix/$static_file"
fi

# CMake takes library names without -l.
cmake_libs=$(printf '%s\n' $system_libs | sed 's/^-l//' | paste -sd';' -)
for template in tern.pc ternConfig.cmake ternConfigVersion.cmake; do
  case $template in tern.pc) to=$prefix/lib/pkgconfig ;; *) to=$prefix/lib/cmake/tern ;; esac
  sed -e "s|@VERSION@|$version|g" -e "s|@TARGET@|$target|g" -e "s|@DESCRIPTION@|$(field description)|g" \
    -e "s|@SHARED_FILE@|$shared_file|g" -e "s|@SONAME@|$soname|g" -e "s|@IMPLIB_FILE@|$implib_file|g" \
    -e "s|@STATIC_FILE@|$static_file|g" -e "s|@SYSTEM_LIBS@|$system_libs|g" -e "s|@SYSTEM_LIBS_CMAKE@|$cmake_libs|g" \
    "$root/packaging/$template.in" > "$to/$template"
  if grep -n '@[A-Z_]*@' "$to/$template" >&2; then
    echo "$to/$template has a field that was not filled in" >&2
    exit 1
  fi
done
