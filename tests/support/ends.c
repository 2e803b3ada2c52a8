/*
 * Servers and connections that record: see ends.h. Reads and writes are in
 * tasks.c.
 *
 * Each record is the arg of its own callbacks. It is a thing of its world,
 * which closes it at the end of the test and then has it checked: exactly one
 * connect callback of a client, exactly one close callback, nothing after it.
 */
#include "ends.h"

#include <stdlib.h>
#include <string.h>

#include "pattern.h"

/* ------------------------------------------------------------ Servers */

static test_host* host_of(test_thing* thing) {
  return (test_host*) (void*) thing; /* its first member */
}

static void host_close_thing(test_thing* thing) {
  host_close(host_of(thing));
}

static int host_is_over(test_thing* thing) {
  return host_of(thing)->closes > 0;
}

static void host_check(test_thing* thing) {
  test_host* host = host_of(thing);
  if (host->closes != 1)
    world_violation(host->world, "a server has not closed exactly once");
}

static void host_destroy(test_thing* thing) {
  free(host_of(thing));
}

static void host_on_client(npipe_server* server, int status, void* arg) {
  test_host* host = arg;
  world_callback(host->world, "host", "connection", status, 0);
  if (host->closes || (host->server && host->server != server))
    world_violation(host->world, "connection callback of a dead server");
  if (status == 0) {
    host->arrivals++;
  } else {
    host->failures++;
    host->last_failure = status;
  }
  if (host->hook && status == 0 && !host->world->ending) host->hook(host);
}

static void host_on_close(npipe_server* server, void* arg) {
  test_host* host = arg;
  world_callback(host->world, "host", "close", 0, 0);
  if (host->server != server)
    world_violation(host->world, "close callback of another server");
  host->closes++;
  host->server = NULL;
}

int host_try(world* w, const char* name, const npipe_server_options* options,
             test_host** out) {
  test_host* host = must_alloc(sizeof *host);
  memset(host, 0, sizeof *host);
  host->world = w;
  host->thing.close = host_close_thing;
  host->thing.is_over = host_is_over;
  host->thing.check = host_check;
  host->thing.destroy = host_destroy;
  int rc = CALL(w, npipe_server_create(&w->loop, name, options, host_on_client,
                                       host, &host->server));
  if (rc != 0) {
    if (host->server) world_violation(w, "*server is not NULL after a failure");
    free(host);
    *out = NULL;
    return rc;
  }
  world_adopt(w, &host->thing);
  *out = host;
  return 0;
}

test_host* host_open(world* w, const npipe_server_options* options) {
  test_host* host;
  CHECK_STATUS(0, host_try(w, w->name, options, &host));
  return host;
}

test_host* host_open_type(world* w, npipe_type type) {
  npipe_server_options options = {.type = type};
  return host_open(w, &options);
}

void host_close(test_host* host) {
  if (host->closing) return;
  host->closing = 1;
  world_enter(host->world);
  npipe_server_close(host->server, host_on_close, host);
  world_leave(host->world, 0);
}

void host_shut(test_host* host) {
  host_close(host);
  RUN_UNTIL(host->world, host->closes > 0);
}

/* ------------------------------------------------------------ Connections */

static test_end* end_of(test_thing* thing) {
  return (test_end*) (void*) thing; /* its first member */
}

static void end_close_thing(test_thing* thing) {
  end_abort(end_of(thing));
}

static int end_is_over(test_thing* thing) {
  return end_of(thing)->closes > 0;
}

static void end_check(test_thing* thing) {
  test_end* end = end_of(thing);
  if (end->connects != 1)
    world_violation(end->world, "a connect callback came not exactly once");
  if (end->closes != 1)
    world_violation(end->world, "an end has not closed exactly once");
  if (end->connect_stamp > end->close_stamp)
    world_violation(end->world, "connect callback after the close callback");
}

static void end_destroy(test_thing* thing) {
  free(end_of(thing));
}

static test_end* end_new(world* w, const char* side) {
  test_end* end = must_alloc(sizeof *end);
  memset(end, 0, sizeof *end);
  end->world = w;
  end->side = side;
  end->thing.close = end_close_thing;
  end->thing.is_over = end_is_over;
  end->thing.check = end_check;
  end->thing.destroy = end_destroy;
  return end;
}

