/*
 * Looking without touching: PK1 to PK6, IN1 to IN3 and CR10, and the reads
 * that a peek stands beside: RD4, RD7, RD9.
 */
#include <string.h>

#include "harness.h"

static void await_available(test_end* end, size_t bytes) {
  RUN_UNTIL(end->world, peek_available(end) == bytes);
}

/* ------------------------------------------------- PK1 to PK4 */

static void pk1_a_message_pipe_shows_the_first_message(void** state) {
  world* w = *state;
  for (int mode = 0; mode < 4; mode++) { /* whatever the read mode */
    npipe_read_mode read_mode =
        mode % 2 ? NPIPE_READ_BYTES : NPIPE_READ_MESSAGES;
    npipe_server_options server = {.type = NPIPE_MESSAGE,
                                   .read_mode = read_mode};
    npipe_client_options client = {.read_mode = read_mode};
    test_pair pair = pair_open(w, &server, &client);
    test_ends e = pair_ends(&pair, mode / 2);
    EXPECT_PEEK(e.peer, 8, "", 0, 0, 0);
    send_text(e.self, "abcdef");
    send_text(e.self, "gh");
    await_available(e.peer, 8);
    EXPECT_PEEK(e.peer, 100, "abcdef", 8, 0, 2);
    EXPECT_PEEK(e.peer, 6, "abcdef", 8, 0, 2);
    EXPECT_PEEK(e.peer, 4, "abcd", 8, 2, 2);
    EXPECT_PEEK(e.peer, 0, "", 8, 6, 2);
    pair_shut(&pair);
  }
}

static void pk1_a_byte_pipe_shows_all_bytes(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair = pair_of(w, NPIPE_BYTE);
    test_ends e = pair_ends(&pair, near_is_server);
    EXPECT_PEEK(e.peer, 8, "", 0, 0, 0);
    send_text(e.self, "abcdef");
    send_text(e.self, "gh");
    await_available(e.peer, 8);
    EXPECT_PEEK(e.peer, 100, "abcdefgh", 8, 0, 0); /* PK3: left is 0 */
    EXPECT_PEEK(e.peer, 3, "abc", 8, 0, 0);
    EXPECT_PEEK(e.peer, 0, "", 8, 0, 0);
    EXPECT_TEXT(e.peer, 2, "ab", 0);
    EXPECT_PEEK(e.peer, 4, "cdef", 6, 0, 0);
    EXPECT_PEEK(e.peer, 100, "cdefgh", 6, 0, 0);
    pair_shut(&pair);
  }
}

static void pk2_in_the_middle_of_a_message(void** state) {
  world* w = *state;
  for (int near_is_server = 0; near_is_server < 2; near_is_server++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_ends e = pair_ends(&pair, near_is_server);
    send_text(e.self, "abcdef");
    send_text(e.self, "gh");
    await_available(e.peer, 8);
    EXPECT_TEXT(e.peer, 2, "ab", NPIPE_MORE);
    EXPECT_PEEK(e.peer, 100, "cdef", 6, 0, 2);
    EXPECT_PEEK(e.peer, 3, "cde", 6, 1, 2);
    EXPECT_TEXT(e.peer, 100, "cdef", 0);
    EXPECT_PEEK(e.peer, 100, "gh", 2, 0, 1);
    EXPECT_TEXT(e.peer, 100, "gh", 0);
    EXPECT_PEEK(e.peer, 100, "", 0, 0, 0);
    pair_shut(&pair);
  }
}

/* RD4 with a peek at each step: it follows the type, not the mode. */
static void rd4_peek_while_the_mode_changes(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_conn* conn = pair.server->conn;
  send_text(pair.client, "abc");
  send_text(pair.client, "defg");
  await_available(pair.server, 7);
  CHECK_STATUS(0, CALL(w, npipe_set_read_mode(conn, NPIPE_READ_BYTES)));
  EXPECT_TEXT(pair.server, 2, "ab", 0);
  EXPECT_PEEK(pair.server, 9, "c", 5, 0, 2);
  CHECK_STATUS(0, CALL(w, npipe_set_read_mode(conn, NPIPE_READ_MESSAGES)));
  EXPECT_PEEK(pair.server, 9, "c", 5, 0, 2);
  EXPECT_TEXT(pair.server, 9, "c", 0);
  EXPECT_PEEK(pair.server, 1, "d", 4, 3, 1);
  EXPECT_TEXT(pair.server, 1, "d", NPIPE_MORE);
  send_text(pair.client, "hi");
  await_available(pair.server, 5);
  EXPECT_PEEK(pair.server, 9, "efg", 5, 0, 2);
  CHECK_STATUS(0, CALL(w, npipe_set_read_mode(conn, NPIPE_READ_BYTES)));
  EXPECT_TEXT(pair.server, 9, "efghi", 0); /* merges */
  EXPECT_PEEK(pair.server, 9, "", 0, 0, 0);
}

