/*
 * Creating a pipe: CR1, CR2 and MP2, and what npipe_server_create() refuses.
 * MP2 across processes and after a crash is in test_death.c.
 */
#include <string.h>

#include "harness.h"

static int create_status(world* w, const npipe_server_options* options) {
  test_host* host;
  int status = host_try(w, w->name, options, &host);
  if (host) host_shut(host);
  return status;
}

/* ------------------------------------------------- CR1: type and mode */

static void cr1_every_combination_of_type_mode_and_direction(void** state) {
  world* w = *state;
  for (int i = 0; i < 2 * 3 * 3; i++) {
    npipe_server_options options = {.type = (npipe_type) (i % 2),
                                    .read_mode = (npipe_read_mode) (i / 2 % 3),
                                    .direction = (npipe_direction) (i / 6)};
    npipe_client_options client = {
        .access = options.direction == NPIPE_INBOUND    ? NPIPE_WRITE_ONLY
                  : options.direction == NPIPE_OUTBOUND ? NPIPE_READ_ONLY
                                                        : NPIPE_READ_WRITE};
    if (options.type == NPIPE_BYTE &&
        options.read_mode == NPIPE_READ_MESSAGES) {
      CHECK_STATUS(UV_EINVAL, create_status(w, &options));
      continue;
    }
    test_pair pair = pair_open(w, &options, &client);
    CHECK(npipe_get_type(pair.client->conn) == options.type);
    CHECK(npipe_get_type(pair.server->conn) == options.type);
    test_end* writer =
        options.direction == NPIPE_OUTBOUND ? pair.server : pair.client;
    test_end* reader =
        options.direction == NPIPE_OUTBOUND ? pair.client : pair.server;
    send_text(writer, "hello");
    EXPECT_TEXT(reader, 8, "hello", 0);
    pair_shut(&pair);
  }
}

static void cr1_default_is_a_duplex_byte_pipe(void** state) {
  world* w = *state;
  test_pair pair = pair_open(w, NULL, NULL);
  CHECK(npipe_get_type(pair.server->conn) == NPIPE_BYTE);
  CHECK(npipe_get_type(pair.client->conn) == NPIPE_BYTE);
  send_text(pair.client, "in");
  send_text(pair.server, "out");
  EXPECT_TEXT(pair.server, 8, "in", 0);
  EXPECT_TEXT(pair.client, 8, "out", 0);
}

static void cr1_what_is_none_of_the_values_is_refused(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = (npipe_type) 2};
  CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  options = (npipe_server_options){.direction = (npipe_direction) 3};
  CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  options = (npipe_server_options){.read_mode = (npipe_read_mode) 3};
  CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  options = (npipe_server_options){.allow = (npipe_allow) 3};
  CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  options = (npipe_server_options){.scope = (npipe_scope) 3};
  CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  options = (npipe_server_options){.in_quota = NPIPE_QUOTA_MAX_BYTES + 1};
  CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  options = (npipe_server_options){.out_quota = NPIPE_QUOTA_MAX_BYTES + 1};
  CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  options =
      (npipe_server_options){.message_max_bytes = NPIPE_MESSAGE_MAX_BYTES + 1};
  CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  CHECK_STATUS(UV_EINVAL, npipe_last_error()->code);
  CHECK(strlen(npipe_last_error()->text) > 0);
  CHECK_STATUS(0, create_status(w, NULL)); /* nothing was left behind */
}

/* ------------------------------------------------- CR2: instances */

static void cr2_number_of_instances_is_1_to_255(void** state) {
  static const unsigned legal[] = {0, 1, 2, 254, 255};
  static const unsigned illegal[] = {256, 1000, UINT32_MAX};
  world* w = *state;
  for (size_t i = 0; i < HARNESS_COUNT(legal); i++) {
    npipe_server_options options = {.max_instances = legal[i]};
    CHECK_STATUS(0, create_status(w, &options));
  }
  for (size_t i = 0; i < HARNESS_COUNT(illegal); i++) {
    npipe_server_options options = {.max_instances = illegal[i]};
    CHECK_STATUS(UV_EINVAL, create_status(w, &options));
  }
}

static void instances_check(world* w, unsigned max, int accept) {
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = max};
  test_host* host = host_open(w, &options);
  test_end* clients[8];
  test_end* servers[8] = {NULL};
  for (unsigned i = 0; i < max; i++) {
    clients[i] = end_open(w, NULL);
    send_text(clients[i], "here");
    if (!accept) continue;
    servers[i] = host_accept(host);
    EXPECT_TEXT(servers[i], 8, "here", 0);
  }
  for (int i = 0; i < 3; i++)
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  for (unsigned i = 0; i < max; i++) {
    end_shut(clients[i]);
    if (servers[i]) end_shut(servers[i]);
  }
  host_shut(host);
}

