/*
 * npipe - Windows named pipes on every system.
 *
 * On Windows npipe works with real named pipes; on POSIX it keeps the same
 * contract over Unix-domain sockets. Programs see one API and one behaviour:
 *
 *   - Only a server creates a name. A client connects to a name that exists,
 *     to a free instance of it, or is told why not.
 *   - A BYTE pipe is a stream. On a MESSAGE pipe each write is one message and
 *     is read back as one message, whatever its size; an empty message is a
 *     message and never the end.
 *   - What was reported as written reaches a peer that goes on reading, even
 *     if the writer closes right afterwards.
 *
 * A server that answers each message with the same message:
 *
 *     static void on_written(npipe_conn* conn, int status, void* copy) {
 *       free(copy);
 *     }
 *     static void on_message(npipe_conn* conn, int status, const void* data,
 *                            size_t size, unsigned flags, void* arg) {
 *       if (status < 0) {            // UV_EOF: the client has closed
 *         npipe_close(conn, NULL, NULL);
 *         return;
 *       }
 *       char* copy = malloc(size + 1);  // a write borrows its data
 *       memcpy(copy, data, size);
 *       uv_buf_t buf = uv_buf_init(copy, (unsigned) size);
 *       npipe_write(conn, &buf, 1, NULL, on_written, copy);
 *     }
 *     static void on_client(npipe_server* server, int status, void* arg) {
 *       npipe_conn* conn;
 *       if (status == 0 && npipe_accept(server, &conn) == 0)
 *         npipe_read_start(conn, 0, on_message, NULL);
 *     }
 *     int main(void) {
 *       npipe_server* server;
 *       npipe_server_options options = {.type = NPIPE_MESSAGE};
 *       if (npipe_server_create(uv_default_loop(), "mynamedpipe", &options,
 *                               on_client, NULL, &server) < 0)
 *         return fprintf(stderr, "%s\n", npipe_last_error()->text), 1;
 *       return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
 *     }
 *
 * Rules that hold for every function
 *
 *   Threads    A server and a connection belong to the thread that runs their
 *              loop; call every function there. Different loops are
 *              independent of each other.
 *   Callbacks  Each operation that returned 0 calls back exactly once, from
 *              the loop, never inside the call that started it. Any function
 *              of this header may be called inside any callback. The close
 *              callback is the last one of its handle.
 *   Results    0, or a negative UV_E* code of libuv with one meaning each (see
 *              "Errors"). The return value reports misuse, limits and lack of
 *              memory; what the pipe itself said arrives in the callback.
 *   Ownership  Handles are made and freed by the library: never free one, and
 *              do not touch it after its close callback. Names and options are
 *              copied. Written data is borrowed until the write's callback,
 *              data shown to a read callback is lent until it returns.
 *   The loop   An open server or connection keeps its loop alive. The library
 *              puts handles of its own on the loop; a program that uses
 *              uv_walk() must not close handles it did not make.
 *
 * Rule ids such as RD7 name rows of docs/semantics.md, where each rule of
 * Windows' named pipes stands beside what npipe does and the test that shows
 * it.
 */
#ifndef NPIPE_H
#define NPIPE_H

#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#if defined(NPIPE_SHARED) && defined(_WIN32) && defined(NPIPE_BUILD)
#define NPIPE_API __declspec(dllexport)
#elif defined(NPIPE_SHARED) && defined(_WIN32)
#define NPIPE_API __declspec(dllimport)
#elif defined(__GNUC__)
#define NPIPE_API __attribute__((visibility("default")))
#else
#define NPIPE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define NPIPE_VERSION_MAJOR 0
#define NPIPE_VERSION_MINOR 1
#define NPIPE_VERSION_PATCH 0

/* The version of the library in use: major << 16 | minor << 8 | patch. It can
 * differ from the macros above when the library is a shared one. */
NPIPE_API unsigned npipe_version(void);

