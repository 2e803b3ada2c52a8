/*
 * Random conversations between the two ends of an instance, each compared,
 * call by call and callback by callback, with a small reference model of the
 * rules (support/model.h). The same seed tells the same story on every system:
 * the total of the stories' hashes is written down here.
 *
 * The first tests hold the model itself to the numbers of the rules.
 *
 *   NPIPE_TEST_SEED=n            other conversations than the usual ones
 *   NPIPE_MODEL_CONVERSATIONS=n  how many
 *   NPIPE_MODEL_ONLY=n           this one alone, and tell its story
 *   NPIPE_MODEL_GO_ON=1          do not stop at the first that fails; tell the
 *                                shortest of those that failed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "model_play.h"

#define SEED 1
#define CONVERSATIONS 10000u
#define CONVERSATIONS_WINE 2000u
#define BEYOND 2000u
#define RUN_SECONDS 280u

/* ------------------------------------------------- the model by itself */

static model rules;
static unsigned rules_op;

static void rules_begin(npipe_type type, size_t quota) {
  model_pipe pipe = {.type = type,
                     .quota = {quota, quota},
                     .message_max = NPIPE_MESSAGE_DEFAULT_BYTES};
  for (int i = 0; i < 2; i++)
    pipe.mode[i] = type == NPIPE_BYTE ? NPIPE_READ_BYTES : NPIPE_READ_MESSAGES;
  model_begin(&rules, &pipe);
  rules_op = 0;
}

static model_answer rules_do(model_verb verb, model_side side, size_t size) {
  rules_op++;
  model_step step = {.verb = verb,
                     .side = side,
                     .op = rules_op,
                     .size = size,
                     .seed = rules_op,
                     .request = size};
  return model_apply(&rules, &step);
}

static void rules_cancel(unsigned op, model_side side, int status) {
  model_step step = {.verb = MODEL_CANCEL, .side = side, .op = op};
  CHECK_STATUS(status, model_apply(&rules, &step).status);
}

static const model_event* rules_due(model_what what, unsigned op) {
  for (size_t i = 0; i < rules.due_count; i++)
    if (rules.due[i].what == what && rules.due[i].op == op)
      return &rules.due[i];
  return NULL;
}

/* Exactly this is due, for the operation of this number. */
#define DUE(what, op, code) \
  do { \
    CHECK(rules_due((what), (op)) != NULL); \
    CHECK_STATUS((code), rules_due((what), (op))->status); \
  } while (0)
#define DUE_NOTHING() CHECK_SIZE(0, rules.due_count)

static void rules_read(size_t room, size_t size, unsigned flags) {
  rules_do(MODEL_READ, MODEL_CLIENT, room);
  DUE(MODEL_DID_READ, rules_op, 0);
  const model_event* event = rules_due(MODEL_DID_READ, rules_op);
  CHECK_SIZE(size, event->size);
  CHECK_SIZE(flags, event->flags);
}

static void model_wr3_the_story_of_the_rule(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 5000);
  rules_do(MODEL_WRITE, MODEL_SERVER, 3000);
  DUE(MODEL_DID_WRITE, 1, 0);
  rules_do(MODEL_WRITE, MODEL_SERVER, 5000);
  DUE_NOTHING();
  model_answer peek = rules_do(MODEL_PEEK, MODEL_CLIENT, 0);
  CHECK_SIZE(8000, peek.peek.available); /* WR4 */
  rules_read(3000, 3000, 0);
  DUE(MODEL_DID_WRITE, 2, 0);
  rules_do(MODEL_WRITE, MODEL_SERVER, 1);
  DUE_NOTHING();
  rules_read(1, 1, NPIPE_MORE);
  DUE(MODEL_DID_WRITE, 5, 0);
}

