#!/bin/sh
# Builds libuv and cmocka for 64-bit Windows, static, into build/mingw-deps, for
# the preset mingw. Their sources are the distribution's own source packages
# (Debian or Ubuntu), fetched through the package sources this machine already
# has: a private apt configuration is made of their deb lines, /etc/apt stays as
# it is, and apt verifies signatures as always.
#
#   NPIPE_LIBUV_SOURCE, NPIPE_CMOCKA_SOURCE   folders with the sources, to be
#                                             taken instead
#
# Exit: 0 there they are; 1 something failed; 3 they cannot be had here (no apt,
# no source packages, no compiler).
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
prefix=$root/build/mingw-deps
stamp=$prefix/.built
toolchain=$root/cmake/mingw-w64.cmake
cannot=3
work=

say() { printf 'mingw-deps: %s\n' "$*"; }

give_up() {
  say "$2" >&2
  exit "$1"
}

clean_up() {
  [ -z "$work" ] || rm -rf "$work"
}

# ---- the package sources of this machine, as deb-src

# The words of a line below, of /etc/os-release.
os_release() {
  # shellcheck disable=SC1091
  (. /etc/os-release && eval "printf '%s' \"\${$1:-}\"")
}

# One stanza of deb822 per source of the distribution itself: its suites are
# those of this release, and its key is the distribution's. A source that names
# no key gets that key, so that somebody else's does not verify.
#   $1 release (bookworm), $2 keyring, input: stanzas "types|uris|suites|..."
write_stanzas() {
  awk -F'|' -v release="$1" -v keyring="$2" '
    function ours(list, i, n, part, out) {
      n = split(list, part, " ")
      out = ""
      for (i = 1; i <= n; i++)
        if (part[i] == release || part[i] == release "-updates" ||
            part[i] == release "-security" || part[i] == release "/updates")
          out = out " " part[i]
      return out
    }
    function components(list, i, n, part, out) {
      n = split(list, part, " ")
      out = ""
      for (i = 1; i <= n; i++)
        if (part[i] == "main" || part[i] == "universe")
          out = out " " part[i]
      return out
    }
    {
      suites = ours($3)
      parts = components($4)
      key = $5
      if (suites == "" || parts == "" || $2 == "")
        next
      if (key != "" && key !~ /(debian|ubuntu)-archive-/)
        next
      if (key == "")
        key = keyring
      print "Types: deb-src"
      print "URIs: " $2
      print "Suites:" suites
      print "Components:" parts
      if (key != "")
        print "Signed-By: " key
      if ($6 != "")
        print "Trusted: " $6
      print ""
    }'
}

# Lines such as: deb [signed-by=FILE arch=amd64] URI SUITE COMPONENT...
read_lists() {
  for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$list" ] || continue
    awk '
      /^[ \t]*deb[ \t]/ {
        sub(/#.*/, "")
        key = ""; trusted = ""
        line = $0
        if (match(line, /\[[^]]*\]/)) {
          n = split(substr(line, RSTART + 1, RLENGTH - 2), option, " ")
          for (i = 1; i <= n; i++) {
            if (option[i] ~ /^signed-by=/)
              key = substr(option[i], 11)
            if (option[i] ~ /^trusted=/)
              trusted = substr(option[i], 9)
          }
          line = substr(line, 1, RSTART - 1) substr(line, RSTART + RLENGTH)
        }
        n = split(line, word, " ")
        components = ""
        for (i = 4; i <= n; i++)
          components = components " " word[i]
        print "deb|" word[2] "|" word[3] "|" components "|" key "|" trusted
      }' "$list"
  done
}

