/* Bytes that can be told apart by their place, and reproducible chance. */
#ifndef TESTS_SUPPORT_PATTERN_H
#define TESTS_SUPPORT_PATTERN_H

#include <stddef.h>
#include <stdint.h>

/* Fills size bytes with the pattern of this seed from its start. */
void pattern_fill(void* data, size_t size, uint32_t seed);

/* As pattern_fill(), but the pattern from its byte number start on. */
void pattern_fill_from(void* data, size_t size, uint32_t seed, size_t start);

/* Do size bytes hold the pattern of this seed from its byte number start on?
 */
int pattern_holds(const void* data, size_t size, uint32_t seed, size_t start);

/* malloc() that never fails, because a test cannot go on without. */
void* must_alloc(size_t size);
void* must_realloc(void* old, size_t size);

typedef struct test_chance {
  uint32_t state;
} test_chance;

test_chance chance_seeded(uint32_t seed);
uint32_t chance_next(test_chance* chance);
/* 0 to limit - 1 */
uint32_t chance_below(test_chance* chance, uint32_t limit);

#endif /* TESTS_SUPPORT_PATTERN_H */
