/*
 * Writes as they come from the program: into the queue, and out of it again.
 *
 * What was not begun can be withdrawn; then everything behind it moves up, and
 * so do the flushes that counted it. A transaction's request is a write that
 * nobody waits for.
 */
#include "unix.h"

static npi_unix_op* write_os(npi_op* op) {
  return npi_op_os(op);
}

void npi_os_write(npipe_conn* base, npi_op* op) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  if (conn->tx_end != 0) {
    npi_write_done(base, op, conn->tx_end);
    return;
  }
  conn->tx_accepted.bytes += op->u.write.bytes;
  if (base->type == NPIPE_MESSAGE) conn->tx_accepted.messages++;
  write_os(op)->end = conn->tx_accepted;
  npi_queue_push(&conn->tx_waiting, op);
}

void npi_os_write_now(npipe_conn* base, npi_op* op) {
  npi_os_write(base, op);
  npi_send_flush((npi_unix_conn*) base);
}

int npi_os_transact(npipe_conn* base, npi_op* op) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  npi_receive_drain(conn);
  if (base->state != NPI_CONN_OPEN) return UV_ECONNABORTED;
  if (conn->rx_end != 0)
    return conn->rx_end == UV_EOF ? UV_EPIPE : conn->rx_end;
  if (conn->tx_end != 0) return conn->tx_end;
  if (conn->rxq.head != NULL || conn->rxq.part != NULL) return UV_EBUSY;
  npi_op* request = op->u.read.request;
  op->u.read.request = NULL;
  npi_os_write(base, request);
  return 0;
}

/* ---- cancel */

static npi_op* write_find(const npi_queue* queue, uint64_t id) {
  npi_op* op = queue->head;
  while (op != NULL && (op->id != id || op->u.write.cb == NULL)) op = op->next;
  return op;
}

static void count_lower(npi_count* count, npi_count by) {
  count->bytes -= by.bytes;
  count->messages -= by.messages;
}

/* Takes `by`, which ended at `end`, out of all that was counted behind it. */
static void write_uncount(npi_unix_conn* conn, npi_op* behind, npi_count end,
                          npi_count by) {
  for (npi_op* op = behind; op != NULL; op = op->next)
    count_lower(&write_os(op)->end, by);
  for (npi_op* op = conn->base.waits.head; op != NULL; op = op->next) {
    npi_unix_op* flush = npi_op_os(op);
    if (flush->armed && npi_count_reached(flush->end, end))
      count_lower(&flush->end, by);
  }
  count_lower(&conn->tx_accepted, by);
}

int npi_os_write_cancel(npipe_conn* base, uint64_t id) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  if (write_find(&conn->tx_unread, id) != NULL) return UV_EBUSY;
  npi_op* op = write_find(&conn->tx_waiting, id);
  if (op == NULL) return UV_ENOENT;
  if (write_os(op)->sent > 0) return UV_EBUSY;
  npi_count by = {op->u.write.bytes, base->type == NPIPE_MESSAGE ? 1u : 0u};
  write_uncount(conn, op->next, write_os(op)->end, by);
  npi_queue_remove(&conn->tx_waiting, op);
  npi_write_done(base, op, UV_ECANCELED);
  npi_flush_check(conn);
  npi_conn_post(base);
  return 0;
}
