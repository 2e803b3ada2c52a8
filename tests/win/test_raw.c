/*
 * npipe and plain Win32: raw_server and raw_client, which contain no npipe
 * code, talk to our client and to our server.
 *
 * They are programs beside this one (program.h). They check what they get
 * themselves and say so by their exit code; what they say on standard error is
 * seen in the output of the test.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"
#include "raw_pattern.h"

#define WAIT_MS "20000" /* of a raw client at a busy pipe */
#define BIG (1024u * 1024u)

/* Empty, short, and around each size that is a buffer's somewhere. */
static const size_t sizes[] = {0,    1,    5,     511,   512,   513, 4095,
                               4096, 4097, 65535, 65536, 65537, BIG};
#define SIZES HARNESS_COUNT(sizes)
#define SIZES_AS_TEXT \
  "0", "1", "5", "511", "512", "513", "4095", "4096", "4097", "65535", \
      "65536", "65537", "1048576"

/* ------------------------------------------------------- Raw programs */

/* It has to end well. */
static void raw_finish(test_program* program) {
  CHECK_STATUS(0, program_exit_code(program));
}

/* A raw server, as soon as its name exists. */
static test_program* raw_server(world* w, const char* mode,
                                const char* instances, const char* clients,
                                const char* hold_ms, const char* messages) {
  test_program* program = PROGRAM(w, "raw_server", w->name, mode, instances,
                                  clients, hold_ms, messages);
  program_await(program, "ready");
  return program;
}

/* ------------------------------------------------ Our server, raw clients */

static void echo_piece(test_stream* stream) {
  if (stream->ends > 0) {
    end_close(stream->end);
    return;
  }
  const test_message* message = &stream->messages[stream->count - 1];
  write_begin(stream->end, stream->bytes + message->start, message->size);
}

static void echo_client(test_host* host) {
  test_end* end = host_take(host);
  if (end != NULL) stream_begin(end, 0)->hook = echo_piece;
}

static test_host* echo_server(world* w, npipe_type type,
                              unsigned max_instances) {
  npipe_server_options options = {.type = type, .max_instances = max_instances};
  test_host* host = host_open(w, &options);
  host->hook = echo_client;
  return host;
}

static void server_raw_messages(void** state) {
  world* w = *state;
  test_host* host = echo_server(w, NPIPE_MESSAGE, 0);
  raw_finish(PROGRAM(w, "raw_client", w->name, "message", WAIT_MS, "2",
                     SIZES_AS_TEXT));
  CHECK_SIZE(1, host->taken);
}

static void server_raw_bytes(void** state) {
  world* w = *state;
  echo_server(w, NPIPE_BYTE, 0);
  raw_finish(
      PROGRAM(w, "raw_client", w->name, "byte", WAIT_MS, "2", SIZES_AS_TEXT));
}

/* LN2: what a client wrote that has gone can be read, and then the end. */
static void server_raw_comes_and_goes(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  raw_finish(PROGRAM(w, "raw_client", w->name, "message", WAIT_MS, "0", "5",
                     "0", "4096", "7"));
  test_end* end = host_accept(host);
  test_stream* stream = stream_begin(end, 0);
  RUN_UNTIL(w, stream->ends > 0);
  CHECK_STATUS(UV_EOF, stream->end_status);
  static const size_t sent[] = {5, 0, 4096, 7};
  CHECK_SIZE(HARNESS_COUNT(sent), stream->count);
  for (size_t i = 0; i < stream->count; i++) {
    CHECK_SIZE(sent[i], stream->messages[i].size);
    CHECK(raw_is_right(stream->bytes + stream->messages[i].start, sent[i]));
  }
  end_shut(end);
  host->hook = echo_client;
  raw_finish(PROGRAM(w, "raw_client", w->name, "message", WAIT_MS, "1", "5"));
}

static void server_raw_is_killed(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_program* victim = PROGRAM(w, "raw_client", w->name, "message", WAIT_MS,
                                 "100000", "100", "70000");
  test_stream* stream = stream_begin(host_accept(host), 0);
  stream->hook = echo_piece;
  RUN_UNTIL(w, stream->count > 4);
  program_kill(victim);
  RUN_UNTIL(w, stream->ends > 0);
  CHECK_STATUS(UV_EOF, stream->end_status);
  host->hook = echo_client;
  raw_finish(PROGRAM(w, "raw_client", w->name, "message", WAIT_MS, "1",
                     SIZES_AS_TEXT));
}

