/*
 * The handshake's answering side, and who waits.
 *
 * connect() on a Unix socket succeeds as soon as the kernel has queued it,
 * which says nothing about instances. So a client is connected when its HELLO
 * was answered by WELCOME. Until then it is in one of three rings:
 *
 *   shaking   its HELLO has not arrived; it has NPI_HANDSHAKE_MS for it
 *   waiting   for an instance, served in order; see places.c
 *   asking    only wants to know when an instance listens (WT2, WT4): all are
 *             answered at once, and nothing is taken
 *
 * All are bounded. Clients in the rings are connections that the program does
 * not know of; they are discarded without a word when they fail.
 *
 * A client without time to wait is `hasty`. It stands in the ring only while
 * the answer is not known: an instance listens but is not ready, or other
 * servers of the name have not said yet what they can take.
 *
 * An instance that listens again gets the client's socket, not the connection
 * that made the handshake: that one is discarded and the socket goes on under a
 * second descriptor.
 *
 * A plain pipe has no handshake: a client is connected when accepted.
 */
#include <string.h>
#include <unistd.h>

#include "server.h"
#include "team.h"

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

static bool greet_is_hasty(const npi_unix_server* server,
                           const npi_unix_conn* conn) {
  return conn->shake->ring == &server->waiting &&
         conn->shake->hello.wait_ms == 0;
}

void npi_greet_move(npi_unix_conn* conn, npi_conn_ring* ring) {
  npi_shake* shake = conn->shake;
  if (greet_is_hasty(shake->server, conn)) shake->server->hasty--;
  if (shake->ring != NULL) ring_remove(shake->ring, conn);
  shake->ring = ring;
  if (ring != NULL) ring_push(ring, conn);
  if (greet_is_hasty(shake->server, conn)) shake->server->hasty++;
}

void npi_server_forget(npi_unix_conn* conn) {
  npi_unix_server* server = conn->shake != NULL ? conn->shake->server : NULL;
  if (server == NULL) return;
  npi_greet_move(conn, NULL);
  conn->shake->server = NULL;
  npi_server_post(server);
}

void npi_greet_end(npi_unix_server* server) {
  npi_conn_ring* rings[] = {&server->shaking, &server->waiting,
                            &server->asking};
  for (int i = 0; i < 3; i++)
    while (rings[i]->head != NULL) npi_conn_discard(&rings[i]->head->base);
}

/* ---- answers */

static void greet_on_timeout(uv_timer_t* timer) {
  npi_unix_conn* conn = timer->data;
  if (conn->shake->last_look) {
    npi_conn_discard(&conn->base);
    return;
  }
  /* Timers run before sockets are read: in a loop that was busy, the HELLO may
   * be there. Let it be seen first. */
  conn->shake->last_look = true;
  uv_timer_start(timer, greet_on_timeout, 1, 0);
}

/* A new socket's buffer has room for an answer. */
static bool greet_send(npi_unix_conn* conn, uint8_t* frame, size_t size) {
  struct iovec iov = {.iov_base = frame, .iov_len = size};
  return npi_sock_send(conn->fd, &iov, 1) == (ssize_t) size;
}

void npi_greet_refuse(npi_unix_conn* conn, npi_refusal code) {
  uint8_t frame[NPI_REFUSE_BYTES];
  (void) greet_send(conn, frame, npi_encode_refuse(frame, code));
  npi_conn_discard(&conn->base);
}

static npi_welcome greet_describe(const npi_unix_server* server) {
  const npipe_server_options* o = &server->base.options;
  return (npi_welcome){.version = NPI_WIRE_VERSION,
                       .type = (uint8_t) o->type,
                       .direction = (uint8_t) o->direction,
                       .in_quota = o->in_quota,
                       .out_quota = o->out_quota,
                       .message_max_bytes = o->message_max_bytes,
                       .max_instances = o->max_instances,
                       .default_wait_ms = o->default_wait_ms,
                       .pid = (uint32_t) getpid(),
                       .shared = server->team != NULL};
}

static bool greet_send_welcome(npi_unix_server* server, npi_unix_conn* conn) {
  uint8_t frame[NPI_WELCOME_BYTES];
  npi_welcome welcome = greet_describe(server);
  return greet_send(conn, frame, npi_encode_welcome(frame, &welcome));
}

static void greet_send_status(npi_unix_server* server, npi_unix_conn* conn,
                              bool listens) {
  uint8_t frame[NPI_STATUS_BYTES];
  npi_welcome status = greet_describe(server);
  status.listens = listens;
  status.instances = npi_team_instances(server);
  (void) greet_send(conn, frame, npi_encode_status(frame, &status));
  npi_conn_discard(&conn->base);
}

/* ---- letting a client in */

/* The server's view of the pipe, and its end of it. The read mode is set once:
 * it stays with an instance that is used again. */
