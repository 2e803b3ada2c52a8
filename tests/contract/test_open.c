/*
 * Opening a pipe as a client: OP1 to OP3 and OP5 to OP7, and the time that
 * npipe_connect() waits for a busy one.
 *
 * Times are checked from below, less a tick of the slowest clock, and from
 * above only so far that a machine under load does not fail.
 */
#include <string.h>

#include "child.h"
#include "harness.h"

#define TICK_MS 30u
#define SOON_MS 3000u

static uint64_t now_ms(void) {
  return uv_hrtime() / 1000000u;
}

/* ------------------------------------------------- OP1: no such pipe */

static void op1_a_name_without_server_is_never_waited_for(void** state) {
  static const int times[] = {0, 1, 5000, NPIPE_WAIT_DEFAULT,
                              NPIPE_WAIT_FOREVER};
  world* w = *state;
  for (size_t i = 0; i < HARNESS_COUNT(times); i++) {
    uint64_t start = now_ms();
    CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, times[i], NULL));
    CHECK(now_ms() - start < SOON_MS);
  }
  CHECK_STATUS(UV_ENOENT, npipe_last_error()->code);
  CHECK(strstr(npipe_last_error()->text, w->name) != NULL);
}

/* ------------------------------------------------- OP2: busy */

static test_pair only_instance(world* w, uint32_t default_wait_ms) {
  npipe_server_options options = {.type = NPIPE_MESSAGE,
                                  .max_instances = 1,
                                  .default_wait_ms = default_wait_ms};
  return pair_open(w, &options, NULL);
}

static void op2_no_free_instance_is_busy_at_once(void** state) {
  world* w = *state;
  test_pair pair = only_instance(w, 0);
  uint64_t start = now_ms();
  for (int i = 0; i < 3; i++)
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  CHECK(now_ms() - start < SOON_MS);
  send_text(pair.client, "still here");
  EXPECT_TEXT(pair.server, 32, "still here", 0);
}

static void op2_busy_before_the_program_has_accepted(void** state) {
  world* w = *state;
  npipe_server_options options = {.max_instances = 1};
  test_host* host = host_open(w, &options);
  test_end* first = end_open(w, NULL);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  CHECK_STATUS(UV_ETIMEDOUT, connect_outcome(w, w->name, 50, NULL));
  send_text(first, "me");
  test_end* server = host_accept(host);
  EXPECT_TEXT(server, 8, "me", 0);
  world_settle(w);
  CHECK_SIZE(1, host->arrivals);
}

static void op2_busy_while_a_gone_client_is_not_closed(void** state) {
  world* w = *state;
  test_pair pair = only_instance(w, 0);
  end_shut(pair.client);
  EXPECT_STATUS(pair.server, 8, UV_EOF);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  end_shut(pair.server);
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, NULL));
}

static void wait_check(world* w, int timeout_ms, unsigned expected_ms) {
  uint64_t start = now_ms();
  CHECK_STATUS(UV_ETIMEDOUT, connect_outcome(w, w->name, timeout_ms, NULL));
  uint64_t took = now_ms() - start;
  CHECK(took + TICK_MS >= expected_ms);
  CHECK(took < expected_ms + SOON_MS);
}

static void waiting_in_vain_times_out(void** state) {
  world* w = *state;
  only_instance(w, 150);
  wait_check(w, 1, 1);
  wait_check(w, 300, 300);
  wait_check(w, NPIPE_WAIT_DEFAULT, 150);
}

static void waiting_client_gets_the_instance_that_is_freed(void** state) {
  static const int times[] = {CONNECT_MS, NPIPE_WAIT_FOREVER};
  world* w = *state;
  for (size_t i = 0; i < HARNESS_COUNT(times); i++) {
    test_pair pair = only_instance(w, 0);
    test_end* waiting = end_connect(w, w->name, times[i], NULL);
    world_run_for(w, 100);
    CHECK_SIZE(0, waiting->connects);
    end_close(pair.server);
    CHECK_STATUS(0, end_outcome(waiting));
    test_end* server = host_accept(pair.host);
    send_text(waiting, "thanks");
    EXPECT_TEXT(server, 8, "thanks", 0);
    end_shut(server);
    end_shut(waiting);
    pair_shut(&pair);
  }
}

typedef struct queue {
  unsigned count;
  test_end* ends[8];
} queue;

static void queue_client(test_end* end) {
  queue* served = end->user;
  served->ends[served->count++] = end;
}

