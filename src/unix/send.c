/*
 * Sending: from the queue of writes through frames to the socket.
 *
 * A flush plans a batch (frames of as many writes as fit, small ones copied
 * together, long ones by reference) and sends it in one call. Planning is
 * final: what the socket does not take is kept as the leftover and goes first
 * when the socket can take more. So positions are two counters, bytes planned
 * and bytes in the kernel, and nothing ever has to be taken back.
 *
 * A write stands in tx_waiting until its last byte is planned, then in
 * tx_unread until it is done: in the kernel, and its end within the quota of
 * what the peer's program has not read (WR3). The peer reports that now and
 * then by itself, and when asked to; we ask when something waits for it.
 *
 * How much may be under way, so that the peer's memory is bounded: a message
 * begins only while everything before it is within the quota; an empty one
 * always; a byte pipe sends NPI_WINDOW_BYTES beyond the quota at most.
 *
 * The wait for a full socket uses a second descriptor of it, because libuv
 * polls each descriptor for one handle only.
 */
#include <assert.h>
#include <string.h>

#include "unix.h"

#define BATCH_IOV 64u
#define BATCH_STAGE_BYTES 16384u
#define BATCH_BYTES 262144u
#define BATCH_COPY_BYTES 1024u /* up to this a copy beats a reference */
/* Room in the stage that is kept for the ASK at the end of a batch. */
#define BATCH_RESERVE_BYTES NPI_COUNT_BYTES
#define FLUSH_ROUNDS_MAX 16
#define SEND_RETRY_MS 10 /* without a descriptor to wait on */

struct npi_leftover {
  size_t first; /* of iov, not sent yet */
  size_t count;
  struct iovec iov[BATCH_IOV];
  uint8_t stage[]; /* what was in the batch's stage */
};

typedef struct batch {
  size_t count;
  size_t bytes;
  size_t staged;
  struct iovec iov[BATCH_IOV];
  uint8_t stage[BATCH_STAGE_BYTES];
} batch;

static npi_unix_op* send_os(npi_op* op) {
  return npi_op_os(op);
}

/* ---- the batch */

static size_t batch_room(const batch* b) {
  return BATCH_STAGE_BYTES - b->staged;
}

/* Copies into the stage, which must have room. For heads and control frames,
 * whose memory does not outlive the planning. */
