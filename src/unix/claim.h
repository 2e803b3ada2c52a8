/*
 * The claim on a name: at most one server holds it (MP2), and it ends with the
 * server, however that ends (CL7).
 */
#ifndef NPI_UNIX_CLAIM_H
#define NPI_UNIX_CLAIM_H

#include <sys/types.h>

#include "path.h"

typedef struct npi_claim {
  npi_path path;
  int lock_fd;
  dev_t socket_device; /* the socket file we made */
  ino_t socket_inode;
} npi_claim;

/* A claim on claim->path, not made yet, has lock_fd -1.
 *
 * Claims claim->path and gives the listening socket in *fd, its file having
 * `mode` before anyone can connect. All or nothing.
 * UV_EADDRINUSE: a live server has it. UV_EEXIST: a foreign file is there and
 * was not touched. UV_EACCES, UV_EMFILE. */
int npi_claim_take(npi_claim* claim, mode_t mode, int* fd);

/* Removes the name; connections made through it go on. Does not close the
 * listening socket. */
void npi_claim_drop(npi_claim* claim);

/* ---- the same in steps, for a name that several servers share */
/* Locks the name: 0, UV_EADDRINUSE ... */
int npi_claim_lock(npi_claim* claim);
/* Makes the socket, in the place of a dead one. Needs the lock. */
int npi_claim_listen(npi_claim* claim, mode_t mode, int* fd);
/* Lets go of the lock and removes its file: nobody has the name. */
void npi_claim_unlock(npi_claim* claim);
/* Shares the lock of another server by a copy of its descriptor. */
void npi_claim_adopt(npi_claim* claim, int lock_fd);
/* Gives this copy up; the name lives. */
void npi_claim_leave(npi_claim* claim);
/* Does anybody listen at the socket? */
bool npi_claim_is_served(const npi_claim* claim);
/* UV_EADDRINUSE, and says so. */
int npi_claim_in_use(const npi_claim* claim);

#endif /* NPI_UNIX_CLAIM_H */
