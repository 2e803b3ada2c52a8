/*
 * Throwing a client out: DI1 to DI4, ST4, ST5; and rejecting one that nobody
 * has accepted yet.
 */
#include <string.h>

#include "harness.h"

#define BIG ((size_t) 4 * 1024 * 1024) /* beyond every quota and buffer */

static void await_thrown_out(test_end* client) {
  RUN_UNTIL(client->world, info_status(client) == UV_ECONNABORTED);
}

/* With one instance: the next client gets this one, and not a fresh one that
 * has listened for longer (OP5). */
static test_pair pair_one(world* w, npipe_type type) {
  npipe_server_options options = {.type = type, .max_instances = 1};
  return pair_open(w, &options, NULL);
}

/* The server's end lets the next client in. */
static test_end* reuse(test_end* server) {
  world* w = server->world;
  test_task* listen = listen_begin(server, NPIPE_WAIT_FOREVER);
  test_end* client = end_connect(w, w->name, CONNECT_MS, NULL);
  CHECK_STATUS(0, end_outcome(client));
  CHECK_STATUS(0, task_outcome(listen));
  return client;
}

static void both_ways_work(test_end* server, test_end* client) {
  send_text(client, "ask");
  EXPECT_TEXT(server, 16, "ask", 0);
  send_text(server, "answer");
  EXPECT_TEXT(client, 16, "answer", 0);
}

/* ------------------------------------------------- DI1: unread data goes */

static void di1_unread_data_of_both_directions_is_gone(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_one(w, (npipe_type) type);
    send_text(pair.server, "never read by the client");
    send_text(pair.client, "never read by the server");
    world_settle(w);
    CHECK_STATUS(0, end_disconnect(pair.server));
    EXPECT_STATUS(pair.client, 64, UV_ECONNABORTED);
    EXPECT_STATUS(pair.server, 64, UV_ECONNABORTED);
    test_end* next = reuse(pair.server);
    CHECK_SIZE(0, peek_available(pair.server));
    CHECK_SIZE(0, peek_available(next));
    both_ways_work(pair.server, next);
    pair_shut(&pair);
  }
}

static void di1_the_rest_of_a_half_read_message_goes_too(void** state) {
  world* w = *state;
  test_pair pair = pair_one(w, NPIPE_MESSAGE);
  send_text(pair.server, "abcdef");
  send_text(pair.client, "ghijkl");
  EXPECT_TEXT(pair.client, 2, "ab", NPIPE_MORE);
  EXPECT_TEXT(pair.server, 2, "gh", NPIPE_MORE);
  CHECK_STATUS(0, end_disconnect(pair.server));
  await_thrown_out(pair.client);
  EXPECT_STATUS(pair.client, 8, UV_ECONNABORTED);
  both_ways_work(pair.server, reuse(pair.server));
}

/* What was flushed before has been read. */
static void di1_flush_before_the_disconnect(void** state) {
  world* w = *state;
  test_pair pair = pair_one(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.client, 0);
  for (uint32_t i = 0; i < 20; i++) write_pattern(pair.server, 9000, i);
  CHECK_STATUS(0, task_outcome(flush_begin(pair.server, NPIPE_WAIT_FOREVER)));
  CHECK_STATUS(0, end_disconnect(pair.server));
  RUN_UNTIL(w, stream->ends == 1);
  CHECK_STATUS(UV_ECONNABORTED, stream->end_status);
  CHECK_SIZE(20, stream->count);
  for (uint32_t i = 0; i < 20; i++)
    CHECK(stream_has_pattern(stream, i, 9000, i));
}

/* ------------------------------------------------- DI2: what is pending */

static void di2_pending_operations_of_both_ends_end(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_one(w, (npipe_type) type);
    test_end* ends[2] = {pair.server, pair.client};
    test_task* tasks[2][5];
    for (int i = 0; i < 2; i++) {
      tasks[i][0] = write_pattern(ends[i], BIG, 1);
      tasks[i][1] = write_pattern(ends[i], 10, 2);
      tasks[i][2] = flush_begin(ends[i], NPIPE_WAIT_FOREVER);
      tasks[i][3] = flush_begin(ends[i], 60000);
    }
    world_settle(w);
    CHECK_STATUS(0, end_disconnect(pair.server));
    for (int i = 0; i < 2; i++)
      for (int k = 0; k < 4; k++)
        CHECK_STATUS(UV_ECONNABORTED, task_outcome(tasks[i][k]));
    CHECK_SIZE(0, npipe_queued_bytes(pair.server->conn));
    CHECK_SIZE(0, npipe_queued_bytes(pair.client->conn));
    pair_shut(&pair);
  }
}

