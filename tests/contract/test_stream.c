/*
 * Reading as a stream: npipe_read_start() and npipe_read_stop(). The rules of
 * single reads hold here too: RD3 in pieces, RD4 across a stop, RD7 and RD11.
 */
#include <string.h>

#include "harness.h"

static void stream_shows_each_message_whole(void** state) {
  static const size_t sizes[] = {0,    1,     2,     512,    4095,  4096, 0,
                                 4097, 65535, 65536, 65537,  0,     0,    9,
                                 8191, 8192,  8193,  200000, 65536, 5};
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  for (uint32_t i = 0; i < HARNESS_COUNT(sizes); i++)
    write_pattern(pair.client, sizes[i], i);
  RUN_UNTIL(w, stream->count == HARNESS_COUNT(sizes));
  for (uint32_t i = 0; i < HARNESS_COUNT(sizes); i++) {
    CHECK(stream_has_pattern(stream, i, sizes[i], i));
    CHECK_SIZE(1, stream->messages[i].pieces);
  }
}

/* A long queue is shown over several turns, while more is on its way. */
static void stream_that_starts_late_keeps_the_order(void** state) {
  enum { EARLY = 4000, LATE = 2000 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  for (uint32_t i = 0; i < EARLY; i++) write_pattern(pair.client, i % 9, i);
  world_run_for(w, 200);
  test_stream* stream = stream_begin(pair.server, 0);
  for (uint32_t i = EARLY; i < EARLY + LATE; i++) {
    write_pattern(pair.client, i % 9, i);
    if (i % 50 == 0) uv_run(&w->loop, UV_RUN_NOWAIT);
  }
  RUN_UNTIL(w, stream->count == EARLY + LATE);
  for (uint32_t i = 0; i < EARLY + LATE; i++)
    CHECK(stream_has_pattern(stream, i, i % 9, i));
}

static void rd3_stream_shows_longer_messages_in_pieces(void** state) {
  static const size_t sizes[] = {0,    1,    999,  1000,   1001, 0,
                                 1999, 2000, 2001, 100000, 1000, 3};
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.client, 1000);
  for (uint32_t i = 0; i < HARNESS_COUNT(sizes); i++)
    write_pattern(pair.server, sizes[i], i);
  RUN_UNTIL(w, stream->count == HARNESS_COUNT(sizes));
  for (uint32_t i = 0; i < HARNESS_COUNT(sizes); i++) {
    CHECK(stream_has_pattern(stream, i, sizes[i], i));
    if (sizes[i] <= 1000)
      CHECK_SIZE(1, stream->messages[i].pieces);
    else
      CHECK(stream->messages[i].pieces > 1);
  }
}

static void stream_of_a_byte_pipe_shows_what_has_arrived(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  test_stream* stream = stream_begin(pair.server, 0);
  for (size_t at = 0; at < 100000; at += 1000) {
    char data[1000];
    pattern_fill_from(data, sizeof data, 6, at);
    write_begin(pair.client, data, sizeof data);
  }
  RUN_UNTIL(w, stream->size == 100000);
  CHECK(pattern_holds(stream->bytes, stream->size, 6, 0));
  CHECK_SIZE(stream->pieces, stream->count); /* never MORE */
}

static void rd2_stream_of_bytes_on_a_message_pipe_has_no_bounds(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .read_mode = NPIPE_READ_BYTES};
  test_pair pair = pair_open(w, &options, NULL);
  for (int i = 0; i < 10; i++) send_text(pair.client, "0123456789");
  test_stream* stream = stream_begin(pair.server, 0);
  RUN_UNTIL(w, stream->size == 100);
  for (size_t i = 0; i < 100; i++) CHECK(stream->bytes[i] == '0' + i % 10);
  CHECK_SIZE(stream->pieces, stream->count);
}

/* ------------------------------------------------- stop and go on */

static void stop_after_each_piece(test_stream* stream) {
  if (stream->ends == 0) stream_stop(stream);
}

static void rd4_stop_in_a_message_and_go_on_with_single_reads(void** state) {
  enum { SIZE = 30000 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 100);
  stream->hook = stop_after_each_piece;
  send_pattern(pair.client, SIZE, 1);
  send_pattern(pair.client, 10, 2);
  RUN_UNTIL(w, stream->pieces == 1);
  world_settle(w);
  CHECK_SIZE(1, stream->pieces); /* stopped is stopped */
  CHECK(stream->last_flags == NPIPE_MORE);
  CHECK(stream->size < SIZE);

  test_task* task = read_begin(pair.server, 50);
  CHECK_STATUS(0, task_outcome(task));
  CHECK_SIZE(50, task->size);
  CHECK_SIZE(NPIPE_MORE, task->flags);
  CHECK(pattern_holds(task->data, 50, 1, stream->size));

  stream->hook = NULL;
  size_t seen = stream->size;
  CHECK_STATUS(0, stream_resume(stream));
  RUN_UNTIL(w, stream->count == 2);
  CHECK_SIZE(SIZE - 50 + 10, stream->size);
  CHECK(pattern_holds(stream->bytes + seen, SIZE - 50 - seen, 1, seen + 50));
  CHECK(stream_has_pattern(stream, 1, 10, 2));
}

static void stop_and_start(test_stream* stream) {
  if (stream->ends) return;
  stream_stop(stream);
  if (stream_resume(stream) != 0)
    world_violation(stream->world, "a stream cannot be started again");
}

