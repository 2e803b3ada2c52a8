/*
 * Peek, info and peer with the checks that belong to every use of them: what
 * npipe.h says is set on success only stays untouched on failure, and a buffer
 * is untouched behind what was copied to it.
 */
#include "look.h"

#include <string.h>

#define UNTOUCHED 0x5A

static int all_are(const void* data, size_t size, int byte) {
  const unsigned char* at = data;
  for (size_t i = 0; i < size; i++)
    if (at[i] != byte) return 0;
  return 1;
}

int peek_try(test_end* end, char text[PEEK_ROOM], size_t room,
             npipe_peek_info* info) {
  memset(info, UNTOUCHED, sizeof *info);
  memset(text, UNTOUCHED, PEEK_ROOM);
  int rc =
      CALL(end->world, npipe_peek(end->conn, room ? text : NULL, room, info));
  if (rc != 0) {
    if (!all_are(info, sizeof *info, UNTOUCHED) ||
        !all_are(text, PEEK_ROOM, UNTOUCHED))
      world_violation(end->world, "a peek that failed has set something");
    return rc;
  }
  if (info->size > room ||
      !all_are(text + info->size, PEEK_ROOM - info->size, UNTOUCHED))
    world_violation(end->world, "a peek wrote behind what it reported");
  return 0;
}

void expect_peek(test_end* end, size_t room, const char* text, size_t available,
                 size_t left, size_t messages, const char* file, int line) {
  char seen[PEEK_ROOM];
  npipe_peek_info info;
  check_status(0, peek_try(end, seen, room, &info), "npipe_peek", file, line);
  size_t size = strlen(text);
  check_size(size, info.size, "bytes peeked", file, line);
  check_true(size == 0 || memcmp(seen, text, size) == 0, "the bytes peeked",
             file, line);
  check_size(available, info.available, "bytes available", file, line);
  check_size(left, info.left, "bytes left of the message", file, line);
  check_size(messages, info.messages, "messages", file, line);
}

int peek_status(test_end* end) {
  char seen[PEEK_ROOM];
  npipe_peek_info info;
  return peek_try(end, seen, 0, &info);
}

size_t peek_available(test_end* end) {
  char seen[PEEK_ROOM];
  npipe_peek_info info;
  return peek_try(end, seen, 0, &info) == 0 ? info.available : 0;
}

static int info_try(test_end* end, npipe_info* info) {
  memset(info, UNTOUCHED, sizeof *info);
  int rc = CALL(end->world, npipe_get_info(end->conn, info));
  if (rc != 0 && !all_are(info, sizeof *info, UNTOUCHED))
    world_violation(end->world, "npipe_get_info() failed and set something");
  return rc;
}

int info_status(test_end* end) {
  npipe_info info;
  return info_try(end, &info);
}

int end_state(test_end* end) {
  npipe_info info;
  return info_try(end, &info) == 0 ? (int) info.state : 0;
}

npipe_info end_info(test_end* end) {
  npipe_info info;
  CHECK_STATUS(0, info_try(end, &info));
  return info;
}

int peer_try(test_end* end, unsigned want, npipe_peer* peer) {
  return CALL(end->world, npipe_get_peer(end->conn, want, peer));
}
