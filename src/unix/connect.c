/*
 * A client's open.
 *
 * A name is looked for in the user's directory and then in the machine's. The
 * socket's connect() tells at once whether a server lives there; what it has
 * to say comes as WELCOME or REFUSE. The wait for a free instance happens at
 * the server, in its queue; giving up is closing the socket. npipe_wait() goes
 * the same way with a HELLO that only asks; the answer is STATUS.
 *
 * Before a byte is sent, the server's user is looked at: whoever can put a
 * socket where the name is expected could otherwise play the server.
 *
 * A socket that ends before the answer says little: its server may have died
 * while others have the name, or a new one. So the open begins again; if nobody
 * is there then, there is no such pipe (WT6).
 *
 * Retried by the clock is what nothing tells the end of: a full queue in the
 * kernel (a server that does not accept), and the moment in which servers that
 * share a name have lost the one that answered.
 */
#include <string.h>
#include <unistd.h>

#include "share.h"
#include "unix.h"

#define CONNECT_RETRY_MS 10
/* Opens that are lost before the answer: these are tried again at once, and,
 * where no time bounds them, so many in all. */
#define CONNECT_HASTY_TRIES 3
#define CONNECT_TRIES_MAX 8

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
  base->direction = (npipe_direction) w->direction;
  base->in_quota = w->in_quota;
  base->out_quota = w->out_quota;
  base->max_instances = w->max_instances;
  /* The kernel names the one that listened first, which may be another. */
  if (w->shared) conn->peer.pid = (pid_t) w->pid;
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

static void connect_arm(npi_unix_conn* conn);

/* A sign of life: the pipe's own time is known. The server ends the wait; if it
 * stops meanwhile, we do. */
static int connect_waits(npi_unix_conn* conn, uint32_t ms) {
  bool asked = conn->shake->request.timeout_ms == NPIPE_WAIT_DEFAULT;
  if (!asked || conn->shake->waits) return UV_EPROTO;
  conn->shake->waits = true;
  conn->shake->have = 0;
  uv_update_time(conn->base.loop);
  conn->shake->deadline_ms =
      uv_now(conn->base.loop) + ms + (uint64_t) NPI_HANDSHAKE_MS;
  connect_arm(conn);
  return 0;
}

static void connect_told(npi_unix_conn* conn, const npi_welcome* status) {
  if (status->listens)
    connect_failed(conn, 0); /* let go of as well: nothing was opened */
  else
    connect_fail(conn, UV_EBUSY, 0, "no instance listens");
}

/* The whole answer is there. */
static int connect_answer(npi_unix_conn* conn, size_t length) {
  const uint8_t* in = conn->shake->bytes;
  npi_welcome welcome;
  uint32_t number = 0;
  int err = UV_EPROTO;
  switch (in[0]) {
    case NPI_FRAME_WELCOME:
      err = npi_decode_welcome(in, length, &welcome);
      if (err == 0 && !connect_believes(&welcome)) err = UV_EPROTO;
      if (err == 0) connect_welcomed(conn, &welcome);
      break;
    case NPI_FRAME_STATUS:
      err = npi_decode_status(in, length, &welcome);
      if (err == 0) connect_told(conn, &welcome);
      break;
    case NPI_FRAME_WAIT:
      err = npi_decode_wait(in, length, &number);
      if (err == 0) err = connect_waits(conn, number);
      break;
    case NPI_FRAME_REFUSE:
      err = npi_decode_refuse(in, length, &number);
      if (err == 0) connect_refused(conn, number);
      break;
  }
  return err;
}

void npi_client_received(npi_unix_conn* conn) {
  npi_shake* shake = conn->shake;
  npi_frame success =
      shake->request.wait_only ? NPI_FRAME_STATUS : NPI_FRAME_WELCOME;
  unsigned frames = NPI_FRAMES(success) | NPI_FRAMES(NPI_FRAME_REFUSE) |
                    NPI_FRAMES(NPI_FRAME_WAIT);
  size_t length;
  int err = npi_shake_length(shake->bytes, shake->have, frames, &length);
  if (err == 0 && (length == 0 || shake->have < length)) return;
  if (err == 0) err = connect_answer(conn, length);
  if (err != 0)
    connect_fail(conn, UV_EPROTO, 0, "the server broke the protocol");
}

/* Tries again after a moment; the old socket is let go of meanwhile. */
static void connect_pause(npi_unix_conn* conn, uint64_t ms) {
  uint64_t deadline = conn->shake->deadline_ms;
  uint64_t now = uv_now(conn->base.loop);
  uint64_t left = deadline > now ? deadline - now : 0;
  uv_timer_start(&conn->timer, connect_on_timer, left < ms ? left : ms, 0);
}

/* How often may an open be lost? While a time runs, that is the limit. */
static bool connect_has_tries(const npi_shake* shake) {
  int timeout_ms = shake->request.timeout_ms;
  bool timed = timeout_ms > 0 || timeout_ms == NPIPE_WAIT_FOREVER;
  return timed || shake->tries < CONNECT_TRIES_MAX;
}

