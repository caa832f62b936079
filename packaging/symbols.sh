#!/usr/bin/env bash
# Prints the functions that include/tern.h declares, sorted: what a library of tern exports, no more and no less.
#
#   packaging/symbols.sh                        the list
#   packaging/symbols.sh check NAMES FILE       compares the file NAMES, one symbol a line, and says what differs in FILE
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

list() {
  # The preprocessor takes the comments away: they speak of functions too. Function pointer types have their name before a ')'.
  cc -E -P -x c "$root/include/tern.h" | grep -oE '\btern_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u
}

case "${1:-}" in
  "") list ;;
  check)
    if ! difference=$(diff <(list) <(sort -u "$2")); then
      echo "$3 does not export exactly what include/tern.h declares ('<' lacks, '>' has too many):" >&2
      echo "$difference" | grep '^[<>]' >&2
      exit 1
    fi
    echo "$3: exports the $(list | wc -l) functions of include/tern.h and nothing else"
    ;;
  *) echo "usage: $0 [check NAMES FILE]" >&2; exit 2 ;;
esac
