/*
 * Peers that break docs/wire-format.md: each gets what its table of errors
 * says, and nobody else notices.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unix/raw_link.h"

#define QUOTA RAW_QUOTA
#define MIB ((size_t) 1024 * 1024)
#define MESSAGE_MAX 0x1000000u

/* ------------------------------------------------- memory */

static size_t largest; /* request since it was last set to 0 */

static void* noting_malloc(size_t size) {
  if (size > largest) largest = size;
  return malloc(size);
}

static void* noting_realloc(void* old, size_t size) {
  if (size > largest) largest = size;
  return realloc(old, size);
}

/* ------------------------------------------------- bytes of frames */

typedef struct wrong_bytes {
  const char* what;
  const char* bytes;
  size_t size;
} wrong_bytes;

#define WRONG(what, bytes) \
  { (what), (bytes), sizeof(bytes) - 1 }

#define HELLO_HEAD "\x01\x00\x00\x00\x19\x00\x00\x00"
#define HELLO_WAIT_PID "\x00\x00\x00\x00\x01\x00\x00\x00"
#define HELLO_MAX "\x00\x00\x00\x01\x00\x00\x00\x00"

static const wrong_bytes wrong_hellos[] = {
    WRONG("garbage", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    WRONG("one wrong byte", "\xff"),
    WRONG("a huge length", "\x01\x00\x00\x00\xff\xff\xff\xff"),
    WRONG("a length above the limit", "\x01\x00\x00\x00\x18\x03\x00\x00"),
    WRONG("no room for a name", "\x01\x00\x00\x00\x18\x00\x00\x00"),
    WRONG("flags", "\x01\x01\x00\x00\x19\x00\x00\x00"),
    WRONG("reserved bytes", "\x01\x00\x01\x00\x19\x00\x00\x00"),
    WRONG("DATA first", "\x04\x03\x00\x00\x01\x00\x00\x00x"),
    WRONG("WELCOME to a server", "\x02\x00\x00\x00\x20\x00\x00\x00"),
    WRONG("another magic",
          HELLO_HEAD "NPIQ\x01\x00\x03\x00" HELLO_WAIT_PID HELLO_MAX "A"),
    WRONG("access 4",
          HELLO_HEAD "NPIP\x01\x00\x04\x00" HELLO_WAIT_PID HELLO_MAX "A"),
    WRONG("a byte that is not zero",
          HELLO_HEAD "NPIP\x01\x00\x03\x01" HELLO_WAIT_PID HELLO_MAX "A"),
    WRONG("no message length",
          HELLO_HEAD "NPIP\x01\x00\x03\x00" HELLO_WAIT_PID HELLO_WAIT_PID "A"),
    WRONG("NUL in the name",
          HELLO_HEAD "NPIP\x01\x00\x03\x00" HELLO_WAIT_PID HELLO_MAX "\x00"),
};

static void good_client_is_served(world* w, test_host* host) {
  test_end* client = end_open(w, NULL);
  test_end* server = host_accept(host);
  send_text(client, "good");
  EXPECT_TEXT(server, 64, "good", 0);
  end_shut(client);
  end_shut(server);
}

static void ho_hellos(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  for (size_t i = 0; i < HARNESS_COUNT(wrong_hellos); i++) {
    raw_peer raw = raw_connect(w);
    raw_send(&raw, wrong_hellos[i].bytes, wrong_hellos[i].size);
    watchdog_step(wrong_hellos[i].what);
    raw_expect_end(&raw);
    raw_close(&raw);
  }
  CHECK_SIZE(0, host->arrivals);
  CHECK_SIZE(0, host->failures);
  good_client_is_served(w, host);
}

static void ho_data_behind_hello(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  raw_peer raw = raw_connect(w);
  unsigned char frame[128] =
      HELLO_HEAD "NPIP\x01\x00\x03\x00" HELLO_WAIT_PID HELLO_MAX;
  size_t name = strlen(w->name);
  raw_put(frame + 4, 4, 24 + name);
  for (size_t i = 0; i < name; i++) {
    char c = w->name[i];
    frame[32 + i] = (unsigned char) (c >= 'a' && c <= 'z' ? c - 32 : c);
  }
  raw_send(&raw, frame, 32 + name + 1);
  raw_expect_end(&raw);
  raw_close(&raw);
  CHECK_SIZE(0, host->arrivals);
  raw = raw_connect(w); /* it was the byte behind it */
  raw_send(&raw, frame, 32 + name);
  raw_frame welcome = raw_next(&raw);
  CHECK_SIZE(RAW_WELCOME, welcome.type);
  raw_frame_free(&welcome);
  raw_close(&raw);
}

static void ho_data_while_waiting(void** state) {
  world* w = *state;
  npipe_server_options options = {.max_instances = 1};
  host_open(w, &options);
  raw_peer first = raw_open(w);
  raw_peer raw = raw_connect(w);
  raw_hello hello = raw_good_hello(w);
  hello.wait_ms = UINT32_MAX;
  raw_send_hello(&raw, &hello);
  for (int i = 0; i < 30; i++) raw_turn(&raw);
  CHECK(!raw.ended);
  raw_send(&raw, "x", 1);
  raw_expect_end(&raw);
  raw_close(&raw);
  raw_close(&first);
}

static void ho_refused_hellos(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  raw_hello hello = raw_good_hello(w);
  hello.version = 2;
  raw_peer raw = raw_connect(w);
  raw_send_hello(&raw, &hello);
  CHECK_SIZE(50, raw_refusal(&raw));
  raw_close(&raw);
  hello.version = 1;
  hello.name = "another-name";
  raw = raw_connect(w);
  raw_send_hello(&raw, &hello);
  CHECK_SIZE(2, raw_refusal(&raw));
  raw_close(&raw);
  CHECK_SIZE(0, host->arrivals);
}

static void ho_silent_and_half_clients(void** state) {
  world* w = *state;
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  raw_peer silent = raw_connect(w);
  raw_peer half = raw_connect(w);
  raw_send(&half, HELLO_HEAD, 5);
  uint64_t begin = uv_hrtime();
  good_client_is_served(w, host);
  raw_turn(&half);
  raw_close(&half);
  good_client_is_served(w, host);
  CHECK(uv_hrtime() - begin < UINT64_C(5000000000));
  CHECK(!silent.ended);
  raw_close(&silent);
}

/* ------------------------------------------------- hostile servers */

static void answer_means(world* w, const char* bytes, size_t size, int status) {
  char path[RAW_PATH_BYTES];
  raw_path(w, path);
  raw_peer listener = raw_of(w, raw_listen_fd(path, 0));
  test_end* end = end_connect(w, w->name, CONNECT_MS, NULL);
  raw_peer raw = raw_accept(w, listener.fd);
  raw_frame hello = raw_next(&raw);
  raw_frame_free(&hello);
  raw_send(&raw, bytes, size);
  if (status == UV_ENOENT) { /* it tries again, and nobody is there */
    CHECK(unlink(path) == 0);
    raw_close(&raw);
  }
  RAW_UNTIL(&raw, end->connects > 0);
  CHECK_STATUS(status, end->connect_status);
  raw_close(&raw);
  raw_close(&listener);
  uv_fs_t request;
  uv_fs_unlink(NULL, &request, path, NULL);
  uv_fs_req_cleanup(&request);
}

#define WELCOME_HEAD "\x02\x00\x00\x00\x20\x00\x00\x00"
#define WELCOME_QUOTAS "\x00\x00\x01\x00\x00\x00\x01\x00"
#define WELCOME_END \
  "\xff\x00\x00\x00\x32\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"

static const wrong_bytes wrong_welcomes[] = {
    WRONG("garbage", "220 mail.example.com ESMTP\r\n"),
    WRONG("a huge length", "\x02\x00\x00\x00\xff\xff\xff\xff"),
    WRONG("HELLO", HELLO_HEAD),
    WRONG("a short REFUSE", "\x03\x00\x00\x00\x04\x00\x00\x00"),
    WRONG("version 2", WELCOME_HEAD "\x02\x00\x01\x00" WELCOME_QUOTAS
                                    "\x00\x00\x00\x01" WELCOME_END),
    WRONG("type 2", WELCOME_HEAD "\x01\x00\x02\x00" WELCOME_QUOTAS
                                 "\x00\x00\x00\x01" WELCOME_END),
    WRONG("direction 3", WELCOME_HEAD "\x01\x00\x01\x03" WELCOME_QUOTAS
                                      "\x00\x00\x00\x01" WELCOME_END),
    WRONG("a quota above 1 GiB",
          WELCOME_HEAD "\x01\x00\x01\x00\x00\x00\x01\x00\x01\x00\x00\x40"
                       "\x00\x00\x00\x01" WELCOME_END),
    WRONG("messages above 1 GiB", WELCOME_HEAD "\x01\x00\x01\x00" WELCOME_QUOTAS
                                               "\x01\x00\x00\x40" WELCOME_END),
    WRONG("no message length", WELCOME_HEAD "\x01\x00\x01\x00" WELCOME_QUOTAS
                                            "\x00\x00\x00\x00" WELCOME_END),
};

static void ho_welcomes(void** state) {
  for (size_t i = 0; i < HARNESS_COUNT(wrong_welcomes); i++)
    answer_means(*state, wrong_welcomes[i].bytes, wrong_welcomes[i].size,
                 UV_EPROTO);
  answer_means(*state, "", 0, UV_ENOENT);
  answer_means(*state, WELCOME_HEAD, 8, UV_ENOENT);
}

static void ho_silent_server(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  raw_path(w, path);
  raw_peer listener = raw_of(w, raw_listen_fd(path, 0));
  uint64_t begin = uv_hrtime();
  CHECK_STATUS(UV_ETIMEDOUT, connect_outcome(w, w->name, 300, NULL));
  uint64_t ms = (uv_hrtime() - begin) / 1000000;
  CHECK(ms >= 290 && ms < 5000);
  raw_close(&listener);
  uv_fs_t request;
  uv_fs_unlink(NULL, &request, path, NULL);
  uv_fs_req_cleanup(&request);
}

/* ------------------------------------------------- after the handshake */

typedef struct victim {
  test_host* host;
  test_end* end;
  raw_peer raw;
} victim;

static victim victim_open(world* w, npipe_type type) {
  victim v = {.host = host_open_type(w, type)};
  v.raw = raw_open(w);
  v.end = host_accept(v.host);
  return v;
}

/* The connection is over, with this status for reads. */
static void victim_ends(world* w, victim* v, int status) {
  RAW_UNTIL(&v->raw, v->raw.ended);
  EXPECT_STATUS(v->end, 100, status);
  int sent = 0;
  uv_buf_t buf = uv_buf_init("x", 1);
  sent = CALL(w, npipe_try_write(v->end->conn, &buf, 1));
  CHECK(sent == UV_EPROTO || sent == UV_EPIPE);
  raw_close(&v->raw);
  end_shut(v->end);
  good_client_is_served(w, v->host);
  host_shut(v->host);
}

#define COUNT_HEAD(type) type "\x00\x00\x00\x10\x00\x00\x00"
#define ZERO8 "\x00\x00\x00\x00\x00\x00\x00\x00"
#define ONE8 "\x01\x00\x00\x00\x00\x00\x00\x00"

static const wrong_bytes wrong_frames[] = {
    WRONG("type 0", "\x00\x00\x00\x00\x00\x00\x00\x00"),
    WRONG("type 9", "\x09\x00\x00\x00\x28\x00\x00\x00"),
    WRONG("DISCONNECT to a server", "\x07\x00\x00\x00\x00\x00\x00\x00"),
    WRONG("WITHDRAW of bytes never sent", COUNT_HEAD("\x08") ONE8 ONE8),
    WRONG("a short WITHDRAW", "\x08\x00\x00\x00\x08\x00\x00\x00"),
    WRONG("HELLO again", HELLO_HEAD),
    WRONG("a huge length", "\x04\x03\x00\x00\xff\xff\xff\xff"),
    WRONG("a chunk too long", "\x04\x03\x00\x00\x01\x00\x04\x00"),
    WRONG("flags 4", "\x04\x04\x00\x00\x01\x00\x00\x00x"),
    WRONG("reserved bytes", "\x04\x03\x01\x00\x01\x00\x00\x00x"),
    WRONG("a middle first", "\x04\x00\x00\x00\x01\x00\x00\x00x"),
    WRONG("a last first", "\x04\x02\x00\x00\x01\x00\x00\x00x"),
    WRONG("a first part without data",
          "\x04\x01\x00\x00\x04\x00\x00\x00\x05\x00\x00\x00"),
    WRONG("a first part that is all",
          "\x04\x01\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00x"),
    WRONG("first inside a message",
          "\x04\x01\x00\x00\x05\x00\x00\x00\x05\x00\x00\x00x"
          "\x04\x03\x00\x00\x01\x00\x00\x00x"),
    WRONG("more than the total",
          "\x04\x01\x00\x00\x05\x00\x00\x00\x02\x00\x00\x00x"
          "\x04\x02\x00\x00\x02\x00\x00\x00xx"),
    WRONG("less than the total",
          "\x04\x01\x00\x00\x05\x00\x00\x00\x05\x00\x00\x00x"
          "\x04\x02\x00\x00\x02\x00\x00\x00xx"),
    WRONG("CONSUMED of bytes never sent", COUNT_HEAD("\x05") ONE8 ZERO8),
    WRONG("CONSUMED of messages never sent", COUNT_HEAD("\x05") ZERO8 ONE8),
    WRONG("CONSUMED with flags", "\x05\x01\x00\x00\x10\x00\x00\x00"),
    WRONG("a long ASK", "\x06\x00\x00\x00\x11\x00\x00\x00"),
};

static void ho_frames(void** state) {
  world* w = *state;
  for (size_t i = 0; i < HARNESS_COUNT(wrong_frames); i++) {
    victim v = victim_open(w, NPIPE_MESSAGE);
    raw_send(&v.raw, wrong_frames[i].bytes, wrong_frames[i].size);
    victim_ends(w, &v, UV_EPROTO);
  }
}

static void ho_frames_on_a_byte_pipe(void** state) {
  victim v = victim_open(*state, NPIPE_BYTE);
  raw_send_data(&v.raw, RAW_WHOLE, 0, "x", 1);
  victim_ends(*state, &v, UV_EPROTO);
  v = victim_open(*state, NPIPE_BYTE);
  raw_send_data(&v.raw, 0, 0, "", 0);
  victim_ends(*state, &v, UV_EPROTO);
}

static void ho_data_against_the_direction(void** state) {
  world* w = *state;
  npipe_server_options options = {.direction = NPIPE_OUTBOUND};
  test_host* host = host_open(w, &options);
  raw_peer raw = raw_connect(w);
  raw_hello hello = raw_good_hello(w);
  hello.access = 1;
  raw_send_hello(&raw, &hello);
  test_task* task = write_begin(host_accept(host), "hello", 5);
  raw_frame frame = raw_next_of(&raw, RAW_DATA);
  raw_frame_free(&frame);
  CHECK_STATUS(0, task_outcome(task));
  raw_send_data(&raw, 0, 0, "x", 1);
  raw_expect_end(&raw);
  task = write_begin(task->end, "hello", 5);
  CHECK_STATUS(UV_EPROTO, task_outcome(task));
  raw_close(&raw);
}

/* A client may be thrown out, but not with more than a head. */
static void ho_disconnect_with_a_body(void** state) {
  raw_link link = link_to_client(*state, NPIPE_MESSAGE);
  raw_send_head(&link.raw, RAW_DISCONNECT, 0, 1);
  EXPECT_STATUS(link.end, 10, UV_EPROTO);
  raw_expect_end(&link.raw);
  link_close(*state, &link);
}

/* What comes behind the last words is not looked at. */
static void ho_data_behind_the_end(void** state) {
  raw_link link = link_to_client(*state, NPIPE_MESSAGE);
  raw_send_head(&link.raw, RAW_DISCONNECT, 0, 0);
  raw_send_message(&link.raw, "hello", 5);
  EXPECT_STATUS(link.end, 10, UV_ECONNABORTED);
  link_close(*state, &link);
  link = link_to_client(*state, NPIPE_MESSAGE);
  raw_send_message(&link.raw, "one", 3);
  raw_send_count(&link.raw, RAW_WITHDRAW, 3, 1);
  raw_send_message(&link.raw, "two", 3);
  EXPECT_TEXT(link.end, 10, "one", 0);
  EXPECT_STATUS(link.end, 10, UV_EOF);
  link_close(*state, &link);
}

static void ho_consumed_goes_back(void** state) {
  victim v = victim_open(*state, NPIPE_MESSAGE);
  write_begin(v.end, "hello", 5);
  raw_frame frame = raw_next(&v.raw);
  raw_frame_free(&frame);
  raw_send_count(&v.raw, RAW_CONSUMED, 5, 1);
  raw_send_count(&v.raw, RAW_CONSUMED, 4, 1);
  victim_ends(*state, &v, UV_EPROTO);
}

/* ------------------------------------------------- too much */

static void ho_messages_beyond_the_quota(void** state) {
  static const unsigned char zeros[QUOTA + 1];
  victim v = victim_open(*state, NPIPE_MESSAGE);
  raw_send_message(&v.raw, "hello", 5);
  raw_send_message(&v.raw, zeros, QUOTA - 5);
  raw_send_message(&v.raw, zeros, 1); /* may begin at the quota */
  raw_send_message(&v.raw, zeros, 0); /* may always */
  EXPECT_TEXT(v.end, 10, "hello", 0);
  raw_send_message(&v.raw, zeros, 6); /* five were read, one was over */
  raw_send_message(&v.raw, zeros, 1); /* this one is too much */
  RAW_UNTIL(&v.raw, v.raw.ended);
  static const size_t left[] = {QUOTA - 5, 1, 0, 6};
  for (size_t i = 0; i < HARNESS_COUNT(left); i++) {
    test_task* task = read_begin(v.end, QUOTA);
    CHECK_STATUS(0, task_outcome(task));
    CHECK_SIZE(left[i], task->size);
  }
  victim_ends(*state, &v, UV_EPROTO);
}

static void ho_too_many_messages(void** state) {
  victim v = victim_open(*state, NPIPE_MESSAGE);
  for (int i = 0; i < 65536; i++) raw_send_message(&v.raw, "", 0);
  for (int i = 0; i < 100; i++) raw_turn(&v.raw);
  CHECK(!v.raw.ended);
  raw_send_message(&v.raw, "", 0);
  RAW_UNTIL(&v.raw, v.raw.ended);
  test_stream* stream = stream_begin(v.end, 0);
  RAW_UNTIL(&v.raw, stream->ends > 0);
  CHECK_STATUS(UV_EPROTO, stream->end_status);
  CHECK_SIZE(65536, stream->count);
  raw_close(&v.raw);
}

static void ho_bytes_beyond_the_quota(void** state) {
  static const unsigned char zeros[QUOTA + 65536];
  victim v = victim_open(*state, NPIPE_BYTE);
  raw_send_stream(&v.raw, zeros, sizeof zeros);
  for (int i = 0; i < 100; i++) raw_turn(&v.raw);
  CHECK(!v.raw.ended);
  raw_send_stream(&v.raw, zeros, 1);
  RAW_UNTIL(&v.raw, v.raw.ended);
  test_stream* stream = stream_begin(v.end, 0);
  RAW_UNTIL(&v.raw, stream->ends > 0);
  CHECK_STATUS(UV_EPROTO, stream->end_status);
  CHECK_SIZE(sizeof zeros, stream->size);
  raw_close(&v.raw);
}

/* A length is a word, memory follows data. */
static void ho_message_too_long(void** state) {
  victim v = victim_open(*state, NPIPE_MESSAGE);
  largest = 0;
  raw_send_data(&v.raw, RAW_FIRST, MESSAGE_MAX, "x", 1);
  for (int i = 0; i < 50; i++) raw_turn(&v.raw);
  CHECK(!v.raw.ended);
  CHECK(largest < MIB);
  raw_close(&v.raw);
  EXPECT_STATUS(v.end, 10, UV_EOF);
  end_shut(v.end);
  host_shut(v.host);
  v = victim_open(*state, NPIPE_MESSAGE);
  largest = 0;
  raw_send_data(&v.raw, RAW_FIRST, MESSAGE_MAX + 1, "x", 1);
  victim_ends(*state, &v, UV_EMSGSIZE);
  CHECK(largest < MIB);
}

static void ho_half_a_message(void** state) {
  victim v = victim_open(*state, NPIPE_MESSAGE);
  unsigned char data[5000] = {0};
  raw_send_message(&v.raw, "hello", 5);
  raw_send_data(&v.raw, RAW_FIRST, 10000, data, sizeof data);
  raw_close(&v.raw);
  EXPECT_TEXT(v.end, 10, "hello", 0);
  EXPECT_STATUS(v.end, 10, UV_EOF);
}

static void ho_half_a_frame(void** state) {
  victim v = victim_open(*state, NPIPE_MESSAGE);
  raw_send_message(&v.raw, "hello", 5);
  raw_send_head(&v.raw, RAW_DATA, RAW_WHOLE, 10);
  raw_send(&v.raw, "half", 4);
  raw_close(&v.raw);
  EXPECT_TEXT(v.end, 10, "hello", 0);
  EXPECT_STATUS(v.end, 10, UV_EOF);
}

/* ------------------------------------------------- a peer that goes */

static void ho_no_signal(void** state) {
  enum { WRITES = 50 };
  signal(SIGPIPE, SIG_DFL); /* ends the process, if it is raised */
  victim v = victim_open(*state, NPIPE_BYTE);
  test_task* tasks[WRITES];
  for (uint32_t i = 0; i < WRITES; i++)
    tasks[i] = write_pattern(v.end, QUOTA, i);
  raw_frame frame = raw_next(&v.raw);
  raw_frame_free(&frame);
  raw_send_count(&v.raw, RAW_CONSUMED, QUOTA, 0);
  raw_close(&v.raw);
  RUN_UNTIL(v.end->world, tasks[WRITES - 1]->calls > 0);
  CHECK_STATUS(UV_EPIPE, tasks[WRITES - 1]->status);
  uv_buf_t buf = uv_buf_init("x", 1);
  CHECK_STATUS(UV_EPIPE,
               CALL(v.end->world, npipe_try_write(v.end->conn, &buf, 1)));
}

/* Both ends' sends meet a closed socket before a read can tell. */
static void ho_no_signal_at_once(void** state) {
  signal(SIGPIPE, SIG_DFL);
  victim v = victim_open(*state, NPIPE_MESSAGE);
  raw_close(&v.raw);
  uv_buf_t buf = uv_buf_init("x", 1);
  int status = CALL(v.end->world, npipe_try_write(v.end->conn, &buf, 1));
  CHECK(status == UV_EPIPE || status == 0);
  EXPECT_STATUS(v.end, 10, UV_EOF);
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(ho_hellos),
      TEST(ho_data_behind_hello),
      TEST(ho_data_while_waiting),
      TEST(ho_refused_hellos),
      TEST(ho_silent_and_half_clients),
      TEST(ho_welcomes),
      TEST(ho_silent_server),
      TEST(ho_frames),
      TEST(ho_frames_on_a_byte_pipe),
      TEST(ho_data_against_the_direction),
      TEST(ho_disconnect_with_a_body),
      TEST(ho_data_behind_the_end),
      TEST(ho_consumed_goes_back),
      TEST(ho_messages_beyond_the_quota),
      TEST(ho_too_many_messages),
      TEST(ho_bytes_beyond_the_quota),
      TEST(ho_message_too_long),
      TEST(ho_half_a_message),
      TEST(ho_half_a_frame),
      TEST(ho_no_signal),
      TEST(ho_no_signal_at_once),
  };
  if (npipe_replace_allocator(noting_malloc, noting_realloc, free) != 0)
    return 1;
  return raw_main(argc, argv, "hostile", tests, HARNESS_COUNT(tests));
}
