/*
 * Closing: CL1, CL2, CL4 to CL6 and ST6. How long a close goes on with pending
 * writes is in test_linger.c, a process that dies in test_death.c.
 */
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "harness.h"

#define BIG ((size_t) 8 * 1024 * 1024) /* beyond every quota and buffer */

static test_pair pair_between(world* w, npipe_type type, int server_first,
                              test_end** one, test_end** other) {
  test_pair pair = pair_of(w, type);
  *one = server_first ? pair.server : pair.client;
  *other = server_first ? pair.client : pair.server;
  return pair;
}

/* ------------------------------------------------- CL1: what was written */

static void survive_check(world* w, npipe_type type, int server_closes) {
  test_end *closer, *reader;
  test_pair pair = pair_between(w, type, server_closes, &closer, &reader);
  size_t total = 0;
  for (uint32_t i = 0; i < 10; i++) {
    send_pattern(closer, i * 600, i); /* the first one is empty */
    total += i * 600;
  }
  end_shut(closer);
  world_settle(w);
  test_stream* stream = stream_begin(reader, 0);
  RUN_UNTIL(w, stream->ends == 1);
  CHECK_STATUS(UV_EOF, stream->end_status);
  CHECK_SIZE(total, stream->size);
  size_t at = 0;
  for (uint32_t i = 0; i < 10; i++) {
    CHECK(pattern_holds(stream->bytes + at, i * 600, i, 0));
    at += i * 600;
    if (type == NPIPE_MESSAGE) CHECK(stream_has_pattern(stream, i, i * 600, i));
  }
  pair_shut(&pair);
}

static void cl1_written_data_survives_the_close(void** state) {
  survive_check(*state, NPIPE_BYTE, 0);
  survive_check(*state, NPIPE_BYTE, 1);
  survive_check(*state, NPIPE_MESSAGE, 0);
  survive_check(*state, NPIPE_MESSAGE, 1);
}

static void cl1_empty_messages_survive_the_close(void** state) {
  world* w = *state;
  for (int server_closes = 0; server_closes < 2; server_closes++) {
    test_end *closer, *reader;
    test_pair pair =
        pair_between(w, NPIPE_MESSAGE, server_closes, &closer, &reader);
    send_text(closer, "");
    send_text(closer, "");
    end_shut(closer);
    EXPECT_TEXT(reader, 8, "", 0);
    EXPECT_TEXT(reader, 8, "", 0);
    EXPECT_STATUS(reader, 8, UV_EOF);
    pair_shut(&pair);
  }
}

static void close_own_end(test_task* task) {
  end_close(task->end);
}

static void cl1_close_in_the_callback_of_the_write(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    test_task* task = write_pattern(pair.server, 50000, 1);
    task->hook = close_own_end;
    expect_pattern_bytes(pair.client, 50000, 50000, 1);
    EXPECT_STATUS(pair.client, 8, UV_EOF);
    CHECK_STATUS(0, task->status);
    pair_shut(&pair);
  }
}

static void cl1_the_peer_has_unread_data_too(void** state) {
  world* w = *state;
  test_end *closer, *reader;
  for (int i = 0; i < 4; i++) {
    test_pair pair =
        pair_between(w, (npipe_type) (i % 2), i / 2, &closer, &reader);
    send_text(closer, "good");
    send_text(closer, "bye");
    send_text(reader, "never read"); /* a reset, on a socket */
    world_settle(w);
    end_shut(closer);
    world_settle(w);
    EXPECT_TEXT(reader, 4, "good", 0);
    EXPECT_TEXT(reader, 4, "bye", 0);
    EXPECT_STATUS(reader, 4, UV_EOF);
    pair_shut(&pair);
  }
}

/* The same with the unread data at every distance from the closer. */
static void cl1_unread_data_is_on_its_way_to_the_closer(void** state) {
  world* w = *state;
  test_end *closer, *reader;
  for (int i = 0; i < 24; i++) {
    test_pair pair =
        pair_between(w, (npipe_type) (i % 2), i / 2 % 2, &closer, &reader);
    send_text(closer, "good");
    send_text(closer, "bye");
    test_task* write = write_pattern(reader, 20000, 1);
    for (int turn = 0; turn < i / 4; turn++) uv_run(&w->loop, UV_RUN_NOWAIT);
    end_close(closer);
    EXPECT_TEXT(reader, 4, "good", 0);
    EXPECT_TEXT(reader, 4, "bye", 0);
    EXPECT_STATUS(reader, 4, UV_EOF);
    if (task_outcome(write) != 0) CHECK_STATUS(UV_EPIPE, write->status);
    pair_shut(&pair);
  }
}

