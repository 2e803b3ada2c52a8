/*
 * The driver: makes the call of each step, waits for the callbacks that the
 * model says are due, then runs the loop a few turns more to see that no other
 * comes, and compares.
 *
 * One play is one conversation: a server of one instance, its end, and the
 * client's end, which may be followed by others.
 *
 * Nothing here waits by time: a callback that is due may come late (a report
 * of the reader may take its time), so it is waited for; one that is not due
 * has come when the loop has nothing to do any more. What of a pending write
 * has arrived, and what an end knows of its peer, is asked for again while it
 * may still be on its way.
 *
 * Trap: a play that failed leaves the library in any state. It aborts what is
 * open and gives the world back empty, so that the failure can be told.
 */
#include "model_play.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_act.h"
#include "os.h"

#define PLAY_STEPS_MIN 5u
#define PLAY_STEPS_MORE 56u
#define PLAY_LAST_MAX 2000u /* steps of the end */
#define QUIET_TURNS 3u
#define FLUSH_THREAD_MS 3u
#define QUIET_BYTES_PER_TURN 16384u
#define HASH_PRIME 1099511628211u

uint64_t play_hash(uint64_t hash, uint64_t number) {
  for (int i = 0; i < 8; i++)
    hash = (hash ^ (number >> 8 * i & 0xff)) * HASH_PRIME;
  return hash;
}

/* Lets arrive what is on its way without a callback. */
static void play_quiet(play* p) {
  size_t bytes = 0;
  for (int i = 0; i < 2; i++) {
    const model_lane* lane = &p->m.ends[i].out;
    if (model_writes_pending(lane))
      bytes += model_unread(lane) + model_held_bytes(lane);
  }
  size_t turns = QUIET_TURNS + bytes / QUIET_BYTES_PER_TURN;
  for (size_t i = 0; i < turns; i++) uv_run(&p->w->loop, UV_RUN_NOWAIT);
}

/* ------------------------------------------------- looking */

/* Has less been found than will be, and may the rest be on its way? */
static bool peek_is_early(const play* p, const model_step* step,
                          const model_answer* want,
                          const npipe_peek_info* seen) {
  const model_lane* lane = &p->m.ends[model_other(step->side)].out;
  return seen->available < want->peek.available && model_writes_pending(lane);
}

static void peek_compare(play* p, const model_answer* want,
                         const npipe_peek_info* seen) {
  const npipe_peek_info* peek = &want->peek;
  bool counts = p->m.pipe.type == NPIPE_BYTE || !os_under_wine();
  bool same = seen->size == peek->size && seen->left == peek->left;
  if (want->exact)
    same = same && seen->available == peek->available;
  else
    same = same && seen->available >= peek->available &&
           seen->available <= want->most;
  if (counts) same = same && seen->messages == peek->messages;
  if (same) return;
  char text[160];
  snprintf(text, sizeof text,
           "seen: %zu copied, %zu there, %zu left of %zu messages", seen->size,
           seen->available, seen->left, seen->messages);
  play_fail(p, text);
}

static int play_peek(play* p, const model_step* step,
                     const model_answer* want) {
  npipe_conn* conn = p->ends[step->side].conn;
  unsigned char* data = must_alloc(step->size);
  npipe_peek_info seen = {0};
  int status = 0;
  play_wait_begin(p);
  for (;;) {
    status = CALL(p->w, npipe_peek(conn, data, step->size, &seen));
    if (status != 0 || want->status != 0 || p->rang) break;
    if (!peek_is_early(p, step, want, &seen)) break;
    uv_run(&p->w->loop, UV_RUN_NOWAIT);
  }
  uv_timer_stop(&p->alarm);
  if (status == 0 && want->status == 0) {
    peek_compare(p, want, &seen);
    if (!p->failed &&
        model_digest(MODEL_DIGEST_START, data, seen.size) != want->digest)
      play_fail(p, "other bytes were peeked at");
  }
  free(data);
  return status;
}

static bool info_is_right(const play* p, const model_step* step,
                          const model_answer* want, const npipe_info* seen) {
  const model_pipe* pipe = &p->m.pipe;
  bool server = step->side == MODEL_SERVER;
  if (seen->state != want->state || seen->read_mode != want->mode) return false;
  if (seen->type != pipe->type || seen->direction != pipe->direction)
    return false;
  if (seen->in_quota != pipe->quota[MODEL_CLIENT] ||
      seen->out_quota != pipe->quota[MODEL_SERVER])
    return false;
  if (seen->message_max_bytes != pipe->message_max) return false;
  return server ? seen->is_server && seen->max_instances == 1 &&
                      seen->instances == 1
                : !seen->is_server && seen->instances == 0;
}