static void model_wr3_a_write_beyond_the_quota(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 5000);
  rules_do(MODEL_WRITE, MODEL_SERVER, 7000);
  DUE_NOTHING();
  rules_read(1999, 1999, NPIPE_MORE);
  CHECK_SIZE(1, rules.due_count); /* 5001 are left */
  rules_read(1, 1, NPIPE_MORE);
  DUE(MODEL_DID_WRITE, 1, 0);
}

static void model_wr5_quota_zero(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 0);
  rules_do(MODEL_WRITE, MODEL_SERVER, 1);
  DUE_NOTHING();
  rules_read(1, 1, 0);
  DUE(MODEL_DID_WRITE, 1, 0);
  rules_do(MODEL_READ, MODEL_CLIENT, 10);
  rules_do(MODEL_WRITE, MODEL_SERVER, 4);
  DUE(MODEL_DID_READ, 3, 0);
  DUE(MODEL_DID_WRITE, 4, 0);
}

static void model_wr6_an_empty_message(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 0);
  rules_do(MODEL_READ, MODEL_CLIENT, 10);
  rules_do(MODEL_READ, MODEL_CLIENT, 10);
  rules_do(MODEL_WRITE, MODEL_SERVER, 0);
  CHECK_SIZE(2, rules.due_count); /* one read only */
  DUE(MODEL_DID_READ, 1, 0);
  DUE(MODEL_DID_WRITE, 3, 0);
  rules_begin(NPIPE_BYTE, 0);
  rules_do(MODEL_READ, MODEL_CLIENT, 10);
  rules_do(MODEL_WRITE, MODEL_SERVER, 0);
  CHECK_SIZE(1, rules.due_count);
  DUE(MODEL_DID_WRITE, 2, 0);
}

static void model_rd2_the_matrix(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 100);
  for (int i = 0; i < 3; i++) rules_do(MODEL_WRITE, MODEL_SERVER, 5);
  rules_read(3, 3, NPIPE_MORE);
  rules_read(2, 2, 0);
  rules_read(10, 5, 0);
  rules.ends[MODEL_CLIENT].mode = NPIPE_READ_BYTES;
  rules_do(MODEL_WRITE, MODEL_SERVER, 5);
  rules_read(3, 3, 0);
  rules_read(10, 7, 0); /* merges */
  rules_begin(NPIPE_BYTE, 100);
  rules_do(MODEL_WRITE, MODEL_SERVER, 5);
  rules_do(MODEL_WRITE, MODEL_SERVER, 5);
  rules_read(7, 7, 0);
  rules_read(7, 3, 0);
}

static void model_rd7_rd8_rd10_the_special_reads(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 100);
  rules.ends[MODEL_CLIENT].mode = NPIPE_READ_BYTES;
  rules_do(MODEL_WRITE, MODEL_SERVER, 3);
  rules_do(MODEL_WRITE, MODEL_SERVER, 0);
  rules_do(MODEL_WRITE, MODEL_SERVER, 2);
  rules_read(10, 5, 0); /* abc, nothing, de */
  rules_do(MODEL_WRITE, MODEL_SERVER, 3);
  rules_do(MODEL_WRITE, MODEL_SERVER, 0);
  rules_read(3, 3, 0); /* ends before the empty one */
  rules_read(10, 0, 0);
  rules_do(MODEL_READ, MODEL_CLIENT, 10);
  DUE_NOTHING(); /* it is gone now */
  rules_begin(NPIPE_MESSAGE, 100);
  rules_do(MODEL_READ, MODEL_CLIENT, 0);
  rules_do(MODEL_READ, MODEL_CLIENT, 4);
  rules_do(MODEL_READ, MODEL_CLIENT, 4);
  rules_do(MODEL_READ, MODEL_CLIENT, 4);
  rules_do(MODEL_WRITE, MODEL_SERVER, 6);
  CHECK_SIZE(0, rules_due(MODEL_DID_READ, 1)->size);
  CHECK_SIZE(NPIPE_MORE, rules_due(MODEL_DID_READ, 1)->flags);
  CHECK_SIZE(4, rules_due(MODEL_DID_READ, 2)->size);
  CHECK_SIZE(NPIPE_MORE, rules_due(MODEL_DID_READ, 2)->flags);
  CHECK_SIZE(2, rules_due(MODEL_DID_READ, 3)->size);
  CHECK(rules_due(MODEL_DID_READ, 4) == NULL);
}

