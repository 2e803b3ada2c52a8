/*
 * Bad arguments and wrong moments of npipe_flush(), disconnect, listen, peek,
 * info, peer, transact, call, wait, abort, reject. The rest is in test_api.c.
 *
 * What returns an error has no callback: each gets one that is a violation.
 */
#include <string.h>

#include "harness.h"

static void never_done(npipe_conn* conn, int status, void* arg) {
  (void) conn;
  (void) status;
  world_violation(arg, "a callback that nobody asked for");
}

static void never_read(npipe_conn* conn, int status, size_t size,
                       unsigned flags, void* arg) {
  (void) conn;
  (void) status;
  (void) size;
  (void) flags;
  world_violation(arg, "a read callback that nobody asked for");
}

static void never_called(int status, size_t size, unsigned flags, void* arg) {
  (void) status;
  (void) size;
  (void) flags;
  world_violation(arg, "a call callback that nobody asked for");
}

static void never_waited(int status, void* arg) {
  (void) status;
  world_violation(arg, "a wait callback that nobody asked for");
}

#define REFUSED(want, call) \
  do { \
    CHECK_STATUS((want), (call)); \
    CHECK_STATUS((want), npipe_last_error()->code); \
    CHECK(npipe_last_error()->text[0] != 0); \
  } while (0)

static void without_a_connection(void** state) {
  world* w = *state;
  npipe_peek_info seen;
  npipe_info info;
  npipe_peer peer;
  char byte = 'x';
  uv_buf_t buf = uv_buf_init(&byte, 1);
  REFUSED(UV_EINVAL, npipe_flush(NULL, 0, NULL, never_done, w));
  REFUSED(UV_EINVAL, npipe_listen(NULL, 0, NULL, never_done, w));
  REFUSED(UV_EINVAL, npipe_disconnect(NULL));
  REFUSED(UV_EINVAL, npipe_peek(NULL, &byte, 1, &seen));
  REFUSED(UV_EINVAL, npipe_get_info(NULL, &info));
  REFUSED(UV_EINVAL, npipe_get_peer(NULL, NPIPE_PEER_PID, &peer));
  REFUSED(UV_EINVAL, npipe_next_peer(NULL, NPIPE_PEER_PID, &peer));
  REFUSED(UV_EINVAL, npipe_reject(NULL));
  REFUSED(UV_EINVAL, npipe_cancel(NULL, 0));
  REFUSED(UV_EINVAL, npipe_set_read_mode(NULL, NPIPE_READ_BYTES));
  REFUSED(UV_EINVAL,
          npipe_transact(NULL, &buf, 1, &byte, 1, 0, NULL, never_read, w));
  npipe_abort(NULL, NULL, NULL);
  world_settle(w);
}

static void flush_and_listen_without_what_they_need(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_conn* conn = pair.server->conn;
  npipe_op op = 4711;
  REFUSED(UV_EINVAL, npipe_flush(conn, 0, &op, NULL, w));
  REFUSED(UV_EINVAL, npipe_listen(conn, 0, &op, NULL, w));
  for (int bad = -5; bad < 0; bad++) {
    if (bad == NPIPE_WAIT_FOREVER) continue; /* the default is for opens */
    REFUSED(UV_EINVAL, npipe_flush(conn, bad, &op, never_done, w));
    REFUSED(UV_EINVAL, npipe_listen(conn, bad, &op, never_done, w));
  }
  CHECK(op == 4711);
  world_settle(w);
  CHECK_STATUS(0, task_outcome(flush_begin(pair.server, 0)));
}

