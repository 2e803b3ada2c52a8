/*
 * server [NAME]: a message server on a libuv loop.
 *
 * It creates the message pipe NAME (mynamedpipe if none is given; NAME or
 * \\.\pipe\NAME), serves any number of clients at once, prints each request as
 * one line and answers it with the same bytes as one message. Ctrl-C or
 * SIGTERM closes it.
 *
 * What to notice when you copy it:
 *
 *   - A request is bytes with a length. It is never a format string and never
 *     taken for a C string; in the log, whatever is not printable ASCII, and
 *     the backslash, appears as \xNN, so no client can play with a terminal.
 *   - A write borrows its data, and what a read shows is lent: the answer is
 *     therefore a copy that lives until the write's callback.
 *   - A client that sends but does not read must not fill our memory: while
 *     its answers pile up, we do not read from it.
 *   - A client that vanishes ends its own connection and nothing else.
 *
 * Exit codes: 0 stopped by a signal, 1 failed, 2 wrong arguments.
 */
#include <npipe.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DONE = 0, FAILED = 1, USAGE = 2 };

/* Answers that wait for one client, with their bookkeeping: above this we stop
 * reading from it, below the half we go on. One message may exceed it. */
#define WAITING_MAX_BYTES (1024u * 1024u)

typedef struct client {
  npipe_conn* conn;
  struct service* service;
  struct client* next;
  struct client* prev;
  size_t waiting_bytes;
  bool paused;
} client;

typedef struct service {
  npipe_server* server;
  client* clients;
  uv_signal_t signals[2];
  uv_prepare_t flusher;
} service;

typedef struct answer { /* its bytes follow it in memory */
  client* to;
  size_t cost_bytes;
} answer;

static void on_request(npipe_conn* conn, int status, const void* data,
                       size_t size, unsigned flags, void* arg);

static void print_request(const unsigned char* data, size_t size) {
  size_t plain = 0; /* bytes seen that can be printed as they are */
  for (size_t i = 0; i < size; i++) {
    if (data[i] >= 0x20 && data[i] < 0x7f && data[i] != '\\') {
      plain++;
      continue;
    }
    fwrite(data + i - plain, 1, plain, stdout);
    printf("\\x%02x", data[i]);
    plain = 0;
  }
  if (plain > 0) fwrite(data + size - plain, 1, plain, stdout);
  putchar('\n');
}

static void on_closed(npipe_conn* conn, void* arg) {
  (void) conn;
  free(arg);
}

static void client_close(client* c) {
  if (c->prev != NULL) c->prev->next = c->next;
  if (c->prev == NULL) c->service->clients = c->next;
  if (c->next != NULL) c->next->prev = c->prev;
  npipe_close(c->conn, on_closed, c);
}

static void on_written(npipe_conn* conn, int status, void* arg) {
  answer* a = arg;
  client* c = a->to;
  (void) status; /* if the client is gone, reading tells */
  c->waiting_bytes -= a->cost_bytes;
  free(a);
  if (c->paused && c->waiting_bytes <= WAITING_MAX_BYTES / 2) {
    c->paused = false;
    /* Refused if the connection is being closed, and then all is well too. */
    npipe_read_start(conn, 0, on_request, c);
  }
}

/* Returns 0, or a negative code if the client cannot be answered. */
static int answer_with(client* c, const void* data, size_t size) {
  answer* a = malloc(sizeof *a + size);
  if (a == NULL) return UV_ENOMEM;
  a->to = c;
  a->cost_bytes = sizeof *a + size;
  if (size > 0) memcpy(a + 1, data, size);
  uv_buf_t buf = uv_buf_init((char*) (a + 1), (unsigned) size);
  int status = npipe_write(c->conn, &buf, 1, NULL, on_written, a);
  if (status < 0) {
    free(a);
    return status;
  }
  c->waiting_bytes += a->cost_bytes;
  return 0;
}

static void on_request(npipe_conn* conn, int status, const void* data,
                       size_t size, unsigned flags, void* arg) {
  client* c = arg;
  (void) flags; /* whole messages were asked for */
  if (status == 0) {
    print_request(data, size);
    status = answer_with(c, data, size);
  }
  if (status < 0) {
    if (status != UV_EOF)
      fprintf(stderr, "server: a client: %s\n", npipe_strerror(status));
    client_close(c);
  } else if (c->waiting_bytes > WAITING_MAX_BYTES) {
    c->paused = true;
    npipe_read_stop(conn);
  }
}

static void on_client(npipe_server* server, int status, void* arg) {
  service* s = arg;
  npipe_conn* conn;
  if (status < 0) { /* it could not be let in; the server goes on */
    fprintf(stderr, "server: %s\n", npipe_last_error()->text);
    return;
  }
  if (npipe_accept(server, &conn) < 0) return;
  client* c = calloc(1, sizeof *c);
  if (c == NULL) {
    npipe_close(conn, NULL, NULL);
    return;
  }
  c->conn = conn;
  c->service = s;
  c->next = s->clients;
  if (c->next != NULL) c->next->prev = c;
  s->clients = c;
  if (npipe_read_start(conn, 0, on_request, c) < 0) client_close(c);
}

static void on_signal(uv_signal_t* signal, int number) {
  service* s = signal->data;
  (void) number;
  while (s->clients != NULL) client_close(s->clients);
  npipe_server_close(s->server, NULL, NULL);
  for (int i = 0; i < 2; i++) uv_close((uv_handle_t*) &s->signals[i], NULL);
  uv_close((uv_handle_t*) &s->flusher, NULL);
}

/* Once per turn of the loop, before it waits: a redirected log shows what has
 * happened, and thousands of requests in one turn cost one write. */
static void on_turn(uv_prepare_t* flusher) {
  (void) flusher;
  fflush(stdout);
}

static void service_start(service* s, uv_loop_t* loop) {
  static const int numbers[2] = {SIGINT, SIGTERM};
  for (int i = 0; i < 2; i++) {
    uv_signal_init(loop, &s->signals[i]);
    s->signals[i].data = s;
    uv_signal_start(&s->signals[i], on_signal, numbers[i]);
  }
  uv_prepare_init(loop, &s->flusher);
  uv_prepare_start(&s->flusher, on_turn);
}

int main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "mynamedpipe";
  if (argc > 2 || strcmp(name, "--help") == 0) {
    fprintf(stderr, "usage: server [NAME]\n");
    return USAGE;
  }
  uv_loop_t* loop = uv_default_loop();
  service s = {.server = NULL};
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  int status =
      npipe_server_create(loop, name, &options, on_client, &s, &s.server);
  if (status < 0) {
    fprintf(stderr, "server: %s\n", npipe_last_error()->text);
    return status == UV_EINVAL || status == UV_ENAMETOOLONG ? USAGE : FAILED;
  }
  printf("waiting for clients of %s\n", name);
  service_start(&s, loop);
  uv_run(loop, UV_RUN_DEFAULT);
  uv_loop_close(loop);
  return fflush(stdout) == 0 && !ferror(stdout) ? DONE : FAILED;
}
