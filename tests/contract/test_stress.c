/*
 * Chance: many clients connect, send, answer, stop, cancel and close at random
 * moments, and what arrives is compared with what was sent.
 *
 * Each message says who it is: its pattern is seeded with a number of its
 * side of the connection and its own number in it. A connection may end at any
 * moment, so a reader sees a prefix of what its peer wrote, each message whole
 * and in its order; what a peer wrote before an orderly close (all write
 * callbacks with 0, then the close) a reader sees in full.
 *
 * The seed is printed; NPIPE_TEST_SEED repeats a run. What happens also
 * depends on the times of the system, so a repetition is alike, not the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { ACTORS = 24, LIVES = 4 };

typedef struct actor_side {
  test_end* end; /* NULL: none now */
  test_stream* stream;
  uint32_t seed;     /* of its first message */
  unsigned sent;     /* writes begun */
  unsigned accepted; /* write callbacks with 0 */
  unsigned checked;  /* messages of the peer that were compared */
  size_t sent_bytes;
  size_t accepted_bytes;
  size_t checked_bytes; /* on a byte pipe */
  unsigned done;        /* write callbacks */
  int orderly;          /* closes only when all writes are done */
  struct actor_side* peer;
} actor_side;

typedef struct stress_actor {
  struct stress_play* play;
  actor_side client;
  actor_side server;
  unsigned lives;
} stress_actor;

typedef struct stress_play {
  world* w;
  npipe_type type;
  test_host* host;
  test_chance chance;
  stress_actor actors[ACTORS];
  unsigned lives;
  uint64_t messages;
} stress_play;

static size_t message_size(uint32_t seed) {
  switch (seed % 16) {
    case 0: return 0;
    case 1: return 1 + seed / 16 % 3;
    case 2: return 60000 + seed / 16 % 12000;
    case 3: return 200000;
    default: return seed / 16 % 3000;
  }
}

static uint32_t message_seed(const actor_side* side, unsigned number) {
  return side->seed + number * 7u;
}

static void side_written(test_task* task) {
  actor_side* side = task->user;
  if (side->end != task->end) return; /* an earlier life */
  side->done++;
  if (task->status != 0) return;
  side->accepted++;
  side->accepted_bytes += task->room;
}

/* On a byte pipe all writes of a side make one long pattern. */
static void side_send(actor_side* side, npipe_type type) {
  uint32_t seed = message_seed(side, side->sent++);
  size_t size = message_size(seed);
  size_t start = type == NPIPE_MESSAGE ? 0 : side->sent_bytes;
  unsigned char* data = must_alloc(size);
  pattern_fill_from(data, size, type == NPIPE_MESSAGE ? seed : side->seed,
                    start);
  test_task* task = write_begin(side->end, data, size);
  free(data);
  side->sent_bytes += size;
  task->hook = side_written;
  task->user = side;
}

static int side_check_bytes(actor_side* side) {
  size_t fresh = side->stream->size - side->checked_bytes;
  if (!pattern_holds(side->stream->bytes + side->checked_bytes, fresh,
                     side->peer->seed, side->checked_bytes))
    return 0;
  side->checked_bytes += fresh;
  side->checked = (unsigned) side->stream->count;
  return 1;
}

/* Compares what has arrived since the last time. */
static int side_check(actor_side* side, npipe_type type) {
  if (type == NPIPE_BYTE)
    return side->stream->size == 0 || side_check_bytes(side);
  for (; side->checked < side->stream->count; side->checked++) {
    uint32_t seed = message_seed(side->peer, side->checked);
    if (!stream_has_pattern(side->stream, side->checked, message_size(seed),
                            seed))
      return 0;
  }
  return 1;
}

/* ------------------------------------------------- lives */

/* The first message of a client: who it is. */
typedef struct card {
  unsigned actor;
  unsigned life;
} card;

static void server_met(test_task* task) {
  stress_play* play = task->user;
  if (task->status != 0) {
    end_close(task->end);
    return;
  }
  card who;
  memcpy(&who, task->data, sizeof who);
  if (task->size != sizeof who || who.actor >= ACTORS) {
    world_violation(play->w, "a client sent a wrong first message");
    return;
  }
  stress_actor* actor = &play->actors[who.actor];
  if (actor->client.end == NULL || actor->lives != who.life) {
    end_close(task->end); /* its client has gone already */
    return;
  }
  actor->server.end = task->end;
  actor->server.stream = stream_begin(task->end, 1 + who.actor * 400);
}

static void server_arrived(test_host* host) {
  test_end* end = host_take(host);
  if (end == NULL) return;
  test_task* task = read_begin(end, sizeof(card));
  task->hook = server_met;
  task->user = host->user;
}

static void actor_connected(test_end* end) {
  stress_actor* actor = end->user;
  stress_play* play = actor->play;
  if (end->connect_status != 0) {
    world_violation(play->w, "a client was refused");
    return;
  }
  card me = {.actor = (unsigned) (actor - play->actors), .life = actor->lives};
  write_begin(end, &me, sizeof me);
  actor->client.stream = stream_begin(end, 0);
}

