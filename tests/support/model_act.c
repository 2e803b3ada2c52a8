/*
 * The hands of the driver: the calls of a conversation and their callbacks,
 * which are only noted here.
 *
 * Each operation has a play_op, the arg of its callback. It lives until the
 * end of the play, so that a callback which comes too often, or too late, is
 * seen as what it is. A write's data is freed in its callback, and a read's
 * buffer has exactly its size, so that AddressSanitizer sees who looks at it
 * later.
 */
#include "model_act.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

#define UNTOUCHED 0xA5

void play_fail(play* p, const char* what) {
  if (!p->failed) tell_line(&p->story, "WRONG: ", what);
  p->failed = true;
}

static void play_on_alarm(uv_timer_t* alarm) {
  play* p = alarm->data;
  p->rang = true;
}

void play_wait_begin(play* p) {
  p->rang = false;
  uv_update_time(&p->w->loop);
  uv_timer_start(&p->alarm, play_on_alarm, PLAY_WAIT_MS, 0);
}

/* ------------------------------------------------- callbacks */

static void play_see(play* p, model_event event) {
  if (p->seen_count < PLAY_SEEN_MAX)
    p->seen[p->seen_count++] = event;
  else
    play_fail(p, "far too many callbacks");
}

static void op_check(play_op* op, npipe_conn* conn) {
  if (conn != op->end->conn)
    play_fail(op->end->play, "a callback of another connection");
}

static void op_on_read(npipe_conn* conn, int status, size_t size,
                       unsigned flags, void* arg) {
  play_op* op = arg;
  play* p = op->end->play;
  world_callback(p->w, tell_side(op->end->side), "read", status, size);
  op_check(op, conn);
  model_event event = {.what = MODEL_DID_READ,
                       .side = op->end->side,
                       .op = op->id,
                       .status = status,
                       .size = size,
                       .flags = flags};
  if (size > op->room) {
    play_fail(p, "a read got more than it has room for");
    return;
  }
  if (status == 0)
    event.digest = model_digest(MODEL_DIGEST_START, op->data, size);
  if (size < op->room && op->data[size] != UNTOUCHED)
    play_fail(p, "a read wrote behind what it reported");
  play_see(p, event);
}

static void op_on_write(npipe_conn* conn, int status, void* arg) {
  play_op* op = arg;
  play* p = op->end->play;
  world_callback(p->w, tell_side(op->end->side), "write", status, op->room);
  op_check(op, conn);
  free(op->data);
  op->data = NULL;
  play_see(p, (model_event){.what = MODEL_DID_WRITE,
                            .side = op->end->side,
                            .op = op->id,
                            .status = status});
}

static void op_on_flush(npipe_conn* conn, int status, void* arg) {
  play_op* op = arg;
  play* p = op->end->play;
  world_callback(p->w, tell_side(op->end->side), "flush", status, 0);
  op_check(op, conn);
  play_see(p, (model_event){.what = MODEL_DID_FLUSH,
                            .side = op->end->side,
                            .op = op->id,
                            .status = status});
}

static void op_on_listen(npipe_conn* conn, int status, void* arg) {
  play_op* op = arg;
  play* p = op->end->play;
  world_callback(p->w, tell_side(op->end->side), "listen", status, 0);
  op_check(op, conn);
  play_see(p, (model_event){.what = MODEL_DID_LISTEN,
                            .side = op->end->side,
                            .op = op->id,
                            .status = status});
}

static void op_on_connect(npipe_conn* conn, int status, void* arg) {
  play_op* op = arg;
  play* p = op->end->play;
  world_callback(p->w, "client", "connect", status, 0);
  op_check(op, conn);
  play_see(p, (model_event){.what = MODEL_DID_CONNECT,
                            .side = MODEL_CLIENT,
                            .op = op->id,
                            .status = status});
}

static void end_on_close(npipe_conn* conn, void* arg) {
  play_end* end = arg;
  world_callback(end->play->w, tell_side(end->side), "close", 0, 0);
  if (conn != end->conn)
    play_fail(end->play, "a close callback of another connection");
  end->conn = NULL;
  play_see(end->play,
           (model_event){.what = MODEL_DID_CLOSE, .side = end->side});
}

static void stranger_on_connect(npipe_conn* conn, int status, void* arg) {
  play* p = arg;
  (void) conn;
  world_callback(p->w, "stranger", "connect", status, 0);
  p->stranger_status = status;
}

