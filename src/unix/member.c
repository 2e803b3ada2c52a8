/*
 * The leader's view of the other servers of its name: who they are, how many
 * clients each can take, and which of them gets the next one.
 *
 * A client is greeted and waits here, whoever will serve it. It goes round: to
 * the leader itself and to each member in turn, as far as they have places. A
 * new instance needs a slot of the name; the leader looks for one that nobody
 * holds, the server that takes the client locks it before it says WELCOME, and
 * fails if somebody was faster. So the count can never be exceeded, and the
 * leader's knowledge may be stale: what it thinks only decides who is asked.
 *
 * A member's word (ROOM) names the clients it had seen. If the leader has sent
 * more since, another word is on its way, and this one is not listened to.
 *
 * When a server has come or gone, it takes a moment until its slots are free or
 * its places known. Meanwhile (npi_team_settles) nobody is told that all is
 * busy.
 */
#include <string.h>
#include <unistd.h>

#include "team.h"

#define MEMBER_SETTLE_MS 20
#define MEMBER_SETTLE_TICKS 10
#define MEMBER_FRAMES_PER_TURN 64
#define MEMBER_PLACES_MAX 65535u

/* ---- settling */

static void member_on_settle(uv_timer_t* timer) {
  npi_unix_server* server = timer->data;
  if (--server->team->settle_ticks == 0) uv_timer_stop(timer);
  npi_server_post(server);
}

void npi_team_settle(npi_unix_server* server) {
  npi_team* team = server->team;
  team->settle_ticks = MEMBER_SETTLE_TICKS;
  uv_timer_start(&team->timer, member_on_settle, MEMBER_SETTLE_MS,
                 MEMBER_SETTLE_MS);
}

bool npi_team_settles(const npi_unix_server* server) {
  const npi_team* team = server->team;
  return team != NULL && team->leads && team->settle_ticks > 0;
}

/* ---- members */

/* What was promised to this member is held by it, or by nobody. */
static void member_forget_promises(npi_team* team, const npi_member* member) {
  for (unsigned slot = 0; slot <= NPI_SLOTS_MAX; slot++)
    if (team->promised[slot] == member) team->promised[slot] = NULL;
}

static void member_remove(npi_unix_server* server, npi_member* member) {
  npi_team* team = server->team;
  npi_member** at = &team->members;
  while (*at != member) at = &(*at)->next;
  *at = member->next;
  team->member_count--;
  member_forget_promises(team, member);
  npi_wire_close(member->wire);
  npi_free(member);
}

void npi_team_dismiss(npi_unix_server* server) {
  while (server->team->members != NULL)
    member_remove(server, server->team->members);
}

static void member_says(npi_unix_server* server, npi_member* member,
                        const npi_team_frame* room) {
  npi_server_post(server); /* a slot may be free in any case */
  if (room->a != member->takes) return;
  member_forget_promises(server->team, member);
  member->new_places = room->b & MEMBER_PLACES_MAX;
  member->again_places = room->b >> 16;
}

static npi_member* member_of(npi_team* team, const npi_wire* wire) {
  npi_member* member = team->members;
  while (member->wire != wire) member = member->next;
  return member;
}

static void member_on_wire(npi_wire* wire) {
  npi_unix_server* server = wire->owner;
  npi_member* member = member_of(server->team, wire);
  npi_team_frame frame;
  for (int i = 0; i < MEMBER_FRAMES_PER_TURN; i++) {
    int err = npi_wire_receive(wire, &frame);
    if (err == UV_EAGAIN) return;
    if (err != 0 || frame.frame != NPI_FRAME_ROOM) {
      member_remove(server, member);
      npi_team_settle(server);
      npi_server_post(server);
      return;
    }
    member_says(server, member, &frame);
  }
}

/* A member on the socket of the connection that said JOIN. */
static npi_member* member_new(npi_unix_server* server, int fd) {
  npi_team* team = server->team;
  npi_member* member = npi_calloc(1, sizeof *member);
  if (member == NULL) return NULL;
  if (npi_wire_new(server, fd, member_on_wire, server, &member->wire) != 0) {
    npi_free(member);
    return NULL;
  }
  member->next = team->members;
  team->members = member;
  team->member_count++;
  return member;
}

