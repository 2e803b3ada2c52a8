/*
 * Names of pipes: what is one, and when two are the same.
 *
 * The rule is the part of Windows' that all its calls agree on (NM1-NM5):
 * \\.\pipe\NAME or just NAME, without \ or / inside, at most 247 UTF-16 units.
 * Counting UTF-16 units, not bytes, makes a name that is legal on one system
 * legal on the other.
 *
 * Folding goes unit by unit through the table of fold.c; characters outside
 * the basic plane compare as they are, as on Windows.
 */
#include <string.h>

#include "internal.h"

#define NAME_PREFIX "\\\\.\\pipe\\"
#define NAME_PREFIX_LENGTH 9u

/* The length of the sequence that starts with this byte; 0 if none does. */
static int utf8_length(uint8_t first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return 2;
  if (first >= 0xE0 && first < 0xF0) return 3;
  if (first >= 0xF0 && first < 0xF5) return 4;
  return 0;
}

int32_t npi_utf8_next(const char** text) {
  static const int32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
  const uint8_t* bytes = (const uint8_t*) *text;
  int length = utf8_length(bytes[0]);
  if (length == 0) return -1;
  int32_t point = length == 1 ? bytes[0] : bytes[0] & (0x7F >> length);
  for (int i = 1; i < length; i++) {
    if ((bytes[i] & 0xC0) != 0x80) return -1; /* also the final NUL */
    point = point << 6 | (bytes[i] & 0x3F);
  }
  bool surrogate = point >= 0xD800 && point <= 0xDFFF;
  if (point < least[length] || surrogate || point > 0x10FFFF) return -1;
  *text += length;
  return point;
}

static char* utf8_put(char* out, int32_t point) {
  if (point < 0x80) {
    *out++ = (char) point;
    return out;
  }
  if (point < 0x800) {
    *out++ = (char) (0xC0 | point >> 6);
  } else if (point < 0x10000) {
    *out++ = (char) (0xE0 | point >> 12);
    *out++ = (char) (0x80 | (point >> 6 & 0x3F));
  } else {
    *out++ = (char) (0xF0 | point >> 18);
    *out++ = (char) (0x80 | (point >> 12 & 0x3F));
    *out++ = (char) (0x80 | (point >> 6 & 0x3F));
  }
  *out++ = (char) (0x80 | (point & 0x3F));
  return out;
}

static char name_lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* Where NAME starts: behind \\.\pipe\, which compares without case. */
static const char* name_skip_prefix(const char* text) {
  for (size_t i = 0; i < NAME_PREFIX_LENGTH; i++)
    if (name_lower(text[i]) != NAME_PREFIX[i]) return text;
  return text + NAME_PREFIX_LENGTH;
}

int npi_name_parse(npi_name* name, const char* text) {
  if (text == NULL) return npi_fail(UV_EINVAL, 0, "pipe name: it is NULL");
  const char* start = name_skip_prefix(text);
  const char* at = start;
  int units = 0;
  while (*at != '\0') {
    if (*at == '\\' || *at == '/')
      return npi_fail(UV_EINVAL, 0,
                      "pipe name '%.80s': only a name or \\\\.\\pipe\\name "
                      "without further \\ or / can be used on every system",
                      text);
    int32_t point = npi_utf8_next(&at);
    if (point < 0)
      return npi_fail(UV_EINVAL, 0, "pipe name: it is not valid UTF-8");
    units += point >= 0x10000 ? 2 : 1;
    if (units > NPI_NAME_UNITS_MAX)
      return npi_fail(UV_ENAMETOOLONG, 0,
                      "pipe name '%.40s...': more than %d UTF-16 units", start,
                      NPI_NAME_UNITS_MAX);
  }
  if (units == 0) return npi_fail(UV_EINVAL, 0, "pipe name: it is empty");
  memcpy(name->text, start, (size_t) (at - start) + 1);
  return 0;
}

void npi_name_fold(const npi_name* name, char* folded) {
  const char* at = name->text;
  while (*at != '\0') {
    int32_t point = npi_utf8_next(&at);
    if (point < 0) break; /* not in a parsed name */
    if (point < 0x10000) point = npi_fold_unit((uint16_t) point);
    folded = utf8_put(folded, point);
  }
  *folded = '\0';
}
