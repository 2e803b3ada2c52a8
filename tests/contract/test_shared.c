/*
 * Several servers of one name, in this process and in others: MP1, MP3, CR3 to
 * CR5, OP5, OP7, and what a client notices when servers come, go and die.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "harness.h"

static npipe_server_options shared_options(npipe_type type, unsigned max) {
  return (npipe_server_options){
      .type = type, .max_instances = max, .shared = 1};
}

static void talk(test_end* server, test_end* client) {
  send_text(client, "ask");
  EXPECT_TEXT(server, 16, "ask", 0);
  send_text(server, "answer");
  EXPECT_TEXT(client, 16, "answer", 0);
}

/* Waits for the next client of either server and takes it. */
static test_end* accept_either(world* w, test_host* one, test_host* two) {
  RUN_UNTIL(w, one->arrivals > one->taken || two->arrivals > two->taken);
  return host_take(one->arrivals > one->taken ? one : two);
}

static int create(world* w, const npipe_server_options* options) {
  test_host* host;
  int status = host_try(w, w->name, options, &host);
  if (status == 0) host_shut(host);
  return status;
}

/* ------------------------------------------------- who may join */

static void mp1_both_sides_must_share(void** state) {
  world* w = *state;
  npipe_server_options shared = shared_options(NPIPE_MESSAGE, 8);
  npipe_server_options alone = {.type = NPIPE_MESSAGE, .max_instances = 8};
  test_host* host = host_open(w, &shared);
  CHECK_STATUS(UV_EADDRINUSE, create(w, &alone));
  CHECK_STATUS(0, create(w, &shared));
  host_shut(host);
  host = host_open(w, &alone);
  CHECK_STATUS(UV_EADDRINUSE, create(w, &shared));
  CHECK_STATUS(UV_EADDRINUSE, create(w, &alone));
  host_shut(host);
  CHECK_STATUS(0, create(w, &shared)); /* nothing is left of both */
}

static void cr4_what_a_later_server_must_fit(void** state) {
  world* w = *state;
  npipe_server_options first = shared_options(NPIPE_MESSAGE, 2);
  test_host* host = host_open(w, &first);
  npipe_server_options other = first;
  other.direction = NPIPE_INBOUND;
  CHECK_STATUS(UV_EACCES, create(w, &other));
  other.type = NPIPE_BYTE; /* the direction is looked at first */
  CHECK_STATUS(UV_EACCES, create(w, &other));
  other = first;
  other.type = NPIPE_BYTE;
  CHECK_STATUS(UV_EINVAL, create(w, &other));
  for (int i = 0; i < 2; i++) {
    end_open(w, NULL);
    host_accept(host);
  }
  other.direction = NPIPE_INBOUND; /* and the count before all */
  CHECK_STATUS(UV_EBUSY, create(w, &other));
  CHECK_STATUS(UV_EBUSY, create(w, &first));
}

/* CR3: the rest of what a later server says is not heard. */
static void cr3_the_first_decides(void** state) {
  world* w = *state;
  npipe_server_options first = shared_options(NPIPE_MESSAGE, 3);
  test_host* one = host_open(w, &first);
  npipe_server_options later = shared_options(NPIPE_MESSAGE, 200);
  later.in_quota = 777;
  later.read_mode = NPIPE_READ_BYTES;
  test_host* two = host_open(w, &later);
  for (int i = 0; i < 3; i++) {
    test_end* client = end_open(w, NULL);
    test_end* end = accept_either(w, one, two);
    npipe_info info = end_info(end);
    CHECK_SIZE(3, info.max_instances);
    /* its own: the quotas, the read mode */
    CHECK_SIZE(two->taken > 0 && info.in_quota == 777 ? 777 : 65536,
               info.in_quota);
    CHECK((info.in_quota == 777) == (info.read_mode == NPIPE_READ_BYTES));
    if (info.in_quota != 777 || !wine_differs("CR10"))
      CHECK_SIZE(info.in_quota, end_info(client).in_quota);
    CHECK_SIZE(3, end_info(client).max_instances);
  }
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
}

/* ------------------------------------------------- one count, one queue */

static void mp1_one_count_of_instances(void** state) {
  enum { MAX = 5 };
  world* w = *state;
  npipe_server_options options = shared_options(NPIPE_MESSAGE, MAX);
  test_host* one = host_open(w, &options);
  test_host* two = host_open(w, &options);
  test_end* clients[MAX];
  test_end* ends[MAX];
  for (int i = 0; i < MAX; i++) {
    clients[i] = end_open(w, NULL);
    ends[i] = accept_either(w, one, two);
    talk(ends[i], clients[i]);
  }
  CHECK_SIZE(MAX, one->arrivals + two->arrivals);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  for (int i = 0; i < MAX; i++) { /* whoever has it gives it back */
    test_end* waiting = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
    world_settle(w);
    CHECK_SIZE(0, waiting->connects);
    end_shut(clients[i]);
    world_settle(w);
    CHECK_SIZE(0, waiting->connects);
    end_shut(ends[i]);
    CHECK_STATUS(0, end_outcome(waiting));
    talk(accept_either(w, one, two), waiting);
  }
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
}