static void cl1_what_try_write_took_survives_the_close(void** state) {
  enum { SIZE = 500 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  char data[SIZE];
  uint32_t taken = 0;
  for (; taken < 100000; taken++) {
    pattern_fill(data, SIZE, taken);
    uv_buf_t buf = uv_buf_init(data, SIZE);
    if (CALL(w, npipe_try_write(pair.client->conn, &buf, 1)) != 0) break;
  }
  CHECK(taken > 0 && taken < 100000);
  end_close(pair.client); /* waits for the reader */
  test_stream* stream = stream_begin(pair.server, 0);
  RUN_UNTIL(w, stream->ends == 1);
  CHECK_SIZE(taken, stream->count);
  for (uint32_t i = 0; i < taken; i++)
    CHECK(stream_has_pattern(stream, i, SIZE, i));
}

/* On Unix more than the window that may be under way: it goes on being sent
 * while the connection is closed. */
static void cl1_a_big_try_write_survives_the_close(void** state) {
  enum { SIZE = 1 << 20 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  char* data = must_alloc(SIZE);
  pattern_fill(data, SIZE, 7);
  uv_buf_t buf = uv_buf_init(data, SIZE);
  CHECK_STATUS(0, CALL(w, npipe_try_write(pair.client->conn, &buf, 1)));
  free(data); /* a copy was taken */
  end_close(pair.client);
  test_stream* stream = stream_begin(pair.server, 0);
  RUN_UNTIL(w, stream->ends == 1);
  CHECK_SIZE(SIZE, stream->size);
  CHECK(pattern_holds(stream->bytes, SIZE, 7, 0));
}

/* A close never waits for ever: npipe.h says five seconds. */
static void close_gives_up_on_a_peer_that_does_not_read(void** state) {
  enum { SIZE = 1000, LINGER_MS = 5000, SLOW_MS = 5000 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  char data[SIZE];
  uint32_t taken = 0;
  for (; taken < 100000; taken++) {
    pattern_fill(data, SIZE, taken);
    uv_buf_t buf = uv_buf_init(data, SIZE);
    if (CALL(w, npipe_try_write(pair.client->conn, &buf, 1)) != 0) break;
  }
  CHECK(taken > 0 && taken < 100000);
  uint64_t start = uv_hrtime();
  end_shut(pair.client); /* the server's end does not read */
  CHECK(uv_hrtime() - start < (LINGER_MS + SLOW_MS) * 1000000ull);
  test_stream* stream = stream_begin(pair.server, 0);
  RUN_UNTIL(w, stream->ends == 1);
  CHECK_STATUS(UV_EOF, stream->end_status);
  CHECK(stream->count <= taken);
  for (uint32_t i = 0; i < stream->count; i++)
    CHECK(stream_has_pattern(stream, i, SIZE, i));
}

/* ------------------------------------------------- CL2: what was not read */

static void cl2_the_writer_sees_only_that_the_reader_is_gone(void** state) {
  world* w = *state;
  test_end *closer, *writer;
  for (int i = 0; i < 4; i++) {
    test_pair pair =
        pair_between(w, (npipe_type) (i % 2), i / 2, &closer, &writer);
    test_task* write = write_begin(writer, "lost", 4);
    CHECK_STATUS(0, task_outcome(write)); /* in the pipe: a success (WR7) */
    world_settle(w);
    end_shut(closer);
    EXPECT_STATUS(writer, 8, UV_EOF);
    CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(writer, "x", 1)));
    EXPECT_STATUS(writer, 8, UV_EOF);
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- CL4: the survivor */

static void cl4_pending_reads_of_the_survivor_end(void** state) {
  world* w = *state;
  test_end *closer, *survivor;
  for (int i = 0; i < 4; i++) {
    test_pair pair =
        pair_between(w, (npipe_type) (i % 2), i / 2, &closer, &survivor);
    test_task* read = read_begin(survivor, 8);
    world_settle(w);
    end_close(closer);
    CHECK_STATUS(UV_EOF, task_outcome(read));
    CHECK_SIZE(0, read->size);
    pair_shut(&pair);
    pair = pair_between(w, (npipe_type) (i % 2), i / 2, &closer, &survivor);
    test_stream* stream = stream_begin(survivor, 0);
    world_settle(w);
    end_close(closer);
    RUN_UNTIL(w, stream->ends == 1);
    CHECK_STATUS(UV_EOF, stream->end_status);
    CHECK_SIZE(0, stream->pieces);
    pair_shut(&pair);
  }
}

static void cl4_a_pending_write_of_the_survivor_fails(void** state) {
  world* w = *state;
  test_end *closer, *survivor;
  for (int i = 0; i < 4; i++) {
    test_pair pair =
        pair_between(w, (npipe_type) (i % 2), i / 2, &closer, &survivor);
    test_task* first = write_pattern(survivor, BIG, 1);
    test_task* second = write_pattern(survivor, 10, 2);
    end_close(closer);
    CHECK_STATUS(UV_EPIPE, task_outcome(first));
    CHECK_STATUS(UV_EPIPE, task_outcome(second));
    CHECK(first->stamp < second->stamp);
    CHECK_SIZE(0, npipe_queued_bytes(survivor->conn));
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- CL5: the closer */

static void cl5_pending_operations_of_the_closer_are_cancelled(void** state) {
  world* w = *state;
  test_end *closer, *other;
  for (int i = 0; i < 4; i++) {
    test_pair pair =
        pair_between(w, (npipe_type) (i % 2), i / 2, &closer, &other);
    test_task* reads[2] = {read_begin(closer, 8), read_begin(closer, 0)};
    test_task* writes[2] = {write_pattern(closer, BIG, 1),
                            write_pattern(closer, 10, 2)};
    end_drop(closer);
    for (int k = 0; k < 2; k++) {
      CHECK_SIZE(1, reads[k]->calls);
      CHECK_SIZE(1, writes[k]->calls);
      CHECK_STATUS(UV_ECANCELED, reads[k]->status);
      CHECK_STATUS(UV_ECANCELED, writes[k]->status);
      CHECK(reads[k]->stamp < closer->close_stamp);
      CHECK(writes[k]->stamp < closer->close_stamp);
    }
    pair_shut(&pair);
  }
}

static void cl5_a_message_sent_in_part_vanishes(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  send_text(pair.client, "whole");
  test_task* write = write_pattern(pair.client, BIG, 1);
  end_drop(pair.client);
  CHECK_STATUS(UV_ECANCELED, write->status);
  test_stream* stream = stream_begin(pair.server, 0);
  RUN_UNTIL(w, stream->ends == 1);
  CHECK_STATUS(UV_EOF, stream->end_status);
  CHECK_SIZE(1, stream->pieces);
  CHECK_SIZE(1, stream->count);
  CHECK(stream_has_text(stream, 0, "whole"));
}

/* With a reader at work, the message may get through before the close. */
static void cl5_a_message_arrives_whole_or_not_at_all(void** state) {
  world* w = *state;
  for (int turns = 0; turns < 12; turns++) {
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    test_stream* stream = stream_begin(pair.server, 0);
    test_task* write = write_pattern(pair.client, BIG, 1);
    for (int i = 0; i < turns; i++) uv_run(&w->loop, UV_RUN_NOWAIT);
    end_drop(pair.client);
    RUN_UNTIL(w, stream->ends == 1);
    CHECK_STATUS(UV_EOF, stream->end_status);
    CHECK_SIZE(stream->count, stream->pieces);
    CHECK(stream->count <= 1);
    if (stream->count) CHECK(stream_has_pattern(stream, 0, BIG, 1));
    if (write->status == 0)
      CHECK_SIZE(1, stream->count);
    else
      CHECK_STATUS(UV_ECANCELED, write->status);
    pair_shut(&pair);
  }
}

static void cl5_a_stream_of_the_closer_is_not_called_again(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  send_text(pair.client, "x");
  end_shut(pair.server);
  CHECK_SIZE(0, stream->ends);
}

/* ------------------------------------------------- CL6: which end closes */

static void cl6_the_last_end_of_the_server_takes_the_name_along(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* read = read_begin(pair.client, 8);
  host_shut(pair.host);
  world_settle(w);
  CHECK_SIZE(0, read->calls); /* the connection lives */
  end_shut(pair.server);
  CHECK_STATUS(UV_EOF, task_outcome(read));
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
  CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(pair.client, "x", 1)));
}

static void cl6_the_close_of_a_client_keeps_the_instance_occupied(
    void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 2};
  test_pair pair = pair_open(w, &options, NULL);
  test_end* second = end_open(w, NULL);
  host_accept(pair.host);
  end_shut(second);
  world_settle(w);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  end_shut(pair.server);
  end_open(w, NULL);
}

/* ------------------------------------------------- ST6: other processes */

static int play_sleeper(const char* argument) {
  (void) argument;
  child_say("asleep");
  uv_sleep(60000);
  return 0;
}

static void st6_a_started_program_keeps_nothing_alive(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_of(w, (npipe_type) type);
    test_child* child = child_start(w, "sleeper", "");
    child_await(child, "asleep");
    end_shut(pair.client);
    EXPECT_STATUS(pair.server, 8, UV_EOF);
    end_shut(pair.server);
    host_shut(pair.host);
    CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
    test_host* again = host_open_type(w, NPIPE_MESSAGE);
    host_shut(again);
    CHECK_SIZE(0, child->exits); /* it slept all the time */
    child_kill(child);
    pair_shut(&pair);
  }
}

static void forked_check(world* w, int server_closes, int* pid) {
  test_end *closer, *other;
  test_pair pair =
      pair_between(w, NPIPE_MESSAGE, server_closes, &closer, &other);
  test_task* read = read_begin(other, 8);
  *pid = os_fork_holder();
  if (*pid == 0) SKIP_BECAUSE("ST6", "this system has no fork()");
  send_text(closer, "last");
  end_shut(closer);
  CHECK_STATUS(0, task_outcome(read));
  TASK_READ_TEXT(read, "last", 0);
  EXPECT_STATUS(other, 8, UV_EOF);
  CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(other, "x", 1)));
  end_shut(other);
  host_shut(pair.host);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
  os_end_holder(*pid);
  *pid = 0;
  pair_shut(&pair);
}

