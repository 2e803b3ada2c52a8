/*
 * A server: the listening socket, and its life.
 *
 * A server that the program has closed goes on answering, that all is busy or
 * that one has to wait, as long as connections of it are open: the name belongs
 * to the instances (OP7). It is silent only after npi_os_server_end(), which
 * takes the name away.
 *
 * Out of descriptors: the listener rests until the retry timer, so that the
 * loop does not spin on a client it cannot take, which stays in the queue of
 * the kernel meanwhile. It rests also while too many have not said HELLO, or,
 * on a plain pipe, while there is no room.
 *
 * What follows from a change of places or clients happens in the turn, an idle
 * handle that is active only then.
 */
#include <string.h>
#include <unistd.h>

#include "server.h"
#include "team.h"

const size_t npi_os_server_size = sizeof(npi_unix_server);

#define ACCEPT_BATCH_MAX 64
#define ACCEPT_RETRY_MS 100

static void server_on_listener(uv_poll_t* poll, int status, int events);

static bool server_is_plain(const npi_unix_server* server) {
  return server->claim.path.directory[0] == '\0';
}

/* ---- listening */

/* Does this server accept the clients of the name? */
static bool server_leads(const npi_unix_server* server) {
  return server->team == NULL || npi_team_leads(server);
}

static void server_listen(npi_unix_server* server) {
  bool full = server_is_plain(server) ? !npi_server_has_room(&server->base)
                                      : server->shaking.count >= NPI_SHAKES_MAX;
  bool want = !full && !server->exhausted && server_leads(server);
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
           "pipe '%.80s': a client cannot be taken for lack of %s; trying "
           "again",
           server->base.name.text, files ? "descriptors" : "memory");
  npi_server_trouble(&server->base, files ? UV_EMFILE : UV_ENOMEM);
}

npi_unix_conn* npi_server_adopt(npi_unix_server* server, int fd) {
  npi_unix_conn* conn = (npi_unix_conn*) npi_conn_new(server->base.loop);
  if (conn == NULL) {
    npi_sock_close(fd);
    return NULL;
  }
  npi_unix_conn_init(conn);
  conn->shake = npi_calloc(1, sizeof *conn->shake);
  if (conn->shake != NULL && npi_sock_peer(fd, &conn->peer) == 0 &&
      npi_conn_adopt(conn, fd) == 0) {
    conn->shake->server = server;
    npi_greet_move(conn, &server->shaking);
    return conn;
  }
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
    npi_unix_conn* conn = npi_server_adopt(server, fd);
    if (conn == NULL) { /* for lack of memory: the client was dropped */
      server_exhausted(server, UV_ENOMEM);
      return;
    }
    if (server_is_plain(server))
      npi_greet_plain(server, conn);
    else
      npi_greet(server, conn);
    if (server->ended) return;
    server_listen(server);
  }
}

/* ---- the turn */

static void server_on_turn(uv_idle_t* idle) {
  npi_unix_server* server = idle->data;
  uv_idle_stop(idle);
  npi_places_fill(server, 0);
  npi_greet_waiting(server);
  if (server->ended) return;
  const npi_place* first = server->first_place;
  if (first != NULL && first->conn != NULL && npi_conn_bare(first->conn) &&
      !npi_place_ready(first))
    npi_server_post(server); /* it will be, after this round */
  if (server->team != NULL) npi_team_turn(server);
  server_listen(server);
  if (!server->close_owed) return;
  server->close_owed = false;
  npi_server_closed(&server->base);
}

void npi_server_post(npi_unix_server* server) {
  if (!server->ended) uv_idle_start(&server->turn, server_on_turn);
}

/* A place that becomes free listens at once: it stands before what listens
 * later in the same turn. */
void npi_os_server_room(npipe_server* base) {
  npi_unix_server* server = (npi_unix_server*) base;
  npi_places_fill(server, 0);
  npi_server_post(server);
}

void npi_server_gone(npi_unix_conn* conn) {
  npi_unix_server* server = (npi_unix_server*) conn->base.server;
  if (conn->slot == 0) return;
  npi_team_slot_free(server, conn->slot);
  conn->slot = 0;
  npi_server_post(server);
}

/* ---- open */

mode_t npi_server_mode(const npi_unix_server* server) {
  const npipe_server_options* o = &server->base.options;
  if (o->unix_mode != 0) return (mode_t) o->unix_mode;
  if (o->allow == NPIPE_ALLOW_EVERYONE) return 0666;
  return o->allow == NPIPE_ALLOW_GROUP ? 0660 : 0600;
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

int npi_server_watch(npi_unix_server* server) {
  uv_loop_t* loop = server->base.loop;
  int err = uv_poll_init(loop, &server->listener, server->fd);
  if (err != 0)
    return npi_fail(err, -err, "pipe '%.80s': cannot watch its socket: %s",
                    server->base.name.text, uv_strerror(err));
  server->listener.data = server;
  server->watched = true;
  server->handles++;
  return 0;
}

static int server_claim(npi_unix_server* server) {
  int err =
      npi_claim_take(&server->claim, npi_server_mode(server), &server->fd);
  if (err != 0) return err;
  err = npi_server_watch(server);
  if (err == 0) return 0;
  npi_claim_drop(&server->claim);
  npi_sock_close(server->fd);
  return err;
}

int npi_os_server_open(npipe_server* base) {
  npi_unix_server* server = (npi_unix_server*) base;
  server->fd = server->claim.lock_fd = -1;
  npi_name_fold(&base->name, server->folded);
  int err = server_find_path(server);
  if (err == 0)
    err = base->options.shared != 0 ? npi_team_open(server)
                                    : server_claim(server);
  if (err != 0) return err;
  uv_idle_init(base->loop, &server->turn);
  uv_timer_init(base->loop, &server->retry);
  server->turn.data = server->retry.data = server;
  server->handles += 2;
  npi_places_fill(server, 0);
  if (server->team != NULL) npi_team_begin(server);
  server_listen(server);
  return 0;
}

/* ---- close */

void npi_server_handle_closed(npi_unix_server* server) {
  if (--server->handles > 0) return;
  npi_sock_close(server->fd);
  npi_team_free(server);
  if (server->close_owed) npi_server_closed(&server->base);
  npi_server_ended(&server->base);
}

static void server_on_handle_closed(uv_handle_t* handle) {
  npi_server_handle_closed(handle->data);
}

void npi_server_close_handle(npi_unix_server* server, uv_handle_t* handle) {
  handle->data = server;
  uv_close(handle, server_on_handle_closed);
}

void npi_os_server_close(npipe_server* base) {
  npi_unix_server* server = (npi_unix_server*) base;
  server->close_owed = true;
  npi_places_fill(server, 0);
  npi_server_post(server);
}

void npi_os_server_end(npipe_server* base) {
  npi_unix_server* server = (npi_unix_server*) base;
  /* The name first: who is discarded tries again and must not find it. */
  bool last = true;
  if (server->team != NULL)
    last = npi_team_end(server);
  else
    npi_claim_drop(&server->claim);
  server->ended = true;
  server->listening = false;
  npi_greet_end(server);
  if (server->watched)
    npi_server_close_handle(server, (uv_handle_t*) &server->listener);
  npi_server_close_handle(server, (uv_handle_t*) &server->turn);
  npi_server_close_handle(server, (uv_handle_t*) &server->retry);
  /* Also if a forked child has it; but not if other servers go on with it. */
  if (last) npi_sock_shutdown(server->fd);
}