static void op5_an_instance_listens_again(void** state) {
  world* w = *state;
  npipe_server_options options = shared_options(NPIPE_MESSAGE, 2);
  test_host* one = host_open(w, &options);
  test_host* two = host_open(w, &options);
  test_end* first = end_open(w, NULL);
  test_end* first_end = accept_either(w, one, two);
  test_end* second = end_open(w, NULL);
  test_end* second_end = accept_either(w, one, two);
  test_end* ends[2] = {first_end, second_end};
  end_drop(first);
  end_drop(second);
  for (int round = 0; round < 6; round++) {
    test_end* end = ends[round % 2];
    CHECK_STATUS(0, end_disconnect(end));
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
    test_task* listen = listen_begin(end, NPIPE_WAIT_FOREVER);
    test_end* client = end_open(w, NULL);
    CHECK_STATUS(0, task_outcome(listen));
    talk(end, client);
    end_drop(client);
  }
}

/* ------------------------------------------------- the name's end */

static void op7_the_name_lives_until_the_last_server(void** state) {
  world* w = *state;
  npipe_server_options options = shared_options(NPIPE_MESSAGE, 0);
  for (int leader_first = 0; leader_first < 2; leader_first++) {
    test_host* one = host_open(w, &options);
    test_host* two = host_open(w, &options);
    test_host* stays = leader_first ? two : one;
    world_settle(w);
    host_shut(leader_first ? one : two);
    for (int i = 0; i < 3; i++) {
      test_end* client = end_open(w, NULL);
      test_end* end = host_accept(stays);
      talk(end, client);
      end_drop(client);
      end_drop(end);
    }
    CHECK_STATUS(UV_EADDRINUSE, create(w, NULL));
    host_shut(stays);
    CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
    npipe_server_options other = {.type = NPIPE_BYTE,
                                  .direction = NPIPE_OUTBOUND,
                                  .shared = leader_first};
    CHECK_STATUS(0, create(w, &other)); /* MP3 */
  }
}

/* Also if the second one has had no turn of its loop when the first goes. */
static void op7_the_first_goes_at_once(void** state) {
  world* w = *state;
  npipe_server_options options = shared_options(NPIPE_MESSAGE, 0);
  for (int turns = 0; turns < 6; turns++) {
    test_host* one = host_open(w, &options);
    test_host* two = host_open(w, &options);
    for (int i = 0; i < turns; i++) uv_run(&w->loop, UV_RUN_NOWAIT);
    host_close(one);
    test_end* client = end_open(w, NULL);
    test_end* end = host_accept(two);
    talk(end, client);
    end_drop(client);
    end_drop(end);
    host_shut(two);
    CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
  }
}

/* ------------------------------------------------- other processes */

static void echo_done(test_task* task) {
  if (task->status != 0) end_close(task->end);
}

static void echo_piece(test_stream* stream) {
  if (stream->ends) {
    end_close(stream->end);
    return;
  }
  const test_message* last = &stream->messages[stream->count - 1];
  const unsigned char* data = stream->bytes + last->start;
  write_begin(stream->end, data, last->size)->hook = echo_done;
}

static void echo_client(test_host* host) {
  test_end* end = host_take(host);
  if (end) stream_begin(end, 0)->hook = echo_piece;
}

#define STORM_INSTANCES 6

static void on_tick(uv_timer_t* timer) {
  (void) timer; /* only wakes the loop */
}

/* A server that echoes. argument: NAME, or MS.NAME: leaves after so long. */
static int play_sharer(const char* argument) {
  world* w = world_new();
  npipe_server_options options = shared_options(NPIPE_MESSAGE, STORM_INSTANCES);
  char* name;
  unsigned leave_ms = (unsigned) strtoul(argument, &name, 10);
  name = *name == '.' ? name + 1 : name;
  test_host* host;
  int status;
  /* CR4: a server has to wait for an instance as well. */
  while ((status = host_try(w, name, &options, &host)) == UV_EBUSY) uv_sleep(2);
  child_say(status == 0 ? "ready" : status_name(status));
  if (status != 0) return 1;
  host->hook = echo_client;
  uint64_t end = uv_hrtime() + (uint64_t) leave_ms * 1000000;
  uv_timer_t tick;
  uv_timer_init(&w->loop, &tick);
  uv_timer_start(&tick, on_tick, 5, 5);
  while (leave_ms == 0 || uv_hrtime() < end) uv_run(&w->loop, UV_RUN_ONCE);
  uv_close((uv_handle_t*) &tick, NULL);
  const char* wrong = world_end(w);
  if (wrong) fprintf(stderr, "a server that leaves: %s\n", wrong);
  return wrong == NULL ? 0 : 2;
}

