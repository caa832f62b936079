#!/usr/bin/env bash
# Builds tern.xcframework on a Mac: device, simulator, macOS and Catalyst, as dynamic frameworks named CTern.
#
#   scripts/xcframework.sh                    dist/tern.xcframework and its .zip with the checksum SwiftPM wants
#   scripts/xcframework.sh --static           dist/tern-static.xcframework: archives, for hosts that link everything in
#   scripts/xcframework.sh --layout LIB DIR PLATFORM MINIMUM flat|versioned    only lays a framework out around LIB, on any
#                                             system; tests use it
#
# Needs Xcode's command line tools, rustup and: rustup target add aarch64-apple-ios aarch64-apple-ios-sim x86_64-apple-ios
#   aarch64-apple-darwin x86_64-apple-darwin aarch64-apple-ios-macabi x86_64-apple-ios-macabi
# Has never run on a Mac: docs/bindings.md says what of it was checked.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
PARTS=bindings/swift/framework

# layout LIBRARY FOLDER PLATFORM MINIMUM STYLE: FOLDER/CTern.framework; macOS and Catalyst want the versioned style of bundle,
# and a lowest macOS, by another key.
layout() {
  local library=$1 top=$2/CTern.framework platform=$3 minimum=$4 style=$5 inner resources key=MinimumOSVersion
  [ "$style" = versioned ] && key=LSMinimumSystemVersion
  rm -rf "$top"
  inner=$top
  [ "$style" = versioned ] && inner=$top/Versions/A
  resources=$inner
  [ "$style" = versioned ] && resources=$inner/Resources
  mkdir -p "$inner/Headers" "$inner/Modules" "$resources"
  cp "$library" "$inner/CTern"
  cp include/tern.h bindings/swift/Sources/CTern/CTern.apinotes "$inner/Headers/"
  cp "$PARTS/module.modulemap" "$inner/Modules/"
  cp "$PARTS/PrivacyInfo.xcprivacy" LICENSE-MIT LICENSE-APACHE "$resources/"
  cargo metadata --locked --format-version 1 --filter-platform aarch64-apple-ios | packaging/notices.py >"$resources/THIRD-PARTY"
  sed -e "s/@VERSION@/$VERSION/" -e "s/@PLATFORM@/$platform/" -e "s/@KEY@/$key/" -e "s/@MINIMUM@/$minimum/" "$PARTS/Info.plist" >"$resources/Info.plist"
  if [ "$style" = versioned ]; then
    ln -s A "$top/Versions/Current"
    for name in CTern Headers Modules Resources; do ln -s "Versions/Current/$name" "$top/$name"; done
  fi
}

if [ "${1:-}" = --layout ]; then
  shift
  layout "$@"
  exit
fi
[ "$(uname)" = Darwin ] || { echo "$0: needs a Mac" >&2; exit 1; }
export IPHONEOS_DEPLOYMENT_TARGET=13.0 MACOSX_DEPLOYMENT_TARGET=10.15

# apple TARGET: "SDK TRIPLE", as clang calls what rustc calls TARGET. ARM came to simulators, Catalyst and the Mac later.
apple() {
  case $1 in
  aarch64-apple-ios) echo iphoneos arm64-apple-ios13.0 ;;
  aarch64-apple-ios-sim) echo iphonesimulator arm64-apple-ios14.0-simulator ;;
  x86_64-apple-ios) echo iphonesimulator x86_64-apple-ios13.0-simulator ;;
  aarch64-apple-darwin) echo macosx arm64-apple-macos11.0 ;;
  x86_64-apple-darwin) echo macosx x86_64-apple-macos10.15 ;;
  aarch64-apple-ios-macabi) echo macosx arm64-apple-ios14.0-macabi ;;
  x86_64-apple-ios-macabi) echo macosx x86_64-apple-ios13.1-macabi ;;
  esac
}

# one TARGET: target/xcframework/TARGET/libtern.$extension, with nothing but tern_* to be seen from outside.
one() {
  local out=target/xcframework/$1 sdk triple
  read -r sdk triple <<<"$(apple "$1")"
  # Alone, or there would be no link-time optimisation.
  cargo rustc --locked --profile dist --lib --crate-type staticlib --target "$1"
  mkdir -p "$out"
  if [ "$extension" = a ]; then
    packaging/symbols.sh | sed 's/^/_/' >"$out/exports"
    ld -r -arch "${triple%%-*}" -exported_symbols_list "$out/exports" -force_load "target/$1/dist/libtern.a" -o "$out/tern.o"
    libtool -static -o "$out/libtern.a" "$out/tern.o"
  else
    packaging/link.sh dylib "target/$1/dist/libtern.a" "$out/libtern.dylib" -target "$triple" -isysroot "$(xcrun --sdk "$sdk" --show-sdk-path)"
  fi
}

# slice NAME PLATFORM MINIMUM STYLE TARGET...: one platform; its architectures go into one file.
slices=()
slice() {
  local name=$1 platform=$2 minimum=$3 style=$4 target files=()
  shift 4
  for target; do
    one "$target"
    files+=("target/xcframework/$target/libtern.$extension")
  done
  mkdir -p "target/xcframework/$name"
  lipo -create "${files[@]}" -output "target/xcframework/$name/libtern.$extension"
  if [ "$extension" = a ]; then
    mkdir -p "target/xcframework/$name/Headers/CTern" # a folder of its own: flat module maps of two libraries clash
    cp include/tern.h bindings/swift/Sources/CTern/CTern.apinotes "target/xcframework/$name/Headers/CTern/"
    sed 's/^framework //' "$PARTS/module.modulemap" >"target/xcframework/$name/Headers/CTern/module.modulemap"
    slices+=(-library "target/xcframework/$name/libtern.a" -headers "target/xcframework/$name/Headers")
    return
  fi
  local folder=target/xcframework/$name binary
  layout "$folder/libtern.dylib" "$folder" "$platform" "$minimum" "$style"
  binary=$folder/CTern.framework/CTern
  [ "$style" = versioned ] && binary=$folder/CTern.framework/Versions/A/CTern
  install_name_tool -id "@rpath/${binary#"$folder"/}" "$binary"
  dsymutil "$binary" -o "$folder/CTern.framework.dSYM"
  strip -x "$binary"
  # Only tern_* may be seen from outside.
  local strangers
  strangers=$(nm -gU "$binary" | awk '{ print $NF }' | grep -v '^_tern_' || true)
  [ -z "$strangers" ] || { echo "exported besides tern_*: $strangers" >&2; exit 1; }
  codesign --force --sign "${TERN_SIGN:--}" "$folder/CTern.framework"
  slices+=(-framework "$folder/CTern.framework" -debug-symbols "$PWD/$folder/CTern.framework.dSYM")
}

extension=dylib out=dist/tern.xcframework
[ "${1:-}" = --static ] && extension=a out=dist/tern-static.xcframework
slice ios iPhoneOS 13.0 flat aarch64-apple-ios
slice ios-simulator iPhoneSimulator 13.0 flat aarch64-apple-ios-sim x86_64-apple-ios
slice macos MacOSX 10.15 versioned aarch64-apple-darwin x86_64-apple-darwin
slice catalyst MacOSX 10.15 versioned aarch64-apple-ios-macabi x86_64-apple-ios-macabi
rm -rf "$out"
mkdir -p dist
xcodebuild -create-xcframework "${slices[@]}" -output "$out"
ditto -c -k --keepParent "$out" "$out.zip"
swift package compute-checksum "$out.zip" | tee "$out.zip.checksum"
