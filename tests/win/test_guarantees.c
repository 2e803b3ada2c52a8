/*
 * npipe and plain Win32, what goes beyond reads and writes: raw_peer, which
 * contains no npipe code, waits for an instance, transacts, peeks, flushes and
 * is thrown out by us, and does the same to us. And what other programs see of
 * our pipes: access lists, and the number of instances.
 */
#include "harness.h"

#include <string.h>

#include "program.h"
#include "win.h"

#define FOREVER NPIPE_WAIT_FOREVER

static void raw_finish(test_program* program) {
  CHECK_STATUS(0, program_exit_code(program));
}

static test_end* raw_connect(world* w) {
  test_end* end = end_connect(w, w->name, CONNECT_MS, NULL);
  CHECK_STATUS(0, end_outcome(end));
  return end;
}

/* ------------------------------------------------ Our server, raw clients */

/* LN4, WT5: the instance that npipe_listen() offers is what it waits for. */
static void raw_waits_for_a_listen(void** state) {
  world* w = *state;
  npipe_server_options options = {.type = NPIPE_MESSAGE, .max_instances = 1};
  test_pair pair = pair_open(w, &options, NULL);
  CHECK_STATUS(0, end_disconnect(pair.server));
  test_program* raw = PROGRAM(w, "raw_peer", w->name, "wait");
  program_await(raw, "waiting");
  world_run_for(w, 100);
  CHECK_SIZE(0, raw->exits);
  test_task* listen = listen_begin(pair.server, FOREVER);
  CHECK_STATUS(0, task_outcome(listen));
  EXPECT_TEXT(pair.server, 16, "question", 0);
  send_text(pair.server, "answer");
  raw_finish(raw);
  EXPECT_STATUS(pair.server, 16, UV_EOF);
}

static void raw_client_transacts(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_program* raw = PROGRAM(w, "raw_peer", w->name, "transact");
  test_end* end = host_accept(host);
  EXPECT_TEXT(end, 16, "question", 0);
  send_text(end, "answer");
  raw_finish(raw);
}

static void raw_client_peeks(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_program* raw = PROGRAM(w, "raw_peer", w->name, "peek");
  test_end* end = host_accept(host);
  program_await(raw, "connected");
  send_text(end, "first");
  send_text(end, "two");
  CHECK_STATUS(0, task_outcome(flush_begin(end, 20000)));
  raw_finish(raw);
}

/* FL1: its flush waits for our reads. */
static void raw_client_flushes(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_program* raw = PROGRAM(w, "raw_peer", w->name, "flush");
  test_end* end = host_accept(host);
  program_await(raw, "written");
  world_run_for(w, 200);
  CHECK(strstr(raw->text, "flushed") == NULL);
  EXPECT_TEXT(end, 16, "question", 0);
  program_await(raw, "flushed");
  send_text(end, "answer");
  raw_finish(raw);
}

static void raw_client_is_thrown_out(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  test_program* raw = PROGRAM(w, "raw_peer", w->name, "thrown-out");
  test_end* end = host_accept(host);
  program_await(raw, "connected");
  CHECK_STATUS(0, end_disconnect(end));
  raw_finish(raw);
}

/* ------------------------------------------------ Our client, raw servers */

static void raw_server_transacts(void** state) {
  world* w = *state;
  test_program* raw = PROGRAM(w, "raw_peer", w->name, "ask");
  program_await(raw, "ready");
  test_end* end = raw_connect(w);
  EXPECT_TEXT(end, 16, "question", 0);
  send_text(end, "answer");
  raw_finish(raw);
}

/* Its flush ends when we have read; then we learn that we are out, and the
 * instance is for the next one. */
static void raw_server_throws_us_out(void** state) {
  world* w = *state;
  test_program* raw = PROGRAM(w, "raw_peer", w->name, "throw-out");
  program_await(raw, "ready");
  test_end* end = raw_connect(w);
  world_run_for(w, 100);
  CHECK(strstr(raw->text, "thrown out") == NULL);
  EXPECT_TEXT(end, 16, "first", 0);
  program_await(raw, "thrown out");
  EXPECT_STATUS(end, 16, UV_ECONNABORTED);
  CHECK_STATUS(UV_ECONNABORTED, task_outcome(write_begin(end, "x", 1)));
  test_end* next = raw_connect(w);
  test_task* task = transact_begin(next, "question", 16, 20000);
  CHECK_STATUS(0, task_outcome(task));
  TASK_READ_TEXT(task, "answer", 0);
  raw_finish(raw);
}

