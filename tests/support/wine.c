/*
 * The list of what Wine 8 does otherwise than Windows, as far as a contract
 * test sees it. Nothing is skipped under Wine that is not named here, and
 * nothing is skipped on Windows itself. Tried with Wine 10, too (Debian 13's):
 * all of it is still so, but OP6, which was not tried there.
 */
#include "wine.h"

#include <string.h>

#include "os.h"

static const struct {
  const char* rule;
  const char* reason;
} wine_list[] = {
    {"OP6", "the access list of a pipe is stored but not enforced"},
    {"PK5", "FSCTL_PIPE_PEEK never tells the number of messages"},
    {"LN7", "an instance that listens cannot be disconnected: it goes on"},
    {"CR10", "all instances of a name have the quotas of the first one"},
    {"FL1", "a flush waits until the pipe is empty, also for later writes"},
};

int wine_differs(const char* rule) {
  if (!os_under_wine()) return 0;
  for (size_t i = 0; i < sizeof wine_list / sizeof wine_list[0]; i++) {
    if (strcmp(wine_list[i].rule, rule) != 0) continue;
    print_message("skip: WINE: %s: %s\n", rule, wine_list[i].reason);
    return 1;
  }
  return 0;
}
