/*
 * The frames of a Unix pipe: whatever the pieces, the same events; whatever
 * the bytes, no crash. What is fed stands right before a page that cannot be
 * touched, so that a read behind it faults.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "codec.h"
#include "harness.h"

enum { MESSAGE_MAX = 1 << 20, TAPE_MAX = 1 << 20, EVENTS_MAX = 64 };

/* ------------------------------------------------- memory with an end */

static struct {
  uint8_t* memory;
  uint8_t* end; /* the first byte that faults */
} guard;

static int guard_begin(void** state) {
  (void) state;
  size_t page = (size_t) sysconf(_SC_PAGESIZE);
  size_t size = TAPE_MAX + page;
  guard.memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (guard.memory == MAP_FAILED) return -1;
  guard.end = guard.memory + TAPE_MAX;
  return mprotect(guard.end, page, PROT_NONE);
}

static int guard_end(void** state) {
  (void) state;
  return munmap(guard.memory, TAPE_MAX + (size_t) sysconf(_SC_PAGESIZE));
}

static const uint8_t* guarded(const uint8_t* data, size_t size) {
  uint8_t* place = guard.end - size;
  if (size > 0) memcpy(place, data, size);
  return place;
}

/* ------------------------------------------------- tapes: encoded bytes */

typedef struct tape {
  size_t size;
  uint8_t bytes[TAPE_MAX];
} tape;

static tape recorded;

static void tape_data(tape* t, unsigned flags, uint32_t chunk, uint32_t total,
                      uint32_t seed, size_t start) {
  t->size += npi_encode_data(t->bytes + t->size, flags, chunk, total);
  pattern_fill_from(t->bytes + t->size, chunk, seed, start);
  t->size += chunk;
}

static void tape_message(tape* t, uint32_t total, uint32_t chunk,
                         uint32_t seed) {
  uint32_t at = 0;
  do {
    uint32_t piece = total - at < chunk ? total - at : chunk;
    unsigned flags = (at == 0 ? NPI_FLAG_FIRST : 0u) |
                     (at + piece == total ? NPI_FLAG_LAST : 0u);
    tape_data(t, flags, piece, total, seed, at);
    at += piece;
  } while (at < total);
}

static void tape_count(tape* t, npi_frame frame, uint64_t bytes,
                       uint64_t messages) {
  t->size += npi_encode_count(t->bytes + t->size, frame, bytes, messages);
}

/* ------------------------------------------------- what was decoded */

/* DATA events of one message, or of bytes without another event between them,
 * are one: how they are cut is the business of the feeder. */
typedef struct got_event {
  npi_event_kind kind;
  bool first, last;
  uint64_t bytes, messages; /* DATA: bytes so far, total */
  uint32_t sum;             /* DATA: over the bytes */
} got_event;

typedef struct listener {
  npi_decoder decoder;
  int status;
  size_t count;
  got_event events[EVENTS_MAX];
} listener;

static void listener_data(listener* l, const npi_event* event) {
  got_event* now = l->count > 0 ? &l->events[l->count - 1] : NULL;
  if (event->first || now == NULL || now->kind != NPI_EVENT_DATA || now->last) {
    CHECK(l->count < EVENTS_MAX);
    now = &l->events[l->count++];
    *now = (got_event){.kind = NPI_EVENT_DATA,
                       .first = event->first,
                       .messages = event->total};
  }
  now->last = event->last;
  now->bytes += event->size;
  for (size_t i = 0; i < event->size; i++)
    now->sum = now->sum * 31 + event->data[i] + 1;
}

/* Feeds one piece; the calls that npi_decode() promises hold. */
static void listener_feed(listener* l, const uint8_t* data, size_t size) {
  const uint8_t* in = guarded(data, size);
  size_t at = 0;
  size_t idle = 0;
  while (l->status == 0) {
    size_t used = 0;
    npi_event event;
    size_t payload = npi_decoder_payload(&l->decoder);
    l->status = npi_decode(&l->decoder, in + at, size - at, &used, &event);
    CHECK(used <= size - at);
    if (l->status != 0) return;
    if (event.kind == NPI_EVENT_NONE) {
      CHECK_SIZE(size - at, used);
      return;
    }
    if (event.kind == NPI_EVENT_DATA) {
      CHECK(event.size <= used);
      CHECK(event.data >= in + at && event.data + event.size == in + at + used);
      if (payload > 0) CHECK(event.size == used && used <= payload);
      listener_data(l, &event);
    } else {
      CHECK(l->count < EVENTS_MAX);
      l->events[l->count++] = (got_event){
          .kind = event.kind, .bytes = event.bytes, .messages = event.messages};
    }
    at += used;
    idle = used > 0 ? 0 : idle + 1;
    CHECK(idle < 2); /* it comes to an end */
  }
}

static void listener_begin(listener* l, bool messages) {
  memset(l, 0, sizeof *l);
  npi_decoder_init(&l->decoder, messages, MESSAGE_MAX);
}

