/*
 * Out of memory: a whole conversation, once for each allocation it makes, with
 * that one failing. Whatever it hits, there is no crash, no leak and no
 * callback too many, and somebody is told: by an error code, by a failed
 * callback, or by the end of the connection. If nobody is told, the
 * conversation has to have succeeded.
 *
 * The allocator hands out memory that is not zero and poisons what is freed.
 * It is locked, because a backend may allocate in threads of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { BIG = 100000, FAILURES_MAX = 2000, PATIENCE_MS = 1500 };

/* ------------------------------------------------- the allocator */

typedef union block {
  size_t size;
  long double alignment;
  void* pointer;
} block;

static struct {
  uv_mutex_t lock;
  unsigned long count;
  unsigned long fail_at; /* 0: never */
  int fail_on;           /* also every later one */
  long outstanding;
  int failed;
} memory;

static int memory_may_fail(void) {
  uv_mutex_lock(&memory.lock);
  memory.count++;
  int fails =
      memory.fail_at != 0 && (memory.fail_on ? memory.count >= memory.fail_at
                                             : memory.count == memory.fail_at);
  if (fails) memory.failed = 1;
  if (!fails) memory.outstanding++;
  uv_mutex_unlock(&memory.lock);
  return fails;
}

static void* memory_malloc(size_t size) {
  if (memory_may_fail()) return NULL;
  block* head = must_alloc(sizeof *head + size);
  head->size = size;
  memset(head + 1, 0xDB, size);
  return head + 1;
}

static void memory_free(void* data) {
  if (data == NULL) return;
  block* head = (block*) data - 1;
  memset(data, 0xDD, head->size);
  uv_mutex_lock(&memory.lock);
  memory.outstanding--;
  uv_mutex_unlock(&memory.lock);
  free(head);
}

static void* memory_realloc(void* old, size_t size) {
  void* data = memory_malloc(size);
  if (data == NULL || old == NULL) return data;
  size_t old_size = ((block*) old - 1)->size;
  memcpy(data, old, old_size < size ? old_size : size);
  memory_free(old);
  return data;
}

/* ------------------------------------------------- the conversation */

/* No check in here may end the test: it has to come to its end anyhow. */
typedef struct talk_state {
  world* w;
  test_host* host;
  test_end* client;
  test_end* server;
  test_stream* in;
  test_stream* out;
  int told;          /* somebody was told of a failure */
  const char* stage; /* what it is waiting for */
} talk_state;

static int talk_told(talk_state* talk, int status) {
  if (status < 0) talk->told = 1;
  return status;
}

static void talk_written(test_task* task) {
  talk_told(task->user, task->status);
}

static void talk_write(talk_state* talk, test_end* end, size_t size,
                       uint32_t seed) {
  int status;
  char* data = must_alloc(size);
  pattern_fill(data, size, seed);
  uv_buf_t bufs[2] = {
      uv_buf_init(data, (unsigned) (size / 2)),
      uv_buf_init(data + size / 2, (unsigned) (size - size / 2))};
  test_task* task = write_try(end, bufs, 2, &status);
  free(data);
  if (task) {
    task->user = talk;
    task->hook = talk_written;
  }
  talk_told(talk, status);
}

static void talk_ended(test_stream* stream) {
  talk_state* talk = stream->user;
  if (stream->ends) talk->told = 1;
}

static test_stream* talk_read(talk_state* talk, test_end* end) {
  int status;
  test_stream* stream = stream_try(end, 0, &status);
  talk_told(talk, status);
  if (stream == NULL) return NULL;
  stream->user = talk;
  stream->hook = talk_ended;
  return stream;
}

/* Runs the loop until the word is true, somebody is told, or patience ends. */
#define TALK_UNTIL(talk, condition) \
  do { \
    uint64_t limit = uv_hrtime() + PATIENCE_MS * 1000000ull; \
    (talk)->stage = #condition; \
    while (!(condition) && !(talk)->told) { \
      world_run_for((talk)->w, 1); \
      if (uv_hrtime() > limit) return 0; \
    } \
    if ((talk)->told) return 0; \
  } while (0)

static void talk_connected(test_end* end) {
  talk_state* talk = end->user;
  talk_told(talk, end->connect_status);
}

/* The server could not take a client, and was told so. */
static int talk_server_told(talk_state* talk) {
  if (talk->host->failures) talk->told = 1;
  return talk->host->failures > 0;
}

