/*
 * A server: a few instances of the pipe that listen, and the clients they get.
 *
 * Up to SERVER_LISTENERS_MAX instances listen at a time, as far as there is
 * room: connected and listening ones together never exceed max_instances, and
 * not more listen than the backlog lets in. An instance serves one client and
 * is never used again: once libuv has adopted it, it is bound to libuv's
 * completion port for ever. Its replacement is made before it is handed out.
 *
 * The name never vanishes while the server is open, so nobody can take it over
 * and no client gets UV_ENOENT. Connected instances keep it alive as well as
 * listening ones; the one critical moment is the close of the only instance.
 * Therefore a pipe of max_instances 1 is made for 2 in the system: the shared
 * files give an instance back before they close it, so the next one is there
 * before the old one goes. Outside that moment never more than one is
 * connected or listens; GetNamedPipeInfo() of others shows the 2.
 *
 * listening[] is in the order in which the instances began to listen. Clients
 * get them in that order (OP5), so the connected ones are handed out from the
 * front. ConnectNamedPipe() that succeeds at once is reported like one that
 * was pending: from the loop.
 *
 * After npi_os_server_close() the name lives on only while accepted
 * connections are open: to the system they are instances of the pipe.
 */
#include <string.h>

#include "win.h"

#define SERVER_LISTENERS_MAX 4u
#define SERVER_SLOTS (SERVER_LISTENERS_MAX + 1) /* one is being handed out */
#define SERVER_TURN_MAX 16u /* clients taken in one loop turn */
#define SERVER_RETRY_MS 50

typedef struct server_slot {
  HANDLE pipe; /* NULL: the slot is free */
  npi_wait wait;
  bool pending;   /* ConnectNamedPipe() is under way */
  bool connected; /* a client is there, or was */
} server_slot;

struct npi_win_server {
  npipe_server base;
  uv_async_t wake;  /* from the pool; keeps the loop alive */
  uv_timer_t retry; /* when no instance could be made and none listens */
  unsigned handles;
  PSECURITY_DESCRIPTOR security;
  server_slot slots[SERVER_SLOTS];
  server_slot* listening[SERVER_SLOTS];
  unsigned listeners;
  bool repeat; /* the retry at once was already done */
  WCHAR path[NPI_PATH_UNITS];
};

const size_t npi_os_server_size = sizeof(npi_win_server);

/* ---- instances */

static DWORD server_open_mode(const npipe_server_options* options) {
  DWORD mode = FILE_FLAG_OVERLAPPED;
  if (options->direction == NPIPE_INBOUND) return mode | PIPE_ACCESS_INBOUND;
  if (options->direction == NPIPE_OUTBOUND) return mode | PIPE_ACCESS_OUTBOUND;
  return mode | PIPE_ACCESS_DUPLEX;
}

/* How many instances the system is to allow. */
static DWORD server_max(const npipe_server_options* options) {
  if (options->max_instances >= NPIPE_INSTANCES_UNLIMITED)
    return PIPE_UNLIMITED_INSTANCES;
  return options->max_instances == 1 ? 2 : options->max_instances;
}

/* A new instance in a free slot, not yet watched. 0 or a Win32 error. */
static DWORD server_make(npi_win_server* server, server_slot* slot,
                         DWORD first) {
  const npipe_server_options* options = &server->base.options;
  bool messages = options->type == NPIPE_MESSAGE;
  DWORD type = messages ? PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE
                        : PIPE_TYPE_BYTE | PIPE_READMODE_BYTE;
  SECURITY_ATTRIBUTES attributes = {.nLength = sizeof attributes,
                                    .lpSecurityDescriptor = server->security,
                                    .bInheritHandle = FALSE};
  if (npi_wait_open(&slot->wait, &server->wake) != 0)
    return ERROR_NOT_ENOUGH_MEMORY;
  HANDLE pipe = CreateNamedPipeW(
      server->path, server_open_mode(options) | first,
      type | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS, server_max(options),
      options->out_quota, options->in_quota, options->default_wait_ms,
      &attributes);
  if (pipe == INVALID_HANDLE_VALUE) return GetLastError();
  slot->pipe = pipe;
  slot->pending = slot->connected = false;
  return ERROR_SUCCESS;
}

