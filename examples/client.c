/*
 * client [NAME [TEXT|-]]: a message client on a libuv loop.
 *
 * It connects to the message pipe NAME (mynamedpipe if none is given; NAME or
 * \\.\pipe\NAME), waits for a free instance if it has to, sends TEXT as one
 * message and prints the answer as one line. With - it sends each line of
 * standard input as one message, an empty line as an empty message, and prints
 * each answer as one line. What goes in and out is bytes, nothing is
 * translated, on any system.
 *
 * What to notice when you copy it:
 *
 *   - Requests are sent ahead of their answers, up to a bound; that makes the
 *     difference between waiting once and waiting for every line.
 *   - While it sends, it always reads: two ends that both only write would
 *     wait for each other for ever.
 *   - A write borrows its data, so each request is memory of its own until its
 *     callback.
 *
 * Exit codes: 0 all was answered, 1 failed, 2 wrong arguments, 3 there is no
 * such pipe, 4 it stayed busy for five seconds.
 */
#include <npipe.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
static void output_set_binary(void) {
  _setmode(_fileno(stdout), _O_BINARY);
}
#else
static void output_set_binary(void) {
}
#endif

enum { DONE = 0, FAILED = 1, USAGE = 2, NO_PIPE = 3, BUSY = 4 };

#define CONNECT_TIMEOUT_MS 5000
#define AHEAD_MAX 256u                   /* requests without an answer */
#define QUEUED_MAX_BYTES (1024u * 1024u) /* requests not in the pipe yet */
#define INPUT_BYTES 65536u               /* read from the input at a time */
#define LINE_MAX_BYTES NPIPE_MESSAGE_DEFAULT_BYTES

typedef struct client {
  uv_loop_t* loop;
  npipe_conn* conn;
  unsigned ahead; /* requests without an answer */
  bool closing;
  int exit_code;

  /* the input: bytes [start, end) are to be sent; no newline before scanned */
  char* input;
  size_t start, scanned, end, capacity;
  bool input_ended;
  bool input_pending; /* a read of the input is under way */
  uv_fs_t input_read;
} client;

static void pump(client* c);

static void on_closed(npipe_conn* conn, void* arg) {
  client* c = arg;
  (void) conn;
  uv_stop(c->loop); /* a read of the input may go on for ever */
}

static void finish(client* c, int exit_code) {
  if (c->closing) return;
  c->closing = true;
  c->exit_code = exit_code;
  npipe_close(c->conn, on_closed, c);
}

static void fail(client* c, const char* what, const char* why) {
  if (!c->closing) fprintf(stderr, "client: %s%s\n", what, why);
  finish(c, FAILED);
}

static void on_written(npipe_conn* conn, int status, void* arg) {
  client* c = npipe_get_data(conn);
  free(arg);
  if (status < 0) fail(c, "sending: ", npipe_strerror(status));
  pump(c);
}

static void send_request(client* c, const char* data, size_t size) {
  char* copy = malloc(size + 1); /* one more: size may be 0 */
  if (copy == NULL) {
    fail(c, "out of memory", "");
    return;
  }
  if (size > 0) memcpy(copy, data, size);
  uv_buf_t buf = uv_buf_init(copy, (unsigned) size);
  if (npipe_write(c->conn, &buf, 1, NULL, on_written, copy) < 0) {
    free(copy);
    fail(c, "", npipe_last_error()->text);
    return;
  }
  c->ahead++;
}

static void on_answer(npipe_conn* conn, int status, const void* data,
                      size_t size, unsigned flags, void* arg) {
  client* c = arg;
  (void) conn;
  (void) flags; /* whole messages were asked for */
  if (status < 0) {
    fail(c, "the server has gone: ", npipe_strerror(status));
    return;
  }
  fwrite(data, 1, size, stdout);
  putchar('\n');
  if (c->ahead > 0) c->ahead--;
  if (c->ahead == 0) fflush(stdout);
  pump(c);
}

/* ---- standard input, in lines */

static void on_input(uv_fs_t* request) {
  client* c = request->data;
  ssize_t result = request->result;
  uv_fs_req_cleanup(request);
  c->input_pending = false;
  if (result > 0) {
    c->end += (size_t) result;
  } else if (result == 0 || result == UV_EOF) {
    c->input_ended = true;
  } else {
    fail(c, "standard input: ", uv_strerror((int) result));
  }
  pump(c);
}

