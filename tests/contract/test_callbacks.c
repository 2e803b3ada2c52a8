/*
 * Inside callbacks: any function may be called and anything may be closed.
 */
#include <string.h>

#include "harness.h"

/* ------------------------------------------------- inside callbacks */

/* Calls everything there is, inside a callback of any kind. */
typedef struct everything {
  world* w;
  unsigned calls; /* how often it was called */
  unsigned spare; /* servers and clients it may still make */
} everything;

static void call_looks_and_waits(everything* all, test_end* end) {
  world* w = all->w;
  int status;
  npipe_peer peer;
  (void) peek_status(end);
  (void) info_status(end);
  (void) peer_try(end, NPIPE_PEER_ALL, &peer);
  test_task* task = flush_try(end, 0, &status);
  flush_try(end, 50, &status);
  if (task) (void) task_cancel(task);
  listen_try(end, 0, &status);
  task = transact_try(end, "t", 1, 4, 10, &status);
  if (task) (void) task_cancel(task);
  world_enter(w);
  npipe_set_linger(end->conn, 100);
  world_leave(w, 0);
}

static void call_everything_of_the_end(everything* all, test_end* end) {
  world* w = all->w;
  int status;
  char byte = 'e';
  uv_buf_t buf = uv_buf_init(&byte, 1);
  if (end->conn == NULL) return;
  npipe_set_data(end->conn, w);
  if (npipe_get_data(end->conn) != w || npipe_loop(end->conn) != &w->loop)
    world_violation(w, "a getter is wrong");
  (void) npipe_queued_bytes(end->conn);
  write_try(end, &buf, 1, &status);
  (void) CALL(w, npipe_try_write(end->conn, &buf, 1));
  world_enter(w);
  npipe_read_stop(end->conn);
  (void) npipe_set_read_mode(end->conn, NPIPE_READ_BYTES);
  (void) npipe_set_read_mode(end->conn, NPIPE_READ_AS_TYPE);
  world_leave(w, 0);
  test_task* read = read_try(end, 4, &status);
  if (read) (void) CALL(w, npipe_cancel(end->conn, read->op));
  (void) CALL(w, npipe_cancel(end->conn, 0));
  call_looks_and_waits(all, end);
}

static void call_everything(everything* all, test_end* end) {
  world* w = all->w;
  all->calls++;
  (void) npipe_version();
  (void) npipe_strerror(npipe_last_error()->code);
  if (all->spare) {
    char name[NPIPE_NAME_BYTES];
    test_host* host;
    test_end* client;
    all->spare--;
    unique_name(name);
    if (host_try(w, name, NULL, &host) != 0)
      world_violation(w, "no server can be made inside a callback");
    if (end_try(w, name, 0, NULL, &client) != 0)
      world_violation(w, "no client can be made inside a callback");
    if (host) host_close(host);
    if (client) end_close(client);
    int status;
    test_ask* ask = wait_try(w, name, 0, NULL, &status);
    call_try(w, name, 0, NULL, "c", 4, &status);
    if (ask) ask_abort(ask);
    end_try(w, w->name, NPIPE_WAIT_FOREVER, NULL, &client);
  }
  if (end) call_everything_of_the_end(all, end);
}

static void everything_on_client(test_host* host) {
  test_end* end = host_take(host);
  call_everything(host->user, end);
}

static void everything_on_connect(test_end* end) {
  call_everything(end->user, end);
}

static void everything_on_task(test_task* task) {
  call_everything(task->user, task->end);
}

static void everything_on_piece(test_stream* stream) {
  call_everything(stream->user, stream->end);
}

static void any_call_inside_any_callback(void** state) {
  world* w = *state;
  everything all = {.w = w, .spare = 20};
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  test_host* host = host_open(w, &options);
  host->hook = everything_on_client;
  host->user = &all;
  test_end* a = end_connect(w, w->name, CONNECT_MS, NULL);
  a->hook = everything_on_connect;
  a->user = &all;
  CHECK_STATUS(0, end_outcome(a));
  RUN_UNTIL(w, host->arrivals > 0);
  host->hook = NULL;
  CHECK(all.calls >= 2);

  unsigned before = all.calls;
  test_task* write = write_begin(a, "x", 1);
  write->hook = everything_on_task;
  write->user = &all;
  CHECK_STATUS(0, task_outcome(write));
  CHECK(all.calls > before);
}

static void any_call_inside_the_callbacks_of_reads(void** state) {
  world* w = *state;
  everything all = {.w = w, .spare = 20};
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* read = read_begin(pair.server, 8);
  read->hook = everything_on_task;
  read->user = &all;
  send_text(pair.client, "x");
  CHECK_STATUS(0, task_outcome(read));
  CHECK_SIZE(1, all.calls);

  test_stream* stream = stream_begin(pair.server, 0);
  stream->hook = everything_on_piece;
  stream->user = &all;
  for (int i = 0; i < 5; i++) write_begin(pair.client, "y", 1);
  RUN_UNTIL(w, all.calls > 1);
  world_settle(w);
  CHECK_SIZE(2, all.calls); /* it was stopped inside the first piece */

  read = read_begin(pair.server, 8);
  read->hook = everything_on_task;
  read->user = &all;
  (void) CALL(w, npipe_cancel(pair.server->conn, read->op));
  task_outcome(read);
  CHECK_SIZE(3, all.calls);

  stream = stream_begin(pair.client, 0);
  RUN_UNTIL(w, stream->count > 0);
  stream->hook = everything_on_piece;
  stream->user = &all;
  end_close(pair.server);
  RUN_UNTIL(w, pair.server->closes);
  world_settle(w);
  CHECK(all.calls > 3);
}

