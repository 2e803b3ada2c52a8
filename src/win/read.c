/*
 * Reading: one overlapped ReadFile() at a time, for whoever is in front.
 *
 * A read of the program's goes straight into its buffer. A stream reads into
 * `small`, so that an idle connection holds no big buffer; if a message turns
 * out to be longer, the system says how much is left of it, and a buffer of
 * that size is made, or the message is shown in pieces. While messages keep
 * being longer than `small` the size is asked for first. Nothing is in flight
 * while nothing is wanted.
 *
 * On a message pipe the system always reads messages. Byte reads are made of
 * them: a buffer is filled up as long as more is there (RD2, RD6, RD7). So the
 * mode can change at any time without losing a boundary (RD4), also on ends
 * that cannot change the system's mode (CR11).
 *
 * `held`: a stream can be stopped while its ReadFile() is in flight; if that
 * had already brought data, the data stays in data[0..got) and comes first in
 * the next read of either form. A cancelled read that had brought data is
 * finished with it instead.
 *
 * A transaction is a read in message mode, but TransactNamedPipe() stands in
 * for its ReadFile() and sends the request as well (transact.c).
 *
 * A read of 0 bytes consumes nothing. Some systems take an empty message with
 * it (RD9); then the empty message is held.
 */
#include <string.h>

#include "win.h"

#define READ_TURN_MAX 64u         /* pieces in one turn */
#define READ_LARGE_BYTES 65536u   /* the least size of `large` */
#define READ_ONCE_MAX 0x40000000u /* bytes in one ReadFile() */

typedef enum read_state {
  READ_PENDING, /* the system will wake us */
  READ_SERVED,  /* somebody got something */
  READ_TOOK     /* the ReadFile() is over: look at its error and `got` */
} read_state;

static bool read_is_data(DWORD error) {
  return error == ERROR_SUCCESS || error == ERROR_MORE_DATA;
}

static bool read_in_messages(const npi_win_conn* conn) {
  return conn->base.read_mode == NPIPE_READ_MESSAGES;
}

/* How much can be read without waiting, and how much of it belongs to the
 * message at hand. Nothing if the pipe is broken. */
static size_t read_peek(npi_win_conn* conn, size_t* message) {
  DWORD available = 0;
  DWORD left = 0;
  if (!PeekNamedPipe(conn->handle, NULL, 0, NULL, &available, &left))
    available = left = 0;
  *message = conn->base.type == NPIPE_MESSAGE ? left : available;
  return available;
}

static size_t read_left(npi_win_conn* conn) {
  size_t left;
  read_peek(conn, &left);
  return left;
}

/* ---- one ReadFile() */

/* How the ReadFile() that was in flight has ended. */
static DWORD read_reap(npi_win_conn* conn) {
  npi_reader* reader = &conn->reader;
  size_t bytes;
  reader->pending = false;
  DWORD error = npi_wait_result(&reader->wait, conn->handle, &bytes);
  if (read_is_data(error)) reader->got += bytes;
  return error;
}

/* Takes the ReadFile() in flight back; it may have ended with data. */
static DWORD read_take_back(npi_win_conn* conn) {
  npi_wait_cancel(&conn->reader.wait, conn->handle);
  return read_reap(conn);
}

static bool read_transacts(const npi_reader* reader) {
  return reader->op != NULL && reader->op->kind == NPI_OP_TRANSACT;
}

/* Its buffer is the buffer at work. */
static void read_op_set(npi_reader* reader, npi_op* op) {
  reader->op = op;
  reader->data = op->u.read.size > 0 ? op->u.read.data : reader->small;
  reader->size = op->u.read.size;
  reader->got = 0;
}

static DWORD read_call(npi_win_conn* conn, DWORD room, OVERLAPPED* overlapped) {
  npi_reader* reader = &conn->reader;
  char* to = reader->data + reader->got;
  if (read_transacts(reader))
    return npi_transact_call(conn, reader->op, to, room, overlapped);
  return ReadFile(conn->handle, to, room, NULL, overlapped) ? ERROR_SUCCESS
                                                            : GetLastError();
}

/* Reads on behind what is there. PENDING or TOOK. */
static read_state read_issue(npi_win_conn* conn, DWORD* error) {
  npi_reader* reader = &conn->reader;
  size_t room = reader->size - reader->got;
  if (room > READ_ONCE_MAX) room = READ_ONCE_MAX;
  *error = ERROR_NOT_ENOUGH_MEMORY;
  if (npi_wait_open(&reader->wait, &conn->wake) != 0) return READ_TOOK;
  OVERLAPPED* overlapped = npi_wait_begin(&reader->wait);
  *error = read_call(conn, (DWORD) room, overlapped);
  if (*error == ERROR_IO_PENDING) {
    reader->pending = true;
    npi_wait_arm(&reader->wait, 0);
    return READ_PENDING;
  }
  /* The count that ReadFile() returns is 0 for ERROR_MORE_DATA (RD5). */
  if (read_is_data(*error)) reader->got += (size_t) overlapped->InternalHigh;
  return READ_TOOK;
}

