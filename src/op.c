/*
 * Operations and their queues.
 *
 * An operation is one read, write, transaction, flush or listen, from the call
 * to the return of its callback. It stands in exactly one place: conn->reads,
 * conn->waits or the backend's write queue while it is pending, conn->done
 * while its callback is owed, conn->spare when it is free. A connection keeps a
 * few spares, so that the steady state allocates nothing.
 *
 * Ids count up per connection and are never used again; a stale one is told
 * from a live one by looking it up.
 */
#include <string.h>

#include "backend.h"

#define OP_SPARES_MAX 16u

/* What is aligned for any type; MSVC's C has no max_align_t. */
typedef union op_align {
  long long integer;
  long double real;
  void* pointer;
} op_align;

/* The backend's part starts at the next such address. */
#define OP_OS_OFFSET \
  ((sizeof(npi_op) + sizeof(op_align) - 1) / sizeof(op_align) * \
   sizeof(op_align))

void npi_queue_push(npi_queue* queue, npi_op* op) {
  op->next = NULL;
  if (queue->tail == NULL)
    queue->head = op;
  else
    queue->tail->next = op;
  queue->tail = op;
}

npi_op* npi_queue_pop(npi_queue* queue) {
  npi_op* op = queue->head;
  if (op == NULL) return NULL;
  queue->head = op->next;
  if (queue->head == NULL) queue->tail = NULL;
  op->next = NULL;
  return op;
}

bool npi_queue_remove(npi_queue* queue, npi_op* op) {
  npi_op* before = NULL;
  npi_op* at = queue->head;
  while (at != NULL && at != op) {
    before = at;
    at = at->next;
  }
  if (at == NULL) return false;
  if (before == NULL)
    queue->head = op->next;
  else
    before->next = op->next;
  if (queue->tail == op) queue->tail = before;
  op->next = NULL;
  return true;
}

void* npi_op_os(npi_op* op) {
  return (char*) op + OP_OS_OFFSET;
}

npi_op* npi_op_from_os(void* os) {
  return (npi_op*) (void*) ((char*) os - OP_OS_OFFSET);
}

npi_op* npi_op_new(npipe_conn* conn, npi_op_kind kind) {
  size_t size = OP_OS_OFFSET + npi_os_op_size;
  npi_op* op = npi_queue_pop(&conn->spare);
  if (op == NULL) {
    op = npi_malloc(size);
    if (op == NULL) return NULL;
  } else {
    conn->spares--;
  }
  memset(op, 0, size);
  op->kind = kind;
  op->id = ++conn->last_id;
  return op;
}

void npi_op_finish(npipe_conn* conn, npi_op* op, int status) {
  op->status = status;
  npi_queue_push(&conn->done, op);
  npi_conn_post(conn);
}

void npi_op_free(npipe_conn* conn, npi_op* op) {
  if (op->kind == NPI_OP_TRANSACT && op->u.read.request != NULL)
    npi_op_free(conn, op->u.read.request);
  if (op->kind == NPI_OP_WRITE) {
    if (op->u.write.bufs != op->u.write.small) npi_free(op->u.write.bufs);
    npi_free(op->u.write.owned);
  }
  if (conn->spares >= OP_SPARES_MAX) {
    npi_free(op);
    return;
  }
  conn->spares++;
  npi_queue_push(&conn->spare, op);
}
