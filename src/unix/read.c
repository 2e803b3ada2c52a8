/*
 * Serving reads from the queue: the matrix of RD2.
 *
 * Message read mode takes from the message at the front and never from the
 * next. Byte read mode takes whatever is there; on a message pipe it merges
 * messages, and an empty one is skipped if data stands behind it, but answers
 * a read with 0 bytes if it stands alone (RD7). A read of 0 bytes waits and
 * takes nothing, not even an empty message (RD8, RD9).
 *
 * Whatever is taken is counted: the peer measures its quota by it.
 */
#include <string.h>

#include "unix.h"

/* Pieces shown to a stream before other handles have their turn. */
#define READ_PIECES_MAX 1024

static void read_count(npi_unix_conn* conn, size_t size, bool message) {
  conn->consumed.bytes += size;
  if (message) conn->consumed.messages++;
}

static void read_drop(npi_unix_conn* conn, size_t size) {
  read_count(conn, size, npi_rxq_drop(&conn->rxq, size));
}

bool npi_report_due(const npi_unix_conn* conn) {
  if (conn->plain) return false;
  uint64_t bytes = conn->consumed.bytes - conn->reported.bytes;
  uint64_t messages = conn->consumed.messages - conn->reported.messages;
  uint64_t often = conn->rx_quota >= 4 ? conn->rx_quota / 4 : NPI_WINDOW_BYTES;
  if (bytes >= often || messages >= NPI_UNREAD_MESSAGES_MAX / 4) return true;
  return conn->ask_open && conn->consumed.bytes >= conn->asked.bytes &&
         conn->consumed.messages >= conn->asked.messages;
}

/* Message read mode, or a read of size 0: at most the front message. A
 * transaction's reply of 0 bytes is taken even by a buffer of 0 (TX4). */
static void read_one(npi_unix_conn* conn, npi_op* op) {
  const uint8_t* data;
  size_t left;
  npi_rxq_front(&conn->rxq, &data, &left);
  bool messages = conn->base.read_mode == NPIPE_READ_MESSAGES;
  size_t take = left < op->u.read.size ? left : op->u.read.size;
  if (take > 0) memcpy(op->u.read.data, data, take);
  bool taken = op->u.read.size > 0;
  if (op->kind == NPI_OP_TRANSACT && left == 0) taken = true;
  if (taken) read_drop(conn, take);
  npi_read_done(&conn->base, take, messages && take < left ? NPIPE_MORE : 0);
}

static void read_bytes(npi_unix_conn* conn, npi_op* op) {
  const uint8_t* data;
  size_t left;
  size_t got = 0;
  while (got < op->u.read.size && npi_rxq_front(&conn->rxq, &data, &left)) {
    /* An empty message at the end of the queue: this read's, if it has nothing
     * else, or the next one's (RD7). */
    bool last = left == 0 && conn->rxq.bytes == 0;
    if (last && got == 0) read_drop(conn, 0);
    if (last) break;
    size_t room = op->u.read.size - got;
    size_t take = left < room ? left : room;
    if (take > 0) memcpy(op->u.read.data + got, data, take);
    read_drop(conn, take);
    got += take;
  }
  npi_read_done(&conn->base, got, 0);
}

static void read_op(npi_unix_conn* conn, npi_op* op) {
  if (conn->base.read_mode == NPIPE_READ_MESSAGES || op->u.read.size == 0)
    read_one(conn, op);
  else
    read_bytes(conn, op);
}

/* Shows the front to the stream. It is out of the queue by then, but its memory
 * is not: the program may look at the rest, disconnect or close inside. */
static void read_piece(npi_unix_conn* conn) {
  npipe_conn* base = &conn->base;
  const uint8_t* data;
  size_t left;
  npi_rxq_front(&conn->rxq, &data, &left);
  bool messages = base->read_mode == NPIPE_READ_MESSAGES;
  bool more = messages && left > base->whole_max_bytes;
  size_t size = more ? base->whole_max_bytes : left;
  read_count(conn, size, npi_rxq_lend(&conn->rxq, size));
  if (messages || size > 0)
    npi_stream_piece(base, data, size, more ? NPIPE_MORE : 0);
  npi_rxq_release(&conn->rxq);
}

void npi_read_serve(npi_unix_conn* conn) {
  npipe_conn* base = &conn->base;
  int pieces = 0;
  while (!conn->closing && npi_read_wanted(base) && conn->rxq.head != NULL) {
    if (++pieces > READ_PIECES_MAX) {
      npi_conn_post(base);
      return;
    }
    npi_op* op = npi_read_front(base);
    if (op != NULL)
      read_op(conn, op);
    else
      read_piece(conn);
  }
  if (conn->closing || conn->link == NPI_LINK_NONE) return;
  if (conn->rxq.head == NULL && conn->rx_end != 0 && npi_read_wanted(base))
    npi_read_ended(base, conn->rx_end);
  else if (conn->plain && conn->link == NPI_LINK_UP && conn->rx_end == 0 &&
           conn->rxq.bytes <= conn->rx_quota)
    npi_receive_start(conn); /* in case it was stopped */
  if (npi_report_due(conn)) npi_conn_post(base);
}

bool npi_read_direct(npi_unix_conn* conn, const uint8_t* data, size_t size) {
  npipe_conn* base = &conn->base;
  if (conn->draining) return false;
  if (conn->rxq.head != NULL || !npi_read_wanted(base)) return false;
  bool messages = base->read_mode == NPIPE_READ_MESSAGES;
  npi_op* op = npi_read_front(base);
  size_t most = SIZE_MAX;
  if (op != NULL)
    most = op->u.read.size;
  else if (messages)
    most = base->whole_max_bytes;
  bool nothing = size == 0 && (op != NULL || !messages);
  if (size > most || nothing) return false;
  read_count(conn, size, base->type == NPIPE_MESSAGE);
  if (op == NULL) {
    npi_stream_piece(base, data, size, 0);
    return true;
  }
  memcpy(op->u.read.data, data, size);
  npi_read_done(base, size, 0);
  return true;
}

/* ---- backend.h */

int npi_os_read_cancel(npipe_conn* base, npi_op* op) {
  (void) base;
  (void) op;
  return 0; /* a read has nothing until it is finished */
}

void npi_os_stream_stop(npipe_conn* base) {
  (void) base; /* the queue keeps what comes */
}

int npi_os_set_read_mode(npipe_conn* base, npipe_read_mode mode) {
  (void) base;
  (void) mode; /* looked at with each read */
  return 0;
}
