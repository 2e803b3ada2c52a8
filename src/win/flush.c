/*
 * Waiting until the peer has read everything: FlushFileBuffers(), which blocks
 * its thread and has no overlapped form.
 *
 * Each pending flush has a work item of the system's pool (not of libuv's,
 * whose few threads others need). What the thread needs is in npi_flush, which
 * outlives the operation: a flush that is cancelled is only given up, and its
 * thread is made to leave by CancelSynchronousIo(). That call can come too
 * early, so it is repeated until the thread has left. The connection's close
 * waits for that before it closes the pipe; so no thread ever has a handle that
 * is closed.
 *
 * A flush is about the writes before it (FL1). Those still in writer.later have
 * to be given to the system first. Those after it are held back until the
 * thread is in FlushFileBuffers(), which nobody can see: the thread says that
 * it is about to call, and gets FLUSH_ENTER_MS.
 *
 * If nothing was written since the last flush, nothing is unread, and no thread
 * is needed. If the peer has closed before the thread got there, the system
 * would call it a success (FL4); but it was during this flush, and something
 * may have been unread, so it is UV_EPIPE (FL3).
 */
#include "win.h"

#define FLUSH_THREADS_MAX 64u /* of one connection */
#define FLUSH_START_MS 5u     /* the most that the loop waits for a thread */
#define FLUSH_ENTER_MS 1u
#define FLUSH_LEAVE_MS 5u /* between two cancels */

typedef enum flush_phase {
  FLUSH_WAITS, /* for the writes before it */
  FLUSH_STARTS,
  FLUSH_ENTERS, /* the thread is about to call, or has called */
  FLUSH_OVER
} flush_phase;

struct npi_flush {
  npi_flush* next;
  npi_win_conn* conn;
  npi_op* op;  /* NULL: given up */
  uint64_t id; /* of the operation; smaller ones are before it */
  uint64_t issued;
  uint64_t entered_ns; /* when the loop learnt of it */
  bool inside;         /* believed to be in the system */
  bool broken;         /* a write before it has failed */
  PTP_WORK work;
  volatile LONG phase; /* flush_phase */
  DWORD error;         /* from FLUSH_OVER on */
  CONDITION_VARIABLE begun;
  SRWLOCK lock;  /* for the two below */
  HANDLE thread; /* while a cancel can reach it */
  bool cancelled;
};

/* ---- on the thread */

static void flush_tell(npi_flush* flush, flush_phase phase) {
  AcquireSRWLockExclusive(&flush->lock);
  InterlockedExchange(&flush->phase, phase);
  ReleaseSRWLockExclusive(&flush->lock);
  WakeConditionVariable(&flush->begun);
  uv_async_send(&flush->conn->wake);
}

static DWORD flush_call(npi_flush* flush) {
  const npi_win_conn* conn = flush->conn;
  /* Under the lock: the question makes an outbound instance listen if it was
   * disconnected; npi_flush_bar() comes before that. */
  AcquireSRWLockExclusive(&flush->lock);
  bool go = !flush->cancelled;
  bool closing = go && npi_nt_state(conn->handle, conn->base.is_server) ==
                           NPIPE_STATE_CLOSING;
  ReleaseSRWLockExclusive(&flush->lock);
  if (!go) return ERROR_OPERATION_ABORTED;
  if (closing) return ERROR_BROKEN_PIPE;
  flush_tell(flush, FLUSH_ENTERS);
  return FlushFileBuffers(conn->handle) ? ERROR_SUCCESS : GetLastError();
}

/* Lets cancels reach this thread, or no more; false if one was here before. */
static bool flush_reach(npi_flush* flush, HANDLE thread) {
  AcquireSRWLockExclusive(&flush->lock);
  flush->thread = thread;
  bool go = !flush->cancelled;
  ReleaseSRWLockExclusive(&flush->lock);
  return go;
}

