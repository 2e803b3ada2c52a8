/*
 * What the files of src/unix know of each other: a connection and a server on
 * a Unix-domain socket.
 */
#ifndef NPI_UNIX_UNIX_H
#define NPI_UNIX_UNIX_H

#include "backend.h"
#include "claim.h"
#include "codec.h"
#include "rxq.h"
#include "sock.h"

/* How long a peer may take for its part of the handshake. */
#define NPI_HANDSHAKE_MS 10000

typedef struct npi_unix_conn npi_unix_conn;
typedef struct npi_unix_server npi_unix_server;

/* Where the link to the peer stands. */
typedef enum npi_link {
  NPI_LINK_NONE,    /* no socket yet */
  NPI_LINK_SHAKING, /* handshake: the peer's frame is awaited */
  NPI_LINK_WAITING, /* server's end: greeted, waits for an instance */
  NPI_LINK_UP,
  NPI_LINK_DOWN /* the peer is gone; what arrived can still be read */
} npi_link;

/* Connections in the handshake, linked through their npi_shake. */
typedef struct npi_conn_ring {
  npi_unix_conn* head;
  npi_unix_conn* tail;
  unsigned count;
} npi_conn_ring;

/* Something of a server's that can take a client (places.c). */
typedef struct npi_place {
  struct npi_place* next;
  struct npi_place* prev;
  npi_unix_conn* conn; /* an instance that listens again; NULL: a new one */
  bool listed;
} npi_place;

/* What is needed until the connection is open; freed then. */
typedef struct npi_shake {
  size_t have;
  uint8_t bytes[NPI_HELLO_BYTES_MAX + 1]; /* one more shows what is too long */
  /* server's end */
  npi_unix_server* server;
  npi_conn_ring* ring; /* which of the server's it is in */
  npi_unix_conn* next;
  npi_unix_conn* prev;
  bool last_look; /* the time is over, but the answer may be there unread */
  npi_hello hello;
  /* client */
  npi_connect_request request;
  npi_path paths[2]; /* to try, in order */
  unsigned path_count;
  unsigned path_used;   /* the one that was found, for words */
  uint64_t deadline_ms; /* on the loop's clock; UINT64_MAX: none */
  unsigned tries;       /* that were lost before an answer */
  bool waits;           /* the server has said so */
  uid_t server_uid;     /* the one to accept, if request.server_user names it */
} npi_shake;

/* Part of a send that the socket did not take: it goes before all else. */
typedef struct npi_leftover npi_leftover;
/* A client that was thrown out and does not know it yet (farewell.c). */
typedef struct npi_farewell npi_farewell;

/* What has been written: in bytes and messages since the connection opened. */
typedef struct npi_count {
  uint64_t bytes;
  uint64_t messages;
} npi_count;

struct npi_unix_conn {
  npipe_conn base;
  uv_pipe_t pipe;
  uv_timer_t retry;   /* sending, without a descriptor to wait on */
  uv_timer_t timer;   /* handshake and linger; keeps the loop alive when the
                         link is down or the instance has no client */
  uv_poll_t writable; /* on a second descriptor, while the socket is full */
  int fd;             /* of pipe */
  int writable_fd;    /* -1: writable is not in use */
  unsigned handles;   /* of these, and of farewells, not closed yet */
  bool pipe_open;     /* pipe is one of them */
  bool closing;       /* npi_os_conn_close() was called */
  bool gone;          /* closing, and it lingers no more */
  bool plain;
  void* borrowed; /* a read buffer of our own, see receive.c */
  npi_link link;
  npi_shake* shake; /* while the link is NONE, SHAKING or WAITING */
  npi_peer peer;
  npi_farewell* farewells;
  unsigned farewell_count;
  npi_place place; /* while it listens again */
  unsigned slot;   /* of a shared name, from 1; 0: none (share.h) */

  /* receiving (receive.c, read.c) */
  const uint8_t* in; /* of what was taken from the socket, not decoded yet */
  size_t in_size;
  bool draining; /* nothing may be shown to the program now */
  npi_decoder decoder;
  npi_rxq rxq;
  uint32_t rx_quota;
  bool rx_none;       /* the direction brings no data to this end */
  int rx_end;         /* what comes after the queue; 0: more data */
  npi_count consumed; /* by the program */
  npi_count reported; /* of that, the peer knows */
  npi_count asked;    /* the peer wants to know when this is reached */
  bool ask_open;      /* it does, and was not told yet */

  /* sending (send.c) */
  uint32_t tx_quota;
  int tx_end;            /* not 0: nothing can be sent any more */
  npi_queue tx_waiting;  /* not or not wholly handed to the socket */
  npi_queue tx_unread;   /* handed over; beyond the quota, or in leftover */
  npi_count tx_begun;    /* bytes handed over; messages begun */
  npi_count tx_consumed; /* what the peer's program has read of it */
  npi_count tx_accepted; /* all writes so far */
  npi_count tx_done;     /* the end of the last one that is done */
  npi_count tx_asked;    /* the last ASK */
  uint64_t wire_planned; /* bytes of frames, handed over */
  uint64_t wire_sent;    /* of them in the kernel */
  npi_leftover* leftover;
};

