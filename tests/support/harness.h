/* All of the harness, and the main() of a test program. */
#ifndef TESTS_SUPPORT_HARNESS_H
#define TESTS_SUPPORT_HARNESS_H

#include "ask.h"
#include "ends.h"
#include "look.h"
#include "os.h"
#include "pattern.h"
#include "stream.h"
#include "watchdog.h"
#include "wine.h"

/* A part that a copy of the test program plays in another process (child.h).
 * Its result is the exit code of that process. */
typedef struct test_role {
  const char* name;
  int (*play)(const char* argument);
} test_role;

/* Runs the tests; an argument is a pattern of the names to run (`rd7*`).
 * roles ends with a row of NULLs and may be NULL. */
int harness_main(int argc, char** argv, const char* group,
                 const struct CMUnitTest tests[], size_t count,
                 const test_role roles[]);

#define HARNESS_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif /* TESTS_SUPPORT_HARNESS_H */
