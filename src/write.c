/*
 * Writing, as the program sees it.
 *
 * A write is checked here, its array of buffers is copied (the memory the
 * buffers point to is not), and it goes to the backend, which alone knows when
 * it is done. queued_bytes and queued_writes count what is pending.
 *
 * npipe_try_write() works on a copy of our own, so that it can tell the
 * program "done" even if the system takes only a part at once; the rest is
 * then pending in our name, and close waits for it.
 */
#include <string.h>

#include "backend.h"

int npi_write_check(const npipe_conn* conn, const char* what) {
  int err = npi_conn_check(conn, what);
  if (err != 0) return err;
  if (!conn->can_write)
    return npi_fail(UV_EACCES, 0,
                    "%s: the pipe's direction, or the access asked for at "
                    "connect, does not allow writing",
                    what);
  return 0;
}

int npi_write_sum(const npipe_conn* conn, const uv_buf_t bufs[], unsigned nbufs,
                  size_t* sum) {
  size_t limit = conn->type == NPIPE_MESSAGE ? conn->message_max_bytes
                                             : NPIPE_MESSAGE_MAX_BYTES;
  *sum = 0;
  if (bufs == NULL && nbufs > 0)
    return npi_fail(UV_EINVAL, 0, "write: bufs is NULL");
  for (unsigned i = 0; i < nbufs; i++) {
    if (bufs[i].base == NULL && bufs[i].len > 0)
      return npi_fail(UV_EINVAL, 0, "write: buffer %u is NULL", i);
    if (bufs[i].len > limit - *sum)
      return npi_fail(UV_EMSGSIZE, 0, "write: more than the limit of %zu bytes",
                      limit);
    *sum += bufs[i].len;
  }
  return 0;
}

/* Room for nbufs buffers in the operation; false without memory. */
static bool write_room(npi_op* op, unsigned nbufs) {
  op->u.write.bufs = op->u.write.small;
  if (nbufs <= NPI_OP_BUFS) return true;
  op->u.write.bufs = npi_calloc(nbufs, sizeof(uv_buf_t));
  return op->u.write.bufs != NULL;
}

static void write_count(npipe_conn* conn, npi_op* op, size_t bytes) {
  op->u.write.bytes = bytes;
  conn->queued_bytes += bytes;
  conn->queued_writes++;
}

int npipe_write(npipe_conn* conn, const uv_buf_t bufs[], unsigned nbufs,
                npipe_op* id, npipe_write_cb cb, void* arg) {
  size_t bytes;
  if (conn == NULL || cb == NULL)
    return npi_fail(UV_EINVAL, 0, "write: conn or cb is NULL");
  int err = npi_write_check(conn, "write");
  if (err == 0) err = npi_write_sum(conn, bufs, nbufs, &bytes);
  if (err != 0) return err;
  npi_op* op = npi_op_new(conn, NPI_OP_WRITE);
  if (op == NULL || !write_room(op, nbufs)) {
    if (op != NULL) npi_op_free(conn, op);
    return npi_fail(UV_ENOMEM, 0, "write: no memory");
  }
  if (nbufs > 0) memcpy(op->u.write.bufs, bufs, nbufs * sizeof *bufs);
  op->u.write.nbufs = nbufs;
  op->u.write.cb = cb;
  op->arg = arg;
  write_count(conn, op, bytes);
  if (id != NULL) *id = op->id;
  if (conn->state == NPI_CONN_DISCONNECTED)
    npi_write_done(conn, op, UV_ECONNABORTED);
  else
    npi_os_write(conn, op);
  npi_conn_post(conn);
  return 0;
}

npi_op* npi_write_copy(npipe_conn* conn, const uv_buf_t bufs[], unsigned nbufs,
                       size_t bytes) {
  npi_op* op = npi_op_new(conn, NPI_OP_WRITE);
  if (op == NULL) return NULL;
  op->u.write.bufs = op->u.write.small;
  char* to = npi_malloc(bytes);
  op->u.write.owned = to;
  if (to == NULL) {
    npi_op_free(conn, op);
    return NULL;
  }
  op->u.write.small[0] = uv_buf_init(to, (unsigned) bytes);
  op->u.write.nbufs = 1;
  op->u.write.bytes = bytes;
  for (unsigned i = 0; i < nbufs; i++) {
    if (bufs[i].len > 0) memcpy(to, bufs[i].base, bufs[i].len);
    to += bufs[i].len;
  }
  return op;
}

int npipe_try_write(npipe_conn* conn, const uv_buf_t bufs[], unsigned nbufs) {
  size_t bytes;
  if (conn == NULL) return npi_fail(UV_EINVAL, 0, "try write: conn is NULL");
  int err = npi_write_check(conn, "try write");
  if (err == 0) err = npi_write_sum(conn, bufs, nbufs, &bytes);
  if (err != 0) return err;
  if (conn->state == NPI_CONN_DISCONNECTED) return UV_ECONNABORTED;
  if (conn->queued_writes > 0) return UV_EAGAIN;
  npi_op* op = npi_write_copy(conn, bufs, nbufs, bytes);
  if (op == NULL) return npi_fail(UV_ENOMEM, 0, "try write: no memory");
  conn->try_status = 0;
  write_count(conn, op, bytes);
  npi_os_write_now(conn, op);
  return conn->try_status;
}

void npi_write_done(npipe_conn* conn, npi_op* op, int status) {
  if (op->u.write.request) {
    npi_op_free(conn, op);
    return;
  }
  conn->queued_bytes -= op->u.write.bytes;
  conn->queued_writes--;
  if (op->u.write.cb == NULL) { /* npipe_try_write() */
    conn->try_status = status;
    npi_op_free(conn, op);
    return;
  }
  npi_op_finish(conn, op, status);
}

size_t npipe_queued_bytes(const npipe_conn* conn) {
  return conn->queued_bytes;
}
