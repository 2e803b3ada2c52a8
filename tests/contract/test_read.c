/*
 * Reading, one npipe_read() at a time: RD1 to RD8, RD10 and RD11. Streams are
 * in test_stream.c.
 */
#include <string.h>

#include "harness.h"

/* ------------------------------------------------- RD1, RD2: read modes */

static void rd1_client_reads_as_the_type_by_default(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  CHECK(npipe_get_type(pair.client->conn) == NPIPE_MESSAGE);
  send_text(pair.server, "ab");
  send_text(pair.server, "cd");
  world_settle(w);
  EXPECT_TEXT(pair.client, 16, "ab", 0);
  EXPECT_TEXT(pair.client, 16, "cd", 0);
}

static void rd1_read_mode_is_an_option_of_each_end(void** state) {
  world* w = *state;
  npipe_server_options server = {.type = NPIPE_MESSAGE,
                                 .read_mode = NPIPE_READ_BYTES};
  npipe_client_options client = {.read_mode = NPIPE_READ_BYTES};
  test_pair pair = pair_open(w, &server, NULL);
  send_text(pair.client, "ab");
  send_text(pair.client, "cd");
  send_text(pair.server, "ef");
  send_text(pair.server, "gh");
  world_settle(w);
  EXPECT_TEXT(pair.server, 16, "abcd", 0);
  EXPECT_TEXT(pair.client, 16, "ef", 0);
  EXPECT_TEXT(pair.client, 16, "gh", 0);
  pair_shut(&pair);

  server.read_mode = NPIPE_READ_MESSAGES;
  pair = pair_open(w, &server, &client);
  send_text(pair.client, "ab");
  send_text(pair.client, "cd");
  send_text(pair.server, "ef");
  send_text(pair.server, "gh");
  world_settle(w);
  EXPECT_TEXT(pair.client, 16, "efgh", 0);
  EXPECT_TEXT(pair.server, 16, "ab", 0);
  EXPECT_TEXT(pair.server, 16, "cd", 0);
}

static void rd1_messages_of_a_byte_pipe_are_refused(void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_BYTE);
  npipe_client_options client = {.read_mode = NPIPE_READ_MESSAGES};
  CHECK_STATUS(UV_EINVAL, connect_outcome(w, w->name, CONNECT_MS, &client));
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, NULL));
}

/* "abcd" and "ef" were written; what the reads of these sizes give. */
typedef struct matrix_row {
  npipe_type type;
  npipe_read_mode mode;
  size_t room;
  const char* first;
  unsigned flags;
  const char* second; /* read with room for all; NULL: nothing is left */
  const char* third;
} matrix_row;

static const matrix_row matrix[] = {
    {NPIPE_BYTE, NPIPE_READ_BYTES, 2, "ab", 0, "cdef", NULL},
    {NPIPE_BYTE, NPIPE_READ_BYTES, 4, "abcd", 0, "ef", NULL},
    {NPIPE_BYTE, NPIPE_READ_BYTES, 5, "abcde", 0, "f", NULL},
    {NPIPE_BYTE, NPIPE_READ_BYTES, 16, "abcdef", 0, NULL, NULL},
    {NPIPE_MESSAGE, NPIPE_READ_BYTES, 2, "ab", 0, "cdef", NULL},
    {NPIPE_MESSAGE, NPIPE_READ_BYTES, 4, "abcd", 0, "ef", NULL},
    {NPIPE_MESSAGE, NPIPE_READ_BYTES, 5, "abcde", 0, "f", NULL},
    {NPIPE_MESSAGE, NPIPE_READ_BYTES, 16, "abcdef", 0, NULL, NULL},
    {NPIPE_MESSAGE, NPIPE_READ_MESSAGES, 2, "ab", NPIPE_MORE, "cd", "ef"},
    {NPIPE_MESSAGE, NPIPE_READ_MESSAGES, 3, "abc", NPIPE_MORE, "d", "ef"},
    {NPIPE_MESSAGE, NPIPE_READ_MESSAGES, 4, "abcd", 0, "ef", NULL},
    {NPIPE_MESSAGE, NPIPE_READ_MESSAGES, 16, "abcd", 0, "ef", NULL},
};

