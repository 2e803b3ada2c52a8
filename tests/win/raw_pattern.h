/*
 * What the messages hold that the raw programs and their test exchange. Every
 * size has other bytes, so a message that is cut, joined to the next or put in
 * another's place shows.
 */
#ifndef RAW_PATTERN_H
#define RAW_PATTERN_H

#include <stddef.h>

/* Byte i of the message of this size. */
static inline unsigned char raw_byte(size_t i, size_t size) {
  return (unsigned char) (i * 31 + (i >> 8) * 7 + size * 13 + (size >> 8) + 5);
}

static inline void raw_fill(unsigned char* data, size_t size) {
  for (size_t i = 0; i < size; i++) data[i] = raw_byte(i, size);
}

/* Returns nonzero if data is the message of this size. */
static inline int raw_is_right(const unsigned char* data, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (data[i] != raw_byte(i, size)) return 0;
  return 1;
}

#endif /* RAW_PATTERN_H */
