/*
 * A client's open: CreateFile and WaitNamedPipe in one, without blocking.
 *
 * The first attempt is made inside npipe_connect() (opening a local pipe does
 * not wait), its result is told from the loop. If every instance is busy and
 * the program has time, the pipe file system is asked to tell when one listens
 * (nt.c); then comes the next attempt, which can lose the race to another
 * client and waits again, until the deadline. No thread waits anywhere.
 *
 * A wait is cut into slices. The attempt after each notices a name that has
 * gone in a way that does not wake the waiters (WT6). Cancelling a wait ends
 * it at once on Windows; Wine cannot, and then the close of the connection
 * takes as long as the slice does. A wait for the pipe's own time
 * (NPIPE_WAIT_DEFAULT) is not cut, because only the system knows how long it
 * is; a client that loses the race after it starts that time again.
 *
 * What is needed only while connecting stands in npi_connect, and goes with
 * it. The system writes into it while `waiting`.
 */
#include "win.h"

#define CONNECT_SLICE_MS 250
#define CONNECT_TRIES_MAX 8 /* in one loop turn */

#define CONNECT_NS_PER_MS 1000000u

struct npi_connect {
  npi_nt_wait_request request;
  HANDLE root; /* of the pipe file system; NULL until the first wait */
  HANDLE pipe; /* opened; NULL: not */
  DWORD error; /* of the last attempt */
  DWORD access;
  bool waiting;         /* a wait is pending */
  int timeout_ms;       /* as npipe_connect() got it */
  uint64_t deadline_ns; /* uv_hrtime(); for timeouts above 0 */
  npi_name name;
  npipe_client_options options;
  WCHAR path[NPI_PATH_UNITS];
};

/* The attribute rights are for the read mode and for GetNamedPipeInfo(). That
 * GENERIC_WRITE contains FILE_CREATE_PIPE_INSTANCE does no harm: the pipe file
 * system takes it out of what a client asks for (so in ReactOS' npfs), and our
 * access lists grant strangers no such right (security.c). */
static DWORD connect_access(npipe_access access) {
  if (access == NPIPE_READ_ONLY) return GENERIC_READ | FILE_WRITE_ATTRIBUTES;
  if (access == NPIPE_WRITE_ONLY) return GENERIC_WRITE | FILE_READ_ATTRIBUTES;
  return GENERIC_READ | GENERIC_WRITE;
}

/* One attempt to open an instance. */
static void connect_try(npi_connect* connect) {
  HANDLE pipe = CreateFileW(
      connect->path, connect->access, 0, NULL, OPEN_EXISTING,
      FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION,
      NULL);
  connect->error = pipe == INVALID_HANDLE_VALUE ? GetLastError() : 0;
  connect->pipe = connect->error == 0 ? pipe : NULL;
}

static npi_connect* connect_new(const npi_connect_request* request) {
  npi_connect* connect = npi_calloc(1, sizeof *connect);
  if (connect == NULL) return NULL;
  connect->name = request->name;
  connect->options = request->options;
  connect->timeout_ms = request->timeout_ms;
  connect->access = connect_access(request->options.access);
  if (request->timeout_ms > 0)
    connect->deadline_ns =
        uv_hrtime() + (uint64_t) request->timeout_ms * CONNECT_NS_PER_MS;
  return connect;
}

int npi_os_connect(npipe_conn* base, const npi_connect_request* request) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_connect* connect = connect_new(request);
  if (connect == NULL) return npi_fail(UV_ENOMEM, 0, "connect: no memory");
  conn->connect = connect;
  if (!npi_win_path(connect->path, &request->name))
    return npi_fail(UV_EINVAL, 0, "connect: the name cannot be converted");
  int err = npi_conn_begin(conn);
  if (err == 0) err = npi_wait_open(&conn->reader.wait, &conn->wake);
  if (err != 0)
    return npi_fail(err, 0, "connect to '%s': no memory for its handles",
                    request->name.text);
  connect_try(connect);
  uv_async_send(&conn->wake);
  return 0;
}

/* ---- the end of it */

static void connect_free(npi_win_conn* conn) {
  npi_connect* connect = conn->connect;
  conn->connect = NULL;
  if (connect->pipe != NULL) CloseHandle(connect->pipe);
  if (connect->root != NULL) CloseHandle(connect->root);
  npi_free(connect);
}

static void connect_fail(npi_win_conn* conn, int code, DWORD error,
                         const char* why) {
  npi_fail(code, (int) error, "connect to '%s': %s", conn->connect->name.text,
           why);
  connect_free(conn);
  uv_unref((uv_handle_t*) &conn->wake); /* nothing more will happen here */
  npi_conn_connected(&conn->base, code);
}

/* Fills in what the pipe is. */
static int connect_describe(npi_win_conn* conn, HANDLE pipe) {
  const npipe_client_options* options = &conn->connect->options;
  npipe_conn* base = &conn->base;
  DWORD flags;
  if (!GetNamedPipeInfo(pipe, &flags, NULL, NULL, NULL))
    return npi_win_error(GetLastError());
  base->type = (flags & PIPE_TYPE_MESSAGE) != 0 ? NPIPE_MESSAGE : NPIPE_BYTE;
  base->read_mode = options->read_mode;
  if (base->read_mode == NPIPE_READ_AS_TYPE)
    base->read_mode =
        base->type == NPIPE_MESSAGE ? NPIPE_READ_MESSAGES : NPIPE_READ_BYTES;
  base->can_read = options->access != NPIPE_WRITE_ONLY;
  base->can_write = options->access != NPIPE_READ_ONLY;
  base->message_max_bytes = options->message_max_bytes;
  bool mismatch =
      base->read_mode == NPIPE_READ_MESSAGES && base->type == NPIPE_BYTE;
  return mismatch ? UV_EINVAL : 0;
}