/* The first server dies; the one that is left serves whoever waits. */
static void cl7_a_server_dies(void** state) {
  world* w = *state;
  for (int first_dies = 0; first_dies < 2; first_dies++) {
    npipe_server_options options =
        shared_options(NPIPE_MESSAGE, STORM_INSTANCES);
    test_host* host = first_dies ? NULL : host_open(w, &options);
    test_child* child = child_start(w, "sharer", w->name);
    child_await(child, "ready");
    if (first_dies) host = host_open(w, &options);
    host->hook = echo_client;
    world_run_for(w, 200); /* which one serves is not promised before */
    test_end* clients[STORM_INSTANCES];
    for (int i = 0; i < STORM_INSTANCES; i++) clients[i] = end_open(w, NULL);
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
    test_end* waiting = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
    world_settle(w);
    unsigned here = host->arrivals;
    CHECK(here > 0 && here < STORM_INSTANCES);
    child_kill(child);
    CHECK_STATUS(0, end_outcome(waiting)); /* its instances are free */
    for (unsigned i = here + 1; i < STORM_INSTANCES; i++) end_open(w, NULL);
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
    unsigned living = 0;
    for (int i = 0; i < STORM_INSTANCES; i++)
      living += end_state(clients[i]) == NPIPE_STATE_CONNECTED;
    CHECK_SIZE(here, living);
    CHECK_STATUS(0, world_teardown(state));
    CHECK_STATUS(0, world_setup(state));
    w = *state;
  }
}

/* ------------------------------------------------- the storm */

enum {
  STORM_SERVERS = 4,
  STORM_CLIENTS = 200, /* at least, and: */
  STORM_KILLS = 16,
  STORM_AT_A_TIME = 24
};

typedef enum storm_step { STORM_IDLE, STORM_CONNECTS, STORM_TALKS } storm_step;

typedef struct storm_client {
  storm_step step;
  test_end* end;
  test_task* read;
  int served;
  uint64_t until; /* when it leaves, uv_hrtime() */
} storm_client;

typedef struct storm_server {
  test_child* child;
  int stays;
} storm_server;

typedef struct storm {
  world* w;
  test_chance chance;
  storm_client clients[STORM_AT_A_TIME];
  storm_server servers[STORM_SERVERS];
  unsigned done;
  unsigned begun;
  unsigned kills;
  unsigned leaves;
  unsigned most; /* connected at a time */
  int frozen;
  uint64_t next_blow;
} storm;

static int storm_ready(const storm_server* server) {
  return server->child && server->child->exits == 0 &&
         strstr(server->child->text, "ready") != NULL;
}

static unsigned storm_stayers(const storm* s) {
  unsigned count = 0;
  for (int i = 0; i < STORM_SERVERS; i++)
    if (s->servers[i].stays && storm_ready(&s->servers[i])) count++;
  return count;
}

static void storm_start(storm* s, storm_server* server, int stays) {
  char argument[NPIPE_NAME_BYTES + 16];
  server->stays = stays;
  if (stays)
    snprintf(argument, sizeof argument, "%s", s->w->name);
  else
    snprintf(argument, sizeof argument, "%u.%s",
             1 + chance_below(&s->chance, 150), s->w->name);
  server->child = child_start(s->w, "sharer", argument);
}

/* One server is started again, or killed, as chance wants; but one that stays
 * is always there. */
static void storm_blow(storm* s) {
  storm_server* server = &s->servers[chance_below(&s->chance, STORM_SERVERS)];
  s->next_blow =
      uv_hrtime() + (2 + chance_below(&s->chance, 16)) * UINT64_C(1000000);
  if (server->child == NULL || server->child->exits > 0) {
    if (server->child && server->child->exit_signal == 0) {
      CHECK_SIZE(0, server->child->exit_code);
      s->leaves++;
    }
    storm_start(s, server, chance_below(&s->chance, 2) > 0);
  } else if (storm_ready(server) && (!server->stays || storm_stayers(s) > 1)) {
    s->kills++;
    uv_process_kill(&server->child->process, SIGKILL);
    RUN_UNTIL(s->w, server->child->exits > 0);
    server->child->exit_signal = SIGKILL; /* Windows does not tell */
  }
}

