/*
 * A client's open.
 *
 * A name is looked for in the user's directory and then in the machine's. The
 * socket's connect() tells at once whether a server lives there; what it has
 * to say comes as WELCOME or REFUSE. The wait for a free instance happens at
 * the server, in its queue; giving up is closing the socket.
 *
 * Before a byte is sent, the server's user is looked at: whoever can put a
 * socket where the name is expected could otherwise play the server.
 *
 * The one thing that is retried by the clock is a full queue in the kernel (a
 * server that does not even accept): nothing tells when it has room.
 */
#include <string.h>
#include <unistd.h>

#include "unix.h"

#define CONNECT_RETRY_MS 10

static void connect_on_timer(uv_timer_t* timer);
static void connect_try(npi_unix_conn* conn);

/* Over, without success: the socket is let go of, the program is told. */
static void connect_failed(npi_unix_conn* conn, int err) {
  uv_timer_stop(&conn->timer);
  if (conn->pipe_open) uv_read_stop((uv_stream_t*) &conn->pipe);
  npi_sock_shutdown(conn->fd);
  conn->link = NPI_LINK_NONE;
  npi_conn_connected(&conn->base, err);
}

static const char* connect_name(const npi_unix_conn* conn) {
  return conn->shake->request.name.text;
}

static void connect_fail(npi_unix_conn* conn, int err, int os_code,
                         const char* why) {
  const npi_path* path = &conn->shake->paths[conn->shake->path_used];
  npi_fail(err, os_code, "connect to pipe '%.60s' (%s): %s", connect_name(conn),
           path->socket, why);
  connect_failed(conn, err);
}

/* ---- the handshake */

static void connect_opened(npi_unix_conn* conn) {
  uv_timer_stop(&conn->timer);
  npi_shake_free(conn);
  npi_conn_connected(&conn->base, 0);
}

/* Beyond what any server can be made with, it is not one of ours. */
static bool connect_believes(const npi_welcome* w) {
  return w->in_quota <= NPIPE_QUOTA_MAX_BYTES &&
         w->out_quota <= NPIPE_QUOTA_MAX_BYTES &&
         w->message_max_bytes <= NPIPE_MESSAGE_MAX_BYTES;
}

static void connect_welcomed(npi_unix_conn* conn, const npi_welcome* w) {
  const npipe_client_options* o = &conn->shake->request.options;
  npipe_conn* base = &conn->base;
  bool messages = w->type == NPIPE_MESSAGE;
  if (!messages && o->read_mode == NPIPE_READ_MESSAGES) {
    connect_fail(conn, UV_EINVAL, 0, "a byte pipe has no messages to read");
    return;
  }
  bool bytes = !messages || o->read_mode == NPIPE_READ_BYTES;
  base->type = (npipe_type) w->type;
  base->read_mode = bytes ? NPIPE_READ_BYTES : NPIPE_READ_MESSAGES;
  base->can_read = o->access != NPIPE_WRITE_ONLY;
  base->can_write = o->access != NPIPE_READ_ONLY;
  base->message_max_bytes = w->message_max_bytes < o->message_max_bytes
                                ? w->message_max_bytes
                                : o->message_max_bytes;
  conn->rx_none = w->direction == NPIPE_INBOUND;
  npi_link_up(conn, w->out_quota, w->in_quota, false);
  connect_opened(conn);
}

static void connect_refused(npi_unix_conn* conn, uint32_t code) {
  switch (code) {
    case NPI_REFUSAL_NAME:
      connect_fail(conn, UV_ENOENT, 0, "no such pipe");
      break;
    case NPI_REFUSAL_ACCESS:
      connect_fail(conn, UV_EACCES, 0,
                   "refused: this user may not, or not in this direction");
      break;
    case NPI_REFUSAL_TIMEOUT:
      connect_fail(conn, UV_ETIMEDOUT, 0, "no instance became free in time");
      break;
    case NPI_REFUSAL_BUSY:
      connect_fail(conn, UV_EBUSY, 0, "all instances are busy");
      break;
    default:
      connect_fail(conn, UV_EPROTO, 0,
                   "the server speaks another version of the protocol");
  }
}

void npi_client_received(npi_unix_conn* conn) {
  npi_shake* shake = conn->shake;
  npi_welcome welcome;
  uint32_t code = 0;
  size_t length;
  int err = npi_shake_length(shake->bytes, shake->have, NPI_FRAME_WELCOME,
                             NPI_FRAME_REFUSE, &length);
  if (err == 0 && (length == 0 || shake->have < length)) return;
  bool welcomed = shake->bytes[0] == NPI_FRAME_WELCOME;
  if (err == 0)
    err = welcomed ? npi_decode_welcome(shake->bytes, length, &welcome)
                   : npi_decode_refuse(shake->bytes, length, &code);
  if (err == 0 && welcomed && !connect_believes(&welcome)) err = UV_EPROTO;
  if (err != 0)
    connect_fail(conn, UV_EPROTO, 0, "the server broke the protocol");
  else if (welcomed)
    connect_welcomed(conn, &welcome);
  else
    connect_refused(conn, code);
}

