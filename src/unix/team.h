/*
 * Several servers of one name (options.shared): one of them leads, see team.c.
 */
#ifndef NPI_UNIX_TEAM_H
#define NPI_UNIX_TEAM_H

#include "server.h"
#include "share.h"
#include "wire.h"

/* Servers of one name that the leader takes, besides itself. */
#define NPI_MEMBERS_MAX 64u

/* Another server, as the leader sees it (member.c). */
typedef struct npi_member {
  struct npi_member* next;
  npi_wire* wire;
  uint32_t takes; /* clients it was sent */
  /* how many more it can take, new instances and such that listen again */
  unsigned new_places;
  unsigned again_places;
} npi_member;

struct npi_team {
  npi_share share;
  bool leads;
  uv_timer_t timer; /* looks for a leader, or for what settles */

  /* a member (team.c) */
  npi_wire* link; /* to the leader; NULL: none */
  bool joined;    /* it has answered */
  bool troubled;  /* the program was told that joining fails */
  uint32_t takes; /* clients it has sent */
  bool told;      /* it knows the two numbers */
  unsigned told_new;
  unsigned told_again;

  /* the leader (member.c) */
  npi_member* members; /* the one that is next in turn comes first */
  unsigned member_count;
  bool own_turn;   /* we are before them */
  unsigned served; /* since then */
  unsigned settle_ticks;
  /* by slot: the member that was sent a client for it and has not said yet
   * that it came */
  const void* promised[NPI_SLOTS_MAX + 1];
};

/* ---- team.c */
/* Makes the name live, or joins those who have it. As npi_os_server_open(), but
 * nothing is on the loop yet. */
int npi_team_open(npi_unix_server* server);
/* After a successful open, once the server's own handles are made. */
void npi_team_begin(npi_unix_server* server);
/* Leaves. True: nobody else has the name, it is gone. */
bool npi_team_end(npi_unix_server* server);
/* The memory, when all handles are closed. */
void npi_team_free(npi_unix_server* server);
/* The server's turn: the leader is told what has changed here. */
void npi_team_turn(npi_unix_server* server);
bool npi_team_leads(const npi_unix_server* server);

/* These also for servers that share nothing. */
unsigned npi_team_instances(npi_unix_server* server);
void npi_team_slot_free(npi_unix_server* server, unsigned slot);

/* ---- member.c: only the leader */
/* Somebody has come or gone: for a moment it is not known what can be taken. */
void npi_team_settle(npi_unix_server* server);
bool npi_team_settles(const npi_unix_server* server);
/* How many clients could be taken. */
unsigned npi_team_places(npi_unix_server* server);
/* Lets a greeted client in here or elsewhere. False: no place is free. */
bool npi_team_take(npi_unix_server* server, npi_unix_conn* conn);
/* A JOIN has come. conn is dealt with. Also for servers that share nothing. */
void npi_team_join(npi_unix_server* server, npi_unix_conn* conn);
void npi_team_dismiss(npi_unix_server* server);

#endif /* NPI_UNIX_TEAM_H */
