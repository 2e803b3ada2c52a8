/*
 * A connection: its life, and the turn in which everything owed is paid.
 *
 *   NEW -> CONNECTING -> OPEN or FAILED -> CLOSING -> freed     (client)
 *   NEW -> OPEN -> CLOSING -> freed                             (server's end)
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
#include <string.h>

#include "backend.h"

/* Rounds of "serve, then call back" in one turn before others have theirs. */
#define CONN_ROUNDS_MAX 16

static void conn_on_turn(uv_idle_t* idle);

npipe_conn* npi_conn_new(uv_loop_t* loop) {
  npipe_conn* conn = npi_calloc(1, npi_os_conn_size);
  if (conn == NULL) return NULL;
  conn->loop = loop;
  conn->turn.data = conn;
  uv_idle_init(loop, &conn->turn); /* cannot fail */
  return conn;
}

void npi_conn_post(npipe_conn* conn) {
  if (!uv_is_closing((uv_handle_t*) &conn->turn))
    uv_idle_start(&conn->turn, conn_on_turn);
}

static void conn_call_read(npipe_conn* conn, npi_op* op) {
  op->u.read.cb(conn, op->status, op->u.read.got, op->u.read.flags, op->arg);
}

/* Pays what was owed when it began; more may be owed afterwards. */
static void conn_pay(npipe_conn* conn) {
  npi_queue owed = conn->done;
  conn->done = (npi_queue){NULL, NULL};
  for (npi_op* op; (op = npi_queue_pop(&owed)) != NULL;) {
    npi_tell(op->status);
    if (op->kind == NPI_OP_READ)
      conn_call_read(conn, op);
    else if (op->u.write.cb != NULL)
      op->u.write.cb(conn, op->status, op->arg);
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

/* ---- the client's open */

static int conn_check_options(const npipe_client_options* o) {
  static const npipe_client_options zero;
  if ((unsigned) o->access > NPIPE_WRITE_ONLY ||
      (unsigned) o->read_mode > NPIPE_READ_MESSAGES ||
      (unsigned) o->scope > NPIPE_SCOPE_MACHINE)
    return npi_fail(UV_EINVAL, 0, "connect: an option is out of range");
  if (o->message_max_bytes > NPIPE_MESSAGE_MAX_BYTES)
    return npi_fail(UV_EINVAL, 0, "connect: message limit above 1 GiB");
  if (o->plain_path != NULL && o->read_mode == NPIPE_READ_MESSAGES)
    return npi_fail(UV_EINVAL, 0, "connect: a plain pipe has no messages");
  if (memcmp(o->reserved, zero.reserved, sizeof o->reserved) != 0)
    return npi_fail(UV_EINVAL, 0, "connect: reserved options must be 0");
  return 0;
}

static int conn_fill_request(npi_connect_request* request, const char* text,
                             int timeout_ms,
                             const npipe_client_options* options) {
  static const npipe_client_options defaults;
  if (timeout_ms < NPIPE_WAIT_DEFAULT)
    return npi_fail(UV_EINVAL, 0, "connect: timeout of %d ms", timeout_ms);
  request->options = options != NULL ? *options : defaults;
  request->timeout_ms = timeout_ms;
  int err = npi_name_parse(&request->name, text);
  if (err == 0) err = conn_check_options(&request->options);
  if (err == 0 && request->options.message_max_bytes == 0)
    request->options.message_max_bytes = NPIPE_MESSAGE_DEFAULT_BYTES;
  return err;
}

int npipe_connect(uv_loop_t* loop, const char* name, int timeout_ms,
                  const npipe_client_options* options, npipe_connect_cb cb,
                  void* arg, npipe_conn** out) {
  npi_connect_request request;
  if (out != NULL) *out = NULL;
  if (loop == NULL || cb == NULL || out == NULL)
    return npi_fail(UV_EINVAL, 0, "connect: loop, cb or conn is NULL");
  int err = conn_fill_request(&request, name, timeout_ms, options);
  if (err != 0) return err;
  npipe_conn* conn = npi_conn_new(loop);
  if (conn == NULL) return npi_fail(UV_ENOMEM, 0, "connect: no memory");
  conn->state = NPI_CONN_CONNECTING;
  err = npi_os_connect(conn, &request);
  if (err != 0) {
    npi_conn_discard(conn);
    return err;
  }
  conn->connect_cb = cb;
  conn->connect_arg = arg;
  *out = conn;
  return 0;
}

static void conn_keep_trouble(npipe_conn* conn) {
  conn->trouble = npi_malloc(sizeof *conn->trouble);
  if (conn->trouble != NULL) *conn->trouble = *npipe_last_error();
}

void npi_conn_connected(npipe_conn* conn, int status) {
  if (conn->state != NPI_CONN_CONNECTING) return; /* closed meanwhile */
  conn->state = status == 0 ? NPI_CONN_OPEN : NPI_CONN_FAILED;
  conn->connect_status = status;
  conn->connect_done = true;
  if (status != 0) conn_keep_trouble(conn);
  npi_conn_post(conn);
}

/* ---- the close */

/* What the program is owed at its close, before the backend closes. */
static void conn_cancel_all(npipe_conn* conn) {
  if (conn->connect_cb != NULL) {
    conn->connect_status = UV_ECANCELED;
    conn->connect_done = true;
  }
  npi_read_cancel_all(conn);
}

void npipe_close(npipe_conn* conn, npipe_close_cb cb, void* arg) {
  if (conn == NULL || conn->state == NPI_CONN_CLOSING) return;
  conn->close_cb = cb;
  conn->close_arg = arg;
  npi_conn_discard(conn);
}

void npi_conn_discard(npipe_conn* conn) {
  conn_cancel_all(conn);
  conn->state = NPI_CONN_CLOSING;
  npi_server_release(conn);
  npi_conn_post(conn);
  npi_os_conn_close(conn);
}

static void conn_on_turn_closed(uv_handle_t* handle) {
  npipe_conn* conn = handle->data;
  if (conn->close_cb != NULL) conn->close_cb(conn, conn->close_arg);
  for (npi_op* op; (op = npi_queue_pop(&conn->spare)) != NULL;) npi_free(op);
  npi_free(conn->trouble);
  npi_free(conn);
}

void npi_conn_closed(npipe_conn* conn) {
  conn_pay_connect(conn);
  conn_pay(conn);
  uv_close((uv_handle_t*) &conn->turn, conn_on_turn_closed);
}

/* ---- small questions */

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
