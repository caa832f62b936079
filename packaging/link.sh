#!/usr/bin/env bash
# packaging/link.sh KIND ARCHIVE OUT FLAG...: the shared library of Apple's systems or of Windows, from the static one.
#
#   packaging/link.sh dylib libtern.a libtern.dylib -target arm64-apple-ios13.0 -isysroot SDK
#   packaging/link.sh dll libtern.a tern.dll             beside it libtern.dll.a, to link programs with
#
# There rustc exports the C functions of dependencies too, and its linkers take no second list. Here the list is ours, so
# that exactly tern_* is exported. LINK names the linker driver: clang, or x86_64-w64-mingw32-gcc; with LINK=ld64.lld the
# flags are the linker's own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kind=$1 archive=$2 out=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $kind in
  dylib)
    "$here/symbols.sh" | sed 's/^/_/' > "$work/exports"
    link=${LINK:-clang}
    flags=(-force_load "$archive" -exported_symbols_list "$work/exports" -dead_strip -headerpad_max_install_names)
    # Two versions that a loader compares: what it is, and from which on it can stand in.
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml" | head -1)
    flags+=(-current_version "$version" -compatibility_version "${version%.*}" -install_name "@rpath/$(basename "$out")")
    case $link in
      *ld64*) "$link" -dylib -o "$out" "${flags[@]}" "$@" -lSystem ;;
      *) "$link" -dynamiclib -o "$out" "${flags[@]/#/-Wl,}" "$@" ;;
    esac
    ;;
  dll)
    "$here/symbols.sh" > "$work/names"
    { echo EXPORTS && cat "$work/names"; } > "$work/exports.def"
    # Asked for by name, not as a whole archive: rustc's holds the stubs of system functions more than once.
    mapfile -t roots < <(sed 's/^/-Wl,-u,/' "$work/names")
    # The compiler's own runtime goes inside: a DLL that needs another one is a DLL that does not load.
    "${LINK:-x86_64-w64-mingw32-gcc}" -shared -static-libgcc -o "$out" "$work/exports.def" "${roots[@]}" "$archive" -Wl,--gc-sections \
      -Wl,--out-implib,"$(dirname "$out")/lib$(basename "$out").a" "$@" -lws2_32 -lntdll -luserenv -lbcrypt
    ;;
  *) echo "$0: KIND is dylib or dll, not '$kind'" >&2; exit 2 ;;
esac
