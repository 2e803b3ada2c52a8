/*
 * A story in words. The same words on every system, because their hash is
 * compared: nothing of the system, of the time or of addresses goes in here,
 * and what may differ (see model_chance.c) is told as the model knows it.
 */
#include "model_tell.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define TELL_LINE_BYTES 256
#define TELL_FIRST_BYTES 4096u

#if defined(__GNUC__) && !defined(__MINGW32__) /* whose printf is not %zu's */
#define TELL_PRINTF __attribute__((format(printf, 2, 3)))
#else
#define TELL_PRINTF
#endif

static void tell_words(tell_text* to, const char* format, ...) TELL_PRINTF;

static void tell_words(tell_text* to, const char* format, ...) {
  if (to->room - to->size < TELL_LINE_BYTES) {
    to->room = to->room == 0 ? TELL_FIRST_BYTES : 2 * to->room;
    to->text = must_realloc(to->text, to->room);
  }
  va_list args;
  va_start(args, format);
  int n = vsnprintf(to->text + to->size, TELL_LINE_BYTES, format, args);
  va_end(args);
  if (n < 0 || n >= TELL_LINE_BYTES) abort(); /* our own words */
  to->size += (size_t) n;
}

const char* tell_side(model_side side) {
  return side == MODEL_SERVER ? "server" : "client";
}

static const char* mode_word(npipe_read_mode mode) {
  switch (mode) {
    case NPIPE_READ_BYTES: return "bytes";
    case NPIPE_READ_MESSAGES: return "messages";
    default: return "as type";
  }
}

void tell_line(tell_text* to, const char* before, const char* line) {
  tell_words(to, "%s%s\n", before, line);
}

void tell_pipe(tell_text* to, const model_pipe* pipe) {
  static const char* const directions[] = {"duplex", "inbound", "outbound"};
  tell_words(to, "%s pipe, %s, quotas %zu in, %zu out, messages to %zu\n",
             pipe->type == NPIPE_BYTE ? "byte" : "message",
             directions[pipe->direction], pipe->quota[MODEL_CLIENT],
             pipe->quota[MODEL_SERVER], pipe->message_max);
  tell_words(to, "server reads %s, client reads %s\n",
             mode_word(pipe->mode[MODEL_SERVER]),
             mode_word(pipe->mode[MODEL_CLIENT]));
}

static const char* verb_word(model_verb verb) {
  static const char* const words[MODEL_VERBS] = {
      [MODEL_READ] = "read",
      [MODEL_WRITE] = "write",
      [MODEL_TRY_WRITE] = "try write",
      [MODEL_PEEK] = "peek",
      [MODEL_TRANSACT] = "transact",
      [MODEL_FLUSH] = "flush",
      [MODEL_SET_MODE] = "set read mode",
      [MODEL_CANCEL] = "cancel",
      [MODEL_CANCEL_READS] = "cancel all reads",
      [MODEL_INFO] = "info",
      [MODEL_LISTEN] = "listen",
      [MODEL_DISCONNECT] = "disconnect",
      [MODEL_CONNECT] = "connect",
      [MODEL_KNOCK] = "connect of a stranger",
      [MODEL_CLOSE] = "close",
      [MODEL_CLOSE_NOW] = "close, linger 0",
      [MODEL_ABORT] = "abort"};
  return words[verb];
}

static void tell_arguments(tell_text* to, const model_step* step) {
  switch (step->verb) {
    case MODEL_READ:
      tell_words(to, " #%u, room %zu", step->op, step->size);
      break;
    case MODEL_WRITE:
      tell_words(to, " #%u, %zu bytes", step->op, step->size);
      break;
    case MODEL_TRY_WRITE: tell_words(to, ", %zu bytes", step->size); break;
    case MODEL_PEEK: tell_words(to, ", room %zu", step->size); break;
    case MODEL_TRANSACT:
      tell_words(to, " #%u, %zu bytes, room %zu", step->op, step->request,
                 step->size);
      break;
    case MODEL_FLUSH:
    case MODEL_LISTEN:
    case MODEL_CANCEL: tell_words(to, " #%u", step->op); break;
    case MODEL_SET_MODE: tell_words(to, " %s", mode_word(step->mode)); break;
    case MODEL_CONNECT:
      tell_words(to, " #%u, reads %s", step->op, mode_word(step->mode));
      break;
    default: break;
  }
}

static void tell_peek(tell_text* to, const model_answer* answer) {
  const npipe_peek_info* peek = &answer->peek;
  tell_words(to, ", %zu copied, %zu ", peek->size, peek->available);
  if (!answer->exact) tell_words(to, "to %zu ", answer->most);
  tell_words(to, "there, %zu left of %zu, %08lx", peek->left, peek->messages,
             (unsigned long) answer->digest);
}

static void tell_info(tell_text* to, const model_answer* answer) {
  static const char* const states[] = {"none", "disconnected", "listening",
                                       "connected", "closing"};
  tell_words(to, ", %s, reads %s", states[answer->state],
             mode_word(answer->mode));
}

void tell_step(tell_text* to, unsigned number, const model_step* step,
               const model_answer* answer) {
  tell_words(to, "%3u %s %s", number, tell_side(step->side),
             verb_word(step->verb));
  tell_arguments(to, step);
  tell_words(to, ": %s", status_name(answer->status));
  if (answer->status == 0 && step->verb == MODEL_PEEK) tell_peek(to, answer);
  if (answer->status == 0 && step->verb == MODEL_INFO) tell_info(to, answer);
  tell_words(to, "\n");
}

void tell_event(tell_text* to, const char* before, const model_event* event) {
  static const char* const words[] = {"read",   "write",   "flush",
                                      "listen", "connect", "close"};
  tell_words(to, "%s%s %s", before, tell_side(event->side), words[event->what]);
  if (event->op != 0) tell_words(to, " #%u", event->op);
  tell_words(to, ": %s", status_name(event->status));
  if (event->what == MODEL_DID_READ && event->status == 0)
    tell_words(to, ", %zu bytes%s, %08lx", event->size,
               event->flags & NPIPE_MORE ? " and more" : "",
               (unsigned long) event->digest);
  tell_words(to, "\n");
}
