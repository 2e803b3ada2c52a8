/*
 * Waiting until the peer has read everything, and what all waits share.
 *
 * A FLUSH or LISTEN stands in conn->waits until it ends: by the backend, by its
 * deadline, by a cancel, or with the connection. Only a FLUSH is the backend's
 * business as well; a LISTEN waits for the state of its instance to change.
 */
#include "backend.h"

void npi_wait_end(npipe_conn* conn, npi_op* op, int status) {
  if (!npi_queue_remove(&conn->waits, op)) return;
  npi_op_finish(conn, op, status);
}

void npi_wait_stop(npipe_conn* conn, npi_op* op, int status) {
  if (op->kind == NPI_OP_FLUSH) npi_os_flush_cancel(conn, op);
  npi_wait_end(conn, op, status);
}

void npi_wait_stop_all(npipe_conn* conn, npi_op_kind kind, int status) {
  npi_op* next;
  for (npi_op* op = conn->waits.head; op != NULL; op = next) {
    next = op->next;
    if (op->kind == kind) npi_wait_stop(conn, op, status);
  }
}

/* With what a flush ends at once: nothing is there to be read (FL4), or never
 * will be. */
static bool flush_is_over(const npipe_conn* conn, int* status) {
  *status = 0;
  if (conn->state == NPI_CONN_LISTENING) return true;
  if (conn->state != NPI_CONN_DISCONNECTED) return false;
  if (!conn->is_server) *status = UV_ECONNABORTED;
  return true;
}

static int flush_check(const npipe_conn* conn) {
  if (conn->state != NPI_CONN_LISTENING) return npi_write_check(conn, "flush");
  return conn->can_write ? 0 : npi_fail(UV_EACCES, 0, "flush: no write access");
}

int npipe_flush(npipe_conn* conn, int timeout_ms, npipe_op* id,
                npipe_done_cb cb, void* arg) {
  int status;
  if (conn == NULL || cb == NULL || !npi_timeout_valid(timeout_ms))
    return npi_fail(UV_EINVAL, 0, "flush: conn, cb or timeout");
  int err = flush_check(conn);
  if (err != 0) return err;
  npi_op* op = npi_op_new(conn, NPI_OP_FLUSH);
  if (op == NULL) return npi_fail(UV_ENOMEM, 0, "flush: no memory");
  op->u.done_cb = cb;
  op->arg = arg;
  uint64_t name = op->id;
  if (flush_is_over(conn, &status)) {
    npi_op_finish(conn, op, status);
  } else {
    npi_queue_push(&conn->waits, op);
    npi_deadline_set(conn, op, timeout_ms);
    err = npi_os_flush(conn, op);
    if (err != 0) {
      npi_queue_remove(&conn->waits, op);
      npi_op_free(conn, op);
      return err;
    }
  }
  if (id != NULL) *id = name;
  npi_conn_post(conn);
  return 0;
}
