/*
 * A server on Unix: what its files know of each other.
 *
 *   server.c  the listening socket, open and close
 *   greet.c   the handshake's answering side, and who waits
 *   places.c  what can take a client
 *   team.c    other servers of the same name
 *   member.c  what their leader knows of them
 */
#ifndef NPI_UNIX_SERVER_H
#define NPI_UNIX_SERVER_H

#include "unix.h"

/* Clients in the handshake, and clients that wait, at most. */
#define NPI_SHAKES_MAX 256u
#define NPI_WAITERS_MAX 1024u
/* New instances that listen at a time, at most. */
#define NPI_POOL_MAX 4u

typedef struct npi_team npi_team;

struct npi_unix_server {
  npipe_server base;
  npi_claim claim;
  int fd; /* the listening socket; -1: not ours to know yet (team.c) */
  uv_poll_t listener;
  bool watched; /* listener is made */
  uv_idle_t turn;
  uv_timer_t retry; /* when out of descriptors */
  unsigned handles; /* not closed yet */
  bool listening;   /* listener is active */
  bool exhausted;   /* out of descriptors; retry is active */
  bool close_owed;  /* npi_server_closed() is to be called */
  bool ended;
  npi_conn_ring shaking; /* without a HELLO */
  npi_conn_ring waiting; /* for an instance, in their order */
  npi_conn_ring asking;  /* whether one listens */
  unsigned hasty;        /* of those waiting: without time to wait */
  npi_place pool[NPI_POOL_MAX];
  npi_place* first_place;
  npi_place* last_place;
  unsigned new_places;   /* listed, of the pool */
  unsigned again_places; /* listed, instances that listen again */
  npi_team* team;        /* NULL: the name is not shared */
  char folded[NPIPE_NAME_BYTES];
};

/* ---- server.c */
/* Asks for a turn: places, waiting clients or the listener may have changed. */
void npi_server_post(npi_unix_server* server);
/* Takes the listening socket into the loop. */
int npi_server_watch(npi_unix_server* server);
/* A connection, in the ring of the shaking, on a client's socket; NULL if it
 * was dropped. The socket is taken. */
npi_unix_conn* npi_server_adopt(npi_unix_server* server, int fd);
/* Closes one of server->handles. */
void npi_server_close_handle(npi_unix_server* server, uv_handle_t* handle);
/* One of them has closed. */
void npi_server_handle_closed(npi_unix_server* server);
/* What the socket's file is made with. */
mode_t npi_server_mode(const npi_unix_server* server);

/* ---- greet.c */
/* Into a ring, from whichever it is in; NULL: into none. */
void npi_greet_move(npi_unix_conn* conn, npi_conn_ring* ring);
/* Begins the handshake with an accepted client. */
void npi_greet(npi_unix_server* server, npi_unix_conn* conn);
/* The same on a plain pipe, where there is none. */
void npi_greet_plain(npi_unix_server* server, npi_unix_conn* conn);
/* Serves those who wait, as far as it can be done now. The program is called;
 * the server may have ended. */
void npi_greet_waiting(npi_unix_server* server);
/* Lets a greeted client into a place of this server's. conn is dealt with.
 * slot: for a new instance of a shared name. */
void npi_greet_admit(npi_unix_server* server, npi_unix_conn* conn,
                     npi_place* place, unsigned slot);
void npi_greet_refuse(npi_unix_conn* conn, npi_refusal code);
/* Discards all who are in the handshake. */
void npi_greet_end(npi_unix_server* server);

/* ---- places.c */
/* As many new instances listen as there is room for; `taken` more are in use
 * than are counted. */
void npi_places_fill(npi_unix_server* server, unsigned taken);
void npi_place_remove(npi_unix_server* server, npi_place* place);
/* Can it take a client now? */
bool npi_place_ready(const npi_place* place);
/* How many clients could be taken, waiting ones included. */
unsigned npi_places_open(npi_unix_server* server);

#endif /* NPI_UNIX_SERVER_H */
