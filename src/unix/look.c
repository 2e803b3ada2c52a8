/*
 * Looking: what can be read, how the link stands, who the peer is.
 *
 * What the peer did before the call counts, so the socket is drained first; an
 * answer that waited for the loop would be out of date at once.
 */
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "unix.h"

#define USER_BYTES 1024u
#define USER_BYTES_MAX 1048576u

/* PK1: by the type of the pipe, whatever the read mode. */
int npi_os_peek(npipe_conn* base, void* data, size_t size,
                npipe_peek_info* info) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  const uint8_t* front;
  size_t left;
  npi_receive_drain(conn);
  if (base->state != NPI_CONN_OPEN) return UV_ECONNABORTED;
  if (!npi_rxq_front(&conn->rxq, &front, &left)) return conn->rx_end;
  info->size = npi_rxq_copy(&conn->rxq, data, size);
  info->available = (size_t) conn->rxq.bytes;
  if (base->type != NPIPE_MESSAGE) return 0;
  info->left = left - info->size;
  info->messages = conn->rxq.message_count;
  return 0;
}

npipe_state npi_os_state(npipe_conn* base) {
  npi_unix_conn* conn = (npi_unix_conn*) base;
  npi_receive_drain(conn);
  if (base->state != NPI_CONN_OPEN) return NPIPE_STATE_DISCONNECTED;
  bool closing = conn->link != NPI_LINK_UP || conn->rx_end != 0;
  return closing ? NPIPE_STATE_CLOSING : NPIPE_STATE_CONNECTED;
}

/* ---- the peer */

/* The name of a user in memory of ours; false if there is none, or no memory.
 */
static bool peer_user(uid_t uid, char* name, size_t size) {
  struct passwd entry;
  struct passwd* found = NULL;
  bool known = false;
  int err = ERANGE;
  for (size_t room = USER_BYTES; err == ERANGE && room <= USER_BYTES_MAX;
       room *= 2) {
    char* memory = npi_malloc(room);
    if (memory == NULL) return false;
    err = getpwuid_r(uid, &entry, memory, room, &found);
    if (err == 0 && found != NULL && strlen(entry.pw_name) < size) {
      memcpy(name, entry.pw_name, strlen(entry.pw_name) + 1);
      known = true;
    }
    npi_free(memory);
  }
  return known;
}

void npi_os_peer(npipe_conn* base, unsigned want, npipe_peer* peer) {
  const npi_peer* known = &((npi_unix_conn*) base)->peer;
  if ((want & NPIPE_PEER_PID) && known->pid > 0) {
    peer->pid = (uint64_t) known->pid;
    peer->known |= NPIPE_PEER_PID;
  }
  if (want & NPIPE_PEER_ID) {
    snprintf(peer->id, sizeof peer->id, "%lu", (unsigned long) known->uid);
    peer->known |= NPIPE_PEER_ID;
  }
  if (want & NPIPE_PEER_GROUP) {
    peer->gid = known->gid;
    peer->known |= NPIPE_PEER_GROUP;
  }
  if ((want & NPIPE_PEER_USER) &&
      peer_user(known->uid, peer->user, sizeof peer->user))
    peer->known |= NPIPE_PEER_USER;
}
