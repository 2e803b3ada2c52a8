/*
 * Looking without touching: peek, what the pipe is, who is at the other end.
 *
 * These answer at once and have no callback, so what the pipe has to say about
 * its state is their return value. They may be called while the connect
 * callback is being paid, but not before.
 */
#include <string.h>

#include "backend.h"

int npipe_peek(npipe_conn* conn, void* data, size_t size,
               npipe_peek_info* info) {
  if (conn == NULL || info == NULL || (data == NULL && size > 0))
    return npi_fail(UV_EINVAL, 0, "peek: conn, info or data is NULL");
  int err = npi_read_check(conn, "peek");
  if (err != 0) return err;
  if (conn->read_end == 0 && conn->state == NPI_CONN_OPEN) {
    npipe_peek_info found = {0};
    err = npi_os_peek(conn, data, size, &found);
    if (err == 0) *info = found;
  } else {
    err = conn->read_end;
  }
  npi_tell(err);
  return err;
}

static npipe_state look_state(npipe_conn* conn) {
  switch (conn->state) {
    case NPI_CONN_LISTENING: return NPIPE_STATE_LISTENING;
    case NPI_CONN_OPEN: return npi_os_state(conn);
    default: return NPIPE_STATE_DISCONNECTED;
  }
}

/* A client that was thrown out gets no answer any more (ST1). */
static int look_check(npipe_conn* conn, const char* what) {
  if (conn->state == NPI_CONN_LISTENING) return 0;
  int err = npi_conn_check(conn, what);
  if (err != 0) return err;
  bool out = !conn->is_server && look_state(conn) == NPIPE_STATE_DISCONNECTED;
  if (!out) return 0;
  return npi_fail(UV_ECONNABORTED, 0, "%s: the server disconnected this pipe",
                  what);
}

int npipe_get_info(npipe_conn* conn, npipe_info* info) {
  if (conn == NULL || info == NULL)
    return npi_fail(UV_EINVAL, 0, "info: conn or info is NULL");
  int err = look_check(conn, "info");
  if (err != 0) return err;
  *info = (npipe_info){.type = conn->type,
                       .direction = conn->direction,
                       .read_mode = conn->read_mode,
                       .state = look_state(conn),
                       .is_server = conn->is_server,
                       .in_quota = conn->in_quota,
                       .out_quota = conn->out_quota,
                       .message_max_bytes = conn->message_max_bytes,
                       .max_instances = conn->max_instances};
  if (conn->server != NULL) info->instances = conn->server->instances;
  return 0;
}

static void look_peer(npipe_conn* conn, unsigned want, npipe_peer* peer) {
  memset(peer, 0, sizeof *peer);
  npi_os_peer(conn, want, peer);
}

int npipe_get_peer(npipe_conn* conn, unsigned want, npipe_peer* peer) {
  if (conn == NULL || peer == NULL || (want & ~NPIPE_PEER_ALL) != 0)
    return npi_fail(UV_EINVAL, 0, "peer: bad argument");
  int err = look_check(conn, "peer");
  if (err != 0) return err;
  if (conn->state != NPI_CONN_OPEN)
    return npi_fail(UV_ENOTCONN, 0, "peer: no client is there");
  look_peer(conn, want, peer);
  return 0;
}

int npipe_next_peer(npipe_server* server, unsigned want, npipe_peer* peer) {
  if (server == NULL || peer == NULL || (want & ~NPIPE_PEER_ALL) != 0)
    return npi_fail(UV_EINVAL, 0, "next peer: bad argument");
  if (server->arrived.head == NULL) return UV_EAGAIN;
  look_peer(server->arrived.head, want, peer);
  return 0;
}
