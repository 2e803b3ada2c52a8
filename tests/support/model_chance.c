/*
 * The generator: pipes and steps by chance, the same ones from the same seed
 * on every system.
 *
 * A story has to be the same on both systems, so it does not go where npipe.h
 * or docs/semantics.md let them differ, or say nothing. This is the list; each
 * row is a condition below.
 *
 *   bytes_sure    how much of a byte pipe's pending writes can be read (WR4):
 *                 Unix sends no more than a window; and long ones arrive in
 *                 pieces, so a pending read may get the first of them (RD6)
 *   lane_is_free  a write behind a request that went beyond the quota: for
 *                 Windows it is in the pipe, Unix holds it back (WR4). And one
 *                 behind a pending flush: for Wine 8 a flush ends when nothing
 *                 at all is unread
 *   may_write     a message for an end whose request is still held back:
 *                 Windows says UV_EBUSY to the transaction, as npipe.h says
 *   may_transact  a transaction when the peer has closed and left data: two
 *                 codes are right. Room for no reply: RD9 is for reads. One
 *                 while empty messages are all that is unread: Wine 8 does not
 *                 tell that they are there
 *   may_read      a read of 0 bytes that meets an empty message: Wine 8 takes
 *                 the message out of the pipe (RD9), and a flush notices
 *   may_disconnect  an instance that listens: Wine 8 refuses it
 *   may_set_mode  an end that cannot read, or that listens, or that has two
 *                 things wrong: npipe.h does not say which code wins
 *   may_cancel    npipe_cancel() of 0 with a transaction
 *   may_close     lingering without anybody who reads takes real time
 *   may_run       calls on an end that lingers, other than simple ones
 */
#include "model.h"

#define TRIES 60
#define LANE_ITEMS 12u
#define LANE_BYTES 300000u
#define BYTES_AT_ONCE 16384u /* arrive in one piece */
#define READS_MANY 4u
#define ROOM_BIG 100000u

typedef struct chooser {
  const model* m;
  model_taste taste;
  unsigned next;
  test_chance* chance;
} chooser;

static uint32_t pick(chooser* c, uint32_t limit) {
  return chance_below(c->chance, limit);
}

/* ------------------------------------------------- pipes */

void model_choose_pipe(model_pipe* pipe, test_chance* chance) {
  static const size_t quotas[] = {0, 10, 100, 1000, 5000, 65536};
  *pipe = (model_pipe){.type = NPIPE_MESSAGE, .message_max = 200000};
  if (chance_below(chance, 3) == 0) pipe->type = NPIPE_BYTE;
  switch (chance_below(chance, 8)) {
    case 0: pipe->direction = NPIPE_INBOUND; break;
    case 1: pipe->direction = NPIPE_OUTBOUND; break;
    default: pipe->direction = NPIPE_DUPLEX;
  }
  for (int i = 0; i < 2; i++) {
    bool bytes = pipe->type == NPIPE_BYTE || chance_below(chance, 4) == 0;
    pipe->mode[i] = bytes ? NPIPE_READ_BYTES : NPIPE_READ_MESSAGES;
    pipe->quota[i] = quotas[chance_below(chance, 6)];
  }
  if (chance_below(chance, 8) == 0) pipe->message_max = 5000;
}

/* ------------------------------------------------- sizes */

static size_t some_size(chooser* c, size_t quota) {
  switch (pick(c, 12)) {
    case 0: return 0;
    case 1: return 1;
    case 2: return 1 + pick(c, 20);
    case 3: return quota;
    case 4: return quota + 1;
    case 5: return quota > 0 ? quota - 1 : 0;
    case 6: return quota / 2;
    case 7: return 2 * quota;
    case 8: return pick(c, 3000);
    case 9: return pick(c, 300);
    case 10: return pick(c, 10000);
    default: return pick(c, 4) == 0 ? 20000 + pick(c, 120000) : pick(c, 100);
  }
}

/* How many bytes a read gets on every system; UINT32_MAX: what there is. */
static size_t bytes_sure(const chooser* c, model_side reader) {
  const model_lane* lane = &c->m->ends[model_other(reader)].out;
  size_t unread = model_unread(lane);
  if (c->m->pipe.type == NPIPE_MESSAGE) return UINT32_MAX;
  if (unread > MODEL_WINDOW_BYTES) return MODEL_WINDOW_BYTES;
  return lane->inside < lane->count ? unread : UINT32_MAX;
}