/* ---------------------------------------------------------------- Errors
 *
 *   UV_ENOENT        no pipe of that name                      (Windows 2)
 *   UV_EBUSY         no instance of it is free                 (231)
 *   UV_ETIMEDOUT     none became free, or the peer did not answer, in time
 *                                                              (121)
 *   UV_EACCES        permission denied, by either side; also a direction that
 *                    the pipe does not have                    (5)
 *   UV_EADDRINUSE    the name has a live server                (5, 231)
 *   UV_EEXIST        Unix: a file that is no pipe of npipe's stands where the
 *                    pipe's own should go; it was not touched
 *   UV_EINVAL        a bad argument                            (87, 123)
 *   UV_ENAMETOOLONG  the name is too long, or its directory    (206)
 *   UV_EMSGSIZE      a message beyond the limit
 *   UV_EOF           reading: the peer has closed and all was read   (109)
 *   UV_EPIPE         writing: the peer has closed              (232, 109)
 *   UV_ECONNABORTED  the server disconnected this pipe         (233)
 *   UV_ENOTCONN      not connected yet                         (536)
 *   UV_ECANCELED     the operation was cancelled, or its handle closed
 *   UV_EPROTO        Unix: the peer broke the protocol; the connection is over
 *   UV_EMFILE        out of descriptors or handles
 *   UV_ENOMEM        out of memory
 *   UV_ENOTSUP       this kind of pipe, or this system, cannot do it
 *
 * That more of a message follows is not an error but the flag NPIPE_MORE.
 */

/* What the last failure in this thread was about. */
typedef struct npipe_error {
  int code;       /* UV_E*, 0 if nothing has failed yet */
  int os_code;    /* errno or GetLastError() behind it, 0 if none */
  char text[256]; /* what, where, why and what to do; for people and logs */
} npipe_error;

/* Describes the last failure that the library reported in this thread, by
 * return value or to a callback. Never NULL; valid until the next npipe call
 * or callback in this thread. The text holds names and paths the program gave,
 * never data of a peer. */
NPIPE_API const npipe_error* npipe_last_error(void);

/* A short English text for one of the codes above, e.g. "the pipe is busy".
 * Falls back to uv_strerror(). Never NULL; static storage. */
NPIPE_API const char* npipe_strerror(int code);

/* ---------------------------------------------------------------- Names
 *
 * A pipe is named NAME or \\.\pipe\NAME, in UTF-8, on every system. NAME has 1
 * to 247 UTF-16 units (256 with the prefix, NM2); letters compare without
 * regard to case, folded one by one as Windows does and independent of the
 * locale (NM3). A backslash or slash inside NAME, a NUL, invalid UTF-8 and a
 * server other than "." are refused with UV_EINVAL on both systems, because
 * Windows' own calls do not agree on what they mean (NM4, NM5, NM7).
 *
 * Windows: the pipe file system of the machine.
 * Unix: a socket in a directory of the user's; docs/names.md has the rule.
 */

/* Room for any NAME in UTF-8, with its terminating NUL. */
#define NPIPE_NAME_BYTES 768

/* ---------------------------------------------------------------- Options */

typedef struct npipe_server npipe_server; /* a name and its instances */
typedef struct npipe_conn npipe_conn;     /* one end of a connected instance */

/* What a pipe carries (CR1). */
typedef enum npipe_type {
  NPIPE_BYTE = 0,   /* a stream of bytes */
  NPIPE_MESSAGE = 1 /* messages; on Windows PIPE_TYPE_MESSAGE */
} npipe_type;

/* Which way data flows, seen from the server as in CreateNamedPipe. */
typedef enum npipe_direction {
  NPIPE_DUPLEX = 0,
  NPIPE_INBOUND = 1, /* client to server only */
  NPIPE_OUTBOUND = 2 /* server to client only */
} npipe_direction;

/* What a client asks for; it must fit the pipe's direction (OP3). */
typedef enum npipe_access {
  NPIPE_READ_WRITE = 0,
  NPIPE_READ_ONLY = 1,
  NPIPE_WRITE_ONLY = 2
} npipe_access;

/* How an end reads (RD1, RD2). */
typedef enum npipe_read_mode {
  NPIPE_READ_AS_TYPE = 0, /* messages on a message pipe, else bytes */
  NPIPE_READ_BYTES = 1,   /* bytes; on a message pipe boundaries are lost */
  NPIPE_READ_MESSAGES = 2 /* message pipes only, else UV_EINVAL */
} npipe_read_mode;

