/* The receive queue against a model that is too simple to be wrong. */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"
#include "rxq.h"

enum { PIECE_MAX = 60000, MODEL_MESSAGES = 4096, MODEL_BYTES = 1 << 22 };

/* ------------------------------------------------- the allocator */

typedef union block {
  size_t size;
  long double alignment;
  void* pointer;
} block;

static struct {
  long outstanding;
  size_t bytes;
  size_t largest;
  unsigned count;
  unsigned fail_one_in; /* 0: never, 1: always */
  test_chance chance;
} memory;

static void* memory_malloc(size_t size) {
  memory.count++;
  if (memory.fail_one_in &&
      chance_below(&memory.chance, memory.fail_one_in) == 0)
    return NULL;
  block* head = must_alloc(sizeof *head + size);
  head->size = size;
  memset(head + 1, 0xDB, size);
  memory.outstanding++;
  memory.bytes += size;
  if (size > memory.largest) memory.largest = size;
  return head + 1;
}

static void memory_free(void* data) {
  if (data == NULL) return;
  block* head = (block*) data - 1;
  memory.outstanding--;
  memory.bytes -= head->size;
  memset(data, 0xDD, head->size);
  free(head);
}

static void* memory_realloc(void* old, size_t size) {
  void* data = memory_malloc(size);
  if (data == NULL || old == NULL) return data;
  size_t old_size = ((block*) old - 1)->size;
  memcpy(data, old, old_size < size ? old_size : size);
  memory_free(old);
  return data;
}

static int memory_begin(void** state) {
  (void) state;
  memset(&memory, 0, sizeof memory);
  memory.chance = chance_seeded(7);
  return npipe_replace_allocator(memory_malloc, memory_realloc, memory_free);
}

static int memory_end(void** state) {
  (void) state;
  return npipe_replace_allocator(malloc, realloc, free);
}

static void check_empty(npi_rxq* q) {
  const uint8_t* data;
  size_t size;
  CHECK(!npi_rxq_front(q, &data, &size));
  CHECK_SIZE(0, q->bytes);
  CHECK_SIZE(0, q->message_count);
  CHECK(q->head == NULL && q->tail == NULL);
  if (q->part == NULL) CHECK_SIZE(0, memory.outstanding);
}

/* ------------------------------------------------- bytes */

/* In and out are places in one endless pattern. */
static void bytes_run(unsigned fail_one_in) {
  enum { ROUNDS = 20000 };
  test_chance chance = chance_seeded(fail_one_in + 1);
  uint8_t* piece = must_alloc(PIECE_MAX);
  size_t in = 0;
  size_t out = 0;
  npi_rxq q;
  npi_rxq_init(&q, false);
  memory.fail_one_in = fail_one_in;
  for (int i = 0; i < ROUNDS; i++) {
    const uint8_t* data;
    size_t size = chance_below(&chance, 8) ? 300 : PIECE_MAX;
    size = 1 + chance_below(&chance, (uint32_t) size - 1);
    if (chance_below(&chance, 2) && in - out < MODEL_BYTES) {
      pattern_fill_from(piece, size, 3, in);
      int err = npi_rxq_push_bytes(&q, piece, size);
      if (err == 0)
        in += size;
      else
        CHECK_STATUS(UV_ENOMEM, err);
      CHECK(err == 0 || fail_one_in > 0);
    } else if (npi_rxq_front(&q, &data, &size)) {
      CHECK(size > 0 && size <= in - out);
      CHECK(pattern_holds(data, size, 3, out));
      if (chance_below(&chance, 2))
        size = 1 + chance_below(&chance, (uint32_t) size);
      CHECK(!npi_rxq_drop(&q, size));
      out += size;
    } else {
      CHECK_SIZE(in, out);
    }
    CHECK_SIZE(in - out, q.bytes);
    if (in == out) check_empty(&q);
  }
  memory.fail_one_in = 0;
  for (const uint8_t* data; out < in;) {
    size_t size;
    CHECK(npi_rxq_front(&q, &data, &size));
    CHECK(pattern_holds(data, size, 3, out));
    npi_rxq_drop(&q, size);
    out += size;
  }
  check_empty(&q);
  free(piece);
}

