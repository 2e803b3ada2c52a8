/*
 * The frame codec. See codec.h for the calls, docs/wire-format.md for the
 * bytes.
 *
 * Every frame has a head of eight bytes: type, flags, two zero bytes, and the
 * length of what follows, little-endian. Heads are collected in the decoder
 * because they may arrive in any pieces; payload is passed on where it lies.
 *
 * Traps: a length is a peer's word. It is compared with a limit before it is
 * believed, never used to allocate, and sums are checked so that they cannot
 * wrap. What is reserved must be zero, so that it can get a meaning later.
 */
#include <string.h>

#include <uv.h>

#include "codec.h"

static void put16(uint8_t* out, uint32_t value) {
  out[0] = (uint8_t) value;
  out[1] = (uint8_t) (value >> 8);
}

static void put32(uint8_t* out, uint32_t value) {
  put16(out, value);
  put16(out + 2, value >> 16);
}

static void put64(uint8_t* out, uint64_t value) {
  put32(out, (uint32_t) value);
  put32(out + 4, (uint32_t) (value >> 32));
}

static uint16_t get16(const uint8_t* in) {
  return (uint16_t) (in[0] | in[1] << 8);
}

static uint32_t get32(const uint8_t* in) {
  return get16(in) | (uint32_t) get16(in + 2) << 16;
}

static uint64_t get64(const uint8_t* in) {
  return get32(in) | (uint64_t) get32(in + 4) << 32;
}

static void put_head(uint8_t* out, npi_frame frame, unsigned flags,
                     size_t length) {
  out[0] = (uint8_t) frame;
  out[1] = (uint8_t) flags;
  put16(out + 2, 0);
  put32(out + 4, (uint32_t) length);
}

/* ---- the handshake */

static const uint8_t hello_magic[4] = {'N', 'P', 'I', 'P'};

size_t npi_encode_hello(uint8_t* out, const npi_hello* hello) {
  size_t name = strlen(hello->name);
  uint8_t* body = out + NPI_HEADER_BYTES;
  put_head(out, hello->join ? NPI_FRAME_JOIN : NPI_FRAME_HELLO, 0, 24 + name);
  memcpy(body, hello_magic, sizeof hello_magic);
  put16(body + 4, hello->version);
  body[6] = hello->access;
  body[7] = 0;
  put32(body + 8, hello->wait_ms);
  put32(body + 12, hello->pid);
  put32(body + 16, hello->message_max_bytes);
  put32(body + 20, 0);
  memcpy(body + 24, hello->name, name);
  return NPI_HEADER_BYTES + 24 + name;
}

static void put_welcome(uint8_t* body, const npi_welcome* welcome) {
  put16(body, welcome->version);
  body[2] = welcome->type;
  body[3] = welcome->direction;
  put32(body + 4, welcome->in_quota);
  put32(body + 8, welcome->out_quota);
  put32(body + 12, welcome->message_max_bytes);
  put32(body + 16, welcome->max_instances);
  put32(body + 20, welcome->default_wait_ms);
  put32(body + 24, welcome->pid);
  put32(body + 28, welcome->shared ? 1 : 0);
}

size_t npi_encode_welcome(uint8_t* out, const npi_welcome* welcome) {
  put_head(out, NPI_FRAME_WELCOME, 0, NPI_WELCOME_BYTES - NPI_HEADER_BYTES);
  put_welcome(out + NPI_HEADER_BYTES, welcome);
  return NPI_WELCOME_BYTES;
}

size_t npi_encode_status(uint8_t* out, const npi_welcome* status) {
  put_head(out, NPI_FRAME_STATUS, 0, NPI_STATUS_BYTES - NPI_HEADER_BYTES);
  put_welcome(out + NPI_HEADER_BYTES, status);
  put32(out + NPI_WELCOME_BYTES, status->instances);
  put32(out + NPI_WELCOME_BYTES + 4, status->listens ? 1 : 0);
  return NPI_STATUS_BYTES;
}

/* Two numbers. */
static size_t put_pair(uint8_t* out, npi_frame frame, uint32_t a, uint32_t b) {
  put_head(out, frame, 0, 8);
  put32(out + NPI_HEADER_BYTES, a);
  put32(out + NPI_HEADER_BYTES + 4, b);
  return NPI_HEADER_BYTES + 8;
}

size_t npi_encode_refuse(uint8_t* out, uint32_t code) {
  return put_pair(out, NPI_FRAME_REFUSE, code, 0);
}

