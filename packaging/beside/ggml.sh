#!/usr/bin/env bash
# packaging/beside/ggml.sh PREFIX MODEL GGML: links tern's static library beside ggml, built from the source tree GGML (the folder
# that holds include/ggml.h and src/ggml.c), in one program, every member of both, and runs it.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
prefix=$(cd "$1" && pwd) model=$(readlink -f "$2") ggml=$(cd "$3" && pwd)
objects=${TERN_GGML_OBJECTS:-$(mktemp -d)}
mkdir -p "$objects"
# ggml's own build writes this header.
printf '#define GGML_VERSION "0"\n#define GGML_COMMIT "0"\n' > "$objects/ggml-version.h"
for source in "$ggml"/src/ggml.c "$ggml"/src/ggml-alloc.c "$ggml"/src/ggml-quants.c "$ggml"/src/ggml-backend.cpp \
  "$ggml"/src/ggml-threading.cpp "$ggml"/src/ggml-opt.cpp "$ggml"/src/gguf.cpp "$ggml"/src/ggml.cpp "$ggml"/src/ggml-backend-meta.cpp; do
  [ -e "$source" ] || continue  # versions differ in how they cut the files
  object=$objects/$(basename "$source").o
  [ -e "$object" ] && continue
  case "$source" in *.c) compiler=(gcc -std=c11) ;; *) compiler=(g++ -std=c++17) ;; esac
  "${compiler[@]}" -O1 -w -D_GNU_SOURCE -I "$objects" -I "$ggml/include" -I "$ggml/src" -c "$source" -o "$object"
done
rm -f "$objects/libggml-base.a"
ar rcs "$objects/libggml-base.a" "$objects"/*.o
gcc -c -I "$ggml/include" -I "$prefix/include" "$root/packaging/beside/ggml.c" -o "$objects/main"
eval "flags=($(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --static --libs-only-l tern | sed 's/-ltern//'))"
g++ "$objects/main" -Wl,--whole-archive "$prefix/lib/libtern.a" "$objects/libggml-base.a" -Wl,--no-whole-archive "${flags[@]}" \
  -o "$objects/beside_ggml"
"$objects/beside_ggml" "$model"
