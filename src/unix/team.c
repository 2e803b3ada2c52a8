/*
 * A server among others of its name: how it comes in, finds its leader, becomes
 * the leader, and leaves.
 *
 * One of the servers leads: it accepts all clients, keeps the only queue of
 * those who wait, and hands sockets to the others, the members (member.c). Each
 * member has a connection to it, made like a client's but with JOIN for HELLO,
 * and is given two descriptors over it: the listening socket, and the lock on
 * the name. So both live until the last of them is gone, whoever dies, and no
 * client's connect() meets a dead socket in between. Who leads is a lock, too
 * (share.h). When the leader ends, its members see the end of the connection;
 * the first that gets the lock goes on. The others try again every 20 ms until
 * one of them does; nothing polls otherwise.
 *
 * npipe_server_create() does not wait for another process. What it has to know
 * is in the file of the name and its locks; the JOIN comes later, by the loop.
 * A server that was created and has not joined when all the others die makes
 * the socket anew; till then clients find nobody and see by the lock `alive`
 * that they should try again.
 *
 * Files are made and removed by the holder of the lock of the name only, and
 * only while nobody else is alive.
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "team.h"

#define TEAM_SEEK_MS 20
#define TEAM_REFUSED_MS 1000
/* The name is just being made or removed: these are tried, a ms apart. */
#define TEAM_OPEN_TRIES 50
#define TEAM_TAKES_PER_TURN 64

static void team_seek(npi_unix_server* server);

/* ---- open */

/* We hold the lock of the name: the others are dead, or were never there. */
static int team_open_first(npi_unix_server* server, npi_team* team) {
  npi_claim* claim = &server->claim;
  int err = npi_share_open(&team->share, claim->path.share, true);
  if (err == 0) err = npi_share_alone(&team->share);
  if (err == 0) err = npi_share_write(&team->share, &server->base.options);
  if (err == 0) err = npi_share_lead(&team->share);
  if (err == 0) {
    err = npi_claim_listen(claim, npi_server_mode(server), &server->fd);
    if (err != 0) unlink(claim->path.share);
  }
  if (err == 0) err = npi_share_live(&team->share);
  team->leads = err == 0;
  if (err != 0) npi_share_close(&team->share);
  return err;
}

/* CR4, in its order; then what the first one decided counts. */
static int team_fits(npi_unix_server* server, npi_team* team) {
  npipe_server_options* o = &server->base.options;
  npipe_server_options first = *o;
  npipe_type type;
  npipe_direction direction;
  const char* name = server->base.name.text;
  int err = npi_share_read(&team->share, &first, &type, &direction);
  if (err != 0) return err;
  if (team->share.slots > 0 && npi_share_slot_find(&team->share, NULL) == 0)
    return npi_fail(UV_EBUSY, 0, "pipe '%.80s': all its instances are in use",
                    name);
  if (direction != o->direction)
    return npi_fail(UV_EACCES, 0, "pipe '%.80s': has another direction (CR4)",
                    name);
  if (type != o->type)
    return npi_fail(UV_EINVAL, 0, "pipe '%.80s': has another type (CR5)", name);
  *o = first;
  return 0;
}

/* Somebody holds the lock of the name. UV_EAGAIN: it is being made or
 * removed. */
static int team_open_joining(npi_unix_server* server, npi_team* team) {
  const npi_path* path = &server->claim.path;
  int err = npi_share_open(&team->share, path->share, false);
  if (err != 0 && err != UV_ENOENT) return err;
  if (err == 0) {
    err = npi_share_live(&team->share);
    if (err == 0 && !npi_share_same(&team->share, path->share)) err = UV_EAGAIN;
    if (err == 0 && !npi_share_others(&team->share)) err = UV_ENOENT;
    if (err == 0) err = team_fits(server, team);
    if (err != 0) npi_share_close(&team->share);
  }
  if (err != UV_ENOENT) return err;
  /* It has a server, and not one that shares. */
  return npi_claim_is_served(&server->claim) ? npi_claim_in_use(&server->claim)
                                             : UV_EAGAIN;
}

static int team_open_once(npi_unix_server* server, npi_team* team) {
  int err = npi_claim_lock(&server->claim);
  if (err == UV_EADDRINUSE) return team_open_joining(server, team);
  if (err != 0) return err;
  err = team_open_first(server, team);
  if (err == 0) return 0;
  /* Alive, but without the lock: created, and not joined yet. */
  npi_claim_unlock(&server->claim);
  return err == UV_EAGAIN ? team_open_joining(server, team) : err;
}

