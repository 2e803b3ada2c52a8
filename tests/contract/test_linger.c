/*
 * Closing with writes pending: npipe_close() lingers, npipe_abort() does not,
 * and what has not made it vanishes (CL5). A close after every step of a
 * conversation is in test_script.c.
 */
#include <string.h>

#include "harness.h"

#define BIG ((size_t) 1024 * 1024) /* beyond every quota and buffer */

enum { QUOTA = 5000 };

static test_ends ends_with(world* w, int way, uint32_t quota, test_pair* pair) {
  npipe_server_options options = {
      .type = (npipe_type) (way % 2), .in_quota = quota, .out_quota = quota};
  *pair = pair_open(w, &options, NULL);
  return pair_ends(pair, way / 2);
}

#define WAYS 4 /* byte and message, client and server */

/* ------------------------------------------------- npipe_close() lingers */

static void a_slow_reader_gets_everything(void** state) {
  enum { WRITES = 5, SIZE = 300000 };
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_with(w, way, QUOTA, &pair);
    test_task* writes[WRITES];
    test_task* read = read_begin(e.self, 8);
    test_task* flush = flush_begin(e.self, NPIPE_WAIT_FOREVER);
    send_text(e.self, "first");
    for (uint32_t i = 0; i < WRITES; i++)
      writes[i] = write_pattern(e.self, SIZE, i);
    end_close(e.self);
    world_settle(w);
    CHECK_STATUS(UV_ECANCELED, read->status); /* does not wait for that */
    CHECK(flush->calls == 1);
    CHECK_SIZE(0, writes[0]->calls + e.self->closes);
    EXPECT_TEXT(e.peer, 5, "first", 0);
    for (uint32_t i = 0; i < WRITES; i++) {
      CHECK_SIZE(0, e.self->closes);
      expect_pattern_bytes(e.peer, SIZE / 3, SIZE, i);
      if (i % 2) world_settle(w); /* slow */
    }
    uint64_t begun = uv_hrtime(); /* from now on there is nothing to wait for */
    EXPECT_STATUS(e.peer, 8, UV_EOF);
    RUN_UNTIL(w, e.self->closes == 1);
    CHECK(uv_hrtime() - begun < NPIPE_LINGER_DEFAULT_MS * 1000000ull / 2);
    for (int i = 0; i < WRITES; i++) {
      CHECK_STATUS(0, writes[i]->status);
      CHECK(writes[i]->stamp < e.self->close_stamp);
    }
    pair_shut(&pair);
  }
}

/* Within the quota there is nothing to wait for. */
static void it_waits_for_the_quota_only(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_with(w, way, QUOTA, &pair);
    test_task* write = write_pattern(e.self, QUOTA, 1);
    end_shut(e.self); /* nobody reads */
    CHECK_STATUS(0, write->status);
    expect_pattern_bytes(e.peer, QUOTA, QUOTA, 1);
    EXPECT_STATUS(e.peer, 8, UV_EOF);
    pair_shut(&pair);
  }
}

/* 3000 are in the pipe, 5000 pend; a part of them can be read (WR4). */
static void when_the_time_is_over_the_rest_vanishes(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    for (int read_in_part = 0; read_in_part < 2; read_in_part++) {
      test_pair pair;
      test_ends e = ends_with(w, way, QUOTA, &pair);
      send_pattern(e.self, 3000, 1);
      test_task* write = write_pattern(e.self, 9000, 2);
      test_task* last = write_pattern(e.self, 10, 3);
      npipe_set_linger(e.self->conn, 100);
      uint64_t begun = uv_hrtime();
      end_close(e.self);
      if (read_in_part) {
        expect_pattern_bytes(e.peer, 3000, 3000, 1);
        expect_pattern_bytes(e.peer, 1000, 1000, 2);
      }
      RUN_UNTIL(w, e.self->closes == 1);
      CHECK(uv_hrtime() - begun >= 95 * 1000000ull);
      CHECK_STATUS(UV_ECANCELED, write->status);
      CHECK_STATUS(UV_ECANCELED, last->status);
      if (!read_in_part) expect_pattern_bytes(e.peer, 3000, 3000, 1);
      EXPECT_STATUS(e.peer, 10000, UV_EOF); /* not a byte more */
      pair_shut(&pair);
    }
  }
}

