/*
 * The instances of a server: making the name live, joining a live one, adding
 * to it.
 *
 * The first instance is made with FILE_FLAG_FIRST_PIPE_INSTANCE (MP2). Wine 8
 * ignores that flag; there the number of instances tells, or, where an outbound
 * end may not ask for it (CR11), a look before.
 *
 * A shared name (MP1) carries a mark in its access list (security.c). To join
 * means to make an instance without a list of one's own, and to see by the mark
 * whether that was right; if not, it is closed again at once. That the name
 * went in the meantime, so that we became the first by accident, shows in the
 * same way: there is no mark. Then all is tried again.
 *
 * Whoever has joined keeps a copy of the list, for the case that all others
 * leave while it holds no instance and it has to make the name anew.
 *
 * The system counts what listens as well. So a pipe of one instance is made for
 * two, see server.c; but not a shared one, where the count of all servers
 * together has to be right.
 */
#include "server.h"

#define CLAIM_TRIES_MAX 4

static DWORD claim_open_mode(npipe_direction direction) {
  if (direction == NPIPE_INBOUND) return PIPE_ACCESS_INBOUND;
  if (direction == NPIPE_OUTBOUND) return PIPE_ACCESS_OUTBOUND;
  return PIPE_ACCESS_DUPLEX;
}

/* How many instances the system is to allow. */
static DWORD claim_max(const npipe_server_options* options) {
  if (options->max_instances >= NPIPE_INSTANCES_UNLIMITED)
    return PIPE_UNLIMITED_INSTANCES;
  bool spare = options->max_instances == 1 && options->shared == 0;
  return spare ? 2 : options->max_instances;
}

/* A new instance in a free slot, not yet watched. 0 or a Win32 error. */
static DWORD claim_make(npi_win_server* server, npi_server_slot* slot,
                        PSECURITY_DESCRIPTOR security, DWORD mode) {
  const npipe_server_options* options = &server->base.options;
  bool messages = options->type == NPIPE_MESSAGE;
  DWORD type = messages ? PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE
                        : PIPE_TYPE_BYTE | PIPE_READMODE_BYTE;
  SECURITY_ATTRIBUTES attributes = {.nLength = sizeof attributes,
                                    .lpSecurityDescriptor = security,
                                    .bInheritHandle = FALSE};
  if (npi_wait_open(&slot->wait, &server->wake) != 0)
    return ERROR_NOT_ENOUGH_MEMORY;
  HANDLE pipe = CreateNamedPipeW(server->path, mode | FILE_FLAG_OVERLAPPED,
                                 type | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
                                 claim_max(options), options->out_quota,
                                 options->in_quota, options->default_wait_ms,
                                 &attributes);
  if (pipe == INVALID_HANDLE_VALUE) return GetLastError();
  slot->pipe = pipe;
  slot->pending = slot->connected = false;
  return ERROR_SUCCESS;
}

void npi_server_drop(npi_server_slot* slot) {
  if (slot->pending) npi_wait_cancel(&slot->wait, slot->pipe);
  if (slot->pipe != NULL) CloseHandle(slot->pipe);
  slot->pipe = NULL;
  slot->pending = slot->connected = false;
}

/* ---- the first one */

/* Does the name exist? Only for Wine, see above. Takes 1 ms if all its
 * instances are busy. */
static bool claim_exists(const npi_win_server* server, npi_wait* wait) {
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

/* 0, a Win32 error, or ERROR_PIPE_BUSY if the name has a live server. */
static DWORD claim_first(npi_win_server* server, npi_server_slot* slot) {
  npipe_direction direction = server->base.options.direction;
  DWORD instances;
  npi_wait look = {0};
  bool taken = direction == NPIPE_OUTBOUND && claim_exists(server, &look);
  npi_wait_close(&look);
  if (taken) return ERROR_PIPE_BUSY;
  DWORD error =
      claim_make(server, slot, server->security,
                 claim_open_mode(direction) | FILE_FLAG_FIRST_PIPE_INSTANCE);
  if (error == ERROR_ACCESS_DENIED) return ERROR_PIPE_BUSY;
  if (error == 0 &&
      GetNamedPipeHandleStateW(slot->pipe, NULL, &instances, NULL, NULL, NULL,
                               0) &&
      instances > 1) {
    npi_server_drop(slot);
    return ERROR_PIPE_BUSY;
  }
  return error;
}

/* ---- joining */

/* The system did not let us: another direction, or a name that is not for us?
 * Only the mark tells, and only from an instance. */
static int claim_refused(npi_win_server* server, npi_server_slot* slot) {
  static const npipe_direction all[] = {NPIPE_DUPLEX, NPIPE_INBOUND,
                                        NPIPE_OUTBOUND};
  bool shared = false;
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    if (all[i] == server->base.options.direction ||
        claim_make(server, slot, NULL, claim_open_mode(all[i])) != 0)
      continue;
    shared = (npi_security_marks(slot->pipe, NULL) & NPI_MARK_SHARED) != 0;
    npi_server_drop(slot);
    break;
  }
  return shared ? UV_EACCES : UV_EADDRINUSE;
}