/* Byte reads: goes on while there is room and something to read. */
static void read_fill(npi_win_conn* conn, DWORD* error) {
  npi_reader* reader = &conn->reader;
  size_t left;
  while (read_is_data(*error) && reader->got < reader->size &&
         read_peek(conn, &left) > 0) {
    if (read_issue(conn, error) == READ_TOOK) continue;
    *error = read_take_back(conn); /* what we saw was withdrawn (CN3) */
    break;
  }
  /* An end can wait for the next read. */
  if (reader->got > 0 && !read_is_data(*error)) *error = ERROR_SUCCESS;
}

/* Nothing more can be read. */
static void read_over(npi_win_conn* conn, int code, DWORD error) {
  npi_fail(code, (int) error, "read: %s", npipe_strerror(code));
  if (code == UV_ECONNABORTED) npi_conn_lost(conn);
  npi_read_ended(&conn->base, code); /* nothing if it is known by now */
}

/* At the first part of a message: is all of it within the limit? If not, reads
 * are over. */
static bool read_check_limit(npi_win_conn* conn, size_t total) {
  if (conn->reader.inside || total <= conn->base.message_max_bytes) return true;
  read_over(conn, UV_EMSGSIZE, 0);
  return false;
}

/* ---- single reads */

/* The front read gets what is in its buffer. */
static void read_op_done(npi_win_conn* conn, DWORD error) {
  npi_reader* reader = &conn->reader;
  bool more = error == ERROR_MORE_DATA;
  bool messages = read_in_messages(conn);
  if (messages) {
    bool ask = more && !reader->inside;
    size_t total = reader->got + (ask ? read_left(conn) : 0);
    if (!read_check_limit(conn, total)) return;
  }
  reader->inside = more;
  npi_read_done(&conn->base, reader->got, more && messages ? NPIPE_MORE : 0);
}

/* A read of 0 bytes has been answered: on a message pipe ERROR_MORE_DATA says
 * that data waits, success that an empty message does, or did. */
static void read_probe_done(npi_win_conn* conn, DWORD error) {
  npi_reader* reader = &conn->reader;
  bool more = error == ERROR_MORE_DATA;
  if (!more && conn->base.type == NPIPE_MESSAGE &&
      !npi_nt_empty_next(conn->handle)) {
    reader->held = true; /* the system took it */
    reader->held_more = false;
  }
  npi_read_done(&conn->base, 0,
                more && read_in_messages(conn) ? NPIPE_MORE : 0);
}

DWORD npi_read_transact(npi_win_conn* conn, npi_op* op) {
  npi_reader* reader = &conn->reader;
  DWORD error;
  reader->merge = false;
  read_op_set(reader, op);
  if (read_issue(conn, &error) == READ_PENDING) return ERROR_SUCCESS;
  if (!read_is_data(error)) {
    reader->op = NULL;
    return error;
  }
  reader->got = 0; /* the reply is here; it is taken in its turn */
  reader->pending = true;
  npi_wait_arm(&reader->wait, 0);
  return ERROR_SUCCESS;
}

static void read_op_took(npi_win_conn* conn, DWORD error) {
  npi_reader* reader = &conn->reader;
  bool transacts = read_transacts(reader);
  bool probe = reader->op->u.read.size == 0 && !transacts;
  if (!probe && reader->merge) read_fill(conn, &error);
  if (transacts && error == ERROR_PIPE_BUSY)
    npi_read_abort(&conn->base, reader->op, UV_EBUSY);
  else if (transacts && error == ERROR_BAD_PIPE)
    npi_read_abort(&conn->base, reader->op, UV_EPIPE);
  else if (!read_is_data(error))
    read_over(conn, npi_win_read_error(error), error);
  else if (probe)
    read_probe_done(conn, error);
  else if (reader->got > 0 || conn->base.type == NPIPE_MESSAGE)
    read_op_done(conn, error);
  /* else: nothing of a byte pipe is nothing; the read goes on */
}