static void di2_pending_reads_and_transactions_end(void** state) {
  world* w = *state;
  test_pair pair = pair_one(w, NPIPE_MESSAGE);
  test_task* reads[2] = {read_begin(pair.server, 8),
                         read_begin(pair.server, 0)};
  test_task* ask = transact_begin(pair.client, "", 8, NPIPE_WAIT_FOREVER);
  CHECK_STATUS(0, task_outcome(reads[0])); /* the empty request */
  world_settle(w);
  CHECK_STATUS(0, end_disconnect(pair.server));
  CHECK_STATUS(UV_ECONNABORTED, task_outcome(reads[1]));
  CHECK_STATUS(UV_ECONNABORTED, task_outcome(ask));
  pair_shut(&pair);
  pair = pair_one(w, NPIPE_BYTE);
  test_task* read = read_begin(pair.client, 8);
  test_stream* stream = stream_begin(pair.server, 0);
  world_settle(w);
  CHECK_STATUS(0, end_disconnect(pair.server));
  CHECK_SIZE(0, stream->ends); /* never inside the call */
  CHECK_STATUS(UV_ECONNABORTED, task_outcome(read));
  RUN_UNTIL(w, stream->ends == 1);
  CHECK_STATUS(UV_ECONNABORTED, stream->end_status);
}

/* The client's library is in the middle of a long message. */
static void di2_a_message_is_half_sent(void** state) {
  world* w = *state;
  for (int turns = 0; turns < 12; turns++) {
    for (int from_server = 0; from_server < 2; from_server++) {
      test_pair pair = pair_one(w, NPIPE_MESSAGE);
      test_ends ends = pair_ends(&pair, from_server);
      test_stream* stream = stream_begin(ends.peer, 0);
      test_task* write = write_pattern(ends.self, BIG, 1);
      for (int i = 0; i < turns; i++) uv_run(&w->loop, UV_RUN_NOWAIT);
      CHECK_STATUS(0, end_disconnect(pair.server));
      RUN_UNTIL(w, stream->ends == 1 && write->calls == 1);
      CHECK_STATUS(UV_ECONNABORTED, stream->end_status);
      CHECK(stream->count <= 1);
      CHECK_SIZE(stream->count, stream->pieces); /* whole or not at all */
      if (stream->count) CHECK(stream_has_pattern(stream, 0, BIG, 1));
      if (write->status != 0) CHECK_STATUS(UV_ECONNABORTED, write->status);
      both_ways_work(pair.server, reuse(pair.server));
      pair_shut(&pair);
    }
  }
}

/* The client's loop stands still while all of it happens. */
static void di2_the_client_was_asleep(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_one(w, (npipe_type) type);
    for (uint32_t i = 0; i < 60; i++) write_pattern(pair.server, 4000, i);
    CHECK_STATUS(0, end_disconnect(pair.server));
    EXPECT_STATUS(pair.client, 8, UV_ECONNABORTED);
    CHECK_STATUS(UV_ECONNABORTED,
                 task_outcome(write_begin(pair.client, "x", 1)));
    pair_shut(&pair);
  }
}

