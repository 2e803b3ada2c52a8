/*
 * Two processes: talking to each other, and one of them killed without a
 * warning, as by kill -9. CL7, CL5, OP1 and MP2.
 */
#include <stdio.h>
#include <string.h>

#include "child.h"
#include "harness.h"

#define BIG ((size_t) 8 * 1024 * 1024)

/* ------------------------------------------------- roles */

static int run_until_killed(world* w) {
  while (uv_loop_alive(&w->loop)) uv_run(&w->loop, UV_RUN_ONCE);
  return 9;
}

/* A server that echoes for ever, of the name it is given. */
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

static int play_echo_server(const char* name) {
  world* w = world_new();
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  test_host* host;
  int status = host_try(w, name, &options, &host);
  child_say(status == 0 ? "ready" : status_name(status));
  if (status != 0) return 1;
  host->hook = echo_client;
  return run_until_killed(w);
}

/* A server that accepts nobody and reads nothing. */
static int play_idle_server(const char* name) {
  world* w = world_new();
  npipe_server_options options = {.type = NPIPE_MESSAGE};
  test_host* host;
  int status = host_try(w, name, &options, &host);
  child_say(status == 0 ? "ready" : status_name(status));
  return run_until_killed(w);
}

/* Says what creating a server of this name gives. */
static int play_rival(const char* name) {
  world* w = world_new();
  test_host* host;
  int status = host_try(w, name, NULL, &host);
  child_say(status_name(status));
  return world_end(w) == NULL ? 0 : 1;
}

/* A client that writes "hello", begins a message too long to be sent, and
 * waits. */
static int play_client(const char* name) {
  world* w = world_new();
  test_end* end = end_connect(w, name, CONNECT_MS, NULL);
  if (end_outcome(end) != 0) return 1;
  send_text(end, "hello");
  write_pattern(end, BIG, 1);
  child_say("sent");
  return run_until_killed(w);
}

/* A client that sends messages to an echo server and compares. */
static int play_asker(const char* name) {
  world* w = world_new();
  test_end* end = end_connect(w, name, CONNECT_MS, NULL);
  if (end_outcome(end) != 0) return 1;
  test_stream* stream = stream_begin(end, 0);
  for (uint32_t i = 0; i < 200; i++) {
    write_pattern(end, i * 50, i);
    RUN_UNTIL(w, stream->count == i + 1);
    if (!stream_has_pattern(stream, i, i * 50, i)) return 2;
  }
  return world_end(w) == NULL ? 0 : 3;
}

/* ------------------------------------------------- tests */

/* Ends the server and takes away what it left of its name. */
static void kill_server(world* w, test_child* child) {
  child_kill(child);
  host_shut(host_open(w, NULL));
}

static void two_processes_talk(void** state) {
  world* w = *state;
  test_child* server = child_start(w, "echo-server", w->name);
  child_await(server, "ready");
  test_child* askers[3];
  for (int i = 0; i < 3; i++) askers[i] = child_start(w, "asker", w->name);
  for (int i = 0; i < 3; i++) CHECK_SIZE(0, child_exit_code(askers[i]));
  kill_server(w, server);
}

static void cl7_the_client_dies(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_child* child = child_start(w, "client", w->name);
  test_end* server = host_accept(host);
  child_await(child, "sent");
  child_kill(child);
  test_stream* stream = stream_begin(server, 0);
  RUN_UNTIL(w, stream->ends == 1);
  CHECK_STATUS(UV_EOF, stream->end_status);
  CHECK_SIZE(1, stream->count); /* what was sent in part vanishes (CL5) */
  CHECK(stream_has_text(stream, 0, "hello"));
  CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(server, "x", 1)));
  end_shut(server);
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, NULL));
}

static void cl7_the_server_dies(void** state) {
  world* w = *state;
  test_child* child = child_start(w, "echo-server", w->name);
  child_await(child, "ready");
  test_end* client = end_open(w, NULL);
  send_text(client, "echo");
  EXPECT_TEXT(client, 8, "echo", 0);
  test_task* read = read_begin(client, 8);
  world_settle(w);
  CHECK_SIZE(0, read->calls);
  child_kill(child);
  CHECK_STATUS(UV_EOF, task_outcome(read));
  EXPECT_STATUS(client, 8, UV_EOF);
  CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(client, "x", 1)));
  kill_server(w, child);
}