/* The front read, and data that is held: as much of it as fits. */
static read_state read_op_begin_held(npi_win_conn* conn, DWORD* error) {
  npi_reader* reader = &conn->reader;
  npi_op* op = reader->op;
  size_t have = reader->got;
  size_t fits = have < op->u.read.size ? have : op->u.read.size;
  bool messages = read_in_messages(conn);
  unsigned more =
      messages && (have > fits || reader->held_more) ? NPIPE_MORE : 0;
  if (fits > 0) memcpy(op->u.read.data, reader->data, fits);
  if (have > fits || op->u.read.size == 0) {
    memmove(reader->data, reader->data + fits, have - fits);
    reader->got = have - fits;
    if (fits > 0) reader->inside = true;
    npi_read_done(&conn->base, fits, more);
    return READ_SERVED;
  }
  reader->held = false;
  reader->data = op->u.read.data;
  reader->size = op->u.read.size;
  *error = reader->held_more ? ERROR_MORE_DATA : ERROR_SUCCESS;
  if (messages && reader->held_more && reader->got < reader->size)
    return read_issue(conn, error);
  return READ_TOOK;
}

static read_state read_op_begin(npi_win_conn* conn, DWORD* error) {
  npi_reader* reader = &conn->reader;
  npi_op* op = reader->op;
  if (op->kind == NPI_OP_TRANSACT && !npi_transact_ready(conn, op))
    return READ_PENDING;
  reader->merge = !read_in_messages(conn) &&
                  (reader->held || conn->base.type == NPIPE_MESSAGE);
  if (reader->held) return read_op_begin_held(conn, error);
  read_op_set(reader, op);
  return read_issue(conn, error);
}

/* ---- the stream */

/* Makes `large` the buffer at work, with at least size bytes. */
static bool read_grow(npi_win_conn* conn, size_t size) {
  npi_reader* reader = &conn->reader;
  if (reader->large_size < size) {
    if (size < READ_LARGE_BYTES) size = READ_LARGE_BYTES;
    char* large = npi_malloc(size);
    if (large == NULL) return false;
    if (reader->got > 0) memcpy(large, reader->data, reader->got);
    npi_free(reader->large);
    reader->large = large;
    reader->large_size = size;
  } else if (reader->data != reader->large && reader->got > 0) {
    memcpy(reader->large, reader->data, reader->got);
  }
  reader->data = reader->large;
  reader->size = reader->large_size;
  return true;
}

/* A longer piece must not be shown now: in message mode a message beyond
 * whole_max_bytes comes in several. */
static size_t read_piece_max(const npi_win_conn* conn) {
  bool start = read_in_messages(conn) && !conn->reader.inside;
  return start ? conn->base.whole_max_bytes : READ_LARGE_BYTES;
}

static void read_show(npi_win_conn* conn, size_t size, bool more) {
  npi_reader* reader = &conn->reader;
  reader->inside = more;
  reader->busy = more || size > NPI_SMALL_BYTES;
  npi_stream_piece(&conn->base, reader->data, size,
                   more && read_in_messages(conn) ? NPIPE_MORE : 0);
}

static read_state read_stream_begin_held(npi_win_conn* conn, size_t most,
                                         DWORD* error) {
  npi_reader* reader = &conn->reader;
  if (reader->got > most) {
    read_show(conn, most, true);
    reader->got -= most;
    memmove(reader->data, reader->data + most, reader->got);
    return READ_SERVED;
  }
  reader->held = false;
  bool small = reader->data == reader->small;
  reader->size = small ? NPI_SMALL_BYTES : reader->large_size;
  *error = reader->held_more ? ERROR_MORE_DATA : ERROR_SUCCESS;
  return READ_TOOK;
}

static read_state read_stream_begin(npi_win_conn* conn, DWORD* error) {
  npi_reader* reader = &conn->reader;
  size_t most = read_piece_max(conn);
  if (reader->held) return read_stream_begin_held(conn, most, error);
  reader->data = reader->small;
  reader->size = NPI_SMALL_BYTES;
  reader->got = 0;
  if (reader->busy) {
    size_t left = read_left(conn);
    size_t want = left < most ? left : most;
    reader->busy = want > NPI_SMALL_BYTES && read_grow(conn, want);
  }
  if (reader->size > most) reader->size = most;
  return read_issue(conn, error);
}

static void read_stream_took_bytes(npi_win_conn* conn, DWORD error) {
  npi_reader* reader = &conn->reader;
  size_t left;
  if (reader->got == reader->size && reader->size < READ_LARGE_BYTES &&
      read_grow(conn, READ_LARGE_BYTES))
    read_fill(conn, &error);
  /* An empty message counts only if nothing stands behind it (RD7). */
  if (reader->got > 0 ||
      (conn->base.type == NPIPE_MESSAGE && read_peek(conn, &left) == 0))
    read_show(conn, reader->got, error == ERROR_MORE_DATA);
}

/* Message read mode, and the message is longer than the buffer. PENDING, TOOK
 * (look again) or SERVED. */
