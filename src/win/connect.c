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
 * npipe_wait() takes the same way but only waits: nothing is opened. A timeout
 * of 0 is a wait of a millisecond, as with WaitNamedPipe() (WT3); the system
 * has no shorter one.
 *
 * What is needed only while connecting stands in npi_connector, and goes with
 * it. The system writes into it while `waiting`.
 */
#include <string.h>

#include "win.h"

#define CONNECT_SLICE_MS 250
#define CONNECT_LOOK_MS 1
#define CONNECT_TRIES_MAX 8 /* in one loop turn */

/* What the opened pipe is. */
typedef struct connect_facts {
  npipe_type type;
  npipe_read_mode read_mode;
  npipe_direction direction;
  DWORD in_quota;
  DWORD out_quota;
  unsigned max_instances;
} connect_facts;

struct npi_connector {
  npi_nt_wait_request request;
  HANDLE root; /* of the pipe file system; NULL until the first wait */
  HANDLE pipe; /* opened; NULL: not */
  DWORD error; /* of the last attempt */
  int fit;     /* of the opened pipe: is it what was asked for? */
  connect_facts facts;
  DWORD access;
  bool waiting;         /* a wait is pending */
  bool wait_only;       /* npipe_wait() */
  int timeout_ms;       /* as npipe_connect() got it */
  uint64_t deadline_ns; /* uv_hrtime(); for timeouts above 0 */
  npi_name name;
  npipe_client_options options;
  char server_user[NPIPE_ID_BYTES];
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

/* The system's own instances of a pipe of one are two (server.c). */
static unsigned connect_max(HANDLE pipe, DWORD instances) {
  if (instances >= NPIPE_INSTANCES_UNLIMITED) return NPIPE_INSTANCES_UNLIMITED;
  if (instances != 2) return instances;
  return (npi_security_marks(pipe, NULL) & NPI_MARK_ONE) != 0 ? 1 : 2;
}

static npipe_direction connect_direction(npipe_access access, HANDLE pipe) {
  npipe_direction direction;
  npipe_state state;
  if (npi_nt_describe(pipe, &direction, &state) == 0) return direction;
  if (access == NPIPE_READ_ONLY) return NPIPE_OUTBOUND;
  return access == NPIPE_WRITE_ONLY ? NPIPE_INBOUND : NPIPE_DUPLEX;
}

/* What is known if nothing can be asked any more. */
static void connect_assume(npi_connector* connect) {
  const npipe_client_options* options = &connect->options;
  bool messages = options->read_mode == NPIPE_READ_MESSAGES;
  connect->facts = (connect_facts){
      .type = messages ? NPIPE_MESSAGE : NPIPE_BYTE,
      .read_mode = messages ? NPIPE_READ_MESSAGES : NPIPE_READ_BYTES,
      .max_instances = NPIPE_INSTANCES_UNLIMITED};
}

/* Finds out what the pipe is. */
static int connect_describe(npi_connector* connect, HANDLE pipe) {
  connect_facts* facts = &connect->facts;
  DWORD flags;
  DWORD out_quota;
  DWORD in_quota;
  DWORD instances;
  connect_assume(connect);
  if (!GetNamedPipeInfo(pipe, &flags, &out_quota, &in_quota, &instances))
    return npi_win_error(GetLastError());
  facts->out_quota = out_quota;
  facts->in_quota = in_quota;
  facts->max_instances = connect_max(pipe, instances);
  facts->direction = connect_direction(connect->options.access, pipe);
  facts->type = (flags & PIPE_TYPE_MESSAGE) != 0 ? NPIPE_MESSAGE : NPIPE_BYTE;
  if (facts->type == NPIPE_BYTE && facts->read_mode == NPIPE_READ_MESSAGES)
    return UV_EINVAL;
  if (connect->options.read_mode == NPIPE_READ_AS_TYPE &&
      facts->type == NPIPE_MESSAGE)
    facts->read_mode = NPIPE_READ_MESSAGES;
  return 0;
}

/* Tells the connection what was found. */
static void connect_fill(npi_win_conn* conn) {
  const npipe_client_options* options = &conn->connect->options;
  const connect_facts* facts = &conn->connect->facts;
  npipe_conn* base = &conn->base;
  base->type = facts->type;
  base->read_mode = facts->read_mode;
  base->direction = facts->direction;
  base->in_quota = facts->in_quota;
  base->out_quota = facts->out_quota;
  base->max_instances = facts->max_instances;
  base->can_read = options->access != NPIPE_WRITE_ONLY;
  base->can_write = options->access != NPIPE_READ_ONLY;
  base->message_max_bytes = options->message_max_bytes;
}

/* The pipe is open: may we trust it, and is it what was asked for? 0,
 * UV_EACCES, UV_EINVAL; UV_ECONNABORTED: thrown out already. */
static int connect_judge(npi_connector* connect, HANDLE pipe) {
  bool checks = connect->server_user[0] != '\0' || !connect->options.any_server;
  int err = connect_describe(connect, pipe);
  if (err == UV_ECONNABORTED || !checks ||
      npi_identity_check_server(pipe, connect->server_user) == 0)
    return err;
  bool out = npi_nt_state(pipe, false) == NPIPE_STATE_DISCONNECTED;
  return out ? UV_ECONNABORTED : UV_EACCES;
}

/* One attempt to open an instance. */
static void connect_try(npi_connector* connect) {
  HANDLE pipe = CreateFileW(
      connect->path, connect->access, 0, NULL, OPEN_EXISTING,
      FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION,
      NULL);
  connect->error = pipe == INVALID_HANDLE_VALUE ? GetLastError() : 0;
  connect->pipe = connect->error == 0 ? pipe : NULL;
  if (connect->pipe != NULL) connect->fit = connect_judge(connect, pipe);
}

static npi_connector* connect_new(const npi_connect_request* request) {
  npi_connector* connect = npi_calloc(1, sizeof *connect);
  if (connect == NULL) return NULL;
  connect->name = request->name;
  connect->options = request->options;
  connect->timeout_ms = request->timeout_ms;
  connect->wait_only = request->wait_only;
  memcpy(connect->server_user, request->server_user,
         sizeof connect->server_user);
  connect->access = connect_access(request->options.access);
  if (request->timeout_ms > 0)
    connect->deadline_ns =
        uv_hrtime() + (uint64_t) request->timeout_ms * NPI_NS_PER_MS;
  return connect;
}

int npi_os_connect(npipe_conn* base, const npi_connect_request* request) {
  npi_win_conn* conn = (npi_win_conn*) base;
  if (request->server_user[0] != '\0' &&
      !npi_identity_valid(request->server_user))
    return npi_fail(UV_EINVAL, 0, "connect: server_user is no SID");
  npi_connector* connect = connect_new(request);
  if (connect == NULL) return npi_fail(UV_ENOMEM, 0, "connect: no memory");
  conn->connect = connect;
  if (!npi_win_path(connect->path, &request->name))
    return npi_fail(UV_EINVAL, 0, "connect: the name cannot be converted");
  int err = npi_conn_begin(conn);
  if (err == 0) err = npi_wait_open(&conn->reader.wait, &conn->wake);
  if (err != 0)
    return npi_fail(err, 0, "connect to '%s': no memory for its handles",
                    request->name.text);
  if (!connect->wait_only) connect_try(connect);
  uv_async_send(&conn->wake);
  return 0;
}

/* ---- the end of it */

static void connect_free(npi_win_conn* conn) {
  npi_connector* connect = conn->connect;
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

static const char* connect_why(const npi_connector* connect, int err) {
  if (err == UV_EINVAL) return "a byte pipe has no messages to read (RD2)";
  if (err != UV_EACCES) return npipe_strerror(err);
  if (connect->server_user[0] != '\0')
    return "it is not of the user that server_user names";
  return "its owner is neither this user nor SYSTEM nor an administrator, or "
         "cannot be told (see any_server)";
}

/* The pipe is open. One whose server has thrown us out by now has been open,
 * too. */
static void connect_finish(npi_win_conn* conn) {
  npi_connector* connect = conn->connect;
  int err = connect->fit;
  connect_fill(conn);
  if (err == 0) {
    HANDLE pipe = connect->pipe;
    connect->pipe = NULL;
    err = npi_conn_adopt(conn, pipe);
    if (err == UV_EPIPE) err = UV_ECONNABORTED; /* libuv's word for 233 */
  }
  if (err != 0 && err != UV_ECONNABORTED) {
    connect_fail(conn, err, 0, connect_why(connect, err));
    return;
  }
  connect_free(conn);
  npi_conn_connected(&conn->base, 0);
  if (err != 0) npi_conn_lost(conn);
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
static unsigned connect_slice_ms(const npi_connector* connect) {
  if (connect->timeout_ms == 0) return CONNECT_LOOK_MS;
  if (connect->timeout_ms <= 0) return CONNECT_SLICE_MS;
  uint64_t now = uv_hrtime();
  if (now >= connect->deadline_ns) return 0;
  uint64_t left =
      (connect->deadline_ns - now + NPI_NS_PER_MS - 1) / NPI_NS_PER_MS;
  return left < CONNECT_SLICE_MS ? (unsigned) left : CONNECT_SLICE_MS;
}

/* Begins the next wait. 0: try again at once; ERROR_IO_PENDING; or the reason
 * why there is nothing to wait for. */
static DWORD connect_wait(npi_win_conn* conn) {
  npi_connector* connect = conn->connect;
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
  npi_connector* connect = conn->connect;
  size_t bytes;
  connect->waiting = false;
  DWORD error = npi_wait_result(&conn->reader.wait, connect->root, &bytes);
  if (error != ERROR_SEM_TIMEOUT) return error;
  if (connect->timeout_ms == 0) return ERROR_PIPE_BUSY;
  if (connect->timeout_ms == NPIPE_WAIT_DEFAULT) return error;
  connect->error = ERROR_PIPE_BUSY; /* only a slice was over */
  return 0;
}

/* The open has been tried. True: it is known how all this ends. */
static bool connect_tried(npi_win_conn* conn) {
  npi_connector* connect = conn->connect;
  if (connect->pipe != NULL) {
    connect_finish(conn);
    return true;
  }
  if (connect->error == ERROR_PIPE_BUSY && connect->timeout_ms != 0)
    return false;
  connect_fail_open(conn, connect->error);
  return true;
}

/* npipe_wait(): an instance listens. */
static void connect_waited_well(npi_win_conn* conn) {
  connect_free(conn);
  uv_unref((uv_handle_t*) &conn->wake);
  npi_conn_connected(&conn->base, 0);
}

/* Tries and waits until it is open, fails, or has to wait for a wake. */
static void connect_go(npi_win_conn* conn) {
  npi_connector* connect = conn->connect;
  for (int i = 0; i < CONNECT_TRIES_MAX; i++) {
    if (!connect->wait_only && connect_tried(conn)) return;
    connect->error = ERROR_SUCCESS;
    DWORD error = connect_wait(conn);
    if (error == ERROR_IO_PENDING) return;
    if (error != 0) {
      connect_fail_open(conn, error);
      return;
    }
    if (connect->wait_only) {
      connect_waited_well(conn);
      return;
    }
    connect_try(connect);
  }
  uv_async_send(&conn->wake); /* others have their turn, then on */
}

void npi_connect_step(npi_win_conn* conn) {
  npi_connector* connect = conn->connect;
  if (connect->waiting) {
    if (!npi_wait_fired(&conn->reader.wait)) return;
    DWORD error = connect_waited(conn);
    if (error != 0) {
      connect_fail_open(conn, error);
      return;
    }
    if (connect->wait_only && connect->error == ERROR_SUCCESS) {
      connect_waited_well(conn);
      return;
    }
    if (!connect->wait_only) connect_try(connect);
  }
  connect_go(conn);
}

bool npi_connect_abandon(npi_win_conn* conn) {
  npi_connector* connect = conn->connect;
  if (connect == NULL) return true;
  if (connect->waiting &&
      !npi_wait_try_cancel(&conn->reader.wait, connect->root))
    return false;
  connect_free(conn);
  return true;
}
