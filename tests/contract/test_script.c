/*
 * One scripted conversation, cut short after every single step by the close or
 * the abort of either end. Whatever is under way then, the world of the test
 * demands its callbacks (world.h), and here it is checked that the survivor
 * reads the right bytes and then the end:
 *
 *   npipe_close()  everything that was written, because somebody reads (CL1)
 *   npipe_abort()  everything that was reported as written, and nothing that
 *                  was not written; of what was pending (CL5) at most what the
 *                  survivor read before it knew
 *
 * Each write has a pattern of its own, so that the bytes tell where they are
 * from.
 */
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { WRITES_MAX = 16, READS_MAX = 64, ROOM = 100000 };

/* One end and all that was begun there. */
typedef struct script_side {
  test_end* end;
  test_task* writes[WRITES_MAX];
  size_t sizes[WRITES_MAX];
  uint32_t seeds[WRITES_MAX];
  unsigned written;
  test_task* reads[READS_MAX];
  unsigned read;
} script_side;

typedef enum script_kind {
  DO_WRITE,
  DO_READ,
  DO_FLUSH,
  DO_PEEK,
  DO_INFO,
  DO_CANCEL_WRITE, /* the last one */
  DO_RUN           /* the loop, for a while */
} script_kind;

typedef struct script_step {
  int by_server;
  script_kind kind;
  size_t size;
} script_step;

static const script_step script[] = {
    {0, DO_WRITE, 100},   {1, DO_READ, 4096},  {1, DO_WRITE, 3000},
    {0, DO_WRITE, 0},     {0, DO_READ, 1000},  {1, DO_FLUSH, 0},
    {0, DO_PEEK, 0},      {0, DO_RUN, 0},      {1, DO_WRITE, 70000},
    {0, DO_FLUSH, 0},     {0, DO_READ, 4096},  {1, DO_READ, 0},
    {0, DO_WRITE, 70000}, {1, DO_RUN, 0},      {1, DO_PEEK, 0},
    {1, DO_WRITE, 10},    {0, DO_READ, 80000}, {1, DO_INFO, 0},
    {0, DO_WRITE, 20},    {0, DO_WRITE, 30},   {0, DO_CANCEL_WRITE, 0},
    {1, DO_READ, 100000}, {0, DO_RUN, 0},      {0, DO_WRITE, 5},
    {1, DO_FLUSH, 0},
};

#define STEPS HARNESS_COUNT(script)

static void side_write(script_side* side, size_t size, uint32_t seed) {
  unsigned at = side->written++;
  side->writes[at] = write_pattern(side->end, size, seed);
  side->sizes[at] = size;
  side->seeds[at] = seed;
}

static test_task* side_read(script_side* side, size_t room) {
  CHECK(side->read < READS_MAX);
  return side->reads[side->read++] = read_begin(side->end, room);
}

/* Takes the last write back, if it is not too late. */
static void side_withdraw(script_side* side) {
  test_task* write = side->writes[side->written - 1];
  if (task_cancel(write) == 0) write->user = write;
}

static void step_play(world* w, script_side sides[2], size_t number) {
  const script_step* step = &script[number];
  script_side* side = &sides[step->by_server];
  switch (step->kind) {
    case DO_WRITE: side_write(side, step->size, (uint32_t) number); break;
    case DO_READ: side_read(side, step->size); break;
    case DO_FLUSH: flush_begin(side->end, NPIPE_WAIT_FOREVER); break;
    case DO_PEEK: CHECK_STATUS(0, peek_status(side->end)); break;
    case DO_INFO: CHECK_STATUS(0, info_status(side->end)); break;
    case DO_CANCEL_WRITE: side_withdraw(side); break;
    case DO_RUN: world_run_for(w, 3); break;
  }
}

/* All that the survivor has read, one after the other. */
static char* survivor_bytes(const script_side* side, size_t* size) {
  *size = 0;
  for (unsigned i = 0; i < side->read; i++) *size += side->reads[i]->size;
  char* bytes = must_alloc(*size);
  size_t at = 0;
  for (unsigned i = 0; i < side->read; i++) {
    const test_task* task = side->reads[i];
    if (task->size) memcpy(bytes + at, task->data, task->size);
    at += task->size;
  }
  return bytes;
}

