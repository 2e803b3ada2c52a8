/* Writing: WR1, WR2, WR6 to WR9, npipe_try_write() and npipe_queued_bytes(). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define MIB ((size_t) 1024 * 1024)

/* ------------------------------------------------- WR1, WR2: one message */

static void wr1_gathered_buffers_are_one_message(void** state) {
  enum { BUFFERS = 9 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  char data[1024];
  pattern_fill(data, sizeof data, 7);
  size_t expected[BUFFERS + 1];
  for (unsigned n = 1; n <= BUFFERS; n++) {
    uv_buf_t bufs[BUFFERS];
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
      unsigned size = i % 3 == 1 ? 0 : 3 + 10 * i; /* some are empty */
      bufs[i] = uv_buf_init(data + at, size);
      at += size;
    }
    expected[n] = at;
    int status;
    test_task* task = write_try(pair.client, bufs, n, &status);
    CHECK(task != NULL);
    CHECK_STATUS(0, task_outcome(task));
  }
  RUN_UNTIL(w, stream->count == BUFFERS);
  for (unsigned n = 1; n <= BUFFERS; n++)
    CHECK(stream_has_pattern(stream, n - 1, expected[n], 7));
}

static void wr1_many_writes_in_one_turn_keep_order_and_bounds(void** state) {
  enum { WRITES = 2000 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.client, 0);
  test_task* last = NULL;
  for (uint32_t i = 0; i < WRITES; i++)
    last = write_pattern(pair.server, (i * 37) % 700, i);
  CHECK_STATUS(0, task_outcome(last));
  RUN_UNTIL(w, stream->count == WRITES);
  for (uint32_t i = 0; i < WRITES; i++)
    CHECK(stream_has_pattern(stream, i, (i * 37) % 700, i));
}

