/*
 * What can take a client: the queue of listening instances (OP5).
 *
 * Two kinds stand in it. New instances: nothing is made before a client comes,
 * so one is only a number of the pool, and there are as many as max_instances
 * and the backlog leave room for, four at most. And instances that were
 * disconnected and listen again. Whatever begins to listen goes to the tail,
 * the head takes the next client. With a pool larger than one a burst of
 * clients finds the order that it would find on Windows.
 *
 * An instance listens from npipe_listen() on, but the handles of its former
 * socket may still be closing. A client that meets it then waits the moment.
 */
#include "server.h"

static void place_push(npi_unix_server* server, npi_place* place) {
  place->next = NULL;
  place->prev = server->last_place;
  if (server->last_place != NULL)
    server->last_place->next = place;
  else
    server->first_place = place;
  server->last_place = place;
  place->listed = true;
  if (place->conn == NULL)
    server->new_places++;
  else
    server->again_places++;
}

void npi_place_remove(npi_unix_server* server, npi_place* place) {
  if (place->prev != NULL)
    place->prev->next = place->next;
  else
    server->first_place = place->next;
  if (place->next != NULL)
    place->next->prev = place->prev;
  else
    server->last_place = place->prev;
  place->listed = false;
  if (place->conn == NULL)
    server->new_places--;
  else
    server->again_places--;
}

static unsigned places_room(const npi_unix_server* server, unsigned taken) {
  const npipe_server* base = &server->base;
  const npipe_server_options* o = &base->options;
  unsigned used = base->instances + taken;
  unsigned waiting = base->waiting + taken;
  if (base->state == NPI_SERVER_CLOSING || waiting >= o->backlog) return 0;
  unsigned room = o->backlog - waiting;
  if (room > NPI_POOL_MAX) room = NPI_POOL_MAX;
  if (o->max_instances == NPIPE_INSTANCES_UNLIMITED) return room;
  unsigned left = used < o->max_instances ? o->max_instances - used : 0;
  return left < room ? left : room;
}

/* One of the pool: the last in the queue, or one that is not in it. */
static npi_place* places_last_new(npi_unix_server* server) {
  npi_place* place = server->last_place;
  while (place->conn != NULL) place = place->prev;
  return place;
}

static npi_place* places_spare(npi_unix_server* server) {
  npi_place* place = server->pool;
  while (place->listed) place++;
  return place;
}

void npi_places_fill(npi_unix_server* server, unsigned taken) {
  unsigned room = places_room(server, taken);
  while (server->new_places > room)
    npi_place_remove(server, places_last_new(server));
  while (server->new_places < room) place_push(server, places_spare(server));
}

bool npi_place_ready(const npi_place* place) {
  const npi_unix_conn* conn = place->conn;
  if (conn == NULL) return true;
  /* A stream that was not told of the disconnect yet (its turn is due) must not
   * see the next client. */
  return npi_conn_bare(conn) && conn->base.stream_cb == NULL;
}

unsigned npi_places_open(npi_unix_server* server) {
  return server->new_places + server->again_places;
}

/* ---- instances that listen again */

/* Does the client of an open instance still live? */
static int listen_open(npi_unix_conn* conn) {
  npi_receive_drain(conn);
  if (conn->base.state != NPI_CONN_OPEN) return UV_ECONNABORTED;
  return conn->link == NPI_LINK_UP ? UV_EISCONN : UV_EPIPE;
}

int npi_os_listen(npipe_conn* base) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  npi_unix_server* server = (npi_unix_server*) base->server;
  if (conn->plain) return UV_ENOTSUP;
  if (base->state == NPI_CONN_OPEN) return listen_open(conn);
  conn->place.conn = conn;
  place_push(server, &conn->place);
  npi_server_post(server);
  return 0;
}

void npi_server_unlisten(npi_unix_conn* conn) {
  if (!conn->place.listed) return;
  npi_unix_server* server = (npi_unix_server*) conn->base.server;
  npi_place_remove(server, &conn->place);
  npi_server_post(server); /* who waited for it has to be told */
}

void npi_server_listener_ready(npi_unix_conn* conn) {
  if (conn->place.listed) npi_server_post((npi_unix_server*) conn->base.server);
}
