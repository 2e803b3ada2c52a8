/*
 * Single operations that record: see ends.h.
 *
 * A write owns a copy of its data and frees it in its callback: a library that
 * looked at borrowed data later would be caught by AddressSanitizer. A read
 * owns a buffer of exactly its size, for the same reason, filled before with a
 * byte that is checked to be untouched behind what was read. So does a
 * transaction; its request is freed at once, because the library copies it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ends.h"
#include "pattern.h"

#define UNTOUCHED 0xA5

static test_task* task_of(test_thing* thing) {
  return (test_task*) (void*) thing; /* its first member */
}

static void task_close(test_thing* thing) {
  end_abort(task_of(thing)->end);
}

static int task_is_over(test_thing* thing) {
  return task_of(thing)->calls > 0;
}

static void task_check(test_thing* thing) {
  test_task* task = task_of(thing);
  if (task->calls != 1)
    world_violation(task->world, "an operation called back twice");
  if (task->end->closes && task->stamp > task->end->close_stamp)
    world_violation(task->world, "an operation ended after the close callback");
}

static void task_destroy(test_thing* thing) {
  free(task_of(thing)->data);
  free(task_of(thing));
}

static test_task* task_new(test_end* end, task_kind kind, size_t room) {
  test_task* task = must_alloc(sizeof *task);
  memset(task, 0, sizeof *task);
  task->world = end->world;
  task->end = end;
  task->kind = kind;
  task->room = room;
  task->begun_ns = uv_hrtime();
  task->data = room ? must_alloc(room) : NULL;
  task->thing.close = task_close;
  task->thing.is_over = task_is_over;
  task->thing.check = task_check;
  task->thing.destroy = task_destroy;
  return task;
}

/* What every callback begins with. */
static void task_called(test_task* task, npipe_conn* conn, const char* what,
                        int status, size_t size) {
  task->stamp =
      world_callback(task->world, task->end->side, what, status, size);
  task->ended_ns = uv_hrtime();
  task->calls++;
  task->status = status;
  if (conn != task->end->conn)
    world_violation(task->world, "callback of another connection");
}

static void task_hook(test_task* task) {
  if (task->hook && !task->world->ending) task->hook(task);
}

static void task_on_read(npipe_conn* conn, int status, size_t size,
                         unsigned flags, void* arg) {
  test_task* task = arg;
  const char* what = task->kind == TASK_READ ? "read" : "transact";
  task_called(task, conn, what, status, size);
  task->size = size;
  task->flags = flags;
  if (size > task->room || (status < 0 && (size || flags)))
    world_violation(task->world, "a read callback makes no sense");
  for (size_t i = size; i < task->room; i++) {
    if (task->data[i] != UNTOUCHED) {
      world_violation(task->world, "a read wrote behind what it reported");
      break;
    }
  }
  task_hook(task);
}

static void task_on_write(npipe_conn* conn, int status, void* arg) {
  test_task* task = arg;
  task_called(task, conn, "write", status, task->room);
  free(task->data);
  task->data = NULL;
  task_hook(task);
}

static void task_on_done(npipe_conn* conn, int status, void* arg) {
  test_task* task = arg;
  const char* what = task->kind == TASK_FLUSH ? "flush" : "listen";
  task_called(task, conn, what, status, 0);
  task_hook(task);
}

/* The end of each *_try(): the task is kept, or the call has failed. */
static test_task* task_tried(test_task* task, int status) {
  if (status != 0) {
    task_destroy(&task->thing);
    return NULL;
  }
  if (task->op == 0) world_violation(task->world, "an operation is named 0");
  world_adopt(task->world, &task->thing);
  return task;
}

test_task* read_try(test_end* end, size_t room, int* status) {
  test_task* task = task_new(end, TASK_READ, room);
  if (room) memset(task->data, UNTOUCHED, room);
  *status = CALL(end->world, npipe_read(end->conn, task->data, room, &task->op,
                                        task_on_read, task));
  return task_tried(task, *status);
}

test_task* write_try(test_end* end, const uv_buf_t bufs[], unsigned nbufs,
                     int* status) {
  size_t total = 0;
  for (unsigned i = 0; i < nbufs; i++) total += bufs[i].len;
  test_task* task = task_new(end, TASK_WRITE, total);
  uv_buf_t* copies = must_alloc(nbufs * sizeof *copies);
  size_t at = 0;
  for (unsigned i = 0; i < nbufs; i++) {
    if (bufs[i].len) memcpy(task->data + at, bufs[i].base, bufs[i].len);
    char* base = task->data ? (char*) task->data + at : NULL;
    copies[i] = uv_buf_init(base, (unsigned) bufs[i].len);
    at += bufs[i].len;
  }
  *status = CALL(end->world, npipe_write(end->conn, copies, nbufs, &task->op,
                                         task_on_write, task));
  free(copies); /* the library has copied the array */
  return task_tried(task, *status);
}

