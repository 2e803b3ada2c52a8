/*
 * A connection's handles: adopting a pipe, being woken, closing everything.
 *
 * The pipe belongs to a uv_pipe_t, which writes to it. Reads, and the writes
 * of npipe_try_write(), are overlapped calls of our own on the same handle,
 * because libuv neither keeps the boundaries of messages nor shows empty ones,
 * and does not say when a write ended at once. Such a call ends on a thread of
 * the system's pool, which sends `wake`; the loop then looks what has ended.
 *
 * Handles: pipe and wake live from npi_conn_begin() on. wake is referenced, so
 * an open connection keeps its loop alive; a failed one does not. The last
 * close callback reports npi_conn_closed().
 *
 * The close goes in steps, each only when the one before is over: (1) what the
 * system still holds memory of ours for is cancelled, or waited for; a pending
 * npipe_try_write() gets NPI_LINGER_MS. (2) uv_close(), which closes the
 * pipe's handle at once: writes that were pending in libuv are called back
 * with an error, which is UV_ECANCELED for us, and what was written can still
 * be read by the peer (CL1, CL5). Nothing is disconnected. (3) When no thread
 * of the pool can send it any more, wake is closed.
 */
#include <string.h>

#include "win.h"

const size_t npi_os_conn_size = sizeof(npi_win_conn);

bool npi_win_path(WCHAR path[NPI_PATH_UNITS], const npi_name* name) {
  static const WCHAR prefix[] = L"\\\\?\\pipe\\";
  memcpy(path, prefix, sizeof prefix);
  return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, name->text, -1,
                             path + NPI_PATH_PREFIX_UNITS,
                             NPI_NAME_UNITS_MAX + 1) > 0;
}

static void conn_on_wake(uv_async_t* wake);

int npi_conn_begin(npi_win_conn* conn) {
  uv_pipe_init(conn->base.loop, &conn->pipe, 0); /* cannot fail here */
  conn->pipe.data = conn;
  conn->handles++;
  int err = uv_async_init(conn->base.loop, &conn->wake, conn_on_wake);
  if (err != 0) return err;
  conn->wake.data = conn;
  conn->has_wake = true;
  conn->handles++;
  return 0;
}

/* On a message pipe the system reads messages, whatever the program asked for:
 * byte reads are made of them (read.c). An inbound server's end cannot change
 * its mode (CR11), but was created with the right one. */
static int conn_read_messages(HANDLE pipe) {
  DWORD mode = PIPE_READMODE_MESSAGE | PIPE_WAIT;
  if (SetNamedPipeHandleState(pipe, &mode, NULL, NULL)) return 0;
  DWORD error = GetLastError();
  bool so_already =
      error == ERROR_ACCESS_DENIED &&
      GetNamedPipeHandleStateW(pipe, &mode, NULL, NULL, NULL, NULL, 0) &&
      (mode & PIPE_READMODE_MESSAGE) != 0;
  return so_already ? 0 : npi_win_error(error);
}

/* libuv's C library made the descriptor, so that has to close it. */
static void conn_close_file(uv_file file) {
  uv_fs_t close;
  uv_fs_close(NULL, &close, file, NULL);
  uv_fs_req_cleanup(&close);
}

int npi_conn_adopt(npi_win_conn* conn, HANDLE pipe) {
  uv_os_fd_t adopted = pipe;
  uv_file file = uv_open_osfhandle(pipe);
  if (file < 0) {
    CloseHandle(pipe);
    return UV_EMFILE;
  }
  int err = uv_pipe_open(&conn->pipe, file);
  if (err == 0) err = uv_fileno((uv_handle_t*) &conn->pipe, &adopted);
  /* A descriptor of 0 to 2 (the program closed its own) is not taken over but
   * duplicated, and stays ours. */
  if (err != 0 || adopted != pipe) conn_close_file(file);
  if (err != 0) return err;
  conn->handle = adopted;
  bool messages = conn->base.type == NPIPE_MESSAGE && conn->base.can_read;
  return messages ? conn_read_messages(adopted) : 0;
}

void npi_os_conn_turn(npipe_conn* base) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_write_turn(conn);
  npi_read_turn(conn);
}

/* ---- the close */

static void conn_on_closed(uv_handle_t* handle) {
  npi_win_conn* conn = handle->data;
  if (--conn->handles > 0) return;
  npi_free(conn->reader.large);
  npi_write_drop(conn);
  npi_conn_closed(&conn->base);
}

static void conn_shut(npi_win_conn* conn) {
  conn->shut = true;
  conn->handle = NULL;
  uv_close((uv_handle_t*) &conn->pipe, conn_on_closed);
}

/* Goes on as far as it can; called again at each wake. */
static void conn_close_step(npi_win_conn* conn) {
  if (!npi_connect_abandon(conn) || npi_write_lingers(conn)) return;
  if (!conn->shut) conn_shut(conn);
  bool reader = npi_wait_retire(&conn->reader.wait);
  bool writer = npi_wait_retire(&conn->writer.wait);
  if (!reader || !writer || !conn->has_wake) return;
  conn->has_wake = false;
  uv_close((uv_handle_t*) &conn->wake, conn_on_closed);
}

void npi_os_conn_close(npipe_conn* base) {
  npi_win_conn* conn = (npi_win_conn*) base;
  if (conn->handles == 0) { /* not even begun: the end needs one all the same */
    uv_pipe_init(base->loop, &conn->pipe, 0);
    conn->pipe.data = conn;
    conn->handles++;
  }
  npi_read_close(conn);
  npi_write_linger(conn);
  conn_close_step(conn);
}

static void conn_on_wake(uv_async_t* wake) {
  npi_win_conn* conn = wake->data;
  switch (conn->base.state) {
    case NPI_CONN_CONNECTING: npi_connect_step(conn); break;
    case NPI_CONN_OPEN: npi_os_conn_turn(&conn->base); break;
    case NPI_CONN_CLOSING: conn_close_step(conn); break;
    case NPI_CONN_NEW:
    case NPI_CONN_FAILED: break;
  }
}