static void same_events(const listener* want, const listener* got,
                        size_t split) {
  bool same = want->status == got->status && want->count == got->count;
  for (size_t i = 0; same && i < want->count; i++) {
    const got_event* a = &want->events[i];
    const got_event* b = &got->events[i];
    same = a->kind == b->kind && a->first == b->first && a->last == b->last &&
           a->bytes == b->bytes && a->messages == b->messages &&
           a->sum == b->sum;
  }
  if (!same) fail_msg("other events when split at %u", (unsigned) split);
}

/* Once in one piece, then at every place in two, then byte by byte. */
static void every_split(const tape* t, bool messages, listener* want) {
  static listener got;
  listener_begin(want, messages);
  listener_feed(want, t->bytes, t->size);
  for (size_t split = 0; split <= t->size; split++) {
    listener_begin(&got, messages);
    listener_feed(&got, t->bytes, split);
    listener_feed(&got, t->bytes + split, t->size - split);
    same_events(want, &got, split);
  }
  listener_begin(&got, messages);
  for (size_t i = 0; i < t->size; i++) {
    listener_feed(&got, t->bytes + i, 1);
    listener_feed(&got, t->bytes, 0);
  }
  same_events(want, &got, t->size + 1);
}

static void check_data(const got_event* event, uint32_t size, uint32_t seed) {
  uint8_t* pattern = must_alloc(size + 1u);
  uint32_t sum = 0;
  pattern_fill(pattern, size, seed);
  for (size_t i = 0; i < size; i++) sum = sum * 31 + pattern[i] + 1;
  free(pattern);
  CHECK(event->kind == NPI_EVENT_DATA);
  CHECK_SIZE(size, event->bytes);
  CHECK_SIZE(sum, event->sum);
}

static void check_message(const got_event* event, uint32_t size,
                          uint32_t seed) {
  check_data(event, size, seed);
  CHECK(event->first && event->last);
  CHECK_SIZE(size, event->messages);
}

static void check_count(const got_event* event, npi_event_kind kind,
                        uint64_t bytes, uint64_t messages) {
  CHECK(event->kind == kind);
  CHECK(event->bytes == bytes && event->messages == messages);
}

/* ------------------------------------------------- conversations */

static void record_messages(tape* t) {
  t->size = 0;
  tape_message(t, 0, 100, 1);
  tape_message(t, 1, 100, 2);
  tape_count(t, NPI_FRAME_CONSUMED, 1, 2);
  tape_message(t, 50, 100, 3); /* one frame */
  tape_message(t, 2, 1, 4);    /* two frames of a byte */
  tape_message(t, 300, 100, 5);
  tape_count(t, NPI_FRAME_ASK, 0x0102030405060708u, UINT64_MAX);
  tape_message(t, 301, 100, 6);
  tape_message(t, 0, 100, 7);
}

static void messages_split_anywhere(void** state) {
  static listener want;
  (void) state;
  record_messages(&recorded);
  every_split(&recorded, true, &want);
  CHECK_STATUS(0, want.status);
  CHECK_SIZE(9, want.count);
  check_message(&want.events[0], 0, 1);
  check_message(&want.events[1], 1, 2);
  check_count(&want.events[2], NPI_EVENT_CONSUMED, 1, 2);
  check_message(&want.events[3], 50, 3);
  check_message(&want.events[4], 2, 4);
  check_message(&want.events[5], 300, 5);
  check_count(&want.events[6], NPI_EVENT_ASK, 0x0102030405060708u, UINT64_MAX);
  check_message(&want.events[7], 301, 6);
  check_message(&want.events[8], 0, 7);
}

/* CONSUMED and ASK may stand between the frames of a message. */
static void counts_between_the_frames_of_a_message(void** state) {
  listener l;
  (void) state;
  recorded.size = 0;
  tape_data(&recorded, NPI_FLAG_FIRST, 3, 5, 1, 0);
  tape_count(&recorded, NPI_FRAME_CONSUMED, 9, 8);
  tape_count(&recorded, NPI_FRAME_ASK, 7, 6);
  tape_data(&recorded, NPI_FLAG_LAST, 2, 0, 1, 3);
  every_split(&recorded, true, &l);
  CHECK_STATUS(0, l.status);
  CHECK_SIZE(4, l.count);
  CHECK(l.events[0].first && !l.events[0].last);
  check_count(&l.events[1], NPI_EVENT_CONSUMED, 9, 8);
  check_count(&l.events[2], NPI_EVENT_ASK, 7, 6);
  CHECK(!l.events[3].first && l.events[3].last);
  CHECK_SIZE(2, l.events[3].bytes);
}

/* What ends a connection may stand there, too. */
static void last_frames_split_anywhere(void** state) {
  listener l;
  (void) state;
  for (int messages = 0; messages < 2; messages++) {
    recorded.size = 0;
    tape_data(&recorded, messages ? NPI_FLAG_FIRST : 0u, 3, 5, 1, 0);
    tape_count(&recorded, NPI_FRAME_WITHDRAW, UINT64_MAX, 6);
    recorded.size += npi_encode_disconnect(recorded.bytes + recorded.size);
    every_split(&recorded, messages, &l);
    CHECK_STATUS(0, l.status);
    CHECK_SIZE(3, l.count);
    check_count(&l.events[1], NPI_EVENT_WITHDRAW, UINT64_MAX, 6);
    check_count(&l.events[2], NPI_EVENT_DISCONNECT, 0, 0);
  }
}

