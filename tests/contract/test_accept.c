/* Taking clients: CR8, LN2, and npipe_accept() itself. */
#include <string.h>

#include "harness.h"

/* ------------------------------------------------- CR8: before the accept */

static void cr8_check(world* w, npipe_type type) {
  test_host* host = host_open_type(w, type);
  test_end* client = end_open(w, NULL); /* nobody has accepted */
  send_text(client, "early");
  send_text(client, "bird");
  world_settle(w);
  test_end* server = host_accept(host);
  EXPECT_TEXT(server, 5, "early", 0);
  EXPECT_TEXT(server, 5, "bird", 0);
  send_text(server, "worm");
  EXPECT_TEXT(client, 5, "worm", 0);
  end_shut(client);
  end_shut(server);
  host_shut(host);
}

static void cr8_a_client_connects_and_writes_before_the_accept(void** state) {
  cr8_check(*state, NPIPE_BYTE);
  cr8_check(*state, NPIPE_MESSAGE);
}

static void cr8_a_client_reads_what_comes_after_the_accept(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* client = end_open(w, NULL);
  test_task* task = read_begin(client, 16);
  world_settle(w);
  CHECK_SIZE(0, task->calls);
  send_text(host_accept(host), "welcome");
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "welcome", 0);
}

static void cr8_clients_connect_from_the_return_of_the_create_on(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* client = end_connect(w, w->name, CONNECT_MS, NULL);
  CHECK_STATUS(0, end_outcome(client)); /* the loop had not run before */
  host_accept(host);
}

static void cr8_a_big_message_before_the_accept(void** state) {
  enum { SIZE = 1000000 };
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* client = end_open(w, NULL);
  test_task* write = write_pattern(client, SIZE, 1);
  world_settle(w);
  test_stream* stream = stream_begin(host_accept(host), 0);
  RUN_UNTIL(w, stream->count == 1);
  CHECK(stream_has_pattern(stream, 0, SIZE, 1));
  CHECK_STATUS(0, task_outcome(write));
}

/* ------------------------------------------------- LN2: come and gone */

static void came_and_gone(world* w, npipe_type type, const char* text) {
  test_host* host = host_open_type(w, type);
  test_end* client = end_open(w, NULL);
  if (text) send_text(client, text);
  end_shut(client);
  world_settle(w);
  test_end* server = host_accept(host);
  if (text && (type == NPIPE_MESSAGE || text[0]))
    EXPECT_TEXT(server, 16, text, 0);
  EXPECT_STATUS(server, 16, UV_EOF);
  CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(server, "late", 4)));
  end_shut(server);
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, NULL));
  host_shut(host);
}

static void ln2_a_client_that_came_and_went_is_handed_out(void** state) {
  came_and_gone(*state, NPIPE_BYTE, NULL);
  came_and_gone(*state, NPIPE_BYTE, "early");
  came_and_gone(*state, NPIPE_MESSAGE, NULL);
  came_and_gone(*state, NPIPE_MESSAGE, "early");
  came_and_gone(*state, NPIPE_MESSAGE, "");
}

static void ln2_many_clients_come_and_go(void** state) {
  enum { CLIENTS = 20 };
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  for (uint32_t i = 0; i < CLIENTS; i++) {
    test_end* client = end_open(w, NULL);
    send_pattern(client, i, i);
    end_shut(client);
  }
  for (uint32_t i = 0; i < CLIENTS; i++) {
    test_end* server = host_accept(host);
    test_stream* stream = stream_begin(server, 0);
    RUN_UNTIL(w, stream->ends == 1);
    CHECK_STATUS(UV_EOF, stream->end_status);
    CHECK_SIZE(1, stream->count);
    CHECK(stream_has_pattern(stream, 0, i, i));
    end_shut(server);
  }
}

static void ln2_it_goes_on_after_clients_that_nobody_saw(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_host* host = host_open(w, &options);
  for (int i = 0; i < 5; i++) {
    test_end* gone = end_open(w, NULL);
    end_shut(gone);
    test_end* server = host_accept(host);
    EXPECT_STATUS(server, 8, UV_EOF);
    end_shut(server);
  }
  test_end* client = end_open(w, NULL);
  send_text(client, "x");
  EXPECT_TEXT(host_accept(host), 8, "x", 0);
}

/* ------------------------------------------------- accept */

static void accept_without_a_client_says_again(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  npipe_conn* conn = (npipe_conn*) (void*) host; /* not NULL */
  CHECK_STATUS(UV_EAGAIN, CALL(w, npipe_accept(host->server, &conn)));
  CHECK(conn == NULL);
  end_open(w, NULL);
  host_accept(host);
  CHECK(host_take(host) == NULL);
  CHECK_SIZE(1, host->arrivals);
}

static void take_at_once(test_host* host) {
  test_end** server = host->user;
  *server = host_take(host);
}

static void accept_in_the_callback(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* server = NULL;
  host->hook = take_at_once;
  host->user = &server;
  test_end* client = end_open(w, NULL);
  RUN_UNTIL(w, server != NULL);
  send_text(client, "x");
  EXPECT_TEXT(server, 8, "x", 0);
}

static void each_client_is_told_once(void** state) {
  enum { CLIENTS = 10 };
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  for (int i = 0; i < CLIENTS; i++) end_open(w, NULL);
  RUN_UNTIL(w, host->arrivals == CLIENTS);
  world_settle(w);
  CHECK_SIZE(CLIENTS, host->arrivals);
  CHECK_SIZE(0, host->failures);
  for (int i = 0; i < CLIENTS; i++) CHECK(host_take(host) != NULL);
  CHECK(host_take(host) == NULL);
}

static void clients_that_nobody_accepted_are_closed_with_the_server(
    void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* clients[3];
  test_task* reads[3];
  for (int i = 0; i < 3; i++) {
    clients[i] = end_open(w, NULL);
    reads[i] = read_begin(clients[i], 8);
  }
  RUN_UNTIL(w, host->arrivals == 3);
  test_end* accepted = host_take(host);
  host_shut(host);
  CHECK_STATUS(UV_EOF, task_outcome(reads[1]));
  CHECK_STATUS(UV_EOF, task_outcome(reads[2]));
  CHECK_SIZE(0, reads[0]->calls);
  send_text(accepted, "yes");
  CHECK_STATUS(0, task_outcome(reads[0]));
  TASK_READ_TEXT(reads[0], "yes", 0);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(cr8_a_client_connects_and_writes_before_the_accept),
      TEST(cr8_a_client_reads_what_comes_after_the_accept),
      TEST(cr8_clients_connect_from_the_return_of_the_create_on),
      TEST(cr8_a_big_message_before_the_accept),
      TEST(ln2_a_client_that_came_and_went_is_handed_out),
      TEST(ln2_many_clients_come_and_go),
      TEST(ln2_it_goes_on_after_clients_that_nobody_saw),
      TEST(accept_without_a_client_says_again),
      TEST(accept_in_the_callback),
      TEST(each_client_is_told_once),
      TEST(clients_that_nobody_accepted_are_closed_with_the_server),
  };
  return harness_main(argc, argv, "accept", tests, HARNESS_COUNT(tests), NULL);
}