static void matrix_check(world* w, const matrix_row* row, int to_client) {
  npipe_server_options server = {.type = row->type, .read_mode = row->mode};
  npipe_client_options client = {.read_mode = row->mode};
  test_pair pair = pair_open(w, &server, &client);
  test_end* writer = to_client ? pair.server : pair.client;
  test_end* reader = to_client ? pair.client : pair.server;
  send_text(writer, "abcd");
  send_text(writer, "ef");
  world_settle(w);
  EXPECT_TEXT(reader, row->room, row->first, row->flags);
  if (row->second) EXPECT_TEXT(reader, 16, row->second, 0);
  if (row->third) EXPECT_TEXT(reader, 16, row->third, 0);
  end_shut(writer);
  EXPECT_STATUS(reader, 16, UV_EOF);
  pair_shut(&pair);
}

static void rd2_matrix_client_to_server(void** state) {
  for (size_t i = 0; i < HARNESS_COUNT(matrix); i++)
    matrix_check(*state, &matrix[i], 0);
}

static void rd2_matrix_server_to_client(void** state) {
  for (size_t i = 0; i < HARNESS_COUNT(matrix); i++)
    matrix_check(*state, &matrix[i], 1);
}

/* ------------------------------------------------- RD3, RD5: MORE */

/* Reads one message as every Windows program does: until no more is said. */
static void read_in_rooms(test_end* end, size_t room, size_t size,
                          uint32_t seed) {
  size_t at = 0;
  for (;;) {
    test_task* task = read_begin(end, room);
    CHECK_STATUS(0, task_outcome(task));
    size_t rest = size - at;
    CHECK_SIZE(rest < room ? rest : room, task->size);
    CHECK(pattern_holds(task->data, task->size, seed, at));
    at += task->size;
    CHECK_SIZE(at < size ? NPIPE_MORE : 0, task->flags);
    if (task->flags == 0) break;
  }
  CHECK_SIZE(size, at);
}

static void rd3_a_short_buffer_gets_the_rest_with_the_next_reads(void** state) {
  static const size_t sizes[] = {0,   1,   2,   6,    7,    8,    13,  14,
                                 511, 512, 513, 1023, 1024, 1025, 5000};
  static const size_t rooms[] = {1, 7, 512};
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  for (size_t r = 0; r < HARNESS_COUNT(rooms); r++) {
    for (uint32_t i = 0; i < HARNESS_COUNT(sizes); i++)
      send_pattern(pair.client, sizes[i], i);
    for (uint32_t i = 0; i < HARNESS_COUNT(sizes); i++)
      read_in_rooms(pair.server, rooms[r], sizes[i], i);
  }
}

static void rd5_a_pending_read_gets_the_count_of_a_longer_message(
    void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* task = read_begin(pair.server, 3);
  world_settle(w);
  CHECK_SIZE(0, task->calls);
  send_text(pair.client, "abcdefgh");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "abc", NPIPE_MORE);
  EXPECT_TEXT(pair.server, 3, "def", NPIPE_MORE);
  EXPECT_TEXT(pair.server, 3, "gh", 0);
}

/* ------------------------------------------------- RD4: the remainder */

