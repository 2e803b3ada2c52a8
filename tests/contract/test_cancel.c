/*
 * Cancelling: CN1 to CN3. A waiting client is in test_open.c, a flush in
 * test_flush.c, a listen in test_listen.c, a transaction in test_transact.c.
 */
#include <string.h>

#include "harness.h"

/* ------------------------------------------------- CN1: how it ends */

static void cn1_a_cancelled_read_says_so_once(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    test_task* task = read_begin(pair.server, 8);
    world_settle(w);
    CHECK_STATUS(0, task_cancel(task));
    CHECK_SIZE(0, task->calls); /* not inside the call */
    CHECK_STATUS(UV_ENOENT, task_cancel(task));
    CHECK_STATUS(UV_ECANCELED, task_outcome(task));
    CHECK_SIZE(0, task->size);
    CHECK_STATUS(UV_ENOENT, task_cancel(task));
    world_settle(w);
    CHECK_SIZE(1, task->calls);
    pair_shut(&pair);
  }
}

static void cn1_cancel_in_the_turn_of_the_read(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    test_task* task = read_begin(pair.client, 8);
    CHECK_STATUS(0, task_cancel(task));
    CHECK_STATUS(UV_ECANCELED, task_outcome(task));
    test_task* probe = read_begin(pair.client, 0);
    CHECK_STATUS(0, task_cancel(probe));
    CHECK_STATUS(UV_ECANCELED, task_outcome(probe));
    send_text(pair.server, "x");
    EXPECT_TEXT(pair.client, 8, "x", 0);
    pair_shut(&pair);
  }
}

static void cn1_what_is_done_cannot_be_cancelled(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* write = write_begin(pair.client, "x", 1);
  CHECK_STATUS(0, task_outcome(write));
  test_task* read = read_begin(pair.server, 8);
  CHECK_STATUS(0, task_outcome(read));
  CHECK_STATUS(UV_ENOENT, task_cancel(read));
  CHECK_STATUS(UV_ENOENT, task_cancel(write));
  npipe_op never = read->op + 1000;
  CHECK_STATUS(UV_ENOENT, CALL(w, npipe_cancel(pair.server->conn, never)));
}

static void cn1_every_pending_read_at_once(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* reads[3];
  for (size_t i = 0; i < 3; i++) reads[i] = read_begin(pair.server, i * 4);
  world_settle(w);
  CHECK_STATUS(0, CALL(w, npipe_cancel(pair.server->conn, 0)));
  CHECK_STATUS(UV_ECANCELED, task_outcome(reads[2]));
  for (int i = 0; i < 3; i++) {
    CHECK_SIZE(1, reads[i]->calls);
    CHECK_STATUS(UV_ECANCELED, reads[i]->status);
  }
  CHECK(reads[0]->stamp < reads[1]->stamp);
  CHECK(reads[1]->stamp < reads[2]->stamp);
  send_text(pair.client, "x");
  EXPECT_TEXT(pair.server, 8, "x", 0);
}

static void cn1_names_of_operations_are_not_used_again(void** state) {
  enum { TASKS = 50 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_op ops[2 * TASKS];
  for (int i = 0; i < TASKS; i++) {
    test_task* read = read_begin(pair.client, 8);
    test_task* write = write_begin(pair.client, "x", 1);
    ops[2 * i] = read->op;
    ops[2 * i + 1] = write->op;
    CHECK_STATUS(0, task_cancel(read));
    CHECK_STATUS(0, task_outcome(write));
    CHECK_STATUS(UV_ECANCELED, task_outcome(read));
  }
  for (int i = 0; i < 2 * TASKS; i++)
    for (int k = 0; k < i; k++) CHECK(ops[i] != ops[k]);
}

/* ------------------------------------------------- CN2: nothing is lost */

static void cn2_the_others_keep_their_order(void** state) {
  world* w = *state;
  for (int which = 0; which < 3; which++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_task* reads[3];
    for (int i = 0; i < 3; i++) reads[i] = read_begin(pair.server, 8);
    world_settle(w);
    CHECK_STATUS(0, task_cancel(reads[which]));
    CHECK_STATUS(UV_ECANCELED, task_outcome(reads[which]));
    send_text(pair.client, "one");
    send_text(pair.client, "two");
    test_task* first = reads[which == 0 ? 1 : 0];
    test_task* second = reads[which == 2 ? 1 : 2];
    CHECK_STATUS(0, task_outcome(second));
    TASK_READ_TEXT(first, "one", 0);
    TASK_READ_TEXT(second, "two", 0);
    pair_shut(&pair);
  }
}

static void cn2_data_that_arrives_meanwhile_is_not_lost(void** state) {
  enum { ROUNDS = 200 };
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    for (uint32_t i = 0; i < ROUNDS; i++) {
      unsigned char seen[16];
      test_task* read = read_begin(pair.server, 16);
      write_pattern(pair.client, 16, i);
      for (uint32_t turn = 0; turn < i % 5; turn++)
        uv_run(&w->loop, UV_RUN_NOWAIT);
      int status = task_cancel(read);
      if (status != 0) CHECK_STATUS(UV_ENOENT, status);
      int outcome = task_outcome(read);
      CHECK_STATUS(status == 0 ? UV_ECANCELED : 0, outcome);
      if (outcome != 0) {
        read = read_begin(pair.server, 16);
        CHECK_STATUS(0, task_outcome(read));
      }
      CHECK_SIZE(16, read->size);
      memcpy(seen, read->data, 16);
      CHECK(pattern_holds(seen, 16, i, 0));
    }
    pair_shut(&pair);
  }
}

