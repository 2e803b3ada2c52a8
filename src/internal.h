/*
 * What the shared files of the library know of each other.
 *
 * The objects here are the common part of a server and of a connection; the
 * backend (src/unix or src/win) puts its own part behind them, see backend.h.
 * Nothing here names an operating system.
 *
 * Who may change what: the fields of a struct belong to the file named beside
 * them. Everything runs on the loop's thread, so there is no lock.
 */
#ifndef NPI_INTERNAL_H
#define NPI_INTERNAL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "npipe.h"

#if defined(__GNUC__)
#define NPI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define NPI_PRINTF(fmt, args)
#endif
#if defined(_MSC_VER)
#define NPI_THREAD_LOCAL __declspec(thread)
#else
#define NPI_THREAD_LOCAL _Thread_local
#endif

/* The struct that holds `member`, from a pointer to that member. */
#define NPI_CONTAINER(pointer, type, member) \
  ((type*) (void*) ((char*) (pointer) -offsetof(type, member)))

/* ---- memory (alloc.c): the one way to the heap; NULL when there is none.
 * npi_calloc zeroes and refuses sizes that overflow. */
void* npi_malloc(size_t size);
void* npi_calloc(size_t count, size_t size);
void* npi_realloc(void* memory, size_t size);
void npi_free(void* memory);

/* ---- errors (error.c) */
/* Remembers what went wrong for npipe_last_error(), and returns code. */
int npi_fail(int code, int os_code, const char* format, ...) NPI_PRINTF(3, 4);
/* Before a callback with this status: makes it the last failure, in general
 * words. Nothing for success. */
void npi_tell(int status);
/* Makes a remembered failure the last one again. */
void npi_fail_again(const npipe_error* error);

/* ---- names (name.c, fold.c): pure */
#define NPI_NAME_UNITS_MAX 247 /* UTF-16 units of NAME: 256 less the prefix */

typedef struct npi_name {
  char text[NPIPE_NAME_BYTES]; /* NAME as given, without the prefix, UTF-8 */
} npi_name;

/* Checks a name as the user gave it and cuts the prefix off. 0, UV_EINVAL,
 * UV_ENAMETOOLONG; reports through npi_fail(). */
int npi_name_parse(npi_name* name, const char* text);

/* Reads one code point of valid or invalid UTF-8; -1 and *text unchanged if
 * the bytes are not UTF-8. */
int32_t npi_utf8_next(const char** text);

/* The upper-case partner that Windows compares by; the unit itself if it has
 * none. UTF-16 units, one by one: surrogates are not touched. */
uint16_t npi_fold_unit(uint16_t unit);

/* NAME folded, as UTF-8. folded has NPIPE_NAME_BYTES. Two names are the same
 * pipe if and only if this gives the same bytes. */
void npi_name_fold(const npi_name* name, char* folded);

/* ---- queues: first in, first out, linked through the element */
typedef struct npi_op npi_op;

typedef struct npi_queue {
  npi_op* head;
  npi_op* tail;
} npi_queue;

void npi_queue_push(npi_queue* queue, npi_op* op);
npi_op* npi_queue_pop(npi_queue* queue);
/* Takes op out, wherever it stands; false if it is not there. */
bool npi_queue_remove(npi_queue* queue, npi_op* op);

/* ---- operations (op.c) */
typedef enum npi_op_kind {
  NPI_OP_READ,
  NPI_OP_TRANSACT, /* a read with a request that goes before it */
  NPI_OP_WRITE,
  NPI_OP_FLUSH,
  NPI_OP_LISTEN
} npi_op_kind;

#define NPI_OP_BUFS 4u /* this many buffers need no memory of their own */