# Stanzas of "Field: value" lines, parted by empty lines.
read_stanzas() {
  for list in /etc/apt/sources.list.d/*.sources; do
    [ -r "$list" ] || continue
    awk '
      function done() {
        if ((" " value["types"] " ") ~ / deb / && value["enabled"] !~ /^no/)
          print "deb|" value["uris"] "|" value["suites"] "|" \
            value["components"] "|" value["signed-by"] "|" value["trusted"]
        split("", value)
        field = ""
      }
      /^#/ { next }
      /^[ \t]*$/ { done(); next }
      /^[ \t]/ {
        sub(/^[ \t]+/, "")
        if (field != "")
          value[field] = value[field] " " $0
        next
      }
      {
        colon = index($0, ":")
        field = tolower(substr($0, 1, colon - 1))
        text = substr($0, colon + 1)
        sub(/^[ \t]+/, "", text)
        value[field] = text
      }
      END { done() }' "$list"
  done
}

apt_sources() {
  release=$(os_release VERSION_CODENAME)
  [ -n "$release" ] || give_up $cannot "this release has no name"
  keyring=
  for file in /usr/share/keyrings/"$(os_release ID)"-archive-keyring.*; do
    if [ -r "$file" ]; then
      keyring=$file
    fi
  done
  { read_lists; read_stanzas; } | write_stanzas "$release" "$keyring"
}

# apt-get with its state below $work and only our sources.
own_apt() {
  apt-get -q -y \
    -o Dir::Etc::sourcelist=/dev/null \
    -o Dir::Etc::sourceparts="$work/sources.list.d" \
    -o Dir::State="$work/state" \
    -o Dir::State::lists="$work/state/lists" \
    -o Dir::State::status=/var/lib/dpkg/status \
    -o Dir::Cache="$work/cache" \
    -o Acquire::Languages=none \
    -o APT::Get::List-Cleanup=0 \
    -o Acquire::Retries=2 \
    "$@"
}

fetch_sources() {
  command -v apt-get >/dev/null 2>&1 ||
    give_up $cannot "no apt-get here, so no source packages; see the head of \
this script for how to give it sources"
  command -v dpkg-source >/dev/null 2>&1 ||
    give_up $cannot "dpkg-source is missing (Debian: dpkg-dev)"
  [ -r /etc/os-release ] || give_up $cannot "no /etc/os-release"
  mkdir -p "$work/sources.list.d" "$work/state/lists/partial" \
    "$work/cache/archives/partial" "$work/source"
  apt_sources >"$work/sources.list.d/npipe.sources"
  [ -s "$work/sources.list.d/npipe.sources" ] ||
    give_up $cannot "apt has no source of the distribution's own here"
  say "fetching the lists of source packages"
  # Its exit code is not asked: other hooks of the machine run there too.
  own_apt update >"$work/log" 2>&1 || true
  say "fetching the sources of libuv and cmocka"
  if ! (cd "$work/source" && own_apt source libuv1 cmocka) \
    >>"$work/log" 2>&1; then
    cat "$work/log" >&2
    give_up $cannot "the source packages could not be fetched"
  fi
}

# ---- building

source_folder() {
  for folder in "$work/source/$1"-[0-9]*; do
    if [ -d "$folder" ]; then
      printf '%s' "$folder"
      return 0
    fi
  done
  give_up 1 "no folder $1-* in the source package"
}

# $1 name, $2 source, the rest: options
build() {
  name=$1
  source=$2
  shift 2
  say "building $name ($(basename "$source"))"
  if ! {
    cmake -S "$source" -B "$work/$name" -G Ninja \
      -DCMAKE_TOOLCHAIN_FILE="$toolchain" -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_POLICY_VERSION_MINIMUM=3.5 \
      -DCMAKE_INSTALL_PREFIX="$work/prefix" "$@" &&
      cmake --build "$work/$name"
  } >"$work/$name.log" 2>&1; then
    cat "$work/$name.log" >&2
    give_up 1 "$name does not build"
  fi
}

build_libuv() {
  build libuv "$1" -DBUILD_TESTING=OFF -DLIBUV_BUILD_SHARED=OFF \
    -DLIBUV_BUILD_TESTS=OFF -DLIBUV_BUILD_BENCH=OFF
  cmake --install "$work/libuv" >>"$work/libuv.log" 2>&1 ||
    give_up 1 "libuv cannot be installed"
}

# By hand: not every version installs its static library, and a DLL would have
# to stand beside each test.
build_cmocka() {
  build cmocka "$1" -DWITH_STATIC_LIB=ON -DBUILD_SHARED_LIBS=OFF \
    -DUNIT_TESTING=OFF -DWITH_EXAMPLES=OFF \
    -DCMAKE_C_FLAGS=-D__USE_MINGW_ANSI_STDIO=1
  library=
  for name in libcmocka-static.a libcmocka.a; do
    if [ -z "$library" ]; then
      library=$(find "$work/cmocka" -name "$name" | head -n 1)
    fi
  done
  [ -n "$library" ] || give_up 1 "cmocka has built no static library"
  mkdir -p "$work/prefix/lib" "$work/prefix/include"
  cp "$library" "$work/prefix/lib/libcmocka-static.a"
  cp "$1"/include/cmocka*.h "$work/prefix/include/"
}

# ---- main

[ $# -eq 0 ] || give_up 2 "usage: sh scripts/mingw-deps.sh"
if [ -f "$stamp" ]; then
  say "$(tr '\n' ' ' <"$stamp")already in build/mingw-deps"
  exit 0
fi
for tool in x86_64-w64-mingw32-gcc cmake ninja; do
  command -v "$tool" >/dev/null 2>&1 || give_up $cannot "$tool is missing"
done

# Outside of the checkout, where apt's own user can go as well.
work=$(mktemp -d "${TMPDIR:-/tmp}/npipe-deps.XXXXXX")
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$work"

libuv=${NPIPE_LIBUV_SOURCE:-}
cmocka=${NPIPE_CMOCKA_SOURCE:-}
if [ -z "$libuv" ] || [ -z "$cmocka" ]; then
  fetch_sources
  libuv=${libuv:-$(source_folder libuv1)}
  cmocka=${cmocka:-$(source_folder cmocka)}
fi
build_libuv "$libuv"
build_cmocka "$cmocka"

mkdir -p "$root/build"
rm -rf "$prefix"
mv "$work/prefix" "$prefix"
{
  basename "$libuv"
  basename "$cmocka"
} >"$stamp"
say "done: build/mingw-deps"