static void greet_open(npi_unix_server* server, npi_unix_conn* conn,
                       uint32_t message_max_bytes, bool plain) {
  const npipe_server_options* o = &server->base.options;
  npipe_conn* base = &conn->base;
  base->type = o->type;
  base->is_server = true;
  conn->rx_none = o->direction == NPIPE_OUTBOUND;
  base->can_read = !conn->rx_none;
  base->can_write = o->direction != NPIPE_INBOUND;
  base->message_max_bytes = o->message_max_bytes < message_max_bytes
                                ? o->message_max_bytes
                                : message_max_bytes;
  uv_timer_stop(&conn->timer);
  npi_link_up(conn, o->in_quota, o->out_quota, plain);
}

static void greet_connected(npi_unix_server* server, npi_unix_conn* conn,
                            unsigned slot) {
  uint32_t message_max = conn->shake->hello.message_max_bytes;
  npi_server_forget(conn);
  npi_shake_free(conn);
  conn->slot = slot;
  conn->base.read_mode = server->base.options.read_mode;
  greet_open(server, conn, message_max, false);
  npi_places_fill(server, 1);
  npi_server_connected(&server->base, &conn->base);
}

/* The client goes on with an instance that listened; fd is a second descriptor
 * of its socket. */
static void greet_hand_over(npi_unix_server* server, npi_unix_conn* conn,
                            npi_unix_conn* instance, int fd) {
  uint32_t message_max = conn->shake->hello.message_max_bytes;
  int err = npi_conn_readopt(instance, fd);
  if (err != 0) {
    npi_sock_close(fd);
    npi_conn_discard(&conn->base);
    npi_conn_listened(&instance->base, err);
    return;
  }
  instance->peer = conn->peer;
  conn->fd = -1; /* not to be shut down */
  npi_conn_discard(&conn->base);
  greet_open(server, instance, message_max, false);
  npi_conn_listened(&instance->base, 0);
}

/* Lost on the way; a client that still is there tries again. */
static void greet_drop(npi_unix_server* server, npi_unix_conn* conn,
                       unsigned slot, int err) {
  npi_conn_discard(&conn->base);
  npi_team_slot_free(server, slot);
  npi_server_post(server);
  if (err == 0) return;
  npi_fail(UV_EMFILE, -err, "pipe '%.80s': no descriptor for a client",
           server->base.name.text);
  npi_server_trouble(&server->base, UV_EMFILE);
}

void npi_greet_admit(npi_unix_server* server, npi_unix_conn* conn,
                     npi_place* place, unsigned slot) {
  npi_unix_conn* instance = place->conn;
  int fd = instance != NULL ? npi_sock_dup(conn->fd) : -1;
  if (instance != NULL && fd < 0) {
    greet_drop(server, conn, slot, fd);
  } else if (!greet_send_welcome(server, conn)) {
    npi_sock_close(fd);
    greet_drop(server, conn, slot, 0); /* it has gone */
  } else {
    npi_place_remove(server, place);
    if (instance != NULL)
      greet_hand_over(server, conn, instance, fd);
    else
      greet_connected(server, conn, slot);
  }
}

/* Lets conn in where the next place is. False: there is none now. */
static bool greet_take(npi_unix_server* server, npi_unix_conn* conn) {
  if (server->team != NULL) return npi_team_take(server, conn);
  npi_place* place = server->first_place;
  if (place == NULL || !npi_place_ready(place)) return false;
  npi_greet_admit(server, conn, place, 0);
  return true;
}

/* ---- waiting */

static void greet_on_wait_over(uv_timer_t* timer) {
  npi_greet_refuse(timer->data, NPI_REFUSAL_TIMEOUT);
}

/* From here on the client keeps the time, unless it wants the pipe's own; then
 * it is told how long that is. */
static void greet_queue(npi_unix_server* server, npi_unix_conn* conn,
                        npi_conn_ring* ring) {
  uint8_t frame[NPI_WAIT_BYTES];
  uint32_t ms = server->base.options.default_wait_ms;
  npi_greet_move(conn, ring);
  uv_timer_stop(&conn->timer);
  if (conn->shake->hello.wait_ms != NPI_HELLO_WAIT_DEFAULT) return;
  (void) greet_send(conn, frame, npi_encode_wait(frame, ms));
  uv_timer_start(&conn->timer, greet_on_wait_over, ms, 0);
}

/* How many clients could be taken by now, waiting ones included. */
static unsigned greet_places(npi_unix_server* server) {
  return server->team != NULL ? npi_team_places(server)
                              : npi_places_open(server);
}

/* Does an instance listen for somebody who has not come yet? */
static bool greet_listens(npi_unix_server* server) {
  return greet_places(server) > server->waiting.count;
}