static void bytes_split_anywhere(void** state) {
  static listener want;
  (void) state;
  recorded.size = 0;
  tape_data(&recorded, 0, 1, 0, 1, 0);
  tape_data(&recorded, 0, 399, 0, 1, 1);
  tape_count(&recorded, NPI_FRAME_ASK, 1, 0);
  tape_data(&recorded, 0, 12, 0, 2, 0);
  tape_count(&recorded, NPI_FRAME_CONSUMED, 5, 0);
  every_split(&recorded, false, &want);
  CHECK_STATUS(0, want.status);
  CHECK_SIZE(4, want.count);
  check_data(&want.events[0], 400, 1);
  check_count(&want.events[1], NPI_EVENT_ASK, 1, 0);
  check_data(&want.events[2], 12, 2);
  check_count(&want.events[3], NPI_EVENT_CONSUMED, 5, 0);
}

static void the_biggest_frames(void** state) {
  static listener l;
  (void) state;
  recorded.size = 0;
  tape_message(&recorded, 3 * NPI_CHUNK_BYTES_MAX, NPI_CHUNK_BYTES_MAX, 1);
  listener_begin(&l, true);
  listener_feed(&l, recorded.bytes, recorded.size);
  CHECK_STATUS(0, l.status);
  CHECK_SIZE(1, l.count);
  check_message(&l.events[0], 3 * NPI_CHUNK_BYTES_MAX, 1);
  recorded.size = 0;
  tape_data(&recorded, 0, NPI_CHUNK_BYTES_MAX, 0, 1, 0);
  listener_begin(&l, false);
  listener_feed(&l, recorded.bytes, recorded.size);
  CHECK_STATUS(0, l.status);
  check_data(&l.events[0], NPI_CHUNK_BYTES_MAX, 1);
}

static void payload_is_told_before_it_comes(void** state) {
  npi_decoder d;
  npi_event event;
  size_t used;
  (void) state;
  recorded.size = 0;
  tape_data(&recorded, NPI_FLAG_FIRST, 10, 30, 1, 0);
  npi_decoder_init(&d, true, MESSAGE_MAX);
  CHECK_SIZE(0, npi_decoder_payload(&d));
  CHECK_STATUS(0, npi_decode(&d, recorded.bytes, 12, &used, &event));
  CHECK_SIZE(12, used);
  CHECK(event.kind == NPI_EVENT_DATA && event.first && event.size == 0);
  CHECK_SIZE(30, event.total);
  CHECK_SIZE(10, npi_decoder_payload(&d));
  CHECK_STATUS(0, npi_decode(&d, recorded.bytes + 12, 4, &used, &event));
  CHECK_SIZE(6, npi_decoder_payload(&d));
  CHECK_STATUS(0, npi_decode(&d, recorded.bytes + 16, 6, &used, &event));
  CHECK_SIZE(0, npi_decoder_payload(&d));
}

/* ------------------------------------------------- bad frames */

/* Every way to feed the tape ends with this status. */
static void tape_fails(const tape* t, bool messages, int status) {
  static listener l;
  every_split(t, messages, &l);
  CHECK_STATUS(status, l.status);
}

static void head_fails(bool messages, int status, uint8_t type, uint8_t flags,
                       uint8_t reserved_2, uint8_t reserved_3,
                       uint32_t length) {
  tape* t = &recorded;
  uint8_t head[8] = {type,
                     flags,
                     reserved_2,
                     reserved_3,
                     (uint8_t) length,
                     (uint8_t) (length >> 8),
                     (uint8_t) (length >> 16),
                     (uint8_t) (length >> 24)};
  memcpy(t->bytes, head, sizeof head);
  memset(t->bytes + 8, 0, 32);
  t->size = 40;
  tape_fails(t, messages, status);
}

