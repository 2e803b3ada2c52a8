/*
 * Times: whatever waits ends when its time is over, never early and not much
 * later, and does nothing while it waits.
 *
 * A machine may be busy with something else, so "not much later" has to hold
 * for the best of a few tries; "never early" for each of them.
 */
#include <string.h>

#include "harness.h"

enum {
  TRIES = 5,
  TIME_MS = 60,
  LATE_MS = 10,
  EARLY_MS = 1 /* the loop's clock counts whole milliseconds */
};

#define MS_NS ((uint64_t) 1000000)

typedef struct time_check {
  const char* what;
  uint64_t best_ns;
} time_check;

static void time_tried(time_check* check, uint64_t begun_ns,
                       uint64_t ended_ns) {
  uint64_t took = ended_ns - begun_ns;
  if (took < (TIME_MS - EARLY_MS) * MS_NS)
    fail_msg("%s ended after %u us, too early", check->what,
             (unsigned) (took / 1000));
  if (check->best_ns == 0 || took < check->best_ns) check->best_ns = took;
}

static void time_judge(const time_check* check) {
  if (check->best_ns > (TIME_MS + LATE_MS) * MS_NS)
    fail_msg("%s never ended before %u us", check->what,
             (unsigned) (check->best_ns / 1000));
}

static void time_task(time_check* check, test_task* task) {
  CHECK_STATUS(UV_ETIMEDOUT, task_outcome(task));
  time_tried(check, task->begun_ns, task->ended_ns);
}

static void time_ask(time_check* check, test_ask* ask) {
  CHECK_STATUS(UV_ETIMEDOUT, ask_outcome(ask));
  time_tried(check, ask->begun_ns, ask->ended_ns);
}

/* A pipe all of whose instances are busy, and default_wait_ms is the time. */
static test_pair busy_pair(world* w) {
  npipe_server_options options = {
      .type = NPIPE_MESSAGE, .max_instances = 1, .default_wait_ms = TIME_MS};
  return pair_open(w, &options, NULL);
}

static void note_time(test_end* end) {
  *(uint64_t*) end->user = uv_hrtime();
}

static void time_connect(world* w, const char* what, int timeout_ms) {
  time_check check = {what, 0};
  for (int i = 0; i < TRIES; i++) {
    uint64_t ended, begun = uv_hrtime();
    test_end* end = end_connect(w, w->name, timeout_ms, NULL);
    end->hook = note_time;
    end->user = &ended;
    CHECK_STATUS(UV_ETIMEDOUT, end_outcome(end));
    time_tried(&check, begun, ended);
  }
  time_judge(&check);
}

static void the_time_of_a_connect(void** state) {
  world* w = *state;
  busy_pair(w);
  time_connect(w, "connect", TIME_MS);
  time_connect(w, "connect by the default", NPIPE_WAIT_DEFAULT);
}

static void the_time_of_a_wait(void** state) {
  world* w = *state;
  busy_pair(w);
  time_check own = {"wait", 0}, theirs = {"wait by the default", 0};
  for (int i = 0; i < TRIES; i++) {
    time_ask(&own, wait_begin(w, TIME_MS));
    time_ask(&theirs, wait_begin(w, NPIPE_WAIT_DEFAULT));
  }
  time_judge(&own);
  time_judge(&theirs);
}

static void the_time_of_a_listen(void** state) {
  world* w = *state;
  test_pair pair = busy_pair(w);
  CHECK_STATUS(0, end_disconnect(pair.server));
  time_check check = {"listen", 0};
  for (int i = 0; i < TRIES; i++)
    time_task(&check, listen_begin(pair.server, TIME_MS));
  time_judge(&check);
}

static void the_time_of_a_flush(void** state) {
  world* w = *state;
  test_pair pair = busy_pair(w);
  time_check check = {"flush", 0};
  send_text(pair.client, "unread");
  send_text(pair.server, "unread");
  for (int i = 0; i < TRIES; i++) {
    time_task(&check, flush_begin(pair.client, TIME_MS));
    time_task(&check, flush_begin(pair.server, TIME_MS));
  }
  time_judge(&check);
}

static void the_time_of_a_transaction(void** state) {
  world* w = *state;
  test_pair pair = busy_pair(w);
  time_check check = {"transact", 0};
  for (int i = 0; i < TRIES; i++)
    time_task(&check, transact_begin(pair.client, "x", 8, TIME_MS));
  time_judge(&check);
}

static void the_time_of_a_call(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  time_check reply = {"call without a reply", 0};
  for (int i = 0; i < TRIES; i++)
    time_ask(&reply, call_begin(w, "x", 8, TIME_MS));
  time_judge(&reply);
  host_shut(host);
  busy_pair(w);
  time_check busy = {"call of a busy pipe", 0};
  for (int i = 0; i < TRIES; i++)
    time_ask(&busy, call_begin(w, "x", 8, TIME_MS));
  time_judge(&busy);
}

