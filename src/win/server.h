/*
 * A server on the kernel's pipes, for server.c and claim.c.
 */
#ifndef NPI_WIN_SERVER_H
#define NPI_WIN_SERVER_H

#include "win.h"

#define NPI_SERVER_LISTENERS_MAX 4u
#define NPI_SERVER_SLOTS \
  (NPI_SERVER_LISTENERS_MAX + 1) /* one is being handed out */

typedef struct npi_server_slot {
  HANDLE pipe; /* NULL: the slot is free */
  npi_wait wait;
  bool pending;   /* ConnectNamedPipe() is under way */
  bool connected; /* a client is there, or was */
} npi_server_slot;

struct npi_win_server {
  npipe_server base;
  uv_async_t wake;  /* from the pool; keeps the loop alive */
  uv_timer_t retry; /* when no instance could be made and none listens */
  unsigned handles;
  PSECURITY_DESCRIPTOR security;
  npi_server_slot slots[NPI_SERVER_SLOTS];
  npi_server_slot* listening[NPI_SERVER_SLOTS];
  unsigned listeners;
  bool repeat; /* the retry at once was already done */
  bool joined; /* the name was another server's first */
  bool closed; /* npi_server_closed() was called */
  bool over;   /* npi_os_server_end() was */
  WCHAR path[NPI_PATH_UNITS];
};

/* ---- claim.c */
/* The first instance of this server, in slots[0]: makes the name live, or joins
 * it. 0 or UV_E*, with words. */
int npi_server_claim(npi_win_server* server);
/* One more instance in a free slot, not yet watched. 0 or a Win32 error. */
DWORD npi_server_add(npi_win_server* server, npi_server_slot* slot);
/* Closes the slot's pipe. */
void npi_server_drop(npi_server_slot* slot);

#endif /* NPI_WIN_SERVER_H */
