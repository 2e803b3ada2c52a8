/*
 * The machine itself: lanes of writes, reads that take from them, and what
 * happens when an end goes.
 *
 * The rules, each at its place below:
 *   WR3  a write is done when the unread bytes up to its end are within the
 *        quota; one that is not done is in the pipe all the same (WR4), but
 *        only one at a time, the rest is held back (npipe_cancel() says so)
 *   WR6  an empty message keeps its place and is done when it is in the pipe
 *   TX3  so is a request
 *   RD2, RD7, RD8, RD9, RD10  how a read takes
 *   FL1  a flush ends when the items before it are read
 *   CL1, CL4, CL5  what becomes of data and operations when an end goes
 *
 * Trap: an item that is read to its end leaves the lane only after its write
 * was told, so a pending one is told there.
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST_PRIME 16777619u
#define DIGEST_CHUNK 4096u

uint32_t model_digest(uint32_t digest, const void* data, size_t size) {
  const unsigned char* bytes = data;
  for (size_t i = 0; i < size; i++) digest = (digest ^ bytes[i]) * DIGEST_PRIME;
  return digest;
}

uint32_t model_digest_pattern(uint32_t digest, uint32_t seed, size_t start,
                              size_t size) {
  unsigned char chunk[DIGEST_CHUNK];
  while (size > 0) {
    size_t part = size < sizeof chunk ? size : sizeof chunk;
    pattern_fill_from(chunk, part, seed, start);
    digest = model_digest(digest, chunk, part);
    start += part;
    size -= part;
  }
  return digest;
}

model_side model_other(model_side side) {
  return side == MODEL_SERVER ? MODEL_CLIENT : MODEL_SERVER;
}

static void model_broken(const char* what) {
  fprintf(stderr, "the model is wrong: %s\n", what);
  abort();
}

void model_owe(model* m, model_event event) {
  if (m->due_count == MODEL_DUE_MAX) model_broken("too much is due");
  m->due[m->due_count++] = event;
  m->finished[event.side] = event.op;
}

/* ------------------------------------------------- lanes */

static size_t item_left(const model_item* item) {
  return item->size - item->taken;
}

size_t model_unread(const model_lane* lane) {
  size_t sum = 0;
  for (size_t i = 0; i < lane->inside; i++) sum += item_left(&lane->items[i]);
  return sum;
}

size_t model_held_bytes(const model_lane* lane) {
  size_t sum = 0;
  for (size_t i = lane->inside; i < lane->count; i++)
    sum += lane->items[i].size;
  return sum;
}

bool model_writes_pending(const model_lane* lane) {
  for (size_t i = 0; i < lane->count; i++)
    if (!lane->items[i].done) return true;
  return false;
}

size_t model_queued(const model* m, model_side side) {
  const model_lane* lane = &m->ends[side].out;
  size_t sum = 0;
  for (size_t i = 0; i < lane->count; i++) {
    const model_item* item = &lane->items[i];
    if (!item->done && !item->request) sum += item->size;
  }
  return sum;
}

static void lane_remove(model_lane* lane, size_t index) {
  if (index < lane->inside) lane->inside--;
  lane->count--;
  memmove(&lane->items[index], &lane->items[index + 1],
          (lane->count - index) * sizeof lane->items[0]);
}

static void write_tell(model* m, model_side side, model_item* item,
                       int status) {
  if (item->done) return;
  item->done = true;
  if (item->op == 0) return;
  model_owe(m, (model_event){.what = MODEL_DID_WRITE,
                             .side = side,
                             .op = item->op,
                             .status = status});
}

void model_write_push(model* m, model_side side, const model_item* item) {
  model_lane* lane = &m->ends[side].out;
  if (lane->count == MODEL_ITEMS_MAX) model_broken("too many writes");
  model_item* place = &lane->items[lane->count++];
  *place = *item;
  place->number = ++lane->last;
}

