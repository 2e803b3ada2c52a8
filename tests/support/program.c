/*
 * Other programs as processes of a test: see program.h.
 *
 * uv_kill() with SIGKILL is TerminateProcess() on Windows. Three handles hang
 * on a program, the process and the pipes of what it says, each closed by its
 * own last event. It does not inherit our standard error: a program that
 * outlives a test that crashed would hold it open, and CTest would wait.
 *
 * Its input is a file, because a pipe that it does not read to the end would
 * mean SIGPIPE for us, and a test must not ignore that signal: it would hide
 * that the library lets it come.
 */
#include "program.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pattern.h"

#define ARGS_MAX 32

static test_program* program_of(test_thing* thing) {
  return (test_program*) (void*) thing; /* its first member */
}

static void program_close(test_thing* thing) {
  test_program* program = program_of(thing);
  if (program->exits == 0) uv_process_kill(&program->process, SIGKILL);
}

static int program_is_over(test_thing* thing) {
  return program_of(thing)->exits > 0 && program_of(thing)->handles_open == 0;
}

static void program_check(test_thing* thing) {
  (void) thing;
}

static void program_destroy(test_thing* thing) {
  test_program* program = program_of(thing);
  uv_fs_t request;
  if (program->input_path[0] != 0) {
    uv_fs_unlink(NULL, &request, program->input_path, NULL);
    uv_fs_req_cleanup(&request);
  }
  free(program->text);
  free(program);
}

static void program_on_closed(uv_handle_t* handle) {
  test_program* program = handle->data;
  program->handles_open--;
}

static void program_on_exit(uv_process_t* process, int64_t code, int signum) {
  test_program* program = process->data;
  program->exits++;
  program->exit_code = signum != 0 ? 128 + signum : code;
  uv_close((uv_handle_t*) process, program_on_closed);
}

static void program_on_alloc(uv_handle_t* handle, size_t size, uv_buf_t* buf) {
  test_program* program = handle->data;
  if (program->text_room - program->text_size <= size) {
    program->text_room = 2 * program->text_room + size + 1;
    program->text = must_realloc(program->text, program->text_room);
  }
  *buf = uv_buf_init(program->text + program->text_size, (unsigned) size);
}

static void program_on_text(uv_stream_t* out, ssize_t size,
                            const uv_buf_t* buf) {
  test_program* program = out->data;
  (void) buf;
  if (size > 0) program->text_size += (size_t) size;
  program->text[program->text_size] = 0;
  if (size < 0) uv_close((uv_handle_t*) out, program_on_closed);
}

static void program_on_err_alloc(uv_handle_t* handle, size_t size,
                                 uv_buf_t* buf) {
  test_program* program = handle->data;
  (void) size;
  *buf = uv_buf_init(program->err_text, sizeof program->err_text);
}

static void program_on_err(uv_stream_t* err, ssize_t size,
                           const uv_buf_t* buf) {
  if (size > 0) fwrite(buf->base, 1, (size_t) size, stderr);
  if (size < 0) uv_close((uv_handle_t*) err, program_on_closed);
}

/* The place, beside the test program, and with the same ending as that. */
static void program_path(const char* place, char path[PROGRAM_PATH_BYTES]) {
  size_t size = PROGRAM_PATH_BYTES;
  CHECK_STATUS(0, uv_exepath(path, &size));
  const char* ending = strstr(path, ".exe") != NULL ? ".exe" : "";
  while (size > 0 && path[size - 1] != '\\' && path[size - 1] != '/') size--;
  CHECK(size + strlen(place) + strlen(ending) < PROGRAM_PATH_BYTES);
  snprintf(path + size, PROGRAM_PATH_BYTES - size, "%s%s", place, ending);
}

static test_program* program_new(world* w) {
  test_program* program = must_alloc(sizeof *program);
  memset(program, 0, sizeof *program);
  program->text_room = 1;
  program->text = must_alloc(1);
  program->text[0] = 0;
  program->world = w;
  program->process.data = program;
  program->out.data = program;
  program->err.data = program;
  program->thing.close = program_close;
  program->thing.is_over = program_is_over;
  program->thing.check = program_check;
  program->thing.destroy = program_destroy;
  if (uv_pipe_init(&w->loop, &program->out, 0) != 0) abort();
  if (uv_pipe_init(&w->loop, &program->err, 0) != 0) abort();
  program->handles_open = 3;
  world_adopt(w, &program->thing);
  return program;
}