static void no_linger_at_all(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_with(w, way, QUOTA, &pair);
    send_pattern(e.self, 3000, 1);
    test_task* write = write_pattern(e.self, BIG, 2);
    npipe_set_linger(e.self->conn, 0);
    uint64_t begun = uv_hrtime();
    end_shut(e.self);
    CHECK(uv_hrtime() - begun < NPIPE_LINGER_DEFAULT_MS * 1000000ull / 2);
    CHECK_STATUS(UV_ECANCELED, write->status);
    expect_pattern_bytes(e.peer, 3000, 3000, 1);
    EXPECT_STATUS(e.peer, 8, UV_EOF);
    pair_shut(&pair);
  }
}

static void the_peer_closes_while_it_lingers(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_with(w, way, QUOTA, &pair);
    test_task* write = write_pattern(e.self, BIG, 1);
    end_close(e.self);
    world_settle(w);
    CHECK_SIZE(0, write->calls);
    uint64_t begun = uv_hrtime();
    end_drop(e.peer);
    RUN_UNTIL(w, e.self->closes == 1);
    CHECK(uv_hrtime() - begun < NPIPE_LINGER_DEFAULT_MS * 1000000ull / 2);
    CHECK_STATUS(UV_EPIPE, write->status);
    pair_shut(&pair);
  }
}

static void the_server_disconnects_while_the_client_lingers(void** state) {
  world* w = *state;
  test_pair pair;
  ends_with(w, 1, QUOTA, &pair);
  test_task* write = write_pattern(pair.client, BIG, 1);
  end_close(pair.client);
  world_settle(w);
  CHECK_STATUS(0, end_disconnect(pair.server));
  RUN_UNTIL(w, pair.client->closes == 1);
  CHECK_STATUS(UV_ECONNABORTED, write->status);
}

/* What the peer writes meanwhile is lost and holds nobody up (CL2). */
static void the_peer_writes_while_it_lingers(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_with(w, way, QUOTA, &pair);
    test_task* write = write_pattern(e.self, BIG, 1);
    test_task* lost = write_pattern(e.peer, BIG, 2);
    end_close(e.self);
    expect_pattern_bytes(e.peer, BIG, BIG, 1);
    EXPECT_STATUS(e.peer, 8, UV_EOF);
    CHECK_STATUS(0, task_outcome(write));
    CHECK_STATUS(UV_EPIPE, task_outcome(lost));
    pair_shut(&pair);
  }
}

/* Both ends close with something pending; nobody reads any more. */
static void both_ends_linger(void** state) {
  world* w = *state;
  for (int type = 0; type < 2; type++) {
    test_pair pair;
    ends_with(w, type, QUOTA, &pair);
    test_task* one = write_pattern(pair.client, BIG, 1);
    test_task* two = write_pattern(pair.server, BIG, 2);
    npipe_set_linger(pair.client->conn, 150);
    npipe_set_linger(pair.server->conn, 150);
    end_close(pair.client);
    end_shut(pair.server);
    end_shut(pair.client);
    CHECK(one->status == UV_ECANCELED || one->status == UV_EPIPE);
    CHECK(two->status == UV_ECANCELED || two->status == UV_EPIPE);
    pair_shut(&pair);
  }
}

/* A lingering end holds its instance until it is really closed. */
static void the_instance_comes_back_after_the_lingering(void** state) {
  world* w = *state;
  npipe_server_options options = {
      .type = NPIPE_MESSAGE, .max_instances = 1, .out_quota = QUOTA};
  test_pair pair = pair_open(w, &options, NULL);
  write_pattern(pair.server, 20000, 1);
  end_close(pair.server);
  world_settle(w);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  expect_pattern_bytes(pair.client, 20000, 20000, 1);
  EXPECT_STATUS(pair.client, 8, UV_EOF);
  RUN_UNTIL(w, pair.server->closes == 1);
  end_open(w, NULL);
}

/* ------------------------------------------------- npipe_abort() */

