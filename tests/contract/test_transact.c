/*
 * Request and reply: TX1 to TX5. npipe_call() is in test_call.c.
 */
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static test_task* transact(test_end* end, const char* text, size_t room) {
  return transact_begin(end, text, room, NPIPE_WAIT_FOREVER);
}

static int transact_status(test_end* end) {
  int status;
  test_task* task = transact_try(end, "x", 1, 8, 5000, &status);
  return task ? task_outcome(task) : status;
}

/* Answers each request with the request and "!". */
static void answer(test_stream* stream) {
  char text[4096];
  if (stream->ends) return;
  const test_message* last = &stream->messages[stream->count - 1];
  memcpy(text, stream->bytes + last->start, last->size);
  text[last->size] = '!';
  write_begin(stream->end, text, last->size + 1);
}

/* ------------------------------------------------- TX1 */

static void tx1_only_messages_both_ways(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  CHECK_STATUS(UV_EINVAL, transact_status(pair.client));
  CHECK_STATUS(UV_EINVAL, transact_status(pair.server));
  pair_shut(&pair);
  pair = pair_of(w, NPIPE_MESSAGE);
  CHECK_STATUS(
      0, CALL(w, npipe_set_read_mode(pair.client->conn, NPIPE_READ_BYTES)));
  CHECK_STATUS(UV_EINVAL, transact_status(pair.client));
  world_settle(w);
  CHECK_SIZE(0, peek_available(pair.server)); /* nothing was sent */
  pair_shut(&pair);
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .direction = NPIPE_INBOUND};
  npipe_client_options client = {.access = NPIPE_WRITE_ONLY};
  pair = pair_open(w, &options, &client);
  CHECK_STATUS(UV_EACCES, transact_status(pair.client));
  CHECK_STATUS(UV_EACCES, transact_status(pair.server));
  pair_shut(&pair);
}

/* ------------------------------------------------- TX2 */

static void tx2_not_while_something_is_unread(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_ends e = pair_ends(&pair, near_is_server);
    send_text(e.peer, "unread");
    CHECK_STATUS(UV_EBUSY, transact_status(e.self));
    CHECK_STATUS(UV_EBUSY, npipe_last_error()->code);
    EXPECT_TEXT(e.self, 2, "un", NPIPE_MORE);
    CHECK_STATUS(UV_EBUSY, transact_status(e.self)); /* the rest */
    EXPECT_TEXT(e.self, 8, "read", 0);
    send_text(e.peer, "");
    CHECK_STATUS(UV_EBUSY, transact_status(e.self)); /* also an empty one */
    EXPECT_TEXT(e.self, 8, "", 0);
    CHECK_SIZE(0, peek_available(e.peer)); /* no request has been sent */
    test_task* task = transact(e.self, "ask", 8);
    EXPECT_TEXT(e.peer, 8, "ask", 0);
    send_text(e.peer, "ok");
    CHECK_STATUS(0, task_outcome(task));
    TASK_READ_TEXT(task, "ok", 0);
    pair_shut(&pair);
  }
}

static void tx2_not_while_something_reads(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  int status;
  test_task* read = read_begin(pair.client, 8);
  CHECK(transact_try(pair.client, "x", 1, 8, 0, &status) == NULL);
  CHECK_STATUS(UV_EBUSY, status);
  CHECK_STATUS(0, task_cancel(read));
  test_stream* stream = stream_begin(pair.client, 0);
  CHECK(transact_try(pair.client, "x", 1, 8, 0, &status) == NULL);
  CHECK_STATUS(UV_EBUSY, status);
  stream_stop(stream);
  transact(pair.client, "ask", 8);
  CHECK(transact_try(pair.client, "x", 1, 8, 0, &status) == NULL);
  CHECK_STATUS(UV_EBUSY, status);
}

/* ------------------------------------------------- TX3 */