static void all_waiting_clients_are_served(void** state) {
  enum { WAITERS = 8 };
  world* w = *state;
  test_pair pair = only_instance(w, 0);
  queue served = {.count = 0};
  test_end* waiting[WAITERS];
  for (int i = 0; i < WAITERS; i++) {
    waiting[i] = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
    waiting[i]->hook = queue_client;
    waiting[i]->user = &served;
    world_settle(w);
  }
  end_close(pair.server);
  for (unsigned turn = 0; turn < WAITERS; turn++) {
    test_end* server = host_accept(pair.host);
    RUN_UNTIL(w, served.count > turn);
    world_settle(w);
    CHECK_SIZE(turn + 1, served.count); /* one instance, one client */
    test_end* client = served.ends[turn];
    CHECK_STATUS(0, client->connect_status);
    if (os_serves_in_order()) CHECK(client == waiting[turn]);
    send_text(client, "mine");
    EXPECT_TEXT(server, 8, "mine", 0);
    end_close(server);
  }
}

static void closing_a_waiting_client_cancels_it(void** state) {
  world* w = *state;
  test_pair pair = only_instance(w, 0);
  test_end* waiting = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  test_end* other = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_run_for(w, 100);
  CHECK_SIZE(0, waiting->connects);
  end_shut(waiting);
  CHECK_STATUS(UV_ECANCELED, waiting->connect_status);
  CHECK(waiting->connect_stamp < waiting->close_stamp);
  end_close(pair.server); /* the cancelled one must not take the instance */
  CHECK_STATUS(0, end_outcome(other));
  host_accept(pair.host);
  world_settle(w);
  CHECK_SIZE(2, pair.host->arrivals);
}

static void closing_a_client_in_the_turn_of_its_connect_cancels_it(
    void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_BYTE);
  test_end* here = end_connect(w, w->name, 0, NULL);
  end_shut(here);
  CHECK_STATUS(UV_ECANCELED, here->connect_status);
  char nowhere[NPIPE_NAME_BYTES];
  unique_name(nowhere);
  test_end* there = end_connect(w, nowhere, 0, NULL);
  end_shut(there);
  CHECK_STATUS(UV_ECANCELED, there->connect_status);
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, NULL));
}

static void waiting_client_learns_that_the_server_is_gone(void** state) {
  world* w = *state;
  test_pair pair = only_instance(w, 0);
  test_end* waiting = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_run_for(w, 100);
  host_close(pair.host);
  end_close(pair.server);
  CHECK_STATUS(UV_ENOENT, end_outcome(waiting));
}

/* ------------------------------------------------- OP3: access */

static void op3_access_has_to_fit_the_direction(void** state) {
  static const int expected[3][3] = {
      /* READ_WRITE, READ_ONLY, WRITE_ONLY */
      {0, 0, 0},                 /* DUPLEX */
      {UV_EACCES, UV_EACCES, 0}, /* INBOUND */
      {UV_EACCES, 0, UV_EACCES}, /* OUTBOUND */
  };
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    for (int direction = 0; direction < 3; direction++) {
      npipe_server_options options = {.type = (npipe_type) type,
                                      .direction = (npipe_direction) direction};
      test_host* host = host_open(w, &options);
      for (int access = 0; access < 3; access++) {
        npipe_client_options client = {.access = (npipe_access) access};
        CHECK_STATUS(expected[direction][access],
                     connect_outcome(w, w->name, CONNECT_MS, &client));
      }
      host_shut(host);
    }
  }
}

static void op3_a_refused_access_takes_no_instance(void** state) {
  world* w = *state;
  npipe_server_options options = {.direction = NPIPE_INBOUND,
                                  .max_instances = 1};
  test_host* host = host_open(w, &options);
  for (int i = 0; i < 3; i++)
    CHECK_STATUS(UV_EACCES, connect_outcome(w, w->name, 0, NULL));
  npipe_client_options client = {.access = NPIPE_WRITE_ONLY};
  test_end* end = end_open(w, &client);
  send_text(end, "in");
  EXPECT_TEXT(host_accept(host), 8, "in", 0);
}

