/*
 * Checks on top of cmocka, whose header wants these four before it.
 *
 * A check ends the test by a long jump. It therefore belongs into the body of
 * a test or into a helper called from there, never into a callback: callbacks
 * record, bodies check.
 */
#ifndef TESTS_SUPPORT_CHECK_H
#define TESTS_SUPPORT_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Fails the test unless expr, a status, is the one wanted; names both. */
#define CHECK_STATUS(want, expr) \
  check_status((want), (expr), #expr, __FILE__, __LINE__)

/* Fails the test unless the condition holds. */
#define CHECK(condition) \
  check_true((condition) ? 1 : 0, #condition, __FILE__, __LINE__)

/* Fails the test unless two sizes are equal; prints both in decimal. */
#define CHECK_SIZE(want, expr) \
  check_size((size_t) (want), (size_t) (expr), #expr, __FILE__, __LINE__)

void check_status(int want, int got, const char* what, const char* file,
                  int line);
void check_true(int holds, const char* what, const char* file, int line);
void check_size(size_t want, size_t got, const char* what, const char* file,
                int line);

/* "UV_EOF", "0" or a number; static storage. */
const char* status_name(int status);

#endif /* TESTS_SUPPORT_CHECK_H */
