/* Many of everything: connections, messages, rounds. CR2 and OP2 under load. */
#include <stdio.h>
#include <string.h>

#include "harness.h"

/* ------------------------------------------------- an echo server */

/* Takes each client and sends each of its messages back. */
static void echo_done(test_task* task) {
  if (task->status != 0) end_close(task->end);
}

static void echo_piece(test_stream* stream) {
  if (stream->ends) {
    end_close(stream->end);
    return;
  }
  const test_message* last = &stream->messages[stream->count - 1];
  write_begin(stream->end, stream->bytes + last->start, last->size)->hook =
      echo_done;
}

static void echo_client(test_host* host) {
  test_end* end = host_take(host);
  if (end == NULL) {
    world_violation(host->world, "a client was told and cannot be taken");
    return;
  }
  stream_begin(end, 0)->hook = echo_piece;
}

static test_host* echo_open(world* w, npipe_type type, unsigned max) {
  npipe_server_options options = {
      .type = type, .max_instances = max, .backlog = 256};
  test_host* host = host_open(w, &options);
  host->hook = echo_client;
  return host;
}

/* ------------------------------------------------- connections */

typedef struct crowd_count {
  unsigned connected;
  unsigned refused;
  unsigned closed;
} crowd_count;

static void crowd_connected(test_end* end) {
  crowd_count* crowd = end->user;
  if (end->connect_status == 0)
    crowd->connected++;
  else
    crowd->refused++;
}

static void many_echo(world* w, npipe_type type) {
  enum { CLIENTS = 200, SIZE = 700 };
  test_host* host = echo_open(w, type, 0);
  crowd_count here = {0};
  test_end* clients[CLIENTS];
  test_stream* streams[CLIENTS];
  for (int i = 0; i < CLIENTS; i++) {
    clients[i] = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
    clients[i]->hook = crowd_connected;
    clients[i]->user = &here;
  }
  RUN_UNTIL(w, here.connected + here.refused == CLIENTS);
  CHECK_SIZE(CLIENTS, here.connected);
  for (uint32_t i = 0; i < CLIENTS; i++) {
    streams[i] = stream_begin(clients[i], 0);
    write_pattern(clients[i], SIZE, i);
    write_pattern(clients[i], SIZE, i + 1);
  }
  for (uint32_t i = 0; i < CLIENTS; i++) {
    RUN_UNTIL(w, streams[i]->size == (size_t) 2 * SIZE);
    CHECK(pattern_holds(streams[i]->bytes, SIZE, i, 0));
    CHECK(pattern_holds(streams[i]->bytes + SIZE, SIZE, i + 1, 0));
  }
  CHECK_SIZE(CLIENTS, host->arrivals);
  for (int i = 0; i < CLIENTS; i++) end_close(clients[i]);
  for (int i = 0; i < CLIENTS; i++) end_shut(clients[i]);
  host_shut(host);
}

static void two_hundred_connections_echo_bytes(void** state) {
  many_echo(*state, NPIPE_BYTE);
}

static void two_hundred_connections_echo_messages(void** state) {
  many_echo(*state, NPIPE_MESSAGE);
}

/* More clients than instances, all at once: each gets its turn. */
static void close_after_answer(test_stream* stream) {
  crowd_count* crowd = stream->user;
  if (stream->ends == 0) crowd->closed++;
  end_close(stream->end);
}

static void ask_and_leave(test_end* end) {
  crowd_connected(end);
  if (end->connect_status != 0) return;
  test_stream* stream = stream_begin(end, 0);
  stream->hook = close_after_answer;
  stream->user = end->user;
  write_begin(end, "question", 8);
}

static void queue_for(world* w, unsigned instances, unsigned clients) {
  test_host* host = echo_open(w, NPIPE_MESSAGE, instances);
  crowd_count here = {0};
  for (unsigned i = 0; i < clients; i++) {
    test_end* end = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
    end->hook = ask_and_leave;
    end->user = &here;
  }
  RUN_UNTIL(w, here.closed == clients);
  CHECK_SIZE(clients, here.connected);
  CHECK_SIZE(0, here.refused);
  CHECK_SIZE(clients, host->arrivals);
  host_shut(host);
  world_settle(w);
}

static void op2_many_clients_wait_for_one_instance(void** state) {
  queue_for(*state, 1, 30);
}

