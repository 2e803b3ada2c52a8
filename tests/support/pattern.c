/*
 * The pattern: each byte depends on the seed and on every digit of its offset
 * in base 256, so that a piece that is lost, doubled, or shifted by any
 * distance below 16 MiB shows, and so that no two seeds below 256 agree.
 *
 * Chance is a xorshift generator: the same everywhere, and a seed that is
 * printed repeats a run.
 */
#include "pattern.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned char pattern_byte(uint32_t seed, size_t i) {
  uint32_t n = (uint32_t) i;
  return (unsigned char) (seed * 101u + n * 31u + (n >> 8) * 17u +
                          (n >> 16) * 7u + (seed >> 8));
}

void pattern_fill_from(void* data, size_t size, uint32_t seed, size_t start) {
  unsigned char* bytes = data;
  for (size_t i = 0; i < size; i++) bytes[i] = pattern_byte(seed, start + i);
}

void pattern_fill(void* data, size_t size, uint32_t seed) {
  pattern_fill_from(data, size, seed, 0);
}

int pattern_holds(const void* data, size_t size, uint32_t seed, size_t start) {
  const unsigned char* bytes = data;
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] == pattern_byte(seed, start + i)) continue;
    fprintf(stderr, "byte %zu of the pattern is %u, not %u\n", start + i,
            (unsigned) bytes[i], (unsigned) pattern_byte(seed, start + i));
    return 0;
  }
  return 1;
}

void* must_alloc(size_t size) {
  return must_realloc(NULL, size);
}

void* must_realloc(void* old, size_t size) {
  void* data = realloc(old, size ? size : 1);
  if (data) return data;
  fprintf(stderr, "out of memory: %zu bytes\n", size);
  abort();
}

test_chance chance_seeded(uint32_t seed) {
  return (test_chance){.state = seed ? seed : 1};
}

uint32_t chance_next(test_chance* chance) {
  uint32_t x = chance->state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  chance->state = x;
  return x;
}

uint32_t chance_below(test_chance* chance, uint32_t limit) {
  return chance_next(chance) % limit;
}