static void model_fl_flush(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 10);
  rules_do(MODEL_FLUSH, MODEL_SERVER, 0);
  DUE(MODEL_DID_FLUSH, 1, 0); /* FL4 */
  rules_do(MODEL_WRITE, MODEL_SERVER, 10);
  rules_do(MODEL_WRITE, MODEL_SERVER, 1);
  rules_do(MODEL_WRITE, MODEL_SERVER, 1);
  rules_do(MODEL_FLUSH, MODEL_SERVER, 0);
  DUE_NOTHING();
  rules_cancel(3, MODEL_SERVER, UV_EBUSY); /* is in the pipe */
  rules_cancel(4, MODEL_SERVER, 0);        /* is held back */
  rules_read(10, 10, 0);
  CHECK(rules_due(MODEL_DID_FLUSH, 5) == NULL);
  rules_read(10, 1, 0);
  DUE(MODEL_DID_FLUSH, 5, 0); /* FL5 */
  rules_do(MODEL_WRITE, MODEL_SERVER, 10);
  rules_do(MODEL_FLUSH, MODEL_SERVER, 0);
  rules_do(MODEL_CLOSE, MODEL_CLIENT, 0);
  DUE(MODEL_DID_FLUSH, rules_op - 1, UV_EPIPE); /* FL3 */
}

static void model_tx_transactions(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 10);
  rules_do(MODEL_TRANSACT, MODEL_SERVER, 100);
  DUE_NOTHING();
  rules_read(100, 100, 0); /* TX3: beyond the quota */
  CHECK_STATUS(UV_EBUSY, rules_do(MODEL_READ, MODEL_SERVER, 1).status);
  rules_do(MODEL_WRITE, MODEL_CLIENT, 150);
  CHECK_SIZE(100, rules_due(MODEL_DID_READ, 1)->size);
  CHECK_SIZE(NPIPE_MORE, rules_due(MODEL_DID_READ, 1)->flags);
  CHECK_STATUS(UV_EBUSY, rules_do(MODEL_TRANSACT, MODEL_SERVER, 1).status);
  rules_do(MODEL_READ, MODEL_SERVER, 50);
  rules_do(MODEL_TRANSACT, MODEL_SERVER, 7);
  rules_cancel(rules_op, MODEL_SERVER, 0);
  rules_read(100, 7, 0); /* TX4 */
}

static void model_cl5_what_vanishes_and_what_lingers(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 10);
  rules_do(MODEL_WRITE, MODEL_SERVER, 4);
  rules_do(MODEL_WRITE, MODEL_SERVER, 10);
  rules_do(MODEL_ABORT, MODEL_SERVER, 0);
  DUE(MODEL_DID_WRITE, 2, UV_ECANCELED);
  rules_read(10, 4, 0);
  rules_do(MODEL_READ, MODEL_CLIENT, 10);
  DUE(MODEL_DID_READ, 5, UV_EOF);
  rules_begin(NPIPE_MESSAGE, 10);
  rules_do(MODEL_WRITE, MODEL_SERVER, 4);
  rules_do(MODEL_WRITE, MODEL_SERVER, 10);
  rules_do(MODEL_CLOSE, MODEL_SERVER, 0);
  DUE_NOTHING();
  rules_read(4, 4, 0);
  DUE(MODEL_DID_WRITE, 2, 0);
  CHECK(rules_due(MODEL_DID_CLOSE, 0) != NULL);
  rules_read(10, 10, 0);
}

