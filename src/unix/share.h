/*
 * What the servers of a shared name have in common: a file beside the socket
 * that tells what the first one decided, and locks on it that die with their
 * holder.
 */
#ifndef NPI_UNIX_SHARE_H
#define NPI_UNIX_SHARE_H

#include "internal.h"

/* Slots are numbered from 1 to max_instances, 254 at most; with no limit of
 * instances (255) there are none. */
#define NPI_SLOTS_MAX 254u

typedef struct npi_share {
  int fd; /* -1: none */
  unsigned slots;
  bool held[NPI_SLOTS_MAX + 1]; /* by us: the kernel tells of others only */
} npi_share;

/* Opens the file; `make`: also if it is not there. Nothing is locked.
 * UV_ENOENT; UV_EEXIST: not npipe's; UV_EACCES: not ours; UV_ENOTSUP: this
 * system has no locks of this kind. */
int npi_share_open(npi_share* share, const char* path, bool make);
/* Lets go of every lock and closes. */
void npi_share_close(npi_share* share);
/* Does the path still lead to this file? */
bool npi_share_same(const npi_share* share, const char* path);

/* Alive: each server holds this from its creation to its end. 0 or
 * UV_EAGAIN: somebody is just making or removing the name. */
int npi_share_live(npi_share* share);
/* Alone: 0 if nobody else is alive; then nobody becomes so until the close, or
 * npi_share_live(). UV_EAGAIN, and we are not alive any more either. */
int npi_share_alone(npi_share* share);
bool npi_share_others(const npi_share* share);
/* Does anybody live who shares the name? For clients; false also if that
 * cannot be known. */
bool npi_share_lives(const char* path);

/* Removes what a shared name has left. Needs the lock of the name. False:
 * somebody lives who shares it. A file that is not npipe's stays. */
bool npi_share_remove(const char* path);

/* Leading: one of those alive. UV_EAGAIN: somebody else does. */
int npi_share_lead(npi_share* share);
void npi_share_unlead(npi_share* share);

/* What the first server decided. Reading puts it in the place of what options
 * say, but for type and direction, which are given back; it checks all of it:
 * UV_EEXIST. */
int npi_share_write(npi_share* share, const npipe_server_options* options);
int npi_share_read(npi_share* share, npipe_server_options* options,
                   npipe_type* type, npipe_direction* direction);

/* A slot that nobody holds and that is not in `taken` (by slot); 0: none. */
unsigned npi_share_slot_find(const npi_share* share, const void* const* taken);
/* How many there are such as that. */
unsigned npi_share_slots_free(const npi_share* share, const void* const* taken);
int npi_share_slot_take(npi_share* share, unsigned slot);
/* Nothing for a slot that is not one. */
void npi_share_slot_free(npi_share* share, unsigned slot);

#endif /* NPI_UNIX_SHARE_H */