static void stop_and_start_in_the_callback_loses_nothing(void** state) {
  enum { MESSAGES = 300 };
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    test_stream* stream = stream_begin(pair.server, 64);
    stream->hook = stop_and_start;
    size_t total = 0;
    for (uint32_t i = 0; i < MESSAGES; i++) {
      write_pattern(pair.client, (i * 7) % 200, i);
      total += (i * 7) % 200;
    }
    RUN_UNTIL(w, stream->size == total);
    size_t at = 0;
    for (uint32_t i = 0; i < MESSAGES; i++) {
      CHECK(pattern_holds(stream->bytes + at, (i * 7) % 200, i, 0));
      at += (i * 7) % 200;
    }
    if (type == NPIPE_MESSAGE) CHECK_SIZE(MESSAGES, stream->count);
    pair_shut(&pair);
  }
}

static void read_one(test_stream* stream) {
  if (stream->ends) return;
  stream_stop(stream);
  stream->user = read_begin(stream->end, 100);
}

static void read_once_in_the_callback_of_a_stream(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  stream->hook = read_one;
  send_text(pair.client, "one");
  send_text(pair.client, "two");
  RUN_UNTIL(w, stream->user != NULL);
  test_task* task = stream->user;
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "two", 0);
  CHECK_SIZE(1, stream->count);
  CHECK(stream_has_text(stream, 0, "one"));
}

static void stop_keeps_what_was_not_shown(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  stream->hook = stop_after_each_piece;
  send_text(pair.client, "one");
  send_text(pair.client, "");
  send_text(pair.client, "three");
  RUN_UNTIL(w, stream->count == 1);
  world_settle(w);
  CHECK_SIZE(1, stream->count);
  EXPECT_TEXT(pair.server, 8, "", 0);
  EXPECT_TEXT(pair.server, 8, "three", 0);
}

static void stop_without_a_stream_does_nothing(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_read_stop(pair.server->conn);
  test_task* task = read_begin(pair.server, 8);
  npipe_read_stop(pair.server->conn); /* a single read is no stream */
  send_text(pair.client, "x");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "x", 0);
}

/* ------------------------------------------------- the end */

static void close_end(test_stream* stream) {
  end_close(stream->end);
}

static void close_in_the_callback(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    test_stream* stream = stream_begin(pair.server, 4);
    stream->hook = close_end;
    for (int i = 0; i < 10; i++) write_begin(pair.client, "0123456789", 10);
    RUN_UNTIL(w, pair.server->closes == 1);
    CHECK_SIZE(1, stream->pieces); /* nothing after the close */
    CHECK_SIZE(0, stream->ends);
    pair_shut(&pair);
  }
}

static void close_server_and_both_ends(test_stream* stream) {
  test_pair* pair = stream->user;
  end_close(pair->client);
  host_close(pair->host);
  end_close(pair->server);
}

static void close_everything_in_the_callback(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  stream->user = &pair;
  stream->hook = close_server_and_both_ends;
  send_text(pair.client, "x");
  RUN_UNTIL(w, pair.server->closes && pair.client->closes && pair.host->closes);
}

static void rd11_stream_shows_all_and_ends_once(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    for (uint32_t i = 0; i < 10; i++) send_pattern(pair.server, 1000, i);
    end_shut(pair.server);
    test_stream* stream = stream_begin(pair.client, 0);
    RUN_UNTIL(w, stream->ends == 1);
    CHECK_STATUS(UV_EOF, stream->end_status);
    CHECK_SIZE(10000, stream->size);
    for (uint32_t i = 0; i < 10; i++)
      CHECK(pattern_holds(stream->bytes + i * 1000, 1000, i, 0));
    world_settle(w);
    CHECK_SIZE(1, stream->ends);
    EXPECT_STATUS(pair.client, 8, UV_EOF); /* the stream is over: no EBUSY */
    CHECK_STATUS(0, stream_resume(stream));
    RUN_UNTIL(w, stream->ends == 1);
    CHECK_STATUS(UV_EOF, stream->end_status);
    pair_shut(&pair);
  }
}

static void rd7_an_empty_message_does_not_end_a_stream(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.client, 0);
  for (int i = 0; i < 100; i++) write_begin(pair.server, NULL, 0);
  write_begin(pair.server, "end", 3);
  RUN_UNTIL(w, stream->count == 101);
  for (size_t i = 0; i < 100; i++) CHECK(stream_has_text(stream, i, ""));
  CHECK(stream_has_text(stream, 100, "end"));
  CHECK_SIZE(0, stream->ends);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(stream_shows_each_message_whole),
      TEST(stream_that_starts_late_keeps_the_order),
      TEST(rd3_stream_shows_longer_messages_in_pieces),
      TEST(stream_of_a_byte_pipe_shows_what_has_arrived),
      TEST(rd2_stream_of_bytes_on_a_message_pipe_has_no_bounds),
      TEST(rd4_stop_in_a_message_and_go_on_with_single_reads),
      TEST(stop_and_start_in_the_callback_loses_nothing),
      TEST(read_once_in_the_callback_of_a_stream),
      TEST(stop_keeps_what_was_not_shown),
      TEST(stop_without_a_stream_does_nothing),
      TEST(close_in_the_callback),
      TEST(close_everything_in_the_callback),
      TEST(rd11_stream_shows_all_and_ends_once),
      TEST(rd7_an_empty_message_does_not_end_a_stream),
  };
  return harness_main(argc, argv, "stream", tests, HARNESS_COUNT(tests), NULL);
}
