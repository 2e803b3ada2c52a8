/*
 * A server: the listener, the handshake's answering side, and who waits.
 *
 * connect() on a Unix socket succeeds as soon as the kernel has queued it,
 * which says nothing about instances. So a client is connected when its HELLO
 * was answered by WELCOME. Until then it is in one of two rings:
 *
 *   shaking   its HELLO has not arrived; it has NPI_HANDSHAKE_MS for it
 *   waiting   all instances are busy and it wants to wait; served in order
 *
 * Both are bounded, and while `shaking` is full nobody is accepted. Clients in
 * the rings are connections that the program does not know of; they are
 * discarded without a word when they fail.
 *
 * Out of descriptors: the listener rests until the retry timer, so that the
 * loop does not spin on a client it cannot take, which stays in the queue of
 * the kernel meanwhile.
 *
 * A plain pipe has no handshake: a client is connected when accepted, and
 * while there is no room it is left in the kernel's queue.
 */
#include <string.h>
#include <unistd.h>

#include "unix.h"

#define ACCEPT_BATCH_MAX 64
#define ACCEPT_RETRY_MS 100

static void server_on_listener(uv_poll_t* poll, int status, int events);
static void server_on_turn(uv_idle_t* idle);

/* ---- rings */

static void ring_push(npi_conn_ring* ring, npi_unix_conn* conn) {
  npi_shake* shake = conn->shake;
  shake->next = NULL;
  shake->prev = ring->tail;
  if (ring->tail != NULL)
    ring->tail->shake->next = conn;
  else
    ring->head = conn;
  ring->tail = conn;
  ring->count++;
}

static void ring_remove(npi_conn_ring* ring, npi_unix_conn* conn) {
  npi_shake* shake = conn->shake;
  if (shake->prev != NULL)
    shake->prev->shake->next = shake->next;
  else
    ring->head = shake->next;
  if (shake->next != NULL)
    shake->next->shake->prev = shake->prev;
  else
    ring->tail = shake->prev;
  ring->count--;
}

void npi_server_forget(npi_unix_conn* conn) {
  npi_unix_server* server = conn->shake != NULL ? conn->shake->server : NULL;
  if (server == NULL) return;
  ring_remove(
      conn->link == NPI_LINK_WAITING ? &server->waiting : &server->shaking,
      conn);
  conn->shake->server = NULL;
  if (server->base.state == NPI_SERVER_LISTENING)
    npi_os_server_room(&server->base);
}

/* ---- listening */

static void server_listen(npi_unix_server* server) {
  bool full = server->claim.path.directory[0] == '\0'
                  ? !npi_server_has_room(&server->base)
                  : server->shaking.count >= NPI_SHAKES_MAX;
  bool want = !full && !server->exhausted;
  if (want == server->listening) return;
  server->listening = want;
  if (want)
    uv_poll_start(&server->listener, UV_READABLE, server_on_listener);
  else
    uv_poll_stop(&server->listener);
}

static void server_on_retry(uv_timer_t* timer) {
  npi_unix_server* server = timer->data;
  server->exhausted = false;
  server_listen(server);
}

static void server_exhausted(npi_unix_server* server, int err) {
  server->exhausted = true;
  server_listen(server);
  uv_timer_start(&server->retry, server_on_retry, ACCEPT_RETRY_MS, 0);
  bool files = err == UV_EMFILE || err == UV_ENFILE;
  npi_fail(files ? UV_EMFILE : UV_ENOMEM, -err,
           "pipe '%.80s': a client waits, but there are no descriptors left; "
           "trying again",
           server->base.name.text);
  npi_server_trouble(&server->base, files ? UV_EMFILE : UV_ENOMEM);
}

/* ---- the end of a handshake */

static void shake_on_timeout(uv_timer_t* timer) {
  npi_unix_conn* conn = timer->data;
  if (conn->shake->last_look) {
    npi_conn_discard(&conn->base);
    return;
  }
  /* Timers run before sockets are read: in a loop that was busy, the HELLO may
   * be there. Let it be seen first. */
  conn->shake->last_look = true;
  uv_timer_start(timer, shake_on_timeout, 1, 0);
}

static void shake_refuse(npi_unix_conn* conn, npi_refusal code) {
  uint8_t frame[NPI_REFUSE_BYTES];
  size_t size = npi_encode_refuse(frame, code);
  struct iovec iov = {.iov_base = frame, .iov_len = size};
  (void) npi_sock_send(conn->fd, &iov, 1); /* it is being dropped anyway */
  npi_conn_discard(&conn->base);
}

static void shake_on_wait_over(uv_timer_t* timer) {
  shake_refuse(timer->data, NPI_REFUSAL_TIMEOUT);
}

