/*
 * Request and reply: a write and a read in one operation.
 *
 * The operation is a read of a message with a request in front, so everything
 * that holds for reads holds for it: who serves it, how it is cancelled, how it
 * ends. The request is a copy of ours, because it stays in the pipe also when
 * the operation is cancelled (TX4).
 */
#include "backend.h"

/* TX1 and TX2, as far as it is known without the backend. */
static int transact_check(const npipe_conn* conn) {
  int err = npi_read_check(conn, "transact");
  if (err == 0) err = npi_write_check(conn, "transact");
  if (err != 0) return err;
  if (conn->read_mode != NPIPE_READ_MESSAGES)
    return npi_fail(UV_EINVAL, 0,
                    "transact: not a message pipe in message read mode (TX1)");
  if (conn->stream_cb != NULL || conn->reads.head != NULL)
    return npi_fail(UV_EBUSY, 0, "transact: something reads already (TX2)");
  return 0;
}

/* How it stands, once the operation is complete. 0: it has begun. */
static int transact_begin(npipe_conn* conn, npi_op* op) {
  if (conn->state == NPI_CONN_DISCONNECTED) return UV_ECONNABORTED;
  if (conn->read_end != 0)
    return conn->read_end == UV_EOF ? UV_EPIPE : conn->read_end;
  return npi_os_transact(conn, op);
}

static npi_op* transact_new(npipe_conn* conn, const uv_buf_t bufs[],
                            unsigned nbufs, size_t bytes) {
  npi_op* op = npi_op_new(conn, NPI_OP_TRANSACT);
  if (op == NULL) return NULL;
  npi_op* request = npi_write_copy(conn, bufs, nbufs, bytes);
  if (request == NULL) {
    npi_op_free(conn, op);
    return NULL;
  }
  request->u.write.request = true;
  op->u.read.request = request;
  return op;
}

int npipe_transact(npipe_conn* conn, const uv_buf_t bufs[], unsigned nbufs,
                   void* reply, size_t size, int timeout_ms, npipe_op* id,
                   npipe_read_cb cb, void* arg) {
  size_t bytes;
  if (conn == NULL || cb == NULL || (reply == NULL && size > 0) ||
      !npi_timeout_valid(timeout_ms))
    return npi_fail(UV_EINVAL, 0, "transact: conn, cb, reply or timeout");
  int err = transact_check(conn);
  if (err == 0) err = npi_write_sum(conn, bufs, nbufs, &bytes);
  if (err != 0) return err;
  npi_op* op = transact_new(conn, bufs, nbufs, bytes);
  if (op == NULL) return npi_fail(UV_ENOMEM, 0, "transact: no memory");
  op->u.read.data = reply;
  op->u.read.size = size;
  op->u.read.cb = cb;
  op->arg = arg;
  err = transact_begin(conn, op);
  if (err == UV_EBUSY || err == UV_ENOMEM) {
    npi_op_free(conn, op);
    return npi_fail(
        err, 0, "transact: %s",
        err == UV_EBUSY ? "something is unread (TX2)" : "no memory");
  }
  if (id != NULL) *id = op->id;
  if (err != 0) {
    npi_op_finish(conn, op, err);
    return 0;
  }
  npi_queue_push(&conn->reads, op);
  npi_deadline_set(conn, op, timeout_ms);
  npi_conn_post(conn);
  return 0;
}
