/*
 * ST1: what each operation gives in each state, cell by cell, on byte and
 * message pipes. The table is the one of the rules, with the codes as npipe.h
 * maps them: 536 and 230 while listening are UV_ENOTCONN, 232 and 230 while
 * closing UV_EPIPE, 233 and 230 while disconnected UV_ECONNABORTED, 109 UV_EOF.
 *
 * Each cell has a pipe of its own, so that no cell can profit from another.
 */
#include <stdio.h>
#include <string.h>

#include "harness.h"

/* The columns. The client is the peer's end of the same story. */
typedef enum state_kind {
  S_LISTENING, /* the server's end, after npipe_listen() */
  S_CONNECTED,
  S_LEFT,    /* CLOSING, data is left */
  S_DRAINED, /* CLOSING, all was read */
  S_THROWN,  /* the server's end, after npipe_disconnect() */
  C_CONNECTED,
  C_LEFT,
  C_DRAINED,
  C_THROWN, /* the client's end, thrown out */
  STATES
} state_kind;

static const char* const state_names[STATES] = {
    "server LISTENING",     "server CONNECTED",    "server CLOSING, left",
    "server CLOSING",       "server DISCONNECTED", "client CONNECTED",
    "client CLOSING, left", "client CLOSING",      "client DISCONNECTED"};

enum {
  PENDS = 1, /* no callback comes while nothing else happens */
  NEVER = 2  /* there is no such thing */
};

#define NOTCONN UV_ENOTCONN
#define ABORTED UV_ECONNABORTED
#define NOTSUP UV_ENOTSUP
#define PIPE UV_EPIPE
#define EOF_ UV_EOF
#define BUSY UV_EBUSY

typedef struct state_cell {
  world* w;
  test_pair pair;
  test_end* end; /* the one that is asked */
  npipe_type type;
  int returned; /* the status was the return value */
} state_cell;

static int task_status(state_cell* cell, test_task* task, int status) {
  cell->returned = task == NULL;
  if (task == NULL) return status;
  world_run_for(cell->w, 15);
  if (task->calls == 0) return PENDS;
  return task->status;
}

static int op_read(state_cell* cell) {
  int status;
  test_task* task = read_try(cell->end, 8, &status);
  return task_status(cell, task, status);
}

static int op_read_nothing(state_cell* cell) {
  int status;
  test_task* task = read_try(cell->end, 0, &status);
  return task_status(cell, task, status);
}

static int op_write(state_cell* cell) {
  int status;
  char text[] = "text";
  uv_buf_t buf = uv_buf_init(text, 4);
  test_task* task = write_try(cell->end, &buf, 1, &status);
  return task_status(cell, task, status);
}

static int op_write_nothing(state_cell* cell) {
  int status;
  uv_buf_t buf = uv_buf_init(NULL, 0);
  test_task* task = write_try(cell->end, &buf, 1, &status);
  return task_status(cell, task, status);
}

static int op_try_write(state_cell* cell) {
  char text[] = "text";
  uv_buf_t buf = uv_buf_init(text, 4);
  cell->returned = -1; /* has no callback */
  return CALL(cell->w, npipe_try_write(cell->end->conn, &buf, 1));
}

static int op_peek(state_cell* cell) {
  cell->returned = -1;
  return peek_status(cell->end);
}

static int op_transact(state_cell* cell) {
  int status;
  test_task* task =
      transact_try(cell->end, "ask", 3, 8, NPIPE_WAIT_FOREVER, &status);
  return task_status(cell, task, status);
}

static int op_flush(state_cell* cell) {
  int status;
  test_task* task = flush_try(cell->end, NPIPE_WAIT_FOREVER, &status);
  return task_status(cell, task, status);
}

static int op_listen(state_cell* cell) {
  int status;
  test_task* task = listen_try(cell->end, NPIPE_WAIT_FOREVER, &status);
  return task_status(cell, task, status);
}

static int op_disconnect(state_cell* cell) {
  cell->returned = -1;
  return end_disconnect(cell->end);
}

static int op_get_info(state_cell* cell) {
  cell->returned = -1;
  return info_status(cell->end);
}

static int op_set_mode(state_cell* cell) {
  cell->returned = -1;
  return CALL(cell->w, npipe_set_read_mode(cell->end->conn, NPIPE_READ_BYTES));
}

static int op_new_client(state_cell* cell) {
  cell->returned = -1;
  return connect_outcome(cell->w, cell->w->name, 0, NULL);
}