static void bytes_come_out_as_they_went_in(void** state) {
  (void) state;
  bytes_run(0);
}

static void bytes_without_memory(void** state) {
  (void) state;
  bytes_run(1);
  bytes_run(3);
}

static void no_bytes_are_nothing(void** state) {
  npi_rxq q;
  (void) state;
  npi_rxq_init(&q, false);
  CHECK_STATUS(0, npi_rxq_push_bytes(&q, (const uint8_t*) "", 0));
  check_empty(&q);
  npi_rxq_clear(&q);
  npi_rxq_clear(&q);
  check_empty(&q);
}

/* ------------------------------------------------- messages */

typedef struct model {
  npi_rxq q;
  uint32_t sizes[MODEL_MESSAGES]; /* of the complete ones, a ring */
  size_t in;                      /* messages completed; also the seed */
  size_t out;
  size_t front_at; /* read of the message at the front */
  uint64_t bytes;
  uint32_t part_total;
  size_t part_have;
  bool part;
  uint8_t* piece;
} model;

static uint32_t model_size(test_chance* chance) {
  switch (chance_below(chance, 6)) {
    case 0: return 0;
    case 1: return 1;
    case 2: return 1 + chance_below(chance, PIECE_MAX);
    default: return chance_below(chance, 400);
  }
}

static void model_complete(model* m, uint32_t size) {
  m->sizes[m->in % MODEL_MESSAGES] = size;
  m->in++;
  m->bytes += size;
  m->part = false;
}

/* The queue is the reader of a dead connection after UV_ENOMEM; what was
 * complete has still to be readable. */
static int model_push(model* m, test_chance* chance) {
  uint32_t seed = (uint32_t) m->in;
  if (!m->part && chance_below(chance, 2)) {
    uint32_t size = model_size(chance);
    pattern_fill(m->piece, size, seed);
    int err = npi_rxq_push_piece(&m->q, m->piece, size, true, true, size);
    if (err == 0) model_complete(m, size);
    return err;
  }
  bool first = !m->part;
  if (first) {
    m->part_total = 2 + model_size(chance);
    m->part_have = 0;
  }
  size_t left = m->part_total - m->part_have;
  size_t size = first ? chance_below(chance, (uint32_t) left)
                      : 1 + chance_below(chance, (uint32_t) left);
  uint8_t* data = m->piece;
  if (!first && chance_below(chance, 2)) {
    size_t room = 0;
    uint8_t* place = npi_rxq_room(&m->q, size, &room);
    if (place != NULL) {
      CHECK(room > 0 && room <= size);
      data = place;
      size = room;
    } else if (memory.fail_one_in == 0) {
      fail_msg("no room");
    }
  }
  pattern_fill_from(data, size, seed, m->part_have);
  bool last = size == left;
  int err = npi_rxq_push_piece(&m->q, data, size, first, last, m->part_total);
  if (err != 0) return err;
  m->part = true;
  m->part_have += size;
  if (last) model_complete(m, m->part_total);
  return 0;
}

static void model_drop(model* m, test_chance* chance, bool whole) {
  const uint8_t* data;
  size_t size;
  if (!npi_rxq_front(&m->q, &data, &size)) {
    CHECK_SIZE(m->in, m->out);
    return;
  }
  CHECK(m->out < m->in);
  size_t left = m->sizes[m->out % MODEL_MESSAGES] - m->front_at;
  CHECK_SIZE(left, size);
  CHECK(pattern_holds(data, size, (uint32_t) m->out, m->front_at));
  if (!whole && size > 1 && chance_below(chance, 3) == 0)
    size = 1 + chance_below(chance, (uint32_t) size);
  bool gone = npi_rxq_drop(&m->q, size);
  CHECK_SIZE(size == left, gone);
  m->front_at = gone ? 0 : m->front_at + size;
  m->bytes -= size;
  if (gone) m->out++;
}

static void model_check(model* m) {
  CHECK_SIZE(m->bytes, m->q.bytes);
  CHECK_SIZE(m->in - m->out, m->q.message_count);
  if (m->in == m->out && !m->part) check_empty(&m->q);
}