void npi_client_lost(npi_unix_conn* conn) {
  /* Its server has closed, or died, while we waited (WT6). */
  connect_fail(conn, UV_ENOENT, 0, "the server has gone");
}

static uint32_t connect_wait_ms(int timeout_ms) {
  if (timeout_ms == NPIPE_WAIT_FOREVER) return NPI_HELLO_WAIT_FOREVER;
  if (timeout_ms == NPIPE_WAIT_DEFAULT) return NPI_HELLO_WAIT_DEFAULT;
  return (uint32_t) timeout_ms;
}

static uint8_t connect_access(npipe_access access) {
  if (access == NPIPE_READ_ONLY) return NPI_ACCESS_READ;
  if (access == NPIPE_WRITE_ONLY) return NPI_ACCESS_WRITE;
  return NPI_ACCESS_READ | NPI_ACCESS_WRITE;
}

/* A new socket's buffer has room for it; if the server has hung up already,
 * that shows when we read. */
static void connect_send_hello(npi_unix_conn* conn) {
  uint8_t frame[NPI_HELLO_BYTES_MAX];
  const npi_connect_request* request = &conn->shake->request;
  npi_hello hello = {.version = NPI_WIRE_VERSION,
                     .access = connect_access(request->options.access),
                     .wait_ms = connect_wait_ms(request->timeout_ms),
                     .pid = (uint32_t) getpid()};
  hello.message_max_bytes = request->options.message_max_bytes;
  npi_name_fold(&request->name, hello.name);
  size_t size = npi_encode_hello(frame, &hello);
  struct iovec iov = {.iov_base = frame, .iov_len = size};
  (void) npi_sock_send(conn->fd, &iov, 1);
}

/* ---- the socket */

static void connect_plain(npi_unix_conn* conn) {
  const npipe_client_options* o = &conn->shake->request.options;
  npipe_conn* base = &conn->base;
  base->type = NPIPE_BYTE;
  base->read_mode = NPIPE_READ_BYTES;
  base->can_read = o->access != NPIPE_WRITE_ONLY;
  base->can_write = o->access != NPIPE_READ_ONLY;
  base->message_max_bytes = o->message_max_bytes;
  npi_link_up(conn, NPIPE_QUOTA_DEFAULT_BYTES, NPIPE_QUOTA_DEFAULT_BYTES, true);
  connect_opened(conn);
}

/* The clock for what is left of the time; a retry may have stopped it. */
static void connect_arm(npi_unix_conn* conn) {
  uint64_t deadline = conn->shake->deadline_ms;
  uint64_t now = uv_now(conn->base.loop);
  if (deadline == UINT64_MAX) return;
  uint64_t left = deadline > now ? deadline - now : 0;
  uv_timer_start(&conn->timer, connect_on_timer, left, 0);
}

static bool connect_trusts(const npi_unix_conn* conn) {
  uid_t uid = conn->peer.uid;
  return conn->shake->request.options.any_server != 0 || uid == 0 ||
         uid == geteuid();
}

/* Goes on with a connected socket, which is this function's. */
static void connect_begin(npi_unix_conn* conn, int fd) {
  int err = npi_sock_peer(fd, &conn->peer);
  if (err == 0 && !connect_trusts(conn)) {
    npi_sock_close(fd);
    connect_fail(conn, UV_EACCES, 0,
                 "its server runs as another user; allow that with "
                 "any_server if it is meant");
    return;
  }
  if (err == 0) err = npi_conn_adopt(conn, fd);
  if (err != 0) {
    npi_sock_close(fd);
    connect_fail(conn, err, -err, uv_strerror(err));
  } else if (conn->shake->path_count > 0 &&
             conn->shake->paths[0].directory[0] == '\0') {
    connect_plain(conn);
  } else {
    connect_send_hello(conn);
    connect_arm(conn);
  }
}