int npi_team_open(npi_unix_server* server) {
  const struct timespec moment = {.tv_nsec = 1000000};
  npi_team* team = npi_calloc(1, sizeof *team);
  if (team == NULL) return npi_fail(UV_ENOMEM, 0, "create pipe: no memory");
  server->fd = team->share.fd = -1;
  int err = UV_EAGAIN;
  for (int i = 0; i < TEAM_OPEN_TRIES && err == UV_EAGAIN; i++) {
    if (i > 0) nanosleep(&moment, NULL);
    err = team_open_once(server, team);
  }
  server->team = team;
  if (err == 0 && team->leads) err = npi_server_watch(server);
  if (err == 0) return 0;
  if (err == UV_EAGAIN) err = npi_claim_in_use(&server->claim);
  npi_team_end(server);
  npi_sock_close(server->fd);
  npi_team_free(server);
  return err;
}

void npi_team_begin(npi_unix_server* server) {
  npi_team* team = server->team;
  uv_timer_init(server->base.loop, &team->timer);
  team->timer.data = server;
  server->handles++;
  if (!team->leads) team_seek(server);
}

bool npi_team_leads(const npi_unix_server* server) {
  return server->team->leads;
}

/* ---- leading */

/* Nobody has the socket any more, or ever had: it is made anew. */
static int team_claim(npi_unix_server* server) {
  int err = npi_claim_lock(&server->claim);
  if (err != 0) return err;
  err = npi_claim_listen(&server->claim, npi_server_mode(server), &server->fd);
  if (err != 0) npi_claim_unlock(&server->claim);
  return err;
}

/* The lock `lead` is ours. False: a member has the socket and has to lead. */
static bool team_lead(npi_unix_server* server) {
  npi_team* team = server->team;
  int err = server->fd < 0 ? team_claim(server) : 0;
  if (err == 0) err = npi_server_watch(server);
  if (err != 0) {
    npi_share_unlead(&team->share);
    return false;
  }
  if (team->link != NULL) npi_wire_close(team->link);
  team->link = NULL;
  team->joined = false;
  team->leads = true;
  team->own_turn = true;
  npi_team_settle(server); /* the others come in the next moments */
  npi_server_post(server);
  return true;
}

/* ---- looking for the leader */

static void team_on_link(npi_wire* wire);

static void team_on_seek(uv_timer_t* timer) {
  npi_unix_server* server = timer->data;
  if (server->team->joined)
    npi_server_post(server); /* there is something to be told */
  else
    team_seek(server);
}

static void team_seek_later(npi_unix_server* server, uint64_t ms) {
  uv_timer_start(&server->team->timer, team_on_seek, ms, 0);
}

static bool team_send_join(npi_unix_server* server, int fd) {
  uint8_t frame[NPI_HELLO_BYTES_MAX];
  npi_hello hello = {.version = NPI_WIRE_VERSION,
                     .join = true,
                     .pid = (uint32_t) getpid(),
                     .message_max_bytes = 1};
  memcpy(hello.name, server->folded, strlen(server->folded) + 1);
  size_t size = npi_encode_hello(frame, &hello);
  struct iovec iov = {.iov_base = frame, .iov_len = size};
  return npi_sock_send(fd, &iov, 1) == (ssize_t) size;
}

/* Asks whoever answers at the socket to be taken in. */
static void team_call(npi_unix_server* server) {
  npi_team* team = server->team;
  npi_peer peer;
  int fd = npi_sock_open();
  if (fd < 0) return;
  bool good = npi_sock_connect(fd, server->claim.path.socket) == 0 &&
              npi_sock_peer(fd, &peer) == 0 && peer.uid == geteuid() &&
              team_send_join(server, fd) &&
              npi_wire_new(server, fd, team_on_link, server, &team->link) == 0;
  if (!good) npi_sock_close(fd);
}

/* No leader is known: leads, or looks for who does. */
static void team_seek(npi_unix_server* server) {
  npi_team* team = server->team;
  if (npi_share_lead(&team->share) == 0 && team_lead(server)) return;
  if (team->link == NULL) team_call(server);
  team_seek_later(server, TEAM_SEEK_MS);
}

static void team_lost(npi_unix_server* server) {
  npi_team* team = server->team;
  npi_wire_close(team->link);
  team->link = NULL;
  team->joined = team->told = false;
  team_seek(server);
}

/* Whoever has the socket does not want us. It cannot stay so: try seldom. */
static void team_refused(npi_unix_server* server) {
  npi_team* team = server->team;
  npi_wire_close(team->link);
  team->link = NULL;
  team_seek_later(server, TEAM_REFUSED_MS);
  if (team->troubled) return;
  team->troubled = true;
  npi_fail(UV_EADDRINUSE, 0, "pipe '%.80s': its servers do not let this one in",
           server->base.name.text);
  npi_server_trouble(&server->base, UV_EADDRINUSE);
}

/* ---- a member */