static size_t some_room(chooser* c, model_side reader) {
  const model_lane* lane = &c->m->ends[model_other(reader)].out;
  size_t left = 0;
  if (lane->inside > 0) left = lane->items[0].size - lane->items[0].taken;
  size_t room = 0;
  switch (pick(c, 9)) {
    case 0: room = 0; break;
    case 1: room = 1; break;
    case 2: room = left; break;
    case 3: room = left + 1; break;
    case 4: room = left > 0 ? left - 1 : 0; break;
    case 5: room = model_unread(lane); break;
    case 6: room = pick(c, 50); break;
    case 7: room = pick(c, 6000); break;
    default: room = pick(c, 3) == 0 ? ROOM_BIG : pick(c, 1000);
  }
  size_t sure = bytes_sure(c, reader);
  return room < sure ? room : sure;
}

/* ------------------------------------------------- what may be done */

static bool lane_has_request_held(const model_lane* lane) {
  for (size_t i = lane->inside; i < lane->count; i++)
    if (lane->items[i].request) return true;
  return false;
}

static bool lane_is_free(const chooser* c, model_side side) {
  const model_end* end = &c->m->ends[side];
  const model_lane* lane = &end->out;
  if (end->flushes.count > 0 && !c->taste.beyond_wine) return false;
  if (lane_has_request_held(lane)) return false;
  if (model_writes_pending(lane)) return true;
  return model_unread(lane) <= lane->quota;
}

static bool may_write(const chooser* c, model_side side, size_t size) {
  const model_end* end = &c->m->ends[side];
  const model_end* peer = &c->m->ends[model_other(side)];
  const model_lane* lane = &end->out;
  size_t total = model_unread(lane) + model_held_bytes(lane) + size;
  if (lane->count >= LANE_ITEMS || total > LANE_BYTES) return false;
  if (!lane_is_free(c, side)) return false;
  if (lane_has_request_held(&peer->out)) return false;
  if (c->m->pipe.type == NPIPE_MESSAGE) return true;
  if (peer->reads.count > 0 && size > BYTES_AT_ONCE) return false;
  return total <= MODEL_WINDOW_BYTES || (lane->count == 0 && lane->quota > 0);
}

/* Does the lane hold empty messages and nothing else? */
static bool only_empty(const model_lane* lane) {
  return lane->inside > 0 && model_unread(lane) == 0;
}

static bool may_transact(const chooser* c, const model_step* step) {
  const model_end* end = &c->m->ends[step->side];
  const model_end* peer = &c->m->ends[model_other(step->side)];
  if (c->m->pipe.type != NPIPE_MESSAGE || step->size == 0) return false;
  if (end->state == MODEL_LISTENING) return true;
  bool fine = end->can_read && end->can_write &&
              end->mode == NPIPE_READ_MESSAGES && end->reads.count == 0;
  if (step->request > c->m->pipe.message_max) return fine;
  if (peer->state == MODEL_GONE && peer->out.inside > 0) return false;
  if (only_empty(&peer->out) && !c->taste.beyond_wine) return false;
  return may_write(c, step->side, step->request);
}

static bool may_set_mode(const chooser* c, const model_step* step) {
  const model_end* end = &c->m->ends[step->side];
  if (end->state == MODEL_LISTENING || !end->can_read) return false;
  bool wrong =
      c->m->pipe.type == NPIPE_BYTE && step->mode == NPIPE_READ_MESSAGES;
  bool also = end->reads.count > 0 ||
              (end->state == MODEL_OUT && step->side == MODEL_CLIENT);
  return !wrong || !also;
}

static bool may_read(const chooser* c, const model_step* step) {
  const model_end* end = &c->m->ends[step->side];
  const model_lane* lane = &c->m->ends[model_other(step->side)].out;
  bool probe = step->size == 0 && c->m->pipe.type == NPIPE_MESSAGE;
  bool data = end->reads.count == 0 && lane->inside > 0 &&
              lane->items[0].taken < lane->items[0].size;
  if (probe && !data && !c->taste.beyond_wine) return false;
  if (end->state == MODEL_LISTENING && !end->can_read) return false;
  return end->reads.count < READS_MANY;
}

/* Is there one who will read what lingers, and does not linger itself? */
static bool may_linger(const chooser* c, model_side side) {
  const model_end* end = &c->m->ends[side];
  const model_end* peer = &c->m->ends[model_other(side)];
  return !model_writes_pending(&end->out) || peer->state == MODEL_OPEN;
}

static bool may_disconnect(const chooser* c, const model_step* step) {
  const model_end* end = &c->m->ends[step->side];
  return end->state != MODEL_LISTENING || c->taste.beyond_wine;
}

static bool may_connect(const chooser* c, const model_step* step) {
  return step->side == MODEL_CLIENT &&
         c->m->ends[MODEL_CLIENT].state == MODEL_GONE &&
         c->m->ends[MODEL_SERVER].state == MODEL_LISTENING;
}

static bool may_knock(const chooser* c) {
  model_state state = c->m->ends[MODEL_SERVER].state;
  return state == MODEL_OPEN || state == MODEL_OUT;
}