static void wr1_write_callbacks_come_in_order(void** state) {
  enum { WRITES = 20 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  test_task* writes[WRITES];
  for (uint32_t i = 0; i < WRITES; i++)
    writes[i] = write_pattern(pair.client, i % 2 ? 50000 : i, i);
  RUN_UNTIL(w, stream->count == WRITES);
  for (uint32_t i = 0; i < WRITES; i++) {
    CHECK_STATUS(0, task_outcome(writes[i]));
    CHECK(i == 0 || writes[i - 1]->stamp < writes[i]->stamp);
    CHECK(stream_has_pattern(stream, i, i % 2 ? 50000 : i, i));
  }
}

static void wr1_both_directions_at_once(void** state) {
  enum { WRITES = 100, SIZE = 10000 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* in = stream_begin(pair.server, 0);
  test_stream* out = stream_begin(pair.client, 0);
  for (uint32_t i = 0; i < WRITES; i++) {
    write_pattern(pair.client, SIZE, i);
    write_pattern(pair.server, SIZE, i + 128);
  }
  RUN_UNTIL(w, in->count == WRITES && out->count == WRITES);
  for (uint32_t i = 0; i < WRITES; i++) {
    CHECK(stream_has_pattern(in, i, SIZE, i));
    CHECK(stream_has_pattern(out, i, SIZE, i + 128));
  }
}

static void big_message(world* w, size_t size) {
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  test_pair pair = pair_open(w, &options, NULL);
  test_stream* stream = stream_begin(pair.server, 0);
  test_task* task = write_pattern(pair.client, size, 3);
  write_pattern(pair.client, 1, 4);
  RUN_UNTIL(w, stream->count == 2);
  CHECK_STATUS(0, task_outcome(task));
  CHECK(stream_has_pattern(stream, 0, size, 3));
  CHECK(stream_has_pattern(stream, 1, 1, 4));
  pair_shut(&pair);
}

static void wr2_a_write_is_never_short(void** state) {
  static const size_t sizes[] = {4095,  4096,  4097,   65535,  65536,
                                 65537, 99999, 262144, 1048576};
  for (size_t i = 0; i < HARNESS_COUNT(sizes); i++)
    big_message(*state, sizes[i]);
}

static void wr2_a_message_of_the_default_limit(void** state) {
  big_message(*state, NPIPE_MESSAGE_DEFAULT_BYTES);
}

static void wr2_a_big_write_of_bytes_arrives_whole(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  test_task* task = write_pattern(pair.server, 4 * MIB, 9);
  expect_pattern_bytes(pair.client, 100000, 4 * MIB, 9);
  CHECK_STATUS(0, task_outcome(task));
}

static void wr2_a_big_message_in_single_reads(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* task = write_pattern(pair.server, MIB, 9);
  expect_pattern_bytes(pair.client, 100000, MIB, 9);
  CHECK_STATUS(0, task_outcome(task));
}

/* ------------------------------------------------- WR6: zero bytes */

static void wr6_empty_message_wakes_one_read(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* a = read_begin(pair.server, 8);
  test_task* b = read_begin(pair.server, 8);
  send_text(pair.client, "");
  CHECK_STATUS(0, task_outcome(a));
  TASK_READ_TEXT(a, "", 0);
  world_settle(w);
  CHECK_SIZE(0, b->calls);
  send_text(pair.client, "b");
  CHECK_STATUS(0, task_outcome(b));
  TASK_READ_TEXT(b, "b", 0);
}

static void wr6_empty_message_wakes_a_read_of_bytes(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .read_mode = NPIPE_READ_BYTES};
  test_pair pair = pair_open(w, &options, NULL);
  test_task* a = read_begin(pair.server, 8);
  test_task* b = read_begin(pair.server, 8);
  send_text(pair.client, "");
  CHECK_STATUS(0, task_outcome(a));
  TASK_READ_TEXT(a, "", 0);
  world_settle(w);
  CHECK_SIZE(0, b->calls);
}

static void wr6_empty_messages_without_any_buffer(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  uv_buf_t empty[3];
  for (int i = 0; i < 3; i++) empty[i] = uv_buf_init(NULL, 0);
  int status;
  CHECK_STATUS(0, task_outcome(write_try(pair.client, empty, 1, &status)));
  CHECK_STATUS(0, task_outcome(write_try(pair.client, empty, 3, &status)));
  send_text(pair.client, "end");
  RUN_UNTIL(w, stream->count == 3);
  CHECK(stream_has_text(stream, 0, ""));
  CHECK(stream_has_text(stream, 1, ""));
  CHECK(stream_has_text(stream, 2, "end"));
}

static void wr6_zero_bytes_on_a_byte_pipe_wake_nobody(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  test_task* task = read_begin(pair.server, 8);
  send_text(pair.client, "");
  world_settle(w);
  CHECK_SIZE(0, task->calls);
  send_text(pair.client, "a");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "a", 0);
}

static void wr6_zero_bytes_keep_their_place_among_writes(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  test_task* a = write_begin(pair.client, "a", 1);
  test_task* b = write_begin(pair.client, NULL, 0);
  test_task* c = write_begin(pair.client, "c", 1);
  CHECK_STATUS(0, task_outcome(c));
  CHECK_STATUS(0, b->status);
  CHECK(a->stamp < b->stamp && b->stamp < c->stamp);
  world_settle(w);
  EXPECT_TEXT(pair.server, 8, "ac", 0);
}

/* ------------------------------------------------- WR7 */

