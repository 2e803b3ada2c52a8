/*
 * The receive queue, a list of blocks.
 *
 * Complete messages stand in a block one behind the other, each as a length of
 * four bytes and its data; so they are contiguous and can be lent without a
 * copy. Bytes of a byte pipe stand in the blocks without lengths. A message
 * that arrives in several reads is collected in a block of its own (part),
 * which doubles as data comes and becomes part of the list when complete.
 *
 * Owner: one connection. Invariants: head == NULL if and only if tail == NULL;
 * no block in the list is empty, but for an empty message at the front that was
 * looked at; part is not in the list. An empty queue holds no memory, except
 * what is lent: the program is looking at it and may do anything meanwhile.
 */
#include <string.h>

#include "internal.h"
#include "rxq.h"

#define BLOCK_BYTES 16384u
#define PART_BYTES 4096u
#define LENGTH_BYTES sizeof(uint32_t)

struct npi_block {
  npi_block* next;
  size_t start;
  size_t end;
  size_t capacity;
};

static uint8_t* block_data(npi_block* block) {
  return (uint8_t*) (block + 1);
}

static npi_block* block_new(size_t capacity) {
  npi_block* block = npi_malloc(sizeof *block + capacity);
  if (block == NULL) return NULL;
  *block = (npi_block){.capacity = capacity};
  return block;
}

static void block_put(npi_block* block, const void* data, size_t size) {
  if (size > 0) memcpy(block_data(block) + block->end, data, size);
  block->end += size;
}

static void rxq_link(npi_rxq* queue, npi_block* block) {
  if (queue->tail == NULL)
    queue->head = block;
  else
    queue->tail->next = block;
  queue->tail = block;
}

/* A block at the tail with room for size bytes; NULL without memory. */
static npi_block* rxq_tail(npi_rxq* queue, size_t size) {
  npi_block* tail = queue->tail;
  if (tail != NULL && tail->capacity - tail->end >= size) return tail;
  npi_block* block = block_new(size > BLOCK_BYTES ? size : BLOCK_BYTES);
  if (block != NULL) rxq_link(queue, block);
  return block;
}

/* A block that is not in the list any more; one that is lent goes later. */
static void block_free(npi_rxq* queue, npi_block* block) {
  if (block == queue->lent)
    queue->lent_unlinked = true;
  else
    npi_free(block);
}

void npi_rxq_init(npi_rxq* queue, bool messages) {
  memset(queue, 0, sizeof *queue);
  queue->messages = messages;
}

static void rxq_free_list(npi_rxq* queue, npi_block* block) {
  while (block != NULL) {
    npi_block* next = block->next;
    block_free(queue, block);
    block = next;
  }
}

void npi_rxq_clear(npi_rxq* queue) {
  rxq_free_list(queue, queue->head);
  npi_free(queue->part);
  npi_rxq empty = {.messages = queue->messages,
                   .lent = queue->lent,
                   .lent_unlinked = queue->lent_unlinked};
  *queue = empty;
}

int npi_rxq_push_bytes(npi_rxq* queue, const uint8_t* data, size_t size) {
  npi_block* tail = queue->tail;
  size_t room = tail != NULL ? tail->capacity - tail->end : 0;
  size_t here = size < room ? size : room;
  size_t rest = size - here;
  npi_block* block = NULL;
  if (rest > 0) {
    block = block_new(rest > BLOCK_BYTES ? rest : BLOCK_BYTES);
    if (block == NULL) return UV_ENOMEM;
  }
  if (here > 0) block_put(tail, data, here);
  if (rest > 0) {
    block_put(block, data + here, rest);
    rxq_link(queue, block);
  }
  queue->bytes += size;
  return 0;
}

/* A whole message in one piece. */
static int rxq_push_whole(npi_rxq* queue, const uint8_t* data, size_t size) {
  uint32_t length = (uint32_t) size;
  npi_block* block = rxq_tail(queue, LENGTH_BYTES + size);
  if (block == NULL) return UV_ENOMEM;
  block_put(block, &length, LENGTH_BYTES);
  block_put(block, data, size);
  queue->bytes += size;
  queue->message_count++;
  return 0;
}

/* Makes room in the part for `want` more bytes, or fewer if the message has
 * not so many, growing by what has arrived. */
static int part_reserve(npi_rxq* queue, size_t want) {
  npi_block* part = queue->part;
  size_t most = LENGTH_BYTES + queue->part_total;
  size_t need = part->end + want;
  if (need <= part->capacity) return 0;
  size_t capacity = part->capacity * 2 > need ? part->capacity * 2 : need;
  if (capacity > most) capacity = most;
  part = npi_realloc(part, sizeof *part + capacity);
  if (part == NULL) return UV_ENOMEM;
  part->capacity = capacity;
  queue->part = part;
  return 0;
}

static int part_begin(npi_rxq* queue, uint32_t total) {
  size_t capacity = total < PART_BYTES ? total : PART_BYTES;
  queue->part = block_new(LENGTH_BYTES + capacity);
  if (queue->part == NULL) return UV_ENOMEM;
  queue->part_total = total;
  block_put(queue->part, &total, LENGTH_BYTES);
  return 0;
}

