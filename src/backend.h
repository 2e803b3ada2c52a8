/*
 * The contract between the shared files and a backend. src/unix and src/win
 * both fulfil it, in files of the same names; the linker chooses.
 *
 * The backend owns the transport: names, instances, the open, moving data and
 * its order, flow control. The shared files own what the program sees: which
 * reads and writes are pending, callbacks and when they come, argument checks.
 *
 * All functions run on the thread of the object's loop, never block, and never
 * call the program except through the npi_* functions below, which do it where
 * they say so. OS errors are translated on the line where they arise.
 *
 * A backend's objects start with the shared one:
 *
 *     typedef struct conn { npipe_conn base; uv_pipe_t pipe; ... } conn;
 *
 * so a cast leads from one to the other. Their sizes are the constants below;
 * the shared files allocate (zeroed) and free.
 */
#ifndef NPI_BACKEND_H
#define NPI_BACKEND_H

#include "internal.h"

extern const size_t npi_os_server_size;
extern const size_t npi_os_conn_size;
extern const size_t npi_os_op_size;

/* ------------------------------------------------ the shared files call these
 */

/* Makes server->name live as server->options say: claims it, or joins it if
 * that is allowed (options.shared; what the first server decided replaces what
 * the options said), sets who may connect, then lets clients in. All or
 * nothing: after a failure nothing is left, also no handle on the loop (the
 * backend must have closed them, or not have begun any, before it returns), and
 * npi_fail() has said why. Windows: the name is server->name. Unix:
 * options.plain_path may stand for it. */
int npi_os_server_open(npipe_server* server);

/* The server takes no new clients of its own accord. The name lives on, and
 * answers that all is busy, for connections that still hold an instance; one of
 * them may npi_os_listen() again. Ends with one call of npi_server_closed(),
 * from the loop, not inside this function. */
void npi_os_server_close(npipe_server* server);

/* After npi_os_server_close(): no connection holds an instance any more. The
 * name is to be gone on return (unless other processes share it). Ends with
 * one call of npi_server_ended(), from the loop, not inside this function, and
 * after npi_server_closed(). */
void npi_os_server_end(npipe_server* server);

/* An instance, or a place among those not accepted, has become free:
 * npi_server_has_room() may be true now. Called from npipe_accept() and when a
 * connection gives its instance back, also from inside callbacks. */
void npi_os_server_room(npipe_server* server);

typedef struct npi_connect_request {
  npi_name name;
  npipe_client_options options; /* defaults filled in; its strings live for the
                                   time of the call */
  char server_user[NPIPE_ID_BYTES]; /* a copy; "": not asked for */
  int timeout_ms;
  bool wait_only; /* npipe_wait(): 0 means that an instance listens; nothing is
                     opened */
} npi_connect_request;

/* Begins to connect conn (state CONNECTING). Returns 0 and later calls
 * npi_conn_connected() once, from the loop; or an error that is the caller's
 * fault (UV_EINVAL, UV_ENAMETOOLONG) or UV_ENOMEM, and then nothing follows,
 * though npi_os_conn_close() is still called. What the pipe has to say, also
 * if it is known at once, comes through npi_conn_connected(). */
int npi_os_connect(npipe_conn* conn, const npi_connect_request* request);

/* A loop turn of an open connection: sends what was queued, and serves what
 * npi_read_wanted() asks for as far as data is there. Called after
 * npi_conn_post(); posting again from inside is fine. The shared files post
 * after each npipe_read(), npipe_read_start() and npipe_write().
 * Returns when there is nothing more to do now or a fair share was done (then
 * it posts). */
void npi_os_conn_turn(npipe_conn* conn);

/* Takes one pending read back, which is in conn->reads. On return the backend
 * does not touch its buffer any more.
 * Returns 0: nothing was consumed for it (the caller finishes it). UV_ENOENT:
 * it was just finished by npi_read_done() with what had arrived. */