static void wr7_a_write_is_done_without_a_reader(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    send_pattern(pair.client, 30000, 1);
    send_pattern(pair.server, 30000, 2);
    expect_pattern_bytes(pair.server, 4000, 30000, 1);
    expect_pattern_bytes(pair.client, 4000, 30000, 2);
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- WR8: the peer is gone */

static void gone_peer_check(world* w, npipe_type type, int server_closes) {
  test_pair pair = pair_of(w, type);
  test_end* closer = server_closes ? pair.server : pair.client;
  test_end* writer = server_closes ? pair.client : pair.server;
  end_shut(closer);
  world_settle(w);
  test_task* task = write_begin(writer, "x", 1);
  CHECK_STATUS(UV_EPIPE, task_outcome(task));
  if (type == NPIPE_MESSAGE) {
    task = write_begin(writer, "", 0);
    CHECK_STATUS(UV_EPIPE, task_outcome(task));
  }
  char byte = 'y';
  uv_buf_t buf = uv_buf_init(&byte, 1);
  CHECK_STATUS(UV_EPIPE, CALL(w, npipe_try_write(writer->conn, &buf, 1)));
  EXPECT_STATUS(writer, 8, UV_EOF);
  task = write_begin(writer, "x", 1);
  CHECK_STATUS(UV_EPIPE, task_outcome(task));
  CHECK_SIZE(0, npipe_queued_bytes(writer->conn));
  pair_shut(&pair);
}

static void wr8_writing_to_a_closed_peer(void** state) {
  gone_peer_check(*state, NPIPE_BYTE, 0);
  gone_peer_check(*state, NPIPE_BYTE, 1);
  gone_peer_check(*state, NPIPE_MESSAGE, 0);
  gone_peer_check(*state, NPIPE_MESSAGE, 1);
}

/* ------------------------------------------------- WR9: the limit */

static void limit_check(world* w, test_end* end, test_stream* stream) {
  size_t before = stream->count;
  char data[1001];
  pattern_fill(data, sizeof data, 5);
  uv_buf_t two[2] = {uv_buf_init(data, 500), uv_buf_init(data + 500, 501)};
  int status;
  CHECK(write_try(end, two, 2, &status) == NULL);
  CHECK_STATUS(UV_EMSGSIZE, status);
  CHECK_STATUS(UV_EMSGSIZE, CALL(w, npipe_try_write(end->conn, two, 2)));
  CHECK_STATUS(UV_EMSGSIZE, npipe_last_error()->code);
  CHECK_SIZE(0, npipe_queued_bytes(end->conn));
  two[1].len = 500;
  CHECK_STATUS(0, task_outcome(write_try(end, two, 2, &status)));
  RUN_UNTIL(w, stream->count > before);
  world_settle(w);
  CHECK_SIZE(before + 1, stream->count);
  CHECK(stream_has_pattern(stream, before, 1000, 5));
}

static void wr9_a_message_beyond_the_limit_is_not_written(void** state) {
  world* w = *state;
  npipe_server_options server = {.type = NPIPE_MESSAGE,
                                 .message_max_bytes = 1000};
  npipe_client_options client = {.message_max_bytes = 1000};
  test_pair pair = pair_open(w, &server, &client);
  limit_check(w, pair.client, stream_begin(pair.server, 0));
  limit_check(w, pair.server, stream_begin(pair.client, 0));
}

static void wr9_the_default_limit(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  size_t size = (size_t) NPIPE_MESSAGE_DEFAULT_BYTES + 1;
  char* data = calloc(size, 1);
  CHECK(data != NULL);
  uv_buf_t buf = uv_buf_init(data, (unsigned) size);
  int status;
  test_task* task = write_try(pair.client, &buf, 1, &status);
  free(data);
  CHECK(task == NULL);
  CHECK_STATUS(UV_EMSGSIZE, status);
}

/* ------------------------------------------------- try_write, queued */

static void fill_and_drain(world* w, npipe_type type) {
  enum { SIZE = 1000, MANY = 100000 };
  test_pair pair = pair_of(w, type);
  unsigned char data[SIZE];
  size_t taken = 0;
  int rc = 0;
  while (taken < MANY) { /* the loop does not run, so nobody reads */
    pattern_fill_from(data, SIZE, 11, taken * SIZE);
    uv_buf_t buf = uv_buf_init((char*) data, SIZE);
    rc = CALL(w, npipe_try_write(pair.client->conn, &buf, 1));
    if (rc != 0) break;
    memset(data, 0, SIZE); /* the data is ours again at once */
    taken++;
  }
  CHECK_STATUS(UV_EAGAIN, rc);
  CHECK(taken > 0);
  test_task* last = write_begin(pair.client, "end", 3);
  expect_pattern_bytes(pair.server, 700, taken * SIZE, 11);
  EXPECT_TEXT(pair.server, 700, "end", 0);
  CHECK_STATUS(0, task_outcome(last));
  CHECK_SIZE(0, npipe_queued_bytes(pair.client->conn));
  pair_shut(&pair);
}

static void try_write_until_it_would_block_loses_nothing(void** state) {
  fill_and_drain(*state, NPIPE_BYTE);
  fill_and_drain(*state, NPIPE_MESSAGE);
}

static void try_write_keeps_its_place_behind_pending_writes(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  write_pattern(pair.client, 4 * MIB, 1);
  char byte = 'x';
  uv_buf_t buf = uv_buf_init(&byte, 1);
  int rc = CALL(w, npipe_try_write(pair.client->conn, &buf, 1));
  CHECK_STATUS(UV_EAGAIN, rc); /* an earlier write is pending */
  RUN_UNTIL(w, stream->count == 1);
  RUN_UNTIL(w, npipe_queued_bytes(pair.client->conn) == 0);
  CHECK_STATUS(0, CALL(w, npipe_try_write(pair.client->conn, &buf, 1)));
  buf.len = 0;
  CHECK_STATUS(0, CALL(w, npipe_try_write(pair.client->conn, &buf, 1)));
  RUN_UNTIL(w, stream->count == 3);
  CHECK(stream_has_pattern(stream, 0, 4 * MIB, 1));
  CHECK(stream_has_text(stream, 1, "x"));
  CHECK(stream_has_text(stream, 2, ""));
}

static void queued_bytes_count_what_is_not_called_back(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_conn* conn = pair.client->conn;
  CHECK_SIZE(0, npipe_queued_bytes(conn));
  write_pattern(pair.client, 1000, 1);
  CHECK_SIZE(1000, npipe_queued_bytes(conn));
  write_pattern(pair.client, 0, 2);
  test_task* last = write_pattern(pair.client, 500, 3);
  CHECK_SIZE(1500, npipe_queued_bytes(conn));
  CHECK_STATUS(0, task_outcome(last));
  CHECK_SIZE(0, npipe_queued_bytes(conn));
  CHECK_SIZE(0, npipe_queued_bytes(pair.server->conn));
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(wr1_gathered_buffers_are_one_message),
      TEST(wr1_many_writes_in_one_turn_keep_order_and_bounds),
      TEST(wr1_write_callbacks_come_in_order),
      TEST(wr1_both_directions_at_once),
      TEST(wr2_a_write_is_never_short),
      TEST(wr2_a_message_of_the_default_limit),
      TEST(wr2_a_big_write_of_bytes_arrives_whole),
      TEST(wr2_a_big_message_in_single_reads),
      TEST(wr6_empty_message_wakes_one_read),
      TEST(wr6_empty_message_wakes_a_read_of_bytes),
      TEST(wr6_empty_messages_without_any_buffer),
      TEST(wr6_zero_bytes_on_a_byte_pipe_wake_nobody),
      TEST(wr6_zero_bytes_keep_their_place_among_writes),
      TEST(wr7_a_write_is_done_without_a_reader),
      TEST(wr8_writing_to_a_closed_peer),
      TEST(wr9_a_message_beyond_the_limit_is_not_written),
      TEST(wr9_the_default_limit),
      TEST(try_write_until_it_would_block_loses_nothing),
      TEST(try_write_keeps_its_place_behind_pending_writes),
      TEST(queued_bytes_count_what_is_not_called_back),
  };
  return harness_main(argc, argv, "write", tests, HARNESS_COUNT(tests), NULL);
}
