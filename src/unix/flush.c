/*
 * Flush: waiting until the peer's program has read what was written (FL1).
 *
 * A flush notes how much has been accepted by then, in bytes and messages; it
 * is done when the peer's reports reach that. Sending asks for such a report
 * (plan.c), so nothing is polled. Flushes stand in base.waits in the order of
 * their calls, and what they wait for never goes down along that line: the
 * first one is the one to ask for.
 *
 * A cancelled write was counted by the flushes behind it; write.c takes it out
 * of their numbers (FL5).
 */
#include "unix.h"

bool npi_count_reached(npi_count count, npi_count target) {
  return count.bytes >= target.bytes && count.messages >= target.messages;
}

static npi_unix_op* flush_os(npi_op* op) {
  return npi_op_os(op);
}

static bool flush_armed(npi_op* op) {
  return op->kind == NPI_OP_FLUSH && flush_os(op)->armed;
}

void npi_flush_check(npi_unix_conn* conn) {
  npi_op* next;
  for (npi_op* op = conn->base.waits.head; op != NULL; op = next) {
    next = op->next;
    if (!flush_armed(op)) continue;
    if (!npi_count_reached(conn->tx_consumed, flush_os(op)->end)) return;
    npi_wait_end(&conn->base, op, 0);
  }
}

void npi_flush_end(npi_unix_conn* conn, int status) {
  npi_op* next;
  for (npi_op* op = conn->base.waits.head; op != NULL; op = next) {
    next = op->next;
    if (flush_armed(op)) npi_wait_end(&conn->base, op, status);
  }
}

const npi_count* npi_flush_wanted(const npi_unix_conn* conn) {
  for (npi_op* op = conn->base.waits.head; op != NULL; op = op->next)
    if (flush_armed(op)) return &flush_os(op)->end;
  return NULL;
}

/* ---- backend.h */

int npi_os_flush(npipe_conn* base, npi_op* op) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  if (conn->plain) return UV_ENOTSUP;
  npi_receive_drain(conn);
  if (base->state != NPI_CONN_OPEN) return 0; /* disconnected: it has ended */
  npi_unix_op* os = flush_os(op);
  os->end = conn->tx_accepted;
  os->armed = true;
  if (npi_count_reached(conn->tx_consumed, os->end))
    npi_wait_end(base, op, 0);
  else if (conn->tx_end != 0) /* a peer that has closed is no failure (FL4) */
    npi_wait_end(base, op, conn->tx_end == UV_EPIPE ? 0 : UV_EPIPE);
  return 0;
}

void npi_os_flush_cancel(npipe_conn* base, npi_op* op) {
  (void) base;
  (void) op; /* it stands in base->waits only */
}