static void one_way_check(world* w, npipe_type type, int inbound) {
  npipe_server_options options = {
      .type = type, .direction = inbound ? NPIPE_INBOUND : NPIPE_OUTBOUND};
  npipe_client_options client = {.access = inbound ? NPIPE_WRITE_ONLY
                                                   : NPIPE_READ_ONLY};
  test_pair pair = pair_open(w, &options, &client);
  test_end* writer = inbound ? pair.client : pair.server;
  test_end* reader = inbound ? pair.server : pair.client;
  CHECK(npipe_get_type(pair.client->conn) == type);
  int status;
  CHECK(read_try(writer, 8, &status) == NULL);
  CHECK_STATUS(UV_EACCES, status);
  CHECK(stream_try(writer, 0, &status) == NULL);
  CHECK_STATUS(UV_EACCES, status);
  char byte = 'x';
  uv_buf_t buf = uv_buf_init(&byte, 1);
  CHECK(write_try(reader, &buf, 1, &status) == NULL);
  CHECK_STATUS(UV_EACCES, status);
  CHECK_STATUS(UV_EACCES, CALL(w, npipe_try_write(reader->conn, &buf, 1)));

  for (uint32_t i = 0; i < 5; i++) write_pattern(writer, 20000, i);
  for (uint32_t i = 0; i < 5; i++)
    expect_pattern_bytes(reader, 20000, 20000, i);
  end_shut(writer);
  EXPECT_STATUS(reader, 8, UV_EOF);
  pair_shut(&pair);
}

static void op3_data_flows_one_way_only(void** state) {
  one_way_check(*state, NPIPE_BYTE, 0);
  one_way_check(*state, NPIPE_BYTE, 1);
  one_way_check(*state, NPIPE_MESSAGE, 0);
  one_way_check(*state, NPIPE_MESSAGE, 1);
}

static void op3_a_writer_learns_that_its_reader_is_gone(void** state) {
  world* w = *state;
  for (int inbound = 0; inbound < 2; inbound++) {
    npipe_server_options options = {
        .type = NPIPE_MESSAGE,
        .direction = inbound ? NPIPE_INBOUND : NPIPE_OUTBOUND};
    npipe_client_options client = {.access = inbound ? NPIPE_WRITE_ONLY
                                                     : NPIPE_READ_ONLY};
    test_pair pair = pair_open(w, &options, &client);
    end_shut(inbound ? pair.server : pair.client);
    world_settle(w);
    test_end* writer = inbound ? pair.client : pair.server;
    CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(writer, "x", 1)));
    pair_shut(&pair);
  }
}

/* ------------------------------------------------- OP5: in their order */

static void op5_clients_are_handed_out_in_their_order(void** state) {
  enum { CLIENTS = 12 };
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  for (uint32_t i = 0; i < CLIENTS; i++)
    send_pattern(end_open(w, NULL), i + 1, i);
  for (uint32_t i = 0; i < CLIENTS; i++) {
    test_end* server = host_accept(host);
    test_task* task = read_begin(server, 64);
    CHECK_STATUS(0, task_outcome(task));
    CHECK_SIZE(i + 1, task->size);
    CHECK(pattern_holds(task->data, task->size, i, 0));
  }
}

/* ------------------------------------------------- OP6: who may connect */

static int play_stranger(const char* name) {
  world* w = world_new();
  npipe_client_options options = {.any_server = 1};
  int status = connect_outcome(w, name, CONNECT_MS, &options);
  child_say(status_name(status));
  return world_end(w) == NULL ? 0 : 1;
}

static void stranger_check(world* w, npipe_allow allow, const char* expected) {
  unsigned uid, gid;
  if (!os_other_user(&uid, &gid))
    SKIP_BECAUSE("OP6", "this process cannot become another user");
  npipe_server_options options = {.type = NPIPE_MESSAGE, .allow = allow};
  host_open(w, &options);
  test_child* child = child_start_as(w, "stranger", w->name, uid, gid);
  if (child == NULL)
    SKIP_BECAUSE("OP6", "another user cannot run this program");
  child_await(child, "\n");
  if (strncmp(child->text, expected, strlen(expected)) != 0)
    print_error("the stranger got %s", child->text);
  CHECK(strncmp(child->text, expected, strlen(expected)) == 0);
}

static void op6_another_user_is_refused(void** state) {
  SKIP_IF_WINE_DIFFERS("OP6");
  stranger_check(*state, NPIPE_ALLOW_OWNER, "EACCES");
}

static void op6_everyone_may_come_if_the_server_says_so(void** state) {
  SKIP_IF_WINE_DIFFERS("OP6");
  stranger_check(*state, NPIPE_ALLOW_EVERYONE, "0\n");
}

/* ------------------------------------------------- OP7: the name is gone */

/* A name lives as long as an end of its server. */
static void op7_a_closed_server_takes_nobody(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_host* other;
  host_close(pair.host);
  for (int i = 0; i < 2; i++) { /* from the call on, and after it */
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
    CHECK_STATUS(UV_ETIMEDOUT, connect_outcome(w, w->name, 30, NULL));
    CHECK_STATUS(UV_EADDRINUSE, host_try(w, w->name, NULL, &other));
    host_shut(pair.host);
  }
  send_text(pair.client, "on we go"); /* accepted connections are not touched */
  EXPECT_TEXT(pair.server, 16, "on we go", 0);
  send_text(pair.server, "so we do");
  EXPECT_TEXT(pair.client, 16, "so we do", 0);
}