static int play_info(play* p, const model_step* step,
                     const model_answer* want) {
  npipe_info seen;
  int status = CALL(p->w, npipe_get_info(p->ends[step->side].conn, &seen));
  if (status != 0 || want->status != 0) return status;
  if (info_is_right(p, step, want, &seen)) return 0;
  char text[160];
  snprintf(text, sizeof text,
           "seen: state %d, reads %d, type %d, direction %d, quotas %lu and "
           "%lu, messages to %lu, server %d, %u of %u",
           (int) seen.state, (int) seen.read_mode, (int) seen.type,
           (int) seen.direction, (unsigned long) seen.in_quota,
           (unsigned long) seen.out_quota,
           (unsigned long) seen.message_max_bytes, seen.is_server,
           seen.instances, seen.max_instances);
  play_fail(p, text);
  return 0;
}

/* ------------------------------------------------- comparing */

static bool event_is(const model_event* a, const model_event* b) {
  return a->what == b->what && a->side == b->side && a->op == b->op;
}

static bool event_same(const model_event* a, const model_event* b) {
  return event_is(a, b) && a->status == b->status && a->size == b->size &&
         a->flags == b->flags && a->digest == b->digest;
}

/* Where the event was seen; seen_count: not at all. */
static size_t play_find(const play* p, const model_event* event) {
  size_t i = 0;
  while (i < p->seen_count && !event_is(event, &p->seen[i])) i++;
  return i;
}

/* Reads and writes that succeed come in their order; and the close comes
 * last. */
static bool play_in_order(const play* p, size_t at) {
  const model_event* event = &p->seen[at];
  for (size_t i = at + 1; i < p->seen_count; i++) {
    const model_event* later = &p->seen[i];
    if (later->side != event->side) continue;
    if (event->what == MODEL_DID_CLOSE) return false;
    bool counts =
        event->what == MODEL_DID_READ || event->what == MODEL_DID_WRITE;
    if (counts && later->what == event->what && event->status == 0 &&
        later->status == 0 && later->op < event->op)
      return false;
  }
  return true;
}

static void play_compare(play* p) {
  for (size_t i = 0; i < p->m.due_count; i++) {
    const model_event* due = &p->m.due[i];
    size_t at = play_find(p, due);
    tell_event(&p->story, "      ", due);
    if (at == p->seen_count)
      play_fail(p, "this did not come");
    else if (!event_same(due, &p->seen[at]))
      play_fail(p, "this came in another way");
    else if (!play_in_order(p, at))
      play_fail(p, "this came out of order");
  }
  if (p->seen_count > p->m.due_count) play_fail(p, "too many callbacks");
  for (int i = 0; i < 2 && !p->failed; i++) {
    model_side side = i == 0 ? MODEL_SERVER : MODEL_CLIENT;
    if (p->ends[i].conn == NULL) continue;
    size_t queued = npipe_queued_bytes(p->ends[i].conn);
    if (queued == model_queued(&p->m, side)) continue;
    char text[96];
    snprintf(text, sizeof text, "%s has %zu bytes queued, not %zu",
             tell_side(side), queued, model_queued(&p->m, side));
    play_fail(p, text);
  }
  if (p->w->violation[0] != 0) play_fail(p, p->w->violation);
  if (!p->failed) return;
  for (size_t i = 0; i < p->seen_count; i++)
    tell_event(&p->story, "      seen: ", &p->seen[i]);
}

/* Does the server's end know that its new client is there? */
static bool play_is_met(play* p) {
  npipe_info info;
  return CALL(p->w, npipe_get_info(p->ends[MODEL_SERVER].conn, &info)) == 0 &&
         info.state == NPIPE_STATE_CONNECTED;
}

static int play_any(play* p, const model_step* step, const model_answer* want) {
  switch (step->verb) {
    case MODEL_PEEK: return play_peek(p, step, want);
    case MODEL_INFO: return play_info(p, step, want);
    default: return play_call(p, step);
  }
}

/* Is as much queued as should be? What npipe_try_write() took has no callback
 * to wait for. */
static bool play_is_level(const play* p) {
  for (int i = 0; i < 2; i++) {
    model_side side = i == 0 ? MODEL_SERVER : MODEL_CLIENT;
    if (p->ends[i].conn != NULL &&
        npipe_queued_bytes(p->ends[i].conn) != model_queued(&p->m, side))
      return false;
  }
  return true;
}

