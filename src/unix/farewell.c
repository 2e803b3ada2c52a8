/*
 * A client that was thrown out while its socket was full.
 *
 * It has to be told by DISCONNECT, and before that the frame that is half out
 * must be finished, or nothing behind it could be understood. The instance does
 * not wait for that: its next client may come. So what is left to say goes into
 * a farewell, with a descriptor of its own for the same socket, which sends it
 * when the client's library reads and then ends the socket.
 *
 * Owner: the connection, whose handles these count among; its close waits for
 * them, no longer than it lingers. A farewell takes FAREWELL_MS at most, and
 * there are FAREWELLS_MAX at a time: beyond that, or without memory or a
 * descriptor, the client only finds its peer gone (DI1).
 */
#include <string.h>

#include "unix.h"

#define FAREWELL_MS 5000u
#define FAREWELLS_MAX 8u

struct npi_farewell {
  npi_farewell* next;
  npi_unix_conn* conn;
  uv_poll_t poll;
  uv_timer_t timer;
  int fd;
  unsigned handles;
  size_t size;
  size_t sent;
  uint8_t bytes[];
};

static void farewell_unlink(npi_farewell* farewell) {
  npi_farewell** at = &farewell->conn->farewells;
  while (*at != farewell) at = &(*at)->next;
  *at = farewell->next;
  farewell->conn->farewell_count--;
}

static void farewell_on_closed(uv_handle_t* handle) {
  npi_farewell* farewell = handle->data;
  npi_unix_conn* conn = farewell->conn;
  if (--farewell->handles > 0) return;
  npi_sock_close(farewell->fd);
  farewell_unlink(farewell);
  npi_free(farewell);
  npi_conn_handle_closed(conn);
}

static void farewell_end(npi_farewell* farewell) {
  if (uv_is_closing((uv_handle_t*) &farewell->timer)) return;
  npi_sock_shutdown(farewell->fd);
  uv_close((uv_handle_t*) &farewell->poll, farewell_on_closed);
  uv_close((uv_handle_t*) &farewell->timer, farewell_on_closed);
}

static void farewell_on_timer(uv_timer_t* timer) {
  farewell_end(timer->data);
}

static void farewell_on_writable(uv_poll_t* poll, int status, int events) {
  npi_farewell* farewell = poll->data;
  (void) status; /* an error shows in the send */
  (void) events;
  struct iovec iov = {.iov_base = farewell->bytes + farewell->sent,
                      .iov_len = farewell->size - farewell->sent};
  ssize_t sent = npi_sock_send(farewell->fd, &iov, 1);
  if (sent == UV_EAGAIN) return;
  if (sent > 0) farewell->sent += (size_t) sent;
  if (sent < 0 || farewell->sent == farewell->size) farewell_end(farewell);
}

static npi_farewell* farewell_new(const struct iovec* iov, size_t count,
                                  size_t size) {
  npi_farewell* farewell = npi_malloc(sizeof *farewell + size);
  if (farewell == NULL) return NULL;
  *farewell = (npi_farewell){.size = size};
  uint8_t* to = farewell->bytes;
  for (size_t i = 0; i < count; i++) {
    memcpy(to, iov[i].iov_base, iov[i].iov_len);
    to += iov[i].iov_len;
  }
  return farewell;
}

bool npi_farewell_begin(npi_unix_conn* conn, const struct iovec* iov,
                        size_t count, size_t size) {
  if (conn->farewell_count >= FAREWELLS_MAX) return false;
  npi_farewell* farewell = farewell_new(iov, count, size);
  if (farewell == NULL) return false;
  farewell->fd = npi_sock_dup(conn->fd);
  if (farewell->fd < 0 ||
      uv_poll_init(conn->base.loop, &farewell->poll, farewell->fd) != 0) {
    npi_sock_close(farewell->fd);
    npi_free(farewell);
    return false;
  }
  uv_timer_init(conn->base.loop, &farewell->timer);
  farewell->poll.data = farewell->timer.data = farewell;
  farewell->handles = 2;
  farewell->conn = conn;
  farewell->next = conn->farewells;
  conn->farewells = farewell;
  conn->farewell_count++;
  conn->handles++;
  uv_update_time(conn->base.loop);
  uv_timer_start(&farewell->timer, farewell_on_timer, FAREWELL_MS, 0);
  uv_poll_start(&farewell->poll, UV_WRITABLE, farewell_on_writable);
  return true;
}

void npi_farewell_hurry(npi_unix_conn* conn, uint32_t linger_ms) {
  for (npi_farewell* at = conn->farewells; at != NULL; at = at->next) {
    if (linger_ms == 0)
      farewell_end(at);
    else if (linger_ms < uv_timer_get_due_in(&at->timer))
      uv_timer_start(&at->timer, farewell_on_timer, linger_ms, 0);
  }
}
