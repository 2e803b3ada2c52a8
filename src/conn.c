/*
 * A connection: its life, and the turn in which everything owed is paid.
 *
 *   NEW -> CONNECTING -> OPEN or FAILED -> CLOSING -> freed     (client)
 *   NEW -> OPEN -> CLOSING -> freed                             (server's end)
 *
 * and between OPEN and CLOSING, see instance.c,
 *
 *   OPEN -> DISCONNECTED                                        (both)
 *   DISCONNECTED -> LISTENING -> OPEN or DISCONNECTED           (server's end)
 *
 * Callbacks never come from inside a call. What is finished goes to conn->done
 * and the turn is asked for: a uv_idle_t that is active only then. An active
 * idle handle makes the loop not sleep in this round, so the turn comes at
 * once and costs nothing while there is nothing to do. The idle handle lives
 * from npi_conn_new() to the close callback.
 *
 * The program may close the connection in any callback; the memory stays until
 * the loop has closed the handles, so after a callback it is enough to look at
 * conn->state again.
 */
#include "backend.h"

/* Rounds of "serve, then call back" in one turn before others have theirs. */
#define CONN_ROUNDS_MAX 16

static void conn_on_turn(uv_idle_t* idle);

npipe_conn* npi_conn_new(uv_loop_t* loop) {
  npipe_conn* conn = npi_calloc(1, npi_os_conn_size);
  if (conn == NULL) return NULL;
  conn->loop = loop;
  conn->linger_ms = NPIPE_LINGER_DEFAULT_MS;
  conn->turn.data = conn;
  uv_idle_init(loop, &conn->turn); /* cannot fail */
  conn->own_handles = 1;
  return conn;
}

void npi_conn_post(npipe_conn* conn) {
  if (!uv_is_closing((uv_handle_t*) &conn->turn))
    uv_idle_start(&conn->turn, conn_on_turn);
}

static void conn_call(npipe_conn* conn, npi_op* op) {
  switch (op->kind) {
    case NPI_OP_READ:
    case NPI_OP_TRANSACT:
      op->u.read.cb(conn, op->status, op->u.read.got, op->u.read.flags,
                    op->arg);
      break;
    case NPI_OP_WRITE: op->u.write.cb(conn, op->status, op->arg); break;
    case NPI_OP_FLUSH:
    case NPI_OP_LISTEN: op->u.done_cb(conn, op->status, op->arg); break;
  }
}

/* Pays what was owed when it began; more may be owed afterwards. */
static void conn_pay(npipe_conn* conn) {
  npi_queue owed = conn->done;
  conn->done = (npi_queue){NULL, NULL};
  for (npi_op* op; (op = npi_queue_pop(&owed)) != NULL;) {
    npi_tell(op->status);
    conn_call(conn, op);
    npi_op_free(conn, op);
  }
}

static void conn_pay_connect(npipe_conn* conn) {
  npipe_connect_cb cb = conn->connect_cb;
  if (cb == NULL || !conn->connect_done) return;
  conn->connect_cb = NULL;
  npi_tell(conn->connect_status);
  if (conn->trouble != NULL && conn->trouble->code == conn->connect_status)
    npi_fail_again(conn->trouble);
  cb(conn, conn->connect_status, conn->connect_arg);
}

static void conn_on_turn(uv_idle_t* idle) {
  npipe_conn* conn = idle->data;
  int round = 0;
  do {
    uv_idle_stop(idle);
    conn_pay_connect(conn);
    if (conn->state == NPI_CONN_OPEN) npi_os_conn_turn(conn);
    npi_stream_end(conn);
    conn_pay(conn);
  } while (uv_is_active((uv_handle_t*) idle) && ++round < CONN_ROUNDS_MAX);
}

int npi_conn_check(const npipe_conn* conn, const char* what) {
  if (conn->state == NPI_CONN_CLOSING)
    return npi_fail(UV_EBADF, 0, "%s: the connection is being closed", what);
  bool open =
      conn->state == NPI_CONN_OPEN || conn->state == NPI_CONN_DISCONNECTED;
  if (!open || conn->connect_cb != NULL)
    return npi_fail(UV_ENOTCONN, 0, "%s: the connection is not open", what);
  return 0;
}

/* ---- the close */

/* What the program is owed at its close, before the backend closes. */
static void conn_cancel_all(npipe_conn* conn) {
  if (conn->connect_cb != NULL) {
    conn->connect_status = UV_ECANCELED;
    conn->connect_done = true;
  }
  npi_read_cancel_all(conn);
  npi_wait_stop_all(conn, NPI_OP_FLUSH, UV_ECANCELED);
  npi_wait_stop_all(conn, NPI_OP_LISTEN, UV_ECANCELED);
}

static void conn_close(npipe_conn* conn, uint32_t linger_ms) {
  conn_cancel_all(conn);
  conn->state = NPI_CONN_CLOSING;
  npi_conn_post(conn);
  npi_os_conn_close(conn, linger_ms);
}

void npipe_close(npipe_conn* conn, npipe_close_cb cb, void* arg) {
  if (conn == NULL || conn->state == NPI_CONN_CLOSING) return;
  conn->close_cb = cb;
  conn->close_arg = arg;
  conn_close(conn, conn->linger_ms);
}

void npipe_abort(npipe_conn* conn, npipe_close_cb cb, void* arg) {
  if (conn == NULL) return;
  if (conn->state == NPI_CONN_CLOSING) {
    npi_os_conn_close(conn, 0);
    return;
  }
  conn->close_cb = cb;
  conn->close_arg = arg;
  conn_close(conn, 0);
}

void npi_conn_discard(npipe_conn* conn) {
  conn_close(conn, 0);
}

static void conn_on_own_closed(uv_handle_t* handle) {
  npipe_conn* conn = handle->data;
  if (--conn->own_handles > 0) return;
  if (conn->close_cb != NULL) conn->close_cb(conn, conn->close_arg);
  for (npi_op* op; (op = npi_queue_pop(&conn->spare)) != NULL;) npi_free(op);
  npi_free(conn->trouble);
  npi_free(conn);
}

void npi_conn_closed(npipe_conn* conn) {
  conn_pay_connect(conn);
  conn_pay(conn);
  uv_close((uv_handle_t*) &conn->turn, conn_on_own_closed);
  if (conn->has_clock)
    uv_close((uv_handle_t*) &conn->clock, conn_on_own_closed);
}

/* ---- small questions */

void npipe_set_linger(npipe_conn* conn, unsigned linger_ms) {
  conn->linger_ms = linger_ms;
}

void npipe_set_data(npipe_conn* conn, void* data) {
  conn->data = data;
}

void* npipe_get_data(const npipe_conn* conn) {
  return conn->data;
}

uv_loop_t* npipe_loop(const npipe_conn* conn) {
  return conn->loop;
}

npipe_type npipe_get_type(const npipe_conn* conn) {
  return conn->type;
}
