/*
 * The words of npipe.h that are no rule of Windows': bad arguments, wrong
 * moments, and what the library says about errors.
 */
#include <string.h>

#include "harness.h"

/* ------------------------------------------------- arguments */

static void never_client(npipe_server* server, int status, void* arg) {
  (void) server;
  (void) status;
  world_violation(arg, "a connection callback that nobody asked for");
}

static void never_connected(npipe_conn* conn, int status, void* arg) {
  (void) conn;
  (void) status;
  world_violation(arg, "a connect callback that nobody asked for");
}

static void never_read(npipe_conn* conn, int status, size_t size,
                       unsigned flags, void* arg) {
  (void) conn;
  (void) status;
  (void) size;
  (void) flags;
  world_violation(arg, "a read callback that nobody asked for");
}

static void never_written(npipe_conn* conn, int status, void* arg) {
  (void) conn;
  (void) status;
  world_violation(arg, "a write callback that nobody asked for");
}

static void create_without_what_it_needs(void** state) {
  world* w = *state;
  npipe_server* server = (npipe_server*) (void*) w; /* not NULL */
  CHECK_STATUS(UV_EINVAL,
               npipe_server_create(&w->loop, w->name, NULL, NULL, w, &server));
  CHECK(server == NULL);
  CHECK_STATUS(UV_EINVAL, npipe_server_create(NULL, w->name, NULL, never_client,
                                              w, &server));
  CHECK_STATUS(UV_EINVAL, npipe_server_create(&w->loop, w->name, NULL,
                                              never_client, w, NULL));
  world_settle(w);
  CHECK_STATUS(UV_ENOENT, connect_outcome(w, w->name, 0, NULL));
}

static void connect_without_what_it_needs(void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_MESSAGE);
  npipe_conn* conn = (npipe_conn*) (void*) w; /* not NULL */
  CHECK_STATUS(UV_EINVAL,
               npipe_connect(&w->loop, w->name, 0, NULL, NULL, w, &conn));
  CHECK(conn == NULL);
  CHECK_STATUS(UV_EINVAL, npipe_connect(NULL, w->name, 0, NULL, never_connected,
                                        w, &conn));
  CHECK_STATUS(UV_EINVAL, npipe_connect(&w->loop, w->name, 0, NULL,
                                        never_connected, w, NULL));
  CHECK_STATUS(UV_EINVAL, npipe_connect(&w->loop, w->name, -3, NULL,
                                        never_connected, w, &conn));
  CHECK(conn == NULL);
  npipe_client_options options = {.access = (npipe_access) 3};
  CHECK_STATUS(UV_EINVAL, npipe_connect(&w->loop, w->name, 0, &options,
                                        never_connected, w, &conn));
  options = (npipe_client_options){.read_mode = (npipe_read_mode) 3};
  CHECK_STATUS(UV_EINVAL, npipe_connect(&w->loop, w->name, 0, &options,
                                        never_connected, w, &conn));
  options =
      (npipe_client_options){.message_max_bytes = NPIPE_MESSAGE_MAX_BYTES + 1};
  CHECK_STATUS(UV_EINVAL, npipe_connect(&w->loop, w->name, 0, &options,
                                        never_connected, w, &conn));
  world_settle(w);
}

static void read_and_write_without_what_they_need(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  npipe_conn* conn = pair.client->conn;
  char data[8] = "xxxxxxx";
  uv_buf_t buf = uv_buf_init(data, 7);
  uv_buf_t hole = uv_buf_init(NULL, 7);
  CHECK_STATUS(UV_EINVAL, npipe_read(conn, data, 8, NULL, NULL, w));
  CHECK_STATUS(UV_EINVAL, npipe_read(conn, NULL, 8, NULL, never_read, w));
  CHECK_STATUS(UV_EINVAL, npipe_read_start(conn, 0, NULL, w));
  CHECK_STATUS(UV_EINVAL, npipe_write(conn, NULL, 1, NULL, never_written, w));
  CHECK_STATUS(UV_EINVAL, npipe_write(conn, &hole, 1, NULL, never_written, w));
  CHECK_STATUS(UV_EINVAL, npipe_try_write(conn, NULL, 1));
  CHECK_STATUS(UV_EINVAL, npipe_try_write(conn, &hole, 1));
  CHECK_STATUS(UV_EINVAL, npipe_set_read_mode(conn, (npipe_read_mode) 3));
  CHECK_STATUS(UV_EINVAL, npipe_last_error()->code);
  npipe_read_stop(conn);
  test_task* read = read_begin(pair.server, 16);
  world_settle(w);
  CHECK_SIZE(0, read->calls); /* nothing of all this was written */
  CHECK_STATUS(0, CALL(w, npipe_try_write(conn, &buf, 1)));
  CHECK_STATUS(0, task_outcome(read));
  TASK_READ_TEXT(read, "xxxxxxx", 0);
}

