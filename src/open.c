/*
 * A client's open, as the program sees it: the arguments before it and the
 * callback after it. What lies between is the backend's.
 *
 * npipe_wait() takes the same way, but its connection never opens: success
 * leaves it in FAILED, where only the close is left.
 */
#include <string.h>

#include "backend.h"

static int open_check_options(const npipe_client_options* o) {
  static const npipe_client_options zero;
  if ((unsigned) o->access > NPIPE_WRITE_ONLY ||
      (unsigned) o->read_mode > NPIPE_READ_MESSAGES ||
      (unsigned) o->scope > NPIPE_SCOPE_MACHINE)
    return npi_fail(UV_EINVAL, 0, "connect: an option is out of range");
  if (o->message_max_bytes > NPIPE_MESSAGE_MAX_BYTES)
    return npi_fail(UV_EINVAL, 0, "connect: message limit above 1 GiB");
  if (o->plain_path != NULL && o->read_mode == NPIPE_READ_MESSAGES)
    return npi_fail(UV_EINVAL, 0, "connect: a plain pipe has no messages");
  if (o->server_user != NULL &&
      (o->server_user[0] == '\0' || strlen(o->server_user) >= NPIPE_ID_BYTES))
    return npi_fail(UV_EINVAL, 0, "connect: server_user is no user's id");
  if (memcmp(o->reserved, zero.reserved, sizeof o->reserved) != 0)
    return npi_fail(UV_EINVAL, 0, "connect: reserved options must be 0");
  return 0;
}

static int open_fill_request(npi_connect_request* request, const char* text,
                             int timeout_ms,
                             const npipe_client_options* options) {
  static const npipe_client_options defaults;
  if (timeout_ms < NPIPE_WAIT_DEFAULT)
    return npi_fail(UV_EINVAL, 0, "connect: timeout of %d ms", timeout_ms);
  request->options = options != NULL ? *options : defaults;
  request->timeout_ms = timeout_ms;
  request->server_user[0] = '\0';
  int err = npi_name_parse(&request->name, text);
  if (err == 0) err = open_check_options(&request->options);
  if (err != 0) return err;
  if (request->options.message_max_bytes == 0)
    request->options.message_max_bytes = NPIPE_MESSAGE_DEFAULT_BYTES;
  if (request->options.server_user != NULL)
    memcpy(request->server_user, request->options.server_user,
           strlen(request->options.server_user) + 1);
  return 0;
}

int npi_connect(uv_loop_t* loop, const char* name, int timeout_ms,
                const npipe_client_options* options, npi_connect_for purpose,
                npipe_connect_cb cb, void* arg, npipe_conn** out) {
  npi_connect_request request;
  if (out != NULL) *out = NULL;
  if (loop == NULL || cb == NULL || out == NULL)
    return npi_fail(UV_EINVAL, 0, "connect: loop, cb or conn is NULL");
  int err = open_fill_request(&request, name, timeout_ms, options);
  if (err != 0) return err;
  npipe_conn* conn = npi_conn_new(loop);
  if (conn == NULL) return npi_fail(UV_ENOMEM, 0, "connect: no memory");
  conn->state = NPI_CONN_CONNECTING;
  request.wait_only = conn->wait_only = purpose == NPI_CONNECT_TO_WAIT;
  err = npi_os_connect(conn, &request);
  if (err != 0) {
    npi_conn_discard(conn);
    return err;
  }
  conn->connect_cb = cb;
  conn->connect_arg = arg;
  *out = conn;
  return 0;
}

int npipe_connect(uv_loop_t* loop, const char* name, int timeout_ms,
                  const npipe_client_options* options, npipe_connect_cb cb,
                  void* arg, npipe_conn** out) {
  return npi_connect(loop, name, timeout_ms, options, NPI_CONNECT_TO_OPEN, cb,
                     arg, out);
}

static void open_keep_trouble(npipe_conn* conn) {
  conn->trouble = npi_malloc(sizeof *conn->trouble);
  if (conn->trouble != NULL) *conn->trouble = *npipe_last_error();
}

void npi_conn_connected(npipe_conn* conn, int status) {
  if (conn->state != NPI_CONN_CONNECTING) return; /* closed meanwhile */
  bool opens = status == 0 && !conn->wait_only;
  conn->state = opens ? NPI_CONN_OPEN : NPI_CONN_FAILED;
  conn->connect_status = status;
  conn->connect_done = true;
  if (status != 0) open_keep_trouble(conn);
  npi_conn_post(conn);
}