size_t npi_encode_wait(uint8_t* out, uint32_t ms) {
  return put_pair(out, NPI_FRAME_WAIT, ms, 0);
}

size_t npi_encode_team(uint8_t* out, const npi_team_frame* frame) {
  return put_pair(out, frame->frame, frame->a, frame->b);
}

/* What the body of this handshake frame may measure. */
static bool shake_length_valid(uint8_t type, uint32_t length) {
  switch (type) {
    case NPI_FRAME_HELLO:
    case NPI_FRAME_JOIN:
      return length > 24 && length <= 24 + NPI_HELLO_NAME_MAX;
    case NPI_FRAME_WELCOME: return length == NPI_WELCOME_BYTES - 8;
    case NPI_FRAME_STATUS: return length == NPI_STATUS_BYTES - 8;
    case NPI_FRAME_REFUSE:
    case NPI_FRAME_WAIT: return length == NPI_REFUSE_BYTES - 8;
    default: return false;
  }
}

int npi_shake_length(const uint8_t* in, size_t size, unsigned frames,
                     size_t* length) {
  *length = 0;
  if (size == 0) return 0;
  if (in[0] > NPI_FRAME_TAKE || (frames & NPI_FRAMES(in[0])) == 0)
    return UV_EPROTO;
  if (size < NPI_HEADER_BYTES) return 0;
  uint32_t body = get32(in + 4);
  if (in[1] != 0 || get16(in + 2) != 0 || !shake_length_valid(in[0], body))
    return UV_EPROTO;
  *length = NPI_HEADER_BYTES + body;
  return 0;
}

size_t npi_answer_room(const uint8_t* in, size_t size) {
  if (size < NPI_ANSWER_BYTES_MIN) return NPI_ANSWER_BYTES_MIN - size;
  if (!shake_length_valid(in[0], get32(in + 4))) return 1; /* will be refused */
  size_t length = NPI_HEADER_BYTES + get32(in + 4);
  return length > size ? length - size : 1;
}

int npi_decode_hello(const uint8_t* in, size_t size, npi_hello* hello) {
  const uint8_t* body = in + NPI_HEADER_BYTES;
  memset(hello, 0, sizeof *hello);
  if (size <= NPI_HEADER_BYTES + 24 || size > NPI_HELLO_BYTES_MAX)
    return UV_EPROTO;
  size_t name = size - NPI_HEADER_BYTES - 24;
  if (memcmp(body, hello_magic, sizeof hello_magic) != 0) return UV_EPROTO;
  hello->version = get16(body + 4);
  if (hello->version != NPI_WIRE_VERSION) return 0;
  hello->join = in[0] == NPI_FRAME_JOIN;
  hello->access = body[6];
  hello->wait_ms = get32(body + 8);
  hello->pid = get32(body + 12);
  hello->message_max_bytes = get32(body + 16);
  memcpy(hello->name, body + 24, name);
  unsigned all = NPI_ACCESS_READ | NPI_ACCESS_WRITE;
  if ((hello->access & ~all) != 0) return UV_EPROTO;
  if (body[7] != 0 || get32(body + 20) != 0) return UV_EPROTO;
  if (hello->message_max_bytes == 0) return UV_EPROTO;
  return memchr(hello->name, '\0', name) == NULL ? 0 : UV_EPROTO;
}

static int get_welcome(const uint8_t* body, npi_welcome* welcome) {
  memset(welcome, 0, sizeof *welcome);
  welcome->version = get16(body);
  welcome->type = body[2];
  welcome->direction = body[3];
  welcome->in_quota = get32(body + 4);
  welcome->out_quota = get32(body + 8);
  welcome->message_max_bytes = get32(body + 12);
  welcome->max_instances = get32(body + 16);
  welcome->default_wait_ms = get32(body + 20);
  welcome->pid = get32(body + 24);
  welcome->shared = get32(body + 28) == 1;
  bool valid = welcome->version == NPI_WIRE_VERSION && welcome->type <= 1 &&
               welcome->direction <= 2 && welcome->message_max_bytes > 0 &&
               get32(body + 28) <= 1;
  return valid ? 0 : UV_EPROTO;
}

int npi_decode_welcome(const uint8_t* in, size_t size, npi_welcome* welcome) {
  if (size != NPI_WELCOME_BYTES) return UV_EPROTO;
  return get_welcome(in + NPI_HEADER_BYTES, welcome);
}