/* One row: an operation in all states. */
typedef struct state_row {
  const char* name;
  int (*op)(state_cell* cell);
  int want[STATES];
  int messages_only; /* on a byte pipe it is UV_EINVAL where it is not
                        refused as NOTCONN */
} state_row;

/* clang-format off */
static const state_row table[] = {
  /*             server's end                              client's end
     LISTENING CONNECTED LEFT   CLOSING DISCONN. CONNECTED LEFT  CLOSING DISCONN. */
  {"read",        op_read,
   {NOTCONN,  PENDS,    0,     EOF_,   ABORTED, PENDS,    0,    EOF_,   ABORTED}, 0},
  {"read of 0 bytes", op_read_nothing,
   {NOTCONN,  PENDS,    0,     EOF_,   ABORTED, PENDS,    0,    EOF_,   ABORTED}, 0},
  {"write",       op_write,
   {NOTCONN,  0,        PIPE,  PIPE,   ABORTED, 0,        PIPE, PIPE,   ABORTED}, 0},
  {"write of 0 bytes", op_write_nothing,
   {NOTCONN,  0,        PIPE,  PIPE,   ABORTED, 0,        PIPE, PIPE,   ABORTED}, 0},
  {"try write",   op_try_write,
   {NOTCONN,  0,        PIPE,  PIPE,   ABORTED, 0,        PIPE, PIPE,   ABORTED}, 0},
  {"peek",        op_peek,
   {NOTCONN,  0,        0,     EOF_,   ABORTED, 0,        0,    EOF_,   ABORTED}, 0},
  {"transact",    op_transact,
   {NOTCONN,  PENDS,    PIPE,  PIPE,   ABORTED, PENDS,    PIPE, PIPE,   ABORTED}, 1},
  {"flush",       op_flush,
   {0,        PENDS,    0,     0,      0,       PENDS,    0,    0,      ABORTED}, 0},
  {"listen",      op_listen,
   {PENDS,    0,        PIPE,  PIPE,   PENDS,   NOTSUP,   NOTSUP, NOTSUP, NOTSUP}, 0},
  {"disconnect",  op_disconnect,
   {0,        0,        0,     0,      ABORTED, NOTSUP,   NOTSUP, NOTSUP, NOTSUP}, 0},
  {"get info",    op_get_info,
   {0,        0,        0,     0,      0,       0,        0,    0,      ABORTED}, 0},
  {"set read mode", op_set_mode,
   {0,        0,        0,     0,      0,       0,        0,    0,      ABORTED}, 0},
  {"a new client", op_new_client,
   {0,        BUSY,     BUSY,  BUSY,   BUSY,    NEVER,    NEVER, NEVER, NEVER},   0},
};
/* clang-format on */

static void await_closing(test_end* end) {
  RUN_UNTIL(end->world, end_state(end) == NPIPE_STATE_CLOSING);
}

static void cell_closing(test_end* end, test_end* peer, int drained) {
  send_text(peer, "left");
  end_shut(peer);
  if (drained) EXPECT_TEXT(end, 8, "left", 0);
  await_closing(end);
}

static void cell_open(state_cell* cell, state_kind state) {
  world* w = cell->w;
  npipe_server_options options = {.type = cell->type, .max_instances = 1};
  cell->pair = pair_open(w, &options, NULL);
  test_end* server = cell->pair.server;
  test_end* client = cell->pair.client;
  cell->end = state < C_CONNECTED ? server : client;
  switch (state) {
    case S_CONNECTED:
    case C_CONNECTED: break;
    case S_LEFT:
    case S_DRAINED: cell_closing(server, client, state == S_DRAINED); break;
    case C_LEFT:
    case C_DRAINED: cell_closing(client, server, state == C_DRAINED); break;
    case S_THROWN: CHECK_STATUS(0, end_disconnect(server)); break;
    case S_LISTENING:
      CHECK_STATUS(0, end_disconnect(server));
      listen_begin(server, NPIPE_WAIT_FOREVER);
      break;
    case C_THROWN:
      CHECK_STATUS(0, end_disconnect(server));
      RUN_UNTIL(w, info_status(client) == UV_ECONNABORTED);
      break;
    case STATES: break;
  }
}

/* A flush of nothing is over at once: give it something to wait for. */
static void cell_prepare(state_cell* cell, const state_row* row) {
  if (row->op == op_flush && row->want[S_CONNECTED] == PENDS &&
      end_state(cell->end) == NPIPE_STATE_CONNECTED)
    send_text(cell->end, "unread");
}

