/*
 * The model: what each call of the API returns and begins, by the state of its
 * end. It is ST1 of the rules, with the codes that npipe.h gives to it.
 *
 * A call that begins an operation returns 0 and owes an event, now or later;
 * what the pipe itself has to say is in the event, misuse is in the result.
 */
#include "model.h"

#include <string.h>

/* A function that needs a connected pipe, or one that was. */
static int end_check(const model_end* end) {
  switch (end->state) {
    case MODEL_LINGERING: return UV_EBADF;
    case MODEL_LISTENING: return UV_ENOTCONN;
    default: return 0;
  }
}

static bool peer_is_gone(const model* m, model_side side) {
  return m->ends[model_other(side)].state == MODEL_GONE;
}

/* An operation that ends as soon as it has begun. */
static int op_at_once(model* m, const model_step* step, model_what what,
                      int status) {
  model_owe(
      m,
      (model_event){
          .what = what, .side = step->side, .op = step->op, .status = status});
  return 0;
}

static void op_push(model_queue* queue, model_op op) {
  queue->ops[queue->count++] = op;
}

/* ------------------------------------------------- reading and writing */

static int call_read(model* m, const model_step* step) {
  model_end* end = &m->ends[step->side];
  int err = end_check(end);
  if (err != 0) return err;
  if (!end->can_read) return UV_EACCES;
  if (model_transacts(end)) return UV_EBUSY;
  if (end->state == MODEL_OUT)
    return op_at_once(m, step, MODEL_DID_READ, UV_ECONNABORTED);
  op_push(&end->reads, (model_op){.id = step->op, .size = step->size});
  return 0;
}

static int write_check(const model* m, const model_step* step, size_t size) {
  const model_end* end = &m->ends[step->side];
  int err = end_check(end);
  if (err != 0) return err;
  if (!end->can_write) return UV_EACCES;
  if (m->pipe.type == NPIPE_MESSAGE && size > m->pipe.message_max)
    return UV_EMSGSIZE;
  return 0;
}

static int call_write(model* m, const model_step* step) {
  int err = write_check(m, step, step->size);
  if (err != 0) return err;
  if (m->ends[step->side].state == MODEL_OUT)
    return op_at_once(m, step, MODEL_DID_WRITE, UV_ECONNABORTED);
  if (peer_is_gone(m, step->side))
    return op_at_once(m, step, MODEL_DID_WRITE, UV_EPIPE);
  model_item item = {.op = step->op, .seed = step->seed, .size = step->size};
  model_write_push(m, step->side, &item);
  return 0;
}

static int call_try_write(model* m, const model_step* step) {
  int err = write_check(m, step, step->size);
  if (err != 0) return err;
  if (m->ends[step->side].state == MODEL_OUT) return UV_ECONNABORTED;
  if (peer_is_gone(m, step->side)) return UV_EPIPE;
  if (model_writes_pending(&m->ends[step->side].out)) return UV_EAGAIN;
  model_item item = {.seed = step->seed, .size = step->size};
  model_write_push(m, step->side, &item);
  return 0;
}

static int call_transact(model* m, const model_step* step) {
  model_end* end = &m->ends[step->side];
  int err = write_check(m, step, step->request);
  if (err != 0) return err;
  if (!end->can_read) return UV_EACCES;
  if (end->mode != NPIPE_READ_MESSAGES) return UV_EINVAL; /* TX1 */
  if (end->reads.count > 0) return UV_EBUSY;              /* TX2 */
  if (end->state == MODEL_OUT)
    return op_at_once(m, step, MODEL_DID_READ, UV_ECONNABORTED);
  if (m->ends[model_other(step->side)].out.inside > 0) return UV_EBUSY;
  if (peer_is_gone(m, step->side))
    return op_at_once(m, step, MODEL_DID_READ, UV_EPIPE);
  model_item item = {
      .seed = step->seed, .size = step->request, .request = true};
  model_write_push(m, step->side, &item);
  op_push(&end->reads,
          (model_op){.id = step->op, .size = step->size, .transact = true});
  return 0;
}

static int call_set_mode(model* m, const model_step* step) {
  model_end* end = &m->ends[step->side];
  int err = end_check(end);
  if (err != 0) return err;
  if (end->reads.count > 0) return UV_EBUSY;
  if (end->state == MODEL_OUT && step->side == MODEL_CLIENT)
    return UV_ECONNABORTED; /* IN3 */
  bool message = m->pipe.type == NPIPE_MESSAGE;
  if (step->mode == NPIPE_READ_MESSAGES && !message) return UV_EINVAL;
  end->mode = step->mode;
  if (step->mode == NPIPE_READ_AS_TYPE)
    end->mode = message ? NPIPE_READ_MESSAGES : NPIPE_READ_BYTES;
  return 0;
}

/* ------------------------------------------------- flush and cancel */

