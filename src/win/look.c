/*
 * Looking without touching: peek, and the state of the instance.
 *
 * A peek shows what the reader holds in front of what the system has. The
 * reader holds something only after a read was cancelled or a stream stopped:
 * (the rest of) one message, or some bytes.
 *
 * Like all that follows the pipe's type and not the read mode (PK1), a message
 * pipe shows one message at most.
 *
 * How many messages there are is FSCTL_PIPE_PEEK's answer. Wine 8 leaves it at
 * 0; then at least what can be concluded from the sizes is told.
 */
#include <string.h>

#include "win.h"

static int look_fail(npi_win_conn* conn, DWORD error) {
  int code = npi_win_read_error(error);
  if (code == UV_ECONNABORTED) npi_conn_lost(conn);
  return code;
}

/* One message, or more, if there are bytes. */
static size_t look_messages(npi_win_conn* conn, DWORD available, DWORD first) {
  npi_nt_unread unread;
  if (npi_nt_look(conn->handle, &unread) == 0 && unread.messages > 0)
    return unread.messages;
  if (available == 0) return 0;
  return available > first ? 2 : 1;
}

/* What the system has; size bytes of it are copied at most. */
static DWORD look_system(npi_win_conn* conn, void* data, size_t size,
                         npipe_peek_info* info) {
  DWORD copied = 0;
  DWORD available = 0;
  DWORD left = 0;
  DWORD room =
      size > NPIPE_MESSAGE_MAX_BYTES ? NPIPE_MESSAGE_MAX_BYTES : (DWORD) size;
  if (!PeekNamedPipe(conn->handle, data, room, &copied, &available, &left))
    return GetLastError();
  info->size = copied;
  info->available = available;
  if (conn->base.type != NPIPE_MESSAGE) return ERROR_SUCCESS;
  info->left = left;
  info->messages = look_messages(conn, available, copied + left);
  return ERROR_SUCCESS;
}

/* What the reader holds, in front of what the system has. */
static void look_held(const npi_reader* reader, void* data, size_t size,
                      bool messages, npipe_peek_info* info) {
  size_t held = reader->got < size ? reader->got : size;
  bool alone = messages && !reader->held_more;
  if (held > 0) memcpy(data, reader->data, held);
  info->size = held + (alone ? 0 : info->size);
  info->available += reader->got;
  if (!messages) return;
  info->left = reader->got - held + (alone ? 0 : info->left);
  if (alone) info->messages++;
}

int npi_os_peek(npipe_conn* base, void* data, size_t size,
                npipe_peek_info* info) {
  npi_win_conn* conn = (npi_win_conn*) base;
  const npi_reader* reader = &conn->reader;
  bool messages = base->type == NPIPE_MESSAGE;
  size_t held = reader->held ? reader->got : 0;
  bool behind = !reader->held || !messages || reader->held_more;
  char* rest = held < size ? (char*) data + held : NULL;
  *info = (npipe_peek_info){0};
  DWORD error = look_system(conn, behind ? rest : NULL,
                            behind && held < size ? size - held : 0, info);
  bool all = error == ERROR_BROKEN_PIPE && reader->held;
  if (error != ERROR_SUCCESS && !all) return look_fail(conn, error);
  if (reader->held) look_held(reader, data, size, messages, info);
  return 0;
}

npipe_state npi_os_state(npipe_conn* base) {
  const npi_win_conn* conn = (const npi_win_conn*) base;
  return npi_nt_state(conn->handle, base->is_server);
}