/* Who may connect, decided before the name can be seen. */
typedef enum npipe_allow {
  NPIPE_ALLOW_OWNER = 0,   /* the server's user; and root or SYSTEM and
                              Administrators */
  NPIPE_ALLOW_GROUP = 1,   /* also the primary group of the server's user */
  NPIPE_ALLOW_EVERYONE = 2 /* every user of this machine */
} npipe_allow;

/* Where a name lives. Windows has one place for all and ignores this. */
typedef enum npipe_scope {
  NPIPE_SCOPE_DEFAULT = 0, /* server: USER; client: USER, then MACHINE */
  NPIPE_SCOPE_USER = 1,    /* $NPIPE_DIR, $XDG_RUNTIME_DIR/npipe or a private
                              directory under the temporary one */
  NPIPE_SCOPE_MACHINE = 2  /* /run/npipe or /var/run/npipe, for services */
} npipe_scope;

#define NPIPE_INSTANCES_UNLIMITED 255u
#define NPIPE_QUOTA_DEFAULT_BYTES 65536u
#define NPIPE_QUOTA_MAX_BYTES 0x40000000u
#define NPIPE_QUOTA_ZERO UINT32_MAX /* a quota of 0 bytes: rendezvous (WR5) */
#define NPIPE_MESSAGE_DEFAULT_BYTES 0x1000000u /* 16 MiB */
#define NPIPE_MESSAGE_MAX_BYTES 0x40000000u    /* 1 GiB */
#define NPIPE_DEFAULT_WAIT_MS 50u              /* CR9 */
#define NPIPE_BACKLOG_DEFAULT 128u

/* How npipe_server_create() makes a pipe. All zero is a good default: a duplex
 * byte pipe for this user, any number of instances. */
typedef struct npipe_server_options {
  npipe_type type;
  npipe_direction direction;
  npipe_read_mode read_mode; /* of the server's end of each instance */
  npipe_allow allow;
  npipe_scope scope;
  /* Connected clients at a time, accepted or not: 1 to 255. 0 and 255
   * (NPIPE_INSTANCES_UNLIMITED) mean no limit (CR2). */
  unsigned max_instances;
  /* How many clients may be connected and not yet accepted by the program;
   * further ones find the pipe busy. 0 = NPIPE_BACKLOG_DEFAULT. */
  unsigned backlog;
  /* How much may be written and not yet read: to the server (in) and to the
   * client (out), bytes per instance. 0 = NPIPE_QUOTA_DEFAULT_BYTES,
   * NPIPE_QUOTA_ZERO = none, at most NPIPE_QUOTA_MAX_BYTES (CR10, WR3). */
  uint32_t in_quota;
  uint32_t out_quota;
  /* How long a client waits that asks for the pipe's own time
   * (NPIPE_WAIT_DEFAULT), ms. 0 = NPIPE_DEFAULT_WAIT_MS (CR9). */
  uint32_t default_wait_ms;
  /* The longest message either end may write. 0 =
   * NPIPE_MESSAGE_DEFAULT_BYTES, at most NPIPE_MESSAGE_MAX_BYTES (WR9).
   * Unix: told to the client. Windows: each end keeps its own limit. */
  uint32_t message_max_bytes;
  /* Unix, byte pipes only: be a plain socket at this path, without npipe's
   * protocol, so that any program can connect (docs/names.md). NULL = no.
   * Windows, where every byte pipe is plain, ignores it and uses the name. */
  const char* plain_path;
  void* reserved[4]; /* zero */
} npipe_server_options;

/* How npipe_connect() opens a pipe. All zero is a good default. */
typedef struct npipe_client_options {
  npipe_access access;
  npipe_read_mode read_mode;
  npipe_scope scope;
  /* 0: accept only a server of the same user or root (Windows: or SYSTEM, or
   * an administrator's). 1: accept whoever holds the name. */
  int any_server;
  uint32_t message_max_bytes; /* as for the server */
  const char* plain_path;     /* as for the server */
  void* reserved[4];          /* zero */
} npipe_client_options;

