#!/bin/sh
# Installs what is missing to build and test npipe, by the package manager that
# is there: apt-get, dnf, pacman or brew. As root directly, else with sudo. What
# is there already is left as it is, and if nothing is missing nothing is run.
#
#   sh scripts/setup.sh PART...
#
#   demo    compiler, cmake, ninja, libuv
#   native  demo, and what the tests need
#   clang   clang
#   mingw   mingw-w64, Wine, and what fetches source packages
#   check   shellcheck, clang-format
#   test    native; and, where they can be had, mingw and check
#
# Exit: 0 all is there; 1 an installation failed; 3 there is no package for it
# here; 2 wrong use.
set -eu

manager=
required=
optional=
lacking=    # wanted, and no package of it is known
into=required

say() { printf 'setup: %s\n' "$*"; }

have() { command -v "$1" >/dev/null 2>&1; }

find_manager() {
  for candidate in apt-get dnf pacman brew; do
    if have "$candidate"; then
      manager=$candidate
      return 0
    fi
  done
}

# ---- is it there?

compiles() { # options of the compiler
  dir=$(mktemp -d "${TMPDIR:-/tmp}/npipe-setup.XXXXXX")
  echo 'int main(void) { return 0; }' >"$dir/a.c"
  status=0
  "${CC:-cc}" "$@" -o "$dir/a" "$dir/a.c" >/dev/null 2>&1 || status=1
  rm -rf "$dir"
  return $status
}

has_library() { # name for pkg-config
  have pkg-config && pkg-config --exists "$1"
}

has_words() {
  [ -e /usr/share/dict/words ] || [ -e /usr/share/dict/american-english ]
}

has_cmake() {
  have cmake || return 1
  # Presets of version 3, and environments that tests change.
  cmake --version | awk 'NR == 1 {
    split($3, v, "."); exit !(v[1] > 3 || (v[1] == 3 && v[2] >= 22)) }'
}

has_sanitizers() {
  compiles -fsanitize=address,undefined && compiles -fsanitize=thread
}

# ---- what has to be there: want NAME APT DNF PACMAN BREW, "-" = no package

want() {
  case $manager in
    apt-get) packages=$2 ;;
    dnf) packages=$3 ;;
    pacman) packages=$4 ;;
    brew) packages=$5 ;;
    *) packages=- ;;
  esac
  case " $required $optional " in
    *" $packages "*) return 0 ;; # wanted by another part as well
  esac
  if [ "$packages" = - ]; then
    say "$1 is missing, and no package of it is known here"
    [ "$into" = optional ] || lacking="$lacking $1"
  elif [ "$into" = optional ]; then
    optional="$optional $packages"
  else
    required="$required $packages"
  fi
}

part_tools() {
  compiles || want "a C compiler" "gcc libc6-dev" "gcc glibc-devel" gcc -
  has_cmake || want cmake cmake cmake cmake cmake
  have ninja || want ninja ninja-build ninja-build ninja ninja
}

part_demo() {
  part_tools
  have pkg-config ||
    want pkg-config pkg-config pkgconf-pkg-config pkgconf pkgconf
  has_library libuv || want libuv libuv1-dev libuv-devel libuv libuv
}

# The strangers that tests talk to (node, socat) and the word list are not
# needed to build; a test that misses one says so.
part_native() {
  part_demo
  has_library cmocka || want cmocka libcmocka-dev libcmocka-devel cmocka cmocka
  if have "${CC:-cc}" && ! has_sanitizers; then
    want sanitizers - "libasan libubsan libtsan" - -
  fi
  keep=$into
  into=optional
  have node || want node nodejs nodejs nodejs node
  have socat || want socat socat socat socat socat
  has_words || want "a word list" wamerican words words -
  into=$keep
}

part_clang() {
  have clang || want clang clang clang clang -
}

part_mingw() {
  part_tools
  have x86_64-w64-mingw32-gcc || want mingw-w64 gcc-mingw-w64-x86-64 - - -
  have wine || want wine "wine wine64" - - -
  have dpkg-source || want dpkg-source dpkg-dev - - -
}

part_check() {
  have shellcheck ||
    want shellcheck shellcheck ShellCheck shellcheck shellcheck
  have clang-format || have clang-format-14 ||
    want clang-format clang-format clang-tools-extra clang -
}

part() {
  case $1 in
    demo | native | clang | mingw | check) "part_$1" ;;
    test)
      part_native
      into=optional
      part_mingw
      part_check
      into=required
      ;;
    *)
      echo "usage: sh scripts/setup.sh demo|native|clang|mingw|check|test..." >&2
      exit 2
      ;;
  esac
}

# ---- installing

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    say "neither root nor sudo; please run as root: $*" >&2
    return 1
  fi
}

# What a package manager says is shown only if it fails.
quietly() { # command
  if "$@" >"$log" 2>&1; then
    return 0
  fi
  cat "$log" >&2
  return 1
}

update_lists() {
  # A source of somebody else's that fails is no reason to stop.
  quietly as_root apt-get -q update ||
    say "apt-get update failed; trying with the lists that are there" >&2
}

install_packages() {
  say "installing: $*"
  case $manager in
    apt-get)
      quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y install --no-install-recommends "$@"
      ;;
    dnf) quietly as_root dnf -y install "$@" ;;
    pacman) quietly as_root pacman -Sy --needed --noconfirm "$@" ;;
    brew) quietly env HOMEBREW_NO_AUTO_UPDATE=1 brew install "$@" ;;
  esac
}

# ---- main

[ $# -gt 0 ] || part usage
find_manager
for name in "$@"; do
  part "$name"
done

[ -n "$required$optional" ] || [ -n "$lacking" ] || exit 0
log=$(mktemp "${TMPDIR:-/tmp}/npipe-setup.XXXXXX")
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM
if [ "$manager" = apt-get ] && [ -n "$required$optional" ]; then
  update_lists
fi
if [ -n "$required" ]; then
  # shellcheck disable=SC2086 # these are words
  install_packages $required || {
    say "could not install:$required" >&2
    exit 1
  }
fi
# One by one, so that one that cannot be had does not take the others along.
for package in $optional; do
  install_packages "$package" || say "could not install $package; going on" >&2
done
if [ -n "$lacking" ]; then
  say "please install:$lacking" >&2
  exit 3
fi
