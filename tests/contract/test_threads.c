/*
 * Loops in several threads: they are independent of each other. What
 * ThreadSanitizer looks at.
 *
 * Each thread has a world of its own and checks nothing by cmocka, whose long
 * jump works in the main thread only: it counts, and the main thread compares.
 */
#include <string.h>

#include "harness.h"

enum { ROUNDS = 300 };

typedef struct worker {
  uv_thread_t thread;
  const char* name;
  npipe_type type;
  unsigned clients;  /* a server: after so many it closes */
  unsigned gone;     /* a server: so many have left */
  unsigned answered; /* a client: answers that were right */
  int status;
  uv_sem_t ready;
  const char* wrong;
} worker;

/* ------------------------------------------------- the server's thread */

static void server_piece(test_stream* stream) {
  worker* self = stream->user;
  if (stream->ends) {
    self->gone++;
    end_close(stream->end);
    return;
  }
  const test_message* last = &stream->messages[stream->count - 1];
  write_begin(stream->end, stream->bytes + last->start, last->size);
}

static void server_client(test_host* host) {
  test_end* end = host_take(host);
  if (end == NULL) return;
  test_stream* stream = stream_begin(end, 0);
  stream->user = host->user;
  stream->hook = server_piece;
}

static void server_run(void* arg) {
  worker* self = arg;
  world* w = world_new();
  npipe_server_options options = {.type = self->type};
  test_host* host = NULL;
  self->status = host_try(w, self->name, &options, &host);
  if (host) {
    host->hook = server_client;
    host->user = self;
  }
  uv_sem_post(&self->ready);
  while (host && self->gone < self->clients) uv_run(&w->loop, UV_RUN_ONCE);
  self->wrong = world_end(w);
}

/* ------------------------------------------------- the clients' threads */

static void client_ask(test_stream* stream) {
  worker* self = stream->user;
  write_pattern(stream->end, self->answered * 11 + 1, self->answered);
}

static void client_piece(test_stream* stream) {
  worker* self = stream->user;
  size_t size = self->answered * 11 + 1;
  if (stream->ends || stream->size < size) return;
  if (pattern_holds(stream->bytes, size, self->answered, 0)) self->answered++;
  stream->size = 0; /* from the start again */
  stream->count = 0;
  if (self->answered < ROUNDS)
    client_ask(stream);
  else
    end_close(stream->end);
}

static void client_connected(test_end* end) {
  worker* self = end->user;
  self->status = end->connect_status;
  if (self->status != 0) {
    end_close(end);
    return;
  }
  test_stream* stream = stream_begin(end, 0);
  stream->user = self;
  stream->hook = client_piece;
  client_ask(stream);
}

static void client_run(void* arg) {
  worker* self = arg;
  world* w = world_new();
  test_end* end;
  self->status = end_try(w, self->name, NPIPE_WAIT_FOREVER, NULL, &end);
  if (end) {
    end->hook = client_connected;
    end->user = self;
    while (end->closes == 0) uv_run(&w->loop, UV_RUN_ONCE);
  }
  self->wrong = world_end(w);
}

/* ------------------------------------------------- tests */

static void talk(world* w, npipe_type type, unsigned clients) {
  worker server = {.name = w->name, .type = type, .clients = clients};
  worker others[4] = {{.name = w->name},
                      {.name = w->name},
                      {.name = w->name},
                      {.name = w->name}};
  watchdog_step("threads talk to each other");
  CHECK_STATUS(0, uv_sem_init(&server.ready, 0));
  CHECK_STATUS(0, uv_thread_create(&server.thread, server_run, &server));
  uv_sem_wait(&server.ready);
  for (unsigned i = 0; i < clients; i++)
    uv_thread_create(&others[i].thread, client_run, &others[i]);
  for (unsigned i = 0; i < clients; i++) uv_thread_join(&others[i].thread);
  uv_thread_join(&server.thread);
  uv_sem_destroy(&server.ready);
  CHECK_STATUS(0, server.status);
  CHECK_SIZE(clients, server.gone);
  if (server.wrong) fail_msg("server: %s", server.wrong);
  for (unsigned i = 0; i < clients; i++) {
    CHECK_STATUS(0, others[i].status);
    CHECK_SIZE(ROUNDS, others[i].answered);
    if (others[i].wrong) fail_msg("client: %s", others[i].wrong);
  }
}

static void server_and_client_in_two_threads(void** state) {
  talk(*state, NPIPE_MESSAGE, 1);
  talk(*state, NPIPE_BYTE, 1);
}

static void server_and_many_clients_in_threads(void** state) {
  talk(*state, NPIPE_MESSAGE, 4);
}

static void error_run(void* arg) {
  worker* self = arg;
  world* w = world_new();
  test_end* end;
  self->status = npipe_last_error()->code; /* nothing has failed here yet */
  for (int i = 0; i < 100; i++) {
    if (end_try(w, "a/b", 0, NULL, &end) != UV_EINVAL) self->gone++;
    if (npipe_last_error()->code != UV_EINVAL) self->gone++;
  }
  self->wrong = world_end(w);
}

static void the_last_error_belongs_to_its_thread(void** state) {
  world* w = *state;
  worker other = {.name = w->name};
  test_host* host;
  CHECK_STATUS(UV_EINVAL, host_try(w, "", NULL, &host));
  CHECK_STATUS(0, uv_thread_create(&other.thread, error_run, &other));
  for (int i = 0; i < 100; i++) {
    npipe_server_options options = {.max_instances = 1000};
    CHECK_STATUS(UV_EINVAL, host_try(w, w->name, &options, &host));
    CHECK_STATUS(UV_EINVAL, npipe_last_error()->code);
    CHECK(strstr(npipe_last_error()->text, "a/b") == NULL);
  }
  uv_thread_join(&other.thread);
  CHECK_STATUS(0, other.status);
  CHECK_SIZE(0, other.gone);
  if (other.wrong) fail_msg("%s", other.wrong);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(server_and_client_in_two_threads),
      TEST(server_and_many_clients_in_threads),
      TEST(the_last_error_belongs_to_its_thread),
  };
  return harness_main(argc, argv, "threads", tests, HARNESS_COUNT(tests), NULL);
}