/* Part of the time goes for the instance; the rest is for the reply. */
static void the_time_of_a_call_is_for_all_of_it(void** state) {
  world* w = *state;
  time_check check = {"call", 0};
  for (int i = 0; i < TRIES; i++) {
    test_pair pair = busy_pair(w);
    test_ask* ask = call_begin(w, "x", 8, TIME_MS);
    world_run_for(w, TIME_MS / 2);
    end_close(pair.server);
    time_ask(&check, ask);
    pair_shut(&pair);
  }
  time_judge(&check);
}

/* Each has a time of its own, whatever was begun before or after it. */
static void many_times_on_one_connection(void** state) {
  enum { COUNT = 40 };
  static const int times[] = {90, 10, 50, 30, 70};
  world* w = *state;
  test_pair pair = busy_pair(w);
  send_text(pair.client, "unread");
  test_task* flushes[COUNT];
  for (int i = 0; i < COUNT; i++)
    flushes[i] = flush_begin(pair.client, times[i % 5]);
  test_task* ask = transact_begin(pair.client, "x", 8, 45);
  test_task* forever = flush_begin(pair.client, NPIPE_WAIT_FOREVER);
  for (int i = 0; i < COUNT; i++) {
    CHECK_STATUS(UV_ETIMEDOUT, task_outcome(flushes[i]));
    uint64_t took = flushes[i]->ended_ns - flushes[i]->begun_ns;
    CHECK(took >= (uint64_t) (times[i % 5] - EARLY_MS) * MS_NS);
  }
  CHECK_STATUS(UV_ETIMEDOUT, task_outcome(ask));
  CHECK_SIZE(0, forever->calls);
}

/* What came in time counts, also if the loop was busy with something else. */
static void what_came_in_time_counts(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_task* ask = transact_begin(pair.client, "x", 8, 30);
  EXPECT_TEXT(pair.server, 8, "x", 0);
  char text[] = "reply";
  uv_buf_t buf = uv_buf_init(text, 5);
  CHECK_STATUS(0, CALL(w, npipe_try_write(pair.server->conn, &buf, 1)));
  uv_sleep(60); /* the program does something long */
  CHECK_STATUS(0, task_outcome(ask));
  TASK_READ_TEXT(ask, "reply", 0);
}

/* ------------------------------------------------- idle while waiting */

static uint64_t cpu_us(void) {
  uv_rusage_t use;
  if (uv_getrusage(&use) != 0) return 0;
  return (uint64_t) (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000u +
         (uint64_t) (use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void count_turn(uv_prepare_t* prepare) {
  ++*(unsigned*) prepare->data;
}

static void all_kinds_of_waits(world* w) {
  enum { EACH = 20 };
  test_pair pair = busy_pair(w);
  send_text(pair.client, "unread");
  send_text(pair.client, "unread");
  for (int i = 0; i < EACH; i++) {
    wait_begin(w, i % 2 ? 30000 : NPIPE_WAIT_FOREVER);
    call_begin(w, "x", 8, 30000);
    end_connect(w, w->name, i % 2 ? 30000 : NPIPE_WAIT_FOREVER, NULL);
    flush_begin(pair.client, i % 2 ? 30000 : NPIPE_WAIT_FOREVER);
  }
  transact_begin(pair.client, "x", 8, 30000);
  write_pattern(pair.server, 1 << 20, 1);
  read_begin(pair.server, 1); /* takes the first "u" */
}

static void waiting_costs_nothing(void** state) {
  enum { WATCH_MS = 500, CPU_MS = 60, TURNS = 60, WATCHES = 4 };
  world* w = *state;
  unsigned turns = 0;
  uint64_t used = 0;
  uv_prepare_t prepare;
  all_kinds_of_waits(w);
  world_run_for(w, 200);
  CHECK_STATUS(0, uv_prepare_init(&w->loop, &prepare));
  prepare.data = &turns;
  uv_prepare_start(&prepare, count_turn);
  for (int i = 0; i < WATCHES; i++) {
    turns = 0;
    used = cpu_us();
    world_run_for(w, WATCH_MS);
    used = cpu_us() - used;
    if (used < CPU_MS * 1000u && turns < TURNS) break;
  }
  uv_close((uv_handle_t*) &prepare, NULL);
  world_run_for(w, 1);
  if (used >= CPU_MS * 1000u || turns >= TURNS)
    fail_msg("%u us of CPU, %u turns of the loop", (unsigned) used, turns);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(the_time_of_a_connect),
      TEST(the_time_of_a_wait),
      TEST(the_time_of_a_listen),
      TEST(the_time_of_a_flush),
      TEST(the_time_of_a_transaction),
      TEST(the_time_of_a_call),
      TEST(the_time_of_a_call_is_for_all_of_it),
      TEST(many_times_on_one_connection),
      TEST(what_came_in_time_counts),
      TEST(waiting_costs_nothing),
  };
  return harness_main(argc, argv, "timeouts", tests, HARNESS_COUNT(tests),
                      NULL);
}
