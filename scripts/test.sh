#!/bin/sh
# Installs what is missing, then builds npipe and runs its tests.
#
#   sh scripts/test.sh             linux asan tsan mingw check
#   sh scripts/test.sh PRESET...   only these, of: linux clang asan tsan mingw
#                                  check
#
# linux, clang, asan, tsan and mingw are CMake presets (CMakePresets.json);
# mingw is the Windows build, run by Wine. check looks at the sources and
# scripts. Run without arguments, what cannot be had on this machine counts as
# skipped, with the reason; what was asked for by name then counts as failed.
#
# The last line is "N passed, N failed, N skipped", in tests of CTest and
# checks; single cases that were skipped inside a test are listed before it.
# Exit: 0 if nothing failed, else 1. The logs are in build/PRESET.
set -eu

cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)"
cannot=3
all_passed=0
all_failed=0
all_skipped=0
summary=
named=1

usage() {
  echo "usage: sh scripts/test.sh [linux|clang|asan|tsan|mingw|check]..." >&2
  exit 2
}

say() { printf '== %s\n' "$*"; }

jobs_here() {
  getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2
}

# $1 preset, $2 passed, $3 failed, $4 skipped, $5 remark
count() {
  all_passed=$((all_passed + $2))
  all_failed=$((all_failed + $3))
  all_skipped=$((all_skipped + $4))
  line="$1: $2 passed, $3 failed, $4 skipped$5"
  say "$line"
  summary="$summary$line
"
}

# This preset cannot be had here: skipped, unless it was asked for.
unavailable() { # $1 preset, $2 why
  if [ "$named" -eq 1 ]; then
    count "$1" 0 1 0 " (cannot be run here: $2)"
  else
    count "$1" 0 0 1 " (cannot be run here: $2)"
  fi
}

# ---- a preset: configure, build, ctest

logged() { # $1 log, the rest: command
  log=$1
  shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 60 "$log"
    return 1
  fi
}

# One attribute of the test suite in CTest's JUnit file.
suite_number() { # $1 file, $2 attribute
  sed -n "1,12s/.*[[:space:]]$2=\"\([0-9]*\)\".*/\1/p" "$1" | head -n 1
}

# The cases that were skipped inside the tests: TEST: CASE: REASON
skipped_cases() { # $1 CTest's log
  awk '
    /^[0-9]+\/[0-9]+ Test: / { test = $3; why = "" }
    /^skip: / { why = substr($0, 7) }
    /^\[ RUN      \] / { why = "" }
    /^\[  SKIPPED \] [^ ]+\r?$/ {
      sub(/\r$/, "")
      if (!((test, $4) in seen))
        print test ": " $4 ": " (why == "" ? "no reason given" : why)
      seen[test, $4] = 1
    }' "$1"
}

# The tests that were skipped as a whole, with the last line they said.
skipped_tests() { # $1 JUnit file, $2 CTest's log
  sed -n '/<testcase /h
    /<skipped message="SKIP_RETURN_CODE/{
      g
      s/.*<testcase name="\([^"]*\)".*/\1/p
    }' "$1" | while IFS= read -r test; do
    awk -v test="$test" '
      /^[0-9]+\/[0-9]+ Test: / { found = ($3 == test); next }
      /^Output:/ { here = found; next }
      /^<end of output>/ { here = 0 }
      here && !/^-*$/ { last = $0 }
      END { print test ": " (last == "" ? "no reason given" : last) }' "$2"
  done
}

# Sets passed, failed and skipped from what CTest left. A test that could not
# be started is a "skipped" one to JUnit, but a failed one to us.
count_results() { # $1 JUnit file, $2 exit code of ctest
  passed=0
  failed=0
  skipped=0
  if [ -s "$1" ]; then
    tests=$(suite_number "$1" tests)
    failed=$(suite_number "$1" failures)
    not_run=$(suite_number "$1" skipped)
    disabled=$(suite_number "$1" disabled)
    skipped=$(grep -c '<skipped message="SKIP_RETURN_CODE' "$1" || true)
    passed=$((tests - failed - not_run - disabled))
    failed=$((failed + not_run - skipped))
    skipped=$((skipped + disabled))
  fi
  if [ "$2" -ne 0 ] && [ "$failed" -eq 0 ]; then
    failed=1
  fi
}