static void messages_run(unsigned fail_one_in, uint32_t rounds) {
  test_chance chance = chance_seeded(rounds + fail_one_in);
  model* m = must_alloc(sizeof *m);
  memset(m, 0, sizeof *m);
  m->piece = must_alloc(PIECE_MAX + 2);
  npi_rxq_init(&m->q, true);
  memory.fail_one_in = fail_one_in;
  int err = 0;
  for (uint32_t i = 0; i < rounds && err == 0; i++) {
    if (chance_below(&chance, 16) && m->in - m->out < MODEL_MESSAGES - 1 &&
        m->bytes < MODEL_BYTES && chance_below(&chance, 1000) > i % 1000)
      err = model_push(m, &chance);
    else
      model_drop(m, &chance, false);
    if (err == 0) model_check(m);
  }
  if (err != 0) {
    CHECK_STATUS(UV_ENOMEM, err);
    CHECK(fail_one_in > 0);
  }
  CHECK_SIZE(m->bytes, m->q.bytes);
  CHECK_SIZE(m->in - m->out, m->q.message_count);
  memory.fail_one_in = 0;
  if (rounds % 2) /* else clear what is there */
    while (m->out < m->in) model_drop(m, &chance, true);
  npi_rxq_clear(&m->q);
  check_empty(&m->q);
  CHECK_SIZE(0, memory.outstanding);
  CHECK(m->q.messages);
  free(m->piece);
  free(m);
}

static void messages_come_out_as_they_went_in(void** state) {
  (void) state;
  messages_run(0, 60001);
  messages_run(0, 20000);
}

static void messages_without_memory(void** state) {
  (void) state;
  for (uint32_t i = 0; i < 400; i++) messages_run(1 + i % 40, 1000 + i);
}

static void empty_messages_are_messages(void** state) {
  enum { COUNT = 10000 };
  const uint8_t* data;
  size_t size;
  npi_rxq q;
  (void) state;
  npi_rxq_init(&q, true);
  for (int i = 0; i < COUNT; i++)
    CHECK_STATUS(0, npi_rxq_push_piece(&q, NULL, 0, true, true, 0));
  CHECK_SIZE(COUNT, q.message_count);
  for (int i = 0; i < COUNT; i++) {
    CHECK(npi_rxq_front(&q, &data, &size));
    CHECK(npi_rxq_front(&q, &data, &size)); /* looking twice is harmless */
    CHECK_SIZE(0, size);
    CHECK(npi_rxq_drop(&q, 0));
  }
  check_empty(&q);
}

static void cl5_a_part_is_not_readable(void** state) {
  const uint8_t* data;
  size_t size;
  npi_rxq q;
  (void) state;
  npi_rxq_init(&q, true);
  CHECK_STATUS(0,
               npi_rxq_push_piece(&q, (const uint8_t*) "a", 1, true, false, 2));
  CHECK(!npi_rxq_front(&q, &data, &size));
  CHECK_SIZE(0, q.bytes);
  CHECK_SIZE(0, q.message_count);
  CHECK_STATUS(0,
               npi_rxq_push_piece(&q, (const uint8_t*) "b", 1, false, true, 0));
  CHECK(npi_rxq_front(&q, &data, &size));
  CHECK_SIZE(2, size);
  CHECK(memcmp(data, "ab", 2) == 0);
  CHECK(npi_rxq_drop(&q, 2));
  check_empty(&q);
}

/* ------------------------------------------------- room */

static void room_is_there_only_for_a_part(void** state) {
  size_t room = 0;
  npi_rxq q;
  (void) state;
  npi_rxq_init(&q, true);
  CHECK(npi_rxq_room(&q, 100, &room) == NULL);
  CHECK_STATUS(0,
               npi_rxq_push_piece(&q, (const uint8_t*) "a", 1, true, false, 3));
  CHECK(npi_rxq_room(&q, 0, &room) == NULL);
  CHECK(npi_rxq_room(&q, 100, &room) != NULL);
  CHECK_SIZE(2, room); /* never beyond the message */
  memory.fail_one_in = 1;
  CHECK(npi_rxq_room(&q, 100, &room) != NULL); /* it was there already */
  npi_rxq_clear(&q);
  check_empty(&q);
}