static bool may_cancel(const chooser* c, const model_step* step) {
  if (step->verb == MODEL_CANCEL_READS)
    return !model_transacts(&c->m->ends[step->side]);
  return step->op != 0;
}

/* On an end that lingers few calls are made: they are all refused. */
static bool may_run_lingering(model_verb verb) {
  switch (verb) {
    case MODEL_READ:
    case MODEL_WRITE:
    case MODEL_TRY_WRITE:
    case MODEL_PEEK:
    case MODEL_FLUSH:
    case MODEL_INFO:
    case MODEL_ABORT: return true;
    default: return false;
  }
}

static bool may_run_open(const chooser* c, const model_step* step) {
  const model_end* end = &c->m->ends[step->side];
  switch (step->verb) {
    case MODEL_READ: return may_read(c, step);
    case MODEL_WRITE:
    case MODEL_TRY_WRITE:
      if (end->state == MODEL_LISTENING) return end->can_write;
      return may_write(c, step->side, step->size);
    case MODEL_PEEK: return end->state != MODEL_LISTENING || end->can_read;
    case MODEL_TRANSACT: return may_transact(c, step);
    case MODEL_FLUSH: return end->flushes.count < READS_MANY;
    case MODEL_SET_MODE: return may_set_mode(c, step);
    case MODEL_CANCEL:
    case MODEL_CANCEL_READS: return may_cancel(c, step);
    case MODEL_LISTEN: return end->listens.count < READS_MANY;
    case MODEL_DISCONNECT: return may_disconnect(c, step);
    case MODEL_CONNECT: return false; /* is open already */
    case MODEL_CLOSE: return may_linger(c, step->side);
    default: return true;
  }
}

static bool may_run(const chooser* c, const model_step* step) {
  const model_end* end = &c->m->ends[step->side];
  if (step->verb == MODEL_KNOCK) return may_knock(c);
  if (end->state == MODEL_GONE)
    return step->verb == MODEL_CONNECT && may_connect(c, step);
  if (end->state == MODEL_LINGERING) return may_run_lingering(step->verb);
  return may_run_open(c, step);
}

/* ------------------------------------------------- steps */

static model_verb some_verb(chooser* c) {
  static const unsigned char weights[MODEL_VERBS] = {
      [MODEL_READ] = 26,     [MODEL_WRITE] = 26,   [MODEL_TRY_WRITE] = 5,
      [MODEL_PEEK] = 7,      [MODEL_TRANSACT] = 7, [MODEL_FLUSH] = 6,
      [MODEL_SET_MODE] = 4,  [MODEL_CANCEL] = 8,   [MODEL_CANCEL_READS] = 1,
      [MODEL_INFO] = 3,      [MODEL_LISTEN] = 2,   [MODEL_DISCONNECT] = 2,
      [MODEL_CONNECT] = 2,   [MODEL_KNOCK] = 1,    [MODEL_CLOSE] = 1,
      [MODEL_CLOSE_NOW] = 1, [MODEL_ABORT] = 1};
  unsigned sum = 0;
  for (int i = 0; i < MODEL_VERBS; i++) sum += weights[i];
  unsigned at = pick(c, sum);
  int verb = 0;
  while (at >= weights[verb]) at -= weights[verb++];
  return (model_verb) verb;
}

/* One of the operations that are pending at this end, or one that is over. */
static unsigned some_op(chooser* c, model_side side) {
  const model_end* end = &c->m->ends[side];
  unsigned found[3 * MODEL_OPS_MAX + MODEL_ITEMS_MAX + 1];
  unsigned count = 0;
  const model_queue* queues[] = {&end->reads, &end->flushes, &end->listens};
  for (size_t q = 0; q < 3; q++)
    for (size_t i = 0; i < queues[q]->count; i++)
      found[count++] = queues[q]->ops[i].id;
  for (size_t i = 0; i < end->out.count; i++)
    if (end->out.items[i].op != 0) found[count++] = end->out.items[i].op;
  if (c->m->finished[side] != 0) found[count++] = c->m->finished[side];
  return count > 0 ? found[pick(c, count)] : 0;
}

/* What is most likely next, when there is no connection. */
static bool urge(chooser* c, model_step* step) {
  model_state server = c->m->ends[MODEL_SERVER].state;
  model_state client = c->m->ends[MODEL_CLIENT].state;
  if (server == MODEL_GONE || pick(c, 2) == 0) return false;
  if (client == MODEL_OUT) {
    *step = (model_step){.verb = MODEL_CLOSE, .side = MODEL_CLIENT};
    return true;
  }
  if (client != MODEL_GONE) return false;
  *step = (model_step){.side = MODEL_SERVER};
  if (server == MODEL_OUT) {
    step->verb = MODEL_LISTEN;
  } else if (server == MODEL_LISTENING) {
    step->verb = MODEL_CONNECT;
    step->side = MODEL_CLIENT;
  } else {
    if (server != MODEL_OPEN || pick(c, 2) > 0) return false;
    step->verb = MODEL_DISCONNECT;
  }
  return true;
}