static void raw_clients_at_once(world* w, unsigned max_instances) {
  test_program* clients[5];
  test_host* host = echo_server(w, NPIPE_MESSAGE, max_instances);
  for (size_t i = 0; i < HARNESS_COUNT(clients); i++)
    clients[i] = PROGRAM(w, "raw_client", w->name, "message", WAIT_MS, "5", "0",
                         "5", "512", "4096", "65536");
  for (size_t i = 0; i < HARNESS_COUNT(clients); i++) raw_finish(clients[i]);
  CHECK_SIZE(HARNESS_COUNT(clients), host->taken);
}

static void server_raw_clients_in_parallel(void** state) {
  raw_clients_at_once(*state, NPIPE_INSTANCES_UNLIMITED);
}

static void server_raw_clients_take_turns(void** state) {
  raw_clients_at_once(*state, 1);
}

/* ------------------------------------------------ Our client, raw servers */

static test_end* raw_connect(world* w, npipe_read_mode mode) {
  npipe_client_options options = {.read_mode = mode};
  test_end* end = end_connect(w, w->name, CONNECT_MS, &options);
  CHECK_STATUS(0, end_outcome(end));
  return end;
}

static void send_size(test_end* end, size_t size) {
  unsigned char* data = must_alloc(size);
  raw_fill(data, size);
  write_begin(end, data, size);
  free(data);
}

static void client_raw_messages(void** state) {
  world* w = *state;
  test_program* server = raw_server(w, "message", "255", "1", "0", "0");
  test_end* end = raw_connect(w, NPIPE_READ_MESSAGES);
  test_stream* stream = stream_begin(end, 0);
  for (size_t i = 0; i < SIZES; i++) send_size(end, sizes[i]);
  RUN_UNTIL(w, stream->count == SIZES || stream->ends > 0);
  CHECK_SIZE(SIZES, stream->count);
  for (size_t i = 0; i < SIZES; i++) {
    CHECK_SIZE(sizes[i], stream->messages[i].size);
    CHECK(raw_is_right(stream->bytes + stream->messages[i].start, sizes[i]));
  }
  end_shut(end);
  raw_finish(server);
}

/* The ERROR_MORE_DATA loop, on our side. */
static void client_raw_message_in_pieces(void** state) {
  world* w = *state;
  enum { PIECE = 512, WHOLE = 8 * PIECE + 100 };
  unsigned char answer[WHOLE];
  test_program* server = raw_server(w, "message", "255", "1", "0", "0");
  test_end* end = raw_connect(w, NPIPE_READ_MESSAGES);
  send_size(end, WHOLE);
  send_size(end, 0);
  send_size(end, PIECE);
  for (size_t at = 0; at < WHOLE; at += PIECE) {
    test_task* task = read_begin(end, PIECE);
    CHECK_STATUS(0, task_outcome(task));
    CHECK_SIZE(WHOLE - at < PIECE ? WHOLE - at : PIECE, task->size);
    CHECK_SIZE(WHOLE - at > PIECE ? NPIPE_MORE : 0, task->flags);
    memcpy(answer + at, task->data, task->size);
  }
  CHECK(raw_is_right(answer, WHOLE));
  EXPECT_TEXT(end, PIECE, "", 0);
  test_task* task = read_begin(end, PIECE);
  CHECK_STATUS(0, task_outcome(task));
  CHECK_SIZE(PIECE, task->size);
  CHECK_SIZE(0, task->flags);
  CHECK(raw_is_right(task->data, PIECE));
  end_shut(end);
  raw_finish(server);
}

static void client_raw_bytes(void** state) {
  world* w = *state;
  size_t sum = 0;
  test_program* server = raw_server(w, "byte", "255", "1", "0", "0");
  test_end* end = raw_connect(w, NPIPE_READ_BYTES);
  test_stream* stream = stream_begin(end, 0);
  for (size_t i = 0; i < SIZES; i++) {
    send_size(end, sizes[i]);
    sum += sizes[i];
  }
  RUN_UNTIL(w, stream->size >= sum || stream->ends > 0);
  CHECK_SIZE(sum, stream->size);
  for (size_t i = 0, at = 0; i < SIZES; at += sizes[i], i++)
    CHECK(raw_is_right(stream->bytes + at, sizes[i]));
  end_shut(end);
  raw_finish(server);
}

/* Message read mode of a byte pipe: UV_EINVAL, whoever made the pipe. */
static void client_raw_wrong_type(void** state) {
  world* w = *state;
  test_program* server = raw_server(w, "byte", "255", "2", "0", "0");
  npipe_client_options options = {.read_mode = NPIPE_READ_MESSAGES};
  CHECK_STATUS(UV_EINVAL, connect_outcome(w, w->name, CONNECT_MS, &options));
  end_shut(raw_connect(w, NPIPE_READ_AS_TYPE));
  raw_finish(server);
}

/* A client that asks one question as soon as it is connected and closes when
 * it has the answer. */