int npi_decode_status(const uint8_t* in, size_t size, npi_welcome* status) {
  if (size != NPI_STATUS_BYTES) return UV_EPROTO;
  int err = get_welcome(in + NPI_HEADER_BYTES, status);
  status->instances = get32(in + NPI_WELCOME_BYTES);
  status->listens = get32(in + NPI_WELCOME_BYTES + 4) == 1;
  if (get32(in + NPI_WELCOME_BYTES + 4) > 1) return UV_EPROTO;
  return err;
}

int npi_decode_refuse(const uint8_t* in, size_t size, uint32_t* code) {
  if (size != NPI_REFUSE_BYTES || get32(in + 12) != 0) return UV_EPROTO;
  *code = get32(in + NPI_HEADER_BYTES);
  return 0;
}

int npi_decode_wait(const uint8_t* in, size_t size, uint32_t* ms) {
  return npi_decode_refuse(in, size, ms);
}

int npi_decode_team(const uint8_t in[NPI_TEAM_BYTES], npi_team_frame* frame) {
  bool head = in[1] == 0 && get16(in + 2) == 0 && get32(in + 4) == 8;
  if (!head || in[0] < NPI_FRAME_JOINED || in[0] > NPI_FRAME_TAKE)
    return UV_EPROTO;
  frame->frame = (npi_frame) in[0];
  frame->a = get32(in + NPI_HEADER_BYTES);
  frame->b = get32(in + NPI_HEADER_BYTES + 4);
  return 0;
}

/* ---- after the handshake */

size_t npi_encode_data(uint8_t* out, unsigned flags, uint32_t chunk,
                       uint32_t total) {
  bool announced = (flags & NPI_FLAG_FIRST) && !(flags & NPI_FLAG_LAST);
  put_head(out, NPI_FRAME_DATA, flags, announced ? chunk + 4u : chunk);
  if (!announced) return NPI_HEADER_BYTES;
  put32(out + NPI_HEADER_BYTES, total);
  return NPI_HEADER_BYTES + 4;
}

size_t npi_encode_count(uint8_t* out, npi_frame frame, uint64_t bytes,
                        uint64_t messages) {
  put_head(out, frame, 0, 16);
  put64(out + NPI_HEADER_BYTES, bytes);
  put64(out + NPI_HEADER_BYTES + 8, messages);
  return NPI_COUNT_BYTES;
}

size_t npi_encode_disconnect(uint8_t* out) {
  put_head(out, NPI_FRAME_DISCONNECT, 0, 0);
  return NPI_HEADER_BYTES;
}

void npi_decoder_init(npi_decoder* decoder, bool messages,
                      uint32_t message_max) {
  memset(decoder, 0, sizeof *decoder);
  decoder->messages = messages;
  decoder->message_max = message_max;
}

size_t npi_decoder_payload(const npi_decoder* decoder) {
  return decoder->in_payload ? decoder->frame_left : 0;
}

/* What a frame is that has a head only, or one and two counts. */
static npi_event_kind head_event(uint8_t type) {
  switch (type) {
    case NPI_FRAME_CONSUMED: return NPI_EVENT_CONSUMED;
    case NPI_FRAME_ASK: return NPI_EVENT_ASK;
    case NPI_FRAME_DISCONNECT: return NPI_EVENT_DISCONNECT;
    case NPI_FRAME_WITHDRAW: return NPI_EVENT_WITHDRAW;
    default: return NPI_EVENT_NONE;
  }
}

/* How long the head is of which head_have bytes are there. */
static size_t head_length(const npi_decoder* d) {
  if (d->head_have < NPI_HEADER_BYTES) return NPI_HEADER_BYTES;
  if (d->head[0] == NPI_FRAME_DISCONNECT) return NPI_HEADER_BYTES;
  if (d->head[0] != NPI_FRAME_DATA) return NPI_COUNT_BYTES;
  bool announced = d->head[1] == NPI_FLAG_FIRST;
  return d->messages && announced ? NPI_DATA_HEADER_MAX : NPI_HEADER_BYTES;
}