static void pk4_looking_takes_nothing(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    for (uint32_t i = 0; i < 30; i++) send_pattern(pair.client, 100, i);
    await_available(pair.server, 3000);
    for (uint32_t i = 0; i < 30; i++) {
      char seen[PEEK_ROOM];
      npipe_peek_info info;
      for (int k = 0; k < 3; k++) {
        CHECK_STATUS(0, peek_try(pair.server, seen, 100, &info));
        CHECK_SIZE(100, info.size);
        CHECK(pattern_holds(seen, 100, i, 0));
      }
      expect_pattern_bytes(pair.server, 100, 100, i);
    }
    pair_shut(&pair);
  }
}

/* A peek of what no turn of the loop has looked at yet: the writer says that
 * it is in the pipe, so it is there. */
static void pk4_it_sees_what_was_just_written(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  char text[] = "now";
  uv_buf_t buf = uv_buf_init(text, 3);
  for (int i = 0; i < 10; i++) {
    CHECK_STATUS(0, CALL(w, npipe_try_write(pair.client->conn, &buf, 1)));
    EXPECT_PEEK(pair.server, 8, "now", 3, 0, 1);
    CHECK_STATUS(0, CALL(w, npipe_try_write(pair.server->conn, &buf, 1)));
    EXPECT_PEEK(pair.client, 8, "now", 3, 0, 1);
    EXPECT_TEXT(pair.server, 8, "now", 0);
    EXPECT_TEXT(pair.client, 8, "now", 0);
  }
}

static void peek_inside(test_task* task) {
  if (peek_status(task->end) != 0)
    world_violation(task->world, "no peek in a callback");
  read_begin(task->end, 1)->hook = task->size ? peek_inside : NULL;
}

/* Peeks beside pending reads and a stream: they change nothing for those. */
static void pk4_beside_other_readers(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* read = read_begin(pair.server, 1);
  read->hook = peek_inside;
  EXPECT_PEEK(pair.server, 8, "", 0, 0, 0);
  send_text(pair.client, "abcd");
  send_text(pair.client, "");
  CHECK_STATUS(0, task_outcome(read));
  TASK_READ_TEXT(read, "a", NPIPE_MORE);
  world_settle(w);
  test_stream* stream = stream_begin(pair.client, 0);
  CHECK_STATUS(0, peek_status(pair.client));
  for (uint32_t i = 0; i < 20; i++) {
    write_pattern(pair.server, i * 1000, i);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    CHECK_STATUS(0, peek_status(pair.client));
  }
  RUN_UNTIL(w, stream->count == 20);
  for (uint32_t i = 0; i < 20; i++)
    CHECK(stream_has_pattern(stream, i, i * 1000, i));
}

/* ------------------------------------------------- PK5, RD7, RD9 */

static void pk5_empty_messages_are_counted(void** state) {
  SKIP_IF_WINE_DIFFERS("PK5");
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  char seen[PEEK_ROOM];
  npipe_peek_info info = {0};
  send_text(pair.client, "");
  RUN_UNTIL(w, peek_try(pair.server, seen, 8, &info) == 0 && info.messages);
  EXPECT_PEEK(pair.server, 8, "", 0, 0, 1);
  send_text(pair.client, "");
  send_text(pair.client, "ab");
  await_available(pair.server, 2);
  EXPECT_PEEK(pair.server, 8, "", 2, 0, 3);
  EXPECT_TEXT(pair.server, 8, "", 0);
  EXPECT_PEEK(pair.server, 8, "", 2, 0, 2);
  EXPECT_TEXT(pair.server, 8, "", 0);
  EXPECT_PEEK(pair.server, 8, "ab", 2, 0, 1);
}

static void pk2_many_messages_are_counted(void** state) {
  SKIP_IF_WINE_DIFFERS("PK5");
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  for (size_t i = 1; i <= 20; i++) send_text(pair.client, "abc");
  await_available(pair.server, 60);
  for (size_t left = 20; left > 0; left--) {
    EXPECT_PEEK(pair.server, 8, "abc", left * 3, 0, left);
    EXPECT_TEXT(pair.server, 1, "a", NPIPE_MORE);
    EXPECT_PEEK(pair.server, 8, "bc", left * 3 - 1, 0, left);
    EXPECT_TEXT(pair.server, 8, "bc", 0);
  }
}

