/*
 * Checks that print what they saw. Statuses are printed by name, because
 * cmocka would show a negative number as sixteen hexadecimal digits.
 *
 * Each check fails through cmocka's _fail(), so that the report names the line
 * of the test and not this file.
 */
#include "check.h"

#include <stdio.h>

#include <uv.h>

const char* status_name(int status) {
  if (status == 0) return "0";
  return status < 0 ? uv_err_name(status) : "a positive number";
}

void check_status(int want, int got, const char* what, const char* file,
                  int line) {
  if (want == got) return;
  print_error("%s: wanted %s, got %s (%d)\n", what, status_name(want),
              status_name(got), got);
  _fail(file, line);
}

void check_true(int holds, const char* what, const char* file, int line) {
  if (holds) return;
  print_error("does not hold: %s\n", what);
  _fail(file, line);
}

void check_size(size_t want, size_t got, const char* what, const char* file,
                int line) {
  if (want == got) return;
  print_error("%s: wanted %zu, got %zu\n", what, want, got);
  _fail(file, line);
}