static void st6_a_forked_copy_keeps_nothing_alive(void** state) {
  static int pid;
  forked_check(*state, 0, &pid);
  forked_check(*state, 1, &pid);
}

/* ------------------------------------------------- order and repetition */

static void close_callbacks_are_optional(void** state) {
  world* w = *state;
  npipe_server* server;
  npipe_conn* conn;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* client = end_open(w, NULL);
  RUN_UNTIL(w, host->arrivals == 1);
  server = host->server;
  CHECK_STATUS(0, CALL(w, npipe_accept(server, &conn)));
  npipe_close(conn, NULL, NULL);
  EXPECT_STATUS(client, 8, UV_EOF);
}

static void a_second_close_does_nothing(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  end_close(pair.client);
  npipe_close(pair.client->conn, NULL, NULL);
  host_close(pair.host);
  npipe_server_close(pair.host->server, NULL, NULL);
  end_close(pair.server);
  npipe_close(pair.server->conn, NULL, NULL);
  RUN_UNTIL(w, pair.client->closes && pair.server->closes &&
                   pair.host->closes); /* by the callbacks of the first */
}

static void both_ends_close_in_one_turn(void** state) {
  world* w = *state;
  for (int i = 0; i < 8; i++) {
    test_pair pair = pair_of(w, (npipe_type) (i % 2));
    test_task* tasks[4] = {read_begin(pair.client, 8),
                           read_begin(pair.server, 8),
                           write_pattern(pair.client, i / 4 ? BIG : 10, 1),
                           write_pattern(pair.server, i / 4 ? BIG : 10, 2)};
    if (i / 2 % 2) {
      end_close(pair.client);
      end_close(pair.server);
    } else {
      end_close(pair.server);
      end_close(pair.client);
    }
    pair_shut(&pair);
    for (int k = 0; k < 4; k++) { /* a small one may be done already */
      int status = tasks[k]->status;
      if (k >= 2 && status == UV_EPIPE) continue; /* the other was first */
      if (status != 0) CHECK_STATUS(UV_ECANCELED, status);
    }
  }
}