/* Clients are in from the creation on; this is to learn of them. */
static void server_watch(npi_win_server* server, server_slot* slot) {
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

static void server_drop(server_slot* slot) {
  if (slot->pending) npi_wait_cancel(&slot->wait, slot->pipe);
  if (slot->pipe != NULL) CloseHandle(slot->pipe);
  slot->pipe = NULL;
  slot->pending = slot->connected = false;
}

static server_slot* server_free_slot(npi_win_server* server) {
  for (unsigned i = 0; i < SERVER_SLOTS; i++)
    if (server->slots[i].pipe == NULL) return &server->slots[i];
  return NULL;
}

/* How many instances may listen, once `extra` more clients are counted. */
static unsigned server_want(const npi_win_server* server, unsigned extra) {
  const npipe_server* base = &server->base;
  const npipe_server_options* options = &base->options;
  unsigned instances = base->instances + extra;
  unsigned waiting = base->waiting + extra;
  unsigned want = SERVER_LISTENERS_MAX;
  if (base->state == NPI_SERVER_CLOSING || waiting >= options->backlog)
    return 0;
  if (want > options->backlog - waiting) want = options->backlog - waiting;
  if (options->max_instances >= NPIPE_INSTANCES_UNLIMITED) return want;
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
    server_slot* slot = server_free_slot(server);
    if (slot == NULL) break; /* one is being handed out */
    DWORD error = server_make(server, slot, 0);
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
static server_slot* server_next(npi_win_server* server) {
  for (unsigned i = 0; i < server->listeners; i++) {
    server_slot* slot = server->listening[i];
    if (slot->pending && npi_wait_fired(&slot->wait)) {
      slot->pending = false;
      slot->connected = true;
    }
  }
  for (unsigned i = 0; i < server->listeners; i++) {
    server_slot* slot = server->listening[i];
    if (slot->connected) return slot;
    /* Its client came before those behind it; the wake is on its way. */
    if (npi_wait_over(&slot->wait)) return NULL;
  }
  return NULL;
}

static void server_forget(npi_win_server* server, const server_slot* slot) {
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
static void server_take(npi_win_server* server, server_slot* slot) {
  server_forget(server, slot);
  DWORD error = server_fill(server, 1);
  if (error != 0 && server->listeners == 0) {
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
    server_slot* slot = server_next(server);
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

/* Does the name exist? Only for Wine, see server_claim(). Takes 1 ms if all
 * its instances are busy. */
static bool server_exists(const npi_win_server* server, npi_wait* wait) {
  npi_nt_wait_request request = {.timeout.QuadPart = -10000,
                                 .timeout_given = TRUE};
  HANDLE root;
  if (npi_wait_open(wait, NULL) != 0 || npi_nt_open_root(&root) != 0)
    return false;
  npi_nt_wait_for(&request, server->path);
  DWORD error = npi_nt_wait_pipe(root, &request, wait);
  if (error == ERROR_IO_PENDING) WaitForSingleObject(wait->event, INFINITE);
  CloseHandle(root);
  return error == ERROR_SUCCESS || error == ERROR_IO_PENDING;
}

/* The first instance, which must be the first (MP2). Wine 8 ignores the flag
 * that says so; there the number of instances tells, or, where an outbound end
 * may not ask for it (CR11), a look before. */
static int server_claim(npi_win_server* server) {
  npipe_server* base = &server->base;
  server_slot* slot = &server->slots[0];
  DWORD instances;
  npi_wait look = {0};
  bool taken =
      base->options.direction == NPIPE_OUTBOUND && server_exists(server, &look);
  npi_wait_close(&look);
  DWORD error = taken
                    ? ERROR_PIPE_BUSY
                    : server_make(server, slot, FILE_FLAG_FIRST_PIPE_INSTANCE);
  if (error == 0 &&
      GetNamedPipeHandleStateW(slot->pipe, NULL, &instances, NULL, NULL, NULL,
                               0) &&
      instances > 1)
    error = ERROR_PIPE_BUSY;
  if (error == 0) return 0;
  server_drop(slot);
  if (error == ERROR_PIPE_BUSY || error == ERROR_ACCESS_DENIED)
    return npi_fail(UV_EADDRINUSE, (int) error,
                    "create pipe '%s': the name has a live server",
                    base->name.text);
  int code = npi_win_error(error);
  return npi_fail(code, (int) error, "create pipe '%s': %s (error %lu)",
                  base->name.text, npipe_strerror(code), error);
}

/* The name goes, as far as it is ours. */
static void server_release(npi_win_server* server) {
  for (unsigned i = 0; i < SERVER_SLOTS; i++) server_drop(&server->slots[i]);
  server->listeners = 0;
  if (server->security != NULL) LocalFree(server->security);
  server->security = NULL;
}

int npi_os_server_open(npipe_server* base) {
  npi_win_server* server = (npi_win_server*) base;
  if (!npi_win_path(server->path, &base->name))
    return npi_fail(UV_EINVAL, 0, "create pipe: the name cannot be converted");
  int err = npi_security_make(&base->options, &server->security);
  if (err == 0) err = server_claim(server);
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

static void server_on_closed(uv_handle_t* handle) {
  npi_win_server* server = handle->data;
  if (--server->handles == 0) npi_server_closed(&server->base);
}

/* Goes on as far as it can; called again at each wake. */
static void server_close_step(npi_win_server* server) {
  bool retired = true;
  for (unsigned i = 0; i < SERVER_SLOTS; i++)
    if (!npi_wait_retire(&server->slots[i].wait)) retired = false;
  if (!retired || uv_is_closing((uv_handle_t*) &server->wake)) return;
  uv_close((uv_handle_t*) &server->wake, server_on_closed);
}

void npi_os_server_close(npipe_server* base) {
  npi_win_server* server = (npi_win_server*) base;
  server_release(server);
  uv_close((uv_handle_t*) &server->retry, server_on_closed);
  server_close_step(server);
}
