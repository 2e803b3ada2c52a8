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
 *   UV_EBUSY         no instance of it is free                 (231); or
 *                    something else is under way, as the function says
 *   UV_ETIMEDOUT     what was waited for did not happen in time (121)
 *   UV_EACCES        permission denied, by either side; also a direction that
 *                    the pipe does not have                    (5)
 *   UV_EADDRINUSE    the name has a live server that does not share it
 *                                                              (5, 231)
 *   UV_EEXIST        Unix: a file that is no pipe of npipe's stands where the
 *                    pipe's own should go; it was not touched
 *   UV_EINVAL        a bad argument                            (87, 123)
 *   UV_ENAMETOOLONG  the name is too long, or its directory    (206)
 *   UV_EMSGSIZE      a message beyond the limit
 *   UV_EOF           reading: the peer has closed and all was read   (109)
 *   UV_EPIPE         writing: the peer has closed              (232, 109)
 *   UV_ECONNABORTED  the server disconnected this pipe         (233)
 *   UV_ENOTCONN      not connected yet, or no client any more  (536, 1168)
 *   UV_ECANCELED     the operation was cancelled, or its handle closed
 *   UV_EPROTO        Unix: the peer broke the protocol; the connection is over
 *   UV_EMFILE        out of descriptors or handles
 *   UV_ENOMEM        out of memory
 *   UV_ENOTSUP       this end, this kind of pipe, or this system, cannot do
 *                    it                                        (1)
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
#define NPIPE_LINGER_DEFAULT_MS 5000u
/* Room for a user as text: a uid in decimal, or a SID ("S-1-5-21-..."). */
#define NPIPE_ID_BYTES 192

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
  /* 1: other servers of the same user, in this process or another, may add
   * instances to the name, if they set it too (MP1). There is then one count
   * of instances, and the name lives until the last of them closes. The first
   * one decides type, direction, max_instances, default_wait_ms, allow and the
   * like (CR3); see npipe_server_create(). Not for plain pipes. */
  int shared;
  /* Unix: permission bits of the socket in place of those of `allow`, e.g.
   * 0660. 0 = by `allow`. At most 0777. Windows ignores it. */
  unsigned unix_mode;
  /* Windows: a security descriptor in SDDL in place of the one made from
   * `allow`, e.g. "D:P(A;;FA;;;SY)(A;;0x12019b;;;AU)". NULL = by `allow`; Unix
   * ignores it. */
  const char* windows_sddl;
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
  /* Accept a server of this user and of nobody else: a uid in decimal on Unix,
   * a SID as text on Windows. NULL = as any_server says. Another one:
   * UV_EACCES, before a byte is sent. */
  const char* server_user;
  uint32_t message_max_bytes; /* as for the server */
  const char* plain_path;     /* as for the server */
  void* reserved[4];          /* zero */
} npipe_client_options;

/* Times to wait, in ms: 0 or more, or one of these. */
#define NPIPE_WAIT_FOREVER (-1)
#define NPIPE_WAIT_DEFAULT (-2) /* as long as the server's default_wait_ms */

/* ---------------------------------------------------------------- Identity */

/* What of an npipe_peer is known, and which of it to look for. */
#define NPIPE_PEER_PID 1u   /* pid */
#define NPIPE_PEER_ID 2u    /* id: who it is */
#define NPIPE_PEER_GROUP 4u /* gid; Unix only */
#define NPIPE_PEER_USER 8u  /* user: the name of id in the system's list */
#define NPIPE_PEER_ALL 15u

/* Who is at the other end of a connection, as the system says (ID1, ID5). The
 * peer cannot choose any of it, but for the pid of a server on Unix whose name
 * several servers share: that is told by itself.
 * Unix: id is a uid in decimal; a client's is that of the process which called
 * connect(). Windows: id is a SID, of the user of the process `pid`. */