static void rd4_the_rest_is_read_in_the_new_mode(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .read_mode = NPIPE_READ_BYTES};
  test_pair pair = pair_open(w, &options, NULL);
  npipe_conn* conn = pair.server->conn;
  send_text(pair.client, "abc");
  send_text(pair.client, "def");
  send_text(pair.client, "ghi");
  world_settle(w);
  EXPECT_TEXT(pair.server, 2, "ab", 0);
  CHECK_STATUS(0, CALL(w, npipe_set_read_mode(conn, NPIPE_READ_MESSAGES)));
  EXPECT_TEXT(pair.server, 10, "c", 0);
  EXPECT_TEXT(pair.server, 1, "d", NPIPE_MORE);
  CHECK_STATUS(0, CALL(w, npipe_set_read_mode(conn, NPIPE_READ_BYTES)));
  EXPECT_TEXT(pair.server, 10, "efghi", 0);
}

static void rd4_mode_of_one_end_is_no_business_of_the_other(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  CHECK_STATUS(
      0, CALL(w, npipe_set_read_mode(pair.client->conn, NPIPE_READ_BYTES)));
  send_text(pair.client, "ab");
  send_text(pair.client, "cd");
  send_text(pair.server, "ef");
  send_text(pair.server, "gh");
  world_settle(w);
  EXPECT_TEXT(pair.server, 16, "ab", 0);
  EXPECT_TEXT(pair.server, 16, "cd", 0);
  EXPECT_TEXT(pair.client, 16, "efgh", 0);
}

/* ------------------------------------------------- RD6 */

static void rd6_a_byte_read_returns_what_is_there(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  test_task* task = read_begin(pair.server, 1000);
  send_text(pair.client, "x");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "x", 0);

  npipe_client_options bytes = {.read_mode = NPIPE_READ_BYTES};
  pair_shut(&pair);
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  pair = pair_open(w, &options, &bytes);
  task = read_begin(pair.client, 1000);
  send_text(pair.server, "yz");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "yz", 0);
}

/* ------------------------------------------------- RD7: empty messages */

static void rd7_empty_message_in_message_mode(void** state) {
  test_pair pair = pair_of(*state, NPIPE_MESSAGE);
  send_text(pair.client, "");
  send_text(pair.client, "a");
  send_text(pair.client, "");
  send_text(pair.client, "");
  send_text(pair.client, "b");
  EXPECT_TEXT(pair.server, 8, "", 0);
  EXPECT_TEXT(pair.server, 8, "a", 0);
  EXPECT_TEXT(pair.server, 8, "", 0);
  EXPECT_TEXT(pair.server, 8, "", 0);
  EXPECT_TEXT(pair.server, 8, "b", 0);
}

static test_pair pair_reading_bytes(world* w) {
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .read_mode = NPIPE_READ_BYTES};
  npipe_client_options client = {.read_mode = NPIPE_READ_BYTES};
  return pair_open(w, &options, &client);
}

static void rd7_empty_message_alone_in_byte_mode(void** state) {
  world* w = *state;
  test_pair pair = pair_reading_bytes(w);
  send_text(pair.client, "");
  world_settle(w);
  EXPECT_TEXT(pair.server, 10, "", 0);
  send_text(pair.client, "x");
  EXPECT_TEXT(pair.server, 10, "x", 0);
}

static void rd7_empty_message_with_data_behind_in_byte_mode(void** state) {
  world* w = *state;
  test_pair pair = pair_reading_bytes(w);
  send_text(pair.server, "abc");
  send_text(pair.server, "");
  send_text(pair.server, "de");
  world_settle(w);
  EXPECT_TEXT(pair.client, 10, "abcde", 0);
}

static void rd7_byte_read_ending_before_an_empty_message(void** state) {
  world* w = *state;
  test_pair pair = pair_reading_bytes(w);
  send_text(pair.client, "abc");
  send_text(pair.client, "");
  world_settle(w);
  EXPECT_TEXT(pair.server, 3, "abc", 0);
  EXPECT_TEXT(pair.server, 3, "", 0);
  send_text(pair.client, "d");
  EXPECT_TEXT(pair.server, 3, "d", 0);
}

/* ------------------------------------------------- RD8: zero bytes */