struct npi_op {
  npi_op* next;
  uint64_t id;
  npi_op_kind kind;
  int status;
  uint64_t deadline_ms; /* on the loop's clock; 0: none */
  void* arg;
  union {
    struct { /* READ, TRANSACT */
      char* data;
      size_t size;
      size_t got;
      unsigned flags;
      npi_op* request; /* TRANSACT: the write, until the backend took it */
      npipe_read_cb cb;
    } read;
    struct {          /* WRITE */
      uv_buf_t* bufs; /* small, or memory of the op's own */
      unsigned nbufs;
      uv_buf_t small[NPI_OP_BUFS];
      size_t bytes;      /* the sum of the buffers */
      void* owned;       /* our copy of the data */
      bool request;      /* of a TRANSACT: has no callback, is not counted, and
                            the quota does not hold it back */
      npipe_write_cb cb; /* NULL for npipe_try_write() and a request */
    } write;
    npipe_done_cb done_cb; /* FLUSH, LISTEN */
  } u;
  /* npi_os_op_size bytes of the backend's follow: npi_op_os(). */
};

/* A new operation of this connection, its backend part zeroed; NULL without
 * memory. */
npi_op* npi_op_new(npipe_conn* conn, npi_op_kind kind);
/* Gives it back to the connection, with what it owns. */
void npi_op_free(npipe_conn* conn, npi_op* op);
void* npi_op_os(npi_op* op);
npi_op* npi_op_from_os(void* os);

/* ---- server (server.c) */
typedef enum npi_server_state {
  NPI_SERVER_NEW,
  NPI_SERVER_LISTENING,
  NPI_SERVER_CLOSING
} npi_server_state;

/* Connections of a server, linked through next and prev. */
typedef struct npi_conn_list {
  npipe_conn* head;
  npipe_conn* tail;
} npi_conn_list;

struct npipe_server {
  uv_loop_t* loop;
  npi_name name;
  npipe_server_options options; /* every default filled in; quotas in bytes,
                                   strings our own copies */
  npi_server_state state;
  unsigned instances;    /* connections that hold one, accepted or not */
  unsigned waiting;      /* of them not accepted yet */
  npi_conn_list arrived; /* those, in the order in which they connected */
  bool ending;           /* the last end has gone, too */
  npipe_connection_cb connection_cb;
  void* connection_arg;
  npipe_server_close_cb close_cb;
  void* close_arg;
};

/* ---- connection (conn.c, read.c, write.c) */
typedef enum npi_conn_state {
  NPI_CONN_NEW,          /* allocated; the program does not know it */
  NPI_CONN_CONNECTING,   /* client, before the connect callback */
  NPI_CONN_LISTENING,    /* server's end, waits for its next client */
  NPI_CONN_OPEN,         /* connected; perhaps at its end, see read_end */
  NPI_CONN_DISCONNECTED, /* by the server; a server's end can listen again */
  NPI_CONN_FAILED,       /* client whose connect failed; only close is left */
  NPI_CONN_CLOSING       /* close was called */
} npi_conn_state;

struct npipe_conn {
  uv_loop_t* loop;
  uv_idle_t turn; /* active while there is work for the next loop turn */
  npi_conn_state state;

  /* what the pipe is; the backend sets it before the connection is open */
  npipe_type type;
  npipe_read_mode read_mode; /* BYTES or MESSAGES once open */
  bool can_read;
  bool can_write;
  uint32_t message_max_bytes;
  npipe_direction direction; /* these four for a client's end only; a server's
                                gets them from its server */
  uint32_t in_quota;
  uint32_t out_quota;
  unsigned max_instances;

  /* a server's end */
  bool is_server;
  npipe_server* server; /* whose instance it holds; NULL: none */
  npipe_conn* next;
  npipe_conn* prev;
  bool accepted;

  /* reading (read.c) */
  npi_queue reads;           /* npipe_read()s not finished, in order */
  npipe_stream_cb stream_cb; /* not NULL: a stream is under way */
  void* stream_arg;
  size_t whole_max_bytes;
  int read_end; /* 0, or the code that every read gets from now on */

  /* writing (write.c) */
  int try_status; /* how npipe_try_write() ended, if it did at once */
  size_t queued_bytes;
  unsigned queued_writes; /* not finished, also empty ones */