static void rd9_a_read_of_0_bytes_leaves_an_empty_message(void** state) {
  world* w = *state;
  for (int mode = NPIPE_READ_BYTES; mode <= NPIPE_READ_MESSAGES; mode++) {
    npipe_server_options options = {.type = NPIPE_MESSAGE,
                                    .read_mode = (npipe_read_mode) mode};
    test_pair pair = pair_open(w, &options, NULL);
    test_task* pending = read_begin(pair.server, 0);
    send_text(pair.client, "");
    CHECK_STATUS(0, task_outcome(pending)); /* it is told */
    CHECK_SIZE(0, pending->size);
    for (int i = 0; i < 3; i++) {
      test_task* read = read_begin(pair.server, 0);
      CHECK_STATUS(0, task_outcome(read));
      CHECK_SIZE(0, read->size);
      EXPECT_PEEK(pair.server, 8, "", 0, 0, 1);
    }
    EXPECT_TEXT(pair.server, 8, "", 0);
    EXPECT_PEEK(pair.server, 8, "", 0, 0, 0);
    test_task* none = read_begin(pair.server, 0); /* nothing is left */
    world_settle(w);
    CHECK_SIZE(0, none->calls);
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- PK6 */

static void pk6_an_end_that_only_writes_cannot_peek(void** state) {
  world* w = *state;
  npipe_server_options options = {.direction = NPIPE_INBOUND};
  npipe_client_options client = {.access = NPIPE_WRITE_ONLY};
  test_pair pair = pair_open(w, &options, &client);
  CHECK_STATUS(UV_EACCES, peek_status(pair.client));
  CHECK_STATUS(0, peek_status(pair.server));
}

static void pk6_the_end_comes_after_the_data(void** state) {
  world* w = *state;
  for (int way = 0; way < 4; way++) {
    test_pair pair = pair_of(w, (npipe_type) (way % 2));
    test_ends e = pair_ends(&pair, way / 2);
    send_text(e.self, "last");
    end_shut(e.self);
    RUN_UNTIL(w, end_state(e.peer) == NPIPE_STATE_CLOSING);
    EXPECT_PEEK(e.peer, 8, "last", 4, 0, (size_t) (way % 2));
    EXPECT_TEXT(e.peer, 2, "la", way % 2 ? NPIPE_MORE : 0);
    EXPECT_PEEK(e.peer, 8, "st", 2, 0, (size_t) (way % 2));
    EXPECT_TEXT(e.peer, 2, "st", 0);
    for (int i = 0; i < 3; i++) CHECK_STATUS(UV_EOF, peek_status(e.peer));
    EXPECT_STATUS(e.peer, 8, UV_EOF);
    CHECK_STATUS(UV_EOF, peek_status(e.peer));
    pair_shut(&pair);
  }
}

/* An empty message is left: that is not the end yet. */
static void pk6_an_empty_message_is_before_the_end(void** state) {
  SKIP_IF_WINE_DIFFERS("PK5");
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  send_text(pair.client, "");
  end_shut(pair.client);
  RUN_UNTIL(w, end_state(pair.server) == NPIPE_STATE_CLOSING);
  EXPECT_PEEK(pair.server, 8, "", 0, 0, 1);
  EXPECT_TEXT(pair.server, 8, "", 0);
  CHECK_STATUS(UV_EOF, peek_status(pair.server));
}

/* ------------------------------------------------- IN1 to IN3, CR10 */

static void info_check(test_end* end, const npipe_server_options* o,
                       int is_server) {
  npipe_info info = end_info(end);
  CHECK(info.type == o->type);
  CHECK(info.direction == o->direction);
  CHECK(info.state == NPIPE_STATE_CONNECTED);
  CHECK(info.is_server == is_server);
  CHECK_SIZE(o->in_quota == NPIPE_QUOTA_ZERO ? 0 : o->in_quota, info.in_quota);
  CHECK_SIZE(o->out_quota, info.out_quota);
  CHECK_SIZE(o->max_instances, info.max_instances);
}

static void in1_both_ends_say_the_same(void** state) {
  world* w = *state;
  static const unsigned max[] = {1, 2, 7, 255};
  for (int i = 0; i < 2 * 3 * 4; i++) {
    npipe_server_options options = {.type = (npipe_type) (i % 2),
                                    .direction = (npipe_direction) (i / 2 % 3),
                                    .max_instances = max[i / 6],
                                    .in_quota = 111,
                                    .out_quota = 222};
    if (i % 5 == 0) options.in_quota = NPIPE_QUOTA_ZERO;
    npipe_client_options client = {
        .access = options.direction == NPIPE_INBOUND    ? NPIPE_WRITE_ONLY
                  : options.direction == NPIPE_OUTBOUND ? NPIPE_READ_ONLY
                                                        : NPIPE_READ_WRITE};
    test_pair pair = pair_open(w, &options, &client);
    info_check(pair.server, &options, 1);
    info_check(pair.client, &options, 0);
    pair_shut(&pair);
  }
}

static void in1_the_defaults(void** state) {
  world* w = *state;
  test_pair pair = pair_open(w, NULL, NULL);
  test_end* ends[2] = {pair.server, pair.client};
  for (int i = 0; i < 2; i++) {
    npipe_info info = end_info(ends[i]);
    CHECK_SIZE(NPIPE_QUOTA_DEFAULT_BYTES, info.in_quota);
    CHECK_SIZE(NPIPE_QUOTA_DEFAULT_BYTES, info.out_quota);
    CHECK_SIZE(NPIPE_MESSAGE_DEFAULT_BYTES, info.message_max_bytes);
    CHECK_SIZE(NPIPE_INSTANCES_UNLIMITED, info.max_instances);
    CHECK(info.read_mode == NPIPE_READ_BYTES);
  }
}

static void in2_instances_are_those_of_the_server(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* clients[4];
  test_end* servers[4];
  for (unsigned i = 0; i < 4; i++) {
    clients[i] = end_open(w, NULL);
    servers[i] = host_accept(host);
    CHECK_SIZE(i + 1, end_info(servers[i]).instances);
    CHECK_SIZE(i + 1, end_info(servers[0]).instances);
    CHECK_SIZE(0, end_info(clients[i]).instances);
  }
  end_shut(clients[1]); /* stays occupied (ST3) */
  world_settle(w);
  CHECK_SIZE(4, end_info(servers[0]).instances);
  end_shut(servers[1]);
  CHECK_SIZE(3, end_info(servers[0]).instances);
  CHECK_STATUS(0, end_disconnect(servers[2]));
  CHECK_SIZE(3, end_info(servers[0]).instances);
}

static void in3_each_end_has_its_own_read_mode(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  CHECK(end_info(pair.server).read_mode == NPIPE_READ_MESSAGES);
  CHECK(end_info(pair.client).read_mode == NPIPE_READ_MESSAGES);
  CHECK_STATUS(
      0, CALL(w, npipe_set_read_mode(pair.client->conn, NPIPE_READ_BYTES)));
  CHECK(end_info(pair.server).read_mode == NPIPE_READ_MESSAGES);
  CHECK(end_info(pair.client).read_mode == NPIPE_READ_BYTES);
  CHECK_STATUS(
      0, CALL(w, npipe_set_read_mode(pair.client->conn, NPIPE_READ_AS_TYPE)));
  CHECK(end_info(pair.client).read_mode == NPIPE_READ_MESSAGES);
}

static void in3_the_mode_can_be_set_while_closing(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  send_text(pair.client, "ab");
  send_text(pair.client, "cd");
  end_shut(pair.client);
  RUN_UNTIL(w, end_state(pair.server) == NPIPE_STATE_CLOSING);
  CHECK_STATUS(
      0, CALL(w, npipe_set_read_mode(pair.server->conn, NPIPE_READ_BYTES)));
  EXPECT_TEXT(pair.server, 8, "abcd", 0);
  EXPECT_STATUS(pair.server, 8, UV_EOF);
  CHECK_STATUS(
      0, CALL(w, npipe_set_read_mode(pair.server->conn, NPIPE_READ_MESSAGES)));
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(pk1_a_message_pipe_shows_the_first_message),
      TEST(pk1_a_byte_pipe_shows_all_bytes),
      TEST(pk2_in_the_middle_of_a_message),
      TEST(rd4_peek_while_the_mode_changes),
      TEST(pk4_looking_takes_nothing),
      TEST(pk4_it_sees_what_was_just_written),
      TEST(pk4_beside_other_readers),
      TEST(pk5_empty_messages_are_counted),
      TEST(pk2_many_messages_are_counted),
      TEST(rd9_a_read_of_0_bytes_leaves_an_empty_message),
      TEST(pk6_an_end_that_only_writes_cannot_peek),
      TEST(pk6_the_end_comes_after_the_data),
      TEST(pk6_an_empty_message_is_before_the_end),
      TEST(in1_both_ends_say_the_same),
      TEST(in1_the_defaults),
      TEST(in2_instances_are_those_of_the_server),
      TEST(in3_each_end_has_its_own_read_mode),
      TEST(in3_the_mode_can_be_set_while_closing),
  };
  return harness_main(argc, argv, "peek", tests, HARNESS_COUNT(tests), NULL);
}