static void cn2_the_rest_of_a_message_stays(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  send_text(pair.client, "abcdef");
  EXPECT_TEXT(pair.server, 2, "ab", NPIPE_MORE);
  test_task* read = read_begin(pair.server, 2);
  if (task_cancel(read) == 0) {
    CHECK_STATUS(UV_ECANCELED, task_outcome(read));
    EXPECT_TEXT(pair.server, 2, "cd", NPIPE_MORE);
  } else {
    CHECK_STATUS(0, task_outcome(read));
    TASK_READ_TEXT(read, "cd", NPIPE_MORE);
  }
  EXPECT_TEXT(pair.server, 8, "ef", 0);
}

static void cancel_next(test_task* task) {
  test_task* next = task->user;
  if (task_cancel(next) != 0)
    world_violation(task->world, "a pending read cannot be cancelled");
}

static void cn2_cancel_in_the_callback_of_another_read(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* first = read_begin(pair.server, 8);
  test_task* second = read_begin(pair.server, 8);
  test_task* third = read_begin(pair.server, 8);
  first->hook = cancel_next;
  first->user = second;
  send_text(pair.client, "one");
  CHECK_STATUS(0, task_outcome(first));
  CHECK_STATUS(UV_ECANCELED, task_outcome(second));
  send_text(pair.client, "two");
  CHECK_STATUS(0, task_outcome(third));
  TASK_READ_TEXT(third, "two", 0);
}

static void cn2_a_stream_follows_cancelled_reads(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* read = read_begin(pair.server, 8);
  int status;
  CHECK(stream_try(pair.server, 0, &status) == NULL);
  CHECK_STATUS(UV_EBUSY, status);
  CHECK_STATUS(0, task_cancel(read));
  CHECK_STATUS(UV_ECANCELED, task_outcome(read));
  test_stream* stream = stream_begin(pair.server, 0);
  send_text(pair.client, "x");
  RUN_UNTIL(w, stream->count == 1);
  CHECK(stream_has_text(stream, 0, "x"));
}

/* ------------------------------------------------- CN3: writes */

enum { BIG = 2000000 }; /* beyond every quota and buffer */

