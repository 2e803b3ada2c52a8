#!/bin/sh
# Checks what no compiler does:
#
#   - the layers: no system in what both systems share, no private header in
#     what uses the library from outside;
#   - the names: every symbol of the library begins with npipe_ or npi_;
#   - the files: no path of this machine, no product of a build.
#
#   sh scripts/check-layers.sh [LIBRARY.a...]
#
# Without arguments the libraries of build/linux and build/mingw are looked at,
# if they are there. Exit: 0 or 1; each offence is a line.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
found=$(mktemp "${TMPDIR:-/tmp}/npipe-check.XXXXXX")
trap 'rm -f "$found"' EXIT

report() { # $1 what; input: offences, a line each, perhaps none
  while IFS= read -r line; do
    printf 'check: %s: %s\n' "$1" "$line" >>"$found"
  done
}

# The lines of the files that match, as FILE:LINE:TEXT.
lines() { # $1 pattern, the rest: files
  pattern=$1
  shift
  [ $# -gt 0 ] || return 0
  grep -nE "$pattern" /dev/null "$@" || true
}

# ---- layers

# What a glob that matches nothing gives is no file.
existing() {
  for file in "$@"; do
    [ ! -f "$file" ] || printf '%s\n' "$file"
  done
}

includes='^[[:space:]]*#[[:space:]]*include[[:space:]]*'
systems='_WIN32|_WIN64|WIN32|__linux__|__linux|__APPLE__|__unix__|__unix'
systems="$systems|__FreeBSD__|__OpenBSD__|__NetBSD__|__sun|__CYGWIN__|__MINGW"
c11='assert|ctype|errno|float|inttypes|limits|stdalign|stdarg|stdatomic'
c11="$c11|stdbool|stddef|stdint|stdio|stdlib|string|time"

# shellcheck disable=SC2046 # file names of ours have no blanks
check_layers() {
  shared=$(existing src/*.c src/*.h include/*.h include/npipe/*.h)
  # shellcheck disable=SC2086
  lines "$includes<" $shared |
    { grep -vE "<(($c11)\.h|uv\.h)>" || true; } |
    report "a header of the system in the shared part"
  # shellcheck disable=SC2086
  lines "$includes\"(.*/)?(unix|win)/" $shared |
    report "a header of one backend in the shared part"
  # shellcheck disable=SC2086
  lines "^[[:space:]]*#.*($systems)" $shared |
    { grep -vE '^include/npipe\.h:[0-9]+:#(el)?if defined\(NPIPE_SHARED\)' ||
      true; } |
    report "the name of a system in the shared part"

  lines "${includes}[<\"](windows|winsock2|aclapi|sddl|io)\.h" \
    $(existing src/unix/*.c src/unix/*.h) | report "Windows in src/unix"
  lines "${includes}[<\"](unistd|fcntl|poll|dirent|sys/.*)\.h" \
    $(existing src/win/*.c src/win/*.h) | report "Unix in src/win"

  lines "$includes\"(.*/)?(internal|backend|codec|unix/.*|win/.*)(\.h)?\"" \
    $(existing examples/*.c tests/contract/*.c tests/contract/*.h) |
    report "a private header in what sees only the public ones"
}

# ---- symbols

# nm of the same kind of system as the library.
names_of() {
  case $1 in
    *mingw*)
      if command -v x86_64-w64-mingw32-nm >/dev/null 2>&1; then
        x86_64-w64-mingw32-nm -g "$1"
        return
      fi
      ;;
  esac
  nm -g "$1"
}

# Lines of nm: ADDRESS TYPE NAME. .refptr.X is how mingw reaches a variable X;
# macOS puts a _ before each name.
check_symbols() {
  names_of "$1" 2>/dev/null |
    awk 'NF == 3 && $2 != "U" && $2 != "w" && $2 != "v" { print $3 }' |
    sed 's/^\.refptr\.//' |
    { grep -vE '^_?(npipe_|npi_)' || true; } |
    sort -u | report "a symbol of $1 without npipe_ or npi_"
}

# ---- files

# What git has, or would have; without git, what is there.
files() {
  git ls-files --cached --others --exclude-standard 2>/dev/null ||
    find . -path ./build -prune -o -path ./.git -prune -o -type f -print
}

check_files() {
  { git ls-files 2>/dev/null || true; } |
    { grep -E '^build/|\.(o|obj|a|so|dylib|dll|lib|exe|pdb)$' || true; } |
    report "a product of a build is tracked"
  files | while IFS= read -r file; do
    [ -f "$file" ] || continue
    for path in "$root" "${HOME:-}"; do
      # Not /, and not such as /h that could stand for anything.
      [ ${#path} -gt 3 ] || continue
      grep -nIF -- "$path/" /dev/null "$file" || true
    done
  done | report "a path of this machine"
}

# ---- main

check_layers
check_files
if [ $# -eq 0 ]; then
  for library in build/linux/libnpipe.a build/mingw/libnpipe.a; do
    if [ -f "$library" ]; then
      set -- "$@" "$library"
    fi
  done
fi
for library in "$@"; do
  check_symbols "$library"
done

if [ -s "$found" ]; then
  cat "$found"
  printf 'check: offences: %d\n' "$(grep -c '' "$found")"
  exit 1
fi
printf 'check: layers, files and the symbols of %d libraries are right\n' $#