static int talk_meet(talk_state* talk, const npipe_server_options* options) {
  world* w = talk->w;
  if (talk_told(talk, host_try(w, w->name, options, &talk->host))) return 0;
  int rc = end_try(w, w->name, 5000, NULL, &talk->client);
  if (talk_told(talk, rc)) return 0;
  talk->client->user = talk;
  talk->client->hook = talk_connected;
  TALK_UNTIL(talk, talk->host->failures ||
                       (talk->client->connects && talk->host->arrivals));
  if (talk_server_told(talk)) return 0;
  talk->server = host_take(talk->host);
  if (talk->server == NULL) talk->told = 1;
  return talk->server != NULL;
}

static int talk_in_streams(talk_state* talk) {
  static const size_t sizes[] = {5, 0, 3000, BIG, 1};
  size_t count = HARNESS_COUNT(sizes);
  talk->in = talk_read(talk, talk->server);
  talk->out = talk_read(talk, talk->client);
  for (uint32_t i = 0; i < count; i++) {
    talk_write(talk, talk->client, sizes[i], i);
    talk_write(talk, talk->server, sizes[i], i + 20);
  }
  if (talk->told) return 0;
  TALK_UNTIL(talk, talk->in->count >= count && talk->out->count >= count);
  for (uint32_t i = 0; i < count; i++) {
    CHECK(stream_has_pattern(talk->in, i, sizes[i], i));
    CHECK(stream_has_pattern(talk->out, i, sizes[i], i + 20));
  }
  return 1;
}

static int talk_in_reads(talk_state* talk) {
  int status;
  stream_stop(talk->in);
  test_task* read = read_try(talk->server, 8, &status);
  if (talk_told(talk, status)) return 0;
  test_task* more = read_try(talk->server, 8, &status);
  talk_told(talk, status);
  char text[] = "text";
  uv_buf_t buf = uv_buf_init(text, 4);
  talk_told(talk, CALL(talk->w, npipe_try_write(talk->client->conn, &buf, 1)));
  if (talk->told) return 0;
  TALK_UNTIL(talk, read->calls);
  if (talk_told(talk, read->status)) return 0;
  TASK_READ_TEXT(read, "text", 0);
  talk_told(talk, CALL(talk->w, npipe_cancel(talk->server->conn, more->op)));
  TALK_UNTIL(talk, more->calls);
  return more->status == UV_ECANCELED;
}

static int talk_in_flush(talk_state* talk) {
  int status;
  test_task* flush = flush_try(talk->client, 20000, &status);
  if (talk_told(talk, status)) return 0;
  TALK_UNTIL(talk, flush->calls);
  return talk_told(talk, flush->status) == 0;
}

static void talk_answer(test_task* read) {
  talk_state* talk = read->user;
  if (talk_told(talk, read->status) == 0) talk_write(talk, read->end, 5, 1);
}

static int talk_in_transaction(talk_state* talk) {
  int status;
  stream_stop(talk->out);
  test_task* read = read_try(talk->server, 8, &status);
  if (talk_told(talk, status)) return 0;
  read->user = talk;
  read->hook = talk_answer;
  test_task* ask = transact_try(talk->client, "ask", 3, 8, 20000, &status);
  if (talk_told(talk, status)) return 0;
  TALK_UNTIL(talk, ask->calls);
  if (talk_told(talk, ask->status)) return 0;
  CHECK_SIZE(5, ask->size);
  CHECK(pattern_holds(ask->data, 5, 1, 0));
  return 1;
}

/* The instance is used again, by a client that waits for it first. */
static int talk_in_next_client(talk_state* talk) {
  world* w = talk->w;
  int status;
  if (talk_told(talk, end_disconnect(talk->server))) return 0;
  test_task* listen = listen_try(talk->server, 20000, &status);
  if (talk_told(talk, status)) return 0;
  test_ask* wait = wait_try(w, w->name, 5000, NULL, &status);
  if (talk_told(talk, status)) return 0;
  TALK_UNTIL(talk, wait->calls || talk->host->failures);
  if (talk_server_told(talk) || talk_told(talk, wait->status)) return 0;
  test_ask* call = call_try(w, w->name, 5000, NULL, "call", 8, &status);
  if (talk_told(talk, status)) return 0;
  TALK_UNTIL(talk, listen->calls || call->calls || talk->host->failures);
  if (talk_server_told(talk)) return 0;
  if (call->calls) return talk_told(talk, call->status) == 0;
  if (talk_told(talk, listen->status)) return 0;
  test_task* read = read_try(talk->server, 8, &status);
  if (talk_told(talk, status)) return 0;
  read->user = talk;
  read->hook = talk_answer;
  TALK_UNTIL(talk, call->calls);
  return talk_told(talk, call->status) == 0 && call->size == 5;
}