static void bad_reserved_bytes(void** state) {
  (void) state;
  for (int bit = 1; bit < 256; bit <<= 1) {
    for (int both = 0; both < 2; both++) {
      uint8_t a = (uint8_t) (both ? 0 : bit);
      uint8_t b = (uint8_t) (both ? bit : 0);
      head_fails(true, UV_EPROTO, NPI_FRAME_DATA, 3, a, b, 1);
      head_fails(false, UV_EPROTO, NPI_FRAME_DATA, 0, a, b, 1);
      head_fails(true, UV_EPROTO, NPI_FRAME_CONSUMED, 0, a, b, 16);
      head_fails(false, UV_EPROTO, NPI_FRAME_ASK, 0, a, b, 16);
      head_fails(true, UV_EPROTO, NPI_FRAME_DISCONNECT, 0, a, b, 0);
      head_fails(false, UV_EPROTO, NPI_FRAME_WITHDRAW, 0, a, b, 16);
    }
    if (bit > 2)
      head_fails(true, UV_EPROTO, NPI_FRAME_DATA, (uint8_t) (bit | 3), 0, 0, 1);
    head_fails(false, UV_EPROTO, NPI_FRAME_DATA, (uint8_t) bit, 0, 0, 1);
    head_fails(true, UV_EPROTO, NPI_FRAME_CONSUMED, (uint8_t) bit, 0, 0, 16);
    head_fails(true, UV_EPROTO, NPI_FRAME_ASK, (uint8_t) bit, 0, 0, 16);
    head_fails(false, UV_EPROTO, NPI_FRAME_DISCONNECT, (uint8_t) bit, 0, 0, 0);
    head_fails(true, UV_EPROTO, NPI_FRAME_WITHDRAW, (uint8_t) bit, 0, 0, 16);
  }
}

static void bad_types(void** state) {
  (void) state;
  for (unsigned type = 0; type < 256; type++) {
    if (type >= NPI_FRAME_DATA && type <= NPI_FRAME_WITHDRAW) continue;
    head_fails(true, UV_EPROTO, (uint8_t) type, 0, 0, 0, 16);
    head_fails(false, UV_EPROTO, (uint8_t) type, 0, 0, 0, 16);
  }
}

static void bad_lengths(void** state) {
  static const uint32_t counts[] = {0, 1, 15, 17, 0x10010, UINT32_MAX};
  (void) state;
  for (size_t i = 0; i < HARNESS_COUNT(counts); i++) {
    head_fails(true, UV_EPROTO, NPI_FRAME_CONSUMED, 0, 0, 0, counts[i]);
    head_fails(false, UV_EPROTO, NPI_FRAME_ASK, 0, 0, 0, counts[i]);
    head_fails(true, UV_EPROTO, NPI_FRAME_WITHDRAW, 0, 0, 0, counts[i]);
    if (counts[i] == 0) continue;
    head_fails(true, UV_EPROTO, NPI_FRAME_DISCONNECT, 0, 0, 0, counts[i]);
  }
  head_fails(false, UV_EPROTO, NPI_FRAME_DATA, 0, 0, 0, 0); /* no bytes */
  head_fails(false, UV_EPROTO, NPI_FRAME_DATA, 0, 0, 0,
             NPI_CHUNK_BYTES_MAX + 1);
  head_fails(false, UV_EPROTO, NPI_FRAME_DATA, 0, 0, 0, UINT32_MAX);
  head_fails(true, UV_EPROTO, NPI_FRAME_DATA, 3, 0, 0, NPI_CHUNK_BYTES_MAX + 1);
  head_fails(true, UV_EPROTO, NPI_FRAME_DATA, 3, 0, 0, UINT32_MAX);
  head_fails(true, UV_EPROTO, NPI_FRAME_DATA, 1, 0, 0, NPI_CHUNK_BYTES_MAX + 5);
  head_fails(true, UV_EPROTO, NPI_FRAME_DATA, 1, 0, 0, UINT32_MAX);
}

static void parts_fail(int status, unsigned flags_1, uint32_t chunk_1,
                       uint32_t total, unsigned flags_2, uint32_t chunk_2) {
  recorded.size = 0;
  tape_data(&recorded, flags_1, chunk_1, total, 1, 0);
  tape_data(&recorded, flags_2, chunk_2, total, 1, chunk_1);
  tape_fails(&recorded, true, status);
}

static void bad_messages(void** state) {
  const unsigned first = NPI_FLAG_FIRST;
  const unsigned last = NPI_FLAG_LAST;
  (void) state;
  parts_fail(0, first, 3, 5, last, 2);          /* this is how it is right */
  parts_fail(UV_EPROTO, first, 3, 5, first, 2); /* FIRST twice */
  parts_fail(UV_EPROTO, first, 3, 5, first | last, 2);
  parts_fail(UV_EPROTO, 0, 3, 5, last, 2); /* never FIRST */
  parts_fail(UV_EPROTO, last, 3, 5, last, 2);
  parts_fail(UV_EPROTO, first | last, 3, 5, last, 2); /* over already */
  parts_fail(UV_EPROTO, first, 3, 5, last, 1);        /* LAST too short */
  parts_fail(UV_EPROTO, first, 3, 5, last, 0);
  parts_fail(UV_EPROTO, first, 3, 5, last, 3); /* LAST too long */
  parts_fail(UV_EPROTO, first, 3, 5, 0, 2);    /* complete, not LAST */
  parts_fail(UV_EPROTO, first, 3, 5, 0, 3);
  parts_fail(UV_EPROTO, first, 3, 5, 0, 0); /* a part without data */
  parts_fail(UV_EPROTO, first, 0, 5, last, 5);
  parts_fail(UV_EPROTO, first, 5, 5, last, 0); /* all, not LAST */
  parts_fail(UV_EPROTO, first, 6, 5, last, 1); /* more than announced */
  parts_fail(UV_EPROTO, first, 1, 0, last, 1);
  for (uint32_t length = 0; length <= 4; length++)
    head_fails(true, UV_EPROTO, NPI_FRAME_DATA, NPI_FLAG_FIRST, 0, 0, length);
}