static void tx3_the_quota_does_not_hold_the_request_back(void** state) {
  world* w = *state;
  for (int i = 0; i < 4; i++) {
    uint32_t quota = i / 2 ? 5 : NPIPE_QUOTA_ZERO;
    npipe_server_options options = {
        .type = NPIPE_MESSAGE, .in_quota = quota, .out_quota = quota};
    test_pair pair = pair_open(w, &options, NULL);
    test_ends e = pair_ends(&pair, i % 2);
    test_task* pending = write_begin(e.self, "pending write", 13);
    test_task* task = transact(e.self, "long request", 16);
    world_settle(w);
    CHECK_SIZE(0, pending->calls);
    size_t seen = peek_available(e.peer); /* Unix sends one beyond the quota */
    CHECK(seen == 25 || seen == 13);
    EXPECT_TEXT(e.peer, 16, "pending write", 0);
    EXPECT_TEXT(e.peer, 16, "long request", 0);
    write_begin(e.peer, "reply", 5);
    CHECK_STATUS(0, task_outcome(task));
    TASK_READ_TEXT(task, "reply", 0);
    CHECK_STATUS(0, task_outcome(pending));
    CHECK_SIZE(0, npipe_queued_bytes(e.self->conn));
    task = transact(e.self, "long request", 16); /* behind nothing */
    world_settle(w);
    CHECK_SIZE(12, peek_available(e.peer));
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- TX4 */

static void tx4_either_end_may_ask(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_ends e = pair_ends(&pair, near_is_server);
    stream_begin(e.peer, 0)->hook = answer;
    for (int i = 0; i < 200; i++) {
      test_task* task = transact(e.self, "again", 16);
      CHECK_STATUS(0, task_outcome(task));
      TASK_READ_TEXT(task, "again!", 0);
    }
    pair_shut(&pair);
  }
}

static void tx4_a_longer_reply_comes_in_pieces(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* task = transact(pair.client, "ask", 3);
  EXPECT_TEXT(pair.server, 8, "ask", 0);
  send_text(pair.server, "abcdefgh");
  send_text(pair.server, "next");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "abc", NPIPE_MORE);
  CHECK_STATUS(UV_EBUSY, transact_status(pair.client)); /* TX2 */
  EXPECT_TEXT(pair.client, 3, "def", NPIPE_MORE);
  EXPECT_TEXT(pair.client, 3, "gh", 0);
  EXPECT_TEXT(pair.client, 8, "next", 0);
}

static void tx4_request_and_reply_may_be_empty(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* task = transact(pair.client, "", 8);
  EXPECT_TEXT(pair.server, 8, "", 0);
  send_text(pair.server, "");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "", 0);
  /* no room at all: as a read of 0 bytes */
  task = transact(pair.client, "x", 0);
  EXPECT_TEXT(pair.server, 8, "x", 0);
  send_text(pair.server, "reply");
  CHECK_STATUS(0, task_outcome(task));
  CHECK_SIZE(0, task->size);
  CHECK_SIZE(NPIPE_MORE, task->flags);
  EXPECT_TEXT(pair.client, 8, "reply", 0);
}

static void tx4_a_reply_may_itself_be_a_transaction(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* ask = transact(pair.client, "who?", 16);
  EXPECT_TEXT(pair.server, 8, "who?", 0);
  test_task* back = transact(pair.server, "who asks?", 16);
  CHECK_STATUS(0, task_outcome(ask));
  TASK_READ_TEXT(ask, "who asks?", 0);
  test_task* last = transact(pair.client, "I do", 16);
  CHECK_STATUS(0, task_outcome(back));
  TASK_READ_TEXT(back, "I do", 0);
  send_text(pair.server, "I see");
  CHECK_STATUS(0, task_outcome(last));
  TASK_READ_TEXT(last, "I see", 0);
}

static void tx4_big_requests_and_replies(void** state) {
  enum { SIZE = 1 << 20 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  char* data = must_alloc(SIZE);
  for (uint32_t i = 0; i < 4; i++) {
    int status;
    pattern_fill(data, SIZE, i);
    test_task* task =
        transact_try(pair.client, data, SIZE, SIZE + 1, 20000, &status);
    CHECK_STATUS(0, status);
    expect_pattern_bytes(pair.server, SIZE, SIZE, i);
    write_pattern(pair.server, SIZE, i + 10);
    CHECK_STATUS(0, task_outcome(task));
    CHECK_SIZE(SIZE, task->size);
    CHECK_SIZE(0, task->flags);
    CHECK(pattern_holds(task->data, SIZE, i + 10, 0));
  }
  free(data);
}

static void tx4_a_cancelled_one_leaves_its_request(void** state) {
  world* w = *state;
  for (int how = 0; how < 3; how++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_task* task =
        transact_begin(pair.client, "request", 8, how == 2 ? 30 : 60000);
    if (how == 1) world_settle(w);
    if (how < 2) CHECK_STATUS(0, task_cancel(task));
    CHECK_STATUS(how == 2 ? UV_ETIMEDOUT : UV_ECANCELED, task_outcome(task));
    EXPECT_TEXT(pair.server, 8, "request", 0);
    send_text(pair.server, "late"); /* is an ordinary message now */
    CHECK_STATUS(UV_EBUSY, transact_status(pair.client));
    EXPECT_TEXT(pair.client, 8, "late", 0);
    test_task* next = transact(pair.client, "again", 8);
    EXPECT_TEXT(pair.server, 8, "again", 0);
    send_text(pair.server, "right");
    CHECK_STATUS(0, task_outcome(next));
    TASK_READ_TEXT(next, "right", 0);
    pair_shut(&pair);
  }
}

static void tx4_with_op_0_it_is_cancelled_as_a_read(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* task = transact(pair.client, "request", 8);
  CHECK_STATUS(0, CALL(w, npipe_cancel(pair.client->conn, 0)));
  CHECK_STATUS(UV_ECANCELED, task_outcome(task));
  EXPECT_TEXT(pair.server, 8, "request", 0);
}

/* ------------------------------------------------- TX5, and its end */

static void tx5_nothing_else_reads_meanwhile(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  int status;
  test_task* task = transact(pair.client, "ask", 8);
  CHECK(read_try(pair.client, 8, &status) == NULL);
  CHECK_STATUS(UV_EBUSY, status);
  CHECK(stream_try(pair.client, 0, &status) == NULL);
  CHECK_STATUS(UV_EBUSY, status);
  CHECK_STATUS(UV_EBUSY, CALL(w, npipe_set_read_mode(pair.client->conn,
                                                     NPIPE_READ_BYTES)));
  send_text(pair.client, "beside it"); /* to write is allowed */
  send_text(pair.server, "ok");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "ok", 0);
  EXPECT_TEXT(pair.server, 16, "ask", 0);
  EXPECT_TEXT(pair.server, 16, "beside it", 0);
}

