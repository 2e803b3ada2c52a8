/*
 * A server: a few instances of the pipe that listen, and the clients they get.
 *
 * Up to NPI_SERVER_LISTENERS_MAX instances listen at a time, as far as there is
 * room: connected and listening ones together never exceed max_instances, and
 * not more listen than the backlog lets in. The pool uses an instance for one
 * client; npipe_listen() on a connection is another matter (instance.c). Its
 * replacement is made before it is handed out.
 *
 * The name never vanishes while the server is open, so nobody can take it over
 * and no client gets UV_ENOENT. Connected instances keep it alive as well as
 * listening ones; the one critical moment is the close of the only instance.
 * Therefore a pipe of max_instances 1 is made for 2 in the system: a connection
 * gives its instance back right before it closes it, so the next one is there
 * before the old one goes. Outside that moment never more than one is connected
 * or listens; GetNamedPipeInfo() of others shows the 2.
 *
 * A shared name (claim.c) has one count in the system for all its servers. If
 * that is limited, each of them lets one instance listen, not to starve the
 * others; and one that has none, because the others use them all, tries again
 * by a timer.
 *
 * listening[] is in the order in which the instances began to listen. Clients
 * get them in that order (OP5), so the connected ones are handed out from the
 * front. ConnectNamedPipe() that succeeds at once is reported like one that
 * was pending: from the loop.
 *
 * After npi_os_server_close() the name lives on while connections hold
 * instances: to the system they are instances of the pipe. The object stays
 * until the last of them is given back, and with it `wake`, which then no
 * longer keeps the loop alive.
 */
#include "server.h"

#define SERVER_TURN_MAX 16u /* clients taken in one loop turn */
#define SERVER_RETRY_MS 50

const size_t npi_os_server_size = sizeof(npi_win_server);

/* ---- instances */

/* Clients are in from the creation on; this is to learn of them. */
static void server_watch(npi_win_server* server, npi_server_slot* slot) {
  server->listening[server->listeners++] = slot;
  BOOL done = ConnectNamedPipe(slot->pipe, npi_wait_begin(&slot->wait));
  if (!done && GetLastError() == ERROR_IO_PENDING) {
    slot->pending = true;
    npi_wait_arm(&slot->wait, 0);
    return;
  }
  /* ERROR_PIPE_CONNECTED: a client is there. ERROR_NO_DATA: it was, and what
   * it wrote can still be read (LN2). For anything else the reads of the
   * connection will have the reason. */
  slot->connected = true;
  uv_async_send(&server->wake);
}

static npi_server_slot* server_free_slot(npi_win_server* server) {
  for (unsigned i = 0; i < NPI_SERVER_SLOTS; i++)
    if (server->slots[i].pipe == NULL) return &server->slots[i];
  return NULL;
}

/* How many instances may listen, once `extra` more clients are counted. */
static unsigned server_want(const npi_win_server* server, unsigned extra) {
  const npipe_server* base = &server->base;
  const npipe_server_options* options = &base->options;
  unsigned instances = base->instances + extra;
  unsigned waiting = base->waiting + extra;
  bool unlimited = options->max_instances >= NPIPE_INSTANCES_UNLIMITED;
  unsigned want =
      options->shared != 0 && !unlimited ? 1 : NPI_SERVER_LISTENERS_MAX;
  if (base->state == NPI_SERVER_CLOSING || waiting >= options->backlog)
    return 0;
  if (want > options->backlog - waiting) want = options->backlog - waiting;
  if (unlimited) return want;
  if (instances >= options->max_instances) return 0;
  unsigned free_instances = options->max_instances - instances;
  return want < free_instances ? want : free_instances;
}

static void server_on_retry(uv_timer_t* timer);

/* Instances given back are closed a moment later, in this loop turn; so the
 * first retry comes with the next turn, later ones with the timer. */
static void server_retry(npi_win_server* server) {
  if (!server->repeat)
    uv_async_send(&server->wake);
  else
    uv_timer_start(&server->retry, server_on_retry, SERVER_RETRY_MS, 0);
  server->repeat = !server->repeat;
}

/* Makes as many instances listen as there is room for. */
static DWORD server_fill(npi_win_server* server, unsigned extra) {
  unsigned want = server_want(server, extra);
  while (server->listeners < want) {
    npi_server_slot* slot = server_free_slot(server);
    if (slot == NULL) break; /* one is being handed out */
    DWORD error = npi_server_add(server, slot);
    if (error != 0) {
      if (server->listeners == 0) server_retry(server);
      return error;
    }
    server->repeat = false;
    server_watch(server, slot);
  }
  return ERROR_SUCCESS;
}

static void server_on_retry(uv_timer_t* timer) {
  server_fill(timer->data, 0);
}

void npi_os_server_room(npipe_server* base) {
  if (base->state == NPI_SERVER_LISTENING)
    server_fill((npi_win_server*) base, 0);
}

/* ---- clients */

/* The next slot with a client, in the order in which they came. */
static npi_server_slot* server_next(npi_win_server* server) {
  for (unsigned i = 0; i < server->listeners; i++) {
    npi_server_slot* slot = server->listening[i];
    if (slot->pending && npi_wait_fired(&slot->wait)) {
      slot->pending = false;
      slot->connected = true;
    }
  }
  for (unsigned i = 0; i < server->listeners; i++) {
    npi_server_slot* slot = server->listening[i];
    if (slot->connected) return slot;
    /* Its client came before those behind it; the wake is on its way. */
    if (npi_wait_over(&slot->wait)) return NULL;
  }
  return NULL;
}