static void too_long_messages(void** state) {
  npi_decoder d;
  npi_event event;
  size_t used;
  uint8_t head[NPI_DATA_HEADER_MAX];
  (void) state;
  for (uint32_t total = 999; total <= 1001; total++) {
    int want = total > 1000 ? UV_EMSGSIZE : 0;
    size_t size = npi_encode_data(head, NPI_FLAG_FIRST, 1, total);
    npi_decoder_init(&d, true, 1000);
    CHECK_STATUS(want,
                 npi_decode(&d, guarded(head, size), size, &used, &event));
    size = npi_encode_data(head, NPI_FLAG_FIRST | NPI_FLAG_LAST, total, 0);
    npi_decoder_init(&d, true, 1000);
    CHECK_STATUS(want,
                 npi_decode(&d, guarded(head, size), size, &used, &event));
  }
  parts_fail(UV_EMSGSIZE, NPI_FLAG_FIRST, 1, MESSAGE_MAX + 1, NPI_FLAG_LAST, 1);
  parts_fail(UV_EMSGSIZE, NPI_FLAG_FIRST, 1, UINT32_MAX, NPI_FLAG_LAST, 1);
}

/* ------------------------------------------------- the handshake */

static npi_hello a_hello(const char* name) {
  npi_hello hello = {.version = NPI_WIRE_VERSION,
                     .access = NPI_ACCESS_READ | NPI_ACCESS_WRITE,
                     .wait_ms = NPI_HELLO_WAIT_FOREVER,
                     .pid = 0x01020304,
                     .message_max_bytes = 0xFEDCBA98};
  memcpy(hello.name, name, strlen(name) + 1);
  return hello;
}

/* How long the frame is, told from each of its beginnings. */
#define HELLOS (NPI_FRAMES(NPI_FRAME_HELLO) | NPI_FRAMES(NPI_FRAME_JOIN))
#define ANSWERS \
  (NPI_FRAMES(NPI_FRAME_WELCOME) | NPI_FRAMES(NPI_FRAME_REFUSE) | \
   NPI_FRAMES(NPI_FRAME_STATUS) | NPI_FRAMES(NPI_FRAME_WAIT))

static void check_shake(const uint8_t* frame, size_t size, unsigned frames) {
  for (size_t have = 0; have <= size; have++) {
    size_t length = 77;
    CHECK_STATUS(0,
                 npi_shake_length(guarded(frame, have), have, frames, &length));
    CHECK_SIZE(have < NPI_HEADER_BYTES ? 0 : size, length);
  }
}

static void shake_fails(const uint8_t* frame, size_t size, unsigned frames) {
  size_t length;
  CHECK_STATUS(UV_EPROTO,
               npi_shake_length(guarded(frame, size), size, frames, &length));
}

static void hello_round_trips(void** state) {
  uint8_t frame[NPI_HELLO_BYTES_MAX];
  char name[NPI_HELLO_NAME_MAX + 1];
  (void) state;
  for (size_t length = 1; length <= NPI_HELLO_NAME_MAX; length += 383) {
    npi_hello back;
    memset(name, 'N', length);
    name[length] = 0;
    npi_hello hello = a_hello(name);
    size_t size = npi_encode_hello(frame, &hello);
    CHECK_SIZE(NPI_HEADER_BYTES + 24 + length, size);
    check_shake(frame, size, HELLOS);
    CHECK_STATUS(0, npi_decode_hello(guarded(frame, size), size, &back));
    CHECK_SIZE(hello.version, back.version);
    CHECK_SIZE(hello.access, back.access);
    CHECK_SIZE(hello.wait_ms, back.wait_ms);
    CHECK_SIZE(hello.pid, back.pid);
    CHECK_SIZE(hello.message_max_bytes, back.message_max_bytes);
    assert_string_equal(name, back.name);
  }
}

static void hello_changed(size_t at, uint8_t value, int want) {
  uint8_t frame[NPI_HELLO_BYTES_MAX];
  npi_hello hello = a_hello("NAME");
  npi_hello back;
  size_t size = npi_encode_hello(frame, &hello);
  frame[at] = value;
  int status = npi_decode_hello(guarded(frame, size), size, &back);
  if (status != want) print_message("byte %u\n", (unsigned) at);
  CHECK_STATUS(want, status);
}