void model_write_drop(model* m, model_side side, size_t index, int status) {
  model_lane* lane = &m->ends[side].out;
  write_tell(m, side, &lane->items[index], status);
  lane_remove(lane, index);
}

void model_writes_fail(model* m, model_side side, int status, bool all) {
  model_lane* lane = &m->ends[side].out;
  for (size_t i = 0; i < lane->count;) {
    if (all || !lane->items[i].done)
      model_write_drop(m, side, i, status);
    else
      i++;
  }
}

/* The next write goes into the pipe, if none there is pending. */
static bool lane_enter(model* m, model_side side) {
  model_lane* lane = &m->ends[side].out;
  if (lane->inside == lane->count) return false;
  if (lane->inside > 0 && !lane->items[lane->inside - 1].done) return false;
  lane->inside++;
  model_item* item = &lane->items[lane->inside - 1];
  if (item->size == 0 && m->pipe.type == NPIPE_BYTE)
    model_write_drop(m, side, lane->inside - 1, 0); /* nothing at all (WR6) */
  return true;
}

/* The last one in the pipe is done, if it is within the quota (WR3), empty
 * (WR6) or a request (TX3). */
static bool lane_settle(model* m, model_side side) {
  model_lane* lane = &m->ends[side].out;
  if (lane->inside == 0) return false;
  model_item* item = &lane->items[lane->inside - 1];
  if (item->done) return false;
  bool free = item->request || item->size == 0;
  if (!free && model_unread(lane) > lane->quota) return false;
  write_tell(m, side, item, 0);
  return true;
}

/* ------------------------------------------------- reads */

model_queue* model_queue_of(model_end* end, model_what what) {
  switch (what) {
    case MODEL_DID_READ: return &end->reads;
    case MODEL_DID_FLUSH: return &end->flushes;
    default: return &end->listens;
  }
}

bool model_transacts(const model_end* end) {
  return end->reads.count > 0 && end->reads.ops[0].transact;
}

static model_op queue_take(model_queue* queue, size_t index) {
  model_op op = queue->ops[index];
  queue->count--;
  memmove(&queue->ops[index], &queue->ops[index + 1],
          (queue->count - index) * sizeof queue->ops[0]);
  return op;
}

void model_ops_end(model* m, model_side side, model_what what, int status) {
  model_queue* queue = model_queue_of(&m->ends[side], what);
  while (queue->count > 0) {
    model_op op = queue_take(queue, 0);
    int code = op.transact && status == UV_EOF ? UV_EPIPE : status;
    model_owe(m, (model_event){
                     .what = what, .side = side, .op = op.id, .status = code});
  }
}

/* Takes bytes of the first item into the event. */
static void read_take(model* m, model_side writer, model_event* event,
                      size_t size) {
  model_item* item = &m->ends[writer].out.items[0];
  event->digest =
      model_digest_pattern(event->digest, item->seed, item->taken, size);
  event->size += size;
  item->taken += size;
  if (item->taken == item->size) model_write_drop(m, writer, 0, 0);
}

/* One message or a part of it; a read of 0 bytes takes nothing (RD8, RD9). */
static void read_message(model* m, model_side writer, size_t room,
                         model_event* event) {
  size_t left = item_left(&m->ends[writer].out.items[0]);
  if (left > room) event->flags = NPIPE_MORE;
  if (room > 0) read_take(m, writer, event, left < room ? left : room);
}

/* Whatever is there, as much as there is room. Empty messages go with it only
 * if data stands behind them; one alone is read as 0 bytes (RD7). */
static void read_bytes(model* m, model_side writer, size_t room,
                       model_event* event) {
  model_lane* lane = &m->ends[writer].out;
  if (room == 0) return;
  size_t size = model_unread(lane);
  if (size > room) size = room;
  if (size == 0) read_take(m, writer, event, 0);
  while (event->size < size) {
    size_t left = item_left(&lane->items[0]);
    size_t rest = size - event->size;
    read_take(m, writer, event, left < rest ? left : rest);
  }
}