/* Times to wait, in ms: 0 or more, or one of these. */
#define NPIPE_WAIT_FOREVER (-1)
#define NPIPE_WAIT_DEFAULT (-2) /* as long as the server's default_wait_ms */

/* ---------------------------------------------------------------- Server */

/* Called once for each client that has connected (status 0): take it with
 * npipe_accept(), now or later. With a negative status the server could not
 * take a client, e.g. UV_EMFILE; it goes on and tries again by itself. */
typedef void (*npipe_connection_cb)(npipe_server* server, int status,
                                    void* arg);
/* Called once, last, when a server is closed. */
typedef void (*npipe_server_close_cb)(npipe_server* server, void* arg);

/* Creates the pipe NAME and listens for clients.
 *
 * The name is claimed as with FILE_FLAG_FIRST_PIPE_INSTANCE (MP2): a name with
 * a live server gives UV_EADDRINUSE and is never taken over; what a dead one
 * left behind is replaced. From the return on, clients can connect and write,
 * before the program accepts them (CR8).
 *
 *   loop     where the server lives and calls back
 *   name     see "Names"
 *   options  NULL = all defaults; copied
 *   cb, arg  for each client; cb may not be NULL
 *   server   set on success, NULL on failure
 *
 * Returns 0, UV_EINVAL, UV_ENAMETOOLONG, UV_EADDRINUSE, UV_EEXIST, UV_EACCES
 * (the directory is not ours, or is writable by others), UV_EMFILE, UV_ENOMEM.
 * Windows: instances are created with an explicit access list, remote clients
 * are rejected; up to four instances listen at a time.
 * Unix: the handshake with a client is answered by the library, so the loop
 * has to run for a client to connect (OP8). */
NPIPE_API int npipe_server_create(uv_loop_t* loop, const char* name,
                                  const npipe_server_options* options,
                                  npipe_connection_cb cb, void* arg,
                                  npipe_server** server);

/* Takes the client that has waited longest: ConnectNamedPipe when it has
 * returned. A client that has come and gone is handed out too; what it wrote
 * can be read, then comes UV_EOF (LN2).
 * Returns 0, or UV_EAGAIN if no client is waiting (*conn is then NULL). */
NPIPE_API int npipe_accept(npipe_server* server, npipe_conn** conn);

/* Closes the server: nobody can connect any more; clients that nobody accepted
 * are closed. Accepted connections are not touched. A second call does
 * nothing.
 * Unix: the name is gone at once, also while accepted connections go on.
 * Windows: the kernel keeps the name until the last of the server's ends is
 * closed (OP7): till then connecting gives UV_EBUSY and creating it anew
 * UV_EADDRINUSE.
 *   cb  may be NULL; after it the server is no more */
NPIPE_API void npipe_server_close(npipe_server* server,
                                  npipe_server_close_cb cb, void* arg);

/* ---------------------------------------------------------------- Client */

/* status 0: connected. Negative: not; the handle must still be closed. */
typedef void (*npipe_connect_cb)(npipe_conn* conn, int status, void* arg);

/* Connects to the pipe NAME: CreateFile and WaitNamedPipe in one.
 *
 *   timeout_ms  how long to wait if every instance is busy: 0 = not at all
 *               (UV_EBUSY), a number of ms (then UV_ETIMEDOUT),
 *               NPIPE_WAIT_FOREVER or NPIPE_WAIT_DEFAULT. Waiting clients are
 *               served in their order on Unix, in no promised order on
 *               Windows. A name that does not exist is never waited for
 *               (OP1, WT1).
 *   options     NULL = all defaults; copied
 *   conn        set on success. Close it in any case, also if the callback
 *               reports a failure. npipe_close() before the callback gives
 *               up: the callback then gets UV_ECANCELED.
 *
 * Returns 0, UV_EINVAL, UV_ENAMETOOLONG, UV_ENOMEM.
 * The callback gets 0, UV_ENOENT, UV_EBUSY, UV_ETIMEDOUT, UV_EACCES,
 * UV_EINVAL (message read mode on a byte pipe), UV_EPROTO, UV_EMFILE,
 * UV_ECANCELED.
 * Windows: the server may identify this client but not impersonate it
 * (SECURITY_IDENTIFICATION). Only local pipes are opened.
 * Unix: the server's process has to run; one that is stopped gives
 * UV_ETIMEDOUT after timeout_ms, or ten seconds for timeout_ms 0. With
 * NPIPE_WAIT_DEFAULT it is the server that keeps the time, so one that is
 * stopped is waited for: npipe_close() gives up. */