void npi_client_lost(npi_unix_conn* conn) {
  npi_shake* shake = conn->shake;
  shake->have = 0;
  shake->last_look = shake->waits = false;
  shake->tries++;
  npi_conn_strip(conn, true);
  if (connect_has_tries(shake))
    connect_pause(conn,
                  shake->tries <= CONNECT_HASTY_TRIES ? 0 : CONNECT_RETRY_MS);
  else
    connect_fail(conn, UV_ENOENT, 0, "its servers go again and again");
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
                     .wait_ms = connect_wait_ms(request->timeout_ms),
                     .pid = (uint32_t) getpid()};
  hello.message_max_bytes = request->options.message_max_bytes;
  if (!request->wait_only)
    hello.access = connect_access(request->options.access);
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
  base->in_quota = base->out_quota = NPIPE_QUOTA_DEFAULT_BYTES;
  base->max_instances = NPIPE_INSTANCES_UNLIMITED;
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
  if (conn->shake->request.server_user[0] != '\0')
    return uid == conn->shake->server_uid;
  return conn->shake->request.options.any_server != 0 || uid == 0 ||
         uid == geteuid();
}

/* Goes on with a connected socket, which is this function's. */
static void connect_begin(npi_unix_conn* conn, int fd) {
  int err = npi_sock_peer(fd, &conn->peer);
  if (err == 0 && !connect_trusts(conn)) {
    npi_sock_close(fd);
    connect_fail(conn, UV_EACCES, 0,
                 "its server runs as another user; if it is meant, allow that "
                 "with server_user or any_server");
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
  const npi_connect_request* request = &conn->shake->request;
  int err = 0;
  /* Who asks for a certain user looks at the socket, wherever it stands. */
  bool wary = !request->options.any_server && request->server_user[0] == '\0';
  if (path->directory[0] != '\0' && wary)
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
  if (conn->shake->request.timeout_ms == 0)
    connect_fail(conn, UV_EBUSY, 0, "its server does not accept");
  else
    connect_pause(conn, CONNECT_RETRY_MS);
}

/* Servers share the name that have lost the one with the socket: one of them
 * is just making it anew. */
static bool connect_lives(const npi_shake* shake) {
  for (unsigned i = 0; i < shake->path_count; i++)
    if (shake->paths[i].share[0] != '\0' &&
        npi_share_lives(shake->paths[i].share))
      return true;
  return false;
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
  else if (result == UV_ENOENT && connect_lives(shake))
    connect_pause(conn, CONNECT_RETRY_MS);
  else if (result == UV_ENOENT)
    connect_fail(conn, result, -result, "no such pipe");
  else
    connect_failed(conn, result);
}

static void connect_on_timer(uv_timer_t* timer) {
  npi_unix_conn* conn = timer->data;
  bool over = uv_now(timer->loop) >= conn->shake->deadline_ms;
  if (conn->link == NPI_LINK_NONE && over) {
    connect_fail(conn, UV_ETIMEDOUT, 0, "its server does not answer");
  } else if (conn->link == NPI_LINK_NONE) {
    if (npi_conn_bare(conn))
      connect_try(conn);
    else
      connect_pause(conn, 1);
  } else if (!conn->shake->last_look) {
    /* Timers run before sockets are read: in a loop that was busy, the answer
     * may be there. Let it be seen first. */
    conn->shake->last_look = true;
    uv_timer_start(timer, connect_on_timer, 1, 0);
  } else {
    connect_fail(conn, UV_ETIMEDOUT, 0,
                 "no instance became free in time, or no answer");
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
 * instance still waits for the answer, or for a word that it has to wait. */
static void connect_start_clock(npi_unix_conn* conn) {
  int timeout_ms = conn->shake->request.timeout_ms;
  uint64_t limit = timeout_ms > 0 ? (uint64_t) timeout_ms : NPI_HANDSHAKE_MS;
  conn->shake->deadline_ms = UINT64_MAX;
  if (timeout_ms == NPIPE_WAIT_FOREVER) return;
  uv_update_time(conn->base.loop); /* the time is counted from the call */
  conn->shake->deadline_ms = uv_now(conn->base.loop) + limit;
  connect_arm(conn);
}

/* A uid in decimal. */
static int connect_parse_user(const char* text, uid_t* out) {
  uint64_t value = 0;
  size_t length = strlen(text);
  bool digits = length <= 10 && strspn(text, "0123456789") == length;
  for (size_t i = 0; digits && i < length; i++)
    value = value * 10 + (uint64_t) (text[i] - '0');
  *out = (uid_t) value;
  if (digits && value < UINT32_MAX) return 0;
  return npi_fail(UV_EINVAL, 0, "connect: server_user '%.40s' is no user's id",
                  text);
}

int npi_os_connect(npipe_conn* base, const npi_connect_request* request) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  npi_unix_conn_init(conn);
  conn->shake = npi_calloc(1, sizeof *conn->shake);
  if (conn->shake == NULL) return npi_fail(UV_ENOMEM, 0, "connect: no memory");
  conn->shake->request = *request;
  int err = connect_parse_user(request->server_user, &conn->shake->server_uid);
  if (err == 0) err = connect_find_paths(conn->shake);
  if (err != 0) return err;
  connect_start_clock(conn);
  connect_try(conn);
  return 0;
}