/* ------------------------------------------------ What others see */

static HANDLE raw_open(const world* w) {
  char path[NPIPE_NAME_BYTES + 16];
  snprintf(path, sizeof path, "\\\\.\\pipe\\%s", w->name);
  HANDLE pipe = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, 0, NULL,
                            OPEN_EXISTING, 0, NULL);
  CHECK(pipe != INVALID_HANDLE_VALUE);
  return pipe;
}

static unsigned marks_of(world* w, const npipe_server_options* options) {
  test_host* host = host_open(w, options);
  HANDLE pipe = raw_open(w);
  unsigned marks = npi_security_marks(pipe, NULL);
  CloseHandle(pipe);
  host_shut(host);
  return marks;
}

static void marks_are_in_the_access_list(void** state) {
  world* w = *state;
  const char* sddl = "D:P(A;;FA;;;WD)";
  npipe_server_options plain = {.max_instances = 3};
  npipe_server_options one = {.max_instances = 1};
  npipe_server_options shared = {.shared = 1, .max_instances = 1};
  npipe_server_options own = {.shared = 1, .windows_sddl = sddl};
  CHECK(marks_of(w, NULL) == 0);
  CHECK(marks_of(w, &plain) == 0);
  CHECK(marks_of(w, &one) == NPI_MARK_ONE);
  CHECK(marks_of(w, &shared) == NPI_MARK_SHARED);
  CHECK(marks_of(w, &own) == NPI_MARK_SHARED);
}

static void a_bad_descriptor_is_refused(void** state) {
  world* w = *state;
  /* Not one that is cut off in the middle: Wine reads on behind its end. */
  static const char* const bad[] = {"", "nonsense", "\xff", "O:SY"};
  for (size_t i = 0; i < HARNESS_COUNT(bad); i++) {
    npipe_server_options options = {.windows_sddl = bad[i]};
    test_host* host;
    CHECK_STATUS(UV_EINVAL, host_try(w, w->name, &options, &host));
    CHECK(npipe_last_error()->code == UV_EINVAL);
    CHECK(strstr(npipe_last_error()->text, "windows_sddl") != NULL);
  }
}

/* CR2: what the system has as 2 is 1 for our clients. */
static void a_client_is_told_the_instances_of_the_options(void** state) {
  world* w = *state;
  for (unsigned max = 1; max <= 3; max++) {
    npipe_server_options options = {.max_instances = max};
    test_pair pair = pair_open(w, &options, NULL);
    CHECK_SIZE(max, end_info(pair.client).max_instances);
    CHECK_SIZE(max, end_info(pair.server).max_instances);
    pair_shut(&pair);
  }
}

/* The state of a server's end, which an outbound one on Windows has to ask for
 * in another way (CR11). */
static void the_state_is_known_in_every_direction(void** state) {
  world* w = *state;
  for (int d = NPIPE_DUPLEX; d <= NPIPE_OUTBOUND; d++) {
    npipe_server_options options = {.direction = (npipe_direction) d};
    npipe_client_options client = {
        .access = d == NPIPE_INBOUND    ? NPIPE_WRITE_ONLY
                  : d == NPIPE_OUTBOUND ? NPIPE_READ_ONLY
                                        : NPIPE_READ_WRITE};
    test_pair pair = pair_open(w, &options, &client);
    CHECK(end_state(pair.server) == NPIPE_STATE_CONNECTED);
    CHECK(end_info(pair.client).direction == (npipe_direction) d);
    end_shut(pair.client);
    CHECK(end_state(pair.server) == NPIPE_STATE_CLOSING);
    pair_shut(&pair);
  }
}

/* ------------------------------------------------ Shared names */

static int share_try(world* w, npipe_type type, npipe_direction direction,
                     unsigned max, int shared, test_host** host) {
  npipe_server_options options = {.type = type,
                                  .direction = direction,
                                  .max_instances = max,
                                  .shared = shared};
  return host_try(w, w->name, &options, host);
}

