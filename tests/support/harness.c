/*
 * The main() of the test programs. A program started as a child (child.c)
 * plays its role instead of running tests; the words for that stand only here.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "child.h"

static int harness_begin(void** state) {
  (void) state;
  watchdog_start();
  return 0;
}

static int harness_end(void** state) {
  (void) state;
  watchdog_stop();
  return 0;
}

static int harness_play(const test_role roles[], const char* name,
                        const char* argument) {
  for (; roles && roles->name; roles++) {
    if (strcmp(roles->name, name) != 0) continue;
    watchdog_arm(name, TEST_SECONDS);
    int code = roles->play(argument);
    watchdog_stop();
    return code;
  }
  fprintf(stderr, "no such role: %s\n", name);
  return 99;
}

int harness_main(int argc, char** argv, const char* group,
                 const struct CMUnitTest tests[], size_t count,
                 const test_role roles[]) {
  if (argc == 4 && strcmp(argv[1], CHILD_WORD) == 0)
    return harness_play(roles, argv[2], argv[3]);
  if (argc == 2) cmocka_set_test_filter(argv[1]);
  return _cmocka_run_group_tests(group, tests, count, harness_begin,
                                 harness_end);
}
