/* One npipe_call() or npipe_wait() that records what happens to it. */
#ifndef TESTS_SUPPORT_ASK_H
#define TESTS_SUPPORT_ASK_H

#include "world.h"

typedef struct test_ask {
  test_thing thing;
  world* world;
  npipe_conn* conn; /* NULL after the callback */
  unsigned calls;
  int status;
  size_t size;    /* call */
  unsigned flags; /* call */
  unsigned stamp;
  uint64_t begun_ns; /* uv_hrtime() before the call */
  uint64_t ended_ns; /* and in the callback */
  char* request;     /* freed in the callback */
  unsigned char* reply;
  size_t room;
  void (*hook)(struct test_ask* ask);
  void* user;
} test_ask;

/* Starts: npipe_call() with a text as request; NULL, and *status set, if the
 * call itself failed. */
test_ask* call_try(world* w, const char* name, int timeout_ms,
                   const npipe_client_options* options, const char* text,
                   size_t room, int* status);
/* Starts: npipe_wait(). */
test_ask* wait_try(world* w, const char* name, int timeout_ms,
                   const npipe_client_options* options, int* status);
/* Start; have to succeed, abort the program if not. Name and options are those
 * of the world and the defaults. */
test_ask* call_begin(world* w, const char* text, size_t room, int timeout_ms);
test_ask* wait_begin(world* w, int timeout_ms);

/* Starts: gives up by npipe_abort(). */
void ask_abort(test_ask* ask);
/* Waits for the callback; its status. */
int ask_outcome(test_ask* ask);
int ask_has_reply(const test_ask* ask, const char* text, unsigned flags);

#endif /* TESTS_SUPPORT_ASK_H */