static void hello_is_checked(void** state) {
  uint8_t frame[NPI_HELLO_BYTES_MAX + 8];
  npi_hello hello = a_hello("NAME");
  npi_hello back;
  (void) state;
  for (size_t i = 8; i < 12; i++) hello_changed(i, 'x', UV_EPROTO); /* magic */
  for (unsigned access = 0; access <= 3; access++)
    hello_changed(14, (uint8_t) access, 0);
  for (unsigned access = 4; access < 256; access++)
    hello_changed(14, (uint8_t) access, UV_EPROTO);
  hello_changed(15, 1, UV_EPROTO);
  for (size_t i = 28; i < 32; i++) hello_changed(i, 0x80, UV_EPROTO);
  for (size_t i = 32; i < 36; i++) hello_changed(i, 0, UV_EPROTO); /* name */
  hello.message_max_bytes = 0;
  size_t size = npi_encode_hello(frame, &hello);
  CHECK_STATUS(UV_EPROTO, npi_decode_hello(frame, size, &back));
  hello = a_hello("NAME");
  hello.version = 0x0302; /* another version: read as far as that */
  hello.access = 0xFF;
  size = npi_encode_hello(frame, &hello);
  CHECK_STATUS(0, npi_decode_hello(guarded(frame, size), size, &back));
  CHECK_SIZE(0x0302, back.version);
}

static void lengths_of_the_handshake(void** state) {
  static const npi_frame frames[] = {NPI_FRAME_HELLO,   NPI_FRAME_JOIN,
                                     NPI_FRAME_WELCOME, NPI_FRAME_STATUS,
                                     NPI_FRAME_REFUSE,  NPI_FRAME_WAIT};
  uint8_t head[8] = {0};
  size_t length;
  (void) state;
  for (size_t i = 0; i < HARNESS_COUNT(frames); i++) {
    for (uint32_t body = 0; body < 1000; body++) {
      head[0] = (uint8_t) frames[i];
      head[4] = (uint8_t) body;
      head[5] = (uint8_t) (body >> 8);
      bool valid = i < 2    ? body > 24 && body <= 24 + NPI_HELLO_NAME_MAX
                   : i == 2 ? body == 32
                   : i == 3 ? body == 40
                            : body == 8;
      CHECK_STATUS(valid ? 0 : UV_EPROTO,
                   npi_shake_length(guarded(head, 8), 8, NPI_FRAMES(frames[i]),
                                    &length));
      CHECK_SIZE(valid ? body + 8 : 0, length);
    }
    head[6] = head[7] = 0xFF;
    shake_fails(head, 8, NPI_FRAMES(frames[i]));
    head[6] = head[7] = 0;
  }
  for (size_t at = 1; at < 4; at++) { /* reserved, and flags */
    uint8_t frame[8] = {NPI_FRAME_REFUSE, 0, 0, 0, 8};
    frame[at] = 0x40;
    shake_fails(frame, 8, ANSWERS);
  }
  for (unsigned type = 0; type < 256; type++) { /* told by the first byte */
    uint8_t byte = (uint8_t) type;
    if (type < 32 && (ANSWERS & 1u << type) != 0) continue;
    shake_fails(&byte, 1, ANSWERS);
  }
}

static void welcome_round_trips_and_is_checked(void** state) {
  npi_welcome welcome = {NPI_WIRE_VERSION, 1,          2,   0x01020304,
                         0x05060708,       0xF9FAFBFC, 255, 50,
                         0x12345678,       true,       0,   false};
  npi_welcome back;
  uint8_t frame[NPI_WELCOME_BYTES];
  (void) state;
  size_t size = npi_encode_welcome(frame, &welcome);
  CHECK_SIZE(NPI_WELCOME_BYTES, size);
  check_shake(frame, size, ANSWERS);
  CHECK_STATUS(0, npi_decode_welcome(guarded(frame, size), size, &back));
  CHECK_SIZE(1, back.version);
  CHECK_SIZE(1, back.type);
  CHECK_SIZE(2, back.direction);
  CHECK_SIZE(0x01020304, back.in_quota);
  CHECK_SIZE(0x05060708, back.out_quota);
  CHECK_SIZE(0xF9FAFBFC, back.message_max_bytes);
  CHECK_SIZE(255, back.max_instances);
  CHECK_SIZE(50, back.default_wait_ms);
  CHECK_SIZE(0x12345678, back.pid);
  CHECK(back.shared);
  for (size_t have = 8; have < size; have++)
    CHECK_STATUS(UV_EPROTO,
                 npi_decode_welcome(guarded(frame, have), have, &back));
  static const struct {
    size_t at;
    uint8_t value;
  } changes[] = {{8, 0},  {8, 2},  {9, 1},  {10, 2}, {10, 255}, {11, 3},
                 {11, 9}, {36, 2}, {37, 1}, {38, 1}, {39, 1}};
  for (size_t i = 0; i < HARNESS_COUNT(changes); i++) {
    npi_encode_welcome(frame, &welcome);
    frame[changes[i].at] = changes[i].value;
    CHECK_STATUS(UV_EPROTO, npi_decode_welcome(frame, size, &back));
  }
  welcome.message_max_bytes = 0;
  npi_encode_welcome(frame, &welcome);
  CHECK_STATUS(UV_EPROTO, npi_decode_welcome(frame, size, &back));
}

