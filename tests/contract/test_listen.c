/*
 * Letting the next client into an instance: LN1 to LN7, OP5, and the end of
 * the name while one listens (OP7).
 */
#include <string.h>

#include "harness.h"

static npipe_server_options one_instance(npipe_type type) {
  return (npipe_server_options){.type = type, .max_instances = 1};
}

/* A pair whose client is thrown out and closed: the end can listen. */
static test_pair pair_used(world* w, npipe_type type, unsigned max) {
  npipe_server_options options = {.type = type, .max_instances = max};
  test_pair pair = pair_open(w, &options, NULL);
  CHECK_STATUS(0, end_disconnect(pair.server));
  end_drop(pair.client);
  return pair;
}

static void talk(test_end* server, test_end* client) {
  send_text(client, "ask");
  EXPECT_TEXT(server, 16, "ask", 0);
  send_text(server, "answer");
  EXPECT_TEXT(client, 16, "answer", 0);
}

/* ------------------------------------------------- LN1 to LN4 */

static void ln1_a_client_is_there_already(void** state) {
  world* w = *state;
  npipe_server_options options = one_instance(NPIPE_MESSAGE);
  test_pair pair = pair_open(w, &options, NULL);
  for (int i = 0; i < 3; i++)
    CHECK_STATUS(0, task_outcome(listen_begin(pair.server, 0)));
  talk(pair.server, pair.client); /* nothing has changed */
}

/* A listen that nobody asked for (backwards in time): the client came after
 * the first one was cancelled. */
static void ln1_a_client_came_between_two_listens(void** state) {
  world* w = *state;
  test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  CHECK_STATUS(0, task_cancel(listen));
  CHECK_STATUS(UV_ECANCELED, task_outcome(listen));
  test_end* client = end_open(w, NULL);
  world_settle(w);
  CHECK_STATUS(0, task_outcome(listen_begin(pair.server, 0)));
  talk(pair.server, client);
}

static void ln2_the_last_client_has_closed(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    npipe_server_options options = one_instance((npipe_type) type);
    test_pair pair = pair_open(w, &options, NULL);
    send_text(pair.client, "left");
    end_shut(pair.client);
    RUN_UNTIL(w, end_state(pair.server) == NPIPE_STATE_CLOSING);
    CHECK_STATUS(UV_EPIPE, task_outcome(listen_begin(pair.server, 100)));
    EXPECT_TEXT(pair.server, 8, "left", 0); /* the data is still there */
    CHECK_STATUS(UV_EPIPE, task_outcome(listen_begin(pair.server, 100)));
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
    CHECK_STATUS(0, end_disconnect(pair.server));
    test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
    test_end* client = end_open(w, NULL);
    CHECK_STATUS(0, task_outcome(listen));
    talk(pair.server, client);
    pair_shut(&pair);
    end_drop(client);
  }
}

/* It comes, writes and goes, before the server's program looks. */
static void ln2_a_client_comes_and_goes_while_it_listens(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_used(w, (npipe_type) type, 1);
    test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
    test_end* client = end_open(w, NULL);
    write_begin(client, "was here", 8);
    end_shut(client);
    CHECK_STATUS(0, task_outcome(listen));
    EXPECT_TEXT(pair.server, 16, "was here", 0);
    EXPECT_STATUS(pair.server, 16, UV_EOF);
    CHECK_STATUS(UV_EPIPE, task_outcome(listen_begin(pair.server, 100)));
    pair_shut(&pair);
  }
}

static void ln3_it_waits_for_a_client(void** state) {
  world* w = *state;
  test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  world_run_for(w, 150);
  CHECK_SIZE(0, listen->calls);
  int status;
  CHECK(read_try(pair.server, 8, &status) == NULL);
  CHECK_STATUS(UV_ENOTCONN, status);
  npipe_peer peer;
  CHECK_STATUS(UV_ENOTCONN, peer_try(pair.server, NPIPE_PEER_PID, &peer));
  test_end* client = end_open(w, NULL);
  CHECK_STATUS(0, task_outcome(listen));
  talk(pair.server, client);
}

