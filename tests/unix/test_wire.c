/*
 * npipe with a peer that was written from docs/wire-format.md alone, in both
 * roles. What a peer must not do is in test_hostile.c.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unix/raw_link.h"

#define QUOTA RAW_QUOTA
#define MIB ((size_t) 1024 * 1024)

static const size_t sizes[] = {0, 5, 65536, MIB};

/* ------------------------------------------------- messages */

static void messages_in(raw_link* link) {
  test_stream* stream = stream_begin(link->end, 0);
  uint64_t sent = 0;
  for (uint32_t i = 0; i < HARNESS_COUNT(sizes); i++) {
    unsigned char* data = must_alloc(sizes[i] + 1);
    pattern_fill(data, sizes[i], i);
    raw_send_message(&link->raw, data, sizes[i]);
    free(data);
    sent += sizes[i];
    RAW_UNTIL(&link->raw, stream->count == i + 1);
    CHECK(stream_has_pattern(stream, i, sizes[i], i));
    CHECK_SIZE(1, stream->messages[i].pieces);
    raw_send_count(&link->raw, RAW_ASK, sent, i + 1);
    raw_expect_consumed(&link->raw, sent, i + 1);
  }
  stream_stop(stream);
}

static void messages_out(raw_link* link) {
  uint64_t read = 0;
  for (uint32_t i = 0; i < HARNESS_COUNT(sizes); i++) {
    test_task* task = write_pattern(link->end, sizes[i], i + 9);
    raw_expect_message(&link->raw, sizes[i], i + 9);
    read += sizes[i];
    if (sizes[i] > QUOTA) {
      /* It is done when its end is within the quota, and asks for that. */
      raw_frame ask = raw_next(&link->raw);
      CHECK_SIZE(RAW_ASK, ask.type);
      CHECK_SIZE(read - QUOTA, raw_get(ask.body, 8));
      raw_frame_free(&ask);
      CHECK_SIZE(0, task->calls);
    }
    raw_send_count(&link->raw, RAW_CONSUMED, read, i + 1);
    RAW_UNTIL(&link->raw, task->calls > 0);
    CHECK_STATUS(0, task->status);
  }
}

static void messages_both(raw_link* link) {
  test_stream* stream = stream_begin(link->end, 0);
  unsigned char* data = must_alloc(MIB);
  pattern_fill(data, MIB, 3);
  test_task* task = write_pattern(link->end, MIB, 4);
  raw_send_message(&link->raw, data, MIB);
  free(data);
  raw_expect_message(&link->raw, MIB, 4);
  RAW_UNTIL(&link->raw, stream->count == 1);
  CHECK(stream_has_pattern(stream, 0, MIB, 3));
  CHECK_SIZE(0, task->calls); /* nobody has read it */
}

static void wf_server_reads_messages(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  messages_in(&link);
  link_close(*state, &link);
}

static void wf_server_writes_messages(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  messages_out(&link);
  link_close(*state, &link);
}

static void wf_server_both_ways(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  messages_both(&link);
  link_close(*state, &link);
}

static void wf_client_reads_messages(void** state) {
  raw_link link = link_to_client(*state, NPIPE_MESSAGE);
  messages_in(&link);
  link_close(*state, &link);
}

static void wf_client_writes_messages(void** state) {
  raw_link link = link_to_client(*state, NPIPE_MESSAGE);
  messages_out(&link);
  link_close(*state, &link);
}

static void wf_client_both_ways(void** state) {
  raw_link link = link_to_client(*state, NPIPE_MESSAGE);
  messages_both(&link);
  link_close(*state, &link);
}

/* ------------------------------------------------- bytes */