static void cr2_never_more_clients_than_instances(void** state) {
  world* w = *state;
  for (unsigned max = 1; max <= 6; max++) {
    instances_check(w, max, 1);
    instances_check(w, max, 0);
  }
}

static void cr2_an_instance_comes_back_when_its_end_closes(void** state) {
  world* w = *state;
  npipe_server_options options = {.max_instances = 3};
  test_host* host = host_open(w, &options);
  test_end* servers[3];
  for (int i = 0; i < 3; i++) {
    end_open(w, NULL);
    servers[i] = host_accept(host);
  }
  for (int round = 0; round < 10; round++) {
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
    end_shut(servers[round % 3]);
    end_open(w, NULL);
    servers[round % 3] = host_accept(host);
  }
}

static void cr2_backlog_bounds_clients_nobody_accepts(void** state) {
  enum { BACKLOG = 2, MORE = 12 };
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .backlog = BACKLOG};
  test_host* host = host_open(w, &options);
  unsigned connected = 0;
  for (int i = 0; i < MORE; i++) {
    test_end* end = end_connect(w, w->name, 0, NULL);
    int status = end_outcome(end);
    if (status == 0) connected++;
    if (status != 0) CHECK_STATUS(UV_EBUSY, status);
  }
  CHECK(connected >= BACKLOG);
  CHECK(connected < MORE); /* somewhere it is busy */
  for (unsigned i = 0; i < connected; i++) host_accept(host);
  world_settle(w);
  CHECK_SIZE(connected, host->arrivals);
  end_open(w, NULL); /* and there is room again */
  host_accept(host);
}

/* ------------------------------------------------- MP2: first instance */

static void mp2_a_living_name_is_in_use(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_server_options other = {.type = NPIPE_BYTE};
  npipe_server_options same = {.type = NPIPE_MESSAGE};
  for (int i = 0; i < 3; i++) {
    CHECK_STATUS(UV_EADDRINUSE, create_status(w, &same));
    CHECK_STATUS(UV_EADDRINUSE, create_status(w, &other));
    CHECK_STATUS(UV_EADDRINUSE, npipe_last_error()->code);
  }
  send_text(pair.client, "mine"); /* the first one goes on */
  EXPECT_TEXT(pair.server, 8, "mine", 0);
  end_open(w, NULL);
  host_accept(pair.host);
}

static void mp2_in_use_also_while_all_instances_are_busy(void** state) {
  world* w = *state;
  npipe_server_options options = {.max_instances = 1};
  test_pair pair = pair_open(w, &options, NULL);
  CHECK_STATUS(UV_EADDRINUSE, create_status(w, &options));
  CHECK_STATUS(UV_EADDRINUSE, create_status(w, NULL));
  send_text(pair.client, "x");
  EXPECT_TEXT(pair.server, 8, "x", 0);
}

static void mp2_two_names_are_two_pipes(void** state) {
  world* w = *state;
  char other[NPIPE_NAME_BYTES];
  unique_name(other);
  test_host* hosts[2];
  hosts[0] = host_open(w, NULL);
  CHECK_STATUS(0, host_try(w, other, NULL, &hosts[1]));
  test_end* a = end_open(w, NULL);
  test_end* b = end_connect(w, other, CONNECT_MS, NULL);
  CHECK_STATUS(0, end_outcome(b));
  send_text(a, "a");
  send_text(b, "b");
  EXPECT_TEXT(host_accept(hosts[0]), 8, "a", 0);
  EXPECT_TEXT(host_accept(hosts[1]), 8, "b", 0);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(cr1_every_combination_of_type_mode_and_direction),
      TEST(cr1_default_is_a_duplex_byte_pipe),
      TEST(cr1_what_is_none_of_the_values_is_refused),
      TEST(cr2_number_of_instances_is_1_to_255),
      TEST(cr2_never_more_clients_than_instances),
      TEST(cr2_an_instance_comes_back_when_its_end_closes),
      TEST(cr2_backlog_bounds_clients_nobody_accepts),
      TEST(mp2_a_living_name_is_in_use),
      TEST(mp2_in_use_also_while_all_instances_are_busy),
      TEST(mp2_two_names_are_two_pipes),
  };
  return harness_main(argc, argv, "create", tests, HARNESS_COUNT(tests), NULL);
}