/* CR8 for a listening instance: the client need not wait for the program. */
static void ln4_the_client_writes_before_anyone_reads(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    test_pair pair = pair_used(w, (npipe_type) type, 1);
    test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
    CHECK_STATUS(0, task_cancel(listen));
    test_end* client = end_open(w, NULL);
    send_pattern(client, 3000, 1);
    world_settle(w);
    CHECK_STATUS(0, task_outcome(listen_begin(pair.server, 0)));
    expect_pattern_bytes(pair.server, 3000, 3000, 1);
    pair_shut(&pair);
    end_drop(client);
  }
}

static void begin_talk(test_task* listen) {
  if (listen->status != 0) return;
  write_begin(listen->end, "hello", 5);
  ((test_task**) listen->user)[0] = read_begin(listen->end, 8);
}

static void ln4_read_and_write_in_the_callback(void** state) {
  world* w = *state;
  test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
  test_task* read = NULL;
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  listen->hook = begin_talk;
  listen->user = &read;
  test_end* client = end_open(w, NULL);
  EXPECT_TEXT(client, 8, "hello", 0);
  send_text(client, "thanks");
  CHECK_STATUS(0, task_outcome(read));
  TASK_READ_TEXT(read, "thanks", 0);
}

/* The read mode is the end's own and outlives its client. */
static void ln4_the_read_mode_is_kept(void** state) {
  world* w = *state;
  test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
  CHECK_STATUS(
      0, CALL(w, npipe_set_read_mode(pair.server->conn, NPIPE_READ_BYTES)));
  listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  test_end* client = end_open(w, NULL);
  send_text(client, "ab");
  send_text(client, "cd");
  RUN_UNTIL(w, peek_available(pair.server) == 4);
  EXPECT_TEXT(pair.server, 8, "abcd", 0);
}

/* ------------------------------------------------- LN6: cancel, timeout */

static void ln6_a_cancelled_listen_leaves_it_listening(void** state) {
  world* w = *state;
  test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  world_settle(w);
  CHECK_STATUS(0, task_cancel(listen));
  CHECK_STATUS(UV_ENOENT, task_cancel(listen));
  CHECK_STATUS(UV_ECANCELED, task_outcome(listen));
  CHECK(end_state(pair.server) == NPIPE_STATE_LISTENING);
  test_end* client = end_open(w, NULL);
  RUN_UNTIL(w, end_state(pair.server) == NPIPE_STATE_CONNECTED);
  talk(pair.server, client);
}

static void ln6_a_listen_out_of_time_leaves_it_listening(void** state) {
  world* w = *state;
  test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
  CHECK_STATUS(UV_ETIMEDOUT, task_outcome(listen_begin(pair.server, 0)));
  CHECK_STATUS(UV_ETIMEDOUT, task_outcome(listen_begin(pair.server, 30)));
  CHECK(end_state(pair.server) == NPIPE_STATE_LISTENING);
  test_task* second = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  test_end* client = end_open(w, NULL);
  CHECK_STATUS(0, task_outcome(second));
  talk(pair.server, client);
}

static void ln6_one_client_ends_all_pending_listens(void** state) {
  enum { LISTENS = 6 };
  world* w = *state;
  test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
  test_task* listens[LISTENS];
  for (int i = 0; i < LISTENS; i++)
    listens[i] = listen_begin(pair.server, i % 2 ? 60000 : NPIPE_WAIT_FOREVER);
  test_task* late = listen_begin(pair.server, 20);
  CHECK_STATUS(UV_ETIMEDOUT, task_outcome(late));
  CHECK_STATUS(0, task_cancel(listens[2]));
  CHECK_STATUS(UV_ECANCELED, task_outcome(listens[2]));
  test_end* client = end_open(w, NULL);
  for (int i = 0; i < LISTENS; i++)
    if (i != 2) CHECK_STATUS(0, task_outcome(listens[i]));
  for (int i = 1; i < LISTENS; i++)
    if (i != 2 && i != 3) CHECK(listens[i]->stamp > listens[i - 1]->stamp);
  talk(pair.server, client);
}

/* ------------------------------------------------- LN7: the end of it */

