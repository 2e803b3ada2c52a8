/*
 * tool_plain server|client PATH send|receive|echo|exchange: one end of a plain
 * byte pipe (option plain_path), for tests in which a stranger has the other.
 *
 *   send      writes standard input, then closes
 *   receive   writes to standard output what comes, until the end
 *   echo      sends back what comes, and closes when the end has come and all
 *             is sent
 *   exchange  writes standard input, and to standard output what comes, until
 *             that is as much; then closes
 *
 * A server serves one client. Exit code 0 if it went as described, else 1 and
 * a reason.
 */
#include <npipe.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tool {
  int sends, receives, echoes;
  npipe_conn* conn;
  npipe_server* server;
  char* input;
  size_t input_size;
  size_t received;
  unsigned writing; /* writes without a callback */
  int ended;
  int closed;
} tool;

static void fail(const char* what, int status) {
  fprintf(stderr, "tool_plain: %s: %s: %s\n", what, uv_err_name(status),
          npipe_last_error()->text);
  exit(1);
}

static void input_load(tool* t) {
  size_t capacity = 0;
  size_t got;
  do {
    if (capacity - t->input_size < 65536) {
      capacity = 2 * capacity + 65536;
      t->input = realloc(t->input, capacity);
      if (t->input == NULL) abort();
    }
    got = fread(t->input + t->input_size, 1, 65536, stdin);
    t->input_size += got;
  } while (got > 0);
}

static void on_closed(npipe_conn* conn, void* arg) {
  (void) conn;
  free(((tool*) arg)->input);
}

static void close_if_done(tool* t) {
  int done = t->ended;
  if (t->sends && !t->receives) done = 1;
  if (t->sends && t->receives && t->received == t->input_size) done = 1;
  if (t->closed || !done || t->writing > 0) return;
  t->closed = 1;
  npipe_close(t->conn, on_closed, t);
}

static void on_written(npipe_conn* conn, int status, void* copy) {
  tool* t = npipe_get_data(conn);
  free(copy);
  t->writing--;
  if (status < 0) fail("write", status);
  close_if_done(t);
}

static void write_bytes(tool* t, const void* data, size_t size, void* copy) {
  uv_buf_t buf = uv_buf_init((char*) (uintptr_t) data, (unsigned) size);
  int status = npipe_write(t->conn, &buf, 1, NULL, on_written, copy);
  if (status < 0) fail("npipe_write", status);
  t->writing++;
}

static void on_bytes(npipe_conn* conn, int status, const void* data,
                     size_t size, unsigned flags, void* arg) {
  tool* t = arg;
  (void) conn;
  (void) flags;
  if (status == UV_EOF) {
    t->ended = 1;
    if (t->sends && t->received < t->input_size && t->receives)
      fail("the end came too early", status);
  } else if (status < 0) {
    fail("read", status);
  } else if (t->echoes) {
    void* copy = malloc(size);
    if (copy == NULL) abort();
    memcpy(copy, data, size);
    write_bytes(t, copy, size, copy);
  } else {
    t->received += size;
    fwrite(data, 1, size, stdout);
  }
  close_if_done(t);
}

/* Writes of many sizes; what they have in common is that all arrives. */
static void begin(tool* t, npipe_conn* conn) {
  size_t step = 1;
  t->conn = conn;
  npipe_set_data(conn, t);
  if (t->receives || t->echoes) {
    int status = npipe_read_start(conn, 0, on_bytes, t);
    if (status < 0) fail("npipe_read_start", status);
  }
  for (size_t at = 0; t->sends && at < t->input_size;) {
    size_t rest = t->input_size - at;
    size_t size = step < rest ? step : rest;
    write_bytes(t, t->input + at, size, NULL);
    at += size;
    step = step * 3 % 100003 + 1;
  }
  close_if_done(t);
}

static void on_connected(npipe_conn* conn, int status, void* arg) {
  if (status < 0) fail("connect", status);
  begin(arg, conn);
}

static void on_client(npipe_server* server, int status, void* arg) {
  npipe_conn* conn;
  if (status < 0) fail("connection", status);
  status = npipe_accept(server, &conn);
  if (status < 0) fail("npipe_accept", status);
  npipe_server_close(server, NULL, NULL);
  begin(arg, conn);
}

int main(int argc, char** argv) {
  tool t = {.conn = NULL};
  uv_loop_t* loop = uv_default_loop();
  int status;
  if (argc != 4) {
    fprintf(stderr,
            "usage: tool_plain server|client PATH"
            " send|receive|echo|exchange\n");
    return 1;
  }
  t.sends = strcmp(argv[3], "send") == 0 || strcmp(argv[3], "exchange") == 0;
  t.receives =
      strcmp(argv[3], "receive") == 0 || strcmp(argv[3], "exchange") == 0;
  t.echoes = strcmp(argv[3], "echo") == 0;
  if (t.sends) input_load(&t);
  if (strcmp(argv[1], "server") == 0) {
    npipe_server_options options = {.type = NPIPE_BYTE, .plain_path = argv[2]};
    status =
        npipe_server_create(loop, "plain", &options, on_client, &t, &t.server);
    if (status < 0) fail("npipe_server_create", status);
  } else {
    npipe_client_options options = {.plain_path = argv[2]};
    status = npipe_connect(loop, "plain", 10000, &options, on_connected, &t,
                           &t.conn);
    if (status < 0) fail("npipe_connect", status);
  }
  uv_run(loop, UV_RUN_DEFAULT);
  if (uv_loop_close(loop) != 0) fail("the loop is not empty", UV_EBUSY);
  return fflush(stdout) == 0 ? 0 : 1;
}