typedef struct npipe_peer {
  unsigned known; /* NPIPE_PEER_*; the rest is zero */
  uint64_t pid;
  uint64_t gid;
  char id[NPIPE_ID_BYTES];
  char user[256]; /* UTF-8; Windows: DOMAIN\name */
} npipe_peer;

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
 * With options.shared on both sides the new server adds its instances to the
 * live name instead (MP1, CR4). Then in this order: all instances in use gives
 * UV_EBUSY, another direction UV_EACCES, another type UV_EINVAL (CR5 is not
 * copied there). Another max_instances, default_wait_ms, allow, unix_mode,
 * windows_sddl or message_max_bytes is ignored: those of the first count.
 * Quotas and read mode are this server's own. Which server gets the next
 * client is not promised; waiting clients are in one queue (OP5).
 *
 *   loop     where the server lives and calls back
 *   name     see "Names"
 *   options  NULL = all defaults; copied
 *   cb, arg  for each client; cb may not be NULL
 *   server   set on success, NULL on failure
 *
 * Returns 0, UV_EINVAL, UV_ENAMETOOLONG, UV_EADDRINUSE, UV_EEXIST, UV_EACCES
 * (the directory is not ours, or is writable by others), UV_EBUSY, UV_ENOTSUP
 * (shared, on a system that cannot), UV_EMFILE, UV_ENOMEM.
 * Windows: instances are created with an explicit access list, remote clients
 * are rejected; up to four instances listen at a time.
 * Unix: the handshake with a client is answered by the library, so the loop
 * has to run for a client to connect (OP8). */
NPIPE_API int npipe_server_create(uv_loop_t* loop, const char* name,
                                  const npipe_server_options* options,
                                  npipe_connection_cb cb, void* arg,
                                  npipe_server** server);

/* Takes the client that has waited longest: ConnectNamedPipe when it has
 * returned (LN1, LN3). A client that has come and gone is handed out too; what
 * it wrote can be read, then comes UV_EOF (LN2). Returns 0, or UV_EAGAIN if no
 * client is waiting (*conn is then NULL). */
NPIPE_API int npipe_accept(npipe_server* server, npipe_conn** conn);

/* Who the client is that npipe_accept() would give, so that a server can
 * refuse it unseen; as npipe_get_peer().
 * Returns 0, or UV_EAGAIN if no client is waiting. */
NPIPE_API int npipe_next_peer(npipe_server* server, unsigned want,
                              npipe_peer* peer);

/* Turns away the client that npipe_accept() would give: it finds itself
 * disconnected (UV_ECONNABORTED). To decide, see npipe_next_peer().
 * Returns 0, or UV_EAGAIN if no client is waiting. */
NPIPE_API int npipe_reject(npipe_server* server);

/* Closes the server: no new instances; clients that nobody accepted are
 * closed. Accepted connections are not touched. A second call does nothing.
 *
 * As on Windows the name lives until the last end of the server's is closed,
 * too (OP7): till then a client gets UV_EBUSY, or waits, and a new server
 * UV_EADDRINUSE, unless the name is shared; npipe_listen() still lets a client
 * in. Without accepted connections the name is gone on return.
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
 * UV_ETIMEDOUT after timeout_ms, or ten seconds for timeout_ms 0 and
 * NPIPE_WAIT_DEFAULT. */
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
/* The end of one npipe_read() or npipe_transact(). */
typedef void (*npipe_read_cb)(npipe_conn* conn, int status, size_t size,
                              unsigned flags, void* arg);
typedef void (*npipe_write_cb)(npipe_conn* conn, int status, void* arg);
/* The end of one npipe_flush() or npipe_listen(). */
typedef void (*npipe_done_cb)(npipe_conn* conn, int status, void* arg);
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
 * Returns 0; UV_EBUSY while a stream, npipe_read() or npipe_transact() is under
 * way;
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
 * Returns 0; UV_EBUSY while a stream or npipe_transact() is under way;
 * UV_EINVAL; UV_EACCES,
 * UV_ENOTCONN, UV_EBADF as above; UV_ENOMEM.
 * The callback gets 0 and the size (0 = an empty message, or the answer to
 * size 0), or UV_EOF, UV_ECONNABORTED, UV_ECANCELED, UV_EPROTO,
 * UV_EMSGSIZE. */
NPIPE_API int npipe_read(npipe_conn* conn, void* data, size_t size,
                         npipe_op* op, npipe_read_cb cb, void* arg);

