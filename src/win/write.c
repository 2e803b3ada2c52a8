/*
 * Writing.
 *
 * One write is one WriteFile() of our own and so one message (WR1). Several
 * buffers are gathered first. A write within the quota ends at once. One beyond
 * it is pending: its data and its OVERLAPPED belong to the system until the
 * end. There is at most one such write; those behind it wait in `later`, in
 * their order. So
 *   - they can be withdrawn, as on Unix: the peer cannot have seen them;
 *   - an empty message, which the system would take also beyond the quota, does
 *     not overtake the fate of a write before it (WR6): if that one is lost by
 *     a close, the peer must not take the empty message for the end of data
 *     that it never saw;
 *   - each write ends before the next begins, so callbacks come in order.
 *
 * A write begins in the next turn, and counts as pending till then, also as on
 * Unix. Also in `later`: the request of a transaction until its turn
 * (transact.c), and writes behind a flush until that is in the system
 * (flush.c).
 *
 * A pending write is never cancelled while the connection lives: if the peer
 * has read a part of it, the next message would be glued to that part (CN3).
 */
#include <string.h>

#include "win.h"

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

static void write_finish(npi_win_conn* conn, npi_op* op, DWORD error) {
  int status = npi_win_write_error(error);
  if (status != 0) npi_flush_fail(conn, op->id);
  npi_write_done(&conn->base, op, status);
  if (status == UV_ECONNABORTED) npi_conn_lost(conn);
}

/* The request of a transaction that was cancelled before its turn. The quota
 * does not hold it back (TX3), which only a transaction can say: so one that is
 * cancelled at once, for that leaves the request in the pipe (TX4). False: the
 * system refused, because something is unread or a read is pending. */
static bool write_request(npi_win_conn* conn, npi_op* op) {
  npi_wait* wait = &conn->writer.wait;
  char nothing[1];
  if (!TransactNamedPipe(conn->handle, op->u.write.owned,
                         (DWORD) op->u.write.bytes, nothing, 0, NULL,
                         npi_wait_begin(wait))) {
    DWORD error = GetLastError();
    if (error == ERROR_IO_PENDING)
      npi_wait_cancel(wait, conn->handle);
    else if (error != ERROR_MORE_DATA)
      return false;
  }
  npi_write_done(&conn->base, op, 0);
  return true;
}

static void write_issue(npi_win_conn* conn, npi_op* op) {
  npi_writer* writer = &conn->writer;
  uv_buf_t all;
  if (npi_wait_open(&writer->wait, &conn->wake) != 0 ||
      !write_gather(op, &all)) {
    npi_write_done(&conn->base, op, UV_ENOMEM);
    return;
  }
  writer->issued++;
  if (op->u.write.request && write_request(conn, op)) return;
  if (WriteFile(conn->handle, all.base, all.len, NULL,
                npi_wait_begin(&writer->wait))) {
    npi_write_done(&conn->base, op, 0);
    return;
  }
  DWORD error = GetLastError();
  if (error != ERROR_IO_PENDING) {
    write_finish(conn, op, error);
    return;
  }
  writer->op = op;
  npi_wait_arm(&writer->wait, 0);
}

static bool write_can_go(const npi_win_conn* conn) {
  const npi_writer* writer = &conn->writer;
  const npi_op* next = writer->later.head;
  return conn->handle != NULL && writer->op == NULL && next != NULL &&
         !npi_transact_sends(conn, next) && !npi_flush_holds(conn, next->id);
}

void npi_write_drain(npi_win_conn* conn) {
  while (write_can_go(conn))
    write_issue(conn, npi_queue_pop(&conn->writer.later));
}

/* The pending write is over. */
static void write_reap(npi_win_conn* conn) {
  npi_writer* writer = &conn->writer;
  npi_op* op = writer->op;
  size_t bytes;
  writer->op = NULL;
  write_finish(conn, op, npi_wait_result(&writer->wait, conn->handle, &bytes));
}

void npi_write_turn(npi_win_conn* conn) {
  if (conn->writer.op != NULL && npi_wait_fired(&conn->writer.wait))
    write_reap(conn);
  npi_write_drain(conn);
}

void npi_os_write(npipe_conn* base, npi_op* op) {
  npi_queue_push(&((npi_win_conn*) base)->writer.later, op);
}

void npi_os_write_now(npipe_conn* base, npi_op* op) {
  npi_os_write(base, op);
  npi_write_drain((npi_win_conn*) base);
}

int npi_os_write_cancel(npipe_conn* base, uint64_t id) {
  npi_writer* writer = &((npi_win_conn*) base)->writer;
  if (writer->op != NULL && writer->op->id == id) return UV_EBUSY;
  npi_op* op = writer->later.head;
  while (op != NULL && (op->id != id || op->u.write.request)) op = op->next;
  if (op == NULL) return UV_ENOENT;
  npi_queue_remove(&writer->later, op);
  npi_write_done(base, op, UV_ECANCELED);
  npi_conn_post(base); /* a flush or a transaction may have waited for it */
  return 0;
}

/* ---- the end */

void npi_write_cut(npi_win_conn* conn, int status) {
  npi_writer* writer = &conn->writer;
  npi_op* op = writer->op;
  size_t bytes;
  if (op != NULL) {
    writer->op = NULL;
    npi_wait_cancel(&writer->wait, conn->handle);
    bool done = npi_wait_result(&writer->wait, conn->handle, &bytes) == 0;
    npi_write_done(&conn->base, op, done ? 0 : status);
  }
  while ((op = npi_queue_pop(&writer->later)) != NULL)
    npi_write_done(&conn->base, op, status);
}

bool npi_write_lingers(npi_win_conn* conn) {
  const npi_writer* writer = &conn->writer;
  uint64_t now = uv_hrtime();
  if (now >= conn->linger_end_ns) { /* before anything more is written */
    npi_write_cut(conn, UV_ECANCELED);
    return false;
  }
  npi_write_turn(conn);
  if (writer->op == NULL && writer->later.head == NULL) return false;
  npi_conn_tick(conn, (conn->linger_end_ns - now) / NPI_NS_PER_MS + 1);
  return true;
}