static void ln7_close_with_pending_listens(void** state) {
  world* w = *state;
  for (int abort = 0; abort < 2; abort++) {
    test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
    test_task* one = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
    test_task* two = listen_begin(pair.server, 60000);
    world_settle(w);
    if (abort)
      end_drop(pair.server);
    else
      end_shut(pair.server);
    CHECK_STATUS(UV_ECANCELED, one->status);
    CHECK_STATUS(UV_ECANCELED, two->status);
    CHECK(two->stamp < pair.server->close_stamp);
    test_end* client = end_open(w, NULL); /* a new instance */
    test_end* fresh = host_accept(pair.host);
    talk(fresh, client);
    end_drop(fresh); /* it would hold the name (OP7) */
    pair_shut(&pair);
    end_drop(client);
  }
}

static void ln7_disconnect_with_pending_listens(void** state) {
  world* w = *state;
  test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
  test_task* one = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  test_task* two = listen_begin(pair.server, 60000);
  world_settle(w);
  CHECK_STATUS(0, end_disconnect(pair.server));
  CHECK_STATUS(UV_ECONNABORTED, task_outcome(one));
  CHECK_STATUS(UV_ECONNABORTED, task_outcome(two));
  CHECK(end_state(pair.server) == NPIPE_STATE_DISCONNECTED);
  SKIP_IF_WINE_DIFFERS("LN7");
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  test_task* again = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  test_end* client = end_open(w, NULL);
  CHECK_STATUS(0, task_outcome(again));
  talk(pair.server, client);
}

/* In the same turn as a client's connect: one of both wins, nobody hangs. */
static void ln7_disconnect_or_close_while_a_client_comes(void** state) {
  world* w = *state;
  for (int i = 0; i < 24; i++) {
    test_pair pair = pair_used(w, NPIPE_MESSAGE, 1);
    test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
    test_end* client = end_connect(w, w->name, 400, NULL);
    for (int turn = 0; turn < i / 2; turn++) uv_run(&w->loop, UV_RUN_NOWAIT);
    if (i % 2)
      end_close(pair.server);
    else
      CHECK_STATUS(0, end_disconnect(pair.server));
    test_end* fresh = NULL;
    int heard = task_outcome(listen);
    int status = end_outcome(client);
    if (heard != 0) CHECK_STATUS(i % 2 ? UV_ECANCELED : UV_ECONNABORTED, heard);
    if (status != 0) CHECK_STATUS(UV_ETIMEDOUT, status);
    if (status == 0) { /* the old one or, after the close, a new instance */
      test_task* read = read_begin(client, 8);
      world_settle(w);
      if (read->calls == 0) fresh = host_accept(pair.host);
      if (fresh) send_text(fresh, "hi");
      CHECK(task_outcome(read) <= 0);
    }
    if (fresh) end_drop(fresh); /* it would hold the name (OP7) */
    pair_shut(&pair);
    end_drop(client);
  }
}

/* ------------------------------------------------- OP5: who is next */

static void op5_instances_are_taken_in_the_order_they_listen(void** state) {
  enum { INSTANCES = 4 };
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .max_instances = INSTANCES};
  test_host* host = host_open(w, &options);
  test_end* ends[INSTANCES];
  test_task* listens[INSTANCES];
  static const int order[INSTANCES] = {2, 0, 3, 1};
  for (int i = 0; i < INSTANCES; i++) {
    test_end* client = end_open(w, NULL);
    ends[i] = host_accept(host);
    CHECK_STATUS(0, end_disconnect(ends[i]));
    end_drop(client);
  }
  for (int i = 0; i < INSTANCES; i++)
    listens[i] = listen_begin(ends[order[i]], NPIPE_WAIT_FOREVER);
  for (int i = 0; i < INSTANCES; i++) {
    end_open(w, NULL);
    CHECK_STATUS(0, task_outcome(listens[i]));
    for (int k = i + 1; k < INSTANCES; k++) CHECK_SIZE(0, listens[k]->calls);
  }
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  CHECK_SIZE(INSTANCES, host->arrivals);
}