/* A peer promises much and sends little: memory follows what came. */
static void room_follows_data_not_promises(void** state) {
  enum { TOTAL = 0x3FFFFFFF };
  size_t room = 0;
  size_t have = 1;
  npi_rxq q;
  (void) state;
  npi_rxq_init(&q, true);
  CHECK_STATUS(
      0, npi_rxq_push_piece(&q, (const uint8_t*) "a", 1, true, false, TOTAL));
  CHECK(memory.bytes < 8192);
  while (have < 3000000) {
    uint8_t* place = npi_rxq_room(&q, TOTAL, &room);
    CHECK(place != NULL && room > 0);
    CHECK(memory.bytes <= 16384 + 4 * have);
    memset(place, 'a', room);
    CHECK_STATUS(0, npi_rxq_push_piece(&q, place, room, false, false, 0));
    have += room;
  }
  CHECK(memory.count < 40); /* it doubles */
  npi_rxq_clear(&q);
  check_empty(&q);
}

/* Room that was given may also stay unused, or be filled in part. */
static void room_may_be_left_unused(void** state) {
  enum { TOTAL = 20000 };
  const uint8_t* data;
  size_t size;
  uint8_t bytes[700];
  npi_rxq q;
  (void) state;
  npi_rxq_init(&q, true);
  pattern_fill(bytes, 100, 5);
  CHECK_STATUS(0, npi_rxq_push_piece(&q, bytes, 100, true, false, TOTAL));
  for (size_t at = 100; at < TOTAL;) {
    size_t room = 0;
    size_t piece = TOTAL - at < sizeof bytes ? TOTAL - at : sizeof bytes;
    uint8_t* place = npi_rxq_room(&q, TOTAL, &room);
    CHECK(place != NULL);
    if (at % 2) {
      pattern_fill_from(bytes, piece, 5, at);
      place = bytes;
    } else {
      piece = (room + 1) / 2 < 333 ? (room + 1) / 2 : 333;
      pattern_fill_from(place, piece, 5, at);
    }
    CHECK_STATUS(
        0, npi_rxq_push_piece(&q, place, piece, false, at + piece == TOTAL, 0));
    at += piece;
  }
  CHECK(npi_rxq_front(&q, &data, &size));
  CHECK_SIZE(TOTAL, size);
  CHECK(pattern_holds(data, size, 5, 0));
  CHECK(npi_rxq_drop(&q, size));
  check_empty(&q);
}

/* ------------------------------------------------- lending */

/* What is lent stays readable, whatever happens to the queue meanwhile. */
static void lent_run(bool messages, size_t size, size_t take, bool clear) {
  static uint8_t bytes[50000];
  const uint8_t* data;
  size_t front;
  npi_rxq q;
  npi_rxq_init(&q, messages);
  pattern_fill(bytes, sizeof bytes, 1);
  for (int i = 0; i < 3; i++)
    CHECK_STATUS(0, messages ? npi_rxq_push_piece(&q, bytes, size, true, true,
                                                  (uint32_t) size)
                             : npi_rxq_push_bytes(&q, bytes, size));
  CHECK(npi_rxq_front(&q, &data, &front));
  CHECK(npi_rxq_lend(&q, take) == (messages && take == size));
  CHECK_SIZE(3 * size - take, q.bytes);
  if (clear) {
    npi_rxq_clear(&q);
    CHECK_SIZE(0, q.bytes);
  } else {
    CHECK_STATUS(0, messages ? npi_rxq_push_piece(&q, bytes, size, true, true,
                                                  (uint32_t) size)
                             : npi_rxq_push_bytes(&q, bytes, size));
  }
  CHECK(pattern_holds(data, take, 1, 0));
  npi_rxq_release(&q);
  npi_rxq_release(&q); /* nothing is lent any more */
  if (clear) CHECK(q.head == NULL && q.tail == NULL);
  if (clear) CHECK_SIZE(0, memory.outstanding);
  npi_rxq_clear(&q);
  CHECK_SIZE(0, memory.outstanding);
}