static void a_write_needs_no_callback_of_its_own(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  static char data[] = "quiet"; /* borrowed until nobody knows when */
  uv_buf_t buf = uv_buf_init(data, 5);
  int rc = CALL(w, npipe_write(pair.client->conn, &buf, 1, NULL, NULL, NULL));
  if (rc != 0) { /* the header does not say; refused is clear, too */
    CHECK_STATUS(UV_EINVAL, rc);
    return;
  }
  EXPECT_TEXT(pair.server, 8, "quiet", 0);
}

/* ------------------------------------------------- moments */

static void before_the_connect_callback(void** state) {
  world* w = *state;
  host_open_type(w, NPIPE_MESSAGE);
  test_end* end = end_connect(w, w->name, CONNECT_MS, NULL);
  npipe_conn* conn = end->conn;
  char data[8] = "";
  uv_buf_t buf = uv_buf_init(data, 1);
  int status;
  CHECK(npipe_get_type(conn) == NPIPE_BYTE);
  CHECK(npipe_loop(conn) == &w->loop);
  CHECK(read_try(end, 8, &status) == NULL);
  CHECK_STATUS(UV_ENOTCONN, status);
  CHECK(stream_try(end, 0, &status) == NULL);
  CHECK_STATUS(UV_ENOTCONN, status);
  CHECK(write_try(end, &buf, 1, &status) == NULL);
  CHECK_STATUS(UV_ENOTCONN, status);
  CHECK_STATUS(UV_ENOTCONN, CALL(w, npipe_try_write(conn, &buf, 1)));
  CHECK_STATUS(UV_ENOTCONN,
               CALL(w, npipe_set_read_mode(conn, NPIPE_READ_BYTES)));
  CHECK_SIZE(0, npipe_queued_bytes(conn));
  npipe_read_stop(conn);
  CHECK_STATUS(0, end_outcome(end));
  CHECK(npipe_get_type(conn) == NPIPE_MESSAGE);
}

static void after_a_failed_connect(void** state) {
  world* w = *state;
  test_end* end = end_connect(w, w->name, 0, NULL);
  CHECK_STATUS(UV_ENOENT, end_outcome(end));
  char data[8] = "";
  uv_buf_t buf = uv_buf_init(data, 1);
  int status;
  CHECK(read_try(end, 8, &status) == NULL);
  CHECK_STATUS(UV_ENOTCONN, status);
  CHECK(stream_try(end, 0, &status) == NULL);
  CHECK_STATUS(UV_ENOTCONN, status);
  CHECK(write_try(end, &buf, 1, &status) == NULL);
  CHECK_STATUS(UV_ENOTCONN, status);
  CHECK_STATUS(UV_ENOTCONN, CALL(w, npipe_try_write(end->conn, &buf, 1)));
}

static void after_the_close(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  test_end* end = pair.client;
  npipe_conn* conn = end->conn;
  end_close(end);
  char data[8] = "";
  uv_buf_t buf = uv_buf_init(data, 1);
  int status;
  CHECK(read_try(end, 8, &status) == NULL);
  CHECK_STATUS(UV_EBADF, status);
  CHECK(stream_try(end, 0, &status) == NULL);
  CHECK_STATUS(UV_EBADF, status);
  CHECK(write_try(end, &buf, 1, &status) == NULL);
  CHECK_STATUS(UV_EBADF, status);
  CHECK_STATUS(UV_EBADF, CALL(w, npipe_try_write(conn, &buf, 1)));
  CHECK_STATUS(UV_EBADF, CALL(w, npipe_set_read_mode(conn, NPIPE_READ_BYTES)));
  npipe_read_stop(conn);
  CHECK(npipe_loop(conn) == &w->loop);
  end_shut(end);
}

static void one_way_of_reading_at_a_time(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  int status;
  test_stream* stream = stream_begin(pair.server, 0);
  CHECK(read_try(pair.server, 8, &status) == NULL);
  CHECK_STATUS(UV_EBUSY, status);
  CHECK(stream_try(pair.server, 0, &status) == NULL);
  CHECK_STATUS(UV_EBUSY, status);
  stream_stop(stream);
  test_task* read = read_begin(pair.server, 8);
  CHECK_STATUS(UV_EBUSY, stream_resume(stream));
  CHECK_STATUS(UV_EBUSY, CALL(w, npipe_set_read_mode(pair.server->conn,
                                                     NPIPE_READ_BYTES)));
  send_text(pair.client, "x");
  CHECK_STATUS(0, task_outcome(read));
  CHECK_STATUS(0, stream_resume(stream));
  send_text(pair.client, "y");
  RUN_UNTIL(w, stream->count == 1);
  CHECK(stream_has_text(stream, 0, "y"));
}

