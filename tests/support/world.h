/*
 * The world of one test: a loop, the pipe name of the test, and everything the
 * test has opened.
 *
 * A world is made before the test and ended after it. Ending closes what is
 * still open, waits for it, and then demands of the library what npipe.h
 * promises for every test:
 *
 *   - each operation that was begun has called back exactly once, and never
 *     inside an API call;
 *   - the close callback of a handle was its last one;
 *   - the loop is empty and can be closed.
 *
 * Callbacks record and bodies check (check.h): what is found wrong inside a
 * callback is kept as the violation of the world and fails the test at the
 * next turn of the loop.
 *
 * A world belongs to one thread. Its functions that check may be used on the
 * main thread only.
 */
#ifndef TESTS_SUPPORT_WORLD_H
#define TESTS_SUPPORT_WORLD_H

#include <npipe.h>

#include "check.h"

#define WAIT_SECONDS 15u /* for one RUN_UNTIL */
#define TEST_SECONDS 40u /* for one test */
#define NOTES_KEPT 24    /* last events, shown when a test fails */
#define NOTE_BYTES 96

/* Set by the rest of the harness: something that was opened in a world. */
typedef struct test_thing {
  struct test_thing* next;
  void (*close)(struct test_thing* thing);  /* may be called twice */
  int (*is_over)(struct test_thing* thing); /* nothing more will come */
  void (*check)(struct test_thing* thing);  /* after all is over */
  void (*destroy)(struct test_thing* thing);
} test_thing;

typedef struct world {
  uv_loop_t loop;
  char name[NPIPE_NAME_BYTES]; /* a pipe name for this test alone */
  uv_timer_t alarm;
  int alarm_rang;
  uint64_t wait_end; /* of the running RUN_UNTIL, uv_hrtime() */
  test_thing* things;
  int inside;     /* API calls under way in this thread: 0, or 1 and more */
  int ending;     /* no hook is called any more */
  unsigned stamp; /* the number of the last callback */
  unsigned noted;
  char notes[NOTES_KEPT][NOTE_BYTES];
  char violation[NOTE_BYTES];
} world;

/* One row of a table of tests; the function gets its world as *state. */
#define TEST(function) \
  { #function, function, world_setup, world_teardown, (void*) #function }

/* Runs the loop until the condition holds; fails the test if that takes longer
 * than WAIT_SECONDS or a violation is found. */
#define RUN_UNTIL(w, condition) \
  do { \
    world_wait_begin((w), #condition); \
    while (!(condition)) { \
      world_wait_turn((w), #condition, __FILE__, __LINE__); \
    } \
    world_wait_end((w)); \
  } while (0)

/* Makes an API call that returns an int, and knows that it is under way. */
#define CALL(w, call) (world_enter(w), world_leave((w), (call)))

int world_setup(void** state);
int world_teardown(void** state);

/* The same for a world that is no test's, e.g. on a second thread. */
world* world_new(void);
/* Ends the world without checking; NULL if all was well, else what was not. */
const char* world_end(world* w);

/* A name that no other test uses, now or in a parallel run. */
void unique_name(char name[NPIPE_NAME_BYTES]);

/* Runs the loop for so long, so that all that is on its way arrives. */
void world_run_for(world* w, unsigned ms);
/* As above for a time that is enough for local pipes. */
void world_settle(world* w);

void world_enter(world* w);
int world_leave(world* w, int result);

/* Called first in each callback: stamps it and notes the event. */
unsigned world_callback(world* w, const char* who, const char* what, int status,
                        size_t size);
void world_violation(world* w, const char* text);
void world_adopt(world* w, test_thing* thing);

/* The steps of RUN_UNTIL. */
void world_wait_begin(world* w, const char* what);
void world_wait_turn(world* w, const char* what, const char* file, int line);
void world_wait_end(world* w);

#endif /* TESTS_SUPPORT_WORLD_H */