#define QUESTION_BYTES 5000u

static void asker_answered(test_stream* stream) {
  int* answers = stream->user;
  if (stream->count == 1 && stream->messages[0].size == QUESTION_BYTES &&
      raw_is_right(stream->bytes, QUESTION_BYTES))
    ++*answers;
  end_close(stream->end);
}

static void asker_connected(test_end* end) {
  if (end->connect_status != 0) return;
  test_stream* stream = stream_begin(end, 0);
  stream->hook = asker_answered;
  stream->user = end->user;
  send_size(end, QUESTION_BYTES);
}

static test_end* asker_start(world* w, int* answers) {
  test_end* end = end_connect(w, w->name, CONNECT_MS, NULL);
  end->hook = asker_connected;
  end->user = answers;
  return end;
}

static void client_raw_servers_in_parallel(void** state) {
  world* w = *state;
  int answers = 0;
  test_end* askers[6];
  test_program* server = raw_server(w, "message", "255", "6", "50", "0");
  for (size_t i = 0; i < HARNESS_COUNT(askers); i++)
    askers[i] = asker_start(w, &answers);
  for (size_t i = 0; i < HARNESS_COUNT(askers); i++) {
    CHECK_STATUS(0, end_outcome(askers[i]));
    RUN_UNTIL(w, askers[i]->closes > 0);
  }
  CHECK_SIZE(HARNESS_COUNT(askers), answers);
  raw_finish(server);
}

/* One instance: the others are told it is busy, or wait until it is theirs. */
static void client_raw_server_is_busy(void** state) {
  world* w = *state;
  int answers = 0;
  test_program* server = raw_server(w, "message", "1", "3", "1000", "0");
  test_end* first = asker_start(w, &answers);
  CHECK_STATUS(0, end_outcome(first));
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  CHECK_STATUS(UV_ETIMEDOUT, connect_outcome(w, w->name, 100, NULL));
  CHECK(first->closes == 0);
  test_end* second = asker_start(w, &answers);
  test_end* third = asker_start(w, &answers);
  CHECK_STATUS(0, end_outcome(second));
  CHECK_STATUS(0, end_outcome(third));
  RUN_UNTIL(w, second->closes > 0 && third->closes > 0);
  CHECK_SIZE(3, answers);
  raw_finish(server);
}

/* FlushFileBuffers and DisconnectNamedPipe: all answers, then the abort. */
static void client_raw_server_disconnects(void** state) {
  world* w = *state;
  test_program* server = raw_server(w, "message", "1", "1", "0", "3");
  test_end* end = raw_connect(w, NPIPE_READ_MESSAGES);
  send_size(end, 10);
  send_size(end, 70000);
  send_size(end, 0);
  world_run_for(w, 200); /* the answers wait, nobody reads */
  test_stream* stream = stream_begin(end, 0);
  RUN_UNTIL(w, stream->ends > 0);
  CHECK_STATUS(UV_ECONNABORTED, stream->end_status);
  CHECK_SIZE(3, stream->count);
  CHECK_SIZE(70000, stream->messages[1].size);
  CHECK(raw_is_right(stream->bytes + 10, 70000));
  CHECK_STATUS(UV_ECONNABORTED, task_outcome(write_begin(end, "x", 1)));
  raw_finish(server);
}

static void client_raw_server_is_killed(void** state) {
  world* w = *state;
  test_program* server = raw_server(w, "message", "1", "1", "0", "0");
  test_end* end = raw_connect(w, NPIPE_READ_MESSAGES);
  test_stream* stream = stream_begin(end, 0);
  send_size(end, 10);
  RUN_UNTIL(w, stream->count == 1);
  program_kill(server);
  RUN_UNTIL(w, stream->ends > 0);
  CHECK_STATUS(UV_EOF, stream->end_status);
  CHECK_STATUS(UV_EPIPE, task_outcome(write_begin(end, "x", 1)));
  end_shut(end);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, CONNECT_MS, NULL));
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(server_raw_messages),
      TEST(server_raw_bytes),
      TEST(server_raw_comes_and_goes),
      TEST(server_raw_is_killed),
      TEST(server_raw_clients_in_parallel),
      TEST(server_raw_clients_take_turns),
      TEST(client_raw_messages),
      TEST(client_raw_message_in_pieces),
      TEST(client_raw_bytes),
      TEST(client_raw_wrong_type),
      TEST(client_raw_servers_in_parallel),
      TEST(client_raw_server_is_busy),
      TEST(client_raw_server_disconnects),
      TEST(client_raw_server_is_killed),
  };
  return harness_main(argc, argv, "raw", tests, HARNESS_COUNT(tests), NULL);
}