static void CALLBACK flush_run(PTP_CALLBACK_INSTANCE instance, PVOID context,
                               PTP_WORK work) {
  npi_flush* flush = context;
  HANDLE process = GetCurrentProcess();
  HANDLE self;
  (void) work;
  CallbackMayRunLong(instance);
  if (!DuplicateHandle(process, GetCurrentThread(), process, &self, 0, FALSE,
                       DUPLICATE_SAME_ACCESS)) {
    flush->error = ERROR_NOT_ENOUGH_MEMORY;
  } else {
    flush->error =
        flush_reach(flush, self) ? flush_call(flush) : ERROR_OPERATION_ABORTED;
    flush_reach(flush, NULL);
    CloseHandle(self);
  }
  flush_tell(flush, FLUSH_OVER);
}

/* ---- on the loop */

static LONG flush_phase_of(npi_flush* flush) {
  return InterlockedCompareExchange(&flush->phase, 0, 0);
}

static void flush_cancel_thread(npi_flush* flush) {
  AcquireSRWLockExclusive(&flush->lock);
  flush->cancelled = true;
  if (flush->thread != NULL) CancelSynchronousIo(flush->thread);
  ReleaseSRWLockExclusive(&flush->lock);
}

static void flush_push(npi_flusher* flusher, npi_flush* flush) {
  if (flusher->tail != NULL)
    flusher->tail->next = flush;
  else
    flusher->head = flush;
  flusher->tail = flush;
  flusher->count++;
}

/* Its thread, if it had one, is as good as gone. */
static void flush_free(npi_win_conn* conn, npi_flush* flush) {
  npi_flusher* flusher = &conn->flusher;
  npi_flush* before = NULL;
  for (npi_flush* at = flusher->head; at != flush; at = at->next) before = at;
  if (before == NULL)
    flusher->head = flush->next;
  else
    before->next = flush->next;
  if (flusher->tail == flush) flusher->tail = before;
  flusher->count--;
  WaitForThreadpoolWorkCallbacks(flush->work, FALSE);
  CloseThreadpoolWork(flush->work);
  npi_free(flush);
}

static void flush_finish(npi_win_conn* conn, npi_flush* flush) {
  npi_op* op = flush->op;
  int status = npi_win_write_error(flush->error);
  if (status == 0 && flush->broken) status = UV_EPIPE;
  /* One that was given up may be of the client before. */
  if (op != NULL && status == 0 && conn->writer.flushed < flush->issued)
    conn->writer.flushed = flush->issued;
  flush_free(conn, flush);
  if (op == NULL) return;
  if (status != 0) npi_flush_fail(conn, op->id); /* nor will those behind it */
  npi_wait_end(&conn->base, op, status);
  if (status == UV_ECONNABORTED) npi_conn_lost(conn);
}

/* Is its end not to be told yet? Flushes end in their order, and behind the
 * write that was pending when they began. */
static bool flush_is_early(const npi_win_conn* conn, const npi_flush* flush) {
  const npi_op* write = conn->writer.op;
  if (flush->op == NULL) return false;
  if (write != NULL && write->id < flush->id &&
      (flush->error == ERROR_SUCCESS || flush->error == ERROR_BROKEN_PIPE))
    return true;
  for (const npi_flush* f = conn->flusher.head; f != flush; f = f->next)
    if (f->op != NULL) return true;
  return false;
}

/* Are all the writes before it in the system? */
static bool flush_can_start(const npi_win_conn* conn, const npi_flush* flush) {
  const npi_op* later = conn->writer.later.head;
  return later == NULL || later->id > flush->id;
}

/* A native flush is in the system when its call has been made. Ours should be
 * so, too, as nearly as can be: else a peer that reads all and closes would
 * often be there before the thread is. Therefore this waits for the thread to
 * come, some 50 microseconds; under load not longer than FLUSH_START_MS. */
static void flush_start(npi_win_conn* conn, npi_flush* flush) {
  flush->phase = FLUSH_STARTS;
  flush->issued = conn->writer.issued;
  SubmitThreadpoolWork(flush->work);
  AcquireSRWLockExclusive(&flush->lock);
  if (flush->phase == FLUSH_STARTS)
    SleepConditionVariableSRW(&flush->begun, &flush->lock, FLUSH_START_MS, 0);
  ReleaseSRWLockExclusive(&flush->lock);
}

static void flush_enter(npi_win_conn* conn, npi_flush* flush) {
  uint64_t now = uv_hrtime();
  if (flush->inside) return;
  if (flush->entered_ns == 0) flush->entered_ns = now;
  flush->inside = now - flush->entered_ns >= FLUSH_ENTER_MS * NPI_NS_PER_MS;
  if (!flush->inside)
    npi_conn_tick(conn, FLUSH_ENTER_MS);
  else
    npi_write_drain(conn);
}

