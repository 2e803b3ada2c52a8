/*
 * A thread that ends the test program when a test hangs, whatever its loop is
 * doing, and says which test and which step it was.
 */
#ifndef TESTS_SUPPORT_WATCHDOG_H
#define TESTS_SUPPORT_WATCHDOG_H

/* Starts and ends the thread; from the main thread. A second start does
 * nothing. */
void watchdog_start(void);
void watchdog_stop(void);

/* The test of this name may take so many seconds from now on. The program as a
 * whole has 55, less than what CTest allows, unless NPIPE_TEST_SECONDS gives
 * another number; the sooner of the two counts. name has to stay valid until
 * the next call; NULL = no test is running. */
void watchdog_arm(const char* name, unsigned seconds);

/* What is being done now; a literal, or NULL. From any thread. */
void watchdog_step(const char* step);

#endif /* TESTS_SUPPORT_WATCHDOG_H */