static void refuse_round_trips_and_is_checked(void** state) {
  uint8_t frame[NPI_REFUSE_BYTES];
  uint32_t code = 0;
  (void) state;
  size_t size = npi_encode_refuse(frame, 0x81020304);
  CHECK_SIZE(NPI_REFUSE_BYTES, size);
  check_shake(frame, size, ANSWERS);
  CHECK_STATUS(0, npi_decode_refuse(guarded(frame, size), size, &code));
  CHECK_SIZE(0x81020304, code);
  for (size_t have = 8; have < size; have++)
    CHECK_STATUS(UV_EPROTO,
                 npi_decode_refuse(guarded(frame, have), have, &code));
  for (size_t at = 12; at < 16; at++) {
    npi_encode_refuse(frame, NPI_REFUSAL_BUSY);
    frame[at] = 1;
    CHECK_STATUS(UV_EPROTO, npi_decode_refuse(frame, size, &code));
  }
}

static void status_round_trips_and_is_checked(void** state) {
  npi_welcome status = {NPI_WIRE_VERSION, 1,   0, 7, 8, 9, 20, 50, 6, false,
                        0xFFFEFDFC,       true};
  npi_welcome back;
  uint8_t frame[NPI_STATUS_BYTES];
  (void) state;
  size_t size = npi_encode_status(frame, &status);
  CHECK_SIZE(NPI_STATUS_BYTES, size);
  check_shake(frame, size, ANSWERS);
  CHECK_STATUS(0, npi_decode_status(guarded(frame, size), size, &back));
  CHECK_SIZE(20, back.max_instances);
  CHECK_SIZE(0xFFFEFDFC, back.instances);
  CHECK(back.listens && !back.shared);
  CHECK_STATUS(UV_EPROTO,
               npi_decode_status(guarded(frame, size - 1), size - 1, &back));
  CHECK_STATUS(UV_EPROTO, npi_decode_welcome(frame, size, &back));
  frame[44] = 2;
  CHECK_STATUS(UV_EPROTO, npi_decode_status(frame, size, &back));
  npi_encode_status(frame, &status);
  frame[8] = 2; /* another version */
  CHECK_STATUS(UV_EPROTO, npi_decode_status(frame, size, &back));
}

static void wait_round_trips_and_is_checked(void** state) {
  uint8_t frame[NPI_WAIT_BYTES];
  uint32_t ms = 0;
  (void) state;
  size_t size = npi_encode_wait(frame, 0x81020304);
  CHECK_SIZE(NPI_WAIT_BYTES, size);
  check_shake(frame, size, ANSWERS);
  CHECK_STATUS(0, npi_decode_wait(guarded(frame, size), size, &ms));
  CHECK_SIZE(0x81020304, ms);
  frame[12] = 1;
  CHECK_STATUS(UV_EPROTO, npi_decode_wait(frame, size, &ms));
}

/* Reading an answer in steps never takes what follows it. */
static void an_answer_is_read_to_its_end(void** state) {
  uint8_t frames[4][NPI_STATUS_BYTES];
  npi_welcome welcome = {
      NPI_WIRE_VERSION, 1, 0, 7, 8, 9, 20, 50, 6, false, 0, false};
  size_t sizes[4] = {npi_encode_welcome(frames[0], &welcome),
                     npi_encode_status(frames[1], &welcome),
                     npi_encode_refuse(frames[2], 5),
                     npi_encode_wait(frames[3], 50)};
  (void) state;
  for (int i = 0; i < 4; i++) {
    size_t length = 0;
    for (size_t have = 0; have < sizes[i];) {
      size_t room = npi_answer_room(guarded(frames[i], have), have);
      CHECK(room > 0 && have + room <= sizes[i]);
      have += room;
      CHECK_STATUS(0, npi_shake_length(frames[i], have, ANSWERS, &length));
    }
    CHECK_SIZE(sizes[i], length);
  }
}

static void team_frames_round_trip_and_are_checked(void** state) {
  uint8_t bytes[NPI_TEAM_BYTES];
  npi_team_frame back;
  (void) state;
  for (unsigned type = 0; type < 256; type++) {
    npi_team_frame frame = {(npi_frame) type, 0x80706050, 0xF0E0D0C0};
    bool valid = type >= NPI_FRAME_JOINED && type <= NPI_FRAME_TAKE;
    CHECK_SIZE(sizeof bytes, npi_encode_team(bytes, &frame));
    CHECK_STATUS(valid ? 0 : UV_EPROTO,
                 npi_decode_team(guarded(bytes, sizeof bytes), &back));
    if (!valid) continue;
    CHECK(back.frame == frame.frame && back.a == frame.a && back.b == frame.b);
    for (size_t at = 1; at < 8; at++) {
      bytes[at] ^= 1;
      CHECK_STATUS(UV_EPROTO, npi_decode_team(bytes, &back));
      bytes[at] ^= 1;
    }
  }
}

/* ------------------------------------------------- chance */

static void mutate(test_chance* chance, uint8_t* bytes, size_t size) {
  for (uint32_t n = 1 + chance_below(chance, 4); n > 0; n--) {
    size_t at = chance_below(chance, (uint32_t) size);
    if (chance_below(chance, 2))
      bytes[at] ^= (uint8_t) (1u << chance_below(chance, 8));
    else
      bytes[at] = (uint8_t) chance_next(chance);
  }
}