static void never_client(npipe_server* server, int status, void* arg) {
  (void) server;
  (void) status;
  world_violation(arg, "a connection callback that nobody asked for");
}

static void everything_after_close(npipe_conn* conn, void* arg) {
  everything* all = arg;
  (void) conn;
  call_everything(all, NULL);
}

static void everything_after_server_close(npipe_server* server, void* arg) {
  everything* all = arg;
  (void) server;
  call_everything(all, NULL);
}

static void any_call_inside_the_callbacks_of_closes(void** state) {
  world* w = *state;
  everything all = {.w = w, .spare = 20};
  char name[NPIPE_NAME_BYTES];
  unique_name(name);
  npipe_server* server;
  npipe_conn* conn;
  CHECK_STATUS(
      0, npipe_server_create(&w->loop, name, NULL, never_client, w, &server));
  npipe_server_close(server, everything_after_server_close, &all);
  test_pair pair = pair_of(w, NPIPE_BYTE);
  end_open(w, NULL);
  RUN_UNTIL(w, pair.host->arrivals >= 2);
  CHECK_STATUS(0, npipe_accept(pair.host->server, &conn));
  pair.host->taken++;
  npipe_close(conn, everything_after_close, &all);
  RUN_UNTIL(w, all.calls == 2);
}

/* ------------------------------------------------- closing in callbacks */

static void close_everything(test_task* task) {
  test_pair* pair = task->user;
  end_close(pair->client);
  end_close(pair->server);
  host_close(pair->host);
}

static void close_all_inside_the_callback_of_a_write(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* writes[5];
  for (int i = 0; i < 5; i++) writes[i] = write_begin(pair.client, "x", 1);
  writes[1]->hook = close_everything;
  writes[1]->user = &pair;
  RUN_UNTIL(w, pair.client->closes && pair.server->closes && pair.host->closes);
  CHECK_STATUS(0, writes[0]->status);
  CHECK_STATUS(0, writes[1]->status);
  for (int i = 2; i < 5; i++) { /* they lingered for a peer that closes, too */
    int status = writes[i]->status;
    CHECK(status == 0 || status == UV_EPIPE || status == UV_ECANCELED);
  }
}

static void close_all_inside_the_callback_of_a_read(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* reads[5];
  for (int i = 0; i < 5; i++) reads[i] = read_begin(pair.server, 8);
  reads[1]->hook = close_everything;
  reads[1]->user = &pair;
  for (int i = 0; i < 5; i++) write_begin(pair.client, "x", 1);
  RUN_UNTIL(w, pair.client->closes && pair.server->closes && pair.host->closes);
  CHECK_STATUS(0, reads[0]->status);
  CHECK_STATUS(0, reads[1]->status);
  for (int i = 2; i < 5; i++)
    if (reads[i]->status != 0) CHECK_STATUS(UV_ECANCELED, reads[i]->status);
}

static void close_self(test_end* end) {
  end_close(end);
}

static void close_inside_the_connect_callback(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  for (int i = 0; i < 3; i++) {
    test_end* end = end_connect(w, w->name, CONNECT_MS, NULL);
    end->hook = close_self;
    RUN_UNTIL(w, end->closes);
    CHECK_STATUS(0, end->connect_status);
  }
  host_shut(host);
  test_end* end = end_connect(w, w->name, CONNECT_MS, NULL);
  end->hook = close_self;
  RUN_UNTIL(w, end->closes);
  CHECK_STATUS(UV_ENOENT, end->connect_status);
}

static void close_host(test_host* host) {
  host_close(host);
}

static void close_the_server_inside_its_connection_callback(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  host->hook = close_host;
  test_end* ends[3];
  for (int i = 0; i < 3; i++) ends[i] = end_connect(w, w->name, 2000, NULL);
  RUN_UNTIL(w, host->closes);
  CHECK_SIZE(1, host->arrivals); /* nothing comes after the close */
  for (int i = 0; i < 3; i++) {
    end_outcome(ends[i]);
    if (ends[i]->connect_status == 0) EXPECT_STATUS(ends[i], 8, UV_EOF);
  }
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(any_call_inside_any_callback),
      TEST(any_call_inside_the_callbacks_of_reads),
      TEST(any_call_inside_the_callbacks_of_closes),
      TEST(close_all_inside_the_callback_of_a_write),
      TEST(close_all_inside_the_callback_of_a_read),
      TEST(close_inside_the_connect_callback),
      TEST(close_the_server_inside_its_connection_callback),
  };
  return harness_main(argc, argv, "callbacks", tests, HARNESS_COUNT(tests),
                      NULL);
}
