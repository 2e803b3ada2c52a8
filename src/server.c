/*
 * A server: options checked, clients counted and handed out.
 *
 * The backend makes the name live and brings connected clients
 * (npi_server_connected); here they wait, in their order, for npipe_accept().
 * Each of them holds an instance until its connection is closed.
 *
 * A server that the program has closed lives on, unseen, until the last of its
 * connections gives its instance back: the name belongs to the instances (OP7).
 */
#include <string.h>

#include "backend.h"

static uint32_t server_quota(uint32_t quota) {
  if (quota == NPIPE_QUOTA_ZERO) return 0;
  return quota == 0 ? NPIPE_QUOTA_DEFAULT_BYTES : quota;
}

static bool server_quota_valid(uint32_t quota) {
  return quota == NPIPE_QUOTA_ZERO || quota <= NPIPE_QUOTA_MAX_BYTES;
}

static bool server_enums_valid(const npipe_server_options* o) {
  return (unsigned) o->type <= NPIPE_MESSAGE &&
         (unsigned) o->direction <= NPIPE_OUTBOUND &&
         (unsigned) o->read_mode <= NPIPE_READ_MESSAGES &&
         (unsigned) o->allow <= NPIPE_ALLOW_EVERYONE &&
         (unsigned) o->scope <= NPIPE_SCOPE_MACHINE;
}

static int server_check_options(const npipe_server_options* o) {
  static const npipe_server_options zero;
  if (!server_enums_valid(o))
    return npi_fail(UV_EINVAL, 0, "create pipe: an option is out of range");
  if (o->type == NPIPE_BYTE && o->read_mode == NPIPE_READ_MESSAGES)
    return npi_fail(UV_EINVAL, 0,
                    "create pipe: a byte pipe has no messages to read (CR1)");
  if (o->max_instances > NPIPE_INSTANCES_UNLIMITED)
    return npi_fail(UV_EINVAL, 0,
                    "create pipe: max_instances is %u, the most is 255 (CR2)",
                    o->max_instances);
  if (!server_quota_valid(o->in_quota) || !server_quota_valid(o->out_quota))
    return npi_fail(UV_EINVAL, 0, "create pipe: a quota is above 1 GiB");
  if (o->message_max_bytes > NPIPE_MESSAGE_MAX_BYTES)
    return npi_fail(UV_EINVAL, 0, "create pipe: message limit above 1 GiB");
  if (o->plain_path != NULL && o->type != NPIPE_BYTE)
    return npi_fail(UV_EINVAL, 0,
                    "create pipe: only a byte pipe can be a plain one");
  if (o->shared != 0 && o->plain_path != NULL)
    return npi_fail(UV_EINVAL, 0, "create pipe: a plain one cannot be shared");
  if (o->unix_mode > 0777)
    return npi_fail(UV_EINVAL, 0, "create pipe: unix_mode is above 0777");
  if (memcmp(o->reserved, zero.reserved, sizeof o->reserved) != 0)
    return npi_fail(UV_EINVAL, 0, "create pipe: reserved options must be 0");
  return 0;
}

/* Puts the value that counts in the place of each "default". */
static void server_fill_options(npipe_server_options* o) {
  if (o->read_mode == NPIPE_READ_AS_TYPE)
    o->read_mode =
        o->type == NPIPE_MESSAGE ? NPIPE_READ_MESSAGES : NPIPE_READ_BYTES;
  if (o->scope == NPIPE_SCOPE_DEFAULT) o->scope = NPIPE_SCOPE_USER;
  if (o->max_instances == 0) o->max_instances = NPIPE_INSTANCES_UNLIMITED;
  if (o->backlog == 0) o->backlog = NPIPE_BACKLOG_DEFAULT;
  if (o->default_wait_ms == 0) o->default_wait_ms = NPIPE_DEFAULT_WAIT_MS;
  if (o->message_max_bytes == 0)
    o->message_max_bytes = NPIPE_MESSAGE_DEFAULT_BYTES;
  o->in_quota = server_quota(o->in_quota);
  o->out_quota = server_quota(o->out_quota);
}

static void server_free(npipe_server* server) {
  npi_free((void*) (uintptr_t) server->options.plain_path);
  npi_free((void*) (uintptr_t) server->options.windows_sddl);
  npi_free(server);
}

/* Replaces a string of the program's by a copy; false without memory. */
static bool server_copy(const char** text) {
  if (*text == NULL) return true;
  size_t bytes = strlen(*text) + 1;
  char* copy = npi_malloc(bytes);
  if (copy != NULL) memcpy(copy, *text, bytes);
  *text = copy;
  return copy != NULL;
}

static npipe_server* server_new(const npipe_server_options* options) {
  npipe_server* server = npi_calloc(1, npi_os_server_size);
  if (server == NULL) return NULL;
  server->options = *options;
  bool path = server_copy(&server->options.plain_path);
  bool sddl = server_copy(&server->options.windows_sddl);
  if (path && sddl) return server;
  server_free(server);
  return NULL;
}