/* Feeds it in pieces by chance; npi_decode() is all that may complain. */
static void fuzz_decoder(test_chance* chance, const uint8_t* bytes,
                         size_t size) {
  npi_decoder d;
  npi_decoder_init(&d, chance_below(chance, 4) != 0, 400);
  for (size_t fed = 0; fed < size;) {
    size_t piece = 1 + chance_below(chance, (uint32_t) (size - fed));
    const uint8_t* in = guarded(bytes + fed, piece);
    for (size_t at = 0;;) {
      size_t used = 0;
      npi_event event;
      int status = npi_decode(&d, in + at, piece - at, &used, &event);
      if (used > piece - at) fail_msg("used too much");
      if (status != 0) return;
      if (event.kind == NPI_EVENT_NONE) break;
      if (event.kind == NPI_EVENT_DATA &&
          (event.data < in + at || event.data + event.size > in + at + used))
        fail_msg("data outside the input");
      at += used;
    }
    fed += piece;
  }
}

static void fuzz_frames(void** state) {
  enum { ROUNDS = 200000 };
  test_chance chance = chance_seeded(42);
  static tape clean;
  uint8_t bytes[1200];
  (void) state;
  record_messages(&clean);
  CHECK(clean.size <= sizeof bytes);
  for (int i = 0; i < ROUNDS; i++) {
    memcpy(bytes, clean.bytes, clean.size);
    mutate(&chance, bytes, chance_below(&chance, 2) ? clean.size : 120);
    fuzz_decoder(&chance, bytes, clean.size);
  }
}

static void fuzz_handshake(void** state) {
  enum { ROUNDS = 200000 };
  test_chance chance = chance_seeded(43);
  npi_hello hello = a_hello("SOME NAME");
  npi_welcome welcome = {1, 1, 0, 1, 2, 3, 4, 5, 6, false, 0, false};
  (void) state;
  for (int i = 0; i < ROUNDS; i++) {
    uint8_t bytes[NPI_HELLO_BYTES_MAX] = {0};
    uint32_t kind = chance_below(&chance, 3);
    size_t size = kind == 0   ? npi_encode_hello(bytes, &hello)
                  : kind == 1 ? npi_encode_welcome(bytes, &welcome)
                              : npi_encode_refuse(bytes, 5);
    unsigned frames = kind == 0 ? HELLOS : ANSWERS;
    mutate(&chance, bytes, size);
    size_t have = chance_below(&chance, sizeof bytes + 1);
    const uint8_t* in = guarded(bytes, have);
    size_t length;
    union {
      npi_hello hello;
      npi_welcome welcome;
      uint32_t code;
    } out;
    if (npi_shake_length(in, have, frames, &length) != 0) continue;
    if (length == 0 || length > have) continue;
    in = guarded(bytes, length);
    if (in[0] == NPI_FRAME_HELLO || in[0] == NPI_FRAME_JOIN)
      npi_decode_hello(in, length, &out.hello);
    if (in[0] == NPI_FRAME_STATUS) npi_decode_status(in, length, &out.welcome);
    if (in[0] == NPI_FRAME_WAIT) npi_decode_wait(in, length, &out.code);
    if (in[0] == NPI_FRAME_WELCOME)
      npi_decode_welcome(in, length, &out.welcome);
    if (in[0] == NPI_FRAME_REFUSE) npi_decode_refuse(in, length, &out.code);
  }
}

#define CODEC_TEST(function) \
  cmocka_unit_test_setup_teardown(function, guard_begin, guard_end)

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      CODEC_TEST(messages_split_anywhere),
      CODEC_TEST(counts_between_the_frames_of_a_message),
      CODEC_TEST(last_frames_split_anywhere),
      CODEC_TEST(bytes_split_anywhere),
      CODEC_TEST(the_biggest_frames),
      CODEC_TEST(payload_is_told_before_it_comes),
      CODEC_TEST(bad_reserved_bytes),
      CODEC_TEST(bad_types),
      CODEC_TEST(bad_lengths),
      CODEC_TEST(bad_messages),
      CODEC_TEST(too_long_messages),
      CODEC_TEST(hello_round_trips),
      CODEC_TEST(hello_is_checked),
      CODEC_TEST(lengths_of_the_handshake),
      CODEC_TEST(welcome_round_trips_and_is_checked),
      CODEC_TEST(refuse_round_trips_and_is_checked),
      CODEC_TEST(status_round_trips_and_is_checked),
      CODEC_TEST(wait_round_trips_and_is_checked),
      CODEC_TEST(an_answer_is_read_to_its_end),
      CODEC_TEST(team_frames_round_trip_and_are_checked),
      CODEC_TEST(fuzz_frames),
      CODEC_TEST(fuzz_handshake),
  };
  return harness_main(argc, argv, "codec", tests, HARNESS_COUNT(tests), NULL);
}