static int call_flush(model* m, const model_step* step) {
  model_end* end = &m->ends[step->side];
  if (end->state == MODEL_LINGERING) return UV_EBADF;
  if (!end->can_write) return UV_EACCES;
  if (end->state == MODEL_OUT && step->side == MODEL_CLIENT)
    return op_at_once(m, step, MODEL_DID_FLUSH, UV_ECONNABORTED);
  if (end->state != MODEL_OPEN || peer_is_gone(m, step->side))
    return op_at_once(m, step, MODEL_DID_FLUSH, 0); /* FL4 */
  op_push(&end->flushes, (model_op){.id = step->op, .after = end->out.last});
  return 0;
}

/* Ends the operation of this number, if it is in the queue. */
static bool op_cancel(model* m, const model_step* step, model_what what) {
  model_queue* queue = model_queue_of(&m->ends[step->side], what);
  for (size_t i = 0; i < queue->count; i++) {
    if (queue->ops[i].id != step->op) continue;
    queue->count--;
    memmove(&queue->ops[i], &queue->ops[i + 1],
            (queue->count - i) * sizeof queue->ops[0]);
    op_at_once(m, step, what, UV_ECANCELED);
    return true;
  }
  return false;
}

/* A write can be withdrawn as long as it is held back (CN3). */
static int write_cancel(model* m, const model_step* step) {
  model_lane* lane = &m->ends[step->side].out;
  for (size_t i = 0; i < lane->count; i++) {
    if (lane->items[i].op != step->op || lane->items[i].done) continue;
    if (i < lane->inside) return UV_EBUSY;
    model_write_drop(m, step->side, i, UV_ECANCELED);
    return 0;
  }
  return UV_ENOENT;
}

static int call_cancel(model* m, const model_step* step) {
  if (op_cancel(m, step, MODEL_DID_READ)) return 0;
  if (op_cancel(m, step, MODEL_DID_FLUSH)) return 0;
  if (op_cancel(m, step, MODEL_DID_LISTEN)) return 0;
  return write_cancel(m, step);
}

static int call_cancel_reads(model* m, const model_step* step) {
  if (m->ends[step->side].reads.count == 0) return UV_ENOENT;
  model_ops_end(m, step->side, MODEL_DID_READ, UV_ECANCELED);
  return 0;
}

/* ------------------------------------------------- looking */

static void peek_fill(const model* m, const model_step* step,
                      model_answer* answer) {
  const model_lane* lane = &m->ends[model_other(step->side)].out;
  npipe_peek_info* peek = &answer->peek;
  bool message = m->pipe.type == NPIPE_MESSAGE;
  size_t rest = step->size;
  peek->available = model_unread(lane);
  answer->most = peek->available + model_held_bytes(lane);
  answer->exact = message || answer->most == peek->available;
  if (!message && peek->available > MODEL_WINDOW_BYTES) {
    peek->available = MODEL_WINDOW_BYTES;
    answer->exact = false;
  }
  for (size_t i = 0; i < lane->inside && rest > 0; i++) {
    const model_item* item = &lane->items[i];
    size_t left = item->size - item->taken;
    size_t part = left < rest ? left : rest;
    answer->digest =
        model_digest_pattern(answer->digest, item->seed, item->taken, part);
    peek->size += part;
    rest = message ? 0 : rest - part; /* only the first message (PK1) */
  }
  if (!message) return; /* PK3 */
  peek->messages = lane->inside;
  if (lane->inside > 0)
    peek->left = lane->items[0].size - lane->items[0].taken - peek->size;
}

static int call_peek(const model* m, const model_step* step,
                     model_answer* answer) {
  const model_end* end = &m->ends[step->side];
  int err = end_check(end);
  if (err != 0) return err;
  if (!end->can_read) return UV_EACCES;
  if (end->state == MODEL_OUT) return UV_ECONNABORTED;
  bool drained = m->ends[model_other(step->side)].out.inside == 0;
  if (drained && peer_is_gone(m, step->side)) return UV_EOF;
  peek_fill(m, step, answer);
  return 0;
}

static int call_info(const model* m, const model_step* step,
                     model_answer* answer) {
  const model_end* end = &m->ends[step->side];
  if (end->state == MODEL_LINGERING) return UV_EBADF;
  if (end->state == MODEL_OUT && step->side == MODEL_CLIENT)
    return UV_ECONNABORTED;
  answer->mode = end->mode;
  if (end->state == MODEL_LISTENING)
    answer->state = NPIPE_STATE_LISTENING;
  else if (end->state == MODEL_OUT)
    answer->state = NPIPE_STATE_DISCONNECTED;
  else
    answer->state = peer_is_gone(m, step->side) ? NPIPE_STATE_CLOSING
                                                : NPIPE_STATE_CONNECTED;
  return 0;
}

/* ------------------------------------------------- the instance */