static bool end_serve(model* m, model_side side) {
  model_end* end = &m->ends[side];
  model_side writer = model_other(side);
  model_end* peer = &m->ends[writer];
  if (end->reads.count == 0) return false;
  if (peer->out.inside == 0) {
    if (peer->state == MODEL_GONE)
      model_ops_end(m, side, MODEL_DID_READ, UV_EOF);
    return false;
  }
  model_op op = queue_take(&end->reads, 0);
  model_event event = {.what = MODEL_DID_READ,
                       .side = side,
                       .op = op.id,
                       .digest = MODEL_DIGEST_START};
  if (op.transact || end->mode == NPIPE_READ_MESSAGES)
    read_message(m, writer, op.size, &event);
  else
    read_bytes(m, writer, op.size, &event);
  model_owe(m, event);
  return true;
}

/* ------------------------------------------------- what follows */

static void end_flushed(model* m, model_side side) {
  model_end* end = &m->ends[side];
  for (size_t i = 0; i < end->flushes.count;) {
    const model_lane* lane = &end->out;
    if (lane->count > 0 && lane->items[0].number <= end->flushes.ops[i].after) {
      i++;
      continue;
    }
    model_op op = queue_take(&end->flushes, i);
    model_owe(
        m, (model_event){.what = MODEL_DID_FLUSH, .side = side, .op = op.id});
  }
}

void model_advance(model* m) {
  for (bool moved = true; moved;) {
    moved = false;
    for (int i = 0; i < 2; i++) {
      model_side side = i == 0 ? MODEL_SERVER : MODEL_CLIENT;
      if (lane_enter(m, side)) moved = true;
      if (end_serve(m, model_other(side))) moved = true;
      if (lane_settle(m, side)) moved = true;
    }
  }
  for (int i = 0; i < 2; i++) {
    model_side side = i == 0 ? MODEL_SERVER : MODEL_CLIENT;
    end_flushed(m, side);
    if (m->ends[side].state == MODEL_LINGERING &&
        !model_writes_pending(&m->ends[side].out))
      model_end_gone(m, side);
  }
}

void model_end_gone(model* m, model_side side) {
  model_end* end = &m->ends[side];
  model_side other = model_other(side);
  model_end* peer = &m->ends[other];
  bool had_peer = end->state == MODEL_OPEN || end->state == MODEL_LINGERING;
  end->state = MODEL_GONE;
  model_owe(m, (model_event){.what = MODEL_DID_CLOSE, .side = side});
  if (!had_peer) return;
  if (peer->state != MODEL_OPEN && peer->state != MODEL_LINGERING) return;
  model_writes_fail(m, other, UV_EPIPE, true);        /* CL2, CL4, WR8 */
  model_ops_end(m, other, MODEL_DID_FLUSH, UV_EPIPE); /* FL3 */
  if (peer->state == MODEL_OPEN) end_serve(m, other); /* RD11 */
  if (peer->state == MODEL_LINGERING) model_end_gone(m, other);
}

bool model_is_over(const model* m) {
  return m->ends[MODEL_SERVER].state == MODEL_GONE &&
         m->ends[MODEL_CLIENT].state == MODEL_GONE;
}

/* ------------------------------------------------- the beginning */

static void end_begin(model* m, model_side side) {
  bool inbound = m->pipe.direction != NPIPE_OUTBOUND;
  bool outbound = m->pipe.direction != NPIPE_INBOUND;
  model_end* end = &m->ends[side];
  *end = (model_end){.state = MODEL_OPEN, .mode = m->pipe.mode[side]};
  end->can_read = side == MODEL_SERVER ? inbound : outbound;
  end->can_write = side == MODEL_SERVER ? outbound : inbound;
  end->out.quota = m->pipe.quota[side];
}

void model_begin(model* m, const model_pipe* pipe) {
  *m = (model){.pipe = *pipe};
  end_begin(m, MODEL_SERVER);
  end_begin(m, MODEL_CLIENT);
}