/* The pipe is open: may we trust it, and is it what was asked for? */
static void connect_finish(npi_win_conn* conn) {
  npi_connect* connect = conn->connect;
  HANDLE pipe = connect->pipe;
  if (!connect->options.any_server && npi_security_check_server(pipe) != 0) {
    connect_fail(conn, UV_EACCES, 0,
                 "its owner is neither this user nor SYSTEM nor an "
                 "administrator, or cannot be told (see any_server)");
    return;
  }
  int err = connect_describe(conn, pipe);
  if (err != 0) {
    connect_fail(conn, err, 0,
                 err == UV_EINVAL ? "a byte pipe has no messages to read (RD2)"
                                  : npipe_strerror(err));
    return;
  }
  connect->pipe = NULL;
  err = npi_conn_adopt(conn, pipe);
  if (err == UV_EPIPE) err = UV_ECONNABORTED; /* libuv's word for 233 */
  if (err != 0) {
    connect_fail(conn, err, 0, npipe_strerror(err));
    return;
  }
  connect_free(conn);
  npi_conn_connected(&conn->base, 0);
}

static void connect_fail_open(npi_win_conn* conn, DWORD error) {
  int code = npi_win_error(error);
  const char* why = npipe_strerror(code);
  if (code == UV_EACCES)
    why = "the pipe's access list or direction does not allow it";
  connect_fail(conn, code, error, why);
}

/* ---- waiting */

/* How long the next wait may be; 0: the deadline has passed. */
static unsigned connect_slice_ms(const npi_connect* connect) {
  if (connect->timeout_ms <= 0) return CONNECT_SLICE_MS;
  uint64_t now = uv_hrtime();
  if (now >= connect->deadline_ns) return 0;
  uint64_t left =
      (connect->deadline_ns - now + CONNECT_NS_PER_MS - 1) / CONNECT_NS_PER_MS;
  return left < CONNECT_SLICE_MS ? (unsigned) left : CONNECT_SLICE_MS;
}

/* Begins the next wait. 0: try again at once; ERROR_IO_PENDING; or the reason
 * why there is nothing to wait for. */
static DWORD connect_wait(npi_win_conn* conn) {
  npi_connect* connect = conn->connect;
  npi_wait* wait = &conn->reader.wait;
  npi_nt_wait_request* request = &connect->request;
  unsigned slice_ms = connect_slice_ms(connect);
  if (slice_ms == 0) return ERROR_SEM_TIMEOUT;
  if (connect->root == NULL) {
    DWORD error = npi_nt_open_root(&connect->root);
    if (error != 0) return error;
  }
  npi_nt_wait_for(request, connect->path);
  request->timeout_given = connect->timeout_ms != NPIPE_WAIT_DEFAULT;
  request->timeout.QuadPart = -10000 * (LONGLONG) slice_ms;
  DWORD error = npi_nt_wait_pipe(connect->root, request, wait);
  connect->waiting = error == ERROR_IO_PENDING;
  if (connect->waiting) npi_wait_arm(wait, 0);
  return error;
}

/* A wait has ended: 0 if another attempt makes sense. */
static DWORD connect_waited(npi_win_conn* conn) {
  npi_connect* connect = conn->connect;
  size_t bytes;
  connect->waiting = false;
  DWORD error = npi_wait_result(&conn->reader.wait, connect->root, &bytes);
  bool slice =
      error == ERROR_SEM_TIMEOUT && connect->timeout_ms != NPIPE_WAIT_DEFAULT;
  return slice ? 0 : error;
}

/* Tries and waits until it is open, fails, or has to wait for a wake. */
static void connect_go(npi_win_conn* conn) {
  npi_connect* connect = conn->connect;
  for (int i = 0; i < CONNECT_TRIES_MAX; i++) {
    if (connect->pipe != NULL) {
      connect_finish(conn);
      return;
    }
    if (connect->error != ERROR_PIPE_BUSY || connect->timeout_ms == 0) {
      connect_fail_open(conn, connect->error);
      return;
    }
    DWORD error = connect_wait(conn);
    if (error == ERROR_IO_PENDING) return;
    if (error != 0) {
      connect_fail_open(conn, error);
      return;
    }
    connect_try(connect);
  }
  uv_async_send(&conn->wake); /* others have their turn, then on */
}

void npi_connect_step(npi_win_conn* conn) {
  npi_connect* connect = conn->connect;
  if (connect->waiting) {
    if (!npi_wait_fired(&conn->reader.wait)) return;
    DWORD error = connect_waited(conn);
    if (error != 0) {
      connect_fail_open(conn, error);
      return;
    }
    connect_try(connect);
  }
  connect_go(conn);
}

bool npi_connect_abandon(npi_win_conn* conn) {
  npi_connect* connect = conn->connect;
  if (connect == NULL) return true;
  if (connect->waiting &&
      !npi_wait_try_cancel(&conn->reader.wait, connect->root))
    return false;
  connect_free(conn);
  return true;
}
