/*
 * Receiving: from the socket through the decoder to the reader or the queue.
 *
 * The socket is always read, whether or not the program wants data: frames
 * that say how far the peer has read, or that it is gone, ride behind data.
 * What may be under way is bounded by the quota (docs/wire-format.md), which
 * is checked here: a peer that sends more breaks the protocol.
 *
 * What was taken from the socket and not decoded yet is conn->in. libuv reads;
 * but an operation that has to know how things stand now does not wait for the
 * loop and drains the socket itself (npi_receive_drain), perhaps from inside a
 * callback that was made in the middle of conn->in. Then everything goes to the
 * queue and the turn shows it.
 *
 * Three places to read to: during the handshake its own buffer; in the middle
 * of a long message the memory where the message is collected; else one buffer
 * per thread. libuv asks for a buffer and hands it back filled in one go, so
 * connections can share it and an idle one holds none. It is lent to the
 * program's callback, which may run another loop in the same thread; so it can
 * be out when the next one is asked for, and that one is then allocated.
 */
#include <pthread.h>
#include <string.h>

#include "unix.h"

#define RECEIVE_BYTES 65536u
/* A payload at least this long is worth reading to its place. */
#define RECEIVE_PLACE_BYTES 4096u
#define DRAIN_BYTES 16384u
/* More than a socket's buffer holds; what comes after it comes by the loop. */
#define DRAIN_BYTES_MAX ((size_t) 4 * 1024 * 1024)

typedef struct thread_buffer {
  bool lent;
  char bytes[RECEIVE_BYTES];
} thread_buffer;

static pthread_key_t receive_key;
static pthread_once_t receive_once = PTHREAD_ONCE_INIT;
static bool receive_key_made;

static void receive_make_key(void) {
  receive_key_made = pthread_key_create(&receive_key, npi_free) == 0;
}

/* This thread's buffer, made when first asked for; NULL without memory. */
static thread_buffer* receive_buffer(void) {
  pthread_once(&receive_once, receive_make_key);
  if (!receive_key_made) return NULL;
  thread_buffer* buffer = pthread_getspecific(receive_key);
  if (buffer != NULL) return buffer;
  buffer = npi_malloc(sizeof *buffer);
  if (buffer == NULL) return NULL;
  buffer->lent = false;
  if (pthread_setspecific(receive_key, buffer) == 0) return buffer;
  npi_free(buffer);
  return NULL;
}

static void receive_lend(npi_unix_conn* conn, uv_buf_t* buf) {
  thread_buffer* buffer = receive_buffer();
  if (buffer != NULL && !buffer->lent) {
    buffer->lent = true;
    *buf = uv_buf_init(buffer->bytes, RECEIVE_BYTES);
    return;
  }
  conn->borrowed = npi_malloc(RECEIVE_BYTES);
  bool none = conn->borrowed == NULL;
  *buf = uv_buf_init(conn->borrowed, none ? 0 : RECEIVE_BYTES);
}

static void receive_give_back(npi_unix_conn* conn, const uv_buf_t* buf) {
  npi_free(conn->borrowed);
  conn->borrowed = NULL;
  thread_buffer* buffer = receive_buffer();
  if (buffer != NULL && buf->base == buffer->bytes) buffer->lent = false;
}

/* A client reads no further than the answer, which data may follow. */
static void receive_shake_room(npi_unix_conn* conn, uv_buf_t* buf) {
  npi_shake* shake = conn->shake;
  size_t room = shake->server != NULL
                    ? sizeof shake->bytes - shake->have
                    : npi_answer_room(shake->bytes, shake->have);
  *buf = uv_buf_init((char*) shake->bytes + shake->have, (unsigned) room);
}