static void end_on_close(npipe_conn* conn, void* arg) {
  test_end* end = arg;
  end->close_stamp = world_callback(end->world, end->side, "close", 0, 0);
  if (end->conn != conn)
    world_violation(end->world, "close callback of another connection");
  end->closes++;
  end->conn = NULL;
}

void end_close(test_end* end) {
  if (end->closing) return;
  end->closing = 1;
  world_enter(end->world);
  npipe_close(end->conn, end_on_close, end);
  world_leave(end->world, 0);
}

void end_shut(test_end* end) {
  end_close(end);
  RUN_UNTIL(end->world, end->closes > 0);
}

void end_abort(test_end* end) {
  if (end->closes) return;
  end->closing = 1;
  world_enter(end->world);
  npipe_abort(end->conn, end_on_close, end);
  world_leave(end->world, 0);
}

void end_drop(test_end* end) {
  end_abort(end);
  RUN_UNTIL(end->world, end->closes > 0);
}

int end_disconnect(test_end* end) {
  return CALL(end->world, npipe_disconnect(end->conn));
}

test_end* host_take(test_host* host) {
  npipe_conn* conn = NULL;
  if (CALL(host->world, npipe_accept(host->server, &conn)) != 0) {
    if (conn) world_violation(host->world, "*conn is set after a failure");
    return NULL;
  }
  test_end* end = end_new(host->world, "server");
  end->conn = conn;
  end->connects = 1; /* born connected */
  host->taken++;
  world_adopt(host->world, &end->thing);
  return end;
}

test_end* host_accept(test_host* host) {
  RUN_UNTIL(host->world, host->arrivals > host->taken);
  test_end* end = host_take(host);
  CHECK(end != NULL);
  return end;
}

static void end_on_connect(npipe_conn* conn, int status, void* arg) {
  test_end* end = arg;
  end->connect_stamp =
      world_callback(end->world, end->side, "connect", status, 0);
  if (end->conn != conn)
    world_violation(end->world, "connect callback of another connection");
  end->connects++;
  end->connect_status = status;
  if (end->hook && !end->world->ending) end->hook(end);
}

int end_try(world* w, const char* name, int timeout_ms,
            const npipe_client_options* options, test_end** out) {
  test_end* end = end_new(w, "client");
  int rc = CALL(w, npipe_connect(&w->loop, name, timeout_ms, options,
                                 end_on_connect, end, &end->conn));
  if (rc != 0) {
    if (end->conn) world_violation(w, "*conn is not NULL after a failure");
    free(end);
    *out = NULL;
    return rc;
  }
  world_adopt(w, &end->thing);
  *out = end;
  return 0;
}

test_end* end_connect(world* w, const char* name, int timeout_ms,
                      const npipe_client_options* options) {
  test_end* end;
  CHECK_STATUS(0, end_try(w, name, timeout_ms, options, &end));
  return end;
}

int end_outcome(test_end* end) {
  RUN_UNTIL(end->world, end->connects > 0);
  return end->connect_status;
}

test_end* end_open(world* w, const npipe_client_options* options) {
  test_end* end = end_connect(w, w->name, CONNECT_MS, options);
  CHECK_STATUS(0, end_outcome(end));
  return end;
}

int connect_outcome(world* w, const char* name, int timeout_ms,
                    const npipe_client_options* options) {
  test_end* end = end_connect(w, name, timeout_ms, options);
  int status = end_outcome(end);
  end_shut(end);
  return status;
}

test_pair pair_open(world* w, const npipe_server_options* server,
                    const npipe_client_options* client) {
  test_pair pair;
  pair.host = host_open(w, server);
  pair.client = end_open(w, client);
  pair.server = host_accept(pair.host);
  return pair;
}

test_pair pair_of(world* w, npipe_type type) {
  npipe_server_options options = {.type = type};
  return pair_open(w, &options, NULL);
}

void pair_shut(test_pair* pair) {
  end_abort(pair->client);
  end_abort(pair->server);
  host_close(pair->host);
  end_drop(pair->client);
  end_drop(pair->server);
  host_shut(pair->host);
}

test_ends pair_ends(const test_pair* pair, int near_is_server) {
  test_ends ends = {pair->client, pair->server};
  if (near_is_server) ends = (test_ends){pair->server, pair->client};
  return ends;
}