int npipe_server_create(uv_loop_t* loop, const char* text,
                        const npipe_server_options* options,
                        npipe_connection_cb cb, void* arg, npipe_server** out) {
  static const npipe_server_options defaults;
  npi_name name;
  if (out != NULL) *out = NULL;
  if (loop == NULL || cb == NULL || out == NULL)
    return npi_fail(UV_EINVAL, 0, "create pipe: loop, cb or server is NULL");
  if (options == NULL) options = &defaults;
  int err = npi_name_parse(&name, text);
  if (err == 0) err = server_check_options(options);
  if (err != 0) return err;
  npipe_server* server = server_new(options);
  if (server == NULL) return npi_fail(UV_ENOMEM, 0, "create pipe: no memory");
  server_fill_options(&server->options);
  server->loop = loop;
  server->name = name;
  server->connection_cb = cb;
  server->connection_arg = arg;
  err = npi_os_server_open(server);
  if (err != 0) {
    server_free(server);
    return err;
  }
  server->state = NPI_SERVER_LISTENING;
  *out = server;
  return 0;
}

bool npi_server_has_room(const npipe_server* server) {
  const npipe_server_options* o = &server->options;
  bool unlimited = o->max_instances == NPIPE_INSTANCES_UNLIMITED;
  return server->state != NPI_SERVER_CLOSING && server->waiting < o->backlog &&
         (unlimited || server->instances < o->max_instances);
}

static void list_push(npi_conn_list* list, npipe_conn* conn) {
  conn->next = NULL;
  conn->prev = list->tail;
  if (list->tail != NULL)
    list->tail->next = conn;
  else
    list->head = conn;
  list->tail = conn;
}

static void list_remove(npi_conn_list* list, npipe_conn* conn) {
  if (conn->prev != NULL)
    conn->prev->next = conn->next;
  else
    list->head = conn->next;
  if (conn->next != NULL)
    conn->next->prev = conn->prev;
  else
    list->tail = conn->prev;
  conn->next = conn->prev = NULL;
}

void npi_server_connected(npipe_server* server, npipe_conn* conn) {
  conn->server = server;
  conn->is_server = true;
  conn->direction = server->options.direction;
  conn->in_quota = server->options.in_quota;
  conn->out_quota = server->options.out_quota;
  conn->max_instances = server->options.max_instances;
  conn->state = NPI_CONN_OPEN;
  list_push(&server->arrived, conn);
  server->instances++;
  server->waiting++;
  server->connection_cb(server, 0, server->connection_arg);
}

void npi_server_trouble(npipe_server* server, int status) {
  if (server->state == NPI_SERVER_LISTENING)
    server->connection_cb(server, status, server->connection_arg);
}

int npipe_accept(npipe_server* server, npipe_conn** out) {
  if (server == NULL || out == NULL)
    return npi_fail(UV_EINVAL, 0, "accept: server or conn is NULL");
  npipe_conn* conn = server->arrived.head;
  *out = NULL;
  if (conn == NULL) return UV_EAGAIN;
  list_remove(&server->arrived, conn);
  conn->accepted = true;
  server->waiting--;
  npi_os_server_room(server);
  *out = conn;
  return 0;
}

int npipe_reject(npipe_server* server) {
  if (server == NULL) return npi_fail(UV_EINVAL, 0, "reject: server is NULL");
  npipe_conn* conn = server->arrived.head;
  if (conn == NULL) return UV_EAGAIN;
  (void) npi_os_disconnect(conn); /* a plain one is only closed */
  npi_conn_discard(conn);
  return 0;
}

/* The last end has gone, and the program has closed the server. */
static void server_end(npipe_server* server) {
  if (server->ending || server->instances > 0) return;
  server->ending = true;
  npi_os_server_end(server);
}

void npi_server_release(npipe_conn* conn) {
  npipe_server* server = conn->server;
  if (server == NULL) return;
  if (!conn->accepted) {
    list_remove(&server->arrived, conn);
    server->waiting--;
  }
  conn->server = NULL;
  server->instances--;
  if (server->state == NPI_SERVER_LISTENING)
    npi_os_server_room(server);
  else
    server_end(server);
}

void npipe_server_close(npipe_server* server, npipe_server_close_cb cb,
                        void* arg) {
  if (server == NULL || server->state == NPI_SERVER_CLOSING) return;
  server->state = NPI_SERVER_CLOSING;
  server->close_cb = cb;
  server->close_arg = arg;
  server->instances++; /* not to end before it has begun to close */
  npi_os_server_close(server);
  while (server->arrived.head != NULL) npi_conn_discard(server->arrived.head);
  server->instances--;
  server_end(server);
}

void npi_server_closed(npipe_server* server) {
  npipe_server_close_cb cb = server->close_cb;
  if (cb != NULL) cb(server, server->close_arg);
}

void npi_server_ended(npipe_server* server) {
  server_free(server);
}