static void looks_without_what_they_need(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_conn* conn = pair.server->conn;
  npipe_peek_info seen;
  npipe_peer peer;
  char byte;
  REFUSED(UV_EINVAL, npipe_peek(conn, &byte, 1, NULL));
  REFUSED(UV_EINVAL, npipe_peek(conn, NULL, 1, &seen));
  CHECK_STATUS(0, npipe_peek(conn, NULL, 0, &seen));
  CHECK_STATUS(0, npipe_peek(conn, &byte, 0, &seen));
  REFUSED(UV_EINVAL, npipe_get_info(conn, NULL));
  REFUSED(UV_EINVAL, npipe_get_peer(conn, NPIPE_PEER_PID, NULL));
  REFUSED(UV_EINVAL, npipe_get_peer(conn, NPIPE_PEER_ALL + 1, &peer));
  REFUSED(UV_EINVAL, npipe_next_peer(pair.host->server, NPIPE_PEER_PID, NULL));
  REFUSED(UV_EINVAL, npipe_next_peer(pair.host->server, 16, &peer));
  CHECK_STATUS(0, npipe_get_peer(conn, 0, &peer)); /* asks for nothing */
}

static void transact_without_what_it_needs(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_conn* conn = pair.client->conn;
  npipe_op op = 4711;
  char byte = 'x';
  char reply[4];
  uv_buf_t buf = uv_buf_init(&byte, 1);
  uv_buf_t hole = uv_buf_init(NULL, 1);
  REFUSED(UV_EINVAL, npipe_transact(conn, &buf, 1, reply, 4, 0, &op, NULL, w));
  REFUSED(UV_EINVAL,
          npipe_transact(conn, &buf, 1, NULL, 4, 0, &op, never_read, w));
  REFUSED(UV_EINVAL,
          npipe_transact(conn, NULL, 1, reply, 4, 0, &op, never_read, w));
  REFUSED(UV_EINVAL,
          npipe_transact(conn, &hole, 1, reply, 4, 0, &op, never_read, w));
  for (int bad = -5; bad < NPIPE_WAIT_FOREVER; bad++)
    REFUSED(UV_EINVAL,
            npipe_transact(conn, &buf, 1, reply, 4, bad, &op, never_read, w));
  CHECK(op == 4711);
  world_settle(w);
  CHECK_SIZE(0, peek_available(pair.server)); /* nothing was sent */
  send_text(pair.client, "x");
  EXPECT_TEXT(pair.server, 8, "x", 0);
}

static void call_and_wait_without_what_they_need(void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_MESSAGE);
  uv_loop_t* loop = &w->loop;
  char byte = 'x';
  char reply[4];
  uv_buf_t buf = uv_buf_init(&byte, 1);
  npipe_conn* conn = (npipe_conn*) (void*) w; /* not NULL */
  REFUSED(UV_EINVAL, npipe_call(NULL, w->name, 0, NULL, &buf, 1, reply, 4,
                                never_called, w, &conn));
  CHECK(conn == NULL);
  REFUSED(UV_EINVAL,
          npipe_call(loop, w->name, 0, NULL, &buf, 1, reply, 4, NULL, w, NULL));
  REFUSED(UV_EINVAL, npipe_call(loop, NULL, 0, NULL, &buf, 1, reply, 4,
                                never_called, w, NULL));
  REFUSED(UV_EINVAL, npipe_call(loop, w->name, 0, NULL, NULL, 1, reply, 4,
                                never_called, w, NULL));
  REFUSED(UV_EINVAL, npipe_call(loop, w->name, 0, NULL, &buf, 1, NULL, 4,
                                never_called, w, NULL));
  REFUSED(UV_EINVAL, npipe_call(loop, w->name, -3, NULL, &buf, 1, reply, 4,
                                never_called, w, NULL));
  conn = (npipe_conn*) (void*) w;
  REFUSED(UV_EINVAL,
          npipe_wait(NULL, w->name, 0, NULL, never_waited, w, &conn));
  CHECK(conn == NULL);
  REFUSED(UV_EINVAL, npipe_wait(loop, w->name, 0, NULL, NULL, w, NULL));
  REFUSED(UV_EINVAL, npipe_wait(loop, NULL, 0, NULL, never_waited, w, NULL));
  REFUSED(UV_EINVAL,
          npipe_wait(loop, w->name, -3, NULL, never_waited, w, NULL));
  npipe_client_options options = {.access = (npipe_access) 3};
  REFUSED(UV_EINVAL,
          npipe_wait(loop, w->name, 0, &options, never_waited, w, NULL));
  char longest[NPIPE_NAME_BYTES];
  memset(longest, 'n', sizeof longest);
  longest[sizeof longest - 1] = 0;
  REFUSED(UV_ENAMETOOLONG,
          npipe_wait(loop, longest, 0, NULL, never_waited, w, NULL));
  world_settle(w);
}