static void bytes_in(raw_link* link) {
  test_stream* stream = stream_begin(link->end, 0);
  unsigned char* data = must_alloc(MIB);
  pattern_fill(data, MIB, 5);
  uint64_t sent = 0;
  while (sent < MIB) {
    raw_send_stream(&link->raw, data + sent, QUOTA);
    sent += QUOTA;
    raw_send_count(&link->raw, RAW_ASK, sent, 0);
    raw_expect_consumed(&link->raw, sent, 0);
  }
  free(data);
  CHECK_SIZE(MIB, stream->size);
  CHECK(pattern_holds(stream->bytes, MIB, 5, 0));
  stream_stop(stream);
}

/* The most it may send unread is quota + 65536; then it waits for us. */
static void bytes_out(raw_link* link) {
  test_task* task = write_pattern(link->end, MIB, 6);
  uint64_t got = 0;
  uint64_t told = 0;
  while (got < MIB) {
    raw_frame frame = raw_next(&link->raw);
    if (frame.type == RAW_DATA) {
      CHECK_SIZE(0, frame.flags);
      CHECK(frame.length > 0 && frame.length <= RAW_CHUNK_BYTES);
      CHECK(pattern_holds(frame.body, frame.length, 6, (size_t) got));
      got += frame.length;
      CHECK(got - told <= QUOTA + 65536);
    } else {
      CHECK_SIZE(RAW_ASK, frame.type);
      CHECK(raw_get(frame.body, 8) <= got);
      told = got;
      raw_send_count(&link->raw, RAW_CONSUMED, told, 0);
    }
    raw_frame_free(&frame);
  }
  raw_send_count(&link->raw, RAW_CONSUMED, MIB, 0);
  RAW_UNTIL(&link->raw, task->calls > 0);
  CHECK_STATUS(0, task->status);
}

static void wf_server_bytes(void** state) {
  raw_link link = link_to_server(*state, NPIPE_BYTE);
  bytes_in(&link);
  bytes_out(&link);
  link_close(*state, &link);
}

static void wf_client_bytes(void** state) {
  raw_link link = link_to_client(*state, NPIPE_BYTE);
  bytes_in(&link);
  bytes_out(&link);
  link_close(*state, &link);
}

/* ------------------------------------------------- reports and asking */

static unsigned waiting_frames(raw_peer* raw) {
  for (int i = 0; i < 30; i++) raw_turn(raw);
  return raw->in_size > 0;
}

/* By itself at a quarter of the quota, else when asked and reached. */
static void wf_reports(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(link.end, 0);
  unsigned char data[QUOTA / 4] = {0};
  raw_send_message(&link.raw, data, sizeof data - 1);
  RAW_UNTIL(&link.raw, stream->count == 1);
  CHECK_SIZE(0, waiting_frames(&link.raw));
  raw_send_message(&link.raw, data, 1);
  raw_expect_consumed(&link.raw, QUOTA / 4, 2);
  raw_send_count(&link.raw, RAW_ASK, QUOTA / 4 + 10, 4);
  raw_send_message(&link.raw, data, 20);
  CHECK_SIZE(0, waiting_frames(&link.raw)); /* bytes reached, messages not */
  raw_send_message(&link.raw, data, 0);
  raw_expect_consumed(&link.raw, QUOTA / 4 + 20, 4);
  raw_send_count(&link.raw, RAW_ASK, UINT64_MAX, 0); /* replaced below */
  raw_send_count(&link.raw, RAW_ASK, 0, 0);
  raw_expect_consumed(&link.raw, QUOTA / 4 + 20, 4);
  link_close(*state, &link);
}

static void wf_reports_messages(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(link.end, 0);
  for (int i = 0; i < 16384; i++) raw_send_message(&link.raw, "", 0);
  raw_expect_consumed(&link.raw, 0, 16384);
  CHECK_SIZE(16384, stream->count);
  link_close(*state, &link);
}

