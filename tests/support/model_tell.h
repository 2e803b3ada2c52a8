/* The words of a story: pipes, steps, answers and events as lines of text. */
#ifndef TESTS_SUPPORT_MODEL_TELL_H
#define TESTS_SUPPORT_MODEL_TELL_H

#include "model.h"

typedef struct tell_text {
  char* text; /* ends with a NUL; NULL: empty */
  size_t size;
  size_t room;
} tell_text;

void tell_pipe(tell_text* to, const model_pipe* pipe);
/* What was called and what came of it, without the callbacks. */
void tell_step(tell_text* to, unsigned number, const model_step* step,
               const model_answer* answer);
void tell_event(tell_text* to, const char* before, const model_event* event);
void tell_line(tell_text* to, const char* before, const char* line);

const char* tell_side(model_side side);

#endif /* TESTS_SUPPORT_MODEL_TELL_H */