static void program_close_input(int fd) {
  uv_fs_t request;
  uv_fs_close(NULL, &request, fd, NULL);
  uv_fs_req_cleanup(&request);
}

/* A file with this text; a descriptor to read it by. */
static int program_input(char path[PROGRAM_PATH_BYTES], const char* text) {
  uv_fs_t request;
  char folder[PROGRAM_PATH_BYTES - 32];
  size_t size = sizeof folder;
  uv_buf_t buf = uv_buf_init(NULL, 0);
  buf.base = (char*) (uintptr_t) text; /* never written */
  buf.len = (unsigned) strlen(text);
  CHECK_STATUS(0, uv_os_tmpdir(folder, &size));
  snprintf(path, PROGRAM_PATH_BYTES, "%s/npipe-input-XXXXXX", folder);
  int fd = uv_fs_mkstemp(NULL, &request, path, NULL);
  CHECK(fd >= 0);
  snprintf(path, PROGRAM_PATH_BYTES, "%s", request.path);
  uv_fs_req_cleanup(&request);
  CHECK_SIZE(buf.len, uv_fs_write(NULL, &request, fd, &buf, 1, 0, NULL));
  uv_fs_req_cleanup(&request);
  program_close_input(fd);
  fd = uv_fs_open(NULL, &request, path, UV_FS_O_RDONLY, 0, NULL);
  uv_fs_req_cleanup(&request);
  CHECK(fd >= 0);
  return fd;
}

/* input: a descriptor, or -1. */
static int program_spawn(test_program* program, char* path, char** args,
                         int input) {
  uv_stdio_container_t stdio[3] = {
      {.flags = input < 0 ? UV_IGNORE : UV_INHERIT_FD, .data.fd = input},
      {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
       .data.stream = (uv_stream_t*) &program->out},
      {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
       .data.stream = (uv_stream_t*) &program->err},
  };
  uv_process_options_t options = {.file = path,
                                  .args = args,
                                  .flags = UV_PROCESS_WINDOWS_HIDE,
                                  .stdio = stdio,
                                  .stdio_count = 3,
                                  .exit_cb = program_on_exit};
  return uv_spawn(&program->world->loop, &program->process, &options);
}

test_program* program_start(world* w, const char* place,
                            const char* const args[], const char* input) {
  char path[PROGRAM_PATH_BYTES];
  program_path(place, path);
  char* copies[ARGS_MAX] = {path};
  size_t count = 1;
  for (; args[count - 1] != NULL; count++) {
    CHECK(count + 1 < ARGS_MAX);
    copies[count] = (char*) (uintptr_t) args[count - 1];
  }
  char input_path[PROGRAM_PATH_BYTES] = "";
  int fd = input != NULL ? program_input(input_path, input) : -1;
  test_program* program = program_new(w);
  memcpy(program->input_path, input_path, sizeof input_path);
  int status = program_spawn(program, path, copies, fd);
  if (fd >= 0) program_close_input(fd);
  if (status == 0)
    status = uv_read_start((uv_stream_t*) &program->out, program_on_alloc,
                           program_on_text);
  if (status == 0)
    status = uv_read_start((uv_stream_t*) &program->err, program_on_err_alloc,
                           program_on_err);
  if (status == 0) return program;
  print_error("%s cannot be started: %s\n", path, status_name(status));
  program->exits = 1;
  uv_close((uv_handle_t*) &program->process, program_on_closed);
  uv_close((uv_handle_t*) &program->out, program_on_closed);
  uv_close((uv_handle_t*) &program->err, program_on_closed);
  fail();
  return NULL;
}

void program_await(test_program* program, const char* words) {
  RUN_UNTIL(program->world, strstr(program->text, words) != NULL ||
                                program_is_over(&program->thing));
  if (strstr(program->text, words) != NULL) return;
  print_error("the program ended with %d before it said: %s\n",
              (int) program->exit_code, words);
  fail();
}

int program_exit_code(test_program* program) {
  RUN_UNTIL(program->world, program_is_over(&program->thing));
  return (int) program->exit_code;
}

void program_kill(test_program* program) {
  if (program->exits == 0)
    CHECK_STATUS(0, uv_process_kill(&program->process, SIGKILL));
  RUN_UNTIL(program->world, program_is_over(&program->thing));
}
