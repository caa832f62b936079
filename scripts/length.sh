#!/bin/sh
# Names source files of more than 500 lines whose first ten do not say why ("long because").
set -eu
cd "$(dirname "$0")/.."
bad=0
for file in $(git ls-files '*.rs' '*.c' '*.h' '*.hpp' '*.cpp' '*.swift' '*.go' '*.cs' '*.py' | grep -v '^include/tern.h$'); do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 500 ] && ! head -n 10 "$file" | grep -qi 'long because'; then
        echo "$file: $lines lines, at most 500, or say at the top why it is long because ..." >&2
        bad=1
    fi
done
exit $bad