/* What was read has to be a beginning of what was written, and all of it up to
 * the last write that was reported. A cancelled write that was not withdrawn
 * is one that the closing has cut off. */
static void survivor_check(const script_side* closer,
                           const script_side* survivor, int aborted) {
  size_t size, at = 0;
  char* bytes = survivor_bytes(survivor, &size);
  for (unsigned i = 0; i < closer->written; i++) {
    const test_task* write = closer->writes[i];
    if (write->status == UV_ECANCELED && write->user) continue; /* withdrawn */
    size_t there = size - at < closer->sizes[i] ? size - at : closer->sizes[i];
    CHECK(pattern_holds(bytes + at, there, closer->seeds[i], 0));
    at += there;
    if (!aborted) CHECK_STATUS(0, write->status);
    if (write->status == 0) CHECK_SIZE(closer->sizes[i], there);
    if (write->status != 0) CHECK_STATUS(UV_ECANCELED, write->status);
  }
  CHECK_SIZE(size, at); /* and not a byte that nobody has written */
  free(bytes);
}

static void survivor_read_all(script_side* survivor) {
  for (;;) {
    test_task* task = side_read(survivor, ROOM);
    if (task_outcome(task) == 0) continue;
    CHECK_STATUS(UV_EOF, task->status);
    return;
  }
}

static void script_cut(world* w, npipe_type type, size_t steps,
                       int server_closes, int aborted) {
  test_pair pair = pair_of(w, type);
  script_side sides[2] = {{.end = pair.client}, {.end = pair.server}};
  for (size_t i = 0; i < steps; i++) step_play(w, sides, i);
  script_side* closer = &sides[server_closes];
  script_side* survivor = &sides[!server_closes];
  if (aborted)
    end_abort(closer->end);
  else
    end_close(closer->end);
  survivor_read_all(survivor);
  RUN_UNTIL(w, closer->end->closes == 1);
  survivor_check(closer, survivor, aborted);
  CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(survivor->end, "x", 1)));
  pair_shut(&pair);
}

static void script_all(world* w, npipe_type type, int aborted) {
  for (size_t steps = 0; steps <= STEPS; steps++) {
    script_cut(w, type, steps, 0, aborted);
    script_cut(w, type, steps, 1, aborted);
  }
}

static void close_after_every_step_on_a_byte_pipe(void** state) {
  script_all(*state, NPIPE_BYTE, 0);
}

static void close_after_every_step_on_a_message_pipe(void** state) {
  script_all(*state, NPIPE_MESSAGE, 0);
}

static void abort_after_every_step_on_a_byte_pipe(void** state) {
  script_all(*state, NPIPE_BYTE, 1);
}

static void abort_after_every_step_on_a_message_pipe(void** state) {
  script_all(*state, NPIPE_MESSAGE, 1);
}

/* The server throws the client out after every step. */
static void disconnect_after_every_step(void** state) {
  world* w = *state;
  for (size_t steps = 0; steps <= STEPS; steps++) {
    for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
      test_pair pair = pair_of(w, (npipe_type) type);
      script_side sides[2] = {{.end = pair.client}, {.end = pair.server}};
      for (size_t i = 0; i < steps; i++) step_play(w, sides, i);
      CHECK_STATUS(0, end_disconnect(pair.server));
      for (int i = 0; i < 2; i++) {
        EXPECT_STATUS(sides[i].end, 8, UV_ECONNABORTED);
        for (unsigned k = 0; k < sides[i].written; k++) {
          int status = task_outcome(sides[i].writes[k]);
          if (status != 0 && status != UV_ECANCELED)
            CHECK_STATUS(UV_ECONNABORTED, status);
        }
      }
      pair_shut(&pair);
    }
  }
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(close_after_every_step_on_a_byte_pipe),
      TEST(close_after_every_step_on_a_message_pipe),
      TEST(abort_after_every_step_on_a_byte_pipe),
      TEST(abort_after_every_step_on_a_message_pipe),
      TEST(disconnect_after_every_step),
  };
  return harness_main(argc, argv, "script", tests, HARNESS_COUNT(tests), NULL);
}