NPIPE_API int npipe_connect(uv_loop_t* loop, const char* name, int timeout_ms,
                            const npipe_client_options* options,
                            npipe_connect_cb cb, void* arg, npipe_conn** conn);

/* ---------------------------------------------------------------- Both ends */

/* Names a pending operation, for npipe_cancel(). Never 0, never reused on the
 * same connection. */
typedef uint64_t npipe_op;

/* More of this message follows: ERROR_MORE_DATA, which is no error. */
#define NPIPE_MORE 1u

/* One piece of data (status 0), or the end of the stream (status negative,
 * data NULL), which comes once and stops the stream. size 0 with status 0 is
 * an empty message. flags: NPIPE_MORE. data is lent until the callback
 * returns. */
typedef void (*npipe_stream_cb)(npipe_conn* conn, int status, const void* data,
                                size_t size, unsigned flags, void* arg);
/* The end of one npipe_read(). */
typedef void (*npipe_read_cb)(npipe_conn* conn, int status, size_t size,
                              unsigned flags, void* arg);
typedef void (*npipe_write_cb)(npipe_conn* conn, int status, void* arg);
typedef void (*npipe_close_cb)(npipe_conn* conn, void* arg);

/* Starts a stream of messages (or bytes): cb is called for each, in order,
 * until npipe_read_stop(), the end, or the close.
 *
 *   whole_max_bytes  Message read mode: a message of at most this size comes
 *                    whole, a longer one in pieces of which all but the last
 *                    carry NPIPE_MORE. 0 = the connection's message limit, so
 *                    that every message comes whole. Byte read mode: ignored;
 *                    a piece is whatever has arrived.
 *
 * Returns 0; UV_EBUSY while a stream or an npipe_read() is under way;
 * UV_EACCES if the direction does not allow reading; UV_ENOTCONN before the
 * connect callback; UV_EBADF after npipe_close().
 * Ends: UV_EOF, UV_ECONNABORTED, UV_EPROTO, UV_EMSGSIZE, UV_ENOMEM. */
NPIPE_API int npipe_read_start(npipe_conn* conn, size_t whole_max_bytes,
                               npipe_stream_cb cb, void* arg);

/* Stops the stream; what was not shown stays for the next read, also the rest
 * of a message shown in part. Without effect if there is no stream. */
NPIPE_API void npipe_read_stop(npipe_conn* conn);

/* Reads once into the caller's buffer: ReadFile (RD2-RD8, RD10, RD11).
 * Several reads may be pending; they are served in their order.
 *
 * Message read mode: at most one message; if it is longer than size, the
 * callback gets size bytes and NPIPE_MORE, and the next read goes on with the
 * same message. Byte read mode: whatever is there, up to size, as soon as
 * anything is. A size of 0 waits for data and consumes none (RD8).
 *
 *   data  borrowed until the callback; may be NULL if size is 0
 *   op    may be NULL; set to the operation's name
 *
 * Returns 0; UV_EBUSY while a stream is under way; UV_EINVAL; UV_EACCES,
 * UV_ENOTCONN, UV_EBADF as above; UV_ENOMEM.
 * The callback gets 0 and the size (0 = an empty message, or the answer to
 * size 0), or UV_EOF, UV_ECONNABORTED, UV_ECANCELED, UV_EPROTO,
 * UV_EMSGSIZE. */
NPIPE_API int npipe_read(npipe_conn* conn, void* data, size_t size,
                         npipe_op* op, npipe_read_cb cb, void* arg);

