/* Looking at an end: peek, info, peer. None of it waits. */
#ifndef TESTS_SUPPORT_LOOK_H
#define TESTS_SUPPORT_LOOK_H

#include "ends.h"

/* npipe_peek(); checks that nothing is touched on failure or behind what it
 * reports. At most PEEK_ROOM bytes. */
#define PEEK_ROOM 256u
int peek_try(test_end* end, char text[PEEK_ROOM], size_t room,
             npipe_peek_info* info);

/* Peeks with so much room: exactly this has to be seen. */
#define EXPECT_PEEK(end, room, text, available, left, messages) \
  expect_peek((end), (room), (text), (available), (left), (messages), \
              __FILE__, __LINE__)
void expect_peek(test_end* end, size_t room, const char* text, size_t available,
                 size_t left, size_t messages, const char* file, int line);

/* Only the status; no room, nothing copied. */
int peek_status(test_end* end);
/* What a peek says can be read; 0 if it fails. */
size_t peek_available(test_end* end);

/* npipe_get_info(): the status, the state (0 if it fails), all of it (has to
 * succeed). */
int info_status(test_end* end);
int end_state(test_end* end);
npipe_info end_info(test_end* end);

/* npipe_get_peer() */
int peer_try(test_end* end, unsigned want, npipe_peer* peer);

#endif /* TESTS_SUPPORT_LOOK_H */