static void model_di_ln_the_next_client(void** state) {
  (void) state;
  rules_begin(NPIPE_MESSAGE, 10);
  rules_do(MODEL_WRITE, MODEL_SERVER, 4);
  rules_do(MODEL_DISCONNECT, MODEL_SERVER, 0);
  rules_do(MODEL_READ, MODEL_CLIENT, 10);
  DUE(MODEL_DID_READ, 3, UV_ECONNABORTED); /* DI1 */
  CHECK_STATUS(UV_ECONNABORTED,
               rules_do(MODEL_DISCONNECT, MODEL_SERVER, 0).status);
  CHECK_STATUS(UV_ENOTSUP, rules_do(MODEL_LISTEN, MODEL_CLIENT, 0).status);
  rules_do(MODEL_LISTEN, MODEL_SERVER, 0);
  DUE_NOTHING();
  CHECK_STATUS(UV_ENOTCONN, rules_do(MODEL_READ, MODEL_SERVER, 1).status);
  rules_do(MODEL_CLOSE, MODEL_CLIENT, 0);
  rules_do(MODEL_CONNECT, MODEL_CLIENT, 0);
  DUE(MODEL_DID_LISTEN, 6, 0);
  rules_do(MODEL_WRITE, MODEL_CLIENT, 3);
  rules_do(MODEL_CLOSE, MODEL_CLIENT, 0);
  rules_do(MODEL_LISTEN, MODEL_SERVER, 0);
  DUE(MODEL_DID_LISTEN, rules_op, UV_EPIPE); /* LN2 */
}

/* ------------------------------------------------- where the stories go */

/* Results of calls and of callbacks that the stories have to come to; each row
 * ends with 1. */
static const struct {
  model_verb verb;
  int statuses[6];
} reached_calls[] = {
    {MODEL_READ, {0, UV_EACCES, UV_EBUSY, UV_ENOTCONN, UV_EBADF, 1}},
    {MODEL_WRITE, {0, UV_EACCES, UV_EMSGSIZE, UV_ENOTCONN, UV_EBADF, 1}},
    {MODEL_TRY_WRITE, {0, UV_EAGAIN, UV_EPIPE, UV_ECONNABORTED, 1}},
    {MODEL_PEEK, {0, UV_EOF, UV_ECONNABORTED, UV_ENOTCONN, UV_EACCES, 1}},
    {MODEL_TRANSACT, {0, UV_EBUSY, UV_EINVAL, UV_EACCES, UV_EMSGSIZE, 1}},
    {MODEL_FLUSH, {0, UV_EACCES, UV_EBADF, 1}},
    {MODEL_SET_MODE, {0, UV_EBUSY, UV_EINVAL, UV_ECONNABORTED, 1}},
    {MODEL_CANCEL, {0, UV_EBUSY, UV_ENOENT, 1}},
    {MODEL_CANCEL_READS, {0, UV_ENOENT, 1}},
    {MODEL_INFO, {0, UV_ECONNABORTED, 1}},
    {MODEL_LISTEN, {0, UV_ENOTSUP, 1}},
    {MODEL_DISCONNECT, {0, UV_ECONNABORTED, UV_ENOTSUP, 1}},
    {MODEL_CONNECT, {0, 1}},
    {MODEL_KNOCK, {UV_EBUSY, 1}},
};

static const struct {
  model_what what;
  int statuses[6];
} reached_events[] = {
    {MODEL_DID_READ, {0, UV_EOF, UV_ECANCELED, UV_ECONNABORTED, UV_EPIPE, 1}},
    {MODEL_DID_WRITE, {0, UV_ECANCELED, UV_ECONNABORTED, UV_EPIPE, 1}},
    {MODEL_DID_FLUSH, {0, UV_ECANCELED, UV_ECONNABORTED, UV_EPIPE, 1}},
    {MODEL_DID_LISTEN, {0, UV_ECANCELED, UV_EPIPE, 1}},
};

enum { REACHED_CALLS = sizeof reached_calls / sizeof reached_calls[0] };
enum { REACHED_EVENTS = sizeof reached_events / sizeof reached_events[0] };

/* How often each of them was seen. */
static unsigned reached[REACHED_CALLS + REACHED_EVENTS][6];