static void server_forget(npi_win_server* server, const npi_server_slot* slot) {
  unsigned kept = 0;
  for (unsigned i = 0; i < server->listeners; i++)
    if (server->listening[i] != slot)
      server->listening[kept++] = server->listening[i];
  server->listeners = kept;
}

/* The connection on this pipe, which it takes over. NULL: *error says why. */
static npi_win_conn* server_adopt(npi_win_server* server, HANDLE pipe,
                                  int* error) {
  const npipe_server_options* options = &server->base.options;
  npipe_conn* conn = npi_conn_new(server->base.loop);
  *error = conn == NULL ? UV_ENOMEM : npi_conn_begin((npi_win_conn*) conn);
  if (*error != 0) {
    CloseHandle(pipe);
  } else {
    conn->is_server = true;
    conn->type = options->type;
    conn->read_mode = options->read_mode;
    conn->can_read = options->direction != NPIPE_OUTBOUND;
    conn->can_write = options->direction != NPIPE_INBOUND;
    conn->message_max_bytes = options->message_max_bytes;
    *error = npi_conn_adopt((npi_win_conn*) conn, pipe);
  }
  if (*error == 0) return (npi_win_conn*) conn;
  if (conn != NULL) npi_conn_discard(conn);
  return NULL;
}

/* Hands the slot's client out. The program may close the server inside. */
static void server_take(npi_win_server* server, npi_server_slot* slot) {
  server_forget(server, slot);
  DWORD error = server_fill(server, 1);
  bool others = error == ERROR_PIPE_BUSY && server->base.options.shared != 0;
  if (error != 0 && server->listeners == 0 && !others) {
    /* Without a replacement the name would hang on this one instance. Rather
     * turn the client away and let the instance listen again. */
    DisconnectNamedPipe(slot->pipe);
    slot->connected = false;
    server_watch(server, slot);
    npi_server_trouble(&server->base, npi_win_error(error));
    return;
  }
  HANDLE pipe = slot->pipe;
  slot->pipe = NULL;
  slot->connected = false;
  int err;
  npi_win_conn* conn = server_adopt(server, pipe, &err);
  if (conn != NULL) {
    npi_server_connected(&server->base, &conn->base);
    return;
  }
  server_fill(server, 0);
  npi_fail(err, 0, "accept on '%s': %s", server->base.name.text,
           npipe_strerror(err));
  npi_server_trouble(&server->base, err);
}

static void server_close_step(npi_win_server* server);

static void server_on_wake(uv_async_t* wake) {
  npi_win_server* server = wake->data;
  if (server->base.state == NPI_SERVER_CLOSING) {
    server_close_step(server);
    return;
  }
  for (unsigned n = 0; server->base.state == NPI_SERVER_LISTENING; n++) {
    npi_server_slot* slot = server_next(server);
    if (slot == NULL) break;
    if (n == SERVER_TURN_MAX) {
      uv_async_send(wake);
      return;
    }
    server_take(server, slot);
  }
  npi_os_server_room(&server->base);
}

/* ---- open and close */

/* The name goes, as far as it is ours. */
static void server_release(npi_win_server* server) {
  for (unsigned i = 0; i < NPI_SERVER_SLOTS; i++)
    npi_server_drop(&server->slots[i]);
  server->listeners = 0;
  if (server->security != NULL) LocalFree(server->security);
  server->security = NULL;
}

int npi_os_server_open(npipe_server* base) {
  npi_win_server* server = (npi_win_server*) base;
  if (!npi_win_path(server->path, &base->name))
    return npi_fail(UV_EINVAL, 0, "create pipe: the name cannot be converted");
  int err = npi_security_make(&base->options, &server->security);
  if (err == 0) err = npi_server_claim(server);
  if (err == 0) {
    err = uv_async_init(base->loop, &server->wake, server_on_wake);
    if (err != 0)
      npi_fail(err, 0, "create pipe '%s': no wake-up handle for the loop",
               base->name.text);
  }
  if (err != 0) {
    server_release(server);
    npi_wait_close(&server->slots[0].wait); /* it was never armed */
    return err;
  }
  server->wake.data = server;
  uv_timer_init(base->loop, &server->retry); /* cannot fail */
  server->retry.data = server;
  server->handles = 2;
  server_watch(server, &server->slots[0]);
  server_fill(server, 0);
  return 0;
}

/* ---- the end */

static void server_on_ended(uv_handle_t* handle) {
  npi_win_server* server = handle->data;
  npi_server_ended(&server->base);
}

static void server_end_step(npi_win_server* server) {
  uv_handle_t* wake = (uv_handle_t*) &server->wake;
  if (server->closed && server->over && !uv_is_closing(wake))
    uv_close(wake, server_on_ended);
}

/* Goes on as far as it can; called again at each wake. */
static void server_close_step(npi_win_server* server) {
  bool retired = true;
  if (server->closed) return;
  for (unsigned i = 0; i < NPI_SERVER_SLOTS; i++)
    if (!npi_wait_retire(&server->slots[i].wait)) retired = false;
  if (!retired || server->handles > 1) return;
  server->closed = true;
  uv_unref((uv_handle_t*) &server->wake);
  npi_server_closed(&server->base);
  server_end_step(server);
}

static void server_on_closed(uv_handle_t* handle) {
  npi_win_server* server = handle->data;
  server->handles--;
  server_close_step(server);
}

void npi_os_server_close(npipe_server* base) {
  npi_win_server* server = (npi_win_server*) base;
  server_release(server);
  uv_close((uv_handle_t*) &server->retry, server_on_closed);
}

void npi_os_server_end(npipe_server* base) {
  npi_win_server* server = (npi_win_server*) base;
  server->over = true;
  server_end_step(server);
}
