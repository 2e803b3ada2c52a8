/* Living on a loop that has other handles, and on more than one. */
#include <string.h>

#include "harness.h"

static void tick(uv_timer_t* timer) {
  unsigned* ticks = timer->data;
  ++*ticks;
}

static void other_handles_of_the_loop_go_on(void** state) {
  world* w = *state;
  unsigned ticks = 0;
  uv_timer_t timer;
  CHECK_STATUS(0, uv_timer_init(&w->loop, &timer));
  timer.data = &ticks;
  CHECK_STATUS(0, uv_timer_start(&timer, tick, 1, 1));
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(pair.server, 0);
  for (uint32_t i = 0; i < 3000; i++)
    write_begin(pair.client, "0123456789", 10);
  unsigned before = ticks;
  RUN_UNTIL(w, stream->count == 3000);
  CHECK(ticks > before); /* a flood of messages does not starve a timer */
  uv_close((uv_handle_t*) &timer, NULL);
  world_settle(w);
}

static void open_handles_keep_the_loop_alive(void** state) {
  world* w = *state;
  CHECK(!uv_loop_alive(&w->loop));
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  CHECK(uv_loop_alive(&w->loop));
  test_end* client = end_open(w, NULL);
  test_end* server = host_accept(host);
  host_shut(host);
  world_settle(w);
  CHECK(uv_loop_alive(&w->loop)); /* by the two ends */
  end_shut(server);
  CHECK(uv_loop_alive(&w->loop));
  end_shut(client);
  uv_run(&w->loop, UV_RUN_NOWAIT);
  CHECK(!uv_loop_alive(&w->loop));
}

static void count_handle(uv_handle_t* handle, void* arg) {
  unsigned* count = arg;
  (void) handle;
  ++*count;
}

static void nothing_is_left_on_the_loop(void** state) {
  world* w = *state;
  unsigned before = 0;
  unsigned after = 0;
  uv_walk(&w->loop, count_handle, &before);
  for (int i = 0; i < 3; i++) {
    test_pair pair = pair_of(w, (npipe_type) (i % 2));
    test_host* second;
    send_text(pair.client, "x");
    CHECK_STATUS(UV_EADDRINUSE, host_try(w, w->name, NULL, &second));
    pair_shut(&pair);
    CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
    world_settle(w);
  }
  uv_walk(&w->loop, count_handle, &after);
  CHECK_SIZE(before, after);
}

static void two_loops_in_one_thread(void** state) {
  world* w = *state;
  world* other = world_new();
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_end* client = end_connect(other, w->name, CONNECT_MS, NULL);
  for (int i = 0; i < 1000 && client->connects == 0; i++) {
    world_run_for(w, 1);
    world_run_for(other, 1);
  }
  CHECK_STATUS(0, end_outcome(client));
  test_end* server = host_accept(host);
  test_stream* stream = stream_begin(server, 0);
  write_pattern(client, 50, 1);
  write_pattern(client, 500000, 2);
  for (int i = 0; i < 5000 && stream->count < 2; i++) {
    world_run_for(w, 1);
    world_run_for(other, 1);
  }
  CHECK(stream_has_pattern(stream, 0, 50, 1));
  CHECK(stream_has_pattern(stream, 1, 500000, 2));
  const char* wrong = world_end(other);
  if (wrong) fail_msg("%s", wrong);
}

/* Nothing else has to be on the loop for a close to come to its end. */
static void a_failed_connect_is_closed_on_an_empty_loop(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_host* host = host_open(w, &options);
  test_end* client = end_open(w, NULL);
  world* other = world_new();
  test_end* late = end_connect(other, w->name, 30, NULL);
  for (int i = 0; i < 1000 && late->connects == 0; i++) {
    world_run_for(w, 1);
    world_run_for(other, 1);
  }
  CHECK_STATUS(UV_ETIMEDOUT, late->connect_status);
  end_close(late);
  uv_run(&other->loop, UV_RUN_DEFAULT);
  CHECK_SIZE(1, late->closes);
  const char* wrong = world_end(other);
  if (wrong) fail_msg("%s", wrong);
  end_shut(client);
  host_shut(host);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(other_handles_of_the_loop_go_on),
      TEST(open_handles_keep_the_loop_alive),
      TEST(nothing_is_left_on_the_loop),
      TEST(two_loops_in_one_thread),
      TEST(a_failed_connect_is_closed_on_an_empty_loop),
  };
  return harness_main(argc, argv, "loop", tests, HARNESS_COUNT(tests), NULL);
}