static void reach(unsigned row[6], const int statuses[6], int status) {
  for (int i = 0; statuses[i] != 1; i++)
    if (statuses[i] == status) row[i]++;
}

static void reach_step(const model* m, model_verb verb, int status) {
  for (int i = 0; i < REACHED_CALLS; i++)
    if (reached_calls[i].verb == verb)
      reach(reached[i], reached_calls[i].statuses, status);
  for (size_t d = 0; d < m->due_count; d++)
    for (int i = 0; i < REACHED_EVENTS; i++)
      if (reached_events[i].what == m->due[d].what)
        reach(reached[REACHED_CALLS + i], reached_events[i].statuses,
              m->due[d].status);
}

/* The model by itself tells stories; each of them ends. */
static void model_stories_go_everywhere(void** state) {
  (void) state;
  test_chance chance = chance_seeded(SEED);
  for (int story = 0; story < 1000; story++) {
    model_pipe pipe;
    unsigned n = 0;
    model_choose_pipe(&pipe, &chance);
    model_begin(&rules, &pipe);
    while (!model_is_over(&rules) && n++ < 2000) {
      model_step step =
          n < 40 ? model_choose(&rules, (model_taste){.beyond_wine = false}, n,
                                &chance)
                 : model_choose_last(&rules, n, &chance);
      int status = model_apply(&rules, &step).status;
      reach_step(&rules, step.verb, status);
    }
    CHECK(model_is_over(&rules));
  }
  for (int i = 0; i < REACHED_CALLS; i++)
    for (int k = 0; reached_calls[i].statuses[k] != 1; k++)
      CHECK(reached[i][k] > 0);
  for (int i = 0; i < REACHED_EVENTS; i++)
    for (int k = 0; reached_events[i].statuses[k] != 1; k++)
      CHECK(reached[REACHED_CALLS + i][k] > 0);
}

/* ------------------------------------------------- conversations */

static unsigned long model_setting(const char* name, unsigned long usual) {
  char text[32];
  size_t size = sizeof text;
  if (uv_os_getenv(name, text, &size) != 0) return usual;
  return strtoul(text, NULL, 10);
}

typedef struct model_run {
  uint64_t total;
  unsigned long steps;
  unsigned failures;
  char* shortest; /* story of one that failed, and its number */
  unsigned number;
} model_run;

static void run_failed(model_run* run, unsigned number, char* story) {
  run->failures++;
  if (run->shortest != NULL && strlen(run->shortest) <= strlen(story)) {
    free(story);
    return;
  }
  free(run->shortest);
  run->shortest = story;
  run->number = number;
}

static void run_one(world* w, model_run* run, uint32_t seed, unsigned number,
                    model_taste taste) {
  watchdog_step("a conversation");
  play_result result = play_conversation(w, seed, number, taste);
  run->total = play_hash(run->total, result.hash);
  run->steps += result.steps;
  w->violation[0] = 0; /* it is told with the story */
  if (result.failed)
    run_failed(run, number, result.story);
  else
    free(result.story);
}

/* Tells one story and what became of it. Not by print_error(), which has room
 * for one KiB. */
static void run_only(world* w, uint32_t seed, unsigned number,
                     model_taste taste) {
  play_result result = play_conversation(w, seed, number, taste);
  fprintf(stderr, "conversation %u:\n%s", number, result.story);
  free(result.story);
  w->violation[0] = 0;
  CHECK(!result.failed);
}

static void run_report(const model_run* run, uint32_t seed, unsigned count) {
  if (run->failures == 0) return;
  fprintf(stderr, "conversation %u:\n%s", run->number, run->shortest);
  print_error(
      "%u of %u conversations failed; the one above is repeated with "
      "NPIPE_TEST_SEED=%lu NPIPE_MODEL_ONLY=%u\n",
      run->failures, count, (unsigned long) seed, run->number);
}