static void team_joined(npi_unix_server* server) {
  npi_team* team = server->team;
  int fd = npi_wire_take(team->link, 0);
  int lock = npi_wire_take(team->link, 1);
  if (fd < 0 || lock < 0) {
    npi_sock_close(fd);
    team_refused(server);
    return;
  }
  if (server->fd < 0) {
    server->fd = fd;
    npi_claim_adopt(&server->claim, lock);
  } else { /* we have them from the leader before */
    npi_sock_close(fd);
    npi_sock_close(lock);
  }
  uv_timer_stop(&team->timer);
  team->joined = true;
  team->takes = 0;
  npi_server_post(server); /* tells how many clients we can take */
}

/* A place of the kind that the leader meant, or NULL. */
static npi_place* team_place(npi_unix_server* server, bool again) {
  npi_place* place = server->first_place;
  while (place != NULL &&
         ((place->conn != NULL) != again || !npi_place_ready(place)))
    place = place->next;
  return place;
}

/* A client has come. If it finds no place any more it is let go: it lost its
 * server before an answer and tries again. */
static void team_receive(npi_unix_server* server, const npi_team_frame* take) {
  npi_team* team = server->team;
  int fd = npi_wire_take(team->link, 0);
  unsigned slot = take->a <= NPI_SLOTS_MAX ? take->a : 0;
  team->takes++;
  team->told = false;
  npi_server_post(server);
  if (fd < 0) return;
  npi_unix_conn* conn = npi_server_adopt(server, fd);
  if (conn == NULL) return;
  conn->shake->hello.message_max_bytes = take->b;
  npi_places_fill(server, 0);
  npi_place* place = team_place(server, take->a == 0);
  bool good = place != NULL && take->b > 0;
  if (good && slot != 0) good = npi_share_slot_take(&team->share, slot) == 0;
  if (good)
    npi_greet_admit(server, conn, place, slot);
  else
    npi_conn_discard(&conn->base);
}

static void team_on_link(npi_wire* wire) {
  npi_unix_server* server = wire->owner;
  npi_team* team = server->team;
  npi_team_frame frame;
  for (int i = 0; i < TEAM_TAKES_PER_TURN && !server->ended; i++) {
    int err = npi_wire_receive(wire, &frame);
    if (err == UV_EAGAIN) return;
    if (err == 0 && frame.frame == NPI_FRAME_JOINED && !team->joined) {
      team_joined(server);
    } else if (err == 0 && frame.frame == NPI_FRAME_TAKE && team->joined) {
      team_receive(server, &frame);
    } else if (err == UV_EPROTO && !team->joined) {
      team_refused(server); /* a REFUSE */
      return;
    } else {
      team_lost(server);
      return;
    }
    if (team->link != wire) return;
  }
}

void npi_team_turn(npi_unix_server* server) {
  npi_team* team = server->team;
  unsigned fresh = server->new_places;
  unsigned again = server->again_places;
  bool same = fresh == team->told_new && again == team->told_again;
  if (!team->joined || (team->told && same)) return;
  npi_team_frame room = {NPI_FRAME_ROOM, team->takes, fresh | again << 16};
  int err = npi_wire_send(team->link, &room, NULL, 0);
  team->told = err == 0;
  team->told_new = fresh;
  team->told_again = again;
  /* The leader does not read: it is stopped, or dying. */
  if (err != 0) team_seek_later(server, TEAM_SEEK_MS);
}

void npi_team_slot_free(npi_unix_server* server, unsigned slot) {
  npi_team* team = server->team;
  if (team == NULL || slot == 0) return;
  npi_share_slot_free(&team->share, slot);
  team->told = false; /* somebody may wait for it */
}

unsigned npi_team_instances(npi_unix_server* server) {
  npi_team* team = server->team;
  if (team == NULL || team->share.slots == 0) return server->base.instances;
  return team->share.slots - npi_share_slots_free(&team->share, NULL);
}

/* ---- the end */

bool npi_team_end(npi_unix_server* server) {
  npi_team* team = server->team;
  npi_team_dismiss(server);
  if (team->link != NULL) npi_wire_close(team->link);
  team->link = NULL;
  if (team->timer.data != NULL)
    npi_server_close_handle(server, (uv_handle_t*) &team->timer);
  /* Who has no lock has no files to remove either. */
  bool last = server->fd >= 0 && team->share.fd >= 0 &&
              npi_share_alone(&team->share) == 0;
  if (last && npi_share_same(&team->share, server->claim.path.share))
    unlink(server->claim.path.share);
  if (last)
    npi_claim_drop(&server->claim);
  else
    npi_claim_leave(&server->claim);
  npi_share_close(&team->share);
  return last;
}

void npi_team_free(npi_unix_server* server) {
  npi_free(server->team);
  server->team = NULL;
}
