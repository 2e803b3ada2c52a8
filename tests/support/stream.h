/* A stream of messages or bytes that records what it was shown. */
#ifndef TESTS_SUPPORT_STREAM_H
#define TESTS_SUPPORT_STREAM_H

#include "ends.h"

typedef struct test_message {
  size_t start; /* in the bytes of its stream */
  size_t size;
  unsigned pieces;
} test_message;

typedef struct test_stream {
  test_thing thing;
  world* world;
  test_end* end;
  size_t whole_max;
  unsigned char* bytes; /* all pieces, one after the other */
  size_t size;
  size_t room;
  unsigned pieces;
  test_message*
      messages; /* the complete ones, and behind them one in the making */
  size_t count; /* of the complete ones */
  size_t messages_room;
  unsigned ends; /* 0 or 1 */
  int end_status;
  unsigned last_flags;
  void (*hook)(struct test_stream* stream); /* on each piece, and at the end */
  void* user;
} test_stream;

/* Starts; NULL, and *status set, if the call itself failed. */
test_stream* stream_try(test_end* end, size_t whole_max, int* status);
/* Starts; has to succeed, aborts the program if not. */
test_stream* stream_begin(test_end* end, size_t whole_max);
/* Starts: goes on with a stream after npipe_read_stop() or its end. */
int stream_resume(test_stream* stream);
void stream_stop(test_stream* stream);

/* Is the message number index complete, and the pattern of this size and seed?
 */
int stream_has_pattern(const test_stream* stream, size_t index, size_t size,
                       uint32_t seed);
int stream_has_text(const test_stream* stream, size_t index, const char* text);

#endif /* TESTS_SUPPORT_STREAM_H */