/* The same stories everywhere: the totals of the usual seed. They follow from
 * the model and the generator, and change with these. */
static const struct {
  bool beyond_wine;
  unsigned count;
  uint64_t total;
} known_totals[] = {
    {false, CONVERSATIONS_WINE, 0x7d4e3ea290fe6d67},
    {false, CONVERSATIONS, 0x5466a58c4ce45684},
    {true, BEYOND, 0x5d43bd68465d32fc},
};

static bool run_total_is_known(const model_run* run, unsigned count,
                               model_taste taste) {
  for (size_t i = 0; i < HARNESS_COUNT(known_totals); i++) {
    if (known_totals[i].count != count ||
        known_totals[i].beyond_wine != taste.beyond_wine)
      continue;
    print_message("%u conversations, %lu steps: total %08lx%08lx\n", count,
                  run->steps, (unsigned long) (run->total >> 32),
                  (unsigned long) (run->total & 0xffffffffu));
    return run->total == known_totals[i].total;
  }
  return true;
}

/* The conversations from 0 on. */
static void run_all(world* w, unsigned count, model_taste taste) {
  uint32_t seed = (uint32_t) model_setting("NPIPE_TEST_SEED", SEED);
  unsigned long only = model_setting("NPIPE_MODEL_ONLY", UINT32_MAX);
  bool go_on = model_setting("NPIPE_MODEL_GO_ON", 0) != 0;
  if (only != UINT32_MAX) {
    run_only(w, seed, (unsigned) only, taste);
    return;
  }
  model_run run = {.total = PLAY_HASH_START};
  unsigned i = 0;
  while (i < count && (run.failures == 0 || go_on)) {
    run_one(w, &run, seed, i++, taste);
    bool known = run_total_is_known(&run, i, taste);
    if (seed == SEED && run.failures == 0) CHECK(known);
  }
  run_report(&run, seed, i);
  free(run.shortest);
  print_message("NPIPE_TEST_SEED=%lu, %u told\n", (unsigned long) seed, i);
  CHECK_SIZE(0, run.failures);
}

static void model_conversations(void** state) {
  unsigned usual = os_under_wine() ? CONVERSATIONS_WINE : CONVERSATIONS;
  unsigned count = (unsigned) model_setting("NPIPE_MODEL_CONVERSATIONS", usual);
  watchdog_arm("model_conversations", RUN_SECONDS);
  if (count < CONVERSATIONS)
    print_message(
        "%u of the %u conversations; the others with "
        "NPIPE_MODEL_CONVERSATIONS=%u\n",
        count, CONVERSATIONS, CONVERSATIONS);
  run_all(*state, count, (model_taste){.beyond_wine = false});
}

/* Where Wine 8 is not like Windows. */
static void model_conversations_beyond_wine(void** state) {
  if (os_under_wine())
    SKIP_BECAUSE("WINE: FL1, LN7",
                 "a flush ends when nothing at all is unread; an instance "
                 "that listens cannot be disconnected");
  unsigned count =
      (unsigned) model_setting("NPIPE_MODEL_CONVERSATIONS", BEYOND);
  watchdog_arm("model_conversations_beyond_wine", RUN_SECONDS);
  run_all(*state, count, (model_taste){.beyond_wine = true});
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(model_wr3_the_story_of_the_rule),
      TEST(model_wr3_a_write_beyond_the_quota),
      TEST(model_wr5_quota_zero),
      TEST(model_wr6_an_empty_message),
      TEST(model_rd2_the_matrix),
      TEST(model_rd7_rd8_rd10_the_special_reads),
      TEST(model_fl_flush),
      TEST(model_tx_transactions),
      TEST(model_cl5_what_vanishes_and_what_lingers),
      TEST(model_di_ln_the_next_client),
      TEST(model_stories_go_everywhere),
      TEST(model_conversations),
      TEST(model_conversations_beyond_wine),
  };
  return harness_main(argc, argv, "model", tests, HARNESS_COUNT(tests), NULL);
}