static int talk_all(talk_state* talk, const npipe_server_options* options) {
  return talk_meet(talk, options) && talk_in_streams(talk) &&
         talk_in_reads(talk) && talk_in_flush(talk) &&
         talk_in_transaction(talk) && talk_in_next_client(talk);
}

/* One conversation, in a world and a thread of its own: what the library keeps
 * for a thread has to be gone with it. */
typedef struct trial_state {
  const npipe_server_options* options;
  char name[NPIPE_NAME_BYTES];
  int done; /* the conversation came to its good end */
  int told;
  const char* stage;
  const char* wrong;
} trial_state;

static void trial_run(void* arg) {
  trial_state* self = arg;
  talk_state talk = {.w = world_new()};
  memcpy(talk.w->name, self->name, sizeof talk.w->name);
  self->done = talk_all(&talk, self->options);
  self->told = talk.told; /* what the closing brings does not count */
  self->stage = talk.stage;
  self->wrong = world_end(talk.w);
}

static void memory_will_fail(unsigned long at, int on) {
  uv_mutex_lock(&memory.lock);
  memory.count = 0;
  memory.failed = 0;
  memory.fail_at = at;
  memory.fail_on = on;
  uv_mutex_unlock(&memory.lock);
}

/* Whether an allocation failed in it. */
static int conversation_once(const npipe_server_options* options,
                             unsigned long fail_at, int fail_on) {
  trial_state trial = {.options = options};
  uv_thread_t thread;
  unique_name(trial.name);
  memory_will_fail(fail_at, fail_on);
  watchdog_step(fail_on ? "conversation, all allocations fail after some time"
                        : "conversation, one allocation fails");
  CHECK_STATUS(0, uv_thread_create(&thread, trial_run, &trial));
  uv_thread_join(&thread);
  int failed = memory.failed;
  memory_will_fail(0, 0);
  if (trial.wrong || memory.outstanding || (!trial.done && !trial.told)) {
    print_error("the allocation number %lu%s failed: %s\n", fail_at,
                fail_on ? " and each later one" : "",
                trial.wrong ? trial.wrong : "it leaks, or nobody was told");
    print_error("the last stage was: %s\n", trial.stage);
  }
  CHECK(trial.wrong == NULL);
  CHECK_SIZE(0, memory.outstanding);
  CHECK(trial.done || trial.told);
  if (!failed) CHECK(trial.done && !trial.told);
  return failed;
}

static void conversation(const npipe_server_options* options, int fail_on) {
  unsigned long n = 1;
  while (n < FAILURES_MAX && conversation_once(options, n, fail_on)) n++;
  print_message("%lu allocations failed, one by one\n", n - 1);
  CHECK(n > 1);
  CHECK(n < FAILURES_MAX);
  CHECK(!conversation_once(options, 0, 0));
}

static void nomem_conversation(void** state) {
  (void) state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  conversation(&options, 0);
}

static void nomem_conversation_from_a_moment_on(void** state) {
  (void) state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  conversation(&options, 1);
}

static void the_allocator_has_to_be_whole(void** state) {
  (void) state;
  CHECK_STATUS(UV_EINVAL,
               npipe_replace_allocator(NULL, memory_realloc, memory_free));
  CHECK_STATUS(UV_EINVAL,
               npipe_replace_allocator(memory_malloc, NULL, memory_free));
  CHECK_STATUS(UV_EINVAL,
               npipe_replace_allocator(memory_malloc, memory_realloc, NULL));
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(the_allocator_has_to_be_whole),
      TEST(nomem_conversation),
      TEST(nomem_conversation_from_a_moment_on),
  };
  if (uv_mutex_init(&memory.lock) != 0) return 1;
  int rc = npipe_replace_allocator(memory_malloc, memory_realloc, memory_free);
  if (rc != 0) {
    fprintf(stderr, "npipe_replace_allocator: %s\n", status_name(rc));
    return 1;
  }
  return harness_main(argc, argv, "nomem", tests, HARNESS_COUNT(tests), NULL);
}
