/*
 * What is made of npipe_connect(): a whole conversation of one request and one
 * reply, and a wait that opens nothing.
 *
 * The library owns the connection. Its end of the story is the program's
 * callback, which comes once, also if the program gives up by npipe_abort():
 * the connect callback or the reply's then says UV_ECANCELED. Whatever happens,
 * the connection is closed behind the callback.
 */
#include <string.h>

#include "backend.h"

#define CALL_REPLY_MS 10000

typedef struct call {
  npipe_call_cb cb;
  void* arg;
  void* reply;
  size_t size;
  uint64_t deadline_ms; /* on the loop's clock; 0: none */
  unsigned nbufs;
  uv_buf_t bufs[];
} call;

/* The end: the callback, then the close. */
static void call_end(npipe_conn* conn, call* c, int status, size_t size,
                     unsigned flags) {
  npipe_call_cb cb = c->cb;
  void* arg = c->arg;
  npi_free(c);
  cb(status, size, flags, arg);
  npipe_abort(conn, NULL, NULL);
}

static void call_on_reply(npipe_conn* conn, int status, size_t size,
                          unsigned flags, void* arg) {
  call_end(conn, arg, status, size, flags);
}

/* What is left of the time; never negative but for "for ever". */
static int call_time_left(npipe_conn* conn, const call* c) {
  if (c->deadline_ms == 0) return NPIPE_WAIT_FOREVER;
  uint64_t now = uv_now(conn->loop);
  return c->deadline_ms > now ? (int) (c->deadline_ms - now) : 0;
}

static void call_on_connect(npipe_conn* conn, int status, void* arg) {
  call* c = arg;
  if (status == 0)
    status = npipe_transact(conn, c->bufs, c->nbufs, c->reply, c->size,
                            call_time_left(conn, c), NULL, call_on_reply, c);
  if (status != 0) call_end(conn, c, status, 0, 0);
}

static call* call_new(const uv_buf_t bufs[], unsigned nbufs) {
  call* c = npi_calloc(1, sizeof *c + nbufs * sizeof *bufs);
  if (c == NULL) return NULL;
  if (nbufs > 0) memcpy(c->bufs, bufs, nbufs * sizeof *bufs);
  c->nbufs = nbufs;
  return c;
}

static uint64_t call_deadline(uv_loop_t* loop, int timeout_ms) {
  if (timeout_ms < 0) return 0;
  if (timeout_ms == 0) timeout_ms = CALL_REPLY_MS;
  uv_update_time(loop);
  return uv_now(loop) + (uint64_t) timeout_ms;
}

int npipe_call(uv_loop_t* loop, const char* name, int timeout_ms,
               const npipe_client_options* options, const uv_buf_t bufs[],
               unsigned nbufs, void* reply, size_t size, npipe_call_cb cb,
               void* arg, npipe_conn** out) {
  npipe_client_options wanted = {0};
  npipe_conn* conn;
  if (out != NULL) *out = NULL;
  if (loop == NULL || cb == NULL || (bufs == NULL && nbufs > 0) ||
      (reply == NULL && size > 0))
    return npi_fail(UV_EINVAL, 0, "call: loop, cb, bufs or reply is NULL");
  if (options != NULL) wanted = *options;
  if (wanted.access != NPIPE_READ_WRITE || wanted.plain_path != NULL ||
      wanted.read_mode == NPIPE_READ_BYTES)
    return npi_fail(UV_EINVAL, 0,
                    "call: needs read and write access to messages (TX6)");
  wanted.read_mode = NPIPE_READ_MESSAGES;
  call* c = call_new(bufs, nbufs);
  if (c == NULL) return npi_fail(UV_ENOMEM, 0, "call: no memory");
  c->cb = cb;
  c->arg = arg;
  c->reply = reply;
  c->size = size;
  c->deadline_ms = call_deadline(loop, timeout_ms);
  int err = npi_connect(loop, name, timeout_ms, &wanted, NPI_CONNECT_TO_OPEN,
                        call_on_connect, c, &conn);
  if (err != 0)
    npi_free(c);
  else if (out != NULL)
    *out = conn;
  return err;
}

/* ---- waiting */

typedef struct wait_only {
  npipe_wait_cb cb;
  void* arg;
} wait_only;

static void wait_on_connect(npipe_conn* conn, int status, void* arg) {
  wait_only wait = *(wait_only*) arg;
  npi_free(arg);
  wait.cb(status, wait.arg);
  npipe_abort(conn, NULL, NULL);
}

int npipe_wait(uv_loop_t* loop, const char* name, int timeout_ms,
               const npipe_client_options* options, npipe_wait_cb cb, void* arg,
               npipe_conn** out) {
  npipe_client_options wanted = {0};
  npipe_conn* conn;
  if (out != NULL) *out = NULL;
  if (cb == NULL) return npi_fail(UV_EINVAL, 0, "wait: cb is NULL");
  if (options != NULL) wanted = *options;
  if (wanted.plain_path != NULL)
    return npi_fail(UV_ENOTSUP, 0, "wait: a plain pipe has no instances");
  wait_only* wait = npi_malloc(sizeof *wait);
  if (wait == NULL) return npi_fail(UV_ENOMEM, 0, "wait: no memory");
  *wait = (wait_only){cb, arg};
  int err = npi_connect(loop, name, timeout_ms, &wanted, NPI_CONNECT_TO_WAIT,
                        wait_on_connect, wait, &conn);
  if (err != 0)
    npi_free(wait);
  else if (out != NULL)
    *out = conn;
  return err;
}