static int cell_want(const state_row* row, state_kind state, npipe_type type) {
  int want = row->want[state];
  if (type == NPIPE_BYTE && row->messages_only && want != NOTCONN)
    return UV_EINVAL;
  return want;
}

/* npipe.h, "Results": misuse is returned, what the pipe says comes later. */
static int cell_belongs_to_return(int status) {
  return status == UV_ENOTCONN || status == UV_ENOTSUP || status == UV_EINVAL;
}

static void cell_check(world* w, npipe_type type, const state_row* row,
                       state_kind state) {
  int want = cell_want(row, state, type);
  if (want == NEVER) return;
  state_cell cell = {.w = w, .type = type};
  cell_open(&cell, state);
  cell_prepare(&cell, row);
  int got = row->op(&cell);
  const char* pipe = type == NPIPE_BYTE ? "byte" : "message";
  if (got != want) {
    fail_msg("%s pipe, %s, %s: wanted %s, got %s", pipe, state_names[state],
             row->name, want == PENDS ? "pending" : status_name(want),
             got == PENDS ? "pending" : status_name(got));
  }
  if (got < 0 && cell.returned >= 0 &&
      cell.returned != cell_belongs_to_return(got)) {
    fail_msg("%s pipe, %s, %s: %s came %s", pipe, state_names[state], row->name,
             status_name(got), cell.returned ? "at once" : "in the callback");
  }
  pair_shut(&cell.pair);
}

static void row_check(world* w, const char* name) {
  for (size_t i = 0; i < HARNESS_COUNT(table); i++) {
    if (strcmp(table[i].name, name) != 0) continue;
    for (int state = 0; state < STATES; state++) {
      cell_check(w, NPIPE_BYTE, &table[i], (state_kind) state);
      cell_check(w, NPIPE_MESSAGE, &table[i], (state_kind) state);
    }
    return;
  }
  fail_msg("no row %s", name);
}

#define ROW(function, name) \
  static void function(void** state) { \
    row_check(*state, name); \
  }

ROW(st1_read, "read")
ROW(st1_read_of_0_bytes, "read of 0 bytes")
ROW(st1_write, "write")
ROW(st1_write_of_0_bytes, "write of 0 bytes")
ROW(st1_try_write, "try write")
ROW(st1_peek, "peek")
ROW(st1_transact, "transact")
ROW(st1_flush, "flush")
ROW(st1_listen, "listen")
ROW(st1_disconnect, "disconnect")
ROW(st1_get_info, "get info")
ROW(st1_set_read_mode, "set read mode")
ROW(st1_a_new_client, "a new client")

/* What npipe_get_info() says the state is, all along one story. */
static void st1_the_state_is_told(void** state) {
  world* w = *state;
  for (int type = NPIPE_BYTE; type <= NPIPE_MESSAGE; type++) {
    npipe_server_options options = {.type = (npipe_type) type,
                                    .max_instances = 1};
    test_pair pair = pair_open(w, &options, NULL);
    CHECK(end_state(pair.server) == NPIPE_STATE_CONNECTED);
    CHECK(end_state(pair.client) == NPIPE_STATE_CONNECTED);
    end_shut(pair.client);
    RUN_UNTIL(w, end_state(pair.server) == NPIPE_STATE_CLOSING);
    CHECK_STATUS(0, end_disconnect(pair.server));
    CHECK(end_state(pair.server) == NPIPE_STATE_DISCONNECTED);
    test_task* listen = listen_begin(pair.server, NPIPE_WAIT_FOREVER);
    CHECK(end_state(pair.server) == NPIPE_STATE_LISTENING);
    world_settle(w);
    CHECK(end_state(pair.server) == NPIPE_STATE_LISTENING);
    test_end* client = end_open(w, NULL);
    CHECK_STATUS(0, task_outcome(listen));
    CHECK(end_state(pair.server) == NPIPE_STATE_CONNECTED);
    end_shut(pair.server);
    RUN_UNTIL(w, end_state(client) == NPIPE_STATE_CLOSING);
    pair_shut(&pair);
  }
}

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      TEST(st1_read),         TEST(st1_read_of_0_bytes),
      TEST(st1_write),        TEST(st1_write_of_0_bytes),
      TEST(st1_try_write),    TEST(st1_peek),
      TEST(st1_transact),     TEST(st1_flush),
      TEST(st1_listen),       TEST(st1_disconnect),
      TEST(st1_get_info),     TEST(st1_set_read_mode),
      TEST(st1_a_new_client), TEST(st1_the_state_is_told),
  };
  return harness_main(argc, argv, "states", tests, HARNESS_COUNT(tests), NULL);
}