run_ctest() { # $1 preset
  results=$PWD/build/$1/junit.xml
  log=build/$1/Testing/Temporary/LastTest.log
  rm -f "$results" "$log"
  status=0
  ctest --preset "$1" -j "$(jobs_here)" --output-junit "$results" || status=$?
  count_results "$results" $status
  cases=
  if [ -s "$results" ] && [ -s "$log" ]; then
    cases=$(skipped_cases "$log")
    skipped_tests "$results" "$log" | sed "s/^/   skipped test: /"
  fi
  remark=
  if [ -n "$cases" ]; then
    printf '%s\n' "$cases" | sed 's/^/   skipped case: /'
    remark=", $(printf '%s\n' "$cases" | grep -c '') cases skipped"
  fi
}

run_preset() { # $1 preset
  begin=$(date +%s)
  say "$1: building"
  mkdir -p "build/$1"
  if ! logged "build/$1/configure.log" cmake --preset "$1"; then
    count "$1" 0 1 0 " (cmake failed)"
    return 0
  fi
  if ! logged "build/$1/build.log" cmake --build --preset "$1"; then
    count "$1" 0 1 0 " (the build failed)"
    return 0
  fi
  say "$1: testing"
  run_ctest "$1"
  count "$1" "$passed" "$failed" "$skipped" \
    "$remark ($(($(date +%s) - begin)) s)"
}

run_mingw() {
  for tool in x86_64-w64-mingw32-gcc wine wineserver; do
    if ! command -v "$tool" >/dev/null 2>&1; then
      unavailable mingw "$tool is missing"
      return 0
    fi
  done
  status=0
  sh scripts/mingw-deps.sh || status=$?
  if [ $status -eq $cannot ]; then
    unavailable mingw "no libuv and cmocka for Windows"
  elif [ $status -ne 0 ]; then
    count mingw 0 1 0 " (libuv or cmocka for Windows failed)"
  else
    trap 'sh scripts/wine-run.sh --stop' EXIT
    trap 'exit 1' HUP INT TERM
    run_preset mingw
    sh scripts/wine-run.sh --stop
    trap - EXIT HUP INT TERM
  fi
}

run_clang() {
  if command -v clang >/dev/null 2>&1; then
    run_preset clang
  else
    unavailable clang "clang is missing"
  fi
}

# ---- check: the sources and scripts. Each returns 0, 1 or 77 (not here).

c_files() {
  find include src tests examples bench -name '*.[ch]' 2>/dev/null
}

clang_format() {
  for candidate in clang-format-14 clang-format; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" --version | grep -q 'version 14\.'; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

check_scripts() {
  if ! command -v shellcheck >/dev/null 2>&1; then
    echo "   shellcheck is missing"
    return 77
  fi
  # -x: also what a script reads; a leading variable stands for this folder.
  # shellcheck disable=SC2046 # file names of ours have no blanks
  shellcheck .ci/run && shellcheck -s sh -x -P . \
    $(find scripts examples -name '*.sh') $(find tests -name 'test_*.sh')
}

check_format() {
  if ! program=$(clang_format); then
    echo "   clang-format 14 is missing; others lay out differently"
    return 77
  fi
  status=0
  for file in $(c_files | sort); do
    if ! "$program" --dry-run -Werror "$file" >/dev/null 2>&1; then
      echo "   not laid out by .clang-format: $file"
      status=1
    fi
  done
  return $status
}

check_layers() {
  sh scripts/check-layers.sh
}

run_check() {
  passed=0
  failed=0
  skipped=0
  for what in scripts format layers; do
    say "check: $what"
    status=0
    "check_$what" || status=$?
    case $status in
      0) passed=$((passed + 1)) ;;
      77) skipped=$((skipped + 1)) ;;
      *) failed=$((failed + 1)) ;;
    esac
  done
  count check $passed $failed $skipped ""
}

# ---- main

parts_of() { # the parts of scripts/setup.sh for these presets
  for name in "$@"; do
    case $name in
      linux | asan | tsan) echo native ;;
      clang) echo native clang ;;
      mingw | check) echo "$name" ;;
      *) return 1 ;;
    esac
  done
}

if [ $# -eq 0 ]; then
  named=0
  set -- linux asan tsan mingw check
  parts='test'
else
  parts=$(parts_of "$@") || usage
fi

begin_all=$(date +%s)
say "set-up"
status=0
# shellcheck disable=SC2086 # these are words
sh scripts/setup.sh $parts || status=$?
if [ $status -ne 0 ]; then
  say "not all of it could be installed; going on with what is there"
fi

for preset in "$@"; do
  case $preset in
    mingw | clang | check) "run_$preset" ;;
    *) run_preset "$preset" ;;
  esac
done

say "summary ($(($(date +%s) - begin_all)) s)"
printf '%s' "$summary"
printf '%d passed, %d failed, %d skipped\n' \
  $all_passed $all_failed $all_skipped
[ $all_failed -eq 0 ]
