/*
 * An instance that outlives its client: DisconnectNamedPipe() and
 * ConnectNamedPipe() on the handle that is there. It stays with its uv_pipe_t;
 * a file is bound to a completion port once and for ever.
 *
 * Everything of the former client is over when npi_os_disconnect() returns:
 * the system ends what is pending at once, and we wait for that (a fraction of
 * a millisecond), so nothing of it can spoil the next session.
 *
 * `listening`: ConnectNamedPipe() was called and its end was not seen. It uses
 * the reader's wait, because nobody reads meanwhile. Cancelling an
 * npipe_listen() does not end it (LN6).
 *
 * An instance that listens and is disconnected: Windows ends the
 * ConnectNamedPipe() and lets nobody in. Wine 8 refuses (ERROR_PIPE_LISTENING).
 * There it goes on listening behind the program's back, and a client that comes
 * is thrown out at once.
 */
#include "win.h"

void npi_instance_close(npi_win_conn* conn) {
  if (conn->listening && !conn->arrived)
    npi_wait_cancel(&conn->reader.wait, conn->handle);
  conn->listening = conn->arrived = false;
}

int npi_os_disconnect(npipe_conn* base) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_flush_bar(conn);
  if (!DisconnectNamedPipe(conn->handle)) {
    DWORD error = GetLastError();
    if (error == ERROR_PIPE_LISTENING && conn->listening) return 0;
    if (error != ERROR_PIPE_NOT_CONNECTED)
      return npi_fail(npi_win_error(error), (int) error, "disconnect: %s",
                      npipe_strerror(npi_win_error(error)));
  }
  npi_instance_close(conn);
  npi_conn_cut(conn);
  return 0;
}

/* Nobody listens any more: a client is there, or error says why not. */
static void instance_end(npi_win_conn* conn, DWORD error) {
  conn->listening = conn->arrived = false;
  if (conn->base.state == NPI_CONN_DISCONNECTED) { /* see above: Wine */
    DisconnectNamedPipe(conn->handle);
    return;
  }
  if (error == 0) {
    npi_read_reset(conn);
    conn->writer.issued = conn->writer.flushed = 0;
    npi_identity_meet(conn);
  }
  npi_conn_listened(&conn->base, npi_win_error(error));
}

void npi_instance_step(npi_win_conn* conn) {
  size_t bytes;
  DWORD error = ERROR_SUCCESS;
  if (!conn->listening) return;
  if (!conn->arrived) {
    if (!npi_wait_fired(&conn->reader.wait)) return;
    error = npi_wait_result(&conn->reader.wait, conn->handle, &bytes);
  }
  instance_end(conn, error);
}

static int instance_state(npi_win_conn* conn) {
  npipe_state state = npi_os_state(&conn->base);
  return state == NPIPE_STATE_CLOSING ? UV_EPIPE : UV_EISCONN;
}

int npi_os_listen(npipe_conn* base) {
  npi_win_conn* conn = (npi_win_conn*) base;
  if (base->state == NPI_CONN_OPEN) return instance_state(conn);
  if (conn->listening) return 0; /* see above: Wine */
  if (npi_wait_open(&conn->reader.wait, &conn->wake) != 0)
    return npi_fail(UV_ENOMEM, 0, "listen: no memory");
  BOOL done =
      ConnectNamedPipe(conn->handle, npi_wait_begin(&conn->reader.wait));
  DWORD error = done ? ERROR_PIPE_CONNECTED : GetLastError();
  switch (error) {
    case ERROR_IO_PENDING: npi_wait_arm(&conn->reader.wait, 0); break;
    case ERROR_PIPE_CONNECTED:
    case ERROR_NO_DATA: /* it has gone again (LN2) */
      conn->arrived = true;
      uv_async_send(&conn->wake);
      break;
    default:
      return npi_fail(npi_win_error(error), (int) error, "listen: %s",
                      npipe_strerror(npi_win_error(error)));
  }
  conn->listening = true;
  return 0;
}