/* Changes how this end reads, at any time, also in the middle of a message:
 * what was not read yet is read in the new mode (RD4). The other end is not
 * concerned.
 * Returns 0, UV_EINVAL (messages of a byte pipe), UV_EBUSY while a read or
 * transaction is pending, UV_ECONNABORTED (IN3), UV_ENOTCONN, UV_EBADF. */
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
 * it takes beyond the quota counts as pending until it is read; npipe_close()
 * waits for it as for any pending write.
 * Returns 0, UV_EAGAIN, UV_EPIPE, UV_ECONNABORTED, or as npipe_write(). */
NPIPE_API int npipe_try_write(npipe_conn* conn, const uv_buf_t bufs[],
                              unsigned nbufs);

/* How many bytes of pending writes there are: written, not called back; plus
 * what npipe_try_write() took and is still pending. */
NPIPE_API size_t npipe_queued_bytes(const npipe_conn* conn);

/* Cancels one pending operation, or with op 0 every pending read: its callback
 * gets UV_ECANCELED. A cancelled read, flush or listen has consumed and changed
 * nothing, and other operations keep their order (CN1, CN2, LN6). A cancelled
 * write is withdrawn: none of it is ever read. Of a cancelled npipe_transact()
 * the request stays in the pipe (TX4).
 * Returns 0; UV_ENOENT if the operation is already done or was never begun
 * (its callback comes or came as usual); UV_EBUSY for a write that the peer
 * may be reading already: it is too late (CN3). Of the pending writes that is
 * the first one; those behind it can be cancelled. To drop them all, use
 * npipe_abort(). */
NPIPE_API int npipe_cancel(npipe_conn* conn, npipe_op op);

/* Closes this end: CloseHandle, without its loss of pending writes.
 *
 * Writes that were called back with 0 can be read by the peer (CL1). Pending
 * writes go on until they are in the pipe within the quota, so that the peer
 * can read them too, but no longer than the linger time (npipe_set_linger());
 * those that have not made it by then get UV_ECANCELED and vanish, also one
 * that the peer has read in part (CL5). Every other pending operation is
 * cancelled at once. What the peer wrote and was not read is lost (CL2). All
 * callbacks come before the close callback. A server's end gives its instance
 * back. A second call does nothing.
 *   cb  may be NULL; after it the connection is no more */
NPIPE_API void npipe_close(npipe_conn* conn, npipe_close_cb cb, void* arg);

/* Closes this end at once: pending writes get UV_ECANCELED and vanish (CL5).
 * After npipe_close() it ends the lingering; cb is then ignored. */
NPIPE_API void npipe_abort(npipe_conn* conn, npipe_close_cb cb, void* arg);

/* How long npipe_close() goes on with pending writes: ms, 0 = not at all.
 * NPIPE_LINGER_DEFAULT_MS if never called. */
NPIPE_API void npipe_set_linger(npipe_conn* conn, unsigned linger_ms);

/* Waits until the peer's program has read everything that was written at this
 * end before the call, pending writes and empty messages included:
 * FlushFileBuffers, in both ends (FL1, FL2).
 *
 *   timeout_ms  0 or more, or NPIPE_WAIT_FOREVER
 *   op          may be NULL; set to the operation's name
 *
 * Returns 0; UV_EINVAL; UV_EACCES if this end cannot write; UV_ENOTCONN before
 * the connect callback; UV_EBADF; UV_ENOMEM; UV_ENOTSUP on a plain pipe
 * (Unix).
 * The callback gets 0, also at once if nothing is unread, the peer had closed
 * before, or no client is there (FL4); UV_EPIPE if the peer closes meanwhile
 * (FL3); UV_ECONNABORTED, UV_ETIMEDOUT, UV_ECANCELED.
 * Windows: waits on a thread of the system's pool, one per pending flush. */
NPIPE_API int npipe_flush(npipe_conn* conn, int timeout_ms, npipe_op* op,
                          npipe_done_cb cb, void* arg);

/* ---- an instance and its clients: server's ends only */

/* Throws the client out: DisconnectNamedPipe. What was written in either
 * direction and not read is gone, so flush first if it matters (DI1). Pending
 * operations of both ends get UV_ECONNABORTED, and so does all that the client
 * tries from then on (DI2, ST4). This end keeps its instance; npipe_listen()
 * lets the next client in (DI4). It may also be called while this end listens:
 * pending npipe_listen()s get UV_ECONNABORTED, no client is let in any more.
 * Returns 0; UV_ECONNABORTED if it is disconnected already (DI3); UV_ENOTSUP
 * for a client's end (ST2) or a plain pipe; UV_ENOTCONN, UV_EBADF. */
