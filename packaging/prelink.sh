#!/usr/bin/env bash
# packaging/prelink.sh IN.a OUT.a [TOOL PREFIX]: one object in which nothing but tern_* is global.
#
# A static library of Rust carries the standard library and an allocator's entry points under fixed names; two of them in
# one program collide, as would any C symbol of a dependency. Here the members are linked into one object, once and for
# all, and every other symbol made local to it. Section groups are resolved in that link: a local group of the same name
# in another object would take the place of ours. Unused sections go in the same step.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
in=$1 out=$2 tools=${3:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$here/symbols.sh" > "$work/keep"
roots=()
while read -r name; do roots+=(-u "$name"); done < "$work/keep"
# Functions that the standard library uses where the system has them. A relocatable link that drops sections forgets that
# a reference is weak, so it is told again below. readelf, since nm and ar may trip over embedded bitcode.
"${tools}readelf" -sW "$in" 2> /dev/null | awk '$5 == "WEAK" && $7 == "UND" { print $8 }' | sort -u > "$work/weak"

"${tools}ld" -r --force-group-allocation --gc-sections --strip-debug "${roots[@]}" -o "$work/tern.o" "$in"
"${tools}objcopy" --weaken-symbols="$work/weak" --remove-section=.llvmbc --remove-section=.llvmcmd \
  --remove-section=.note.gnu.property "$work/tern.o"
"${tools}objcopy" --keep-global-symbols="$work/keep" --weaken-symbols="$work/weak" "$work/tern.o"
rm -f "$out"
"${tools}ar" rcsD "$out" "$work/tern.o"

"${tools}readelf" -sW "$out" | awk '$5 != "LOCAL" && $7 ~ /^[0-9]+$|ABS|COM/ { print $8 }' > "$work/names"
"$here/symbols.sh" check "$work/names" "$out"
lost=$("${tools}readelf" -sW "$out" | awk '$5 == "GLOBAL" && $7 == "UND" { print $8 }' | sort | comm -12 - "$work/weak")
[ -z "$lost" ] || { echo "$out demands what it should only use if it is there:" $lost >&2; exit 1; }