static void abort_does_not_linger(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_with(w, way, QUOTA, &pair);
    send_pattern(e.self, 3000, 1);
    test_task* first = write_pattern(e.self, 3000, 2);
    test_task* second = write_pattern(e.self, BIG, 3);
    test_task* flush = flush_begin(e.self, NPIPE_WAIT_FOREVER);
    if (way % 3) world_settle(w);
    end_drop(e.self);
    CHECK_STATUS(UV_ECANCELED, first->status);
    CHECK_STATUS(UV_ECANCELED, second->status);
    CHECK_STATUS(UV_ECANCELED, flush->status);
    expect_pattern_bytes(e.peer, 3000, 3000, 1);
    EXPECT_STATUS(e.peer, 8, UV_EOF);
    pair_shut(&pair);
  }
}

static void abort_callback_of_nobody(npipe_conn* conn, void* arg) {
  (void) conn;
  world_violation(arg, "the callback of npipe_abort() after npipe_close()");
}

static void abort_ends_the_lingering(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_with(w, way, QUOTA, &pair);
    send_pattern(e.self, 3000, 1);
    test_task* write = write_pattern(e.self, BIG, 2);
    end_close(e.self);
    if (way % 2) world_settle(w);
    CHECK_SIZE(0, write->calls);
    world_enter(w);
    npipe_abort(e.self->conn, abort_callback_of_nobody, w);
    npipe_abort(e.self->conn, abort_callback_of_nobody, w);
    npipe_close(e.self->conn, abort_callback_of_nobody, w);
    world_leave(w, 0);
    CHECK_SIZE(0, write->calls); /* never inside */
    uint64_t begun = uv_hrtime();
    RUN_UNTIL(w, e.self->closes == 1); /* the callback of npipe_close() */
    CHECK(uv_hrtime() - begun < NPIPE_LINGER_DEFAULT_MS * 1000000ull / 2);
    CHECK_STATUS(UV_ECANCELED, write->status);
    expect_pattern_bytes(e.peer, 3000, 3000, 1);
    EXPECT_STATUS(e.peer, 8, UV_EOF);
    pair_shut(&pair);
  }
}

static void abort_in_the_callback_of_a_write(test_task* task) {
  end_abort(task->end);
}

static void abort_inside_callbacks(void** state) {
  world* w = *state;
  for (int way = 0; way < WAYS; way++) {
    test_pair pair;
    test_ends e = ends_with(w, way, QUOTA, &pair);
    test_task* first = write_pattern(e.self, 100, 1);
    test_task* second = write_pattern(e.self, BIG, 2);
    first->hook = abort_in_the_callback_of_a_write;
    RUN_UNTIL(w, e.self->closes == 1);
    CHECK_STATUS(0, first->status);
    CHECK_STATUS(UV_ECANCELED, second->status);
    expect_pattern_bytes(e.peer, 100, 100, 1);
    EXPECT_STATUS(e.peer, 8, UV_EOF);
    pair_shut(&pair);
  }
}

static void what_is_not_connected_does_not_linger(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_pair pair = pair_open(w, &options, NULL);
  test_end* waiting = end_connect(w, w->name, NPIPE_WAIT_FOREVER, NULL);
  world_settle(w);
  end_drop(waiting);
  CHECK_STATUS(UV_ECANCELED, waiting->connect_status);
  CHECK_STATUS(0, end_disconnect(pair.server));
  end_drop(pair.client);
  listen_begin(pair.server, NPIPE_WAIT_FOREVER);
  end_drop(pair.server);
  npipe_abort(NULL, NULL, NULL);
  npipe_close(NULL, NULL, NULL);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(a_slow_reader_gets_everything),
      TEST(it_waits_for_the_quota_only),
      TEST(when_the_time_is_over_the_rest_vanishes),
      TEST(no_linger_at_all),
      TEST(the_peer_closes_while_it_lingers),
      TEST(the_server_disconnects_while_the_client_lingers),
      TEST(the_peer_writes_while_it_lingers),
      TEST(both_ends_linger),
      TEST(the_instance_comes_back_after_the_lingering),
      TEST(abort_does_not_linger),
      TEST(abort_ends_the_lingering),
      TEST(abort_inside_callbacks),
      TEST(what_is_not_connected_does_not_linger),
  };
  return harness_main(argc, argv, "linger", tests, HARNESS_COUNT(tests), NULL);
}