static void batch_copy(batch* b, const void* data, size_t size) {
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
static void batch_add(batch* b, const void* data, size_t size) {
  if (size <= BATCH_COPY_BYTES && size + BATCH_RESERVE_BYTES <= batch_room(b)) {
    batch_copy(b, data, size);
    return;
  }
  b->iov[b->count].iov_base = (void*) (uintptr_t) data;
  b->iov[b->count++].iov_len = size;
  b->bytes += size;
}

/* Room for one more head and at least one more buffer behind it? */
static bool batch_has_room(const batch* b) {
  return b->count + 4 <= BATCH_IOV && b->bytes < BATCH_BYTES &&
         batch_room(b) >= NPI_DATA_HEADER_MAX + BATCH_RESERVE_BYTES;
}

/* ---- planning */

static bool send_within_quota(const npi_unix_conn* conn, uint64_t end) {
  return end - conn->tx_consumed.bytes <= conn->tx_quota ||
         end < conn->tx_consumed.bytes;
}

/* How many bytes of this write may be planned now; *may false: not even an
 * empty frame. */
static size_t send_allowance(const npi_unix_conn* conn, npi_op* op, bool* may) {
  npi_unix_op* os = send_os(op);
  size_t left = op->u.write.bytes - os->sent;
  *may = true;
  if (conn->plain) return left;
  if (conn->base.type == NPIPE_BYTE) {
    uint64_t window = (uint64_t) conn->tx_quota + NPI_WINDOW_BYTES;
    uint64_t used = conn->tx_begun.bytes - conn->tx_consumed.bytes;
    *may = used < window;
    return left < window - used ? left : (size_t) (window - used);
  }
  if (os->sent > 0) return left;
  uint64_t unread = conn->tx_begun.messages - conn->tx_consumed.messages;
  uint64_t start = os->end - op->u.write.bytes;
  *may = unread < NPI_UNREAD_MESSAGES_MAX &&
         (left == 0 || send_within_quota(conn, start));
  return left;
}

/* The most of the write's next bytes that `slots` buffers hold. */
static size_t send_gatherable(npi_op* op, size_t slots) {
  npi_unix_op* os = send_os(op);
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

static void send_gather(batch* b, npi_op* op, size_t size) {
  npi_unix_op* os = send_os(op);
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

static void send_head(npi_unix_conn* conn, batch* b, npi_op* op, size_t chunk) {
  uint8_t head[NPI_DATA_HEADER_MAX];
  npi_unix_op* os = send_os(op);
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
static bool send_plan_frame(npi_unix_conn* conn, batch* b) {
  npi_op* op = conn->tx_waiting.head;
  bool may;
  /* Nothing on a byte pipe is no frame, but keeps its place (WR6). */
  if (conn->base.type == NPIPE_BYTE && op->u.write.bytes == 0) return true;
  size_t chunk = send_allowance(conn, op, &may);
  if (!may) return false;
  size_t gatherable = send_gatherable(op, BATCH_IOV - b->count - 2);
  if (chunk > gatherable) chunk = gatherable;
  if (chunk > NPI_CHUNK_BYTES_MAX) chunk = NPI_CHUNK_BYTES_MAX;
  send_head(conn, b, op, chunk);
  send_gather(b, op, chunk);
  conn->tx_begun.bytes += chunk;
  return true;
}

static void send_plan_report(npi_unix_conn* conn, batch* b) {
  uint8_t frame[NPI_COUNT_BYTES];
  if (!npi_report_due(conn)) return;
  npi_encode_count(frame, NPI_FRAME_CONSUMED, conn->consumed.bytes,
                   conn->consumed.messages);
  batch_copy(b, frame, sizeof frame);
  conn->reported = conn->consumed;
  if (conn->consumed.bytes >= conn->asked.bytes &&
      conn->consumed.messages >= conn->asked.messages)
    conn->ask_open = false;
}

/* How far the peer's program must read for the next thing here to go on. */
static npi_count send_wanted(npi_unix_conn* conn) {
  npi_count want = {0, 0};
  bool may = true;
  for (npi_op* op = conn->tx_unread.head; op != NULL; op = op->next)
    if (op->u.write.bytes > 0 && !send_within_quota(conn, send_os(op)->end)) {
      want.bytes = send_os(op)->end - conn->tx_quota;
      return want;
    }
  if (conn->tx_waiting.head != NULL)
    send_allowance(conn, conn->tx_waiting.head, &may);
  if (may) return want;
  if (conn->base.type == NPIPE_BYTE)
    want.bytes = conn->tx_begun.bytes - conn->tx_quota - NPI_WINDOW_BYTES / 2;
  else
    want.messages = conn->tx_begun.messages - NPI_UNREAD_MESSAGES_MAX / 2;
  return want;
}

static void send_plan_ask(npi_unix_conn* conn, batch* b) {
  uint8_t frame[NPI_COUNT_BYTES];
  if (conn->plain) return;
  npi_count want = send_wanted(conn);
  if (want.bytes <= conn->tx_asked.bytes &&
      want.messages <= conn->tx_asked.messages)
    return;
  conn->tx_asked = want;
  npi_encode_count(frame, NPI_FRAME_ASK, want.bytes, want.messages);
  batch_copy(b, frame, sizeof frame);
}

static void send_plan(npi_unix_conn* conn, batch* b) {
  b->count = b->bytes = b->staged = 0;
  send_plan_report(conn, b);
  while (conn->tx_waiting.head != NULL && batch_has_room(b)) {
    npi_op* op = conn->tx_waiting.head;
    if (!send_plan_frame(conn, b)) break;
    if (send_os(op)->sent < op->u.write.bytes) continue;
    send_os(op)->wire_end = conn->wire_planned + b->bytes;
    npi_queue_push(&conn->tx_unread, npi_queue_pop(&conn->tx_waiting));
  }
  send_plan_ask(conn, b);
  conn->wire_planned += b->bytes;
}

/* ---- the socket */

static void send_wait(npi_unix_conn* conn);

/* Goes on soon. A connection that is being closed has no turn any more; its
 * socket, which has room, calls back instead. */
static void send_later(npi_unix_conn* conn) {
  if (conn->closing)
    send_wait(conn);
  else
    npi_conn_post(&conn->base);
}

/* Finishes what is in the kernel and within the quota. */
static void send_complete(npi_unix_conn* conn) {
  npi_op* op = conn->tx_unread.head;
  while (op != NULL && send_os(op)->wire_end <= conn->wire_sent) {
    npi_op* next = op->next;
    if (conn->plain || op->u.write.bytes == 0 ||
        send_within_quota(conn, send_os(op)->end)) {
      npi_queue_remove(&conn->tx_unread, op);
      npi_write_done(&conn->base, op, 0);
    }
    op = next;
  }
}

/* Moves over the first `sent` bytes of iov; returns the first one with
 * something left. */
static size_t iov_advance(struct iovec* iov, size_t count, size_t sent) {
  size_t i = 0;
  while (i < count && sent >= iov[i].iov_len) sent -= iov[i++].iov_len;
  if (i < count) {
    iov[i].iov_base = (uint8_t*) iov[i].iov_base + sent;
    iov[i].iov_len -= sent;
  }
  return i;
}

static int send_keep(npi_unix_conn* conn, batch* b, size_t first) {
  npi_leftover* left = npi_malloc(sizeof *left + b->staged);
  if (left == NULL) return UV_ENOMEM;
  memcpy(left->stage, b->stage, b->staged);
  left->first = 0;
  left->count = b->count - first;
  for (size_t i = 0; i < left->count; i++) {
    struct iovec part = b->iov[first + i];
    uint8_t* base = part.iov_base;
    if (base >= b->stage && base < b->stage + b->staged)
      part.iov_base = left->stage + (base - b->stage);
    left->iov[i] = part;
  }
  conn->leftover = left;
  return 0;
}

static void send_on_writable(uv_poll_t* poll, int status, int events);

static void send_on_retry(uv_timer_t* timer) {
  npi_unix_conn* conn = timer->data;
  send_on_writable(&conn->writable, 0, 0);
}

/* Waits until the socket takes more. */
static void send_wait(npi_unix_conn* conn) {
  if (conn->writable_fd < 0) {
    int fd = npi_sock_dup(conn->fd);
    if (fd >= 0 && uv_poll_init(conn->base.loop, &conn->writable, fd) != 0) {
      npi_sock_close(fd);
      fd = UV_EMFILE;
    }
    conn->writable.data = conn;
    if (fd < 0) {
      uv_timer_start(&conn->retry, send_on_retry, SEND_RETRY_MS, 0);
      return;
    }
    conn->writable_fd = fd;
    conn->handles++;
  }
  uv_poll_start(&conn->writable, UV_WRITABLE, send_on_writable);
}

static void send_broken(npi_unix_conn* conn, int status) {
  /* Half a frame may be out: the peer must not wait for the rest. */
  npi_sock_shutdown(conn->fd);
  npi_send_end(conn, status);
  if (conn->closing) npi_conn_lingered(conn);
}

/* Sends one batch; false if there was nothing or the socket is full. */
static bool send_batch(npi_unix_conn* conn) {
  batch b;
  send_plan(conn, &b);
  if (b.bytes == 0) return false;
  ssize_t sent = npi_sock_send(conn->fd, b.iov, b.count);
  if (sent == UV_EAGAIN) sent = 0;
  if (sent < 0) {
    send_broken(conn, UV_EPIPE);
    return false;
  }
  conn->wire_sent += (uint64_t) sent;
  if ((size_t) sent == b.bytes) return true;
  size_t first = iov_advance(b.iov, b.count, (size_t) sent);
  if (send_keep(conn, &b, first) != 0) {
    send_broken(conn, UV_ENOMEM);
    return false;
  }
  send_wait(conn);
  return false;
}

/* True if the leftover is gone. */
static bool send_leftover(npi_unix_conn* conn) {
  npi_leftover* left = conn->leftover;
  if (left == NULL) return true;
  struct iovec* iov = left->iov + left->first;
  size_t count = left->count - left->first;
  ssize_t sent = npi_sock_send(conn->fd, iov, count);
  if (sent < 0) {
    if (sent == UV_EAGAIN)
      send_wait(conn);
    else
      send_broken(conn, UV_EPIPE);
    return false;
  }
  conn->wire_sent += (uint64_t) sent;
  left->first += iov_advance(iov, count, (size_t) sent);
  if (left->first < left->count) {
    send_wait(conn);
    return false;
  }
  npi_free(left);
  conn->leftover = NULL;
  if (conn->writable_fd >= 0) uv_poll_stop(&conn->writable);
  return true;
}

static void send_on_writable(uv_poll_t* poll, int status, int events) {
  npi_unix_conn* conn = poll->data;
  (void) status; /* an error shows in the send */
  (void) events;
  if (!send_leftover(conn)) return;
  npi_send_flush(conn);
}

void npi_send_flush(npi_unix_conn* conn) {
  bool sendable = conn->link == NPI_LINK_UP && conn->tx_end == 0;
  if (!sendable || conn->leftover != NULL) return;
  int rounds = 0;
  while (send_batch(conn) && ++rounds < FLUSH_ROUNDS_MAX)
    if (conn->tx_waiting.head == NULL) break;
  if (conn->tx_end != 0) return;
  send_complete(conn);
  if (rounds == FLUSH_ROUNDS_MAX) send_later(conn);
  bool all = conn->tx_waiting.head == NULL && conn->leftover == NULL;
  if (conn->closing && all) npi_conn_lingered(conn);
}

/* ---- ends */

static void send_finish_all(npi_unix_conn* conn, int status) {
  for (npi_op* op; (op = npi_queue_pop(&conn->tx_unread)) != NULL;)
    npi_write_done(&conn->base, op, status);
  for (npi_op* op; (op = npi_queue_pop(&conn->tx_waiting)) != NULL;)
    npi_write_done(&conn->base, op, status);
}

void npi_send_end(npi_unix_conn* conn, int status) {
  if (conn->tx_end == 0) conn->tx_end = status;
  npi_free(conn->leftover);
  conn->leftover = NULL;
  if (conn->writable_fd >= 0 && !uv_is_closing((uv_handle_t*) &conn->writable))
    uv_poll_stop(&conn->writable);
  send_finish_all(conn, status);
}

int npi_send_consumed(npi_unix_conn* conn, npi_count count) {
  if (count.bytes < conn->tx_consumed.bytes ||
      count.bytes > conn->tx_begun.bytes ||
      count.messages < conn->tx_consumed.messages ||
      count.messages > conn->tx_begun.messages)
    return UV_EPROTO;
  conn->tx_consumed = count;
  send_complete(conn);
  if (conn->closing)
    npi_send_flush(conn);
  else
    npi_conn_post(&conn->base);
  return 0;
}

/* Takes the writes with a callback out of a queue and cancels them. Returns
 * the wire's end of the last one that stays. */
static uint64_t send_drop_queue(npi_unix_conn* conn, npi_queue* queue) {
  npi_queue all = *queue;
  uint64_t end = 0;
  *queue = (npi_queue){NULL, NULL};
  for (npi_op* op; (op = npi_queue_pop(&all)) != NULL;) {
    if (op->u.write.cb != NULL) {
      npi_write_done(&conn->base, op, UV_ECANCELED);
      continue;
    }
    end = send_os(op)->wire_end;
    npi_queue_push(queue, op);
  }
  return end;
}

/* Shortens the leftover so that it ends at `end` on the wire: what follows is
 * memory of dropped writes. */
static void send_cut(npi_unix_conn* conn, uint64_t end) {
  npi_leftover* left = conn->leftover;
  if (left == NULL) return;
  uint64_t keep = end > conn->wire_sent ? end - conn->wire_sent : 0;
  size_t i = left->first;
  for (; i < left->count && keep > 0; i++) {
    if (left->iov[i].iov_len > keep) left->iov[i].iov_len = (size_t) keep;
    keep -= left->iov[i].iov_len;
  }
  left->count = i;
  if (left->first < left->count) return;
  npi_free(left);
  conn->leftover = NULL;
}

bool npi_send_drop(npi_unix_conn* conn) {
  uint64_t end = send_drop_queue(conn, &conn->tx_unread);
  send_drop_queue(conn, &conn->tx_waiting);
  if (conn->tx_waiting.head == NULL) send_cut(conn, end);
  if (conn->leftover == NULL) send_complete(conn);
  return conn->link == NPI_LINK_UP && conn->tx_end == 0 &&
         (conn->tx_waiting.head != NULL || conn->leftover != NULL);
}

/* ---- backend.h */

void npi_os_write(npipe_conn* base, npi_op* op) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  if (conn->tx_end != 0) {
    npi_write_done(base, op, conn->tx_end);
    return;
  }
  conn->tx_accepted += op->u.write.bytes;
  send_os(op)->end = conn->tx_accepted;
  npi_queue_push(&conn->tx_waiting, op);
}

void npi_os_write_now(npipe_conn* base, npi_op* op) {
  npi_os_write(base, op);
  npi_send_flush((npi_unix_conn*) base);
}