static const test_role roles[] = {{"sleeper", play_sleeper}, {NULL, NULL}};

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(cl1_written_data_survives_the_close),
      TEST(cl1_empty_messages_survive_the_close),
      TEST(cl1_close_in_the_callback_of_the_write),
      TEST(cl1_the_peer_has_unread_data_too),
      TEST(cl1_unread_data_is_on_its_way_to_the_closer),
      TEST(cl1_what_try_write_took_survives_the_close),
      TEST(cl1_a_big_try_write_survives_the_close),
      TEST(close_gives_up_on_a_peer_that_does_not_read),
      TEST(cl2_the_writer_sees_only_that_the_reader_is_gone),
      TEST(cl4_pending_reads_of_the_survivor_end),
      TEST(cl4_a_pending_write_of_the_survivor_fails),
      TEST(cl5_pending_operations_of_the_closer_are_cancelled),
      TEST(cl5_a_message_sent_in_part_vanishes),
      TEST(cl5_a_message_arrives_whole_or_not_at_all),
      TEST(cl5_a_stream_of_the_closer_is_not_called_again),
      TEST(cl6_the_last_end_of_the_server_takes_the_name_along),
      TEST(cl6_the_close_of_a_client_keeps_the_instance_occupied),
      TEST(st6_a_started_program_keeps_nothing_alive),
      TEST(st6_a_forked_copy_keeps_nothing_alive),
      TEST(close_callbacks_are_optional),
      TEST(a_second_close_does_nothing),
      TEST(both_ends_close_in_one_turn),
  };
  return harness_main(argc, argv, "close", tests, HARNESS_COUNT(tests), roles);
}