/* What a message pipe may send to a reader that does not read. */
static void wf_bounds_of_the_sender(void** state) {
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  write_pattern(link.end, QUOTA, 1);
  write_pattern(link.end, 100000, 2); /* begins at the quota exactly */
  test_task* third = write_pattern(link.end, 1, 3);
  raw_expect_message(&link.raw, QUOTA, 1);
  raw_expect_message(&link.raw, 100000, 2);
  raw_frame ask = raw_next(&link.raw);
  CHECK_SIZE(RAW_ASK, ask.type);
  raw_frame_free(&ask);
  CHECK_SIZE(0, waiting_frames(&link.raw));
  raw_send_count(&link.raw, RAW_CONSUMED, QUOTA + 100000, 2);
  raw_expect_message(&link.raw, 1, 3);
  RAW_UNTIL(&link.raw, third->calls > 0);
  CHECK_STATUS(0, third->status);
  link_close(*state, &link);
}

/* ------------------------------------------------- the handshake */

/* The conversation at the end of the document, to the letter. */
static void wf_example(void** state) {
  static const unsigned char hello[] =
      "\x01\x00\x00\x00\x23\x00\x00\x00NPIP\x01\x00\x03\x00"
      "\x00\x00\x00\x00\xd2\x04\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"
      "MYNAMEDPIPE";
  static const unsigned char welcome[] =
      "\x02\x00\x00\x00\x20\x00\x00\x00\x01\x00\x01\x00"
      "\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x01\xff\x00\x00\x00"
      "\x32\x00\x00\x00";
  static const unsigned char data[] =
      "\x04\x03\x00\x00\x05\x00\x00\x00hello\x04\x03\x00\x00\x00\x00\x00";
  static const unsigned char first[] =
      "\x04\x01\x00\x00\x04\x00\x04\x00\xe0\x93\x04";
  static const unsigned char last[] = "\x04\x02\x00\x00\xe0\x93\x00";
  static const unsigned char ask[] =
      "\x06\x00\x00\x00\x10\x00\x00\x00\xe5\x93\x03\x00\x00\x00\x00\x00"
      "\x00\x00\x00\x00\x00\x00\x00";
  static const unsigned char zeros[262144];
  world* w = *state;
  strcpy(w->name, "mynamedpipe");
  test_host* host = host_open_type(w, NPIPE_MESSAGE);
  raw_peer raw = raw_connect(w);
  raw_send(&raw, hello, sizeof hello - 1);
  RAW_UNTIL(&raw, raw.in_size >= 40);
  CHECK(memcmp(raw.in, welcome, sizeof welcome - 1) == 0);
  raw.in_size = 0;
  test_end* end = host_accept(host);
  raw_send(&raw, data, sizeof data);
  raw_send(&raw, first, sizeof first);
  raw_send(&raw, zeros, 262144);
  raw_send(&raw, last, sizeof last);
  raw_send(&raw, zeros, 37856);
  raw_send(&raw, ask, sizeof ask);
  test_stream* stream = stream_begin(end, 0);
  raw_expect_consumed(&raw, 300005, 3);
  CHECK(stream_has_text(stream, 0, "hello"));
  CHECK_SIZE(300000, stream->messages[2].size);
  raw_close(&raw);
  RAW_UNTIL(&raw, stream->ends > 0);
  CHECK_STATUS(UV_EOF, stream->end_status);
}

static void wf_byte_by_byte(void** state) {
  static const unsigned char data[] = "\x04\x03\x00\x00\x05\x00\x00\x00hello";
  raw_link link = link_to_server(*state, NPIPE_MESSAGE);
  test_stream* stream = stream_begin(link.end, 0);
  for (size_t i = 0; i < sizeof data - 1; i++) {
    CHECK_SIZE(0, stream->count);
    raw_send(&link.raw, data + i, 1);
    raw_turn(&link.raw);
  }
  RAW_UNTIL(&link.raw, stream->count == 1);
  CHECK(stream_has_text(stream, 0, "hello"));
  link_close(*state, &link);
}