/* Changes how this end reads, at any time, also in the middle of a message:
 * what was not read yet is read in the new mode (RD4). The other end is not
 * concerned.
 * Returns 0, UV_EINVAL (messages of a byte pipe), UV_EBUSY while a read is
 * pending, UV_ENOTCONN, UV_EBADF. */
NPIPE_API int npipe_set_read_mode(npipe_conn* conn, npipe_read_mode mode);

/* Writes the buffers, gathered, as one message: WriteFile (WR1, WR2). All or
 * nothing; writes never interleave. The callback comes when the data is in the
 * pipe within its quota (WR3); it says nothing of whether it was read (WR7).
 * A total of 0 bytes is an empty message on a message pipe (WR6) and nothing
 * at all on a byte pipe.
 *
 *   bufs  the array is copied; the memory it points to is borrowed until the
 *         callback
 *   op    may be NULL; set to the operation's name
 *
 * Returns 0; UV_EMSGSIZE beyond the message limit, nothing is written;
 * UV_EACCES, UV_ENOTCONN, UV_EBADF as above; UV_EINVAL; UV_ENOMEM.
 * The callback gets 0, UV_EPIPE, UV_ECONNABORTED, UV_ECANCELED, UV_EPROTO,
 * UV_ENOMEM. */
NPIPE_API int npipe_write(npipe_conn* conn, const uv_buf_t bufs[],
                          unsigned nbufs, npipe_op* op, npipe_write_cb cb,
                          void* arg);

/* Writes at once or not at all, without a callback: takes the message if no
 * earlier write is still pending, else UV_EAGAIN and nothing was written. What
 * it takes beyond the quota counts as pending until it is read. npipe_close()
 * waits for it (see there).
 * Returns 0, UV_EAGAIN, UV_EPIPE, UV_ECONNABORTED, or as npipe_write(). */
NPIPE_API int npipe_try_write(npipe_conn* conn, const uv_buf_t bufs[],
                              unsigned nbufs);

/* How many bytes of pending writes there are: written, not called back; plus
 * what npipe_try_write() took and is still pending. */
NPIPE_API size_t npipe_queued_bytes(const npipe_conn* conn);

/* Cancels one pending operation, or with op 0 every pending read: its callback
 * gets UV_ECANCELED. A cancelled read has consumed nothing, and other
 * operations keep their order (CN1, CN2).
 * Returns 0; UV_ENOENT if the operation is already done or was never begun
 * (its callback comes or came as usual); UV_ENOTSUP for a write, done or not,
 * part of which the peer may have read already (CN3): to drop writes, close. */
NPIPE_API int npipe_cancel(npipe_conn* conn, npipe_op op);

/* Closes this end: CloseHandle.
 *
 * Writes that were called back with 0 can still be read by the peer (CL1).
 * Pending reads and writes are cancelled, in part sent messages vanish (CL5),
 * their callbacks come before the close callback. What the peer wrote and was
 * not read is lost (CL2). If npipe_try_write() took something that is still
 * pending, the connection waits up to five seconds for the peer to read it. A
 * server's end gives its instance back. A second call does nothing.
 *   cb  may be NULL; after it the connection is no more */
NPIPE_API void npipe_close(npipe_conn* conn, npipe_close_cb cb, void* arg);

/* A pointer of the program's own, NULL at first. */
NPIPE_API void npipe_set_data(npipe_conn* conn, void* data);
NPIPE_API void* npipe_get_data(const npipe_conn* conn);
NPIPE_API uv_loop_t* npipe_loop(const npipe_conn* conn);
/* The type of the pipe; NPIPE_BYTE before the connect callback. */
NPIPE_API npipe_type npipe_get_type(const npipe_conn* conn);

/* ---------------------------------------------------------------- Memory */

/* Makes the library allocate with these functions, which must behave as those
 * of C. Call it before any other function, or not at all.
 * Returns 0 or UV_EINVAL. */
NPIPE_API int npipe_replace_allocator(void* (*malloc_fn)(size_t),
                                      void* (*realloc_fn)(void*, size_t),
                                      void (*free_fn)(void*));

#ifdef __cplusplus
}
#endif

#endif /* NPIPE_H */
