/*
 * An instance that outlives its client: disconnect, listen again.
 *
 *   OPEN, LISTENING --npipe_disconnect--> DISCONNECTED
 *   DISCONNECTED --npipe_listen--> LISTENING --a client--> OPEN
 *
 * A client's end is thrown out by its server and stays DISCONNECTED for ever
 * (ST4). In this state everything pending has ended with UV_ECONNABORTED and
 * the backend is not asked any more; reads know it from conn->read_end.
 */
#include "backend.h"

/* What every end goes through that is disconnected. */
static void instance_cut(npipe_conn* conn) {
  conn->state = NPI_CONN_DISCONNECTED;
  npi_read_cut(conn, UV_ECONNABORTED);
  npi_wait_stop_all(conn, NPI_OP_FLUSH, UV_ECONNABORTED);
  npi_wait_stop_all(conn, NPI_OP_LISTEN, UV_ECONNABORTED);
}

void npi_conn_disconnected(npipe_conn* conn) {
  if (conn->state == NPI_CONN_OPEN) instance_cut(conn);
}

/* Is this the server's end of an instance? LISTENING is as good as any. */
static int instance_check(const npipe_conn* conn, const char* what) {
  if (conn->state != NPI_CONN_LISTENING) {
    int err = npi_conn_check(conn, what);
    if (err != 0) return err;
  }
  if (conn->is_server) return 0;
  return npi_fail(UV_ENOTSUP, 0, "%s: this is a client's end (ST2)", what);
}

int npipe_disconnect(npipe_conn* conn) {
  if (conn == NULL) return npi_fail(UV_EINVAL, 0, "disconnect: conn is NULL");
  int err = instance_check(conn, "disconnect");
  if (err != 0) return err;
  if (conn->state == NPI_CONN_DISCONNECTED)
    return npi_fail(UV_ECONNABORTED, 0, "disconnect: it is disconnected (DI3)");
  err = npi_os_disconnect(conn);
  if (err == 0) instance_cut(conn);
  return err;
}

/* ---- the next client */

void npi_conn_listened(npipe_conn* conn, int status) {
  if (conn->state != NPI_CONN_LISTENING) return;
  /* Our turn may not have come yet: the stream of the client before is told
   * first. It may disconnect or close in there. */
  npi_stream_end(conn);
  if (conn->state != NPI_CONN_LISTENING) return;
  conn->state = status == 0 ? NPI_CONN_OPEN : NPI_CONN_DISCONNECTED;
  if (status == 0) conn->read_end = 0;
  npi_wait_stop_all(conn, NPI_OP_LISTEN, status);
}

/* Begins to listen if it does not yet. True: op has to wait; else *status is
 * how it ends. */
static bool instance_listen(npipe_conn* conn, int* status) {
  if (conn->state == NPI_CONN_LISTENING) return true;
  bool disconnected = conn->state == NPI_CONN_DISCONNECTED;
  *status = npi_os_listen(conn);
  if (*status == 0 && disconnected) {
    conn->state = NPI_CONN_LISTENING;
    return true;
  }
  if (*status == UV_EISCONN) *status = 0;
  return false;
}

int npipe_listen(npipe_conn* conn, int timeout_ms, npipe_op* id,
                 npipe_done_cb cb, void* arg) {
  int status;
  if (conn == NULL || cb == NULL || !npi_timeout_valid(timeout_ms))
    return npi_fail(UV_EINVAL, 0, "listen: conn, cb or timeout");
  int err = instance_check(conn, "listen");
  if (err != 0) return err;
  npi_op* op = npi_op_new(conn, NPI_OP_LISTEN);
  if (op == NULL) return npi_fail(UV_ENOMEM, 0, "listen: no memory");
  op->u.done_cb = cb;
  op->arg = arg;
  if (instance_listen(conn, &status)) {
    npi_queue_push(&conn->waits, op);
    npi_deadline_set(conn, op, timeout_ms);
  } else if (status == UV_ENOTSUP) {
    npi_op_free(conn, op);
    return npi_fail(status, 0, "listen: a plain pipe cannot");
  } else {
    npi_op_finish(conn, op, status);
  }
  if (id != NULL) *id = op->id;
  return 0;
}