static void cl7_pending_operations_end_when_the_peer_dies(void** state) {
  world* w = *state;
  test_child* child = child_start(w, "idle-server", w->name);
  child_await(child, "ready");
  test_end* client = end_open(w, NULL);
  test_task* read = read_begin(client, 8);
  test_task* writes[4]; /* nobody reads them */
  for (uint32_t i = 0; i < 4; i++) writes[i] = write_pattern(client, BIG, i);
  world_settle(w);
  CHECK_SIZE(0, writes[3]->calls);
  child_kill(child);
  CHECK_STATUS(UV_EOF, task_outcome(read));
  CHECK_STATUS(UV_EPIPE, task_outcome(writes[3]));
  kill_server(w, child);
}

static void op1_the_name_of_a_dead_server_is_no_pipe(void** state) {
  world* w = *state;
  test_child* child = child_start(w, "idle-server", w->name);
  child_await(child, "ready");
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, NULL));
  child_kill(child);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
  CHECK_STATUS(UV_ENOENT,
               connect_outcome(w, w->name, NPIPE_WAIT_FOREVER, NULL));
  kill_server(w, child);
}

static void mp2_the_name_of_a_dead_server_is_reclaimed(void** state) {
  world* w = *state;
  for (int round = 0; round < 3; round++) {
    test_child* child = child_start(w, "idle-server", w->name);
    child_await(child, "ready");
    child_kill(child);
    test_pair pair = pair_of(w, NPIPE_MESSAGE);
    send_text(pair.client, "mine");
    EXPECT_TEXT(pair.server, 8, "mine", 0);
    pair_shut(&pair);
  }
}

static void mp2_the_name_of_a_living_server_is_not_taken(void** state) {
  world* w = *state;
  test_child* child = child_start(w, "echo-server", w->name);
  child_await(child, "ready");
  test_host* host;
  CHECK_STATUS(UV_EADDRINUSE, host_try(w, w->name, NULL, &host));
  test_end* client = end_open(w, NULL);
  CHECK_STATUS(UV_EADDRINUSE, host_try(w, w->name, NULL, &host));
  send_text(client, "still yours");
  EXPECT_TEXT(client, 32, "still yours", 0);
  kill_server(w, child);
}

static void mp2_another_process_cannot_take_the_name(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_child* rival = child_start(w, "rival", w->name);
  CHECK_SIZE(0, child_exit_code(rival));
  child_await(rival, "EADDRINUSE");
  send_text(pair.client, "mine");
  EXPECT_TEXT(pair.server, 8, "mine", 0);
  end_open(w, NULL);
  host_accept(pair.host);
}

/* One of many that start at once gets the name; after a crash, too. */
static void race_for(world* w) {
  enum { RIVALS = 4 };
  test_child* rivals[RIVALS];
  for (int i = 0; i < RIVALS; i++)
    rivals[i] = child_start(w, "idle-server", w->name);
  unsigned ready = 0;
  for (int i = 0; i < RIVALS; i++) {
    child_await(rivals[i], "\n");
    if (strncmp(rivals[i]->text, "ready", 5) == 0)
      ready++;
    else
      CHECK(strncmp(rivals[i]->text, "EADDRINUSE", 10) == 0);
  }
  CHECK_SIZE(1, ready);
  for (int i = 0; i < RIVALS; i++) child_kill(rivals[i]);
}

static void mp2_one_of_many_rivals_wins(void** state) {
  race_for(*state); /* for a new name */
  race_for(*state); /* for the one a dead server left behind */
  host_shut(host_open(*state, NULL));
}

static const test_role roles[] = {
    {"echo-server", play_echo_server},
    {"idle-server", play_idle_server},
    {"rival", play_rival},
    {"client", play_client},
    {"asker", play_asker},
    {NULL, NULL},
};

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(two_processes_talk),
      TEST(cl7_the_client_dies),
      TEST(cl7_the_server_dies),
      TEST(cl7_pending_operations_end_when_the_peer_dies),
      TEST(op1_the_name_of_a_dead_server_is_no_pipe),
      TEST(mp2_the_name_of_a_dead_server_is_reclaimed),
      TEST(mp2_the_name_of_a_living_server_is_not_taken),
      TEST(mp2_another_process_cannot_take_the_name),
      TEST(mp2_one_of_many_rivals_wins),
  };
  return harness_main(argc, argv, "death", tests, HARNESS_COUNT(tests), roles);
}