/* We have an instance of a shared name: what did its first server decide? */
static int claim_adapt(npi_win_server* server, const npi_server_slot* slot,
                       PSECURITY_DESCRIPTOR security) {
  npipe_server_options* options = &server->base.options;
  DWORD flags;
  DWORD instances;
  if (!GetNamedPipeInfo(slot->pipe, &flags, NULL, NULL, &instances)) {
    LocalFree(security);
    return npi_win_error(GetLastError());
  }
  bool messages = (flags & PIPE_TYPE_MESSAGE) != 0;
  if (messages != (options->type == NPIPE_MESSAGE)) {
    LocalFree(security);
    return UV_EINVAL;
  }
  bool unlimited = instances >= NPIPE_INSTANCES_UNLIMITED;
  options->max_instances = unlimited ? NPIPE_INSTANCES_UNLIMITED : instances;
  if (server->security != NULL) LocalFree(server->security);
  server->security = security;
  server->joined = true;
  return 0;
}

/* 0, UV_E*; UV_EAGAIN: there is nothing to join, or it is not shared. */
static int claim_join(npi_win_server* server, npi_server_slot* slot) {
  PSECURITY_DESCRIPTOR security = NULL;
  DWORD mode = claim_open_mode(server->base.options.direction);
  DWORD error = claim_make(server, slot, NULL, mode);
  if (error == ERROR_PIPE_BUSY) return UV_EBUSY;
  if (error == ERROR_ACCESS_DENIED) return claim_refused(server, slot);
  if (error != 0) return npi_win_error(error);
  bool shared =
      (npi_security_marks(slot->pipe, &security) & NPI_MARK_SHARED) != 0;
  /* Anybody can put the mark on a name; its access list would be ours. */
  bool ours = npi_identity_check_server(slot->pipe, "") == 0;
  int err = shared ? UV_EADDRINUSE : UV_EAGAIN;
  if (shared && ours)
    err = claim_adapt(server, slot, security);
  else if (security != NULL)
    LocalFree(security);
  if (err != 0) npi_server_drop(slot);
  return err;
}

static int claim_fail(const npi_win_server* server, int code, DWORD error) {
  const char* why = npipe_strerror(code);
  if (code == UV_EADDRINUSE)
    why = "the name has a live server that does not share it";
  else if (code == UV_EACCES)
    why = "the name is shared, with another direction (CR4)";
  else if (code == UV_EINVAL)
    why = "the name is shared, with another type (CR5)";
  return npi_fail(code, (int) error, "create pipe '%s': %s",
                  server->base.name.text, why);
}

/* The first instance of ours, in this slot. */
static int claim_slot(npi_win_server* server, npi_server_slot* slot) {
  for (int i = 0; i < CLAIM_TRIES_MAX; i++) {
    DWORD error = claim_first(server, slot);
    if (error == 0) return 0;
    if (error != ERROR_PIPE_BUSY) {
      int code = npi_win_error(error);
      return npi_fail(code, (int) error, "create pipe '%s': %s (error %lu)",
                      server->base.name.text, npipe_strerror(code), error);
    }
    if (server->base.options.shared == 0) break;
    int err = claim_join(server, slot);
    if (err == 0) return 0;
    if (err != UV_EAGAIN) return claim_fail(server, err, 0);
  }
  return claim_fail(server, UV_EADDRINUSE, ERROR_ACCESS_DENIED);
}

int npi_server_claim(npi_win_server* server) {
  return claim_slot(server, &server->slots[0]);
}

DWORD npi_server_add(npi_win_server* server, npi_server_slot* slot) {
  const npipe_server* base = &server->base;
  bool holds = server->listeners > 0 || base->instances > 0;
  if (base->options.shared != 0 && !holds)
    return claim_slot(server, slot) == 0 ? ERROR_SUCCESS : ERROR_PIPE_BUSY;
  return claim_make(server, slot, server->joined ? NULL : server->security,
                    claim_open_mode(base->options.direction));
}