/* Of several ends the last one counts, in whatever order they close. */
static void op7_the_last_of_several_ends_counts(void** state) {
  world* w = *state;
  for (int order = 0; order < 3; order++) {
    test_host* host = host_open_type(w, NPIPE_BYTE);
    test_end* ends[3];
    for (int i = 0; i < 3; i++) {
      end_open(w, NULL);
      ends[i] = host_accept(host);
    }
    end_open(w, NULL); /* nobody accepts it: closed with the server */
    if (order != 1) host_shut(host);
    for (int i = 0; i < 3; i++) {
      if (order == 1 && i == 2) host_shut(host);
      CHECK_STATUS(order == 1 && i < 2 ? 0 : UV_EBUSY,
                   connect_outcome(w, w->name, 0, NULL));
      end_shut(ends[(i + order) % 3]);
    }
    CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
    host_shut(host_open_type(w, NPIPE_MESSAGE)); /* in another way */
  }
}

static void op7_the_name_is_gone_with_the_last_end_of_the_server(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  send_text(pair.server, "left behind");
  host_shut(pair.host);
  end_shut(pair.server);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 5000, NULL));
  EXPECT_TEXT(pair.client, 16, "left behind", 0); /* the client is still on */
  EXPECT_STATUS(pair.client, 16, UV_EOF);
}

static void op7_the_name_can_be_made_again_in_another_way(void** state) {
  world* w = *state;
  test_pair old = pair_of(w, NPIPE_MESSAGE);
  send_text(old.server, "old");
  host_shut(old.host);
  end_shut(old.server);
  npipe_server_options options = {.type = NPIPE_BYTE,
                                  .direction = NPIPE_INBOUND};
  npipe_client_options client = {.access = NPIPE_WRITE_ONLY};
  test_pair fresh = pair_open(w, &options, &client);
  CHECK(npipe_get_type(fresh.client->conn) == NPIPE_BYTE);
  send_text(fresh.client, "new");
  EXPECT_TEXT(fresh.server, 8, "new", 0);
  EXPECT_TEXT(old.client, 8, "old", 0);
  end_shut(old.client); /* the end of the old one is not that of the new */
  CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, &client));
}

static void op7_create_and_close_again_and_again(void** state) {
  world* w = *state;
  for (int i = 0; i < 20; i++) {
    test_host* host = host_open_type(w, NPIPE_BYTE);
    if (i % 2) CHECK_STATUS(0, connect_outcome(w, w->name, CONNECT_MS, NULL));
    host_shut(host);
    CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
  }
}

static const test_role roles[] = {{"stranger", play_stranger}, {NULL, NULL}};

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(op1_a_name_without_server_is_never_waited_for),
      TEST(op2_no_free_instance_is_busy_at_once),
      TEST(op2_busy_before_the_program_has_accepted),
      TEST(op2_busy_while_a_gone_client_is_not_closed),
      TEST(waiting_in_vain_times_out),
      TEST(waiting_client_gets_the_instance_that_is_freed),
      TEST(all_waiting_clients_are_served),
      TEST(closing_a_waiting_client_cancels_it),
      TEST(closing_a_client_in_the_turn_of_its_connect_cancels_it),
      TEST(waiting_client_learns_that_the_server_is_gone),
      TEST(op3_access_has_to_fit_the_direction),
      TEST(op3_a_refused_access_takes_no_instance),
      TEST(op3_data_flows_one_way_only),
      TEST(op3_a_writer_learns_that_its_reader_is_gone),
      TEST(op5_clients_are_handed_out_in_their_order),
      TEST(op6_another_user_is_refused),
      TEST(op6_everyone_may_come_if_the_server_says_so),
      TEST(op7_a_closed_server_takes_nobody),
      TEST(op7_the_last_of_several_ends_counts),
      TEST(op7_the_name_is_gone_with_the_last_end_of_the_server),
      TEST(op7_the_name_can_be_made_again_in_another_way),
      TEST(op7_create_and_close_again_and_again),
  };
  /* For OP6: a place that another user can reach. A child inherits it. */
  char dir[OS_PATH_BYTES];
  int made = argc <= 2 && os_make_shared_dir(dir);
  if (made) uv_os_setenv("NPIPE_DIR", dir);
  int rc = harness_main(argc, argv, "open", tests, HARNESS_COUNT(tests), roles);
  if (made) os_remove_dir(dir);
  return rc;
}