static void fill_step(chooser* c, model_step* step) {
  const model_end* end = &c->m->ends[step->side];
  step->op = c->next;
  step->seed = 1 + pick(c, 250);
  switch (step->verb) {
    case MODEL_READ: step->size = some_room(c, step->side); break;
    case MODEL_PEEK: step->size = pick(c, 3) == 0 ? 0 : pick(c, 4000); break;
    case MODEL_WRITE:
    case MODEL_TRY_WRITE: step->size = some_size(c, end->out.quota); break;
    case MODEL_TRANSACT:
      step->size = pick(c, 3) == 0 ? 1 + pick(c, 40) : ROOM_BIG;
      step->request = some_size(c, end->out.quota);
      break;
    case MODEL_SET_MODE: step->mode = (npipe_read_mode) pick(c, 3); break;
    case MODEL_CANCEL: step->op = some_op(c, step->side); break;
    case MODEL_CONNECT:
      step->mode = NPIPE_READ_BYTES;
      if (c->m->pipe.type == NPIPE_MESSAGE && pick(c, 4) > 0)
        step->mode = NPIPE_READ_MESSAGES;
      break;
    default: break;
  }
}

/* The server's end is the end of the story, it is not to come too soon; and
 * enough is said by a few calls in the wrong direction. */
static bool is_unwanted(chooser* c, const model_step* step) {
  const model_end* end = &c->m->ends[step->side];
  switch (step->verb) {
    case MODEL_CLOSE:
    case MODEL_CLOSE_NOW:
    case MODEL_ABORT: return step->side == MODEL_SERVER && pick(c, 4) > 0;
    case MODEL_READ:
    case MODEL_PEEK: return !end->can_read && pick(c, 8) > 0;
    case MODEL_WRITE:
    case MODEL_TRY_WRITE:
    case MODEL_FLUSH: return !end->can_write && pick(c, 8) > 0;
    case MODEL_TRANSACT:
      return c->m->pipe.direction != NPIPE_DUPLEX && pick(c, 8) > 0;
    default: return false;
  }
}

model_step model_choose(const model* m, model_taste taste, unsigned next,
                        test_chance* chance) {
  chooser c = {.m = m, .taste = taste, .next = next, .chance = chance};
  model_step step;
  for (int i = 0; i < TRIES; i++) {
    if (!urge(&c, &step)) {
      step = (model_step){.side = pick(&c, 2) ? MODEL_CLIENT : MODEL_SERVER};
      step.verb = some_verb(&c);
    }
    fill_step(&c, &step);
    if (may_run(&c, &step) && !is_unwanted(&c, &step)) return step;
  }
  return model_choose_last(m, next, chance);
}

/* ------------------------------------------------- the end */

static model_step last_close(chooser* c, model_side side) {
  model_step step = {.verb = MODEL_CLOSE, .side = side};
  switch (pick(c, 5)) {
    case 0: step.verb = MODEL_ABORT; break;
    case 1: step.verb = MODEL_CLOSE_NOW; break;
    default: break;
  }
  if (!may_linger(c, side)) step.verb = MODEL_ABORT;
  return step;
}

/* Room so that something is read, and at most what is sure. */
static size_t last_room(chooser* c, model_side side) {
  size_t room = some_room(c, side);
  if (room > 0 && pick(c, 2) == 0) return room;
  size_t sure = bytes_sure(c, side);
  return sure < ROOM_BIG ? sure : ROOM_BIG;
}

model_step model_choose_last(const model* m, unsigned next,
                             test_chance* chance) {
  chooser c = {.m = m, .next = next, .chance = chance};
  model_side side = pick(&c, 2) ? MODEL_CLIENT : MODEL_SERVER;
  model_state state = m->ends[side].state;
  if (state == MODEL_GONE || state == MODEL_LINGERING) side = model_other(side);
  const model_end* end = &m->ends[side];
  const model_end* peer = &m->ends[model_other(side)];
  bool last = peer->state == MODEL_GONE || peer->state == MODEL_LINGERING;
  bool reads = end->state == MODEL_OPEN && end->can_read &&
               !model_transacts(end) && end->reads.count < READS_MANY;
  bool more = peer->out.inside > 0 || pick(&c, 3) > 0;
  if (!last || !reads || !more) return last_close(&c, side);
  model_step step = {.verb = MODEL_READ, .side = side, .op = next};
  step.size = last_room(&c, side);
  return step;
}