static void stranger_on_close(npipe_conn* conn, void* arg) {
  play* p = arg;
  (void) conn;
  world_callback(p->w, "stranger", "close", 0, 0);
  p->stranger = NULL;
}

static void play_on_client(npipe_server* server, int status, void* arg) {
  play* p = arg;
  (void) server;
  world_callback(p->w, "host", "connection", status, 0);
  if (status != 0) play_fail(p, "the server could not take a client");
  p->arrivals++;
}

static void play_on_closed(npipe_server* server, void* arg) {
  play* p = arg;
  (void) server;
  world_callback(p->w, "host", "close", 0, 0);
  p->server = NULL;
}

/* ------------------------------------------------- calls */

static play_op* op_new(play* p, const model_step* step, size_t room) {
  play_op* op = must_alloc(sizeof *op);
  *op = (play_op){.next = p->ops, .end = &p->ends[step->side], .id = step->op};
  op->room = room;
  op->data = room > 0 ? must_alloc(room) : NULL;
  p->ops = op;
  return op;
}

static play_op* op_find(play* p, unsigned id) {
  play_op* op = p->ops;
  while (op != NULL && op->id != id) op = op->next;
  return op;
}

/* The data in one to three buffers. */
static unsigned op_buffers(uv_buf_t bufs[3], unsigned char* data, size_t size,
                           uint32_t seed) {
  unsigned count = 1 + seed % 3;
  size_t at = 0;
  for (unsigned i = 0; i < count; i++) {
    size_t part = i + 1 == count ? size - at : (size - at) / 2;
    bufs[i] = uv_buf_init((char*) data + at, (unsigned) part);
    at += part;
  }
  return count;
}

static int play_read(play* p, npipe_conn* conn, const model_step* step) {
  play_op* op = op_new(p, step, step->size);
  if (op->room > 0) memset(op->data, UNTOUCHED, op->room);
  return CALL(p->w,
              npipe_read(conn, op->data, op->room, &op->name, op_on_read, op));
}

static int play_write(play* p, npipe_conn* conn, const model_step* step) {
  uv_buf_t bufs[3];
  play_op* op = op_new(p, step, step->size);
  unsigned char none;
  unsigned char* data = op->data != NULL ? op->data : &none;
  pattern_fill(data, op->room, step->seed);
  unsigned count = op_buffers(bufs, data, op->room, step->seed);
  return CALL(p->w, npipe_write(conn, bufs, count, &op->name, op_on_write, op));
}

static int play_try_write(play* p, npipe_conn* conn, const model_step* step) {
  uv_buf_t bufs[3];
  unsigned char* data = must_alloc(step->size);
  pattern_fill(data, step->size, step->seed);
  unsigned count = op_buffers(bufs, data, step->size, step->seed);
  int status = CALL(p->w, npipe_try_write(conn, bufs, count));
  free(data);
  return status;
}

static int play_transact(play* p, npipe_conn* conn, const model_step* step) {
  uv_buf_t bufs[3];
  play_op* op = op_new(p, step, step->size);
  memset(op->data, UNTOUCHED, op->room);
  unsigned char* data = must_alloc(step->request);
  pattern_fill(data, step->request, step->seed);
  unsigned count = op_buffers(bufs, data, step->request, step->seed);
  int status =
      CALL(p->w, npipe_transact(conn, bufs, count, op->data, op->room,
                                NPIPE_WAIT_FOREVER, &op->name, op_on_read, op));
  free(data);
  return status;
}

static int play_cancel(play* p, npipe_conn* conn, const model_step* step) {
  play_op* op = op_find(p, step->op);
  return CALL(p->w, npipe_cancel(conn, op->name));
}

static int play_close(play* p, npipe_conn* conn, const model_step* step) {
  world_enter(p->w);
  if (step->verb == MODEL_CLOSE_NOW) npipe_set_linger(conn, 0);
  if (step->verb == MODEL_ABORT)
    npipe_abort(conn, end_on_close, &p->ends[step->side]);
  else
    npipe_close(conn, end_on_close, &p->ends[step->side]);
  return world_leave(p->w, 0);
}