static void wf_busy_and_waiting(void** state) {
  world* w = *state;
  npipe_server_options options = {.max_instances = 1, .default_wait_ms = 80};
  host_open(w, &options);
  raw_peer first = raw_open(w);
  raw_hello hello = raw_good_hello(w);
  raw_peer raw = raw_connect(w);
  raw_send_hello(&raw, &hello);
  CHECK_SIZE(231, raw_refusal(&raw));
  raw_close(&raw);
  raw = raw_connect(w);
  hello.wait_ms = 0xFFFFFFFE;
  raw_send_hello(&raw, &hello);
  raw_frame wait = raw_next(&raw);
  CHECK_SIZE(RAW_WAIT, wait.type);
  CHECK_SIZE(8, wait.length);
  CHECK_SIZE(80, raw_get(wait.body, 8));
  raw_frame_free(&wait);
  CHECK_SIZE(121, raw_refusal(&raw));
  raw_close(&raw);
  raw_close(&first);
}

/* What a question (access 0) is answered. */
static unsigned status_flags(raw_peer* raw) {
  raw_frame status = raw_next(raw);
  CHECK_SIZE(RAW_STATUS, status.type);
  CHECK_SIZE(40, status.length);
  CHECK_SIZE(1, raw_get(status.body, 2));
  CHECK_SIZE(2, raw_get(status.body + 16, 4)); /* max_instances */
  unsigned instances = (unsigned) raw_get(status.body + 32, 4);
  unsigned flags = (unsigned) raw_get(status.body + 36, 4);
  raw_frame_free(&status);
  raw_expect_end(raw);
  return instances * 16 + flags;
}

static raw_peer ask(world* w, uint32_t wait_ms) {
  raw_peer raw = raw_connect(w);
  raw_hello hello = raw_good_hello(w);
  hello.access = 0;
  hello.wait_ms = wait_ms;
  raw_send_hello(&raw, &hello);
  return raw;
}

static void wf_questions(void** state) {
  world* w = *state;
  npipe_server_options options = {.max_instances = 2, .default_wait_ms = 80};
  test_host* host = host_open(w, &options);
  raw_peer first = raw_open(w);
  test_end* end = host_accept(host);
  raw_peer raw = ask(w, 0xFFFFFFFF); /* at once: an instance listens */
  CHECK_SIZE(0x11, status_flags(&raw));
  raw_close(&raw);
  raw_peer second = raw_open(w);
  raw = ask(w, 0);
  CHECK_SIZE(0x20, status_flags(&raw));
  raw_close(&raw);
  raw = ask(w, 0xFFFFFFFE);
  raw_frame wait = raw_next(&raw);
  CHECK_SIZE(RAW_WAIT, wait.type);
  raw_frame_free(&wait);
  CHECK_SIZE(121, raw_refusal(&raw));
  raw_close(&raw);
  raw_peer many[3]; /* all are answered, nothing is taken */
  for (int i = 0; i < 3; i++) many[i] = ask(w, 0xFFFFFFFF);
  world_settle(w);
  raw_close(&first); /* the instance is still in use */
  world_settle(w);
  for (int i = 0; i < 3; i++) raw_turn(&many[i]);
  for (int i = 0; i < 3; i++) CHECK_SIZE(0, many[i].in_size);
  end_shut(end);
  for (int i = 0; i < 3; i++) {
    CHECK_SIZE(0x11, status_flags(&many[i]));
    raw_close(&many[i]);
  }
  raw_close(&second);
}

