/*
 * Writing.
 *
 * One uv_write() is one WriteFile() and so one message (WR1). Order, quota and
 * pending writes are the system's. Several buffers are gathered here, not by
 * libuv, so that a lack of memory is an error of ours and not an abort.
 *
 * npipe_try_write() has to know at once whether the system took the data, so
 * it is an overlapped WriteFile() of our own. If it is pending, its data
 * (op->u.write.owned) and its OVERLAPPED belong to the system until the end;
 * there is at most one, because the shared files allow none while a write is
 * pending.
 *
 * A pending write is never cancelled while the connection lives: if the peer
 * has read a part of it, the next message would be glued to that part.
 *
 * An empty message needs no quota, so the system takes it at once, also past
 * writes that are pending (WR6). If those are then lost by a close, the peer
 * would get the empty message without them, and take it for the end of data
 * that it never saw. So an empty message, and what follows it, is held back in
 * `later` until no write before it is pending.
 */
#include <string.h>

#include "win.h"

/* The backend's part of an operation. */
typedef struct write_os {
  uv_write_t request;
  bool pending; /* the system did not take it at once */
} write_os;

const size_t npi_os_op_size = sizeof(write_os);

/* What a failed uv_write() means. libuv does not tell "the server disconnected
 * us" from "the peer has closed"; the system still does (ST4). */
static int write_status(npi_win_conn* conn, int status) {
  if (status >= 0) return 0;
  if (conn->base.state == NPI_CONN_CLOSING) return UV_ECANCELED;
  if (status != UV_EOF && status != UV_EPIPE && status != UV_EAGAIN)
    return status;
  DWORD flags;
  if (!GetNamedPipeInfo(conn->handle, &flags, NULL, NULL, NULL) &&
      GetLastError() == ERROR_PIPE_NOT_CONNECTED)
    return UV_ECONNABORTED;
  return UV_EPIPE;
}

static void write_drain(npi_win_conn* conn);

static void write_on_done(uv_write_t* request, int status) {
  npi_win_conn* conn = request->handle->data;
  npi_op* op = npi_op_from_os(request); /* its first member */
  if (((write_os*) npi_op_os(op))->pending) conn->writer.pending--;
  status = write_status(conn, status);
  /* Completions come in order, and a broken pipe stays broken. Wine reports
   * success for the writes that were pending behind the one it failed. */
  if (status == 0) status = conn->writer.end;
  if (status == UV_EPIPE || status == UV_ECONNABORTED)
    conn->writer.end = status;
  npi_write_done(&conn->base, op, status);
  write_drain(conn);
}

/* All of the operation's data as one buffer; false without memory. */
static bool write_gather(npi_op* op, uv_buf_t* all) {
  static char nothing[1];
  unsigned full = 0;
  *all = uv_buf_init(nothing, 0);
  for (unsigned i = 0; i < op->u.write.nbufs; i++) {
    if (op->u.write.bufs[i].len == 0) continue;
    *all = op->u.write.bufs[i];
    full++;
  }
  if (full <= 1) return true;
  char* to = npi_malloc(op->u.write.bytes);
  if (to == NULL) return false;
  op->u.write.owned = to; /* freed with the operation */
  *all = uv_buf_init(to, (unsigned) op->u.write.bytes);
  for (unsigned i = 0; i < op->u.write.nbufs; i++) {
    const uv_buf_t* buf = &op->u.write.bufs[i];
    if (buf->len > 0) memcpy(to, buf->base, buf->len);
    to += buf->len;
  }
  return true;
}

static void write_issue(npi_win_conn* conn, npi_op* op) {
  uv_buf_t all;
  if (!write_gather(op, &all)) {
    npi_write_done(&conn->base, op, UV_ENOMEM);
    return;
  }
  write_os* os = npi_op_os(op);
  const uv_stream_t* queue = (uv_stream_t*) &conn->pipe;
  size_t before = uv_stream_get_write_queue_size(queue);
  int err = uv_write(&os->request, (uv_stream_t*) &conn->pipe, &all, 1,
                     write_on_done);
  if (err != 0) {
    npi_write_done(&conn->base, op, write_status(conn, err));
    return;
  }
  /* libuv counts the bytes of a write only if the system did not take it at
   * once. (The sum is no use: newer ones also keep those of failed writes.) */
  os->pending = uv_stream_get_write_queue_size(queue) != before;
  if (os->pending) conn->writer.pending++;
}

static bool write_has_to_wait(const npi_win_conn* conn, const npi_op* op) {
  const npi_writer* writer = &conn->writer;
  return op->u.write.bytes == 0 && conn->base.type == NPIPE_MESSAGE &&
         (writer->op != NULL || writer->pending > 0);
}

/* Sends on what was held back, as far as it need not wait any more. */
static void write_drain(npi_win_conn* conn) {
  npi_queue* later = &conn->writer.later;
  while (conn->base.state == NPI_CONN_OPEN && later->head != NULL &&
         !write_has_to_wait(conn, later->head))
    write_issue(conn, npi_queue_pop(later));
}

void npi_os_write(npipe_conn* base, npi_op* op) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_queue_push(&conn->writer.later, op);
  write_drain(conn);
}

void npi_write_drop(npi_win_conn* conn) {
  for (npi_op* op; (op = npi_queue_pop(&conn->writer.later)) != NULL;)
    npi_write_done(&conn->base, op, UV_ECANCELED);
}

void npi_os_write_now(npipe_conn* base, npi_op* op) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_writer* writer = &conn->writer;
  uv_buf_t data = op->u.write.bufs[0];
  int err = npi_wait_open(&writer->wait, &conn->wake);
  if (err != 0) {
    npi_write_done(base, op, err);
    return;
  }
  if (WriteFile(conn->handle, data.base, data.len, NULL,
                npi_wait_begin(&writer->wait))) {
    npi_write_done(base, op, 0);
    return;
  }
  DWORD error = GetLastError();
  if (error != ERROR_IO_PENDING) {
    npi_write_done(base, op, npi_win_write_error(error));
    return;
  }
  writer->op = op;
  npi_wait_arm(&writer->wait, 0);
}

/* The pending npipe_try_write() is over. */
static void write_now_done(npi_win_conn* conn, int status) {
  npi_op* op = conn->writer.op;
  conn->writer.op = NULL;
  npi_write_done(&conn->base, op, status);
  write_drain(conn);
}

static void write_now_reap(npi_win_conn* conn) {
  size_t bytes;
  DWORD error = npi_wait_result(&conn->writer.wait, conn->handle, &bytes);
  write_now_done(conn, npi_win_write_error(error));
}

void npi_write_turn(npi_win_conn* conn) {
  if (conn->writer.op != NULL && npi_wait_fired(&conn->writer.wait))
    write_now_reap(conn);
}

void npi_write_linger(npi_win_conn* conn) {
  if (conn->writer.op != NULL) npi_wait_arm(&conn->writer.wait, NPI_LINGER_MS);
}

bool npi_write_lingers(npi_win_conn* conn) {
  npi_wait* wait = &conn->writer.wait;
  if (conn->writer.op == NULL) return false;
  if (npi_wait_over(wait)) {
    write_now_reap(conn);
    return false;
  }
  if (!npi_wait_fired(wait)) return true;
  npi_wait_cancel(wait, conn->handle); /* the time is over, and so is all */
  write_now_done(conn, UV_ECANCELED);
  return false;
}