static int play_connect(play* p, const model_step* step) {
  npipe_client_options options = {
      .message_max_bytes = (uint32_t) p->m.pipe.message_max,
      .read_mode = step->mode};
  if (p->m.pipe.direction == NPIPE_INBOUND) options.access = NPIPE_WRITE_ONLY;
  if (p->m.pipe.direction == NPIPE_OUTBOUND) options.access = NPIPE_READ_ONLY;
  play_op* op = op_new(p, step, 0);
  int status = CALL(
      p->w, npipe_connect(&p->w->loop, p->name, (int) PLAY_WAIT_MS, &options,
                          op_on_connect, op, &p->ends[MODEL_CLIENT].conn));
  if (status == 0) npipe_set_linger(p->ends[MODEL_CLIENT].conn, PLAY_LINGER_MS);
  return status;
}

/* Another client's connect, to its end; it is closed again. */
static int play_knock(play* p) {
  npipe_client_options options = {.any_server = 0};
  if (p->m.pipe.direction == NPIPE_INBOUND) options.access = NPIPE_WRITE_ONLY;
  if (p->m.pipe.direction == NPIPE_OUTBOUND) options.access = NPIPE_READ_ONLY;
  p->stranger_status = 1;
  int err = CALL(p->w, npipe_connect(&p->w->loop, p->name, 0, &options,
                                     stranger_on_connect, p, &p->stranger));
  if (err != 0) return err;
  PLAY_UNTIL(p, p->stranger_status != 1);
  npipe_close(p->stranger, stranger_on_close, p);
  PLAY_UNTIL(p, p->stranger == NULL);
  return p->rang ? UV_ETIMEDOUT : p->stranger_status;
}

static int play_flush(play* p, npipe_conn* conn, const model_step* step) {
  play_op* op = op_new(p, step, 0);
  return CALL(
      p->w, npipe_flush(conn, NPIPE_WAIT_FOREVER, &op->name, op_on_flush, op));
}

static int play_listen(play* p, npipe_conn* conn, const model_step* step) {
  play_op* op = op_new(p, step, 0);
  return CALL(p->w, npipe_listen(conn, NPIPE_WAIT_FOREVER, &op->name,
                                 op_on_listen, op));
}

int play_call(play* p, const model_step* step) {
  npipe_conn* conn = p->ends[step->side].conn;
  switch (step->verb) {
    case MODEL_READ: return play_read(p, conn, step);
    case MODEL_WRITE: return play_write(p, conn, step);
    case MODEL_TRY_WRITE: return play_try_write(p, conn, step);
    case MODEL_TRANSACT: return play_transact(p, conn, step);
    case MODEL_FLUSH: return play_flush(p, conn, step);
    case MODEL_LISTEN: return play_listen(p, conn, step);
    case MODEL_SET_MODE:
      return CALL(p->w, npipe_set_read_mode(conn, step->mode));
    case MODEL_CANCEL: return play_cancel(p, conn, step);
    case MODEL_CANCEL_READS: return CALL(p->w, npipe_cancel(conn, 0));
    case MODEL_DISCONNECT: return CALL(p->w, npipe_disconnect(conn));
    case MODEL_CONNECT: return play_connect(p, step);
    case MODEL_KNOCK: return play_knock(p);
    default: return play_close(p, conn, step);
  }
}

/* ------------------------------------------------- the server */

int play_serve(play* p) {
  const model_pipe* pipe = &p->m.pipe;
  uint32_t quota[2];
  for (int i = 0; i < 2; i++)
    quota[i] =
        pipe->quota[i] == 0 ? NPIPE_QUOTA_ZERO : (uint32_t) pipe->quota[i];
  npipe_server_options options = {
      .type = pipe->type,
      .direction = pipe->direction,
      .read_mode = pipe->mode[MODEL_SERVER],
      .max_instances = 1,
      .in_quota = quota[MODEL_CLIENT],
      .out_quota = quota[MODEL_SERVER],
      .message_max_bytes = (uint32_t) pipe->message_max};
  unique_name(p->name);
  return CALL(p->w, npipe_server_create(&p->w->loop, p->name, &options,
                                        play_on_client, p, &p->server));
}

void play_serve_end(play* p) {
  if (p->server == NULL) return;
  world_enter(p->w);
  npipe_server_close(p->server, play_on_closed, p);
  world_leave(p->w, 0);
  PLAY_UNTIL(p, p->server == NULL);
}

void play_forget(play* p) {
  while (p->ops != NULL) {
    play_op* op = p->ops;
    p->ops = op->next;
    free(op->data);
    free(op);
  }
}
