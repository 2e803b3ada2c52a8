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

int npi_read_check(const npipe_conn* conn, const char* what) {
  int err = npi_conn_check(conn, what);
  if (err != 0) return err;
  if (!conn->can_read)
    return npi_fail(UV_EACCES, 0,
                    "%s: the pipe's direction, or the access asked for at "
                    "connect, does not allow reading",
                    what);
  return 0;
}

/* The same, and nothing else reads. Single reads do not mind each other. */
static int read_check_free(const npipe_conn* conn, const char* what,
                           bool beside_reads) {
  int err = npi_read_check(conn, what);
  if (err != 0) return err;
  const npi_op* front = conn->reads.head;
  if (conn->stream_cb != NULL)
    return npi_fail(UV_EBUSY, 0, "%s: a stream is under way", what);
  if (front != NULL && front->kind == NPI_OP_TRANSACT)
    return npi_fail(UV_EBUSY, 0, "%s: a transaction is under way", what);
  if (front != NULL && !beside_reads)
    return npi_fail(UV_EBUSY, 0, "%s: a read is pending", what);
  return 0;
}

int npipe_read_start(npipe_conn* conn, size_t whole_max_bytes,
                     npipe_stream_cb cb, void* arg) {
  if (conn == NULL || cb == NULL)
    return npi_fail(UV_EINVAL, 0, "read start: conn or cb is NULL");
  int err = read_check_free(conn, "read start", false);
  if (err != 0) return err;
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
  int err = read_check_free(conn, "read", true);
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

/* The mode belongs to the end, so it can be set without a client, too (ST1). */
static int read_mode_check(const npipe_conn* conn) {
  if (conn->state == NPI_CONN_LISTENING && conn->can_read) return 0;
  return npi_read_check(conn, "set read mode");
}

int npipe_set_read_mode(npipe_conn* conn, npipe_read_mode mode) {
  if (conn == NULL || (unsigned) mode > NPIPE_READ_MESSAGES)
    return npi_fail(UV_EINVAL, 0, "set read mode: bad argument");
  int err = read_mode_check(conn);
  if (err == 0 && conn->reads.head != NULL)
    err = npi_fail(UV_EBUSY, 0, "set read mode: a read is pending");
  if (err != 0) return err;
  if (conn->state == NPI_CONN_DISCONNECTED && !conn->is_server)
    return npi_fail(UV_ECONNABORTED, 0,
                    "set read mode: the server disconnected this pipe (IN3)");
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

/* A transaction is a write, too: there the end has another name. */
static void read_finish(npipe_conn* conn, npi_op* op, int status) {
  bool gone = status == UV_EOF && op->kind == NPI_OP_TRANSACT;
  npi_op_finish(conn, op, gone ? UV_EPIPE : status);
}

int npi_read_abort(npipe_conn* conn, npi_op* op, int status) {
  int err = npi_os_read_cancel(conn, op);
  if (err != 0) return err;
  npi_queue_remove(&conn->reads, op);
  read_finish(conn, op, status);
  return 0;
}

static void read_cancel_pending(npipe_conn* conn) {
  while (conn->reads.head != NULL)
    npi_read_abort(conn, conn->reads.head, UV_ECANCELED);
}

void npi_read_cancel_all(npipe_conn* conn) {
  npipe_read_stop(conn);
  read_cancel_pending(conn);
}

static npi_op* queue_find(const npi_queue* queue, uint64_t id) {
  npi_op* op = queue->head;
  while (op != NULL && op->id != id) op = op->next;
  return op;
}

int npipe_cancel(npipe_conn* conn, npipe_op id) {
  if (conn == NULL) return npi_fail(UV_EINVAL, 0, "cancel: conn is NULL");
  if (conn->state == NPI_CONN_CLOSING) return UV_ENOENT;
  if (id == 0) {
    if (conn->reads.head == NULL) return UV_ENOENT;
    read_cancel_pending(conn);
    return 0;
  }
  npi_op* op = queue_find(&conn->reads, id);
  if (op != NULL) return npi_read_abort(conn, op, UV_ECANCELED);
  op = queue_find(&conn->waits, id);
  if (op != NULL) {
    npi_wait_stop(conn, op, UV_ECANCELED);
    return 0;
  }
  int err = npi_os_write_cancel(conn, id);
  if (err == UV_EBUSY)
    npi_fail(err, 0,
             "cancel: the peer may be reading this write already (CN3)");
  return err;
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
  npi_op_finish(conn, op, 0);
}

void npi_stream_piece(npipe_conn* conn, const void* data, size_t size,
                      unsigned flags) {
  conn->stream_cb(conn, 0, data, size, flags, conn->stream_arg);
}

void npi_read_ended(npipe_conn* conn, int status) {
  if (conn->read_end != 0) return;
  npi_read_cut(conn, status);
  npi_stream_end(conn);
}

void npi_read_cut(npipe_conn* conn, int status) {
  conn->read_end = status;
  for (npi_op* op; (op = npi_queue_pop(&conn->reads)) != NULL;)
    read_finish(conn, op, status);
  npi_conn_post(conn);
}

void npi_stream_end(npipe_conn* conn) {
  npipe_stream_cb cb = conn->stream_cb;
  if (cb == NULL || conn->read_end == 0) return;
  conn->stream_cb = NULL;
  npi_tell(conn->read_end);
  cb(conn, conn->read_end, NULL, 0, 0, conn->stream_arg);
}
