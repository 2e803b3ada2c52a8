/*
 * Operations with a time: one timer per connection, for the nearest deadline.
 *
 * The timer is made when a deadline is first set and lives until the
 * connection is closed; it does not keep the loop alive, the connection does.
 *
 * libuv runs timers before it looks at sockets. In a loop that was busy, what
 * was waited for may be there already; so when the time is over the loop gets
 * one more look (a millisecond), and only then it was in vain.
 */
#include "backend.h"

#define DEADLINE_LOOK_MS 1

bool npi_timeout_valid(int timeout_ms) {
  return timeout_ms >= NPIPE_WAIT_FOREVER;
}

static uint64_t queue_nearest(const npi_queue* queue, uint64_t nearest) {
  for (const npi_op* op = queue->head; op != NULL; op = op->next)
    if (op->deadline_ms != 0 && op->deadline_ms < nearest)
      nearest = op->deadline_ms;
  return nearest;
}

static void deadline_on_clock(uv_timer_t* clock);

static void deadline_start(npipe_conn* conn) {
  uint64_t nearest = queue_nearest(&conn->waits, UINT64_MAX);
  nearest = queue_nearest(&conn->reads, nearest);
  if (nearest == UINT64_MAX) {
    uv_timer_stop(&conn->clock);
    conn->late = false;
    return;
  }
  uint64_t now = uv_now(conn->loop);
  uv_timer_start(&conn->clock, deadline_on_clock,
                 nearest > now ? nearest - now : 0, 0);
}

static bool deadline_passed(const npipe_conn* conn, const npi_op* op) {
  return op->deadline_ms != 0 && op->deadline_ms <= uv_now(conn->loop);
}

/* Ends what is over; a read that gets data while it is cancelled is served. */
static void deadline_expire(npipe_conn* conn) {
  npi_op* next;
  for (npi_op* op = conn->waits.head; op != NULL; op = next) {
    next = op->next;
    if (deadline_passed(conn, op)) npi_wait_stop(conn, op, UV_ETIMEDOUT);
  }
  /* Of reads only a transaction has a time, and it is alone. */
  npi_op* front = conn->reads.head;
  if (front != NULL && deadline_passed(conn, front))
    npi_read_abort(conn, front, UV_ETIMEDOUT);
}

static void deadline_on_clock(uv_timer_t* clock) {
  npipe_conn* conn = clock->data;
  if (conn->state == NPI_CONN_CLOSING) return;
  if (!conn->late) {
    conn->late = true;
    uv_timer_start(clock, deadline_on_clock, DEADLINE_LOOK_MS, 0);
    return;
  }
  conn->late = false;
  deadline_expire(conn);
  deadline_start(conn);
}

void npi_deadline_set(npipe_conn* conn, npi_op* op, int timeout_ms) {
  if (timeout_ms < 0) return;
  if (!conn->has_clock) {
    uv_timer_init(conn->loop, &conn->clock); /* cannot fail */
    uv_unref((uv_handle_t*) &conn->clock);
    conn->clock.data = conn;
    conn->has_clock = true;
    conn->own_handles++;
  }
  uv_update_time(conn->loop); /* the time is counted from the call */
  op->deadline_ms = uv_now(conn->loop) + (uint64_t) timeout_ms;
  if (op->deadline_ms == 0) op->deadline_ms = 1;
  /* A last look that is under way ends within a millisecond and starts the
   * clock again for all; to begin it anew could go on for ever. */
  if (!conn->late) deadline_start(conn);
}
