/*
 * The receive queue: what has arrived and was not read. Pure memory.
 *
 * A message can be read once it is complete, never in part: a peer that dies
 * in the middle of a message leaves nothing behind (CL5). Bytes of a byte pipe
 * can be read as they come.
 */
#ifndef NPI_UNIX_RXQ_H
#define NPI_UNIX_RXQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct npi_block npi_block;

typedef struct npi_rxq {
  npi_block* head; /* what can be read */
  npi_block* tail;
  npi_block* part; /* the message that is still arriving */
  uint32_t part_total;
  uint32_t front_left; /* of the message at the front, once it was looked at */
  bool front_open;
  bool messages;          /* a message pipe */
  bool lent_unlinked;     /* lent is not in the list any more */
  npi_block* lent;        /* what it holds is being shown */
  uint64_t bytes;         /* unread and complete */
  uint32_t message_count; /* of them; the one at the front counts until it is
                             read to its end */
} npi_rxq;

void npi_rxq_init(npi_rxq* queue, bool messages);
/* Forgets and frees everything. */
void npi_rxq_clear(npi_rxq* queue);

/* Appends bytes of a byte pipe. 0 or UV_ENOMEM. */
int npi_rxq_push_bytes(npi_rxq* queue, const uint8_t* data, size_t size);

/* Appends a piece of a message: `first` begins one of `total` bytes, `last`
 * completes it. data may lie where npi_rxq_room() said. 0 or UV_ENOMEM. Memory
 * is taken as data arrives, not as total promises. */
int npi_rxq_push_piece(npi_rxq* queue, const uint8_t* data, size_t size,
                       bool first, bool last, uint32_t total);

/* Where the next bytes of the message that is arriving can go, at most `want`
 * of them. NULL if there is none, or without memory. */
uint8_t* npi_rxq_room(npi_rxq* queue, size_t want, size_t* room);

/* What is at the front: the rest of the first message, or some bytes. false if
 * nothing is. The data stays where it is until it is dropped. */
bool npi_rxq_front(npi_rxq* queue, const uint8_t** data, size_t* size);

/* Takes size bytes off the front; a message goes with its last byte, an empty
 * one with size 0. True if a message went. */
bool npi_rxq_drop(npi_rxq* queue, size_t size);

/* The same, but their memory stays, whatever happens to the queue, until
 * npi_rxq_release(). One at a time. */
bool npi_rxq_lend(npi_rxq* queue, size_t size);
void npi_rxq_release(npi_rxq* queue);

/* Copies bytes from the front, which stay; returns how many. At most the first
 * message. */
size_t npi_rxq_copy(npi_rxq* queue, void* out, size_t size);

/* Drops what stands behind the first `keep` unread messages, the begun one
 * included, or behind as many bytes of a byte pipe; and what is arriving. */
void npi_rxq_cut(npi_rxq* queue, uint64_t keep);

#endif /* NPI_UNIX_RXQ_H */