/* A connected socket for this path, or why not, also in words. */
static int connect_path(npi_unix_conn* conn, const npi_path* path,
                        npipe_scope scope) {
  int err = 0;
  if (path->directory[0] != '\0' && !conn->shake->request.options.any_server)
    err = npi_path_check_directory(path, scope);
  if (err != 0) return err;
  int fd = npi_sock_open();
  err = fd < 0 ? fd : npi_sock_connect(fd, path->socket);
  if (err == 0) return fd;
  if (err == UV_ENFILE) err = UV_EMFILE;
  npi_sock_close(fd);
  npi_fail(err, -err, "connect to pipe '%.60s' (%s): %s", connect_name(conn),
           path->socket, uv_strerror(err));
  /* Nobody listens: a dead server's, which the next server clears away. */
  bool none = err == UV_ECONNREFUSED || err == UV_ENOTDIR;
  return none ? UV_ENOENT : err;
}

static npipe_scope connect_scope(const npi_shake* shake, unsigned i) {
  npipe_scope scope = shake->request.options.scope;
  if (scope != NPIPE_SCOPE_DEFAULT) return scope;
  return i == 0 ? NPIPE_SCOPE_USER : NPIPE_SCOPE_MACHINE;
}

/* The kernel's queue is full: the server does not accept. */
static void connect_again(npi_unix_conn* conn) {
  uint64_t now = uv_now(conn->base.loop);
  uint64_t deadline = conn->shake->deadline_ms;
  if (conn->shake->request.timeout_ms == 0) {
    connect_fail(conn, UV_EBUSY, 0, "its server does not accept");
    return;
  }
  uint64_t left = deadline > now ? deadline - now : 0;
  uv_timer_start(&conn->timer, connect_on_timer,
                 left < CONNECT_RETRY_MS ? left : CONNECT_RETRY_MS, 0);
}

static void connect_try(npi_unix_conn* conn) {
  npi_shake* shake = conn->shake;
  int result = UV_ENOENT;
  for (unsigned i = 0; i < shake->path_count && result == UV_ENOENT; i++) {
    result = connect_path(conn, &shake->paths[i], connect_scope(shake, i));
    if (result != UV_ENOENT) shake->path_used = i;
  }
  if (result >= 0)
    connect_begin(conn, result);
  else if (result == UV_EAGAIN)
    connect_again(conn);
  else if (result == UV_ENOENT)
    connect_fail(conn, result, -result, "no such pipe");
  else
    connect_failed(conn, result);
}

static void connect_on_timer(uv_timer_t* timer) {
  npi_unix_conn* conn = timer->data;
  bool over = uv_now(timer->loop) >= conn->shake->deadline_ms;
  if (!over && conn->link == NPI_LINK_NONE) {
    connect_try(conn);
  } else if (conn->pipe_open && !conn->shake->last_look) {
    /* Timers run before sockets are read: in a loop that was busy, the answer
     * may be there. Let it be seen first. */
    conn->shake->last_look = true;
    uv_timer_start(timer, connect_on_timer, 1, 0);
  } else {
    connect_fail(conn, UV_ETIMEDOUT, 0,
                 conn->pipe_open
                     ? "no instance became free in time, or no answer"
                     : "its server does not accept");
  }
}

/* ---- backend.h */

static int connect_find_paths(npi_shake* shake) {
  const npipe_client_options* o = &shake->request.options;
  npi_path* path = shake->paths;
  shake->path_count = 1;
  if (o->plain_path != NULL) return npi_path_of_plain(path, o->plain_path);
  int err =
      npi_path_of_name(path, &shake->request.name, connect_scope(shake, 0));
  if (err != 0 || o->scope != NPIPE_SCOPE_DEFAULT) return err;
  shake->path_count = 2;
  return npi_path_of_name(path + 1, &shake->request.name, NPIPE_SCOPE_MACHINE);
}

/* How long the whole open may take; a client that does not wait for an
 * instance still waits for the answer. */
static void connect_start_clock(npi_unix_conn* conn) {
  int timeout_ms = conn->shake->request.timeout_ms;
  uint64_t limit = timeout_ms == 0 ? NPI_HANDSHAKE_MS : (uint64_t) timeout_ms;
  conn->shake->deadline_ms = UINT64_MAX;
  if (timeout_ms < 0) return;
  uv_update_time(conn->base.loop); /* the time is counted from the call */
  conn->shake->deadline_ms = uv_now(conn->base.loop) + limit;
  connect_arm(conn);
}

int npi_os_connect(npipe_conn* base, const npi_connect_request* request) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  npi_unix_conn_init(conn);
  conn->shake = npi_calloc(1, sizeof *conn->shake);
  if (conn->shake == NULL) return npi_fail(UV_ENOMEM, 0, "connect: no memory");
  conn->shake->request = *request;
  int err = connect_find_paths(conn->shake);
  if (err != 0) return err;
  connect_start_clock(conn);
  connect_try(conn);
  return 0;
}
