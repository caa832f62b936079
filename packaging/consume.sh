#!/usr/bin/env bash
# packaging/consume.sh PREFIX MODEL: a stranger's project finds the package under PREFIX by CMake and by pkg-config, links it
# shared and static, and its programs run on MODEL.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
prefix=$(cd "$1" && pwd)
model=$(readlink -f "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
consumer=$root/bindings/cpp/tests/consumer

# The package is tried where nobody built it, under a name with a space.
cp -a "$prefix" "$work/moved here"
prefix="$work/moved here"

for shared in ON OFF; do
  cmake -S "$consumer" -B "$work/build-$shared" -DCMAKE_BUILD_TYPE=Release -DCONSUME=package -DTERN_SHARED=$shared \
    -DCMAKE_PREFIX_PATH="$prefix" -DMODEL="$model" > "$work/log" || { cat "$work/log" >&2; exit 1; }
  cmake --build "$work/build-$shared" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  (cd "$work/build-$shared" && ctest --output-on-failure > "$work/log") || { cat "$work/log" >&2; exit 1; }
  grep -q '100% tests passed' "$work/log"
  needs=$(readelf -dW "$work/build-$shared/cpp_program" | grep -c 'NEEDED.*libtern' || true)
  [ "$needs" = "$([ $shared = ON ] && echo 1 || echo 0)" ] || { echo "TERN_SHARED=$shared linked the other library" >&2; exit 1; }
done
# A version that the package cannot stand for is refused.
sed 's/find_package(tern 0.1 /find_package(tern 0.2 /' "$consumer/CMakeLists.txt" > "$work/newer.cmake"
mkdir -p "$work/newer/consumer" && cp "$work/newer.cmake" "$work/newer/consumer/CMakeLists.txt"
cp "$consumer/main.c" "$work/newer/consumer/" && cp "$consumer/../ten_lines.cpp" "$work/newer/"
if cmake -S "$work/newer/consumer" -B "$work/newer/build" -DCONSUME=package -DCMAKE_PREFIX_PATH="$prefix" > "$work/log" 2>&1; then
  echo "find_package(tern 0.2) accepted a package of 0.1" >&2
  exit 1
fi

export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
eval "flags=($(pkg-config --cflags --libs tern))"
g++ -std=c++17 -O1 "$consumer/../ten_lines.cpp" "${flags[@]}" -Wl,-rpath,"$prefix/lib" -o "$work/by_pkg_config"
"$work/by_pkg_config" "$model" > /dev/null
eval "flags=($(pkg-config --static --cflags --libs tern | sed 's/-ltern/-l:libtern.a/g'))"
g++ -std=c++17 -O1 "$consumer/../ten_lines.cpp" "${flags[@]}" -o "$work/by_pkg_config_static"
"$work/by_pkg_config_static" "$model" > /dev/null
echo "consume: find_package and pkg-config, shared and static: linked and run"
