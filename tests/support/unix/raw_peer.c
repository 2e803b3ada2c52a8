/*
 * See raw_peer.h. The encoder is written from docs/wire-format.md and shares
 * nothing with the one of npipe.
 */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* seteuid() */
#endif

#include "raw_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

static char directory[OS_PATH_BYTES];

void raw_put(unsigned char* out, unsigned bytes, uint64_t value) {
  for (unsigned i = 0; i < bytes; i++)
    out[i] = (unsigned char) (value >> 8 * i & 255u);
}

uint64_t raw_get(const unsigned char* in, unsigned bytes) {
  uint64_t value = 0;
  for (unsigned i = 0; i < bytes; i++) value |= (uint64_t) in[i] << 8 * i;
  return value;
}

int raw_main(int argc, char** argv, const char* group,
             const struct CMUnitTest tests[], size_t count) {
  if (!os_make_shared_dir(directory)) return 1;
  setenv("NPIPE_DIR", directory, 1);
  int failures = harness_main(argc, argv, group, tests, count, NULL);
  os_remove_dir(directory);
  return failures;
}

const char* raw_directory(void) {
  return directory;
}

void raw_path(const world* w, char path[RAW_PATH_BYTES]) {
  int length = snprintf(path, RAW_PATH_BYTES, "%s/%s.pipe", directory, w->name);
  CHECK(length > 0 && length < RAW_PATH_BYTES);
}

void raw_lock_path(const world* w, char path[RAW_PATH_BYTES]) {
  raw_path(w, path);
  memcpy(path + strlen(path) - 4, "lock", 4);
}

/* ------------------------------------------------------------ sockets */

static int raw_socket(const char* path, struct sockaddr_un* address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  snprintf(address->sun_path, sizeof address->sun_path, "%s", path);
  return socket(AF_UNIX, SOCK_STREAM, 0);
}

static void raw_be(uid_t uid) {
  if (uid != 0 && seteuid(uid) != 0) abort();
}

static void raw_be_root(uid_t uid) {
  if (uid != 0 && seteuid(0) != 0) abort();
}

int raw_connect_fd(const char* path, uid_t uid) {
  struct sockaddr_un address;
  int fd = raw_socket(path, &address);
  if (fd < 0) return -errno;
  raw_be(uid);
  int rc = connect(fd, (struct sockaddr*) &address, sizeof address);
  int err = -errno;
  raw_be_root(uid);
  if (rc == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0) return fd;
  close(fd);
  return err;
}

int raw_listen_fd(const char* path, uid_t uid) {
  struct sockaddr_un address;
  int fd = raw_socket(path, &address);
  if (fd < 0) return -errno;
  int rc = bind(fd, (struct sockaddr*) &address, sizeof address);
  raw_be(uid);
  if (rc == 0) rc = listen(fd, 16);
  int err = -errno;
  raw_be_root(uid);
  if (rc == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0) return fd;
  close(fd);
  return err;
}

raw_peer raw_of(world* w, int fd) {
  CHECK(fd >= 0);
  return (raw_peer){.world = w, .fd = fd};
}

raw_peer raw_connect(world* w) {
  char path[RAW_PATH_BYTES];
  raw_path(w, path);
  return raw_of(w, raw_connect_fd(path, 0));
}

raw_peer raw_open(world* w) {
  raw_peer raw = raw_connect(w);
  raw_hello hello = raw_good_hello(w);
  raw_send_hello(&raw, &hello);
  raw_frame welcome = raw_next(&raw);
  CHECK_SIZE(RAW_WELCOME, welcome.type);
  raw_frame_free(&welcome);
  return raw;
}

raw_peer raw_accept(world* w, int listener) {
  raw_peer none = {.world = w, .fd = -1};
  int fd = -1;
  RAW_UNTIL(&none, (fd = accept(listener, NULL, NULL)) >= 0);
  CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
  return raw_of(w, fd);
}

raw_peer raw_accept_open(world* w, int listener, unsigned type,
                         uint32_t quota) {
  raw_peer raw = raw_accept(w, listener);
  raw_frame hello = raw_next(&raw);
  CHECK_SIZE(RAW_HELLO, hello.type);
  raw_frame_free(&hello);
  raw_send_welcome(&raw, type, quota);
  return raw;
}

void raw_close(raw_peer* raw) {
  if (raw->fd >= 0) close(raw->fd);
  raw->fd = -1;
  free(raw->in);
  raw->in = NULL;
  raw->in_size = raw->in_room = 0;
}

/* ------------------------------------------------------------ in and out */

static bool raw_take_in(raw_peer* raw) {
  if (raw->fd < 0 || raw->ended) return false;
  if (raw->in_room - raw->in_size < RAW_CHUNK_BYTES) {
    raw->in_room = raw->in_room * 2 + RAW_CHUNK_BYTES;
    raw->in = must_realloc(raw->in, raw->in_room);
  }
  ssize_t got =
      recv(raw->fd, raw->in + raw->in_size, raw->in_room - raw->in_size, 0);
  if (got > 0) raw->in_size += (size_t) got;
  bool later = got < 0 && (errno == EAGAIN || errno == EINTR);
  if (got <= 0 && !later) raw->ended = true;
  return got > 0;
}

