/*
 * A second process: see child.h. It is a thing of its world, which kills it at
 * the end if it still runs.
 *
 * libuv does what is needed on both systems: uv_kill() with SIGKILL is
 * TerminateProcess() on Windows. Its standard output is a pipe of libuv's and
 * its standard error is ours, so that what goes wrong in it is seen.
 */
#include "child.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pattern.h"

#define CHILD_PATH_BYTES 1024

static test_child* child_of(test_thing* thing) {
  return (test_child*) (void*) thing; /* its first member */
}

static void child_close(test_thing* thing) {
  test_child* child = child_of(thing);
  if (child->exits == 0) uv_process_kill(&child->process, SIGKILL);
}

static int child_is_over(test_thing* thing) {
  return child_of(thing)->exits > 0 && child_of(thing)->handles_open == 0;
}

static void child_check(test_thing* thing) {
  (void) thing;
}

static void child_destroy(test_thing* thing) {
  free(child_of(thing));
}

static void child_on_closed(uv_handle_t* handle) {
  test_child* child = handle->data;
  child->handles_open--;
}

static void child_on_exit(uv_process_t* process, int64_t code, int signum) {
  test_child* child = process->data;
  child->exits++;
  child->exit_code = code;
  child->exit_signal = signum;
  uv_close((uv_handle_t*) process, child_on_closed);
}

static void child_on_alloc(uv_handle_t* handle, size_t size, uv_buf_t* buf) {
  (void) size;
  test_child* child = handle->data;
  size_t rest = sizeof child->text - 1 - child->text_size;
  *buf = uv_buf_init(child->text + child->text_size, (unsigned) rest);
}

static void child_on_text(uv_stream_t* out, ssize_t size, const uv_buf_t* buf) {
  (void) buf;
  test_child* child = out->data;
  if (size > 0) child->text_size += (size_t) size;
  if (size < 0) uv_close((uv_handle_t*) out, child_on_closed);
}

static int child_spawn(test_child* child, uv_process_options_t* options) {
  uv_stdio_container_t stdio[3] = {
      {.flags = UV_IGNORE},
      {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
       .data.stream = (uv_stream_t*) &child->out},
      {.flags = UV_INHERIT_FD, .data.fd = 2},
  };
  options->stdio = stdio;
  options->stdio_count = 3;
  options->exit_cb = child_on_exit;
  return uv_spawn(&child->world->loop, &child->process, options);
}

static test_child* child_new(world* w) {
  test_child* child = must_alloc(sizeof *child);
  memset(child, 0, sizeof *child);
  child->world = w;
  child->process.data = child;
  child->thing.close = child_close;
  child->thing.is_over = child_is_over;
  child->thing.check = child_check;
  child->thing.destroy = child_destroy;
  world_adopt(w, &child->thing);
  child->handles_open = 2;
  if (uv_pipe_init(&w->loop, &child->out, 0) != 0) abort();
  child->out.data = child;
  return child;
}

static test_child* child_run(world* w, const char* role, const char* argument,
                             uv_process_options_t* options) {
  char path[CHILD_PATH_BYTES];
  size_t size = sizeof path;
  CHECK_STATUS(0, uv_exepath(path, &size));
  char word[] = CHILD_WORD;
  char* args[] = {path, word, (char*) (uintptr_t) role,
                  (char*) (uintptr_t) argument, NULL};
  options->file = path;
  options->args = args;
  test_child* child = child_new(w);
  int rc = child_spawn(child, options);
  if (rc == 0) {
    rc = uv_read_start((uv_stream_t*) &child->out, child_on_alloc,
                       child_on_text);
  }
  if (rc == 0) return child;
  print_message("a child cannot be started: %s\n", status_name(rc));
  child->exits = 1;
  uv_close((uv_handle_t*) &child->process, child_on_closed);
  uv_close((uv_handle_t*) &child->out, child_on_closed);
  return NULL;
}

test_child* child_start(world* w, const char* role, const char* argument) {
  uv_process_options_t options = {.flags = UV_PROCESS_WINDOWS_HIDE};
  test_child* child = child_run(w, role, argument, &options);
  CHECK(child != NULL);
  return child;
}

test_child* child_start_as(world* w, const char* role, const char* argument,
                           unsigned uid, unsigned gid) {
  uv_process_options_t options = {
      .flags = UV_PROCESS_SETUID | UV_PROCESS_SETGID,
      .uid = (uv_uid_t) uid,
      .gid = (uv_gid_t) gid,
  };
  return child_run(w, role, argument, &options);
}

void child_await(test_child* child, const char* word) {
  RUN_UNTIL(child->world,
            strstr(child->text, word) != NULL || child->exits > 0);
  if (strstr(child->text, word)) return;
  print_error("the child ended with %d before it said: %s\n",
              (int) child->exit_code, word);
  fail();
}

void child_kill(test_child* child) {
  if (child->exits == 0)
    CHECK_STATUS(0, uv_process_kill(&child->process, SIGKILL));
  RUN_UNTIL(child->world, child->exits > 0);
}

int child_exit_code(test_child* child) {
  RUN_UNTIL(child->world, child->exits > 0);
  return (int) child->exit_code;
}

void child_say(const char* line) {
  printf("%s\n", line);
  fflush(stdout);
}
