/*
 * Request and reply in one call of the system.
 *
 * The operation stands in conn->reads and is served by the reader, with
 * TransactNamedPipe() in place of ReadFile(). Its request keeps its place among
 * the writes: until its turn it stands in writer.later, and nothing behind it
 * goes before it. Its turn comes when no write before it is pending. The system
 * would take a request also then (TX3); but if that write is lost by a close,
 * the peer must not get the request without it, as with empty messages (WR6).
 *
 * A transaction that is cancelled before its turn leaves the request in `later`
 * as a write like any other (TX4). One that has been sent keeps it until its
 * callback; the system has a copy by then.
 *
 * That nothing is unread (TX2) is looked at when the transaction begins; if it
 * is its turn, by the system itself, which under Wine alone sees an empty
 * message. If something comes in before its turn, the callback gets UV_EBUSY.
 */
#include "win.h"

/* The backend's part of an operation. */
typedef struct transact_os {
  bool queued; /* a transaction: its request is in writer.later */
} transact_os;

const size_t npi_os_op_size = sizeof(transact_os);

static bool transact_is_queued(const npi_op* op) {
  if (op->kind != NPI_OP_TRANSACT) return false;
  return ((transact_os*) npi_op_os((npi_op*) (uintptr_t) op))->queued;
}

bool npi_transact_sends(const npi_win_conn* conn, const npi_op* write) {
  const npi_op* op = conn->base.reads.head;
  return op != NULL && transact_is_queued(op) && op->u.read.request == write;
}

bool npi_transact_ready(npi_win_conn* conn, const npi_op* op) {
  const npi_writer* writer = &conn->writer;
  return writer->op == NULL && transact_is_queued(op) &&
         writer->later.head == op->u.read.request &&
         !npi_flush_holds(conn, writer->later.head->id);
}

DWORD npi_transact_call(npi_win_conn* conn, npi_op* op, void* reply, DWORD room,
                        OVERLAPPED* overlapped) {
  npi_op* request = op->u.read.request;
  if (transact_is_queued(op)) npi_queue_pop(&conn->writer.later);
  ((transact_os*) npi_op_os(op))->queued = false;
  conn->writer.issued++;
  npi_conn_post(&conn->base); /* for the writes behind it */
  return TransactNamedPipe(conn->handle, request->u.write.owned,
                           (DWORD) request->u.write.bytes, reply, room, NULL,
                           overlapped)
             ? ERROR_SUCCESS
             : GetLastError();
}

void npi_transact_leave(npi_win_conn* conn, npi_op* op) {
  if (!transact_is_queued(op)) return;
  ((transact_os*) npi_op_os(op))->queued = false;
  op->u.read.request = NULL;
  npi_conn_post(&conn->base);
}

/* May a transaction begin? 0, UV_EBUSY, UV_EPIPE, UV_ECONNABORTED. */
static int transact_check(npi_win_conn* conn) {
  npi_nt_unread unread;
  DWORD error = npi_nt_look(conn->handle, &unread);
  if (error == ERROR_PIPE_NOT_CONNECTED) {
    npi_conn_lost(conn);
    return UV_ECONNABORTED;
  }
  if (error != 0) return npi_win_write_error(error);
  if (unread.state == NPIPE_STATE_CLOSING) return UV_EPIPE;
  bool some = conn->reader.held || unread.available > 0 || unread.messages > 0;
  return some ? UV_EBUSY : 0;
}

/* Does nothing stand before its request? */
static bool transact_is_free(const npi_win_conn* conn, const npi_op* request) {
  const npi_writer* writer = &conn->writer;
  return writer->op == NULL && writer->later.head == NULL &&
         !npi_flush_holds(conn, request->id);
}

static int transact_now(npi_win_conn* conn, npi_op* op) {
  DWORD error = npi_read_transact(conn, op);
  if (error == ERROR_BAD_PIPE) return UV_EPIPE;
  if (error == ERROR_PIPE_NOT_CONNECTED) npi_conn_lost(conn);
  return npi_win_write_error(error);
}

int npi_os_transact(npipe_conn* base, npi_op* op) {
  npi_win_conn* conn = (npi_win_conn*) base;
  int err = transact_check(conn);
  if (err != 0) return err;
  if (transact_is_free(conn, op->u.read.request)) return transact_now(conn, op);
  ((transact_os*) npi_op_os(op))->queued = true;
  npi_queue_push(&conn->writer.later, op->u.read.request);
  return 0;
}