/* One step of one flush. True: it is gone, and the list has changed. */
static bool flush_step(npi_win_conn* conn, npi_flush* flush) {
  switch (flush_phase_of(flush)) {
    case FLUSH_OVER:
      if (flush_is_early(conn, flush)) return false;
      flush_finish(conn, flush);
      return true;
    case FLUSH_WAITS:
      if (flush_can_start(conn, flush)) flush_start(conn, flush);
      return false;
    default: break;
  }
  if (flush->op == NULL) {
    flush_cancel_thread(flush);
    npi_conn_tick(conn, FLUSH_LEAVE_MS);
  } else if (flush_phase_of(flush) == FLUSH_ENTERS) {
    flush_enter(conn, flush);
  }
  return false;
}

void npi_flush_turn(npi_win_conn* conn) {
  npi_flush* flush = conn->flusher.head;
  bool some = flush != NULL;
  while (flush != NULL)
    flush = flush_step(conn, flush) ? conn->flusher.head : flush->next;
  if (some) npi_write_drain(conn); /* what was behind one that is over */
}

bool npi_flush_holds(const npi_win_conn* conn, uint64_t id) {
  for (const npi_flush* f = conn->flusher.head; f != NULL; f = f->next)
    if (f->op != NULL && f->id < id && !f->inside) return true;
  return false;
}

void npi_flush_fail(npi_win_conn* conn, uint64_t id) {
  for (npi_flush* f = conn->flusher.head; f != NULL; f = f->next)
    if (f->id > id) f->broken = true;
}

void npi_flush_bar(npi_win_conn* conn) {
  for (npi_flush* f = conn->flusher.head; f != NULL; f = f->next)
    if (flush_phase_of(f) != FLUSH_WAITS) flush_cancel_thread(f);
}

bool npi_flush_gone(npi_win_conn* conn) {
  npi_flush_turn(conn);
  return conn->flusher.head == NULL;
}

static npi_flush* flush_new(npi_win_conn* conn, npi_op* op) {
  if (conn->flusher.count >= FLUSH_THREADS_MAX) return NULL;
  npi_flush* flush = npi_calloc(1, sizeof *flush);
  if (flush == NULL) return NULL;
  flush->work = CreateThreadpoolWork(flush_run, flush, NULL);
  if (flush->work == NULL) {
    npi_free(flush);
    return NULL;
  }
  InitializeSRWLock(&flush->lock);
  InitializeConditionVariable(&flush->begun);
  flush->conn = conn;
  flush->op = op;
  flush->id = op->id;
  return flush;
}

int npi_os_flush(npipe_conn* base, npi_op* op) {
  npi_win_conn* conn = (npi_win_conn*) base;
  const npi_writer* writer = &conn->writer;
  npipe_state state = npi_os_state(base);
  if (state == NPIPE_STATE_DISCONNECTED && !base->is_server) {
    npi_conn_lost(conn); /* ends this one, too */
    return 0;
  }
  bool clean = writer->op == NULL && writer->later.head == NULL &&
               writer->issued == writer->flushed;
  if (clean || state == NPIPE_STATE_CLOSING) {
    npi_wait_end(base, op, 0);
    return 0;
  }
  npi_flush* flush = flush_new(conn, op);
  if (flush == NULL) return UV_ENOMEM;
  flush_push(&conn->flusher, flush);
  npi_flush_turn(conn);
  return 0;
}

void npi_os_flush_cancel(npipe_conn* base, npi_op* op) {
  npi_win_conn* conn = (npi_win_conn*) base;
  npi_flush* flush = conn->flusher.head;
  while (flush != NULL && flush->op != op) flush = flush->next;
  if (flush == NULL) return;
  flush->op = NULL;
  if (flush_phase_of(flush) == FLUSH_WAITS) {
    flush_free(conn, flush);
  } else {
    flush_cancel_thread(flush);
    npi_conn_tick(conn, FLUSH_LEAVE_MS);
  }
  npi_conn_post(base); /* it may have held writes back */
}