  /* waiting (flush.c, instance.c, deadline.c) */
  npi_queue waits;  /* FLUSH and LISTEN, not finished, in order */
  uv_timer_t clock; /* for the nearest deadline */
  bool has_clock;
  bool late; /* the time is over; one more look at the socket */
  uint32_t linger_ms;

  /* operations (op.c) */
  npi_queue done;  /* finished, the callback is owed, in order */
  npi_queue spare; /* for the next operations */
  unsigned spares;
  uint64_t last_id;

  npipe_connect_cb connect_cb; /* not NULL: the callback is owed */
  void* connect_arg;
  int connect_status;
  bool connect_done;
  bool wait_only;       /* npipe_wait(): is never open */
  unsigned own_handles; /* turn and clock, not closed yet */
  npipe_error* trouble; /* why the connect failed; NULL if it has not, or
                           without memory */
  npipe_close_cb close_cb;
  void* close_arg;
  void* data;
};

/* A connection of the backend's size, its turn handle on the loop; NULL
 * without memory. The backend makes those of a server with it, too. */
npipe_conn* npi_conn_new(uv_loop_t* loop);

/* Closes a connection that the program never came to know. Safe at any time
 * after npi_conn_new(), from the loop's thread. */
void npi_conn_discard(npipe_conn* conn);

/* ---- open.c and call.c: npipe_connect() and what is made of it */
typedef enum npi_connect_for {
  NPI_CONNECT_TO_OPEN,
  NPI_CONNECT_TO_WAIT
} npi_connect_for;
int npi_connect(uv_loop_t* loop, const char* name, int timeout_ms,
                const npipe_client_options* options, npi_connect_for purpose,
                npipe_connect_cb cb, void* arg, npipe_conn** conn);

/* Is this a connection that the program may work with? 0, UV_EBADF (closed),
 * UV_ENOTCONN; `what` is for the words. */
int npi_conn_check(const npipe_conn* conn, const char* what);
/* The same, and it must be able to read resp. to write. */
int npi_read_check(const npipe_conn* conn, const char* what);
int npi_write_check(const npipe_conn* conn, const char* what);

/* Cancels every read and stops the stream, for the close. */
void npi_read_cancel_all(npipe_conn* conn);
/* Ends a read or transaction early. */
int npi_read_abort(npipe_conn* conn, npi_op* op, int status);
/* Every read from now on, and every pending one, ends with status; the stream
 * is told in the next turn. The backend has let go of them. */
void npi_read_cut(npipe_conn* conn, int status);
/* If the end of reading is known, the stream is told. From the loop. */
void npi_stream_end(npipe_conn* conn);

/* A write that owns a copy of its data; NULL without memory. */
npi_op* npi_write_copy(npipe_conn* conn, const uv_buf_t bufs[], unsigned nbufs,
                       size_t bytes);
/* Adds the buffers up; UV_EINVAL, UV_EMSGSIZE. */
int npi_write_sum(const npipe_conn* conn, const uv_buf_t bufs[], unsigned nbufs,
                  size_t* sum);

/* Gives op, which is pending, its time; timeout_ms < 0: none. */
void npi_deadline_set(npipe_conn* conn, npi_op* op, int timeout_ms);
/* A timeout as a function's argument: 0 or more, or NPIPE_WAIT_FOREVER? */
bool npi_timeout_valid(int timeout_ms);

/* Ends a FLUSH or LISTEN from this side: the backend lets go of it. */
void npi_wait_stop(npipe_conn* conn, npi_op* op, int status);
/* Ends all of a kind so. */
void npi_wait_stop_all(npipe_conn* conn, npi_op_kind kind, int status);

/* The callback of op is owed. */
void npi_op_finish(npipe_conn* conn, npi_op* op, int status);

/* Asks for a call of the turn soon: npi_os_conn_turn() and owed callbacks. */
void npi_conn_post(npipe_conn* conn);

/* The connection gives its instance back to its server, if it still has
 * one. */
void npi_server_release(npipe_conn* conn);

#endif /* NPI_INTERNAL_H */
