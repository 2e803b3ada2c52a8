/*
 * A connection's handles: adopting a socket, and closing everything.
 *
 * The socket belongs to a uv_pipe_t, which reads it. Sending goes straight to
 * the descriptor (send.c), because a write through libuv can raise SIGPIPE and
 * a library must not change what a signal does in somebody's process.
 *
 * Handles: the timers live as long as the connection; pipe from
 * npi_conn_adopt() on, writable from the first time the socket is full. These
 * two are the transport: a disconnected instance loses them and gets new ones
 * with its next client. conn->handles counts all; the last close callback
 * reports npi_conn_closed().
 *
 * The close: while a write is pending and can still be done, the link goes on,
 * for the linger time at most; what arrives is thrown away. Then the peer is
 * told what is withdrawn (CL5), and the socket is shut down before it is
 * closed, so that a forked child that still holds it does not keep the peer
 * waiting (ST6).
 */
#include <assert.h>
#include <string.h>

#include "unix.h"

const size_t npi_os_conn_size = sizeof(npi_unix_conn);
const size_t npi_os_op_size = sizeof(npi_unix_op);

/* Far enough: the timer is only there to be active. */
#define CONN_ALIVE_MS (UINT64_MAX / 4)

void npi_unix_conn_init(npi_unix_conn* conn) {
  conn->fd = -1;
  conn->writable_fd = -1;
  uv_timer_init(conn->base.loop, &conn->timer); /* cannot fail */
  conn->timer.data = conn;
  uv_timer_init(conn->base.loop, &conn->retry);
  conn->retry.data = conn;
  conn->handles = 2;
}

int npi_conn_adopt(npi_unix_conn* conn, int fd) {
  int err = uv_pipe_init(conn->base.loop, &conn->pipe, 0);
  if (err != 0) return err;
  conn->pipe.data = conn;
  conn->pipe_open = true;
  conn->handles++;
  err = uv_pipe_open(&conn->pipe, fd);
  if (err != 0) return err;
  conn->fd = fd;
  conn->link = NPI_LINK_SHAKING;
  npi_receive_start(conn);
  return 0;
}

void npi_shake_free(npi_unix_conn* conn) {
  npi_free(conn->shake);
  conn->shake = NULL;
}

bool npi_conn_bare(const npi_unix_conn* conn) {
  return !conn->pipe_open && conn->writable_fd < 0;
}

static void conn_close_handle(uv_handle_t* handle);

int npi_conn_readopt(npi_unix_conn* conn, int fd) {
  assert(npi_conn_bare(conn));
  int err = npi_conn_adopt(conn, fd);
  if (err != 0 && conn->pipe_open)
    conn_close_handle((uv_handle_t*) &conn->pipe);
  return err;
}

/* Nothing was received or sent yet. The queues are empty. */
static void conn_count_anew(npi_unix_conn* conn) {
  static const npi_count none;
  assert(conn->tx_waiting.head == NULL && conn->tx_unread.head == NULL);
  conn->rx_end = conn->tx_end = 0;
  conn->ask_open = false;
  conn->consumed = conn->reported = conn->asked = none;
  conn->tx_begun = conn->tx_consumed = conn->tx_accepted = none;
  conn->tx_done = conn->tx_asked = none;
  conn->wire_planned = conn->wire_sent = 0;
}

void npi_link_up(npi_unix_conn* conn, uint32_t rx_quota, uint32_t tx_quota,
                 bool plain) {
  npipe_conn* base = &conn->base;
  bool messages = base->type == NPIPE_MESSAGE;
  uv_timer_stop(&conn->timer);
  npi_decoder_init(&conn->decoder, messages, base->message_max_bytes);
  npi_rxq_init(&conn->rxq, messages);
  conn_count_anew(conn);
  conn->rx_quota = rx_quota;
  conn->tx_quota = tx_quota;
  conn->plain = plain;
  conn->link = NPI_LINK_UP;
}

static void conn_on_alive(uv_timer_t* timer) {
  (void) timer;
}

/* An open connection keeps the loop alive, also when its socket does not. */
void npi_conn_keep_alive(npi_unix_conn* conn) {
  uv_timer_start(&conn->timer, conn_on_alive, CONN_ALIVE_MS, 0);
}

static void conn_show_end(npi_unix_conn* conn) {
  npi_conn_keep_alive(conn);
  if (conn->draining)
    npi_conn_post(&conn->base);
  else
    npi_read_serve(conn);
}

/* A plain peer may say that it will send no more and still read (nc does). */
static void conn_half_closed(npi_unix_conn* conn) {
  conn->rx_end = UV_EOF;
  uv_read_stop((uv_stream_t*) &conn->pipe);
  if (!conn->closing) conn_show_end(conn);
}

