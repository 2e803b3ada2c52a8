/*
 * Planning: which frames go next. See send.c for the socket.
 *
 * Small writes are copied together, long ones go by reference. Planning is
 * final: a position that was handed over is never taken back, only what has not
 * begun can be (write.c).
 *
 * How much may be under way, so that the peer's memory is bounded: a write
 * begins only while everything before it is within the quota; a byte pipe sends
 * NPI_WINDOW_BYTES beyond the quota at most. So of the writes that wait for the
 * peer's program only one is in the socket; those behind it can be cancelled,
 * and what is done always lies before what is not, also if it is empty (WR6) or
 * a request (TX3).
 *
 * The peer reports what was read now and then by itself, and when asked to. We
 * ask for the one position that comes first of those that something waits for;
 * the next one is asked for when that is answered.
 */
#include <assert.h>
#include <string.h>

#include "send.h"

#define BATCH_BYTES 262144u
#define BATCH_COPY_BYTES 1024u /* up to this a copy beats a reference */
/* Room in the stage that is kept for the ASK at the end of a batch. */
#define BATCH_RESERVE_BYTES NPI_COUNT_BYTES

static npi_unix_op* plan_os(npi_op* op) {
  return npi_op_os(op);
}

/* ---- the batch */

static size_t batch_room(const npi_batch* b) {
  return NPI_BATCH_STAGE_BYTES - b->staged;
}

/* Copies into the stage, which must have room. For heads and control frames,
 * whose memory does not outlive the planning. */
static void batch_copy(npi_batch* b, const void* data, size_t size) {
  struct iovec* last = b->count > 0 ? &b->iov[b->count - 1] : NULL;
  uint8_t* place = b->stage + b->staged;
  assert(size <= batch_room(b));
  memcpy(place, data, size);
  b->staged += size;
  b->bytes += size;
  if (last != NULL && (uint8_t*) last->iov_base + last->iov_len == place) {
    last->iov_len += size;
    return;
  }
  b->iov[b->count].iov_base = place;
  b->iov[b->count++].iov_len = size;
}

/* Adds the program's data, which stays until the write is done: a copy if it
 * is short and leaves the reserve, else a reference. */
static void batch_add(npi_batch* b, const void* data, size_t size) {
  if (size <= BATCH_COPY_BYTES && size + BATCH_RESERVE_BYTES <= batch_room(b)) {
    batch_copy(b, data, size);
    return;
  }
  b->iov[b->count].iov_base = (void*) (uintptr_t) data;
  b->iov[b->count++].iov_len = size;
  b->bytes += size;
}

/* Room for one more head and at least one more buffer behind it? */
static bool batch_has_room(const npi_batch* b) {
  return b->count + 4 <= NPI_BATCH_IOV && b->bytes < BATCH_BYTES &&
         batch_room(b) >= NPI_DATA_HEADER_MAX + BATCH_RESERVE_BYTES;
}

/* ---- what may go */

bool npi_send_within_quota(const npi_unix_conn* conn, uint64_t end) {
  return end <= conn->tx_consumed.bytes ||
         end - conn->tx_consumed.bytes <= conn->tx_quota;
}

static size_t plan_left(npi_op* op) {
  return op->u.write.bytes - plan_os(op)->sent;
}

/* What the peer's program must have read before this write, the first that
 * waits, may begin or go on; nothing if it may now. */
static npi_count plan_blocked(const npi_unix_conn* conn, npi_op* op) {
  npi_count want = {0, 0};
  uint64_t start = plan_os(op)->end.bytes - op->u.write.bytes;
  uint64_t unread = conn->tx_begun.bytes - conn->tx_consumed.bytes;
  uint64_t messages = conn->tx_begun.messages - conn->tx_consumed.messages;
  bool bytes = conn->base.type == NPIPE_BYTE;
  bool begins = plan_os(op)->sent == 0;
  if (conn->plain) return want;
  if (begins && !npi_send_within_quota(conn, start))
    want.bytes = start - conn->tx_quota;
  else if (bytes && plan_left(op) > 0 &&
           unread >= (uint64_t) conn->tx_quota + NPI_WINDOW_BYTES)
    want.bytes = conn->tx_begun.bytes - conn->tx_quota - NPI_WINDOW_BYTES / 2;
  else if (!bytes && begins && messages >= NPI_UNREAD_MESSAGES_MAX)
    want.messages = conn->tx_begun.messages - NPI_UNREAD_MESSAGES_MAX / 2;
  return want;
}

static bool plan_may(npi_count blocked) {
  return blocked.bytes == 0 && blocked.messages == 0;
}

/* How many bytes of it the bounds let through. */
static size_t plan_allowance(const npi_unix_conn* conn, npi_op* op) {
  size_t left = plan_left(op);
  if (conn->plain || conn->base.type != NPIPE_BYTE) return left;
  uint64_t window = (uint64_t) conn->tx_quota + NPI_WINDOW_BYTES;
  uint64_t used = conn->tx_begun.bytes - conn->tx_consumed.bytes;
  return left < window - used ? left : (size_t) (window - used);
}

/* ---- data */

/* The most of the write's next bytes that `slots` buffers hold. */
static size_t plan_gatherable(npi_op* op, size_t slots) {
  npi_unix_op* os = plan_os(op);
  size_t offset = os->buf_offset;
  size_t sum = 0;
  for (unsigned i = os->buf; i < op->u.write.nbufs && slots > 0; i++) {
    size_t part = op->u.write.bufs[i].len - offset;
    offset = 0;
    if (part > 0) slots--;
    sum += part;
  }
  return sum;
}