static void zero_read_check(world* w, npipe_type type, unsigned flags) {
  test_pair pair = pair_of(w, type);
  test_task* task = read_begin(pair.server, 0);
  world_settle(w);
  CHECK_SIZE(0, task->calls);
  send_text(pair.client, "abc");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "", flags);
  EXPECT_TEXT(pair.server, 0, "", flags); /* again: nothing was consumed */
  EXPECT_TEXT(pair.server, 10, "abc", 0);

  task = read_begin(pair.server, 0); /* and it waits again */
  world_settle(w);
  CHECK_SIZE(0, task->calls);
  pair_shut(&pair);
  CHECK_STATUS(UV_ECANCELED, task->status);
}

static void rd8_zero_length_read_of_bytes_waits_and_takes_nothing(
    void** state) {
  zero_read_check(*state, NPIPE_BYTE, 0);
}

static void rd8_zero_length_read_of_messages_waits_and_takes_nothing(
    void** state) {
  zero_read_check(*state, NPIPE_MESSAGE, NPIPE_MORE);
}

static void rd8_zero_length_read_before_another_one(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  test_task* probe = read_begin(pair.server, 0);
  test_task* read = read_begin(pair.server, 10);
  send_text(pair.client, "abc");
  CHECK_STATUS(0, task_outcome(read));
  CHECK_SIZE(1, probe->calls);
  CHECK(probe->stamp < read->stamp);
  TASK_READ_TEXT(probe, "", 0);
  TASK_READ_TEXT(read, "abc", 0);
}

/* ------------------------------------------------- RD10: several reads */

static void rd10_one_message_serves_pending_reads_in_their_order(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* a = read_begin(pair.server, 2);
  test_task* b = read_begin(pair.server, 2);
  test_task* c = read_begin(pair.server, 2);
  test_task* d = read_begin(pair.server, 2);
  send_text(pair.client, "abcde");
  CHECK_STATUS(0, task_outcome(c));
  TASK_READ_TEXT(a, "ab", NPIPE_MORE);
  TASK_READ_TEXT(b, "cd", NPIPE_MORE);
  TASK_READ_TEXT(c, "e", 0);
  CHECK(a->stamp < b->stamp && b->stamp < c->stamp);
  world_settle(w);
  CHECK_SIZE(0, d->calls);
  send_text(pair.client, "f");
  CHECK_STATUS(0, task_outcome(d));
  TASK_READ_TEXT(d, "f", 0);
}

static void rd10_bytes_serve_pending_reads_in_their_order(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  test_task* a = read_begin(pair.client, 2);
  test_task* b = read_begin(pair.client, 2);
  test_task* c = read_begin(pair.client, 2);
  send_text(pair.server, "abcde");
  CHECK_STATUS(0, task_outcome(c));
  TASK_READ_TEXT(a, "ab", 0);
  TASK_READ_TEXT(b, "cd", 0);
  TASK_READ_TEXT(c, "e", 0);
  CHECK(a->stamp < b->stamp && b->stamp < c->stamp);
}