static bool shake_send_welcome(npi_unix_server* server, npi_unix_conn* conn) {
  const npipe_server_options* o = &server->base.options;
  uint8_t frame[NPI_WELCOME_BYTES];
  npi_welcome welcome = {.version = NPI_WIRE_VERSION,
                         .type = (uint8_t) o->type,
                         .direction = (uint8_t) o->direction,
                         .in_quota = o->in_quota,
                         .out_quota = o->out_quota,
                         .message_max_bytes = o->message_max_bytes,
                         .max_instances = o->max_instances,
                         .default_wait_ms = o->default_wait_ms,
                         .pid = (uint32_t) getpid()};
  size_t size = npi_encode_welcome(frame, &welcome);
  struct iovec iov = {.iov_base = frame, .iov_len = size};
  return npi_sock_send(conn->fd, &iov, 1) == (ssize_t) size;
}

/* The server's view of the pipe. */
static void shake_describe(npi_unix_server* server, npi_unix_conn* conn,
                           uint32_t message_max_bytes, bool plain) {
  const npipe_server_options* o = &server->base.options;
  npipe_conn* base = &conn->base;
  base->type = o->type;
  base->read_mode = o->read_mode;
  conn->rx_none = o->direction == NPIPE_OUTBOUND;
  base->can_read = !conn->rx_none;
  base->can_write = o->direction != NPIPE_INBOUND;
  base->message_max_bytes = o->message_max_bytes < message_max_bytes
                                ? o->message_max_bytes
                                : message_max_bytes;
  uv_timer_stop(&conn->timer);
  npi_link_up(conn, o->in_quota, o->out_quota, plain);
}

static void shake_admit(npi_unix_server* server, npi_unix_conn* conn) {
  uint32_t message_max = conn->shake->hello.message_max_bytes;
  if (!shake_send_welcome(server, conn)) {
    npi_conn_discard(&conn->base); /* it has gone */
    return;
  }
  npi_server_forget(conn);
  npi_shake_free(conn);
  shake_describe(server, conn, message_max, false);
  npi_server_connected(&server->base, &conn->base);
}

/* All instances are busy. */
static void shake_wait(npi_unix_server* server, npi_unix_conn* conn) {
  uint32_t wait_ms = conn->shake->hello.wait_ms;
  if (wait_ms == 0 || server->waiting.count >= NPI_WAITERS_MAX) {
    shake_refuse(conn, NPI_REFUSAL_BUSY);
    return;
  }
  ring_remove(&server->shaking, conn);
  conn->link = NPI_LINK_WAITING;
  ring_push(&server->waiting, conn);
  uv_timer_stop(&conn->timer); /* from here on the client keeps the time */
  if (wait_ms == NPI_HELLO_WAIT_DEFAULT)
    uv_timer_start(&conn->timer, shake_on_wait_over,
                   server->base.options.default_wait_ms, 0);
  npi_os_server_room(&server->base);
}

/* Does the direction give the client what it wants (OP3)? */
static bool shake_direction_fits(npipe_direction direction, uint8_t access) {
  if (direction == NPIPE_INBOUND) return (access & NPI_ACCESS_READ) == 0;
  if (direction == NPIPE_OUTBOUND) return (access & NPI_ACCESS_WRITE) == 0;
  return true;
}

static void shake_answer(npi_unix_server* server, npi_unix_conn* conn) {
  const npi_hello* hello = &conn->shake->hello;
  if (hello->version != NPI_WIRE_VERSION)
    shake_refuse(conn, NPI_REFUSAL_VERSION);
  else if (strcmp(hello->name, server->folded) != 0)
    shake_refuse(conn, NPI_REFUSAL_NAME);
  else if (!shake_direction_fits(server->base.options.direction, hello->access))
    shake_refuse(conn, NPI_REFUSAL_ACCESS);
  else if (server->waiting.count == 0 && npi_server_has_room(&server->base))
    shake_admit(server, conn);
  else
    shake_wait(server, conn);
}

void npi_server_received(npi_unix_conn* conn) {
  npi_shake* shake = conn->shake;
  size_t length;
  int err = npi_shake_length(shake->bytes, shake->have, NPI_FRAME_HELLO,
                             NPI_FRAME_HELLO, &length);
  if (err == 0 && (length == 0 || shake->have < length)) return;
  /* Nothing may follow a HELLO until it is answered. */
  bool extra = shake->have > length || conn->link == NPI_LINK_WAITING;
  if (err == 0 && !extra)
    err = npi_decode_hello(shake->bytes, length, &shake->hello);
  if (err != 0 || extra)
    npi_conn_discard(&conn->base);
  else
    shake_answer(shake->server, conn);
}

/* ---- accepting */

/* For the owner alone it is checked here too, whatever the file's mode let
 * through; for wider access the mode is the rule. */
static bool server_allows(const npi_unix_server* server, uid_t uid) {
  return server->base.options.allow != NPIPE_ALLOW_OWNER || uid == geteuid() ||
         uid == 0;
}

static void server_greet(npi_unix_server* server, npi_unix_conn* conn) {
  conn->shake->server = server;
  ring_push(&server->shaking, conn);
  if (!server_allows(server, conn->peer.uid))
    shake_refuse(conn, NPI_REFUSAL_ACCESS);
  else
    uv_timer_start(&conn->timer, shake_on_timeout, NPI_HANDSHAKE_MS, 0);
}