static void play_step(play* p, unsigned number, const model_step* step) {
  model_answer want = model_apply(&p->m, step);
  p->seen_count = 0;
  tell_step(&p->story, number, step, &want);
  int status = play_any(p, step, &want);
  if (status != want.status) {
    tell_line(&p->story, "      seen: ", status_name(status));
    play_fail(p, "the call returned another code");
  }
  if (!p->failed) PLAY_UNTIL(p, p->seen_count >= p->m.due_count);
  if (!p->failed) PLAY_UNTIL(p, play_is_level(p));
  if (!p->failed && step->verb == MODEL_CONNECT && status == 0) {
    PLAY_UNTIL(p, play_is_met(p));
    if (p->rang) play_fail(p, "the server's end never had its new client");
  }
  bool flushes = p->m.ends[step->side].flushes.count > 0;
  if (step->verb == MODEL_FLUSH && flushes && os_flushes_by_thread())
    world_run_for(p->w, FLUSH_THREAD_MS);
  play_quiet(p);
  play_compare(p);
}

/* ------------------------------------------------- one conversation */

static void play_open(play* p) {
  model_step connect = {.verb = MODEL_CONNECT,
                        .side = MODEL_CLIENT,
                        .mode = p->m.pipe.mode[MODEL_CLIENT]};
  int status = play_serve(p);
  if (status == 0) status = play_call(p, &connect);
  if (status != 0) {
    play_fail(p, "no pipe could be made");
    return;
  }
  PLAY_UNTIL(p, p->seen_count > 0 && p->arrivals > 0);
  if (p->seen_count != 1 || p->seen[0].status != 0 || p->arrivals != 1) {
    play_fail(p, "no client came");
    return;
  }
  npipe_conn* conn;
  if (CALL(p->w, npipe_accept(p->server, &conn)) != 0) {
    play_fail(p, "no client is there");
    return;
  }
  npipe_set_linger(conn, PLAY_LINGER_MS);
  p->ends[MODEL_SERVER].conn = conn;
}

static void play_run(play* p, model_taste taste, unsigned* steps) {
  unsigned middle = PLAY_STEPS_MIN + chance_below(&p->chance, PLAY_STEPS_MORE);
  unsigned n = 0;
  while (!p->failed && !model_is_over(&p->m) && n < middle + PLAY_LAST_MAX) {
    n++;
    model_step step = n <= middle ? model_choose(&p->m, taste, n, &p->chance)
                                  : model_choose_last(&p->m, n, &p->chance);
    play_step(p, n, &step);
  }
  if (!p->failed && !model_is_over(&p->m)) play_fail(p, "it has no end");
  *steps = n;
}

/* Closes what a play that failed has left. */
static void play_clear(play* p) {
  static const model_side sides[] = {MODEL_CLIENT, MODEL_SERVER};
  for (size_t i = 0; i < 2; i++) {
    model_step step = {.verb = MODEL_ABORT, .side = sides[i]};
    if (p->ends[sides[i]].conn == NULL) continue;
    play_call(p, &step);
    PLAY_UNTIL(p, p->ends[sides[i]].conn == NULL);
  }
}

play_result play_conversation(world* w, uint32_t seed, unsigned number,
                              model_taste taste) {
  play* p = must_alloc(sizeof *p);
  model_pipe pipe;
  *p = (play){.w = w};
  uint64_t mixed = play_hash(play_hash(PLAY_HASH_START, seed), number);
  if (taste.beyond_wine) mixed = play_hash(mixed, 1);
  p->chance = chance_seeded((uint32_t) (mixed ^ mixed >> 32));
  for (int i = 0; i < 2; i++) p->ends[i].play = p;
  p->ends[MODEL_SERVER].side = MODEL_SERVER;
  p->ends[MODEL_CLIENT].side = MODEL_CLIENT;
  uv_timer_init(&w->loop, &p->alarm);
  p->alarm.data = p;
  model_choose_pipe(&pipe, &p->chance);
  tell_pipe(&p->story, &pipe);
  model_begin(&p->m, &pipe);
  play_result result = {.steps = 0};
  play_open(p);
  if (!p->failed) play_run(p, taste, &result.steps);
  play_clear(p);
  play_serve_end(p);
  uv_close((uv_handle_t*) &p->alarm, NULL);
  uv_run(&w->loop, UV_RUN_NOWAIT);
  if (p->ends[0].conn || p->ends[1].conn || p->server || p->stranger)
    play_fail(p, "a close callback never came");
  result.failed = p->failed;
  result.story = p->story.text;
  result.hash = PLAY_HASH_START;
  for (size_t i = 0; i < p->story.size; i++)
    result.hash = (result.hash ^ (unsigned char) p->story.text[i]) * HASH_PRIME;
  play_forget(p);
  free(p);
  return result;
}