static void rd10_each_message_wakes_one_of_many_reads(void** state) {
  enum { READS = 50 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* reads[READS];
  for (int i = 0; i < READS; i++) reads[i] = read_begin(pair.server, 100);
  for (uint32_t i = 0; i < READS; i++) write_pattern(pair.client, i, i);
  CHECK_STATUS(0, task_outcome(reads[READS - 1]));
  for (uint32_t i = 0; i < READS; i++) {
    CHECK_SIZE(1, reads[i]->calls);
    CHECK_STATUS(0, reads[i]->status);
    CHECK_SIZE(i, reads[i]->size);
    CHECK(pattern_holds(reads[i]->data, i, i, 0));
    CHECK(i == 0 || reads[i - 1]->stamp < reads[i]->stamp);
  }
}

static void read_again(test_task* task) {
  unsigned* count = task->user;
  if (task->status != 0 || ++*count == 100) return;
  test_task* next = read_begin(task->end, 16);
  next->hook = task->hook;
  next->user = task->user;
}

static void rd10_reads_can_be_begun_in_the_callback_of_a_read(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  unsigned count = 0;
  for (uint32_t i = 0; i < 100; i++) write_pattern(pair.client, i % 16, i);
  test_task* first = read_begin(pair.server, 16);
  first->hook = read_again;
  first->user = &count;
  RUN_UNTIL(w, count == 100);
}

/* ------------------------------------------------- RD11: the end */

static void end_of_pipe_check(world* w, npipe_type type, int server_closes) {
  test_pair pair = pair_of(w, type);
  test_end* closer = server_closes ? pair.server : pair.client;
  test_end* reader = server_closes ? pair.client : pair.server;
  send_text(closer, "last");
  end_shut(closer);
  world_settle(w);
  EXPECT_TEXT(reader, 2, "la", type == NPIPE_MESSAGE ? NPIPE_MORE : 0);
  EXPECT_TEXT(reader, 16, "st", 0);
  for (int i = 0; i < 3; i++) {
    EXPECT_STATUS(reader, 16, UV_EOF);
    EXPECT_STATUS(reader, 0, UV_EOF);
  }
  pair_shut(&pair);
}

static void rd11_data_then_eof_for_ever(void** state) {
  end_of_pipe_check(*state, NPIPE_BYTE, 0);
  end_of_pipe_check(*state, NPIPE_BYTE, 1);
  end_of_pipe_check(*state, NPIPE_MESSAGE, 0);
  end_of_pipe_check(*state, NPIPE_MESSAGE, 1);
}

static void rd11_pending_reads_all_get_eof_in_their_order(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* a = read_begin(pair.server, 8);
  test_task* b = read_begin(pair.server, 0);
  test_task* c = read_begin(pair.server, 8);
  world_settle(w);
  end_shut(pair.client);
  CHECK_STATUS(UV_EOF, task_outcome(c));
  CHECK_STATUS(UV_EOF, a->status);
  CHECK_STATUS(UV_EOF, b->status);
  CHECK(a->stamp < b->stamp && b->stamp < c->stamp);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(rd1_client_reads_as_the_type_by_default),
      TEST(rd1_read_mode_is_an_option_of_each_end),
      TEST(rd1_messages_of_a_byte_pipe_are_refused),
      TEST(rd2_matrix_client_to_server),
      TEST(rd2_matrix_server_to_client),
      TEST(rd3_a_short_buffer_gets_the_rest_with_the_next_reads),
      TEST(rd4_the_rest_is_read_in_the_new_mode),
      TEST(rd4_mode_of_one_end_is_no_business_of_the_other),
      TEST(rd5_a_pending_read_gets_the_count_of_a_longer_message),
      TEST(rd6_a_byte_read_returns_what_is_there),
      TEST(rd7_empty_message_in_message_mode),
      TEST(rd7_empty_message_alone_in_byte_mode),
      TEST(rd7_empty_message_with_data_behind_in_byte_mode),
      TEST(rd7_byte_read_ending_before_an_empty_message),
      TEST(rd8_zero_length_read_of_bytes_waits_and_takes_nothing),
      TEST(rd8_zero_length_read_of_messages_waits_and_takes_nothing),
      TEST(rd8_zero_length_read_before_another_one),
      TEST(rd10_one_message_serves_pending_reads_in_their_order),
      TEST(rd10_bytes_serve_pending_reads_in_their_order),
      TEST(rd10_each_message_wakes_one_of_many_reads),
      TEST(rd10_reads_can_be_begun_in_the_callback_of_a_read),
      TEST(rd11_data_then_eof_for_ever),
      TEST(rd11_pending_reads_all_get_eof_in_their_order),
  };
  return harness_main(argc, argv, "read", tests, HARNESS_COUNT(tests), NULL);
}