static void server_greet_plain(npi_unix_server* server, npi_unix_conn* conn) {
  if (!server_allows(server, conn->peer.uid)) {
    npi_conn_discard(&conn->base);
    return;
  }
  npi_shake_free(conn);
  shake_describe(server, conn, NPIPE_MESSAGE_MAX_BYTES, true);
  npi_server_connected(&server->base, &conn->base);
}

/* A connection on an accepted socket; NULL if it was dropped. */
static npi_unix_conn* server_adopt(npi_unix_server* server, int fd) {
  npi_unix_conn* conn = (npi_unix_conn*) npi_conn_new(server->base.loop);
  if (conn == NULL) {
    npi_sock_close(fd);
    return NULL;
  }
  npi_unix_conn_init(conn);
  conn->shake = npi_calloc(1, sizeof *conn->shake);
  if (conn->shake != NULL && npi_sock_peer(fd, &conn->peer) == 0 &&
      npi_conn_adopt(conn, fd) == 0)
    return conn;
  npi_sock_close(fd);
  npi_conn_discard(&conn->base);
  return NULL;
}

static void server_on_listener(uv_poll_t* poll, int status, int events) {
  npi_unix_server* server = poll->data;
  (void) status;
  (void) events;
  for (int i = 0; i < ACCEPT_BATCH_MAX && server->listening; i++) {
    int fd = npi_sock_accept(server->fd);
    if (fd == UV_EAGAIN) return;
    if (fd < 0) {
      server_exhausted(server, fd);
      return;
    }
    npi_unix_conn* conn = server_adopt(server, fd);
    if (conn != NULL && server->claim.path.directory[0] == '\0')
      server_greet_plain(server, conn);
    else if (conn != NULL)
      server_greet(server, conn);
    if (server->base.state == NPI_SERVER_CLOSING) return;
    server_listen(server);
  }
}

static void server_on_turn(uv_idle_t* idle) {
  npi_unix_server* server = idle->data;
  uv_idle_stop(idle);
  while (server->waiting.head != NULL && npi_server_has_room(&server->base))
    shake_admit(server, server->waiting.head);
  if (server->base.state == NPI_SERVER_LISTENING) server_listen(server);
}

void npi_os_server_room(npipe_server* base) {
  npi_unix_server* server = (npi_unix_server*) base;
  uv_idle_start(&server->turn, server_on_turn);
}

/* ---- open and close */

static mode_t server_mode(npipe_allow allow) {
  if (allow == NPIPE_ALLOW_EVERYONE) return 0666;
  return allow == NPIPE_ALLOW_GROUP ? 0660 : 0600;
}

static int server_find_path(npi_unix_server* server) {
  npi_path* path = &server->claim.path;
  const npipe_server_options* o = &server->base.options;
  if (o->plain_path != NULL) return npi_path_of_plain(path, o->plain_path);
  int err = npi_path_of_name(path, &server->base.name, o->scope);
  if (err == 0) err = npi_path_make_directory(path);
  if (err == 0) err = npi_path_check_directory(path, o->scope);
  return err;
}

int npi_os_server_open(npipe_server* base) {
  npi_unix_server* server = (npi_unix_server*) base;
  npi_name_fold(&base->name, server->folded);
  int err = server_find_path(server);
  if (err != 0) return err;
  mode_t mode = server_mode(base->options.allow);
  err = npi_claim_take(&server->claim, mode, &server->fd);
  if (err != 0) return err;
  err = uv_poll_init(base->loop, &server->listener, server->fd);
  if (err != 0) {
    npi_claim_drop(&server->claim);
    npi_sock_close(server->fd);
    return npi_fail(err, -err, "pipe '%.80s': cannot watch its socket: %s",
                    base->name.text, uv_strerror(err));
  }
  uv_idle_init(base->loop, &server->turn);
  uv_timer_init(base->loop, &server->retry);
  server->listener.data = server->turn.data = server->retry.data = server;
  server->handles = 3;
  server_listen(server);
  return 0;
}

static void server_on_handle_closed(uv_handle_t* handle) {
  npi_unix_server* server = handle->data;
  if (--server->handles > 0) return;
  npi_sock_close(server->fd);
  npi_server_closed(&server->base);
}

void npi_os_server_close(npipe_server* base) {
  npi_unix_server* server = (npi_unix_server*) base;
  npi_claim_drop(&server->claim);
  while (server->shaking.head != NULL)
    npi_conn_discard(&server->shaking.head->base);
  while (server->waiting.head != NULL)
    npi_conn_discard(&server->waiting.head->base);
  server->listening = false;
  uv_close((uv_handle_t*) &server->listener, server_on_handle_closed);
  uv_close((uv_handle_t*) &server->turn, server_on_handle_closed);
  uv_close((uv_handle_t*) &server->retry, server_on_handle_closed);
  npi_sock_shutdown(server->fd); /* also if a forked child has it */
}