static void plan_gather(npi_batch* b, npi_op* op, size_t size) {
  npi_unix_op* os = plan_os(op);
  os->sent += size;
  while (size > 0) {
    const uv_buf_t* buf = &op->u.write.bufs[os->buf];
    size_t part = buf->len - os->buf_offset;
    if (part > size) part = size;
    if (part > 0) batch_add(b, buf->base + os->buf_offset, part);
    size -= part;
    os->buf_offset += part;
    if (os->buf_offset == buf->len) {
      os->buf++;
      os->buf_offset = 0;
    }
  }
}

static void plan_head(npi_unix_conn* conn, npi_batch* b, npi_op* op,
                      size_t chunk) {
  uint8_t head[NPI_DATA_HEADER_MAX];
  npi_unix_op* os = plan_os(op);
  unsigned flags = 0;
  if (conn->plain) return;
  if (conn->base.type == NPIPE_MESSAGE) {
    if (os->sent == 0) flags |= NPI_FLAG_FIRST;
    if (os->sent + chunk == op->u.write.bytes) flags |= NPI_FLAG_LAST;
    if (flags & NPI_FLAG_FIRST) conn->tx_begun.messages++;
  }
  size_t length = npi_encode_data(head, flags, (uint32_t) chunk,
                                  (uint32_t) op->u.write.bytes);
  batch_copy(b, head, length);
}

/* Plans one frame of the first waiting write; false if it may not go now. */
static bool plan_frame(npi_unix_conn* conn, npi_batch* b) {
  npi_op* op = conn->tx_waiting.head;
  if (!plan_may(plan_blocked(conn, op))) return false;
  /* Nothing on a byte pipe is no frame, but keeps its place (WR6). */
  if (conn->base.type == NPIPE_BYTE && op->u.write.bytes == 0) return true;
  size_t chunk = plan_allowance(conn, op);
  size_t gatherable = plan_gatherable(op, NPI_BATCH_IOV - b->count - 2);
  if (chunk > gatherable) chunk = gatherable;
  if (chunk > NPI_CHUNK_BYTES_MAX) chunk = NPI_CHUNK_BYTES_MAX;
  plan_head(conn, b, op, chunk);
  plan_gather(b, op, chunk);
  conn->tx_begun.bytes += chunk;
  return true;
}

/* ---- reports and asking */

size_t npi_send_report(npi_unix_conn* conn, uint8_t* out) {
  conn->reported = conn->consumed;
  if (npi_count_reached(conn->consumed, conn->asked)) conn->ask_open = false;
  return npi_encode_count(out, NPI_FRAME_CONSUMED, conn->consumed.bytes,
                          conn->consumed.messages);
}

static void plan_report(npi_unix_conn* conn, npi_batch* b) {
  uint8_t frame[NPI_COUNT_BYTES];
  if (npi_report_due(conn)) batch_copy(b, frame, npi_send_report(conn, frame));
}

/* How far the peer's program must read for the first of the writes to go on,
 * or to be done. A request waits for nobody. */
static npi_count plan_writes_want(const npi_unix_conn* conn) {
  npi_count want = {0, 0};
  for (npi_op* op = conn->tx_unread.head; op != NULL; op = op->next) {
    uint64_t end = plan_os(op)->end.bytes;
    bool waits = op->u.write.bytes > 0 && !op->u.write.request;
    if (waits && !npi_send_within_quota(conn, end)) {
      want.bytes = end - conn->tx_quota;
      return want;
    }
  }
  if (conn->tx_waiting.head == NULL) return want;
  return plan_blocked(conn, conn->tx_waiting.head);
}

/* The same, with what the flushes wait for: whichever is reached first. A
 * flush's position is the end of a write; if it lies at the same byte as the
 * other it is reached later, because of the messages. */
static npi_count plan_wants(const npi_unix_conn* conn) {
  npi_count writes = plan_writes_want(conn);
  const npi_count* flush = npi_flush_wanted(conn);
  if (flush == NULL) return writes;
  bool first = writes.bytes > 0 ? flush->bytes < writes.bytes
                                : flush->messages <= writes.messages;
  return first || plan_may(writes) ? *flush : writes;
}

static void plan_ask(npi_unix_conn* conn, npi_batch* b) {
  uint8_t frame[NPI_COUNT_BYTES];
  if (conn->plain) return;
  npi_count want = plan_wants(conn);
  if (want.bytes == 0 && want.messages == 0) return;
  if (want.bytes == conn->tx_asked.bytes &&
      want.messages == conn->tx_asked.messages)
    return;
  conn->tx_asked = want;
  npi_encode_count(frame, NPI_FRAME_ASK, want.bytes, want.messages);
  batch_copy(b, frame, sizeof frame);
}

void npi_send_plan(npi_unix_conn* conn, npi_batch* b) {
  b->count = b->bytes = b->staged = 0;
  plan_report(conn, b);
  while (conn->tx_waiting.head != NULL && batch_has_room(b)) {
    npi_op* op = conn->tx_waiting.head;
    if (!plan_frame(conn, b)) break;
    if (plan_left(op) > 0) continue;
    plan_os(op)->wire_end = conn->wire_planned + b->bytes;
    npi_queue_push(&conn->tx_unread, npi_queue_pop(&conn->tx_waiting));
  }
  plan_ask(conn, b);
  conn->wire_planned += b->bytes;
}