NPIPE_API int npipe_disconnect(npipe_conn* conn);

/* Lets the next client into the instance: ConnectNamedPipe, on an end that was
 * disconnected (LN4, ST5). From the call on a client can connect and write. It
 * comes after instances that have listened for longer (OP5). Reads and writes
 * are possible once one is there. Several may be pending, one client ends them
 * all.
 *
 *   timeout_ms  0 or more, or NPIPE_WAIT_FOREVER
 *   op          may be NULL; set to the operation's name
 *
 * Returns 0; UV_EINVAL; UV_ENOTSUP for a client's end (ST2) or a plain pipe;
 * UV_EBADF; UV_ENOMEM.
 * The callback gets 0: a client is there, or was there already (LN1), or came
 * and went, what it wrote can be read (LN2); UV_EPIPE: this end's last client
 * has closed, npipe_disconnect() first (LN2); UV_ECONNABORTED by
 * npipe_disconnect() (LN7). After UV_ETIMEDOUT and UV_ECANCELED the instance
 * still listens, and the next call or npipe_disconnect() goes on from there
 * (LN6). */
NPIPE_API int npipe_listen(npipe_conn* conn, int timeout_ms, npipe_op* op,
                           npipe_done_cb cb, void* arg);

/* ---- looking without touching */

typedef struct npipe_peek_info {
  size_t size;      /* bytes copied to the caller's buffer */
  size_t available; /* bytes that can be read, of all messages */
  size_t left;      /* of the (rest of the) first message, behind those copied;
                       0 on a byte pipe (PK3) */
  size_t messages;  /* that wait to be read, begun ones and empty ones included;
                       0 on a byte pipe */
} npipe_peek_info;

/* Looks at what can be read and leaves it there: PeekNamedPipe (PK1 to PK6).
 * On a message pipe at most the first message is copied, whatever the read
 * mode; a short buffer is no error. Never waits.
 *
 *   data  may be NULL if size is 0
 *   info  set on success only
 *
 * Returns 0; UV_EOF when the peer has closed and all is read; UV_ECONNABORTED;
 * UV_ENOTCONN (also while the instance listens); UV_EACCES if this end cannot
 * read; UV_EPROTO; UV_EINVAL; UV_EBADF. */
NPIPE_API int npipe_peek(npipe_conn* conn, void* data, size_t size,
                         npipe_peek_info* info);

/* Where an instance stands (ST1). */
typedef enum npipe_state {
  NPIPE_STATE_DISCONNECTED = 1,
  NPIPE_STATE_LISTENING = 2,
  NPIPE_STATE_CONNECTED = 3,
  NPIPE_STATE_CLOSING = 4 /* the peer has closed */
} npipe_state;

typedef struct npipe_info {
  npipe_type type;
  npipe_direction direction;
  npipe_read_mode read_mode; /* of this end: BYTES or MESSAGES */
  npipe_state state;         /* as far as this end knows */
  int is_server;             /* this end is a server's */
  uint32_t in_quota;         /* bytes, in the server's view on both ends */
  uint32_t out_quota;        /* (IN1) */
  uint32_t message_max_bytes;
  unsigned max_instances; /* 255: no limit */
  unsigned instances; /* at a server's end: those of its server that have, or
                         listen again for, a client of npipe_accept() or its
                         queue. 0 at a client's end (IN2). */
} npipe_info;

/* What the pipe is and how it stands: GetNamedPipeInfo and
 * GetNamedPipeHandleState in one (IN1, IN2).
 * Returns 0; UV_ENOTCONN before the connect callback; UV_ECONNABORTED for a
 * client that was disconnected (ST1); UV_EINVAL; UV_EBADF. */
NPIPE_API int npipe_get_info(npipe_conn* conn, npipe_info* info);

/* Who is at the other end: GetNamedPipeClientProcessId and the like. It is
 * still answered after the peer has closed (ID1).
 *
 *   want  which fields to look for: NPIPE_PEER_*. NPIPE_PEER_USER asks the
 *         system's list of users, which can take its time where that is kept
 *         on the network. What cannot be found out is not in peer->known.
 *
 * Returns 0; UV_ENOTCONN when no client is there, also after
 * npipe_disconnect(); UV_ECONNABORTED at a client's end that was disconnected;
 * UV_EINVAL; UV_EBADF. */