/* Fresh instances listen for longer than one that listens again. */
static void op5_it_comes_after_those_that_have_listened_longer(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 2};
  test_pair pair = pair_open(w, &options, NULL);
  world_settle(w); /* the second instance listens by now */
  CHECK_STATUS(0, end_disconnect(pair.server));
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  test_end* first = end_open(w, NULL);
  test_end* first_end = host_accept(pair.host);
  CHECK_SIZE(0, listen->calls);
  talk(first_end, first);
  test_end* second = end_open(w, NULL);
  CHECK_STATUS(0, task_outcome(listen));
  talk(pair.server, second);
}

/* ------------------------------------------------- OP7: after the server */

static void op7_it_listens_also_after_the_server_is_closed(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  test_pair pair = pair_open(w, &options, NULL);
  host_shut(pair.host);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  CHECK_STATUS(0, end_disconnect(pair.server));
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  test_end* client = end_open(w, NULL);
  CHECK_STATUS(0, task_outcome(listen));
  talk(pair.server, client);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  CHECK_STATUS(0, end_disconnect(pair.server));
  listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  end_shut(pair.server);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
}

static void op7_waiting_clients_learn_that_the_last_end_is_gone(void** state) {
  world* w = *state;
  npipe_server_options options = one_instance(NPIPE_MESSAGE);
  test_pair pair = pair_open(w, &options, NULL);
  test_end* one = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  host_shut(pair.host);
  test_end* two = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_settle(w);
  CHECK_SIZE(0, one->connects + two->connects);
  end_shut(pair.server);
  CHECK_STATUS(UV_ENOENT, end_outcome(one));
  CHECK_STATUS(UV_ENOENT, end_outcome(two));
}

static void st2_a_client_cannot_listen(void** state) {
  test_pair pair = pair_of(*state, NPIPE_MESSAGE);
  int status;
  CHECK(listen_try(pair.client, 0, &status) == NULL);
  CHECK_STATUS(UV_ENOTSUP, status);
  talk(pair.server, pair.client);
}

/* The stream of the client before is told that it is over, also if the next one
 * waits already and the instance listens in the stream's own callback; it never
 * sees a byte of the next one. */
static void throw_out_and_listen(test_stream* stream) {
  if (stream->ends || stream->user != NULL) return;
  stream->user = stream;
  if (end_disconnect(stream->end) != 0)
    world_violation(stream->world, "disconnect in a stream's callback");
  listen_begin(stream->end, NPIPE_WAIT_FOREVER);
}

static void di2_a_stream_ends_before_the_next_client(void** state) {
  world* w = *state;
  npipe_server_options options = one_instance(NPIPE_MESSAGE);
  test_pair pair = pair_open(w, &options, NULL);
  test_stream* stream = stream_begin(pair.server, 0);
  stream->hook = throw_out_and_listen;
  test_end* next = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_settle(w);
  write_begin(pair.client, "bye", 3);
  RUN_UNTIL(w, next->connects && stream->ends);
  CHECK_STATUS(UV_ECONNABORTED, stream->end_status);
  CHECK_SIZE(3, stream->size);
  talk(pair.server, next);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(ln1_a_client_is_there_already),
      TEST(ln1_a_client_came_between_two_listens),
      TEST(ln2_the_last_client_has_closed),
      TEST(ln2_a_client_comes_and_goes_while_it_listens),
      TEST(ln3_it_waits_for_a_client),
      TEST(ln4_the_client_writes_before_anyone_reads),
      TEST(ln4_read_and_write_in_the_callback),
      TEST(ln4_the_read_mode_is_kept),
      TEST(ln6_a_cancelled_listen_leaves_it_listening),
      TEST(ln6_a_listen_out_of_time_leaves_it_listening),
      TEST(ln6_one_client_ends_all_pending_listens),
      TEST(ln7_close_with_pending_listens),
      TEST(ln7_disconnect_with_pending_listens),
      TEST(ln7_disconnect_or_close_while_a_client_comes),
      TEST(op5_instances_are_taken_in_the_order_they_listen),
      TEST(op5_it_comes_after_those_that_have_listened_longer),
      TEST(op7_it_listens_also_after_the_server_is_closed),
      TEST(op7_waiting_clients_learn_that_the_last_end_is_gone),
      TEST(di2_a_stream_ends_before_the_next_client),
      TEST(st2_a_client_cannot_listen),
  };
  return harness_main(argc, argv, "listen", tests, HARNESS_COUNT(tests), NULL);
}