static void lent_memory_stays(void** state) {
  (void) state;
  for (int way = 0; way < 4; way++) {
    lent_run(way & 1, 10, 10, way & 2);
    lent_run(way & 1, 10, 4, way & 2);
    lent_run(way & 1, 50000, 50000, way & 2);
    lent_run(way & 1, 50000, 1, way & 2);
  }
  lent_run(true, 0, 0, true);
  lent_run(true, 0, 0, false);
}

/* ------------------------------------------------- copying */

static void a_copy_takes_nothing(void** state) {
  static uint8_t bytes[50000], copy[200000];
  npi_rxq q;
  (void) state;
  pattern_fill(bytes, sizeof bytes, 1);
  npi_rxq_init(&q, false);
  CHECK_SIZE(0, npi_rxq_copy(&q, copy, sizeof copy));
  size_t all = 0;
  for (size_t size = 1; all + size < sizeof copy; size = size * 3 + 1) {
    if (size > sizeof bytes) size = sizeof bytes;
    pattern_fill_from(bytes, size, 2, all);
    CHECK_STATUS(0, npi_rxq_push_bytes(&q, bytes, size));
    all += size;
  }
  for (size_t size = 0; size <= all + 1; size += 7001) {
    size_t want = size < all ? size : all;
    CHECK_SIZE(want, npi_rxq_copy(&q, copy, size));
    CHECK(pattern_holds(copy, want, 2, 0));
  }
  npi_rxq_drop(&q, 1);
  CHECK_SIZE(all - 1, npi_rxq_copy(&q, copy, sizeof copy));
  CHECK(pattern_holds(copy, all - 1, 2, 1));
  CHECK_SIZE(all - 1, q.bytes);
  npi_rxq_clear(&q);
}

/* PK1: never more than the first message. */
static void a_copy_of_messages_is_of_the_first(void** state) {
  uint8_t copy[100];
  const uint8_t* data;
  size_t size;
  npi_rxq q;
  (void) state;
  npi_rxq_init(&q, true);
  CHECK_STATUS(
      0, npi_rxq_push_piece(&q, (const uint8_t*) "hello", 5, true, true, 5));
  CHECK_STATUS(
      0, npi_rxq_push_piece(&q, (const uint8_t*) "world", 5, true, true, 5));
  CHECK_SIZE(5, npi_rxq_copy(&q, copy, sizeof copy));
  CHECK(memcmp(copy, "hello", 5) == 0);
  CHECK_SIZE(2, npi_rxq_copy(&q, copy, 2));
  CHECK(npi_rxq_front(&q, &data, &size));
  npi_rxq_drop(&q, 3);
  CHECK_SIZE(2, npi_rxq_copy(&q, copy, sizeof copy));
  CHECK(memcmp(copy, "lo", 2) == 0);
  CHECK_SIZE(2, q.message_count);
  npi_rxq_clear(&q);
}

/* ------------------------------------------------- cutting */

enum { CUT_MESSAGES = 40 };

static size_t cut_size(uint32_t seed, unsigned i) {
  test_chance chance = chance_seeded(seed * 100 + i + 1);
  switch (chance_below(&chance, 4)) {
    case 0: return 0;
    case 1: return chance_below(&chance, 10);
    case 2: return chance_below(&chance, 9000);
    default: return 16384 + chance_below(&chance, 20000);
  }
}

static void cut_fill(npi_rxq* q, uint32_t seed) {
  static uint8_t bytes[40000];
  npi_rxq_init(q, true);
  for (unsigned i = 0; i < CUT_MESSAGES; i++) {
    size_t size = cut_size(seed, i);
    pattern_fill(bytes, size, i);
    CHECK_STATUS(
        0, npi_rxq_push_piece(q, bytes, size, true, true, (uint32_t) size));
  }
  pattern_fill(bytes, 100, 99); /* and one that is arriving */
  CHECK_STATUS(0, npi_rxq_push_piece(q, bytes, 100, true, false, 200));
}

/* Reads `read` messages, looks at the front, takes one byte of it if `begun`,
 * keeps `keep` messages. */
