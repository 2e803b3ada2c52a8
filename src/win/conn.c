/*
 * A connection's handles: adopting a pipe, being woken, closing everything.
 *
 * The pipe's handle belongs to a uv_pipe_t. Reads, writes and the rest are
 * overlapped calls of our own on it, because libuv neither keeps the boundaries
 * of messages nor shows empty ones, and does not say when a write ended at
 * once. Such a call ends on a thread of the system's pool, which sends `wake`;
 * the loop then looks what has ended.
 *
 * Handles: pipe, wake and tick live from npi_conn_begin() on. wake is
 * referenced, so an open connection keeps its loop alive; a failed one does
 * not. The last close callback reports npi_conn_closed().
 *
 * The close goes in steps, each only when the one before is over: (1) what the
 * system still holds memory of ours for is cancelled; pending writes go on for
 * the linger time; threads of flushes leave. (2) The instance is given back
 * (a server makes the next one in this moment, so the name does not vanish) and
 * uv_close() closes the pipe's handle at once. What was written can still be
 * read by the peer (CL1); nothing is disconnected. (3) When no thread of the
 * pool can send it any more, wake is closed.
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
  uv_timer_init(conn->base.loop, &conn->tick); /* cannot fail */
  conn->tick.data = conn;
  conn->has_wake = true;
  conn->handles += 2;
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
  npi_identity_meet(conn);
  bool messages = conn->base.type == NPIPE_MESSAGE && conn->base.can_read;
  return messages ? conn_read_messages(adopted) : 0;
}

static void conn_on_tick(uv_timer_t* tick) {
  npi_win_conn* conn = tick->data;
  conn_on_wake(&conn->wake);
}

void npi_conn_tick(npi_win_conn* conn, uint64_t ms) {
  uv_timer_t* tick = &conn->tick;
  if (!conn->has_wake) return;
  if (ms == 0) ms = 1;
  if (uv_is_active((uv_handle_t*) tick) && uv_timer_get_due_in(tick) <= ms)
    return;
  uv_timer_start(tick, conn_on_tick, ms, 0);
}

void npi_os_conn_turn(npipe_conn* base) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_write_turn(conn);
  npi_flush_turn(conn);
  npi_read_turn(conn);
}

void npi_conn_cut(npi_win_conn* conn) {
  npi_op* front = conn->base.reads.head;
  if (front != NULL) npi_transact_leave(conn, front);
  npi_read_reset(conn);
  npi_write_cut(conn, UV_ECONNABORTED);
}

void npi_conn_lost(npi_win_conn* conn) {
  if (conn->base.is_server || conn->base.state != NPI_CONN_OPEN) return;
  npi_conn_cut(conn);
  npi_conn_disconnected(&conn->base);
}

/* ---- the close */

static void conn_on_closed(uv_handle_t* handle) {
  npi_win_conn* conn = handle->data;
  if (--conn->handles > 0) return;
  npi_free(conn->reader.large);
  npi_free(conn->peer_id);
  npi_conn_closed(&conn->base);
}

static void conn_shut(npi_win_conn* conn) {
  npi_server_release(&conn->base);
  conn->shut = true;
  conn->handle = NULL;
  uv_close((uv_handle_t*) &conn->pipe, conn_on_closed);
}

/* Goes on as far as it can; called again at each wake. */
static void conn_close_step(npi_win_conn* conn) {
  if (!npi_connect_abandon(conn) || npi_write_lingers(conn) ||
      !npi_flush_gone(conn))
    return;
  if (!conn->shut) conn_shut(conn);
  bool reader = npi_wait_retire(&conn->reader.wait);
  bool writer = npi_wait_retire(&conn->writer.wait);
  if (!reader || !writer || !conn->has_wake) return;
  conn->has_wake = false;
  uv_close((uv_handle_t*) &conn->wake, conn_on_closed);
  uv_close((uv_handle_t*) &conn->tick, conn_on_closed);
}

/* The first call ends everything but writes. */
static void conn_close_begin(npi_win_conn* conn) {
  if (conn->handles == 0) { /* not even begun: the end needs one all the same */
    uv_pipe_init(conn->base.loop, &conn->pipe, 0);
    conn->pipe.data = conn;
    conn->handles++;
  }
  /* A connect that failed has let go of the loop; the close needs it again, for
   * the wakes that are still to come. */
  if (conn->has_wake) uv_ref((uv_handle_t*) &conn->wake);
  npi_read_close(conn);
  npi_instance_close(conn);
}

void npi_os_conn_close(npipe_conn* base, uint32_t linger_ms) {
  npi_win_conn* conn = (npi_win_conn*) base;
  if (conn->linger_end_ns == 0) conn_close_begin(conn);
  conn->linger_end_ns = uv_hrtime() + (uint64_t) linger_ms * NPI_NS_PER_MS;
  if (!conn->shut) conn_close_step(conn);
}

static void conn_on_wake(uv_async_t* wake) {
  npi_win_conn* conn = wake->data;
  switch (conn->base.state) {
    case NPI_CONN_CONNECTING: npi_connect_step(conn); break;
    case NPI_CONN_OPEN: npi_os_conn_turn(&conn->base); break;
    case NPI_CONN_LISTENING:
    case NPI_CONN_DISCONNECTED:
      npi_flush_turn(conn);
      npi_instance_step(conn);
      break;
    case NPI_CONN_CLOSING: conn_close_step(conn); break;
    case NPI_CONN_NEW:
    case NPI_CONN_FAILED: break;
  }
}
