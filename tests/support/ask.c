/*
 * Calls and waits that record: see ask.h.
 *
 * The connection below an npipe_call() or npipe_wait() belongs to the library,
 * which closes it behind the callback; until then it may be given up with
 * npipe_abort(), and so the world ends one that is still under way. That it
 * really was closed shows in the loop, which has to become empty.
 *
 * A call owns a copy of its request until the callback and a buffer for the
 * reply of exactly its size, as tasks.c does and for the same reasons.
 */
#include "ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pattern.h"

#define UNTOUCHED 0xA5

static test_ask* ask_of(test_thing* thing) {
  return (test_ask*) (void*) thing; /* its first member */
}

static void ask_close(test_thing* thing) {
  ask_abort(ask_of(thing));
}

static int ask_is_over(test_thing* thing) {
  return ask_of(thing)->calls > 0;
}

static void ask_check(test_thing* thing) {
  if (ask_of(thing)->calls != 1)
    world_violation(ask_of(thing)->world, "a call or wait called back twice");
}

static void ask_destroy(test_thing* thing) {
  free(ask_of(thing)->request);
  free(ask_of(thing)->reply);
  free(ask_of(thing));
}

static test_ask* ask_new(world* w, size_t room) {
  test_ask* ask = must_alloc(sizeof *ask);
  memset(ask, 0, sizeof *ask);
  ask->world = w;
  ask->room = room;
  ask->reply = room ? must_alloc(room) : NULL;
  if (room) memset(ask->reply, UNTOUCHED, room);
  ask->begun_ns = uv_hrtime();
  ask->thing.close = ask_close;
  ask->thing.is_over = ask_is_over;
  ask->thing.check = ask_check;
  ask->thing.destroy = ask_destroy;
  return ask;
}

static void ask_called(test_ask* ask, const char* what, int status,
                       size_t size) {
  ask->stamp = world_callback(ask->world, "ask", what, status, size);
  ask->ended_ns = uv_hrtime();
  ask->calls++;
  ask->status = status;
  ask->conn = NULL;
}

static void ask_hook(test_ask* ask) {
  if (ask->hook && !ask->world->ending) ask->hook(ask);
}

static void ask_on_call(int status, size_t size, unsigned flags, void* arg) {
  test_ask* ask = arg;
  ask_called(ask, "call", status, size);
  ask->size = size;
  ask->flags = flags;
  if (size > ask->room || (status < 0 && (size || flags)))
    world_violation(ask->world, "a call callback makes no sense");
  for (size_t i = size; i < ask->room; i++)
    if (ask->reply[i] != UNTOUCHED)
      world_violation(ask->world, "a call wrote behind what it reported");
  free(ask->request);
  ask->request = NULL;
  ask_hook(ask);
}

static void ask_on_wait(int status, void* arg) {
  test_ask* ask = arg;
  ask_called(ask, "wait", status, 0);
  ask_hook(ask);
}

static test_ask* ask_tried(test_ask* ask, int status) {
  if (status != 0) {
    if (ask->conn)
      world_violation(ask->world, "*conn is not NULL after a failure");
    ask_destroy(&ask->thing);
    return NULL;
  }
  world_adopt(ask->world, &ask->thing);
  return ask;
}

test_ask* call_try(world* w, const char* name, int timeout_ms,
                   const npipe_client_options* options, const char* text,
                   size_t room, int* status) {
  test_ask* ask = ask_new(w, room);
  size_t size = strlen(text);
  ask->request = must_alloc(size + 1);
  memcpy(ask->request, text, size + 1);
  uv_buf_t buf = uv_buf_init(ask->request, (unsigned) size);
  *status = CALL(w, npipe_call(&w->loop, name, timeout_ms, options, &buf, 1,
                               ask->reply, room, ask_on_call, ask, &ask->conn));
  return ask_tried(ask, *status);
}

test_ask* wait_try(world* w, const char* name, int timeout_ms,
                   const npipe_client_options* options, int* status) {
  test_ask* ask = ask_new(w, 0);
  *status = CALL(w, npipe_wait(&w->loop, name, timeout_ms, options, ask_on_wait,
                               ask, &ask->conn));
  return ask_tried(ask, *status);
}

static test_ask* ask_begun(test_ask* ask, const char* what, int status) {
  if (ask) return ask;
  fprintf(stderr, "%s failed at once: %s\n", what, status_name(status));
  abort();
}

test_ask* call_begin(world* w, const char* text, size_t room, int timeout_ms) {
  int status;
  test_ask* ask = call_try(w, w->name, timeout_ms, NULL, text, room, &status);
  return ask_begun(ask, "npipe_call", status);
}

test_ask* wait_begin(world* w, int timeout_ms) {
  int status;
  test_ask* ask = wait_try(w, w->name, timeout_ms, NULL, &status);
  return ask_begun(ask, "npipe_wait", status);
}

void ask_abort(test_ask* ask) {
  if (ask->calls > 0) return;
  world_enter(ask->world);
  npipe_abort(ask->conn, NULL, NULL);
  world_leave(ask->world, 0);
}

int ask_outcome(test_ask* ask) {
  RUN_UNTIL(ask->world, ask->calls > 0);
  return ask->status;
}

int ask_has_reply(const test_ask* ask, const char* text, unsigned flags) {
  size_t size = strlen(text);
  return ask->status == 0 && ask->size == size && ask->flags == flags &&
         (size == 0 || memcmp(ask->reply, text, size) == 0);
}
