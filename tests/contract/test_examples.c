/*
 * The two example programs: what they promise in their head comments, on every
 * system. Each is run as a program of its own, and this test is the other end.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

#define SERVER "../examples/server"
#define CLIENT "../examples/client"
#define BIG (1024u * 1024u)

/* ------------------------------------------------------- examples/server */

static test_program* example_server(world* w) {
  test_program* program = PROGRAM(w, SERVER, w->name);
  program_await(program, "waiting for clients of ");
  return program;
}

static void server_answers(void** state) {
  world* w = *state;
  test_program* server = example_server(w);
  test_end* end = end_open(w, NULL);
  send_text(end, "hello");
  send_text(end, "");
  send_text(end, "good-bye");
  EXPECT_TEXT(end, 100, "hello", 0);
  EXPECT_TEXT(end, 100, "", 0);
  EXPECT_TEXT(end, 100, "good-bye", 0);
  program_await(server, "hello");
  program_await(server, "good-bye");
}

static void server_prints_no_control_bytes(void** state) {
  world* w = *state;
  test_program* server = example_server(w);
  test_end* end = end_open(w, NULL);
  send_text(end, "100%d %s%n \x1b[31m\\ \n\xc3\xa4.");
  program_await(server, "100%d %s%n \\x1b[31m\\x5c \\x0a\\xc3\\xa4.");
}

static void server_takes_any_size(void** state) {
  static const size_t sizes[] = {1, 65536, BIG, 0, 3 * BIG + 1};
  world* w = *state;
  example_server(w);
  test_end* end = end_open(w, NULL);
  test_stream* stream = stream_begin(end, 0);
  for (size_t i = 0; i < HARNESS_COUNT(sizes); i++)
    write_pattern(end, sizes[i], (uint32_t) i);
  RUN_UNTIL(w, stream->count == HARNESS_COUNT(sizes) || stream->ends > 0);
  for (size_t i = 0; i < HARNESS_COUNT(sizes); i++)
    CHECK(stream_has_pattern(stream, i, sizes[i], (uint32_t) i));
}

/* It must not collect answers for a client that does not read. */
static void server_bounds_what_waits(void** state) {
  enum { SIZE = 50000, MANY = 400, FEW = 60 };
  world* w = *state;
  example_server(w);
  test_end* end = end_open(w, NULL);
  size_t sent = 0;
  test_task* task = NULL;
  while (sent < MANY) {
    task = write_pattern(end, SIZE, (uint32_t) sent);
    sent++;
    for (int i = 0; i < 20 && task->calls == 0; i++) world_run_for(w, 50);
    if (task->calls == 0) break;
    CHECK_STATUS(0, task->status);
  }
  CHECK(sent < FEW);
  test_stream* stream = stream_begin(end, 0);
  CHECK_STATUS(0, task_outcome(task));
  RUN_UNTIL(w, stream->count == sent || stream->ends > 0);
  for (size_t i = 0; i < sent; i++)
    CHECK(stream_has_pattern(stream, i, SIZE, (uint32_t) i));
}

static void server_outlives_its_clients(void** state) {
  world* w = *state;
  test_program* server = example_server(w);
  for (unsigned i = 0; i < 20; i++) {
    test_end* end = end_open(w, NULL);
    for (unsigned n = 0; n < i; n++) write_pattern(end, 10000, n);
    if (i % 2 == 0) world_run_for(w, 1);
    end_shut(end);
  }
  test_end* end = end_open(w, NULL);
  send_text(end, "still there");
  EXPECT_TEXT(end, 100, "still there", 0);
  CHECK(server->exits == 0);
}

static void server_serves_many(void** state) {
  world* w = *state;
  test_end* ends[20];
  example_server(w);
  for (size_t i = 0; i < HARNESS_COUNT(ends); i++) ends[i] = end_open(w, NULL);
  for (size_t i = HARNESS_COUNT(ends); i-- > 0;) send_text(ends[i], "one");
  for (size_t i = 0; i < HARNESS_COUNT(ends); i++)
    EXPECT_TEXT(ends[i], 100, "one", 0);
}

static void server_exit_codes(void** state) {
  world* w = *state;
  example_server(w);
  CHECK_SIZE(1, program_exit_code(PROGRAM(w, SERVER, w->name)));
  CHECK_SIZE(2, program_exit_code(PROGRAM(w, SERVER, "a", "b")));
  CHECK_SIZE(2, program_exit_code(PROGRAM(w, SERVER, "a/b")));
  CHECK_SIZE(2, program_exit_code(PROGRAM(w, SERVER, "")));
}

/* ------------------------------------------------------- examples/client */

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

