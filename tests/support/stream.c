/*
 * A stream that records: see stream.h. The pieces are appended to one buffer;
 * a piece without NPIPE_MORE completes a message. On a byte stream each piece
 * counts as a message, which is of no interest there.
 *
 * A stream has no handle of its own: it is over when its end is.
 */
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pattern.h"

static test_stream* stream_of(test_thing* thing) {
  return (test_stream*) (void*) thing; /* its first member */
}

static void stream_close(test_thing* thing) {
  end_abort(stream_of(thing)->end);
}

static int stream_is_over(test_thing* thing) {
  return stream_of(thing)->end->closes > 0;
}

static void stream_check(test_thing* thing) {
  (void) thing; /* all was checked on arrival */
}

static void stream_destroy(test_thing* thing) {
  test_stream* stream = stream_of(thing);
  free(stream->bytes);
  free(stream->messages);
  free(stream);
}

static void stream_append(test_stream* stream, const void* data, size_t size) {
  if (stream->size + size > stream->room) {
    stream->room = (stream->size + size) * 2;
    stream->bytes = must_realloc(stream->bytes, stream->room);
  }
  if (size) memcpy(stream->bytes + stream->size, data, size);
  stream->size += size;
}

static test_message* stream_current(test_stream* stream) {
  if (stream->count >= stream->messages_room) {
    stream->messages_room = stream->messages_room * 2 + 16;
    stream->messages = must_realloc(
        stream->messages, stream->messages_room * sizeof(test_message));
  }
  return &stream->messages[stream->count];
}

static void stream_piece(test_stream* stream, const void* data, size_t size,
                         unsigned flags) {
  test_message* message = stream_current(stream);
  if ((stream->last_flags & NPIPE_MORE) == 0) {
    message->start = stream->size;
    message->size = 0;
    message->pieces = 0;
  }
  stream_append(stream, data, size);
  message->size += size;
  message->pieces++;
  stream->pieces++;
  stream->last_flags = flags;
  if ((flags & NPIPE_MORE) == 0) stream->count++;
}

static void stream_on_piece(npipe_conn* conn, int status, const void* data,
                            size_t size, unsigned flags, void* arg) {
  test_stream* stream = arg;
  world* w = stream->world;
  world_callback(w, stream->end->side, "stream", status, size);
  if (conn != stream->end->conn || stream->end->closes)
    world_violation(w, "stream callback of a dead connection");
  if (stream->ends) world_violation(w, "stream callback after the end");
  if (status > 0 || (status < 0 && (data || size || flags)) ||
      (size && !data) || (flags & ~NPIPE_MORE))
    world_violation(w, "a stream callback makes no sense");
  if (status == 0) {
    stream_piece(stream, data, size, flags);
  } else {
    stream->ends++;
    stream->end_status = status;
  }
  if (stream->hook && !w->ending) stream->hook(stream);
}

test_stream* stream_try(test_end* end, size_t whole_max, int* status) {
  test_stream* stream = must_alloc(sizeof *stream);
  memset(stream, 0, sizeof *stream);
  stream->world = end->world;
  stream->end = end;
  stream->whole_max = whole_max;
  stream->thing.close = stream_close;
  stream->thing.is_over = stream_is_over;
  stream->thing.check = stream_check;
  stream->thing.destroy = stream_destroy;
  *status = stream_resume(stream);
  if (*status != 0) {
    stream_destroy(&stream->thing);
    return NULL;
  }
  world_adopt(end->world, &stream->thing);
  return stream;
}

test_stream* stream_begin(test_end* end, size_t whole_max) {
  int status;
  test_stream* stream = stream_try(end, whole_max, &status);
  if (stream) return stream;
  fprintf(stderr, "npipe_read_start failed: %s\n", status_name(status));
  abort();
}

int stream_resume(test_stream* stream) {
  stream->ends = 0;
  return CALL(stream->world,
              npipe_read_start(stream->end->conn, stream->whole_max,
                               stream_on_piece, stream));
}

void stream_stop(test_stream* stream) {
  world_enter(stream->world);
  npipe_read_stop(stream->end->conn);
  world_leave(stream->world, 0);
}

int stream_has_pattern(const test_stream* stream, size_t index, size_t size,
                       uint32_t seed) {
  if (index >= stream->count) return 0;
  const test_message* message = &stream->messages[index];
  if (message->size != size) {
    fprintf(stderr, "message %zu has %zu bytes, not %zu\n", index,
            message->size, size);
    return 0;
  }
  return pattern_holds(stream->bytes + message->start, size, seed, 0);
}

int stream_has_text(const test_stream* stream, size_t index, const char* text) {
  if (index >= stream->count) return 0;
  const test_message* message = &stream->messages[index];
  size_t size = strlen(text);
  return message->size == size &&
         (size == 0 || memcmp(stream->bytes + message->start, text, size) == 0);
}
