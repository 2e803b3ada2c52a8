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

/* Claims claim->path and gives the listening socket in *fd, its file having
 * `mode` before anyone can connect. All or nothing.
 * UV_EADDRINUSE: a live server has it. UV_EEXIST: a foreign file is there and
 * was not touched. UV_EACCES, UV_EMFILE. */
int npi_claim_take(npi_claim* claim, mode_t mode, int* fd);

/* Removes the name; connections made through it go on. Does not close the
 * listening socket. */
void npi_claim_drop(npi_claim* claim);

#endif /* NPI_UNIX_CLAIM_H */