static void op2_many_clients_wait_for_three_instances(void** state) {
  queue_for(*state, 3, 40);
}

static void cr2_at_once_no_more_clients_than_instances(void** state) {
  enum { CLIENTS = 20 };
  world* w = *state;
  for (unsigned max = 1; max <= 3; max += 2) {
    npipe_server_options options = {.type = NPIPE_MESSAGE,
                                    .max_instances = max};
    test_host* host = host_open(w, &options);
    crowd_count here = {0};
    test_end* clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
      clients[i] = end_connect(w, w->name, 0, NULL);
      clients[i]->hook = crowd_connected;
      clients[i]->user = &here;
    }
    RUN_UNTIL(w, here.connected + here.refused == CLIENTS);
    CHECK_SIZE(max, here.connected);
    for (int i = 0; i < CLIENTS; i++) {
      if (clients[i]->connect_status != 0)
        CHECK_STATUS(UV_EBUSY, clients[i]->connect_status);
      end_close(clients[i]);
    }
    for (int i = 0; i < CLIENTS; i++) end_shut(clients[i]);
    host_shut(host);
  }
}

static void one_after_the_other(void** state) {
  enum { ROUNDS = 150 };
  world* w = *state;
  test_host* host = echo_open(w, NPIPE_MESSAGE, 1);
  for (uint32_t i = 0; i < ROUNDS; i++) {
    test_end* client = end_open(w, NULL);
    test_stream* stream = stream_begin(client, 0);
    write_pattern(client, i, i);
    RUN_UNTIL(w, stream->count == 1);
    CHECK(stream_has_pattern(stream, 0, i, i));
    end_shut(client);
  }
  CHECK_SIZE(ROUNDS, host->arrivals);
}

/* ------------------------------------------------- messages */

static void many_messages_in_one_connection(void** state) {
  enum { MESSAGES = 5000 };
  world* w = *state;
  echo_open(w, NPIPE_MESSAGE, 0);
  test_end* client = end_open(w, NULL);
  test_stream* stream = stream_begin(client, 0);
  for (uint32_t i = 0; i < MESSAGES; i++)
    write_pattern(client, i * 13 % 100, i);
  RUN_UNTIL(w, stream->count == MESSAGES);
  for (uint32_t i = 0; i < MESSAGES; i++)
    CHECK(stream_has_pattern(stream, i, i * 13 % 100, i));
}

static void many_big_messages_in_one_connection(void** state) {
  enum { SIZE = 1000000, MESSAGES = 50 };
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  for (uint32_t i = 0; i < MESSAGES; i++) {
    test_task* read = read_begin(pair.server, SIZE + 1);
    test_task* write = write_pattern(pair.client, SIZE, i);
    CHECK_STATUS(0, task_outcome(read));
    CHECK_SIZE(SIZE, read->size);
    CHECK_SIZE(0, read->flags);
    CHECK(pattern_holds(read->data, SIZE, i, 0));
    CHECK_STATUS(0, task_outcome(write));
    task_forget_data(read);
  }
}

/* ------------------------------------------------- servers */

static void many_servers_on_one_loop(void** state) {
  enum { SERVERS = 40 };
  world* w = *state;
  test_host* hosts[SERVERS];
  char names[SERVERS][NPIPE_NAME_BYTES];
  for (int i = 0; i < SERVERS; i++) {
    unique_name(names[i]);
    CHECK_STATUS(0, host_try(w, names[i], NULL, &hosts[i]));
  }
  for (int i = SERVERS - 1; i >= 0; i--) {
    test_end* client = end_connect(w, names[i], CONNECT_MS, NULL);
    CHECK_STATUS(0, end_outcome(client));
    send_text(client, names[i]);
    EXPECT_TEXT(host_accept(hosts[i]), NPIPE_NAME_BYTES, names[i], 0);
  }
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(two_hundred_connections_echo_bytes),
      TEST(two_hundred_connections_echo_messages),
      TEST(op2_many_clients_wait_for_one_instance),
      TEST(op2_many_clients_wait_for_three_instances),
      TEST(cr2_at_once_no_more_clients_than_instances),
      TEST(one_after_the_other),
      TEST(many_messages_in_one_connection),
      TEST(many_big_messages_in_one_connection),
      TEST(many_servers_on_one_loop),
  };
  return harness_main(argc, argv, "limits", tests, HARNESS_COUNT(tests), NULL);
}
