/*
 * Servers, connections, reads and writes that record what happens to them.
 *
 *   host    a server
 *   end     one end of a connection
 *   task    one npipe_read(), npipe_write(), npipe_transact(), npipe_flush() or
 *           npipe_listen()
 *
 * All of them live until the end of their world, also after they were closed,
 * so that what they have recorded can be checked.
 *
 * A hook runs inside the callback, after it was recorded. It may call any
 * function of npipe.h and any of this header that does not wait or check:
 * those marked "starts". No hook is called while the world ends.
 */
#ifndef TESTS_SUPPORT_ENDS_H
#define TESTS_SUPPORT_ENDS_H

#include "world.h"

#define CONNECT_MS 10000 /* long enough wherever no time is tested */

typedef struct test_host {
  test_thing thing;
  world* world;
  npipe_server* server; /* NULL after the close callback */
  unsigned arrivals;    /* callbacks with status 0 */
  unsigned taken;
  unsigned failures;
  int last_failure;
  int closing;
  unsigned closes;
  void (*hook)(struct test_host* host); /* on an arrival */
  void* user;
} test_host;

typedef struct test_end {
  test_thing thing;
  world* world;
  const char* side; /* "server" or "client" */
  npipe_conn* conn; /* NULL after the close callback */
  unsigned connects;
  int connect_status;
  unsigned connect_stamp;
  int closing;
  unsigned closes;
  unsigned close_stamp;
  void (*hook)(struct test_end* end); /* on the connect callback */
  void* user;
} test_end;

typedef enum task_kind {
  TASK_READ,
  TASK_WRITE,
  TASK_TRANSACT,
  TASK_FLUSH,
  TASK_LISTEN
} task_kind;

typedef struct test_task {
  test_thing thing;
  world* world;
  test_end* end;
  task_kind kind;
  npipe_op op;
  unsigned calls;
  int status;
  size_t size;         /* read, transact */
  unsigned flags;      /* read, transact */
  unsigned stamp;      /* of its callback */
  uint64_t begun_ns;   /* uv_hrtime() before the call */
  uint64_t ended_ns;   /* and in the callback */
  unsigned char* data; /* what was read; a write's is freed in its callback */
  size_t room;         /* bytes of data */
  void (*hook)(struct test_task* task);
  void* user;
} test_task;

typedef struct test_pair {
  test_host* host;
  test_end* server;
  test_end* client;
} test_pair;

/* Servers. "starts" = may be used in a hook. */

/* Starts: creates a server. On failure *host is NULL. */
int host_try(world* w, const char* name, const npipe_server_options* options,
             test_host** host);
/* Creates a server of the name of the world; has to succeed. */
test_host* host_open(world* w, const npipe_server_options* options);
test_host* host_open_type(world* w, npipe_type type);
/* Starts: takes a client that has arrived; NULL if there is none. */
test_end* host_take(test_host* host);
/* Waits for a client and takes it. */
test_end* host_accept(test_host* host);
/* Starts closing; closes and waits. */
void host_close(test_host* host);
void host_shut(test_host* host);

/* Clients */

/* Starts: npipe_connect(); options may be NULL. *end is NULL on failure. */
int end_try(world* w, const char* name, int timeout_ms,
            const npipe_client_options* options, test_end** end);
/* Connects to the name; npipe_connect() itself has to succeed. */
test_end* end_connect(world* w, const char* name, int timeout_ms,
                      const npipe_client_options* options);
/* Waits for the connect callback. */
int end_outcome(test_end* end);
/* A connected client of the server of this world. */
test_end* end_open(world* w, const npipe_client_options* options);
/* Connects, waits, closes; what the callback said. */
int connect_outcome(world* w, const char* name, int timeout_ms,
                    const npipe_client_options* options);
/* Starts npipe_close(); closes and waits. */
void end_close(test_end* end);
void end_shut(test_end* end);
/* Starts npipe_abort(), also after end_close(); aborts and waits. The world
 * ends its ends this way, so that none of them lingers. */
void end_abort(test_end* end);
void end_drop(test_end* end);

/* A server with one client, both ends ready. */
test_pair pair_open(world* w, const npipe_server_options* server,
                    const npipe_client_options* client);
test_pair pair_of(world* w, npipe_type type);
/* Closes all three and waits, so that the name can be used again. The ends are
 * aborted: nothing lingers. */
void pair_shut(test_pair* pair);
/* The same pair as two ends, the one that a test is about first. */
typedef struct test_ends {
  test_end* self;
  test_end* peer;
} test_ends;
test_ends pair_ends(const test_pair* pair, int near_is_server);

/* Reads and writes */

/* Starts; NULL, and *status set, if the call itself failed. */
test_task* read_try(test_end* end, size_t room, int* status);
test_task* write_try(test_end* end, const uv_buf_t bufs[], unsigned nbufs,
                     int* status);
/* Starts; has to succeed, aborts the program if not. */
test_task* read_begin(test_end* end, size_t room);
test_task* write_begin(test_end* end, const void* data, size_t size);
/* Starts: a message of the pattern with this seed. */
test_task* write_pattern(test_end* end, size_t size, uint32_t seed);
/* Starts: npipe_flush(), npipe_listen(). */
test_task* flush_try(test_end* end, int timeout_ms, int* status);
test_task* flush_begin(test_end* end, int timeout_ms);
test_task* listen_try(test_end* end, int timeout_ms, int* status);
test_task* listen_begin(test_end* end, int timeout_ms);
/* Starts: npipe_transact() with room for the reply. */
test_task* transact_try(test_end* end, const void* data, size_t size,
                        size_t room, int timeout_ms, int* status);
test_task* transact_begin(test_end* end, const char* text, size_t room,
                          int timeout_ms);
/* npipe_cancel() of the task. */
int task_cancel(test_task* task);
/* npipe_disconnect(). */
int end_disconnect(test_end* end);
/* Waits for the callback; its status. */
int task_outcome(test_task* task);
/* Frees what a task that is over has read, where that is much. */
void task_forget_data(test_task* task);

/* Writes and waits; the status has to be 0. */
void send_bytes(test_end* end, const void* data, size_t size);
void send_text(test_end* end, const char* text);
void send_pattern(test_end* end, size_t size, uint32_t seed);

/* Reads once and waits: exactly this has to come. */
#define EXPECT_TEXT(end, room, text, flags) \
  expect_text((end), (room), (text), (flags), __FILE__, __LINE__)
#define EXPECT_STATUS(end, room, status) \
  expect_status((end), (room), (status), __FILE__, __LINE__)
/* Checks what a task that is over has read. */
#define TASK_READ_TEXT(task, text, flags) \
  task_read_text((task), (text), (flags), __FILE__, __LINE__)

void expect_text(test_end* end, size_t room, const char* text, unsigned flags,
                 const char* file, int line);
void expect_status(test_end* end, size_t room, int status, const char* file,
                   int line);
void task_read_text(test_task* task, const char* text, unsigned flags,
                    const char* file, int line);

/* Reads as many bytes as the pattern has, in as many reads as it takes. */
void expect_pattern_bytes(test_end* end, size_t room, size_t size,
                          uint32_t seed);

#endif /* TESTS_SUPPORT_ENDS_H */
