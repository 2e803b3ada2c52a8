/*
 * Conversations acted out on the library and compared with the model, step by
 * step: what each call returns, which callbacks come and with what, and that
 * no other comes.
 *
 * What happens is written down as a story, a line for each call and each
 * callback, as the model tells it. The hash of a story is the same on every
 * system; so is the total of many.
 */
#ifndef TESTS_SUPPORT_MODEL_PLAY_H
#define TESTS_SUPPORT_MODEL_PLAY_H

#include "model.h"
#include "world.h"

#define PLAY_HASH_START 14695981039346656037u

typedef struct play_result {
  bool failed;
  unsigned steps;
  uint64_t hash;
  char* story; /* to be freed; of a failure it ends with what was wrong */
} play_result;

/* The conversation of this number out of those of the seed. On return all that
 * it has opened is closed. */
play_result play_conversation(world* w, uint32_t seed, unsigned number,
                              model_taste taste);

/* Adds a number to a hash. */
uint64_t play_hash(uint64_t hash, uint64_t number);

#endif /* TESTS_SUPPORT_MODEL_PLAY_H */