/* The server closes right behind it; the client still learns why (ST4). */
static void st4_the_server_is_closed_right_after(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_one(w, (npipe_type) type);
    send_text(pair.server, "gone");
    write_pattern(pair.server, BIG, 1);
    test_task* write = write_pattern(pair.client, BIG, 1);
    world_settle(w);
    CHECK_STATUS(0, end_disconnect(pair.server));
    end_close(pair.server);
    host_close(pair.host);
    CHECK_STATUS(UV_ECONNABORTED, task_outcome(write));
    EXPECT_STATUS(pair.client, 8, UV_ECONNABORTED);
    end_shut(pair.server);
    EXPECT_STATUS(pair.client, 8, UV_ECONNABORTED);
    CHECK_STATUS(UV_ECONNABORTED, peek_status(pair.client));
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- DI3, ST4: afterwards */

static void di3_a_second_disconnect_is_refused(void** state) {
  test_pair pair = pair_one(*state, NPIPE_MESSAGE);
  for (int round = 0; round < 3; round++) {
    CHECK_STATUS(0, end_disconnect(pair.server));
    for (int i = 0; i < 3; i++)
      CHECK_STATUS(UV_ECONNABORTED, end_disconnect(pair.server));
    CHECK_STATUS(UV_ECONNABORTED, npipe_last_error()->code);
    reuse(pair.server);
  }
}

/* The first thing that the client does tells it; each time another thing. */
static void st4_the_client_learns_it_by_whatever_it_does(void** state) {
  enum { WAYS = 8 };
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair = pair_one(w, NPIPE_MESSAGE);
    npipe_conn* conn = pair.client->conn;
    npipe_peer peer;
    send_text(pair.server, "unread");
    world_settle(w);
    CHECK_STATUS(0, end_disconnect(pair.server));
    if (way % 2) world_settle(w);
    int got = 0;
    switch (way) {
      case 0: got = task_outcome(read_begin(pair.client, 8)); break;
      case 1: got = task_outcome(write_begin(pair.client, "x", 1)); break;
      case 2: got = peek_status(pair.client); break;
      case 3: got = task_outcome(flush_begin(pair.client, 5000)); break;
      case 4: got = info_status(pair.client); break;
      case 5: got = CALL(w, npipe_set_read_mode(conn, NPIPE_READ_BYTES)); break;
      case 6:
        got = task_outcome(transact_begin(pair.client, "x", 8, 5000));
        break;
      case 7: got = peer_try(pair.client, NPIPE_PEER_PID, &peer); break;
      default: break;
    }
    if (got != UV_ECONNABORTED)
      fail_msg("way %d: got %s", way, status_name(got));
    EXPECT_STATUS(pair.client, 8, UV_ECONNABORTED);
    test_stream* stream = stream_begin(pair.client, 0);
    RUN_UNTIL(w, stream->ends == 1);
    CHECK_STATUS(UV_ECONNABORTED, stream->end_status);
    pair_shut(&pair);
  }
}

static void st2_a_client_cannot_disconnect(void** state) {
  world* w = *state;
  test_pair pair = pair_one(w, NPIPE_MESSAGE);
  CHECK_STATUS(UV_ENOTSUP, end_disconnect(pair.client));
  CHECK_STATUS(UV_ENOTSUP, npipe_last_error()->code);
  both_ways_work(pair.server, pair.client);
}

/* ------------------------------------------------- DI4, ST5: once more */

static void st5_it_refuses_clients_until_it_listens(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_pair pair = pair_open(w, &options, NULL);
  CHECK_STATUS(0, end_disconnect(pair.server));
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  world_settle(w);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  test_end* waiting = end_connect(w, w->name, CONNECT_MS, NULL);
  world_settle(w);
  CHECK_SIZE(0, waiting->connects);
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  CHECK_STATUS(0, end_outcome(waiting));
  CHECK_STATUS(0, task_outcome(listen));
  CHECK_SIZE(1, pair.host->arrivals); /* it is not handed out again */
  both_ways_work(pair.server, waiting);
}

/* One instance, a hundred clients, things pending at each disconnect. */
static void di4_a_hundred_clients_of_one_instance(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    npipe_server_options options = {.type = (npipe_type) type,
                                    .max_instances = 1};
    test_pair pair = pair_open(w, &options, NULL);
    test_end* client = pair.client;
    for (int round = 0; round < 100; round++) {
      both_ways_work(pair.server, client);
      test_task* owed[4] = {NULL};
      if (round % 2) owed[0] = write_pattern(pair.server, 200000, 1);
      if (round % 3) owed[1] = write_pattern(client, 200000, 2);
      if (round % 5 == 1) owed[2] = flush_begin(pair.server, 60000);
      if (round % 3 == 0) owed[3] = read_begin(client, 8);
      if (round % 7 == 0) end_drop(client);
      CHECK_STATUS(0, end_disconnect(pair.server));
      test_task* listen = listen_begin(pair.server, 20000);
      test_end* next = end_connect(w, w->name, CONNECT_MS, NULL);
      CHECK_STATUS(0, task_outcome(listen));
      CHECK_STATUS(0, end_outcome(next));
      for (int i = 0; i < 4; i++)
        if (owed[i]) CHECK(task_outcome(owed[i]) <= 0);
      end_drop(client);
      client = next;
    }
    CHECK_SIZE(1, pair.host->arrivals);
    CHECK_SIZE(1, end_info(pair.server).instances);
    pair_shut(&pair);
    end_drop(client);
  }
}