static void read_mode_of_a_byte_pipe(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_BYTE);
  npipe_conn* conn = pair.client->conn;
  CHECK_STATUS(UV_EINVAL,
               CALL(w, npipe_set_read_mode(conn, NPIPE_READ_MESSAGES)));
  CHECK_STATUS(0, CALL(w, npipe_set_read_mode(conn, NPIPE_READ_BYTES)));
  CHECK_STATUS(0, CALL(w, npipe_set_read_mode(conn, NPIPE_READ_AS_TYPE)));
}

/* ------------------------------------------------- words and pointers */

static void version_is_that_of_the_header(void** state) {
  (void) state;
  unsigned version = NPIPE_VERSION_MAJOR << 16 | NPIPE_VERSION_MINOR << 8 |
                     NPIPE_VERSION_PATCH;
  CHECK_SIZE(version, npipe_version());
}

static void every_code_has_words(void** state) {
  static const int codes[] = {
      UV_ENOENT, UV_EBUSY,        UV_ETIMEDOUT,    UV_EACCES,    UV_EADDRINUSE,
      UV_EEXIST, UV_EINVAL,       UV_ENAMETOOLONG, UV_EMSGSIZE,  UV_EOF,
      UV_EPIPE,  UV_ECONNABORTED, UV_ENOTCONN,     UV_ECANCELED, UV_EPROTO,
      UV_EMFILE, UV_ENOMEM,       UV_ENOTSUP};
  (void) state;
  for (size_t i = 0; i < HARNESS_COUNT(codes); i++) {
    const char* words = npipe_strerror(codes[i]);
    CHECK(words != NULL && strlen(words) > 3);
  }
  CHECK(strcmp(npipe_strerror(UV_EXDEV), uv_strerror(UV_EXDEV)) == 0);
  CHECK(npipe_strerror(0) != NULL);
}

static void remember_error(test_end* end) {
  npipe_error* error = end->user;
  *error = *npipe_last_error();
}

static void the_last_error_says_what_and_where(void** state) {
  world* w = *state;
  npipe_error error = {0};
  test_end* end = end_connect(w, w->name, 0, NULL);
  end->hook = remember_error;
  end->user = &error;
  CHECK_STATUS(UV_ENOENT, end_outcome(end));
  CHECK_STATUS(UV_ENOENT, error.code);
  CHECK(error.os_code != 0);
  CHECK(strstr(error.text, w->name) != NULL);

  npipe_server_options options = {.max_instances = 4711};
  test_host* host;
  CHECK_STATUS(UV_EINVAL, host_try(w, w->name, &options, &host));
  CHECK_STATUS(UV_EINVAL, npipe_last_error()->code);
  CHECK(strlen(npipe_last_error()->text) > 10);
  CHECK(strlen(npipe_last_error()->text) < sizeof npipe_last_error()->text);
}

static void the_pointer_of_the_program(void** state) {
  world* w = *state;
  test_pair pair = pair_of(w, NPIPE_MESSAGE);
  CHECK(npipe_get_data(pair.client->conn) == NULL);
  CHECK(npipe_get_data(pair.server->conn) == NULL);
  npipe_set_data(pair.client->conn, w);
  CHECK(npipe_get_data(pair.client->conn) == w);
  CHECK(npipe_get_data(pair.server->conn) == NULL);
  CHECK(npipe_loop(pair.server->conn) == &w->loop);
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(create_without_what_it_needs),
      TEST(connect_without_what_it_needs),
      TEST(read_and_write_without_what_they_need),
      TEST(a_write_needs_no_callback_of_its_own),
      TEST(before_the_connect_callback),
      TEST(after_a_failed_connect),
      TEST(after_the_close),
      TEST(one_way_of_reading_at_a_time),
      TEST(read_mode_of_a_byte_pipe),
      TEST(version_is_that_of_the_header),
      TEST(every_code_has_words),
      TEST(the_last_error_says_what_and_where),
      TEST(the_pointer_of_the_program),
  };
  return harness_main(argc, argv, "api", tests, HARNESS_COUNT(tests), NULL);
}