static void count_call(int status, size_t size, unsigned flags, void* arg) {
  (void) size;
  (void) flags;
  if (status == UV_ENOENT) ++*(int*) arg;
}

static void count_wait(int status, void* arg) {
  if (status == UV_ENOENT) ++*(int*) arg;
}

static void call_and_wait_need_no_handle(void** state) {
  world* w = *state;
  int calls = 0;
  CHECK_STATUS(0, CALL(w, npipe_call(&w->loop, w->name, 0, NULL, NULL, 0, NULL,
                                     0, count_call, &calls, NULL)));
  CHECK_STATUS(0, CALL(w, npipe_wait(&w->loop, w->name, 0, NULL, count_wait,
                                     &calls, NULL)));
  CHECK_SIZE(0, calls);
  RUN_UNTIL(w, calls == 2);
}

/* Everything on one end: all of it has to say the same. */
static void moment_check(test_end* end, int want) {
  npipe_peer peer;
  int status;
  CHECK(flush_try(end, 0, &status) == NULL);
  CHECK_STATUS(want, status);
  CHECK(listen_try(end, 0, &status) == NULL);
  CHECK_STATUS(want, status);
  CHECK(transact_try(end, "x", 1, 8, 0, &status) == NULL);
  CHECK_STATUS(want, status);
  CHECK_STATUS(want, end_disconnect(end));
  CHECK_STATUS(want, peek_status(end));
  CHECK_STATUS(want, info_status(end));
  CHECK_STATUS(want, peer_try(end, NPIPE_PEER_PID, &peer));
}

static void before_the_connect_callback(void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_MESSAGE);
  test_end* end = end_connect(w, w->name, CONNECT_MS, NULL);
  moment_check(end, UV_ENOTCONN);
  CHECK_STATUS(UV_ENOENT, CALL(w, npipe_cancel(end->conn, 0)));
  npipe_set_linger(end->conn, 0);
  CHECK_STATUS(0, end_outcome(end));
  CHECK_STATUS(0, peek_status(end));
}

static void after_a_failed_connect(void** state) {
  world* w = *state;
  test_end* end = end_connect(w, w->name, 0, NULL);
  CHECK_STATUS(UV_ENOENT, end_outcome(end));
  moment_check(end, UV_ENOTCONN);
}

static void after_the_close(void** state) {
  world* w = *state;
  for (int abort = 0; abort < 2; abort++) {
    for (int server = 0; server < 2; server++) {
      test_pair pair = pair_of(w, NPIPE_MESSAGE);
      test_end* end = pair_ends(&pair, server).self;
      if (abort)
        end_abort(end);
      else
        end_close(end);
      moment_check(end, UV_EBADF);
      CHECK_STATUS(UV_ENOENT, CALL(w, npipe_cancel(end->conn, 1)));
      end_shut(end);
      pair_shut(&pair);
    }
  }
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(without_a_connection),
      TEST(flush_and_listen_without_what_they_need),
      TEST(looks_without_what_they_need),
      TEST(transact_without_what_it_needs),
      TEST(call_and_wait_without_what_they_need),
      TEST(call_and_wait_need_no_handle),
      TEST(before_the_connect_callback),
      TEST(after_a_failed_connect),
      TEST(after_the_close),
  };
  return harness_main(argc, argv, "arguments", tests, HARNESS_COUNT(tests),
                      NULL);
}