static void listen_again(test_task* task) {
  if (end_disconnect(task->end) != 0)
    world_violation(task->world, "no disconnect in a callback");
  listen_begin(task->end, NPIPE_WAIT_FOREVER);
}

static void di4_disconnect_and_listen_in_a_callback(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_pair pair = pair_open(w, &options, NULL);
  test_end* client = pair.client;
  for (int round = 0; round < 20; round++) {
    test_task* read = read_begin(pair.server, 8);
    read->hook = listen_again;
    send_text(client, "bye");
    await_thrown_out(client);
    CHECK_STATUS(0, read->status);
    client = end_open(w, NULL);
    RUN_UNTIL(w, end_state(pair.server) == NPIPE_STATE_CONNECTED);
  }
}

/* Connected or not, the instance counts until its end is closed. */
static void di4_the_place_among_the_instances_is_kept(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 2};
  test_pair pair = pair_open(w, &options, NULL);
  CHECK_STATUS(0, end_disconnect(pair.server));
  test_end* second = end_open(w, NULL);
  test_end* second_end = host_accept(pair.host);
  both_ways_work(second_end, second);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  end_shut(pair.server); /* gives the place back */
  test_end* third = end_open(w, NULL);
  both_ways_work(host_accept(pair.host), third);
}

static void close_while_disconnected(void** state) {
  world* w = *state;
  test_pair pair = pair_one(w, NPIPE_MESSAGE);
  CHECK_STATUS(0, end_disconnect(pair.server));
  host_shut(pair.host);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  end_shut(pair.server);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
  EXPECT_STATUS(pair.client, 8, UV_ECONNABORTED);
}

/* ------------------------------------------------- rejecting */

static void a_rejected_client_finds_itself_disconnected(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_host* host = host_open(w, &options);
  CHECK_STATUS(UV_EAGAIN, CALL(w, npipe_reject(host->server)));
  for (int round = 0; round < 5; round++) {
    test_end* client = end_open(w, NULL);
    test_task* read = read_begin(client, 8);
    RUN_UNTIL(w, host->arrivals == (unsigned) round + 1);
    CHECK_STATUS(0, CALL(w, npipe_reject(host->server)));
    CHECK_STATUS(UV_EAGAIN, CALL(w, npipe_reject(host->server)));
    CHECK_STATUS(UV_ECONNABORTED, task_outcome(read));
    CHECK(host_take(host) == NULL);
  }
  test_end* client = end_open(w, NULL);
  RUN_UNTIL(w, host->arrivals == 6); /* the instance came back */
  both_ways_work(host_accept(host), client);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(di1_unread_data_of_both_directions_is_gone),
      TEST(di1_the_rest_of_a_half_read_message_goes_too),
      TEST(di1_flush_before_the_disconnect),
      TEST(di2_pending_operations_of_both_ends_end),
      TEST(di2_pending_reads_and_transactions_end),
      TEST(di2_a_message_is_half_sent),
      TEST(di2_the_client_was_asleep),
      TEST(st4_the_server_is_closed_right_after),
      TEST(di3_a_second_disconnect_is_refused),
      TEST(st4_the_client_learns_it_by_whatever_it_does),
      TEST(st2_a_client_cannot_disconnect),
      TEST(st5_it_refuses_clients_until_it_listens),
      TEST(di4_a_hundred_clients_of_one_instance),
      TEST(di4_disconnect_and_listen_in_a_callback),
      TEST(di4_the_place_among_the_instances_is_kept),
      TEST(close_while_disconnected),
      TEST(a_rejected_client_finds_itself_disconnected),
  };
  return harness_main(argc, argv, "disconnect", tests, HARNESS_COUNT(tests),
                      NULL);
}