static void two_servers_share_a_name(void** state) {
  world* w = *state;
  test_host* first;
  test_host* second;
  test_host* none;
  CHECK_STATUS(0, share_try(w, NPIPE_MESSAGE, NPIPE_DUPLEX, 2, 1, &first));
  CHECK_STATUS(0, share_try(w, NPIPE_MESSAGE, NPIPE_DUPLEX, 7, 1, &second));
  CHECK_STATUS(UV_EBUSY,
               share_try(w, NPIPE_MESSAGE, NPIPE_DUPLEX, 2, 1, &none));
  CHECK_STATUS(UV_EADDRINUSE,
               share_try(w, NPIPE_MESSAGE, NPIPE_DUPLEX, 2, 0, &none));
  test_end* one = raw_connect(w);
  test_end* two = raw_connect(w);
  CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
  test_end* at_first = host_accept(first);
  test_end* at_second = host_accept(second);
  CHECK_SIZE(2, end_info(at_second).max_instances);
  CHECK_SIZE(2, end_info(two).max_instances);
  /* The first leaves; the second keeps the name and gets its place. */
  end_shut(one);
  end_shut(at_first);
  host_shut(first);
  test_end* three = raw_connect(w);
  test_end* at_second_too = host_accept(second);
  send_text(three, "three");
  EXPECT_TEXT(at_second_too, 16, "three", 0);
  end_shut(at_second);
  end_shut(at_second_too);
  host_shut(second);
  end_shut(two);
  end_shut(three);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
}

static void who_may_join(void** state) {
  world* w = *state;
  test_host* first;
  test_host* none;
  CHECK_STATUS(0, share_try(w, NPIPE_BYTE, NPIPE_INBOUND, 0, 1, &first));
  CHECK_STATUS(UV_EACCES,
               share_try(w, NPIPE_BYTE, NPIPE_OUTBOUND, 0, 1, &none));
  CHECK_STATUS(UV_EACCES, share_try(w, NPIPE_BYTE, NPIPE_DUPLEX, 0, 1, &none));
  CHECK_STATUS(UV_EINVAL,
               share_try(w, NPIPE_MESSAGE, NPIPE_INBOUND, 0, 1, &none));
  CHECK_STATUS(UV_EADDRINUSE,
               share_try(w, NPIPE_BYTE, NPIPE_INBOUND, 0, 0, &none));
  host_shut(first);
  CHECK_STATUS(0, share_try(w, NPIPE_BYTE, NPIPE_INBOUND, 0, 0, &first));
  CHECK_STATUS(UV_EADDRINUSE,
               share_try(w, NPIPE_BYTE, NPIPE_INBOUND, 0, 1, &none));
  CHECK_STATUS(UV_EADDRINUSE,
               share_try(w, NPIPE_BYTE, NPIPE_DUPLEX, 0, 1, &none));
}

/* One that listens no more because another server has the only instance gets it
 * back when that leaves. */
static void the_only_instance_goes_round(void** state) {
  world* w = *state;
  test_host* first;
  test_host* second;
  CHECK_STATUS(0, share_try(w, NPIPE_BYTE, NPIPE_DUPLEX, 1, 1, &first));
  CHECK_STATUS(UV_EBUSY, share_try(w, NPIPE_BYTE, NPIPE_DUPLEX, 1, 1, &second));
  for (int i = 0; i < 5; i++) {
    test_end* client = raw_connect(w);
    test_end* server = host_accept(first);
    CHECK_STATUS(UV_EBUSY, connect_outcome(w, w->name, 0, NULL));
    end_shut(client);
    end_shut(server);
    RUN_UNTIL(w, connect_outcome(w, w->name, 0, NULL) != UV_ENOENT);
    end_shut(host_accept(first));
    world_run_for(w, 150);
  }
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(raw_waits_for_a_listen),
      TEST(raw_client_transacts),
      TEST(raw_client_peeks),
      TEST(raw_client_flushes),
      TEST(raw_client_is_thrown_out),
      TEST(raw_server_transacts),
      TEST(raw_server_throws_us_out),
      TEST(marks_are_in_the_access_list),
      TEST(a_bad_descriptor_is_refused),
      TEST(a_client_is_told_the_instances_of_the_options),
      TEST(the_state_is_known_in_every_direction),
      TEST(two_servers_share_a_name),
      TEST(who_may_join),
      TEST(the_only_instance_goes_round),
  };
  return harness_main(argc, argv, "guarantees", tests, HARNESS_COUNT(tests),
                      NULL);
}