/* The first eight bytes of a head, as soon as they are there. */
static int head_check(const npi_decoder* d) {
  uint32_t length = get32(d->head + 4);
  uint8_t flags = d->head[1];
  if (get16(d->head + 2) != 0) return UV_EPROTO;
  if (d->head[0] == NPI_FRAME_DISCONNECT)
    return flags == 0 && length == 0 ? 0 : UV_EPROTO;
  if (head_event(d->head[0]) != NPI_EVENT_NONE)
    return flags == 0 && length == 16 ? 0 : UV_EPROTO;
  if (d->head[0] != NPI_FRAME_DATA) return UV_EPROTO;
  if (!d->messages)
    return flags == 0 && length > 0 && length <= NPI_CHUNK_BYTES_MAX
               ? 0
               : UV_EPROTO;
  if (flags > (NPI_FLAG_FIRST | NPI_FLAG_LAST)) return UV_EPROTO;
  if (((flags & NPI_FLAG_FIRST) != 0) == d->in_message) return UV_EPROTO;
  return length <= NPI_CHUNK_BYTES_MAX + 4 ? 0 : UV_EPROTO;
}

/* A complete DATA head: what follows it, and does it fit the message? */
static int data_begin(npi_decoder* d, npi_event* event) {
  uint32_t length = get32(d->head + 4);
  d->flags = d->head[1];
  d->in_payload = true;
  d->frame_left = length;
  if (!d->messages) return 0;
  if (d->flags == NPI_FLAG_FIRST) {
    if (length <= 4) return UV_EPROTO; /* a first part has data */
    d->frame_left = length - 4;
    d->message_left = get32(d->head + NPI_HEADER_BYTES);
  } else if (d->flags & NPI_FLAG_FIRST) {
    d->message_left = length;
  }
  if (d->flags & NPI_FLAG_FIRST) {
    if (d->message_left > d->message_max) return UV_EMSGSIZE;
    event->first = true;
    event->total = d->message_left;
    d->in_message = true;
  }
  if (d->frame_left > NPI_CHUNK_BYTES_MAX) return UV_EPROTO;
  if (d->flags & NPI_FLAG_LAST)
    return d->frame_left == d->message_left ? 0 : UV_EPROTO;
  /* More frames follow, so this one has data but not all of it. */
  bool part = d->frame_left > 0 && d->frame_left < d->message_left;
  return part ? 0 : UV_EPROTO;
}

static void data_piece(npi_decoder* d, const uint8_t* in, size_t size,
                       size_t* used, npi_event* event) {
  size_t piece = size < d->frame_left ? size : d->frame_left;
  d->frame_left -= (uint32_t) piece;
  if (d->messages) d->message_left -= (uint32_t) piece;
  *used += piece;
  event->data = in;
  event->size = piece;
  if (d->frame_left > 0) return;
  d->in_payload = false;
  d->head_have = 0;
  if (d->flags & NPI_FLAG_LAST) {
    event->last = true;
    d->in_message = false;
  }
}

/* Collects the head; *complete when it is all there. */
static int head_collect(npi_decoder* d, const uint8_t* in, size_t size,
                        size_t* used, bool* complete) {
  while (d->head_have < head_length(d)) {
    size_t want = head_length(d) - d->head_have;
    size_t take = want < size - *used ? want : size - *used;
    if (take == 0) return 0;
    memcpy(d->head + d->head_have, in + *used, take);
    d->head_have = (uint8_t) (d->head_have + take);
    *used += take;
    if (d->head_have == NPI_HEADER_BYTES) {
      int err = head_check(d);
      if (err != 0) return err;
    }
  }
  *complete = true;
  return 0;
}

int npi_decode(npi_decoder* d, const uint8_t* in, size_t size, size_t* used,
               npi_event* event) {
  bool complete = false;
  *event = (npi_event){.kind = NPI_EVENT_NONE};
  *used = 0;
  if (!d->in_payload) {
    int err = head_collect(d, in, size, used, &complete);
    if (err != 0 || !complete) return err;
    if (d->head[0] != NPI_FRAME_DATA) {
      event->kind = head_event(d->head[0]);
      if (event->kind != NPI_EVENT_DISCONNECT) {
        event->bytes = get64(d->head + NPI_HEADER_BYTES);
        event->messages = get64(d->head + NPI_HEADER_BYTES + 8);
      }
      d->head_have = 0;
      return 0;
    }
    err = data_begin(d, event);
    if (err != 0) return err;
  }
  /* A message is announced even if none of its data is here yet. */
  if (*used == size && d->frame_left > 0 && !event->first) return 0;
  event->kind = NPI_EVENT_DATA;
  data_piece(d, in + *used, size - *used, used, event);
  return 0;
}