void npi_link_down(npi_unix_conn* conn, int status) {
  if (conn->link != NPI_LINK_UP) return;
  if (conn->plain && status == UV_EOF) {
    conn_half_closed(conn);
    return;
  }
  conn->link = NPI_LINK_DOWN;
  conn->rx_end = status;
  uv_read_stop((uv_stream_t*) &conn->pipe);
  npi_sock_shutdown(conn->fd);
  bool own = status == UV_EPROTO || status == UV_ECONNABORTED;
  npi_send_end(conn, own ? status : UV_EPIPE);
  if (conn->closing) {
    npi_conn_lingered(conn);
    return;
  }
  conn_show_end(conn);
}

void npi_link_cut(npi_unix_conn* conn) {
  if (conn->link != NPI_LINK_UP) return;
  conn->link = NPI_LINK_DOWN;
  conn->rx_end = UV_ECONNABORTED;
  npi_rxq_clear(&conn->rxq);
  uv_read_stop((uv_stream_t*) &conn->pipe);
  npi_sock_shutdown(conn->fd);
  npi_send_end(conn, UV_ECONNABORTED);
  if (conn->closing) {
    npi_conn_lingered(conn);
    return;
  }
  npi_conn_keep_alive(conn);
  npi_conn_disconnected(&conn->base);
}

void npi_os_conn_turn(npipe_conn* base) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  bool stored = npi_read_wanted(base) && conn->rxq.head != NULL;
  bool begun = npi_read_front(base) != NULL && !base->is_server;
  /* Nobody reads what the peer had taken back when the read began, by throwing
   * us out or by closing over it (DI1, CL5). */
  if (stored || begun) npi_receive_drain(conn);
  if (base->state != NPI_CONN_OPEN) return;
  if (npi_read_wanted(base)) npi_read_serve(conn);
  npi_send_flush(conn);
}

/* ---- handles */

void npi_conn_handle_closed(npi_unix_conn* conn) {
  conn->handles--;
  if (conn->closing) {
    if (conn->handles > 0) return;
    npi_rxq_clear(&conn->rxq);
    npi_shake_free(conn);
    npi_conn_closed(&conn->base);
  } else if (conn->base.state == NPI_CONN_LISTENING && npi_conn_bare(conn)) {
    npi_server_listener_ready(conn);
  }
}

static void conn_on_handle_closed(uv_handle_t* handle) {
  npi_unix_conn* conn = handle->data;
  if (handle == (uv_handle_t*) &conn->pipe) conn->pipe_open = false;
  if (handle == (uv_handle_t*) &conn->writable) {
    npi_sock_close(conn->writable_fd);
    conn->writable_fd = -1;
  }
  npi_conn_handle_closed(conn);
}

static void conn_close_handle(uv_handle_t* handle) {
  if (!uv_is_closing(handle)) uv_close(handle, conn_on_handle_closed);
}

void npi_conn_strip(npi_unix_conn* conn, bool shut) {
  conn->link = NPI_LINK_NONE;
  conn->in_size = 0;
  uv_timer_stop(&conn->retry);
  if (shut) npi_sock_shutdown(conn->fd);
  conn->fd = -1;
  if (conn->pipe_open) conn_close_handle((uv_handle_t*) &conn->pipe);
  if (conn->writable_fd >= 0) conn_close_handle((uv_handle_t*) &conn->writable);
}

/* ---- close */

void npi_conn_lingered(npi_unix_conn* conn) {
  if (conn->gone) return;
  conn->gone = true;
  npi_send_goodbye(conn);
  npi_send_end(conn, UV_ECANCELED);
  npi_conn_strip(conn, true);
  npi_server_gone(conn);
  npi_server_release(&conn->base);
  conn_close_handle((uv_handle_t*) &conn->timer);
  conn_close_handle((uv_handle_t*) &conn->retry);
}

static void conn_on_linger(uv_timer_t* timer) {
  npi_conn_lingered(timer->data);
}

void npi_os_conn_close(npipe_conn* base, uint32_t linger_ms) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  npi_farewell_hurry(conn, linger_ms);
  if (!conn->closing) {
    npi_server_forget(conn);
    npi_server_unlisten(conn);
  }
  conn->closing = true;
  if (linger_ms == 0 || !npi_send_pending(conn)) {
    npi_conn_lingered(conn);
    return;
  }
  uv_update_time(base->loop); /* the time is counted from the call */
  uv_timer_start(&conn->timer, conn_on_linger, linger_ms, 0);
  npi_send_flush(conn);
}
