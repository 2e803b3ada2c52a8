/*
 * A peer without npipe: a socket and docs/wire-format.md. It lives in the
 * thread of the test: whatever waits here turns the loop of the world too.
 */
#ifndef TESTS_SUPPORT_UNIX_RAW_PEER_H
#define TESTS_SUPPORT_UNIX_RAW_PEER_H

#include <stdbool.h>
#include <sys/types.h>

#include "../harness.h"

#define RAW_HEAD_BYTES 8u
#define RAW_CHUNK_BYTES 262144u
#define RAW_PATH_BYTES 108

enum raw_type {
  RAW_HELLO = 1,
  RAW_WELCOME = 2,
  RAW_REFUSE = 3,
  RAW_DATA = 4,
  RAW_CONSUMED = 5,
  RAW_ASK = 6,
  RAW_DISCONNECT = 7,
  RAW_WITHDRAW = 8,
  RAW_STATUS = 9,
  RAW_WAIT = 10
};

enum { RAW_MIDDLE = 0, RAW_FIRST = 1, RAW_LAST = 2, RAW_WHOLE = 3 };

typedef struct raw_peer {
  world* world;
  int fd;
  unsigned char* in; /* what has arrived and was not taken as a frame */
  size_t in_size;
  size_t in_room;
  bool ended;
} raw_peer;

typedef struct raw_frame {
  unsigned type;
  unsigned flags;
  uint32_t length;
  unsigned char* body; /* length bytes; raw_frame_free() */
} raw_frame;

/* A HELLO as a peer that behaves sends it; change what the test is about. */
typedef struct raw_hello {
  const char* name;
  uint16_t version;
  uint8_t access;
  uint32_t wait_ms;
  uint32_t message_max;
} raw_hello;

/* Numbers as on the wire. */
void raw_put(unsigned char* out, unsigned bytes, uint64_t value);
uint64_t raw_get(const unsigned char* in, unsigned bytes);

/* Makes a directory for pipes, sets NPIPE_DIR to it and runs the tests. */
int raw_main(int argc, char** argv, const char* group,
             const struct CMUnitTest tests[], size_t count);
/* Where the pipe of the world lives. */
void raw_path(const world* w, char path[RAW_PATH_BYTES]);
/* The lock file beside it. */
void raw_lock_path(const world* w, char path[RAW_PATH_BYTES]);
const char* raw_directory(void);

/* Sockets; errno's number below zero on failure. As another user, where uid is
 * not 0: the user is what the other end sees. */
int raw_connect_fd(const char* path, uid_t uid);
int raw_listen_fd(const char* path, uid_t uid);

raw_peer raw_of(world* w, int fd);
/* A connected socket to the server of the world. */
raw_peer raw_connect(world* w);
/* The same, and HELLO and WELCOME are over. */
raw_peer raw_open(world* w);
/* Waits for a connection on a listening socket. */
raw_peer raw_accept(world* w, int listener);
/* Accepts npipe's client and opens the pipe with WELCOME. */
raw_peer raw_accept_open(world* w, int listener, unsigned type, uint32_t quota);
void raw_close(raw_peer* raw);

/* One turn of the loop; takes in what has arrived. */
void raw_turn(raw_peer* raw);
#define RAW_UNTIL(raw, condition) \
  do { \
    uint64_t raw_end = uv_hrtime() + UINT64_C(20000000000); \
    watchdog_step(#condition); \
    while (!(condition)) { \
      raw_turn(raw); \
      if (uv_hrtime() > raw_end) \
        check_true(0, "in time: " #condition, __FILE__, __LINE__); \
    } \
    watchdog_step(NULL); \
  } while (0)

/* Sends all, or what the other end takes; false if it has gone. */
bool raw_send(raw_peer* raw, const void* data, size_t size);
void raw_send_head(raw_peer* raw, unsigned type, unsigned flags,
                   uint32_t length);
void raw_send_hello(raw_peer* raw, const raw_hello* hello);
raw_hello raw_good_hello(const world* w);
void raw_send_welcome(raw_peer* raw, unsigned type, uint32_t quota);
/* DATA with these flags; total goes in with RAW_FIRST. */
void raw_send_data(raw_peer* raw, unsigned flags, uint32_t total,
                   const void* data, size_t size);
void raw_send_count(raw_peer* raw, unsigned type, uint64_t bytes,
                    uint64_t messages);
/* A message in parts, or bytes in frames. */
void raw_send_message(raw_peer* raw, const void* data, size_t size);
void raw_send_stream(raw_peer* raw, const void* data, size_t size);

/* Waits for the next frame. */
raw_frame raw_next(raw_peer* raw);
void raw_frame_free(raw_frame* frame);
/* Waits for the next frame of this type, drops the others. */
raw_frame raw_next_of(raw_peer* raw, unsigned type);
/* Waits for a REFUSE and the end behind it; its code. */
unsigned raw_refusal(raw_peer* raw);
/* Waits for a DISCONNECT, DATA and ASK may come before it, and the end. */
void raw_expect_disconnect(raw_peer* raw);
/* Waits for a WITHDRAW with these numbers, the same, and the end. */
void raw_expect_withdraw(raw_peer* raw, uint64_t bytes, uint64_t messages);
/* Waits for the end; no frame may come before it. */
void raw_expect_end(raw_peer* raw);
/* Waits for a whole message; checks its frames and the pattern. */
void raw_expect_message(raw_peer* raw, size_t size, uint32_t seed);
/* Waits for CONSUMED with these numbers; smaller ones may come before. */
void raw_expect_consumed(raw_peer* raw, uint64_t bytes, uint64_t messages);

#endif /* TESTS_SUPPORT_UNIX_RAW_PEER_H */