int npi_rxq_push_piece(npi_rxq* queue, const uint8_t* data, size_t size,
                       bool first, bool last, uint32_t total) {
  if (first && last) return rxq_push_whole(queue, data, size);
  if (first && part_begin(queue, total) != 0) return UV_ENOMEM;
  npi_block* part = queue->part;
  if (size > 0 && data == block_data(part) + part->end) {
    part->end += size; /* it was read to where it belongs */
  } else {
    if (part_reserve(queue, size) != 0) return UV_ENOMEM;
    block_put(queue->part, data, size);
  }
  if (!last) return 0;
  rxq_link(queue, queue->part);
  queue->part = NULL;
  queue->bytes += queue->part_total;
  queue->message_count++;
  return 0;
}

uint8_t* npi_rxq_room(npi_rxq* queue, size_t want, size_t* room) {
  if (queue->part == NULL) return NULL;
  size_t left = LENGTH_BYTES + queue->part_total - queue->part->end;
  if (want > left) want = left;
  /* Twice what has arrived at the most, so that memory follows data. */
  size_t most = queue->part->end > PART_BYTES ? queue->part->end : PART_BYTES;
  if (want > most) want = most;
  if (want == 0 || part_reserve(queue, want) != 0) return NULL;
  *room = want;
  return block_data(queue->part) + queue->part->end;
}

bool npi_rxq_front(npi_rxq* queue, const uint8_t** data, size_t* size) {
  npi_block* block = queue->head;
  if (block == NULL) return false;
  if (queue->messages && !queue->front_open) {
    memcpy(&queue->front_left, block_data(block) + block->start, LENGTH_BYTES);
    block->start += LENGTH_BYTES;
    queue->front_open = true;
  }
  *data = block_data(block) + block->start;
  *size = queue->messages ? queue->front_left : block->end - block->start;
  return true;
}

bool npi_rxq_drop(npi_rxq* queue, size_t size) {
  npi_block* block = queue->head;
  bool gone = false;
  block->start += size;
  queue->bytes -= size;
  if (queue->messages) {
    queue->front_left -= (uint32_t) size;
    gone = queue->front_left == 0;
    if (!gone) return false;
    queue->front_open = false;
    queue->message_count--;
  }
  if (block->start < block->end) return gone;
  queue->head = block->next;
  if (queue->head == NULL) queue->tail = NULL;
  block_free(queue, block);
  return gone;
}

bool npi_rxq_lend(npi_rxq* queue, size_t size) {
  queue->lent = queue->head;
  return npi_rxq_drop(queue, size);
}

void npi_rxq_release(npi_rxq* queue) {
  if (queue->lent_unlinked) npi_free(queue->lent);
  queue->lent = NULL;
  queue->lent_unlinked = false;
}

size_t npi_rxq_copy(npi_rxq* queue, void* out, size_t size) {
  const uint8_t* data;
  size_t left;
  size_t got = 0;
  if (size == 0 || !npi_rxq_front(queue, &data, &left)) return 0;
  npi_block* block = queue->head;
  for (;;) {
    size_t take = left < size - got ? left : size - got;
    if (take > 0) memcpy((uint8_t*) out + got, data, take);
    got += take;
    block = block->next;
    if (queue->messages || block == NULL || got == size) return got;
    data = block_data(block) + block->start;
    left = block->end - block->start;
  }
}

/* ---- cutting the tail off */

/* Where `*keep` messages from `at` on end in this block; *keep is lowered by
 * those that are there, *bytes grows by their length. */
static size_t block_skip(npi_block* block, size_t at, uint64_t* keep,
                         uint64_t* bytes) {
  uint32_t length;
  while (*keep > 0 && at < block->end) {
    memcpy(&length, block_data(block) + at, LENGTH_BYTES);
    at += LENGTH_BYTES + length;
    *bytes += length;
    --*keep;
  }
  return at;
}

/* `block` becomes the last one, and ends at `end`. */
static void rxq_end_at(npi_rxq* queue, npi_block* block, size_t end) {
  rxq_free_list(queue, block->next);
  block->next = NULL;
  block->end = end;
  queue->tail = block;
}

static void rxq_cut_messages(npi_rxq* queue, uint64_t keep) {
  npi_block* block = queue->head;
  uint64_t left = keep;
  uint64_t bytes = 0;
  size_t at = block->start;
  if (queue->front_open) {
    at += queue->front_left;
    bytes = queue->front_left;
    left--;
  }
  while ((at = block_skip(block, at, &left, &bytes)), left > 0) {
    block = block->next;
    at = block->start;
  }
  rxq_end_at(queue, block, at);
  queue->message_count = (uint32_t) keep;
  queue->bytes = bytes;
}

static void rxq_cut_bytes(npi_rxq* queue, uint64_t keep) {
  npi_block* block = queue->head;
  uint64_t left = keep;
  while (left > block->end - block->start) {
    left -= block->end - block->start;
    block = block->next;
  }
  rxq_end_at(queue, block, block->start + (size_t) left);
  queue->bytes = keep;
}

void npi_rxq_cut(npi_rxq* queue, uint64_t keep) {
  npi_free(queue->part);
  queue->part = NULL;
  uint64_t most = queue->messages ? queue->message_count : queue->bytes;
  if (keep >= most) return;
  if (keep == 0)
    npi_rxq_clear(queue);
  else if (queue->messages)
    rxq_cut_messages(queue, keep);
  else
    rxq_cut_bytes(queue, keep);
}