/* Reads more behind what is there. libuv's uv_fs_read() knows no text mode and
 * takes files, pipes and terminals alike. */
static void input_read(client* c) {
  if (c->end - c->start > LINE_MAX_BYTES) {
    fail(c, "a line of the input is longer than a message may be", "");
    return;
  }
  if (c->start > 0) memmove(c->input, c->input + c->start, c->end - c->start);
  c->scanned -= c->start;
  c->end -= c->start;
  c->start = 0;
  if (c->capacity - c->end < INPUT_BYTES) {
    size_t capacity = 2 * c->capacity + INPUT_BYTES;
    char* grown = realloc(c->input, capacity);
    if (grown == NULL) {
      fail(c, "out of memory", "");
      return;
    }
    c->input = grown;
    c->capacity = capacity;
  }
  uv_buf_t buf = uv_buf_init(c->input + c->end, INPUT_BYTES);
  c->input_read.data = c;
  c->input_pending =
      uv_fs_read(c->loop, &c->input_read, 0, &buf, 1, -1, on_input) == 0;
  if (!c->input_pending) fail(c, "standard input cannot be read", "");
}

/* Sends the next line, if there is a whole one, or what stands before the end
 * of the input. */
static bool send_line(client* c) {
  if (c->start == c->end) return false;
  char* line = c->input + c->start;
  char* stop = memchr(c->input + c->scanned, '\n', c->end - c->scanned);
  c->scanned = c->end;
  if (stop == NULL && !c->input_ended) return false;
  size_t size = (size_t) ((stop != NULL ? stop : c->input + c->end) - line);
  c->start += size + (stop != NULL ? 1 : 0);
  c->scanned = c->start;
  send_request(c, line, size);
  return true;
}

/* Does what can be done now; called whenever something has changed. */
static void pump(client* c) {
  while (!c->closing && !c->input_pending && c->ahead < AHEAD_MAX &&
         npipe_queued_bytes(c->conn) < QUEUED_MAX_BYTES) {
    if (send_line(c)) continue;
    if (c->input_ended) break;
    input_read(c);
  }
  if (c->input_ended && c->start == c->end && c->ahead == 0) finish(c, DONE);
}

static void on_connected(npipe_conn* conn, int status, void* arg) {
  client* c = npipe_get_data(conn);
  const char* text = arg; /* NULL: the lines of standard input */
  if (status < 0) {
    fail(c, "", npipe_last_error()->text);
    if (status == UV_ENOENT) c->exit_code = NO_PIPE;
    if (status == UV_EBUSY || status == UV_ETIMEDOUT) c->exit_code = BUSY;
    return;
  }
  status = npipe_read_start(conn, 0, on_answer, c);
  if (status < 0) fail(c, "reading: ", npipe_strerror(status));
  if (text != NULL) {
    send_request(c, text, strlen(text));
    c->input_ended = true;
  }
  pump(c);
}

int main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "mynamedpipe";
  const char* text = argc > 2 ? argv[2] : "Hello from the client";
  if (argc > 3 || strcmp(name, "--help") == 0) {
    fprintf(stderr, "usage: client [NAME [TEXT|-]]\n");
    return USAGE;
  }
  if (strcmp(text, "-") == 0) text = NULL;
  output_set_binary();
  client c = {.loop = uv_default_loop()};
  npipe_client_options options = {.read_mode = NPIPE_READ_MESSAGES};
  int status = npipe_connect(c.loop, name, CONNECT_TIMEOUT_MS, &options,
                             on_connected, (void*) text, &c.conn);
  if (status < 0) {
    fprintf(stderr, "client: %s\n", npipe_last_error()->text);
    return status == UV_ENOMEM ? FAILED : USAGE;
  }
  npipe_set_data(c.conn, &c);
  uv_run(c.loop, UV_RUN_DEFAULT);
  if (fflush(stdout) != 0 || ferror(stdout)) {
    fprintf(stderr, "client: standard output cannot be written\n");
    c.exit_code = FAILED;
  }
  /* A read of a terminal cannot be called off, and exit() would wait for it. */
  if (c.input_pending) _Exit(c.exit_code);
  free(c.input);
  uv_loop_close(c.loop);
  return c.exit_code;
}