/* The backend's part of a write or flush. */
typedef struct npi_unix_op {
  npi_count end;     /* tx_accepted with this write, or at the flush */
  bool armed;        /* a flush has begun */
  uint64_t wire_end; /* wire_planned when its last byte was handed over */
  size_t sent;       /* bytes handed over */
  unsigned buf;      /* where the next byte is */
  size_t buf_offset;
} npi_unix_op;

/* ---- conn.c */
/* The first thing to happen to a new connection. */
void npi_unix_conn_init(npi_unix_conn* conn);
/* Puts a connected socket under conn and starts to read (link SHAKING). The
 * socket is the connection's on success only. */
int npi_conn_adopt(npi_unix_conn* conn, int fd);
/* Has an instance that was disconnected no handles left of its old socket? */
bool npi_conn_bare(const npi_unix_conn* conn);
/* Puts the next client's socket under a bare instance: as npi_conn_adopt().
 * After a failure it is bare again soon. */
int npi_conn_readopt(npi_unix_conn* conn, int fd);
/* Opens the link; everything is counted from here. The quotas are those of what
 * this end receives and sends. */
void npi_link_up(npi_unix_conn* conn, uint32_t rx_quota, uint32_t tx_quota,
                 bool plain);
/* The peer is gone, or not to be trusted; status is what reads get once they
 * have read everything. Only while the link is UP, from the loop. */
void npi_link_down(npi_unix_conn* conn, int status);
/* A client's end: its server has thrown it out. */
void npi_link_cut(npi_unix_conn* conn);
/* Lets the transport go; the connection lives on without. Everything written
 * must have been finished. `shut`: the socket ends for the peer, too. */
void npi_conn_strip(npi_unix_conn* conn, bool shut);
/* One of conn->handles has closed. */
void npi_conn_handle_closed(npi_unix_conn* conn);
void npi_shake_free(npi_unix_conn* conn);
/* Keeps the loop alive while the socket is not watched. */
void npi_conn_keep_alive(npi_unix_conn* conn);
/* What the close waited for is over. */
void npi_conn_lingered(npi_unix_conn* conn);

/* ---- farewell.c */
/* Sees to it that `size` bytes of iov still reach a client, on a descriptor of
 * its own. False: it cannot. */
bool npi_farewell_begin(npi_unix_conn* conn, const struct iovec* iov,
                        size_t count, size_t size);
/* The connection is being closed: they have this much time left. */
void npi_farewell_hurry(npi_unix_conn* conn, uint32_t linger_ms);

/* ---- connect.c, greet.c: each end's part of the handshake. Bytes have been
 * added to conn->shake; or the peer is gone. From the loop. */
void npi_client_received(npi_unix_conn* conn);
void npi_client_lost(npi_unix_conn* conn);
void npi_server_received(npi_unix_conn* conn);
/* A client's end that is being closed leaves the server's lists. */
void npi_server_forget(npi_unix_conn* conn);
/* ---- places.c, server.c */
/* The transport of a server's end is closed: its slot is free. Before
 * npi_server_release(). */
void npi_server_gone(npi_unix_conn* conn);
/* An instance that listens is disconnected or closed: no client is let in. For
 * any other one nothing happens. */
void npi_server_unlisten(npi_unix_conn* conn);
/* An instance that listens has become bare. */
void npi_server_listener_ready(npi_unix_conn* conn);

/* ---- receive.c */
void npi_receive_start(npi_unix_conn* conn);
/* Takes in what the socket has by now, without a call of the program's: the
 * link may be down afterwards, or the connection disconnected. */
void npi_receive_drain(npi_unix_conn* conn);

/* ---- read.c */
/* Serves whatever is wanted from the queue. From the loop. */
void npi_read_serve(npi_unix_conn* conn);
/* Hands a whole message, or bytes, over without the queue if it is empty and
 * something waits for just that. False: nothing was done. From the loop. */
bool npi_read_direct(npi_unix_conn* conn, const uint8_t* data, size_t size);
/* Is a CONSUMED frame owed to the peer? */
bool npi_report_due(const npi_unix_conn* conn);

/* ---- flush.c */
/* Finishes the flushes that wait for what was read by now. */
void npi_flush_check(npi_unix_conn* conn);
/* Finishes all of them. */
void npi_flush_end(npi_unix_conn* conn, int status);
/* What the first of them waits for; NULL if there is none. */
const npi_count* npi_flush_wanted(const npi_unix_conn* conn);
/* Is this position of the stream behind that one, or there? */
bool npi_count_reached(npi_count count, npi_count target);

/* ---- send.c */
/* Sends what can be sent now. */
void npi_send_flush(npi_unix_conn* conn);
/* Finishes every write with status; nothing is sent any more. */
void npi_send_end(npi_unix_conn* conn, int status);
/* The peer says what its program has read. 0 or UV_EPROTO. */
int npi_send_consumed(npi_unix_conn* conn, npi_count count);
/* Is a write not done yet, and can it still be? */
bool npi_send_pending(const npi_unix_conn* conn);
/* The last words to a client that is thrown out. True if a farewell still has
 * to say them, so that the socket must not be shut down. */
bool npi_send_disconnect(npi_unix_conn* conn);
/* The last words before the close: what was read, and what is withdrawn. They
 * are lost if the socket is full. */
void npi_send_goodbye(npi_unix_conn* conn);

#endif /* NPI_UNIX_UNIX_H */
