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
 * no block in the list is empty; part is not in the list. An empty queue holds
 * no memory.
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

void npi_rxq_init(npi_rxq* queue, bool messages) {
  memset(queue, 0, sizeof *queue);
  queue->messages = messages;
}

void npi_rxq_clear(npi_rxq* queue) {
  while (queue->head != NULL) {
    npi_block* next = queue->head->next;
    npi_free(queue->head);
    queue->head = next;
  }
  npi_free(queue->part);
  npi_rxq_init(queue, queue->messages);
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
  npi_free(block);
  return gone;
}