int npi_os_read_cancel(npipe_conn* conn, npi_op* op);

/* The stream has been stopped (also by close); nothing more may be shown to
 * it. Data already taken from the system stays for the next read. */
void npi_os_stream_stop(npipe_conn* conn);

/* mode is BYTES or MESSAGES and fits the type; no read is pending. The caller
 * sets conn->read_mode after success. */
int npi_os_set_read_mode(npipe_conn* conn, npipe_read_mode mode);

/* Queues a write (op->u.write). Ends with one npi_write_done(), which may be
 * inside this function. Also at a broken pipe. Order is the order of calls.
 */
void npi_os_write(npipe_conn* conn, npi_op* op);

/* The same, at once: as npi_os_write(), but if the system takes the data now,
 * npi_write_done() has been called on return. Only called when no write is
 * pending. op->u.write.owned holds the data. */
void npi_os_write_now(npipe_conn* conn, npi_op* op);

/* Withdraws a pending write that nothing has been sent of, so that none of it
 * is ever read: 0, and npi_write_done(UV_ECANCELED) was called. UV_EBUSY: too
 * late. UV_ENOENT: there is no such write. */
int npi_os_write_cancel(npipe_conn* conn, uint64_t id);

/* Begins a transaction, for which conn->reads is empty and the connection OPEN;
 * the caller puts op into conn->reads on success, where it is served like a
 * read in message mode, its request going before it. op->u.read.request is
 * taken over at the latest when the reply begins; what is left there is freed
 * with op. The request stays in the pipe whatever becomes of op.
 * Returns 0; UV_EBUSY: something is unread here (TX2), nothing was done;
 * UV_EPIPE: the peer has closed; UV_ECONNABORTED; UV_ENOMEM. */
int npi_os_transact(npipe_conn* conn, npi_op* op);

/* Begins to wait until all that was written before is read by the peer's
 * program. op (kind FLUSH) is in conn->waits. Ends with one npi_wait_end(),
 * which may be inside this function, unless it is cancelled. conn is OPEN.
 * Returns 0, UV_ENOTSUP, UV_ENOMEM: then it has not begun. */
int npi_os_flush(npipe_conn* conn, npi_op* op);

/* The flush is not waited for any more; on return op is not touched. */
void npi_os_flush_cancel(npipe_conn* conn, npi_op* op);

/* Throws the client out (DI1 to DI3), or, if the instance listens, lets nobody
 * in any more. Unread data of both directions goes. Pending writes are finished
 * with UV_ECONNABORTED, perhaps later. On return the backend does not touch the
 * memory of any read, nor will it call npi_read_done() and the like; the caller
 * finishes reads and waits. Returns 0; UV_ENOTSUP: nothing was done. */
int npi_os_disconnect(npipe_conn* conn);

/* Lets the next client into the instance, which is DISCONNECTED; or OPEN, and
 * then this only tells how it stands. Returns 0: it listens, and
 * npi_conn_listened() follows, from the loop, not inside this function.
 * UV_EISCONN: a client is there. UV_EPIPE: the last client has closed.
 * UV_ENOTSUP, or another error: nothing was done. */
int npi_os_listen(npipe_conn* conn);

/* As npipe_peek(); conn is OPEN. What the system has for us by now counts. No
 * callback of the program's may come from inside. */
int npi_os_peek(npipe_conn* conn, void* data, size_t size,
                npipe_peek_info* info);

/* CONNECTED or CLOSING of an OPEN connection; DISCONNECTED if a client finds
 * out that it is. */
npipe_state npi_os_state(npipe_conn* conn);

/* Fills in what is known of peer (zeroed); conn is OPEN. */
void npi_os_peer(npipe_conn* conn, unsigned want, npipe_peer* peer);