static void storm_connect(storm* s, storm_client* client) {
  static const int times[] = {NPIPE_WAIT_FOREVER, NPIPE_WAIT_FOREVER, 8000, 0};
  int timeout = times[chance_below(&s->chance, 4)];
  client->end = end_connect(s->w, s->w->name, timeout, NULL);
  client->step = STORM_CONNECTS;
}

static void storm_connected(storm* s, storm_client* client) {
  int status = client->end->connect_status;
  if (status == UV_EBUSY || status == UV_ETIMEDOUT) {
    end_close(client->end);
    client->step = STORM_IDLE;
    return;
  }
  CHECK_STATUS(0, status); /* never: no such pipe */
  write_begin(client->end, "hello", 5);
  client->read = read_begin(client->end, 8);
  client->until =
      uv_hrtime() + chance_below(&s->chance, 60) * UINT64_C(1000000);
  client->step = STORM_TALKS;
}

static void storm_talks(storm* s, storm_client* client) {
  if (client->read->calls == 0) return;
  if (client->read->status == 0) {
    client->served = 1;
    if (s->frozen || uv_hrtime() < client->until) return;
    s->done++;
    client->served = 0;
    s->begun--;
  }
  end_close(client->end); /* or its server is gone: once more */
  client->step = STORM_IDLE;
}

/* Are more clients needed than these? */
static int storm_goes_on(const storm* s, unsigned begun) {
  return s->done + begun < STORM_CLIENTS || s->kills < STORM_KILLS;
}

static void storm_step_client(storm* s, storm_client* client) {
  if (client->step == STORM_IDLE && storm_goes_on(s, s->begun)) {
    s->begun++;
    storm_connect(s, client);
  } else if (client->step == STORM_CONNECTS && client->end->connects > 0) {
    storm_connected(s, client);
    if (client->step == STORM_IDLE) s->begun--;
  } else if (client->step == STORM_TALKS) {
    unsigned done = s->done;
    storm_talks(s, client);
    if (client->step == STORM_IDLE && s->done == done) s->begun--;
  }
}

/* Clients whose server is there. */
static unsigned storm_count(const storm* s) {
  unsigned count = 0;
  for (int i = 0; i < STORM_AT_A_TIME; i++) {
    const storm_client* client = &s->clients[i];
    if (client->step == STORM_TALKS &&
        end_state(client->end) == NPIPE_STATE_CONNECTED)
      count++;
  }
  return count;
}

/* A server that dies gives its instances back before its clients have heard of
 * it: look again, while no client leaves. */
static void storm_check_count(storm* s) {
  unsigned count = storm_count(s);
  for (int i = 0; i < 50 && count > STORM_INSTANCES; i++) {
    s->frozen = 1;
    world_run_for(s->w, 10);
    count = storm_count(s);
  }
  s->frozen = 0;
  CHECK(count <= STORM_INSTANCES);
  if (count > s->most) s->most = count;
}

static void mp1_servers_come_and_go_and_die(void** state) {
  world* w = *state;
  const char* seed = getenv("NPIPE_TEST_SEED");
  storm s = {.w = w};
  s.chance =
      chance_seeded(seed ? (uint32_t) strtoul(seed, NULL, 10) : 20251124);
  for (int i = 0; i < STORM_SERVERS; i++) {
    storm_start(&s, &s.servers[i], 1);
    child_await(s.servers[i].child, "ready");
  }
  while (storm_goes_on(&s, 0) || s.begun > 0) {
    world_run_for(w, 1);
    for (int i = 0; i < STORM_AT_A_TIME; i++)
      storm_step_client(&s, &s.clients[i]);
    storm_check_count(&s);
    if (uv_hrtime() >= s.next_blow) storm_blow(&s);
  }
  print_message("%u kills, %u left, %u connected at most\n", s.kills, s.leaves,
                s.most);
  CHECK(s.kills > 0 && s.most > 1);
  for (int i = 0; i < STORM_SERVERS; i++)
    if (s.servers[i].child->exits == 0) child_kill(s.servers[i].child);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
  npipe_server_options other = {.type = NPIPE_BYTE};
  CHECK_STATUS(0, create(w, &other));
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(mp1_both_sides_must_share),
      TEST(cr4_what_a_later_server_must_fit),
      TEST(cr3_the_first_decides),
      TEST(mp1_one_count_of_instances),
      TEST(op5_an_instance_listens_again),
      TEST(op7_the_name_lives_until_the_last_server),
      TEST(op7_the_first_goes_at_once),
      TEST(cl7_a_server_dies),
      TEST(mp1_servers_come_and_go_and_die),
  };
  static const test_role roles[] = {{"sharer", play_sharer}, {NULL, NULL}};
  return harness_main(argc, argv, "shared", tests, HARNESS_COUNT(tests), roles);
}
