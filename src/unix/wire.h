/*
 * The connection between two servers of one name: small frames of one size, in
 * which descriptors may travel.
 */
#ifndef NPI_UNIX_WIRE_H
#define NPI_UNIX_WIRE_H

#include "server.h"

#define NPI_WIRE_FDS_MAX 2u

typedef struct npi_wire {
  npi_unix_server* server;
  void* owner;
  void (*on_ready)(struct npi_wire* wire); /* npi_wire_receive() may give
                                              something */
  uv_poll_t poll;
  int fd; /* -1: closed */
  size_t have;
  uint8_t bytes[NPI_TEAM_BYTES];
  int fds[NPI_WIRE_FDS_MAX]; /* that came with the frame */
  unsigned fd_count;
} npi_wire;

/* A wire on a connected socket, which it owns on success. */
int npi_wire_new(npi_unix_server* server, int fd,
                 void (*on_ready)(npi_wire* wire), void* owner,
                 npi_wire** wire);
/* Sends a frame and copies of descriptors: 0, or why not; then nothing went. */
int npi_wire_send(npi_wire* wire, const npi_team_frame* frame, const int fds[],
                  unsigned count);
/* The next frame: 0; UV_EAGAIN: not yet; else the wire is of no use any more.
 * wire->fds are the caller's to take; those that are left are closed by the
 * next call. */
int npi_wire_receive(npi_wire* wire, npi_team_frame* frame);
/* Takes one of the descriptors; -1 if there is none. */
int npi_wire_take(npi_wire* wire, unsigned i);
/* Ends it. It is freed later, the server's handles wait for it. */
void npi_wire_close(npi_wire* wire);

#endif /* NPI_UNIX_WIRE_H */