static test_program* client_with_input(world* w, const char* input) {
  const char* args[] = {w->name, "-", NULL};
  return program_start(w, CLIENT, args, input);
}

/* Its output has to be this, and its exit code 0. */
static void client_says(test_program* client, const char* text) {
  CHECK_SIZE(0, program_exit_code(client));
  CHECK_SIZE(strlen(text), client->text_size);
  CHECK(memcmp(text, client->text, client->text_size) == 0);
}

static void client_sends_its_argument(void** state) {
  world* w = *state;
  char full[NPIPE_NAME_BYTES + 16];
  host_open_type(w, NPIPE_MESSAGE)->hook = echo_client;
  client_says(PROGRAM(w, CLIENT, w->name, "some text"), "some text\n");
  client_says(PROGRAM(w, CLIENT, w->name, ""), "\n");
  client_says(PROGRAM(w, CLIENT, w->name), "Hello from the client\n");
  snprintf(full, sizeof full, "\\\\.\\pipe\\%s", w->name);
  client_says(PROGRAM(w, CLIENT, full, "%s%n"), "%s%n\n");
}

static void client_sends_lines(void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_MESSAGE)->hook = echo_client;
  client_says(client_with_input(w, "one\n\n\ntwo\r\n\xff\xfe\n"),
              "one\n\n\ntwo\r\n\xff\xfe\n");
  client_says(client_with_input(w, "no newline at the end"),
              "no newline at the end\n");
  client_says(client_with_input(w, ""), "");
  client_says(client_with_input(w, "\n"), "\n");
}

static void client_sends_long_lines(void** state) {
  world* w = *state;
  size_t size = 4 * BIG;
  char* input = must_alloc(size + 1);
  memset(input, 'x', size);
  for (size_t at = 100; at < size; at = at * 3) input[at] = '\n';
  input[size - 1] = '\n';
  input[size] = 0;
  host_open_type(w, NPIPE_MESSAGE)->hook = echo_client;
  test_program* client = client_with_input(w, input);
  int exit_code = program_exit_code(client);
  int same =
      client->text_size == size && memcmp(client->text, input, size) == 0;
  free(input);
  CHECK_SIZE(0, exit_code);
  CHECK(same);
}

static void client_exit_codes(void** state) {
  world* w = *state;
  CHECK_SIZE(2, program_exit_code(PROGRAM(w, CLIENT, "a", "b", "c")));
  CHECK_SIZE(2, program_exit_code(PROGRAM(w, CLIENT, "a\\b")));
  CHECK_SIZE(3, program_exit_code(PROGRAM(w, CLIENT, w->name, "x")));
  CHECK_SIZE(3, program_exit_code(client_with_input(w, "x\n")));
}

static void client_of_a_byte_pipe(void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_BYTE);
  CHECK_SIZE(1, program_exit_code(PROGRAM(w, CLIENT, w->name, "x")));
}

static void client_is_left_without_an_answer(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_program* client = PROGRAM(w, CLIENT, w->name, "x");
  test_end* end = host_accept(host);
  EXPECT_TEXT(end, 10, "x", 0);
  end_shut(end);
  CHECK_SIZE(1, program_exit_code(client));
}

/* After the client's five seconds. */
static void client_of_a_busy_server(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  host_open(w, &options);
  end_open(w, NULL);
  CHECK_SIZE(4, program_exit_code(PROGRAM(w, CLIENT, w->name, "x")));
}

/* It waits, and is served when its turn comes. */
static void client_waits_its_turn(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_host* host = host_open(w, &options);
  test_end* first = end_open(w, NULL);
  test_end* served = host_accept(host);
  host->hook = echo_client;
  test_program* client = PROGRAM(w, CLIENT, w->name, "my turn");
  world_run_for(w, 500);
  CHECK(client->exits == 0);
  end_shut(first);
  end_shut(served);
  client_says(client, "my turn\n");
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(server_answers),
      TEST(server_prints_no_control_bytes),
      TEST(server_takes_any_size),
      TEST(server_bounds_what_waits),
      TEST(server_outlives_its_clients),
      TEST(server_serves_many),
      TEST(server_exit_codes),
      TEST(client_sends_its_argument),
      TEST(client_sends_lines),
      TEST(client_sends_long_lines),
      TEST(client_exit_codes),
      TEST(client_of_a_byte_pipe),
      TEST(client_is_left_without_an_answer),
      TEST(client_of_a_busy_server),
      TEST(client_waits_its_turn),
  };
  return harness_main(argc, argv, "examples", tests, HARNESS_COUNT(tests),
                      NULL);
}
