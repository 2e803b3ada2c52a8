/*
 * Sending: frames to the socket, and the end of writes.
 *
 * A flush plans a batch (plan.c) and sends it in one call. Planning is final:
 * what the socket does not take is kept as the leftover and goes first when the
 * socket can take more. So positions are two counters, bytes planned and bytes
 * in the kernel, and nothing ever has to be taken back.
 *
 * A write stands in tx_waiting until its last byte is planned, then in
 * tx_unread until it is done: in the kernel, and its end within the quota of
 * what the peer's program has not read (WR3).
 *
 * When a send fails, the reason may lie unread in the socket: that the server
 * has thrown us out. So the socket is drained before writes are told.
 *
 * The wait for a full socket uses a second descriptor of it, because libuv
 * polls each descriptor for one handle only.
 */
#include <string.h>

#include "send.h"

#define FLUSH_ROUNDS_MAX 16
#define SEND_RETRY_MS 10 /* without a descriptor to wait on */

static npi_unix_op* send_os(npi_op* op) {
  return npi_op_os(op);
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

/* Is it in the pipe, now that it is in the kernel? A request is, whatever the
 * quota says (TX3), and so is an empty message (WR6). */
static bool send_is_done(const npi_unix_conn* conn, npi_op* op) {
  return conn->plain || op->u.write.bytes == 0 || op->u.write.request ||
         npi_send_within_quota(conn, send_os(op)->end.bytes);
}

/* A write of nothing on a byte pipe is nowhere in it. */
static void send_count_done(npi_unix_conn* conn, npi_op* op) {
  npi_count end = send_os(op)->end;
  bool nowhere = conn->base.type == NPIPE_BYTE && op->u.write.bytes == 0;
  if (!nowhere && npi_count_reached(end, conn->tx_done)) conn->tx_done = end;
}

static void send_complete(npi_unix_conn* conn) {
  npi_op* next;
  for (npi_op* op = conn->tx_unread.head; op != NULL; op = next) {
    next = op->next;
    if (send_os(op)->wire_end > conn->wire_sent) return;
    if (!send_is_done(conn, op)) continue;
    send_count_done(conn, op);
    npi_queue_remove(&conn->tx_unread, op);
    npi_write_done(&conn->base, op, 0);
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

static int send_keep(npi_unix_conn* conn, npi_batch* b, size_t first) {
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
  if (status == UV_EPIPE) npi_receive_drain(conn);
  if (conn->tx_end != 0) return; /* that told why, and has done the rest */
  /* Half a frame may be out: the peer must not wait for the rest. */
  npi_sock_shutdown(conn->fd);
  npi_send_end(conn, status);
  if (conn->closing) npi_conn_lingered(conn);
}

/* Sends one batch; false if there was nothing or the socket is full. */
static bool send_batch(npi_unix_conn* conn) {
  npi_batch b;
  npi_send_plan(conn, &b);
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
  /* From send_later(): it was only to be called once. */
  if (conn->leftover == NULL && conn->writable_fd >= 0 &&
      !uv_is_closing((uv_handle_t*) &conn->writable))
    uv_poll_stop(&conn->writable);
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
  if (conn->closing && !npi_send_pending(conn)) npi_conn_lingered(conn);
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
  npi_flush_end(conn, status == UV_ECONNABORTED ? status : UV_EPIPE);
}

int npi_send_consumed(npi_unix_conn* conn, npi_count count) {
  if (!npi_count_reached(count, conn->tx_consumed) ||
      !npi_count_reached(conn->tx_begun, count))
    return UV_EPROTO;
  conn->tx_consumed = count;
  send_complete(conn);
  npi_flush_check(conn);
  if (!conn->closing)
    npi_conn_post(&conn->base);
  else if (!conn->draining) /* else the send that drains has failed anyway */
    npi_send_flush(conn);
  return 0;
}

bool npi_send_pending(const npi_unix_conn* conn) {
  return conn->link == NPI_LINK_UP && conn->tx_end == 0 &&
         (conn->tx_waiting.head != NULL || conn->tx_unread.head != NULL);
}

/* ---- last words */

/* Sends a frame behind what is half out, and if the socket does not take all
 * of it, leaves it to a farewell if that is wanted. True: one has begun. */
static bool send_last(npi_unix_conn* conn, uint8_t* frame, size_t size,
                      bool farewell) {
  struct iovec iov[NPI_BATCH_IOV + 1];
  npi_leftover* left = conn->leftover;
  size_t count = 0;
  size_t rest = 0;
  if (left != NULL) {
    count = left->count - left->first;
    memcpy(iov, left->iov + left->first, count * sizeof *iov);
  }
  iov[count].iov_base = frame;
  iov[count++].iov_len = size;
  ssize_t sent = npi_sock_send(conn->fd, iov, count);
  if (sent < 0 && sent != UV_EAGAIN) return false;
  size_t first = iov_advance(iov, count, sent > 0 ? (size_t) sent : 0);
  for (size_t i = first; i < count; i++) rest += iov[i].iov_len;
  if (rest == 0 || !farewell) return false;
  return npi_farewell_begin(conn, iov + first, count - first, rest);
}

/* What was read, if the peer does not know it: something there may wait for
 * just that. */
static size_t send_last_report(npi_unix_conn* conn, uint8_t* out) {
  bool known = npi_count_reached(conn->reported, conn->consumed);
  return known ? 0 : npi_send_report(conn, out);
}

bool npi_send_disconnect(npi_unix_conn* conn) {
  uint8_t frames[NPI_COUNT_BYTES + NPI_HEADER_BYTES];
  size_t size = send_last_report(conn, frames);
  size += npi_encode_disconnect(frames + size);
  return send_last(conn, frames, size, true);
}

/* Is some of a write in the socket that is not done? */
static bool send_has_begun(const npi_unix_conn* conn) {
  npi_op* op = conn->tx_waiting.head;
  return conn->tx_unread.head != NULL || (op != NULL && send_os(op)->sent > 0);
}

void npi_send_goodbye(npi_unix_conn* conn) {
  uint8_t frames[2 * NPI_COUNT_BYTES];
  if (conn->link != NPI_LINK_UP || conn->plain || conn->tx_end != 0) return;
  size_t size = send_last_report(conn, frames);
  if (send_has_begun(conn))
    size += npi_encode_count(frames + size, NPI_FRAME_WITHDRAW,
                             conn->tx_done.bytes, conn->tx_done.messages);
  if (size > 0) send_last(conn, frames, size, false);
}