static void receive_on_alloc(uv_handle_t* handle, size_t suggested,
                             uv_buf_t* buf) {
  npi_unix_conn* conn = handle->data;
  (void) suggested;
  if (conn->shake != NULL) {
    receive_shake_room(conn, buf);
    return;
  }
  size_t payload = npi_decoder_payload(&conn->decoder);
  if (payload >= RECEIVE_PLACE_BYTES && !conn->closing) {
    size_t room;
    uint8_t* place = npi_rxq_room(&conn->rxq, payload, &room);
    if (place != NULL && room >= RECEIVE_PLACE_BYTES) {
      *buf = uv_buf_init((char*) place, (unsigned) room);
      return;
    }
  }
  receive_lend(conn, buf);
}

/* ---- data */

/* May a message of `total` bytes begin now? See "How much may be under way"
 * in docs/wire-format.md. */
static bool receive_in_bounds(const npi_unix_conn* conn, uint32_t total) {
  if (conn->rxq.message_count >= NPI_UNREAD_MESSAGES_MAX) return false;
  return total == 0 || conn->rxq.bytes <= conn->rx_quota;
}

static int receive_message(npi_unix_conn* conn, const npi_event* event) {
  if (event->first && !receive_in_bounds(conn, event->total)) return UV_EPROTO;
  bool whole = event->first && event->last;
  if (whole && npi_read_direct(conn, event->data, event->size)) return 0;
  return npi_rxq_push_piece(&conn->rxq, event->data, event->size, event->first,
                            event->last, event->total);
}

static int receive_bytes(npi_unix_conn* conn, const uint8_t* data,
                         size_t size) {
  if (npi_read_direct(conn, data, size)) return 0;
  uint64_t most = (uint64_t) conn->rx_quota + NPI_WINDOW_BYTES;
  if (!conn->plain && conn->rxq.bytes + size > most) return UV_EPROTO;
  return npi_rxq_push_bytes(&conn->rxq, data, size);
}

static int receive_payload(npi_unix_conn* conn, const npi_event* event) {
  if (conn->closing) return 0; /* nobody will read it */
  if (conn->rx_none) return UV_EPROTO;
  int err = conn->base.type == NPIPE_MESSAGE
                ? receive_message(conn, event)
                : receive_bytes(conn, event->data, event->size);
  if (err != 0 || !npi_read_wanted(&conn->base)) return err;
  if (conn->draining)
    npi_conn_post(&conn->base);
  else
    npi_read_serve(conn);
  return 0;
}

/* The peer closes and takes back what it wrote behind this position (CL5), as
 * far as it was not read. */
static int receive_withdraw(npi_unix_conn* conn, npi_count keep) {
  const npi_rxq* queue = &conn->rxq;
  bool messages = conn->base.type == NPIPE_MESSAGE;
  uint64_t end = messages ? keep.messages : keep.bytes;
  uint64_t read = messages ? conn->consumed.messages : conn->consumed.bytes;
  uint64_t unread = messages ? queue->message_count : queue->bytes;
  /* While we close, data is thrown away and not counted. */
  if (!conn->closing && end > read && end - read > unread) return UV_EPROTO;
  npi_rxq_cut(&conn->rxq, end > read ? end - read : 0);
  npi_link_down(conn, UV_EOF);
  return 0;
}

static int receive_event(npi_unix_conn* conn, const npi_event* event) {
  npi_count count = {event->bytes, event->messages};
  switch (event->kind) {
    case NPI_EVENT_CONSUMED: return npi_send_consumed(conn, count);
    case NPI_EVENT_ASK:
      conn->asked = count;
      conn->ask_open = true;
      return 0;
    case NPI_EVENT_DISCONNECT:
      if (conn->base.is_server) return UV_EPROTO;
      npi_link_cut(conn);
      return 0;
    case NPI_EVENT_WITHDRAW: return receive_withdraw(conn, count);
    default: return receive_payload(conn, event);
  }
}

/* Decodes conn->in. A callback may have drained the socket, disconnected or
 * closed meanwhile: then nothing is left of it. */
static int receive_frames(npi_unix_conn* conn) {
  npi_event event;
  size_t used;
  while (conn->in_size > 0 && conn->link == NPI_LINK_UP) {
    int err =
        npi_decode(&conn->decoder, conn->in, conn->in_size, &used, &event);
    conn->in += used;
    conn->in_size -= used;
    if (err == 0 && event.kind != NPI_EVENT_NONE)
      err = receive_event(conn, &event);
    if (err != 0) return err;
  }
  return 0;
}