void npi_team_join(npi_unix_server* server, npi_unix_conn* conn) {
  npi_team* team = server->team;
  if (team == NULL || conn->peer.uid != geteuid() ||
      team->member_count >= NPI_MEMBERS_MAX) {
    npi_greet_refuse(conn, NPI_REFUSAL_ACCESS);
    return;
  }
  int fd = npi_sock_dup(conn->fd);
  if (fd >= 0) conn->fd = -1; /* goes on there: not to be shut down */
  npi_conn_discard(&conn->base);
  npi_member* member = fd >= 0 ? member_new(server, fd) : NULL;
  if (member == NULL) {
    npi_sock_close(fd);
    return;
  }
  const npi_team_frame joined = {.frame = NPI_FRAME_JOINED};
  const int fds[] = {server->fd, server->claim.lock_fd};
  if (npi_wire_send(member->wire, &joined, fds, 2) != 0)
    member_remove(server, member);
}

/* ---- who takes the next client */

/* What can be taken with no limit of instances. */
#define SLOT_UNCOUNTED (NPI_SLOTS_MAX + 1)

/* A slot for a new instance; 0 if all are in use. */
static unsigned member_find_slot(const npi_team* team) {
  if (team->share.slots == 0) return SLOT_UNCOUNTED;
  return npi_share_slot_find(&team->share, team->promised);
}

unsigned npi_team_places(npi_unix_server* server) {
  const npi_team* team = server->team;
  unsigned fresh = server->new_places;
  unsigned again = server->again_places;
  for (const npi_member* m = team->members; m != NULL; m = m->next) {
    fresh += m->new_places;
    again += m->again_places;
  }
  if (team->share.slots > 0 && fresh > 0) {
    unsigned slots = npi_share_slots_free(&team->share, team->promised);
    if (slots < fresh) fresh = slots;
  }
  return fresh + again;
}

/* Hands the client over. False: the member does not take it, now or ever. */
static bool member_send(npi_unix_server* server, npi_member* member,
                        npi_unix_conn* conn, unsigned slot) {
  const npi_team_frame take = {NPI_FRAME_TAKE, slot,
                               conn->shake->hello.message_max_bytes};
  if (npi_wire_send(member->wire, &take, &conn->fd, 1) != 0) {
    member->new_places = member->again_places = 0; /* until it says more */
    return false;
  }
  member->takes++;
  if (slot == 0)
    member->again_places--;
  else
    member->new_places--;
  if (slot != 0 && slot <= NPI_SLOTS_MAX) server->team->promised[slot] = member;
  conn->fd = -1; /* it is theirs: not to be shut down */
  npi_conn_discard(&conn->base);
  return true;
}

/* The first of our own places that can be used; a new one needs a slot. */
static npi_place* own_place(npi_unix_server* server, unsigned slot) {
  npi_place* place = server->first_place;
  while (place != NULL &&
         ((place->conn == NULL && slot == 0) || !npi_place_ready(place)))
    place = place->next;
  return place;
}

static bool own_take(npi_unix_server* server, npi_unix_conn* conn,
                     unsigned slot) {
  npi_place* place = own_place(server, slot);
  if (place == NULL) return false;
  unsigned used = place->conn == NULL && slot <= NPI_SLOTS_MAX ? slot : 0;
  if (used != 0 && npi_share_slot_take(&server->team->share, used) != 0)
    return false;
  server->team->own_turn = false;
  npi_greet_admit(server, conn, place, used);
  return true;
}

/* To the end of the row. */
static void member_rotate(npi_team* team, npi_member* member) {
  npi_member** at = &team->members;
  while (*at != member) at = &(*at)->next;
  *at = member->next;
  member->next = NULL;
  while (*at != NULL) at = &(*at)->next;
  *at = member;
}

static bool members_take(npi_unix_server* server, npi_unix_conn* conn,
                         unsigned slot) {
  npi_team* team = server->team;
  for (npi_member* m = team->members; m != NULL; m = m->next) {
    bool fresh = m->new_places > 0 && slot != 0;
    if (!fresh && m->again_places == 0) continue;
    if (!member_send(server, m, conn, fresh ? slot : 0)) continue;
    member_rotate(team, m);
    return true;
  }
  return false;
}

bool npi_team_take(npi_unix_server* server, npi_unix_conn* conn) {
  npi_team* team = server->team;
  unsigned slot = member_find_slot(team);
  if (team->own_turn && own_take(server, conn, slot)) return true;
  if (members_take(server, conn, slot)) {
    /* Once round: the row is as long as it is. */
    if (++team->served >= team->member_count) {
      team->own_turn = true;
      team->served = 0;
    }
    return true;
  }
  return !team->own_turn && own_take(server, conn, slot);
}