static read_state read_stream_on(npi_win_conn* conn, DWORD* error) {
  npi_reader* reader = &conn->reader;
  size_t total = reader->got + read_left(conn);
  if (!read_check_limit(conn, total)) return READ_SERVED;
  if (reader->inside || total > conn->base.whole_max_bytes) {
    read_show(conn, reader->got, true);
    return READ_SERVED;
  }
  /* If the rest was withdrawn, what comes next is glued to this (CN3). */
  if (total == reader->got) total++;
  if (read_grow(conn, total)) return read_issue(conn, error);
  read_over(conn, UV_ENOMEM, 0);
  return READ_SERVED;
}

static read_state read_stream_took_message(npi_win_conn* conn, DWORD error) {
  while (error == ERROR_MORE_DATA) {
    read_state state = read_stream_on(conn, &error);
    if (state != READ_TOOK) return state;
  }
  if (!read_is_data(error))
    read_over(conn, npi_win_read_error(error), error);
  else if (read_check_limit(conn, conn->reader.got))
    read_show(conn, conn->reader.got, false);
  return READ_SERVED;
}

static read_state read_stream_took(npi_win_conn* conn, DWORD error) {
  if (!read_is_data(error)) {
    read_over(conn, npi_win_read_error(error), error);
    return READ_SERVED;
  }
  if (read_in_messages(conn)) return read_stream_took_message(conn, error);
  read_stream_took_bytes(conn, error);
  return READ_SERVED;
}

/* ---- the turn */

static read_state read_begin(npi_win_conn* conn, DWORD* error) {
  conn->reader.op = npi_read_front(&conn->base);
  return conn->reader.op != NULL ? read_op_begin(conn, error)
                                 : read_stream_begin(conn, error);
}

static read_state read_step(npi_win_conn* conn) {
  npi_reader* reader = &conn->reader;
  DWORD error = ERROR_SUCCESS;
  if (reader->pending) {
    if (!npi_wait_fired(&reader->wait)) return READ_PENDING;
    error = read_reap(conn);
  } else {
    read_state state = read_begin(conn, &error);
    if (state != READ_TOOK) return state;
  }
  if (reader->op == NULL) return read_stream_took(conn, error);
  read_op_took(conn, error);
  return READ_SERVED;
}

/* `large` is only for while there is much to read. */
static void read_release(npi_reader* reader) {
  bool at_work =
      (reader->pending || reader->held) && reader->data == reader->large;
  if (reader->large == NULL || at_work) return;
  npi_free(reader->large);
  reader->large = NULL;
  reader->large_size = 0;
}

void npi_read_turn(npi_win_conn* conn) {
  npipe_conn* base = &conn->base;
  for (unsigned n = 0; n < READ_TURN_MAX; n++) {
    bool wanted = base->state == NPI_CONN_OPEN && base->read_end == 0 &&
                  npi_read_wanted(base);
    if (!wanted || read_step(conn) == READ_PENDING) {
      read_release(&conn->reader);
      return;
    }
  }
  npi_conn_post(base);
}

/* ---- taking reads back */

int npi_os_read_cancel(npipe_conn* base, npi_op* op) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_reader* reader = &conn->reader;
  npi_transact_leave(conn, op);
  if (!reader->pending || reader->op != op) return 0;
  DWORD error = read_take_back(conn);
  if (read_is_data(error)) {
    read_op_took(conn, error);
    return npi_read_front(base) == op ? 0 : UV_ENOENT;
  }
  if (reader->got == 0) return 0;
  read_op_done(conn, ERROR_MORE_DATA); /* it had begun with held data */
  return UV_ENOENT;
}

void npi_os_stream_stop(npipe_conn* base) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_reader* reader = &conn->reader;
  if (!reader->pending || reader->op != NULL) return;
  DWORD error = read_take_back(conn);
  bool data = read_is_data(error);
  reader->held = reader->got > 0 || (data && base->type == NPIPE_MESSAGE);
  reader->held_more = error != ERROR_SUCCESS;
}

int npi_os_set_read_mode(npipe_conn* base, npipe_read_mode mode) {
  if (mode == NPIPE_READ_MESSAGES && base->type != NPIPE_MESSAGE)
    return npi_fail(UV_EINVAL, 0, "set read mode: not a message pipe");
  if (!base->is_server && npi_os_state(base) == NPIPE_STATE_DISCONNECTED) {
    npi_conn_lost((npi_win_conn*) base);
    return npi_fail(UV_ECONNABORTED, ERROR_PIPE_NOT_CONNECTED,
                    "set read mode: the server disconnected this pipe (IN3)");
  }
  return 0; /* the system's mode stays: see above */
}

void npi_read_close(npi_win_conn* conn) {
  if (conn->reader.pending) read_take_back(conn);
}

void npi_read_reset(npi_win_conn* conn) {
  npi_reader* reader = &conn->reader;
  npi_read_close(conn);
  reader->held = reader->held_more = reader->inside = reader->busy = false;
  reader->got = 0;
  reader->op = NULL;
}
