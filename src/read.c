/*
 * Reading, as the program sees it: which reads are pending, and who waits.
 *
 * There are two forms, never at the same time: a stream, or a queue of single
 * reads (conn->reads). The backend looks at the front of what is wanted,
 * serves it from its own queue, and says so through npi_read_done() or
 * npi_stream_piece(). Once it has said npi_read_ended(), the answer to every
 * read is known here and the backend is not asked any more.
 */
#include "backend.h"

/* 0 if this connection can be read from now. */
static int read_check(const npipe_conn* conn) {
  if (conn->state == NPI_CONN_CLOSING)
    return npi_fail(UV_EBADF, 0, "read: the connection is being closed");
  if (conn->state != NPI_CONN_OPEN || conn->connect_cb != NULL)
    return npi_fail(UV_ENOTCONN, 0, "read: the connection is not open");
  if (!conn->can_read)
    return npi_fail(UV_EACCES, 0,
                    "read: the pipe's direction, or the access asked for at "
                    "connect, does not allow it");
  if (conn->stream_cb != NULL)
    return npi_fail(UV_EBUSY, 0, "read: a stream is under way");
  return 0;
}

int npipe_read_start(npipe_conn* conn, size_t whole_max_bytes,
                     npipe_stream_cb cb, void* arg) {
  if (conn == NULL || cb == NULL)
    return npi_fail(UV_EINVAL, 0, "read start: conn or cb is NULL");
  int err = read_check(conn);
  if (err != 0) return err;
  if (conn->reads.head != NULL)
    return npi_fail(UV_EBUSY, 0, "read start: a read is pending");
  bool all = whole_max_bytes == 0 || whole_max_bytes > conn->message_max_bytes;
  conn->whole_max_bytes = all ? conn->message_max_bytes : whole_max_bytes;
  conn->stream_cb = cb;
  conn->stream_arg = arg;
  npi_conn_post(conn);
  return 0;
}

void npipe_read_stop(npipe_conn* conn) {
  if (conn == NULL || conn->stream_cb == NULL) return;
  conn->stream_cb = NULL;
  if (conn->read_end == 0) npi_os_stream_stop(conn);
}

int npipe_read(npipe_conn* conn, void* data, size_t size, npipe_op* id,
               npipe_read_cb cb, void* arg) {
  if (conn == NULL || cb == NULL || (data == NULL && size > 0))
    return npi_fail(UV_EINVAL, 0, "read: conn, cb or data is NULL");
  int err = read_check(conn);
  if (err != 0) return err;
  npi_op* op = npi_op_new(conn, NPI_OP_READ);
  if (op == NULL) return npi_fail(UV_ENOMEM, 0, "read: no memory");
  op->u.read.data = data;
  op->u.read.size = size;
  op->u.read.cb = cb;
  op->arg = arg;
  if (id != NULL) *id = op->id;
  op->status = conn->read_end;
  npi_queue_push(conn->read_end == 0 ? &conn->reads : &conn->done, op);
  npi_conn_post(conn);
  return 0;
}

int npipe_set_read_mode(npipe_conn* conn, npipe_read_mode mode) {
  if (conn == NULL || (unsigned) mode > NPIPE_READ_MESSAGES)
    return npi_fail(UV_EINVAL, 0, "set read mode: bad argument");
  int err = read_check(conn);
  if (err != 0) return err;
  if (conn->reads.head != NULL)
    return npi_fail(UV_EBUSY, 0, "set read mode: a read is pending");
  if (mode == NPIPE_READ_AS_TYPE)
    mode = conn->type == NPIPE_MESSAGE ? NPIPE_READ_MESSAGES : NPIPE_READ_BYTES;
  if (mode == NPIPE_READ_MESSAGES && conn->type != NPIPE_MESSAGE)
    return npi_fail(UV_EINVAL, 0,
                    "set read mode: a byte pipe has no messages (IN3)");
  if (conn->read_end == 0) err = npi_os_set_read_mode(conn, mode);
  if (err == 0) conn->read_mode = mode;
  return err;
}

/* ---- cancelling */

static void read_finish(npipe_conn* conn, npi_op* op, int status) {
  op->status = status;
  npi_queue_push(&conn->done, op);
  npi_conn_post(conn);
}

static int read_cancel(npipe_conn* conn, npi_op* op) {
  int err = npi_os_read_cancel(conn, op);
  if (err != 0) return err;
  npi_queue_remove(&conn->reads, op);
  read_finish(conn, op, UV_ECANCELED);
  npi_conn_post(conn); /* the next one may have been waiting behind it */
  return 0;
}

void npi_read_cancel_all(npipe_conn* conn) {
  npipe_read_stop(conn);
  while (conn->reads.head != NULL) read_cancel(conn, conn->reads.head);
}

int npipe_cancel(npipe_conn* conn, npipe_op id) {
  if (conn == NULL) return npi_fail(UV_EINVAL, 0, "cancel: conn is NULL");
  npi_op* op = conn->reads.head;
  if (id == 0) {
    if (op == NULL) return UV_ENOENT;
    while (conn->reads.head != NULL) read_cancel(conn, conn->reads.head);
    return 0;
  }
  while (op != NULL && op->id != id) op = op->next;
  if (op != NULL) return read_cancel(conn, op);
  return (id & 1) != 0 ? UV_ENOTSUP : UV_ENOENT;
}

/* ---- what the backend says */

bool npi_read_wanted(const npipe_conn* conn) {
  return conn->stream_cb != NULL || conn->reads.head != NULL;
}

npi_op* npi_read_front(const npipe_conn* conn) {
  return conn->reads.head;
}

void npi_read_done(npipe_conn* conn, size_t size, unsigned flags) {
  npi_op* op = npi_queue_pop(&conn->reads);
  op->u.read.got = size;
  op->u.read.flags = flags;
  read_finish(conn, op, 0);
}

void npi_stream_piece(npipe_conn* conn, const void* data, size_t size,
                      unsigned flags) {
  conn->stream_cb(conn, 0, data, size, flags, conn->stream_arg);
}

void npi_read_ended(npipe_conn* conn, int status) {
  if (conn->read_end != 0) return;
  conn->read_end = status;
  for (npi_op* op; (op = npi_queue_pop(&conn->reads)) != NULL;)
    read_finish(conn, op, status);
  npi_stream_end(conn);
}

void npi_stream_end(npipe_conn* conn) {
  npipe_stream_cb cb = conn->stream_cb;
  if (cb == NULL || conn->read_end == 0) return;
  conn->stream_cb = NULL;
  npi_tell(conn->read_end);
  cb(conn, conn->read_end, NULL, 0, 0, conn->stream_arg);
}