/* Plain bytes have no bound of their own: when much is unread, the socket is
 * not read, and its buffer holds the peer back. npi_read_serve() resumes. */
static bool receive_plain_full(const npi_unix_conn* conn) {
  return conn->plain &&
         conn->rxq.bytes >= (uint64_t) conn->rx_quota + NPI_WINDOW_BYTES;
}

static int receive_plain(npi_unix_conn* conn) {
  npi_event event = {
      .kind = NPI_EVENT_DATA, .data = conn->in, .size = conn->in_size};
  conn->in_size = 0;
  int err = receive_event(conn, &event);
  if (conn->link == NPI_LINK_UP && receive_plain_full(conn)) {
    uv_read_stop((uv_stream_t*) &conn->pipe);
    if (!conn->closing) npi_conn_keep_alive(conn);
  }
  return err;
}

/* A connection that lingers has no turn any more. */
static void receive_report(npi_unix_conn* conn) {
  if (!conn->closing)
    npi_conn_post(&conn->base);
  else if (!conn->draining)
    npi_send_flush(conn);
}

static void receive_in(npi_unix_conn* conn) {
  int err = conn->plain ? receive_plain(conn) : receive_frames(conn);
  if (err != 0) npi_link_down(conn, err);
  if (conn->link != NPI_LINK_UP)
    conn->in_size = 0;
  else if (npi_report_due(conn))
    receive_report(conn);
}

static void receive_data(npi_unix_conn* conn, const void* data, size_t size) {
  conn->in = data;
  conn->in_size = size;
  receive_in(conn);
}

/* One read of the socket; false when there is no more for now. */
static bool receive_more(npi_unix_conn* conn, size_t* total) {
  uint8_t bytes[DRAIN_BYTES];
  ssize_t size = npi_sock_receive(conn->fd, bytes, sizeof bytes);
  if (size == UV_EAGAIN) return false;
  if (size <= 0) {
    npi_link_down(conn, UV_EOF);
    return false;
  }
  receive_data(conn, bytes, (size_t) size);
  *total += (size_t) size;
  return *total < DRAIN_BYTES_MAX;
}

void npi_receive_drain(npi_unix_conn* conn) {
  size_t total = 0;
  if (conn->draining || conn->link != NPI_LINK_UP) return;
  conn->draining = true;
  if (conn->in_size > 0) receive_in(conn);
  while (conn->link == NPI_LINK_UP && conn->rx_end == 0 &&
         !receive_plain_full(conn) && receive_more(conn, &total)) {
  }
  conn->draining = false;
}

/* ---- libuv's side */

static void receive_shake(npi_unix_conn* conn, size_t size) {
  conn->shake->have += size;
  if (conn->shake->server != NULL)
    npi_server_received(conn);
  else
    npi_client_received(conn);
}

static void receive_lost(npi_unix_conn* conn, ssize_t status) {
  int code = status == UV_ENOBUFS ? UV_ENOMEM : UV_EOF;
  if (conn->shake == NULL)
    npi_link_down(conn, code);
  else if (conn->shake->server != NULL)
    npi_conn_discard(&conn->base);
  else
    npi_client_lost(conn);
}

static void receive_on_read(uv_stream_t* stream, ssize_t size,
                            const uv_buf_t* buf) {
  npi_unix_conn* conn = stream->data;
  if (size < 0)
    receive_lost(conn, size);
  else if (size > 0 && conn->shake != NULL)
    receive_shake(conn, (size_t) size);
  else if (size > 0)
    receive_data(conn, buf->base, (size_t) size);
  receive_give_back(conn, buf);
}

void npi_receive_start(npi_unix_conn* conn) {
  uv_read_start((uv_stream_t*) &conn->pipe, receive_on_alloc, receive_on_read);
}