static void side_born(actor_side* side, stress_play* play,
                      struct actor_side* peer) {
  memset(side, 0, sizeof *side);
  side->seed = chance_next(&play->chance);
  side->orderly = chance_below(&play->chance, 2) == 0;
  side->peer = peer;
}

static void actor_born(stress_actor* actor) {
  stress_play* play = actor->play;
  side_born(&actor->client, play, &actor->server);
  side_born(&actor->server, play, &actor->client);
  actor->lives++;
  play->lives++;
  test_end* end = end_connect(play->w, play->w->name, NPIPE_WAIT_FOREVER, NULL);
  end->hook = actor_connected;
  end->user = actor;
  actor->client.end = end;
}

static int side_may_close(const actor_side* side) {
  if (side->end == NULL || side->end->closing) return 0;
  return !side->orderly || side->done == side->sent;
}

/* Both ends are closed, or the server's end never was: compares and clears. */
static int actor_over(stress_actor* actor) {
  actor_side* client = &actor->client;
  actor_side* server = &actor->server;
  if (client->end == NULL || client->end->closes == 0) return 0;
  return server->end == NULL || server->end->closes != 0;
}

static void actor_died(stress_actor* actor) {
  stress_play* play = actor->play;
  actor_side* client = &actor->client;
  actor_side* server = &actor->server;
  if (client->stream) CHECK(side_check(client, play->type));
  if (server->stream) CHECK(side_check(server, play->type));
  if (client->stream) play->messages += client->checked;
  if (server->stream) play->messages += server->checked;
  client->end = NULL;
  server->end = NULL;
}

/* A reader that has come to the end has all that an orderly peer wrote. */
static void side_saw_all(actor_side* side, npipe_type type) {
  CHECK_STATUS(UV_EOF, side->stream->end_status);
  CHECK(side_check(side, type));
  const actor_side* peer = side->peer;
  if (peer->end == NULL || !peer->orderly) return;
  if (type == NPIPE_MESSAGE)
    CHECK_SIZE(peer->accepted, side->checked);
  else
    CHECK_SIZE(peer->accepted_bytes, side->checked_bytes);
}

static void side_act(actor_side* side, stress_play* play) {
  if (side->end == NULL || side->stream == NULL || side->end->closing) return;
  if (side->stream->ends) {
    side_saw_all(side, play->type);
    end_close(side->end);
    return;
  }
  switch (chance_below(&play->chance, 24)) {
    case 0:
      if (side_may_close(side)) end_close(side->end);
      break;
    case 1: stream_stop(side->stream); return; /* until the next act */
    case 2:
      stream_stop(side->stream);
      CHECK_STATUS(0, stream_resume(side->stream));
      break;
    default:
      if (side->sent - side->done < 20) side_send(side, play->type);
  }
  if (side->end->closing) return;
  int rc = stream_resume(side->stream); /* runs already, or goes on */
  if (rc != 0) CHECK_STATUS(UV_EBUSY, rc);
}

static uint32_t stress_seed(void) {
  char text[32];
  size_t size = sizeof text;
  if (uv_os_getenv("NPIPE_TEST_SEED", text, &size) == 0)
    return (uint32_t) strtoul(text, NULL, 10);
  return (uint32_t) uv_hrtime() ^ (uint32_t) uv_os_getpid() << 12;
}

static void stress(world* w, npipe_server_options* options, unsigned lives) {
  uint32_t seed = stress_seed();
  print_message("NPIPE_TEST_SEED=%lu\n", (unsigned long) seed);
  static stress_play play;
  memset(&play, 0, sizeof play);
  play.w = w;
  play.type = options->type;
  play.chance = chance_seeded(seed);
  play.host = host_open(w, options);
  play.host->hook = server_arrived;
  play.host->user = &play;
  for (int i = 0; i < ACTORS; i++) play.actors[i].play = &play;
  watchdog_step("stress");
  for (unsigned alive = ACTORS; alive > 0;) {
    alive = 0;
    for (int i = 0; i < ACTORS; i++) {
      stress_actor* actor = &play.actors[i];
      if (actor->client.end == NULL && actor->lives < lives) actor_born(actor);
      side_act(&actor->client, &play);
      side_act(&actor->server, &play);
      if (actor_over(actor)) actor_died(actor);
      if (actor->client.end != NULL || actor->lives < lives) alive++;
    }
    uv_run(&w->loop, UV_RUN_NOWAIT);
    CHECK(w->violation[0] == 0);
  }
  CHECK_SIZE(ACTORS * lives, play.lives);
  CHECK(play.messages > 0);
  print_message("%u connections, %lu messages compared\n", play.lives,
                (unsigned long) play.messages);
}

static void stress_messages(void** state) {
  npipe_server_options options = {.type = NPIPE_MESSAGE, .backlog = 64};
  stress(*state, &options, LIVES);
}

static void stress_bytes(void** state) {
  npipe_server_options options = {.type = NPIPE_BYTE, .backlog = 64};
  stress(*state, &options, LIVES / 2);
}

static void stress_messages_with_few_instances(void** state) {
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 5};
  stress(*state, &options, LIVES / 2);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(stress_messages),
      TEST(stress_bytes),
      TEST(stress_messages_with_few_instances),
  };
  return harness_main(argc, argv, "stress", tests, HARNESS_COUNT(tests), NULL);
}
