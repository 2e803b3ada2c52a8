/*
 * What is known to differ under Wine. A test asks by the id of its rule; if
 * the rule is on the list in wine.c, the test is skipped and says why.
 */
#ifndef TESTS_SUPPORT_WINE_H
#define TESTS_SUPPORT_WINE_H

#include "check.h"

/* Skips the test of this rule under Wine, if wine.c lists the rule. */
#define SKIP_IF_WINE_DIFFERS(rule) \
  do { \
    if (wine_differs(rule)) skip(); \
  } while (0)

/* Skips the test; where is the system or the condition. */
#define SKIP_BECAUSE(where, why) \
  do { \
    print_message("skip: %s: %s\n", (where), (why)); \
    skip(); \
  } while (0)

/* Prints the reason and returns 1 under Wine if it differs there. */
int wine_differs(const char* rule);

#endif /* TESTS_SUPPORT_WINE_H */