static void cut_run(uint32_t seed, unsigned read, bool begun, unsigned keep) {
  const uint8_t* data;
  size_t size;
  npi_rxq q;
  cut_fill(&q, seed);
  for (unsigned i = 0; i < read; i++) {
    CHECK(npi_rxq_front(&q, &data, &size));
    CHECK(npi_rxq_drop(&q, size));
  }
  size_t skip = 0;
  if (begun && npi_rxq_front(&q, &data, &size) && size > 1) {
    CHECK(!npi_rxq_drop(&q, 1));
    skip = 1;
  }
  npi_rxq_cut(&q, keep);
  CHECK(q.part == NULL);
  unsigned left = CUT_MESSAGES - read < keep ? CUT_MESSAGES - read : keep;
  CHECK_SIZE(left, q.message_count);
  CHECK_STATUS(
      0, npi_rxq_push_piece(&q, (const uint8_t*) "new", 3, true, true, 3));
  for (unsigned i = read; i < read + left; i++, skip = 0) {
    CHECK(npi_rxq_front(&q, &data, &size));
    CHECK_SIZE(cut_size(seed, i) - skip, size);
    CHECK(pattern_holds(data, size, i, skip));
    CHECK(npi_rxq_drop(&q, size));
  }
  CHECK_SIZE(3, q.bytes); /* the new one stands behind what was kept */
  CHECK(npi_rxq_front(&q, &data, &size));
  CHECK(size == 3 && memcmp(data, "new", 3) == 0);
  CHECK(npi_rxq_drop(&q, size));
  check_empty(&q);
}

static void messages_are_cut_off_anywhere(void** state) {
  (void) state;
  for (uint32_t seed = 0; seed < 5; seed++)
    for (unsigned read = 0; read < CUT_MESSAGES; read += 1 + seed % 3)
      for (unsigned keep = 0; keep <= CUT_MESSAGES - read + 1; keep++)
        cut_run(seed, read, keep % 2, keep);
}

static void bytes_are_cut_off_anywhere(void** state) {
  enum { ALL = 60000 };
  static uint8_t bytes[ALL];
  const uint8_t* data;
  size_t size;
  (void) state;
  pattern_fill(bytes, ALL, 1);
  for (size_t keep = 0; keep <= ALL + 300; keep += 271) {
    npi_rxq q;
    npi_rxq_init(&q, false);
    for (size_t at = 0; at < ALL; at += 1500)
      CHECK_STATUS(0, npi_rxq_push_bytes(&q, bytes + at, 1500));
    npi_rxq_drop(&q, 10);
    npi_rxq_cut(&q, keep);
    size_t left = keep < ALL - 10 ? keep : ALL - 10;
    CHECK_SIZE(left, q.bytes);
    for (size_t at = 0; at < left; at += size) {
      CHECK(npi_rxq_front(&q, &data, &size));
      CHECK(size <= left - at && pattern_holds(data, size, 1, at + 10));
      npi_rxq_drop(&q, size);
    }
    check_empty(&q);
  }
}

#define RXQ_TEST(function) \
  cmocka_unit_test_setup_teardown(function, memory_begin, memory_end)

int main(int argc, char** argv) {
  static const struct CMUnitTest tests[] = {
      RXQ_TEST(bytes_come_out_as_they_went_in),
      RXQ_TEST(bytes_without_memory),
      RXQ_TEST(no_bytes_are_nothing),
      RXQ_TEST(messages_come_out_as_they_went_in),
      RXQ_TEST(messages_without_memory),
      RXQ_TEST(empty_messages_are_messages),
      RXQ_TEST(cl5_a_part_is_not_readable),
      RXQ_TEST(room_is_there_only_for_a_part),
      RXQ_TEST(room_follows_data_not_promises),
      RXQ_TEST(room_may_be_left_unused),
      RXQ_TEST(lent_memory_stays),
      RXQ_TEST(a_copy_takes_nothing),
      RXQ_TEST(a_copy_of_messages_is_of_the_first),
      RXQ_TEST(messages_are_cut_off_anywhere),
      RXQ_TEST(bytes_are_cut_off_anywhere),
  };
  return harness_main(argc, argv, "rxq", tests, HARNESS_COUNT(tests), NULL);
}