/* Closes the transport, in whatever state it is. The shared files have already
 * cancelled reads and waits and set the state to CLOSING. Pending writes go on
 * for linger_ms at most (0: not at all); those that are not done by then are
 * finished with UV_ECANCELED and vanish for the peer (CL5). Everything that was
 * reported as written stays readable for it. Calls npi_server_release() when
 * the transport is about to be closed. Ends with one npi_conn_closed(), from
 * the loop, not inside this function; before it every queued write must be done
 * and every handle closed. May be called a second time with linger_ms 0, to end
 * the lingering. */
void npi_os_conn_close(npipe_conn* conn, uint32_t linger_ms);

/* ------------------------------------------------ a backend calls these */

/* May another client connect? Looks at max_instances, the backlog and the
 * server's state. */
bool npi_server_has_room(const npipe_server* server);

/* conn, made with npi_conn_new() and described in full (type, read_mode,
 * can_read, can_write, message_max_bytes),
 * now holds an instance of the server: counts it, opens it and tells the
 * program, now. The program may close anything inside. Call it from the loop
 * only. A conn that has already ended is handed over all the same (LN2). */
void npi_server_connected(npipe_server* server, npipe_conn* conn);

/* A client could not be taken for lack of something; the program is told, now.
 * The server goes on. From the loop only. */
void npi_server_trouble(npipe_server* server, int status);

/* The end of npi_os_server_close(). */
void npi_server_closed(npipe_server* server);
/* The end of npi_os_server_end(); frees the server. */
void npi_server_ended(npipe_server* server);

/* The end of npi_os_connect(): 0 or why not. On 0 conn is described in full
 * (type, read_mode, can_read, can_write, message_max_bytes, direction, quotas,
 * max_instances) and opens. The program is told in the next turn, not inside.
 * For a failure npi_fail() was called just before: its words are kept for the
 * callback. */
void npi_conn_connected(npipe_conn* conn, int status);

/* The end of npi_os_listen(): 0, a client is there (perhaps already gone
 * again), or an error. From the loop. */
void npi_conn_listened(npipe_conn* conn, int status);

/* The server has thrown this client out. Unread data must be gone. The backend
 * has let go of reads, flushes are cancelled by this, writes are to be finished
 * with UV_ECONNABORTED by the backend. May be called from inside any function
 * of the backend; callbacks come in the next turn. */
void npi_conn_disconnected(npipe_conn* conn);

/* Finishes a FLUSH. The callback comes in the next turn. op is not the
 * backend's any more. */
void npi_wait_end(npipe_conn* conn, npi_op* op, int status);

/* Does anything wait for data: a stream or a pending read? */
bool npi_read_wanted(const npipe_conn* conn);
/* The read (or transaction) to serve next; NULL if none is pending (perhaps a
 * stream is). */
npi_op* npi_read_front(const npipe_conn* conn);

/* Finishes the front read: size bytes are in its buffer; flags NPIPE_MORE. The
 * callback comes in the next turn. */
void npi_read_done(npipe_conn* conn, size_t size, unsigned flags);

/* Shows one piece to the stream, now. The program may do anything inside, also
 * close: look again at npi_read_wanted() and conn->state afterwards. From the
 * loop only. */
void npi_stream_piece(npipe_conn* conn, const void* data, size_t size,
                      unsigned flags);

/* Nothing more comes, and all that came was read: every pending and future
 * read ends with status (UV_EOF, UV_ECONNABORTED, UV_EPROTO ...). A stream is
 * told now; so from the loop only. Call it once the queue is empty and
 * something waits, or at any time later; only the first call counts. */
void npi_read_ended(npipe_conn* conn, int status);

/* Finishes a write. The callback comes in the next turn. op is not the
 * backend's any more. */
void npi_write_done(npipe_conn* conn, npi_op* op, int status);

/* The end of npi_os_conn_close(); calls the owed callbacks and then the close
 * callback, and frees the connection in the end. */
void npi_conn_closed(npipe_conn* conn);

#endif /* NPI_BACKEND_H */