static void greet_wait(npi_unix_server* server, npi_unix_conn* conn) {
  bool hope = greet_listens(server) || npi_team_settles(server);
  if ((conn->shake->hello.wait_ms == 0 && !hope) ||
      server->waiting.count >= NPI_WAITERS_MAX)
    npi_greet_refuse(conn, NPI_REFUSAL_BUSY);
  else
    greet_queue(server, conn, &server->waiting);
  npi_server_post(server);
}

static void greet_ask(npi_unix_server* server, npi_unix_conn* conn) {
  bool listens = greet_listens(server);
  if (listens || conn->shake->hello.wait_ms == 0)
    greet_send_status(server, conn, listens);
  else if (server->asking.count >= NPI_WAITERS_MAX)
    npi_greet_refuse(conn, NPI_REFUSAL_BUSY);
  else
    greet_queue(server, conn, &server->asking);
}

/* Those without time for whom nothing is left. */
static void greet_refuse_hasty(npi_unix_server* server) {
  unsigned left = greet_places(server);
  npi_unix_conn* next;
  if (server->hasty == 0 || npi_team_settles(server)) return;
  for (npi_unix_conn* conn = server->waiting.head; conn != NULL; conn = next) {
    next = conn->shake->next;
    if (left > 0)
      left--;
    else if (conn->shake->hello.wait_ms == 0)
      npi_greet_refuse(conn, NPI_REFUSAL_BUSY);
  }
}

void npi_greet_waiting(npi_unix_server* server) {
  while (!server->ended && server->waiting.head != NULL &&
         greet_take(server, server->waiting.head)) {
  }
  if (server->ended) return;
  greet_refuse_hasty(server);
  if (server->asking.head == NULL || !greet_listens(server)) return;
  while (server->asking.head != NULL)
    greet_send_status(server, server->asking.head, true);
}

/* ---- the handshake */

/* Does the direction give the client what it wants (OP3)? */
static bool greet_direction_fits(npipe_direction direction, uint8_t access) {
  if (direction == NPIPE_INBOUND) return (access & NPI_ACCESS_READ) == 0;
  if (direction == NPIPE_OUTBOUND) return (access & NPI_ACCESS_WRITE) == 0;
  return true;
}

static void greet_answer(npi_unix_server* server, npi_unix_conn* conn) {
  const npi_hello* hello = &conn->shake->hello;
  if (hello->version != NPI_WIRE_VERSION)
    npi_greet_refuse(conn, NPI_REFUSAL_VERSION);
  else if (strcmp(hello->name, server->folded) != 0)
    npi_greet_refuse(conn, NPI_REFUSAL_NAME);
  else if (hello->join)
    npi_team_join(server, conn);
  else if (hello->access == 0)
    greet_ask(server, conn);
  else if (!greet_direction_fits(server->base.options.direction, hello->access))
    npi_greet_refuse(conn, NPI_REFUSAL_ACCESS);
  else if (server->waiting.count > 0 || !greet_take(server, conn))
    greet_wait(server, conn);
}

void npi_server_received(npi_unix_conn* conn) {
  npi_shake* shake = conn->shake;
  size_t length;
  int err = npi_shake_length(
      shake->bytes, shake->have,
      NPI_FRAMES(NPI_FRAME_HELLO) | NPI_FRAMES(NPI_FRAME_JOIN), &length);
  if (err == 0 && (length == 0 || shake->have < length)) return;
  /* Nothing may follow a HELLO until it is answered. */
  bool extra = shake->have > length || shake->ring != &shake->server->shaking;
  if (err == 0 && !extra)
    err = npi_decode_hello(shake->bytes, length, &shake->hello);
  if (err != 0 || extra)
    npi_conn_discard(&conn->base);
  else
    greet_answer(shake->server, conn);
}

/* For the owner alone it is checked here too, whatever the file's mode let
 * through; for wider access the mode is the rule. */
static bool greet_allows(const npi_unix_server* server, uid_t uid) {
  const npipe_server_options* o = &server->base.options;
  bool owner = o->allow == NPIPE_ALLOW_OWNER && o->unix_mode == 0;
  return !owner || uid == geteuid() || uid == 0;
}

void npi_greet(npi_unix_server* server, npi_unix_conn* conn) {
  if (!greet_allows(server, conn->peer.uid))
    npi_greet_refuse(conn, NPI_REFUSAL_ACCESS);
  else
    uv_timer_start(&conn->timer, greet_on_timeout, NPI_HANDSHAKE_MS, 0);
}

void npi_greet_plain(npi_unix_server* server, npi_unix_conn* conn) {
  if (!greet_allows(server, conn->peer.uid)) {
    npi_conn_discard(&conn->base);
    return;
  }
  npi_server_forget(conn);
  npi_shake_free(conn);
  conn->base.read_mode = server->base.options.read_mode;
  greet_open(server, conn, NPIPE_MESSAGE_MAX_BYTES, true);
  npi_server_connected(&server->base, &conn->base);
}