/* The peer may be reading the first one; those behind it are only here. */
static void cn3_a_write_behind_the_first_is_withdrawn(void** state) {
  enum { WRITES = 5 };
  world* w = *state;
  for (int way = 0; way < 8; way++) {
    test_pair pair = pair_of(w, (npipe_type) (way % 2));
    test_ends e = pair_ends(&pair, way / 2 % 2);
    test_task* writes[WRITES];
    writes[0] = write_pattern(e.self, BIG, 0);
    for (uint32_t i = 1; i < WRITES; i++)
      writes[i] = write_pattern(e.self, 1000 * i, i);
    if (way / 4) { /* else it is not known yet whether it is too late */
      world_settle(w);
      CHECK_STATUS(UV_EBUSY, task_cancel(writes[0]));
      CHECK_STATUS(UV_EBUSY, npipe_last_error()->code);
    }
    size_t queued = npipe_queued_bytes(e.self->conn);
    CHECK_STATUS(0, task_cancel(writes[3]));
    CHECK_SIZE(0, writes[3]->calls); /* not inside the call */
    CHECK_STATUS(UV_ENOENT, task_cancel(writes[3]));
    CHECK_STATUS(0, task_cancel(writes[1]));
    CHECK_STATUS(UV_ECANCELED, task_outcome(writes[3]));
    CHECK_STATUS(UV_ECANCELED, task_outcome(writes[1]));
    CHECK_SIZE(queued - 4000, npipe_queued_bytes(e.self->conn));
    expect_pattern_bytes(e.peer, BIG, BIG, 0);
    expect_pattern_bytes(e.peer, 2000, 2000, 2);
    expect_pattern_bytes(e.peer, 4000, 4000, 4);
    for (int i = 0; i < WRITES; i += 2)
      CHECK_STATUS(0, task_outcome(writes[i]));
    CHECK(writes[0]->stamp < writes[2]->stamp);
    CHECK(writes[2]->stamp < writes[4]->stamp);
    CHECK_SIZE(0, npipe_queued_bytes(e.self->conn));
    send_text(e.self, "next"); /* and the quota is right again */
    EXPECT_TEXT(e.peer, 8, "next", 0);
    pair_shut(&pair);
  }
}

static void cn3_too_late_changes_nothing(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    test_task* write = write_pattern(pair.client, BIG, 1);
    world_settle(w);
    for (int i = 0; i < 3; i++) CHECK_STATUS(UV_EBUSY, task_cancel(write));
    CHECK_SIZE(0, write->calls);
    expect_pattern_bytes(pair.server, BIG, BIG, 1);
    CHECK_STATUS(0, task_outcome(write));
    CHECK_STATUS(UV_ENOENT, task_cancel(write));
    pair_shut(&pair);
  }
}

static void cancel_the_next_write(test_task* task) {
  test_task* next = task->user;
  if (task_cancel(next) != 0)
    world_violation(task->world, "a pending write cannot be cancelled");
}

static void cn3_in_the_callback_of_another_write(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* first = write_pattern(pair.client, BIG, 1);
  test_task* second = write_pattern(pair.client, BIG, 2);
  test_task* third = write_pattern(pair.client, BIG, 3);
  test_task* fourth = write_pattern(pair.client, 10, 4);
  first->hook = cancel_the_next_write;
  first->user = third;
  expect_pattern_bytes(pair.server, BIG, BIG, 1);
  CHECK_STATUS(UV_ECANCELED, task_outcome(third));
  expect_pattern_bytes(pair.server, BIG, BIG, 2);
  expect_pattern_bytes(pair.server, 10, 10, 4);
  CHECK_STATUS(0, task_outcome(second));
  CHECK_STATUS(0, task_outcome(fourth));
}

/* Empty messages count and can be withdrawn as others. */
static void cn3_empty_messages(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* first = write_pattern(pair.client, BIG, 1);
  test_task* empty = write_begin(pair.client, "", 0);
  test_task* other = write_begin(pair.client, "", 0);
  CHECK_STATUS(0, task_cancel(empty));
  CHECK_STATUS(UV_ECANCELED, task_outcome(empty));
  expect_pattern_bytes(pair.server, BIG, BIG, 1);
  CHECK_STATUS(0, task_outcome(first));
  CHECK_STATUS(0, task_outcome(other));
  EXPECT_TEXT(pair.server, 8, "", 0);
  test_task* none = read_begin(pair.server, 8);
  world_settle(w);
  CHECK_SIZE(0, none->calls);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(cn1_a_cancelled_read_says_so_once),
      TEST(cn1_cancel_in_the_turn_of_the_read),
      TEST(cn1_what_is_done_cannot_be_cancelled),
      TEST(cn1_every_pending_read_at_once),
      TEST(cn1_names_of_operations_are_not_used_again),
      TEST(cn2_the_others_keep_their_order),
      TEST(cn2_data_that_arrives_meanwhile_is_not_lost),
      TEST(cn2_the_rest_of_a_message_stays),
      TEST(cn2_cancel_in_the_callback_of_another_read),
      TEST(cn2_a_stream_follows_cancelled_reads),
      TEST(cn3_a_write_behind_the_first_is_withdrawn),
      TEST(cn3_too_late_changes_nothing),
      TEST(cn3_in_the_callback_of_another_write),
      TEST(cn3_empty_messages),
  };
  return harness_main(argc, argv, "cancel", tests, HARNESS_COUNT(tests), NULL);
}