test_task* flush_try(test_end* end, int timeout_ms, int* status) {
  test_task* task = task_new(end, TASK_FLUSH, 0);
  *status = CALL(end->world, npipe_flush(end->conn, timeout_ms, &task->op,
                                         task_on_done, task));
  return task_tried(task, *status);
}

test_task* listen_try(test_end* end, int timeout_ms, int* status) {
  test_task* task = task_new(end, TASK_LISTEN, 0);
  *status = CALL(end->world, npipe_listen(end->conn, timeout_ms, &task->op,
                                          task_on_done, task));
  return task_tried(task, *status);
}

test_task* transact_try(test_end* end, const void* data, size_t size,
                        size_t room, int timeout_ms, int* status) {
  test_task* task = task_new(end, TASK_TRANSACT, room);
  if (room) memset(task->data, UNTOUCHED, room);
  char* copy = must_alloc(size);
  if (size) memcpy(copy, data, size);
  uv_buf_t bufs[2] = {
      uv_buf_init(copy, (unsigned) (size / 2)),
      uv_buf_init(copy + size / 2, (unsigned) (size - size / 2))};
  *status = CALL(end->world,
                 npipe_transact(end->conn, bufs, 2, task->data, room,
                                timeout_ms, &task->op, task_on_read, task));
  memset(copy, 0, size);
  free(copy); /* the library has copied the request */
  return task_tried(task, *status);
}

static test_task* task_begun(test_task* task, const char* what, int status) {
  if (task) return task;
  fprintf(stderr, "%s failed at once: %s\n", what, status_name(status));
  abort();
}

test_task* read_begin(test_end* end, size_t room) {
  int status;
  test_task* task = read_try(end, room, &status);
  return task_begun(task, "npipe_read", status);
}

test_task* write_begin(test_end* end, const void* data, size_t size) {
  int status;
  uv_buf_t buf = uv_buf_init(NULL, 0);
  buf.base = (char*) (uintptr_t) data; /* copied, never written */
  buf.len = (unsigned) size;
  test_task* task = write_try(end, &buf, 1, &status);
  return task_begun(task, "npipe_write", status);
}

test_task* flush_begin(test_end* end, int timeout_ms) {
  int status;
  test_task* task = flush_try(end, timeout_ms, &status);
  return task_begun(task, "npipe_flush", status);
}

test_task* listen_begin(test_end* end, int timeout_ms) {
  int status;
  test_task* task = listen_try(end, timeout_ms, &status);
  return task_begun(task, "npipe_listen", status);
}

test_task* transact_begin(test_end* end, const char* text, size_t room,
                          int timeout_ms) {
  int status;
  test_task* task =
      transact_try(end, text, strlen(text), room, timeout_ms, &status);
  return task_begun(task, "npipe_transact", status);
}

int task_cancel(test_task* task) {
  return CALL(task->world, npipe_cancel(task->end->conn, task->op));
}

test_task* write_pattern(test_end* end, size_t size, uint32_t seed) {
  void* data = must_alloc(size);
  pattern_fill(data, size, seed);
  test_task* task = write_begin(end, data, size);
  free(data);
  return task;
}

int task_outcome(test_task* task) {
  RUN_UNTIL(task->world, task->calls > 0);
  return task->status;
}

void task_forget_data(test_task* task) {
  CHECK(task->calls > 0);
  free(task->data);
  task->data = NULL;
}

void send_bytes(test_end* end, const void* data, size_t size) {
  CHECK_STATUS(0, task_outcome(write_begin(end, data, size)));
}

void send_text(test_end* end, const char* text) {
  send_bytes(end, text, strlen(text));
}

void send_pattern(test_end* end, size_t size, uint32_t seed) {
  CHECK_STATUS(0, task_outcome(write_pattern(end, size, seed)));
}

void task_read_text(test_task* task, const char* text, unsigned flags,
                    const char* file, int line) {
  size_t size = strlen(text);
  check_status(0, task->status, "status of the read", file, line);
  if (task->size == size && task->flags == flags &&
      (size == 0 || memcmp(task->data, text, size) == 0))
    return;
  print_error("wanted \"%s\", flags %u; got \"%.*s\", flags %u\n", text, flags,
              (int) task->size, task->data ? (const char*) task->data : "",
              task->flags);
  _fail(file, line);
}

void expect_text(test_end* end, size_t room, const char* text, unsigned flags,
                 const char* file, int line) {
  test_task* task = read_begin(end, room);
  task_outcome(task);
  task_read_text(task, text, flags, file, line);
}

void expect_status(test_end* end, size_t room, int status, const char* file,
                   int line) {
  test_task* task = read_begin(end, room);
  check_status(status, task_outcome(task), "status of the read", file, line);
}

void expect_pattern_bytes(test_end* end, size_t room, size_t size,
                          uint32_t seed) {
  for (size_t at = 0; at < size;) {
    size_t rest = size - at;
    test_task* task = read_begin(end, rest < room ? rest : room);
    CHECK_STATUS(0, task_outcome(task));
    CHECK(task->size > 0);
    CHECK(pattern_holds(task->data, task->size, seed, at));
    at += task->size;
  }
}