static void ask_again(test_task* task) {
  int* left = task->user;
  if (task->status != 0 || --*left == 0) return;
  test_task* next = transact(task->end, "again", 16);
  next->hook = ask_again;
  next->user = left;
}

static void tx5_the_next_one_begins_in_the_callback(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  stream_begin(pair.server, 0)->hook = answer;
  int left = 50;
  test_task* task = transact(pair.client, "first", 16);
  task->hook = ask_again;
  task->user = &left;
  RUN_UNTIL(w, left == 0);
}

static void the_peer_closes_meanwhile(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_ends e = pair_ends(&pair, near_is_server);
    test_task* task = transact(e.self, "ask", 8);
    EXPECT_TEXT(e.peer, 8, "ask", 0);
    world_settle(w);
    end_shut(e.peer);
    CHECK_STATUS(UV_EPIPE, task_outcome(task));
    CHECK_STATUS(UV_EPIPE, transact_status(e.self));
    pair_shut(&pair);
  }
}

static void the_reply_comes_and_the_peer_closes(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* task = transact(pair.client, "ask", 8);
  EXPECT_TEXT(pair.server, 8, "ask", 0);
  send_text(pair.server, "bye");
  end_shut(pair.server);
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "bye", 0);
  CHECK_STATUS(UV_EPIPE, transact_status(pair.client));
}

static void close_cancels_it(void** state) {
  world* w = *state;
  for (int settle = 0; settle < 2; settle++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_task* task = transact_begin(pair.client, "request", 8, 60000);
    if (settle) world_settle(w);
    end_shut(pair.client);
    CHECK_STATUS(UV_ECANCELED, task->status);
    EXPECT_TEXT(pair.server, 8, "request", 0); /* TX4: it stays */
    EXPECT_STATUS(pair.server, 8, UV_EOF);
    pair_shut(&pair);
  }
}

static void a_request_beyond_the_limit(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .message_max_bytes = 100};
  npipe_client_options client = {.message_max_bytes = 100};
  test_pair pair = pair_open(w, &options, &client);
  char data[101] = "";
  int status;
  CHECK(transact_try(pair.client, data, 101, 8, 0, &status) == NULL);
  CHECK_STATUS(UV_EMSGSIZE, status);
  test_task* task = transact_try(pair.client, data, 100, 8, 5000, &status);
  CHECK(task != NULL);
  test_task* read = read_begin(pair.server, 200);
  CHECK_STATUS(0, task_outcome(read));
  CHECK_SIZE(100, read->size);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(tx1_only_messages_both_ways),
      TEST(tx2_not_while_something_is_unread),
      TEST(tx2_not_while_something_reads),
      TEST(tx3_the_quota_does_not_hold_the_request_back),
      TEST(tx4_either_end_may_ask),
      TEST(tx4_a_longer_reply_comes_in_pieces),
      TEST(tx4_request_and_reply_may_be_empty),
      TEST(tx4_a_reply_may_itself_be_a_transaction),
      TEST(tx4_big_requests_and_replies),
      TEST(tx4_a_cancelled_one_leaves_its_request),
      TEST(tx4_with_op_0_it_is_cancelled_as_a_read),
      TEST(tx5_nothing_else_reads_meanwhile),
      TEST(tx5_the_next_one_begins_in_the_callback),
      TEST(the_peer_closes_meanwhile),
      TEST(the_reply_comes_and_the_peer_closes),
      TEST(close_cancels_it),
      TEST(a_request_beyond_the_limit),
  };
  return harness_main(argc, argv, "transact", tests, HARNESS_COUNT(tests),
                      NULL);
}