/* A socket that ends before the answer is no answer: it begins again. */
static void wf_lost_before_the_answer(void** state) {
  world* w = *state;
  char path[RAW_PATH_BYTES];
  raw_path(w, path);
  raw_peer listener = raw_of(w, raw_listen_fd(path, 0));
  test_end* end = end_connect(w, w->name, 0, NULL);
  for (int i = 0; i < 5; i++) {
    raw_peer lost = raw_accept(w, listener.fd);
    if (i % 2 == 1) raw_send_head(&lost, RAW_WELCOME, 0, 32);
    raw_turn(&lost);
    raw_close(&lost);
  }
  raw_peer raw = raw_accept_open(w, listener.fd, NPIPE_MESSAGE, 65536);
  RAW_UNTIL(&raw, end->connects > 0);
  CHECK_STATUS(0, end->connect_status);
  raw_close(&raw);
  end = end_connect(w, w->name, 0, NULL); /* but not for ever */
  unsigned losses = 0;
  while (end->connects == 0) {
    struct pollfd wait = {.fd = listener.fd, .events = POLLIN};
    raw_turn(&(raw_peer){.world = w, .fd = -1});
    if (poll(&wait, 1, 0) != 1) continue;
    raw_peer lost = raw_accept(w, listener.fd);
    raw_close(&lost);
    losses++;
  }
  CHECK_STATUS(UV_ENOENT, end->connect_status);
  CHECK(losses >= 3 && losses <= 16);
  raw_close(&listener);
  CHECK(unlink(path) == 0);
}

static void wf_directions(void** state) {
  world* w = *state;
  npipe_server_options options = {.direction = NPIPE_INBOUND};
  host_open(w, &options);
  for (uint8_t access = 1; access <= 3; access++) {
    raw_peer raw = raw_connect(w);
    raw_hello hello = raw_good_hello(w);
    hello.access = access;
    raw_send_hello(&raw, &hello);
    if (access == 2) {
      raw_frame welcome = raw_next(&raw);
      CHECK_SIZE(RAW_WELCOME, welcome.type);
      raw_frame_free(&welcome);
    } else {
      CHECK_SIZE(5, raw_refusal(&raw));
    }
    raw_close(&raw);
  }
}

static void refusal_means(world* w, uint32_t code, int status) {
  char path[RAW_PATH_BYTES];
  raw_path(w, path);
  raw_link link = {.listener = raw_listen_fd(path, 0)};
  link.end = end_connect(w, w->name, CONNECT_MS, NULL);
  link.raw = raw_accept(w, link.listener);
  raw_frame hello = raw_next(&link.raw);
  CHECK_SIZE(RAW_HELLO, hello.type);
  raw_frame_free(&hello);
  unsigned char body[8] = {0};
  raw_put(body, 4, code);
  raw_send_head(&link.raw, RAW_REFUSE, 0, 8);
  raw_send(&link.raw, body, sizeof body);
  RAW_UNTIL(&link.raw, link.end->connects > 0);
  CHECK_STATUS(status, link.end->connect_status);
  link_close(w, &link);
}

static void wf_refusals(void** state) {
  refusal_means(*state, 2, UV_ENOENT);
  refusal_means(*state, 5, UV_EACCES);
  refusal_means(*state, 50, UV_EPROTO);
  refusal_means(*state, 121, UV_ETIMEDOUT);
  refusal_means(*state, 231, UV_EBUSY);
  refusal_means(*state, 7, UV_EPROTO);
}

int main(int argc, char** argv) {
  const struct CMUnitTest tests[] = {
      TEST(wf_server_reads_messages),
      TEST(wf_server_writes_messages),
      TEST(wf_server_both_ways),
      TEST(wf_client_reads_messages),
      TEST(wf_client_writes_messages),
      TEST(wf_client_both_ways),
      TEST(wf_server_bytes),
      TEST(wf_client_bytes),
      TEST(wf_reports),
      TEST(wf_reports_messages),
      TEST(wf_bounds_of_the_sender),
      TEST(wf_example),
      TEST(wf_byte_by_byte),
      TEST(wf_busy_and_waiting),
      TEST(wf_questions),
      TEST(wf_lost_before_the_answer),
      TEST(wf_directions),
      TEST(wf_refusals),
  };
  return raw_main(argc, argv, "wire", tests, HARNESS_COUNT(tests));
}