NPIPE_API int npipe_get_peer(npipe_conn* conn, unsigned want, npipe_peer* peer);

/* ---- request and reply */

/* Writes one message and reads the next one as the reply: TransactNamedPipe.
 * The pipe must be a duplex message pipe and this end read messages (TX1). The
 * request is not held back by the quota (TX3). A longer reply comes with
 * NPIPE_MORE; the rest is for npipe_read() (TX4). While it is pending, nothing
 * else may read here, so the reply is the right one (TX5).
 *
 *   bufs        the request, gathered; copied
 *   reply       borrowed until the callback; may be NULL if size is 0
 *   timeout_ms  0 or more, or NPIPE_WAIT_FOREVER; after UV_ETIMEDOUT the reply
 *               may still come: best close the connection
 *   op          may be NULL; set to the operation's name
 *
 * Returns 0; UV_EBUSY if something is unread here or a read, stream or
 * transaction is under way (TX2); UV_EINVAL (byte pipe, or byte read mode);
 * UV_EACCES (not both directions); UV_EMSGSIZE; UV_ENOTCONN; UV_EBADF;
 * UV_ENOMEM.
 * The callback gets 0 and the reply's size, or UV_EPIPE if the peer has
 * closed, before the call or while the reply was awaited; UV_ECONNABORTED,
 * UV_ETIMEDOUT, UV_ECANCELED, UV_EPROTO, UV_EMSGSIZE, UV_EBUSY (Windows: a
 * message came in between). */
NPIPE_API int npipe_transact(npipe_conn* conn, const uv_buf_t bufs[],
                             unsigned nbufs, void* reply, size_t size,
                             int timeout_ms, npipe_op* op, npipe_read_cb cb,
                             void* arg);

/* The end of one npipe_call(): as npipe_read_cb. The connection is closed by
 * the library afterwards. */
typedef void (*npipe_call_cb)(int status, size_t size, unsigned flags,
                              void* arg);

/* Connects, transacts once, closes: CallNamedPipe (TX6). Of a reply longer
 * than size the rest is lost; the flag NPIPE_MORE says so.
 *
 *   timeout_ms  for all of it: 0 (no wait for an instance, ten seconds for the
 *               reply), ms, NPIPE_WAIT_FOREVER, or NPIPE_WAIT_DEFAULT (for an
 *               instance; then no limit)
 *   bufs        the array is copied; the memory it points to is borrowed until
 *               the callback, as is reply
 *   conn        may be NULL; set to the connection in the making, which is
 *               only good for npipe_abort() to give up (UV_ECANCELED), and not
 *               after the callback
 *
 * Returns as npipe_connect(), and UV_EMSGSIZE; the callback's codes are those
 * of npipe_connect() and npipe_transact(). */
NPIPE_API int npipe_call(uv_loop_t* loop, const char* name, int timeout_ms,
                         const npipe_client_options* options,
                         const uv_buf_t bufs[], unsigned nbufs, void* reply,
                         size_t size, npipe_call_cb cb, void* arg,
                         npipe_conn** conn);

/* ---- waiting without connecting */

typedef void (*npipe_wait_cb)(int status, void* arg);

/* Waits until an instance of NAME listens: WaitNamedPipe. It reserves nothing,
 * another client may be faster (WT4); npipe_connect() with a timeout waits and
 * connects in one.
 *
 *   timeout_ms, options  as for npipe_connect(); access and read_mode do not
 *                        matter
 *   conn                 as for npipe_call()
 *
 * Returns as npipe_connect(). The callback gets 0, at once if an instance
 * listens (WT2); UV_EBUSY for timeout 0; UV_ETIMEDOUT; UV_ENOENT at once
 * without such a pipe, or when its last server closes (WT1, WT6); UV_EACCES
 * (Unix: the wait needs the same permission as the open, WT7); UV_ECANCELED.
 */
NPIPE_API int npipe_wait(uv_loop_t* loop, const char* name, int timeout_ms,
                         const npipe_client_options* options, npipe_wait_cb cb,
                         void* arg, npipe_conn** conn);

/* ---- small things */

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