void raw_turn(raw_peer* raw) {
  uv_run(&raw->world->loop, UV_RUN_NOWAIT);
  if (raw_take_in(raw)) return;
  int loop_fd = uv_backend_fd(&raw->world->loop);
  struct pollfd wait[2] = {{.fd = loop_fd, .events = POLLIN},
                           {.fd = raw->fd, .events = POLLIN}};
  poll(wait, raw->fd >= 0 && !raw->ended ? 2 : 1, 1);
}

bool raw_send(raw_peer* raw, const void* data, size_t size) {
  const unsigned char* bytes = data;
  uint64_t end = uv_hrtime() + UINT64_C(20000000000);
  while (size > 0) {
    ssize_t sent = send(raw->fd, bytes, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (sent > 0) {
      bytes += sent;
      size -= (size_t) sent;
    }
    if (size > 0) raw_turn(raw);
    CHECK(uv_hrtime() < end);
  }
  return true;
}

static void raw_head(unsigned char* out, unsigned type, unsigned flags,
                     uint32_t length) {
  raw_put(out, 1, type);
  raw_put(out + 1, 1, flags);
  raw_put(out + 2, 2, 0);
  raw_put(out + 4, 4, length);
}

void raw_send_head(raw_peer* raw, unsigned type, unsigned flags,
                   uint32_t length) {
  unsigned char head[RAW_HEAD_BYTES];
  raw_head(head, type, flags, length);
  raw_send(raw, head, sizeof head);
}

raw_hello raw_good_hello(const world* w) {
  return (raw_hello){
      .name = w->name, .version = 1, .access = 3, .message_max = 0x1000000};
}

void raw_send_hello(raw_peer* raw, const raw_hello* hello) {
  unsigned char frame[32 + NPIPE_NAME_BYTES] = {0};
  size_t name = strlen(hello->name);
  raw_head(frame, RAW_HELLO, 0, (uint32_t) (24 + name));
  memcpy(frame + 8, "NPIP", 4);
  raw_put(frame + 12, 2, hello->version);
  raw_put(frame + 14, 1, hello->access);
  raw_put(frame + 16, 4, hello->wait_ms);
  raw_put(frame + 20, 4, (uint32_t) getpid());
  raw_put(frame + 24, 4, hello->message_max);
  for (size_t i = 0; i < name; i++) {
    char c = hello->name[i];
    bool lower = c >= 'a' && c <= 'z';
    frame[32 + i] = (unsigned char) (lower ? c - 'a' + 'A' : c);
  }
  raw_send(raw, frame, 32 + name);
}

void raw_send_welcome(raw_peer* raw, unsigned type, uint32_t quota) {
  unsigned char frame[40] = {0};
  raw_head(frame, RAW_WELCOME, 0, 32);
  raw_put(frame + 8, 2, 1);
  raw_put(frame + 10, 1, type);
  raw_put(frame + 12, 4, quota);
  raw_put(frame + 16, 4, quota);
  raw_put(frame + 20, 4, 0x1000000);
  raw_put(frame + 24, 4, 255);
  raw_put(frame + 28, 4, 50);
  raw_put(frame + 32, 4, (uint32_t) getpid());
  raw_send(raw, frame, sizeof frame);
}

void raw_send_data(raw_peer* raw, unsigned flags, uint32_t total,
                   const void* data, size_t size) {
  unsigned char head[12];
  bool announces = flags == RAW_FIRST;
  raw_head(head, RAW_DATA, flags, (uint32_t) size + (announces ? 4 : 0));
  raw_put(head + 8, 4, total);
  raw_send(raw, head, announces ? 12 : 8);
  raw_send(raw, data, size);
}

void raw_send_count(raw_peer* raw, unsigned type, uint64_t bytes,
                    uint64_t messages) {
  unsigned char frame[24];
  raw_head(frame, type, 0, 16);
  raw_put(frame + 8, 8, bytes);
  raw_put(frame + 16, 8, messages);
  raw_send(raw, frame, sizeof frame);
}

void raw_send_message(raw_peer* raw, const void* data, size_t size) {
  const unsigned char* bytes = data;
  size_t sent = 0;
  do {
    size_t part = size - sent < RAW_CHUNK_BYTES ? size - sent : RAW_CHUNK_BYTES;
    unsigned flags = sent == 0 ? RAW_FIRST : RAW_MIDDLE;
    if (sent + part == size) flags |= RAW_LAST;
    raw_send_data(raw, flags, (uint32_t) size, bytes + sent, part);
    sent += part;
  } while (sent < size);
}

void raw_send_stream(raw_peer* raw, const void* data, size_t size) {
  const unsigned char* bytes = data;
  while (size > 0) {
    size_t part = size < 5000 ? size : 5000;
    raw_send_data(raw, 0, 0, bytes, part);
    bytes += part;
    size -= part;
  }
}

/* ------------------------------------------------------------ frames */

raw_frame raw_next(raw_peer* raw) {
  raw_frame frame = {0};
  RAW_UNTIL(raw, raw->in_size >= RAW_HEAD_BYTES || raw->ended);
  CHECK(raw->in_size >= RAW_HEAD_BYTES);
  frame.type = raw->in[0];
  frame.flags = raw->in[1];
  frame.length = (uint32_t) raw_get(raw->in + 4, 4);
  CHECK_SIZE(0, raw_get(raw->in + 2, 2));
  CHECK(frame.length <= RAW_CHUNK_BYTES + 4);
  size_t all = RAW_HEAD_BYTES + frame.length;
  RAW_UNTIL(raw, raw->in_size >= all || raw->ended);
  CHECK(raw->in_size >= all);
  frame.body = must_alloc(frame.length + 1);
  memcpy(frame.body, raw->in + RAW_HEAD_BYTES, frame.length);
  raw->in_size -= all;
  memmove(raw->in, raw->in + all, raw->in_size);
  return frame;
}

void raw_frame_free(raw_frame* frame) {
  free(frame->body);
  frame->body = NULL;
}

raw_frame raw_next_of(raw_peer* raw, unsigned type) {
  for (;;) {
    raw_frame frame = raw_next(raw);
    if (frame.type == type) return frame;
    raw_frame_free(&frame);
  }
}

unsigned raw_refusal(raw_peer* raw) {
  raw_frame frame = raw_next(raw);
  CHECK_SIZE(RAW_REFUSE, frame.type);
  CHECK_SIZE(8, frame.length);
  CHECK_SIZE(0, raw_get(frame.body + 4, 4));
  unsigned code = (unsigned) raw_get(frame.body, 4);
  raw_frame_free(&frame);
  raw_expect_end(raw);
  return code;
}

void raw_expect_end(raw_peer* raw) {
  RAW_UNTIL(raw, raw->ended);
  CHECK_SIZE(0, raw->in_size);
}

/* The next frame but for DATA and ASK. */
static raw_frame raw_next_last(raw_peer* raw) {
  for (;;) {
    raw_frame frame = raw_next(raw);
    if (frame.type != RAW_DATA && frame.type != RAW_ASK) return frame;
    raw_frame_free(&frame);
  }
}

void raw_expect_disconnect(raw_peer* raw) {
  raw_frame frame = raw_next_last(raw);
  CHECK_SIZE(RAW_DISCONNECT, frame.type);
  CHECK_SIZE(0, frame.flags);
  CHECK_SIZE(0, frame.length);
  raw_frame_free(&frame);
  raw_expect_end(raw);
}

void raw_expect_withdraw(raw_peer* raw, uint64_t bytes, uint64_t messages) {
  raw_frame frame = raw_next_last(raw);
  CHECK_SIZE(RAW_WITHDRAW, frame.type);
  CHECK_SIZE(0, frame.flags);
  CHECK_SIZE(16, frame.length);
  CHECK_SIZE(bytes, raw_get(frame.body, 8));
  CHECK_SIZE(messages, raw_get(frame.body + 8, 8));
  raw_frame_free(&frame);
  raw_expect_end(raw);
}

/* One part of a message at *have of size bytes; its payload. */
static size_t raw_part(const raw_frame* frame, size_t have, size_t size,
                       uint32_t seed) {
  size_t skip = frame->flags == RAW_FIRST ? 4 : 0;
  CHECK(frame->flags <= RAW_WHOLE);
  CHECK(((frame->flags & RAW_FIRST) != 0) == (have == 0));
  if (skip) CHECK_SIZE(size, raw_get(frame->body, 4));
  CHECK(frame->length >= skip);
  size_t part = frame->length - skip;
  CHECK(part <= RAW_CHUNK_BYTES && part <= size - have);
  CHECK(part > 0 || size == 0);
  CHECK(((frame->flags & RAW_LAST) != 0) == (have + part == size));
  CHECK(pattern_holds(frame->body + skip, part, seed, have));
  return part;
}

void raw_expect_message(raw_peer* raw, size_t size, uint32_t seed) {
  size_t have = 0;
  do {
    raw_frame frame = raw_next_of(raw, RAW_DATA);
    have += raw_part(&frame, have, size, seed);
    raw_frame_free(&frame);
  } while (have < size);
}

void raw_expect_consumed(raw_peer* raw, uint64_t bytes, uint64_t messages) {
  for (;;) {
    raw_frame frame = raw_next(raw);
    CHECK_SIZE(RAW_CONSUMED, frame.type);
    CHECK_SIZE(16, frame.length);
    uint64_t got = raw_get(frame.body, 8);
    uint64_t count = raw_get(frame.body + 8, 8);
    raw_frame_free(&frame);
    CHECK(got <= bytes && count <= messages);
    if (got == bytes && count == messages) return;
  }
}