/* All that is pending at this end ends so. */
static void end_cut(model* m, model_side side, int status) {
  model_ops_end(m, side, MODEL_DID_READ, status);
  model_ops_end(m, side, MODEL_DID_FLUSH, status);
  model_ops_end(m, side, MODEL_DID_LISTEN, status);
}

static int call_disconnect(model* m, const model_step* step) {
  model_end* server = &m->ends[MODEL_SERVER];
  model_end* client = &m->ends[MODEL_CLIENT];
  const model_end* end = &m->ends[step->side];
  if (end->state == MODEL_LINGERING) return UV_EBADF;
  if (step->side == MODEL_CLIENT) return UV_ENOTSUP;
  if (server->state == MODEL_OUT) return UV_ECONNABORTED; /* DI3 */
  bool listened = server->state == MODEL_LISTENING;
  server->state = MODEL_OUT;
  end_cut(m, MODEL_SERVER, UV_ECONNABORTED); /* DI2, LN7 */
  if (listened) return 0;
  model_writes_fail(m, MODEL_SERVER, UV_ECONNABORTED, true); /* DI1 */
  model_writes_fail(m, MODEL_CLIENT, UV_ECONNABORTED, true);
  if (client->state == MODEL_GONE) return 0;
  bool lingers = client->state == MODEL_LINGERING;
  client->state = MODEL_OUT;
  end_cut(m, MODEL_CLIENT, UV_ECONNABORTED);
  if (lingers) model_end_gone(m, MODEL_CLIENT);
  return 0;
}

static int call_listen(model* m, const model_step* step) {
  model_end* end = &m->ends[step->side];
  if (end->state == MODEL_LINGERING) return UV_EBADF;
  if (step->side == MODEL_CLIENT) return UV_ENOTSUP; /* ST2 */
  if (end->state == MODEL_OPEN) {                    /* LN1, LN2 */
    int status = peer_is_gone(m, step->side) ? UV_EPIPE : 0;
    return op_at_once(m, step, MODEL_DID_LISTEN, status);
  }
  end->state = MODEL_LISTENING; /* LN4 */
  op_push(&end->listens, (model_op){.id = step->op});
  return 0;
}

/* A new client: the old one has been closed, the server's end listens. */
static int call_connect(model* m, const model_step* step) {
  model_end* server = &m->ends[MODEL_SERVER];
  model_end* client = &m->ends[MODEL_CLIENT];
  client->state = MODEL_OPEN;
  client->mode = step->mode;
  client->out = (model_lane){.quota = client->out.quota};
  server->state = MODEL_OPEN;
  server->out = (model_lane){.quota = server->out.quota};
  model_ops_end(m, MODEL_SERVER, MODEL_DID_LISTEN, 0); /* LN6 */
  op_at_once(m, step, MODEL_DID_CONNECT, 0);
  m->finished[MODEL_CLIENT] = 0; /* names of operations begin anew */
  return 0;
}

/* What is done can still be read (CL1); what is pending goes on if the end
 * lingers, else it vanishes (CL5). */
static int call_close(model* m, const model_step* step, bool lingers) {
  model_end* end = &m->ends[step->side];
  end_cut(m, step->side, UV_ECANCELED);
  if (lingers && model_writes_pending(&end->out)) {
    end->state = MODEL_LINGERING;
    return 0;
  }
  model_writes_fail(m, step->side, UV_ECANCELED, false);
  model_end_gone(m, step->side);
  return 0;
}

/* ------------------------------------------------- all of them */

static int call_any(model* m, const model_step* step, model_answer* answer) {
  switch (step->verb) {
    case MODEL_READ: return call_read(m, step);
    case MODEL_WRITE: return call_write(m, step);
    case MODEL_TRY_WRITE: return call_try_write(m, step);
    case MODEL_PEEK: return call_peek(m, step, answer);
    case MODEL_TRANSACT: return call_transact(m, step);
    case MODEL_FLUSH: return call_flush(m, step);
    case MODEL_SET_MODE: return call_set_mode(m, step);
    case MODEL_CANCEL: return call_cancel(m, step);
    case MODEL_CANCEL_READS: return call_cancel_reads(m, step);
    case MODEL_INFO: return call_info(m, step, answer);
    case MODEL_LISTEN: return call_listen(m, step);
    case MODEL_DISCONNECT: return call_disconnect(m, step);
    case MODEL_CONNECT: return call_connect(m, step);
    case MODEL_KNOCK: return UV_EBUSY; /* OP2, ST5 */
    case MODEL_CLOSE: return call_close(m, step, true);
    default: return call_close(m, step, false);
  }
}

model_answer model_apply(model* m, const model_step* step) {
  model_answer answer = {.digest = MODEL_DIGEST_START};
  m->due_count = 0;
  answer.status = call_any(m, step, &answer);
  model_advance(m);
  return answer;
}
