/*
 * What the files that send know of each other: plan.c lays out frames, send.c
 * gives them to the socket.
 */
#ifndef NPI_UNIX_SEND_H
#define NPI_UNIX_SEND_H

#include "unix.h"

#define NPI_BATCH_IOV 64u
#define NPI_BATCH_STAGE_BYTES 16384u

/* What leaves in one call: pieces of the stage, and memory of the program. */
typedef struct npi_batch {
  size_t count;
  size_t bytes;
  size_t staged;
  struct iovec iov[NPI_BATCH_IOV];
  uint8_t stage[NPI_BATCH_STAGE_BYTES];
} npi_batch;

struct npi_leftover {
  size_t first; /* of iov, not sent yet */
  size_t count;
  struct iovec iov[NPI_BATCH_IOV];
  uint8_t stage[]; /* what was in the batch's stage */
};

/* Lays out the next frames that may go, control frames included. What it has
 * planned must be sent. */
void npi_send_plan(npi_unix_conn* conn, npi_batch* batch);
/* Do at most quota bytes lie unread before this end, or nothing? */
bool npi_send_within_quota(const npi_unix_conn* conn, uint64_t end);
/* Writes a CONSUMED frame, NPI_COUNT_BYTES, and counts it as sent. */
size_t npi_send_report(npi_unix_conn* conn, uint8_t* out);

#endif /* NPI_UNIX_SEND_H */
