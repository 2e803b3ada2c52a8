/*
 * The world of a test: see world.h for what it promises.
 *
 * Things are kept in one list, newest first, and closed in that order. Waiting
 * uses one timer, the alarm, only to wake the loop at the deadline; it is
 * active only while the test waits, so that it never keeps a loop alive that
 * the library has let go.
 *
 * Trap: a failed check jumps out of the body of a test and leaves things open.
 * The end of the world runs after it all the same and closes them, with a
 * deadline of its own, because the library may be what is broken.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

#include "pattern.h"
#include "watchdog.h"

#define MS_NS 1000000u
#define SETTLE_MS 40u

static void world_on_alarm(uv_timer_t* timer) {
  world* w = timer->data;
  w->alarm_rang = 1;
}

void unique_name(char name[NPIPE_NAME_BYTES]) {
  static unsigned counter; /* main thread only */
  counter++;
  snprintf(name, NPIPE_NAME_BYTES, "npipe-test-%ld-%u", (long) uv_os_getpid(),
           counter);
}

world* world_new(void) {
  world* w = must_alloc(sizeof *w);
  *w = (world){.things = NULL};
  if (uv_loop_init(&w->loop) != 0) abort();
  if (uv_timer_init(&w->loop, &w->alarm) != 0) abort();
  w->alarm.data = w;
  return w;
}

int world_setup(void** state) {
  const char* test = *state;
  watchdog_arm(test, TEST_SECONDS);
  world* w = world_new();
  unique_name(w->name);
  *state = w;
  return 0;
}

static void world_show_notes(const world* w) {
  unsigned first = w->noted > NOTES_KEPT ? w->noted - NOTES_KEPT : 0;
  for (unsigned i = first; i < w->noted; i++)
    fprintf(stderr, "  %s\n", w->notes[i % NOTES_KEPT]);
}

static void world_alarm_set(world* w, uint64_t ms) {
  w->alarm_rang = 0;
  uv_update_time(&w->loop);
  uv_timer_start(&w->alarm, world_on_alarm, ms, 0);
}

/* Closes all things and waits until each is over. */
static const char* world_close_things(world* w) {
  w->ending = 1; /* what a hook points to may have gone with the test */
  for (test_thing* t = w->things; t; t = t->next) t->close(t);
  world_alarm_set(w, WAIT_SECONDS * 1000u);
  for (test_thing* t = w->things; t; t = t->next) {
    while (!t->is_over(t)) {
      if (w->alarm_rang) return "a close or another callback never came";
      uv_run(&w->loop, UV_RUN_ONCE);
    }
  }
  uv_timer_stop(&w->alarm);
  return NULL;
}

/* Runs the loop until nothing is left on it. */
static const char* world_empty_loop(world* w) {
  world_alarm_set(w, WAIT_SECONDS * 1000u);
  uv_unref((uv_handle_t*) &w->alarm);
  while (uv_loop_alive(&w->loop)) {
    if (w->alarm_rang) {
      uv_print_active_handles(&w->loop, stderr);
      return "the loop does not become empty";
    }
    uv_run(&w->loop, UV_RUN_ONCE);
  }
  uv_close((uv_handle_t*) &w->alarm, NULL);
  uv_run(&w->loop, UV_RUN_DEFAULT);
  if (uv_loop_close(&w->loop) == 0) return NULL;
  uv_print_all_handles(&w->loop, stderr);
  return "the loop is not empty: uv_loop_close() is busy";
}

/* A world that did not end well is left as it is: its callbacks may still come
 * in a broken library, and the program is about to end in failure. */
const char* world_end(world* w) {
  watchdog_step("closing all that is open");
  const char* wrong = world_close_things(w);
  if (wrong == NULL) wrong = world_empty_loop(w);
  if (wrong != NULL) {
    world_show_notes(w);
    return wrong;
  }
  for (test_thing* t = w->things; t; t = t->next) t->check(t);
  if (w->violation[0]) {
    static char text[NOTE_BYTES]; /* outlives the world */
    snprintf(text, sizeof text, "%s", w->violation);
    wrong = text;
    world_show_notes(w);
  }
  while (w->things) {
    test_thing* t = w->things;
    w->things = t->next;
    t->destroy(t);
  }
  free(w);
  return wrong;
}

int world_teardown(void** state) {
  const char* wrong = world_end(*state);
  watchdog_arm(NULL, 0);
  if (wrong == NULL) return 0;
  print_error("at the end of the test: %s\n", wrong);
  return -1;
}

void world_adopt(world* w, test_thing* thing) {
  thing->next = w->things;
  w->things = thing;
}

void world_enter(world* w) {
  w->inside++;
}

int world_leave(world* w, int result) {
  w->inside--;
  return result;
}

void world_violation(world* w, const char* text) {
  if (w->violation[0] == 0)
    snprintf(w->violation, sizeof w->violation, "%s", text);
}

unsigned world_callback(world* w, const char* who, const char* what, int status,
                        size_t size) {
  char* note = w->notes[w->noted % NOTES_KEPT];
  w->noted++;
  snprintf(note, NOTE_BYTES, "%s %s: %s, %zu", who, what, status_name(status),
           size);
  if (w->inside) {
    snprintf(w->violation, sizeof w->violation,
             "the %s callback of the %s came inside an API call", what, who);
  }
  return ++w->stamp;
}

void world_wait_begin(world* w, const char* what) {
  watchdog_step(what);
  w->wait_end = uv_hrtime() + (uint64_t) WAIT_SECONDS * 1000u * MS_NS;
  world_alarm_set(w, WAIT_SECONDS * 1000u);
}

void world_wait_turn(world* w, const char* what, const char* file, int line) {
  uv_run(&w->loop, UV_RUN_ONCE);
  const char* wrong = NULL;
  if (w->violation[0])
    wrong = w->violation;
  else if (uv_hrtime() > w->wait_end)
    wrong = "this never came true";
  if (wrong == NULL) return;
  uv_timer_stop(&w->alarm);
  print_error("%s; waiting for: %s\nlast events:\n", wrong, what);
  world_show_notes(w);
  _fail(file, line);
}

void world_wait_end(world* w) {
  uv_timer_stop(&w->alarm);
  watchdog_step(NULL);
  if (w->violation[0] == 0) return;
  print_error("%s\n", w->violation);
  world_show_notes(w);
  fail();
}

void world_run_for(world* w, unsigned ms) {
  watchdog_step("running the loop for a while");
  world_alarm_set(w, ms);
  while (!w->alarm_rang) uv_run(&w->loop, UV_RUN_ONCE);
  world_wait_end(w);
}

void world_settle(world* w) {
  world_run_for(w, SETTLE_MS);
}
